"""Whether a mode of computing changes what is learnt: Dice and BIoU on held-out phantoms, by mode and seed.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.scores --out benchmarks/records/speed/scores.json

trains PA3C and AC, which stands on a U-Net, in each mode from the same seeds, and the first seed of each mode twice:
the same seed on the same machine gives the same weights, to the bit. Modes are taken in turn, so that what else the
machine does falls on all alike.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)
from benchmarks.records import write_record
from benchmarks.speed.modes import NETWORKS
from pixelseg_agents import evaluate
from pixelseg_agents.provenance import provenance

MODES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp32, channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
    "fp32, compiled": {"compile": True},
    "bf16, channels_last, compiled": {"precision": "bf16", "channels_last": True, "compile": True},
}


@dataclasses.dataclass
class Scores:
    """What to measure."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """Whose network: PA3C's own, or the U-Net of AC."""
    modes: tuple[str, ...] = tuple(name for name in MODES if "compiled" not in name)
    """Modes of computing; compiled ones take some minutes more."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""
    size: int = 48
    """Side of the images in pixels."""
    width: float = 0.25
    """Width of the network."""
    batch: int = 8
    """Images of an update."""
    updates: int = 240
    """Updates of a training."""
    out: Path = Path("scores.json")
    """The record."""


def train(options: Scores, network: str, mode: str, seed: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """A row, and the weights that it is about."""

    def env(split: str, count: int) -> Any:
        return gym.make_vec("PixelSegEnv-v0", num_envs=count, split=split, size=options.size, count=150)

    kind = NETWORKS[network]
    agent = kind(env("train", options.batch), seed=seed, device="cpu", width=options.width, **MODES[mode])
    started = time.process_time()
    agent.learn(options.updates)
    seconds = time.process_time() - started
    metrics = evaluate(agent, env("test", 15), keep_maps=False).metrics
    scores = {name.lower(): float(metrics[name].mean()) for name in ("DICE", "BIoU")}
    row = {"network": network, "mode": mode, "seed": seed, "cpu_seconds": seconds, **scores}
    return row, list(agent.network.state_dict().values())


def main() -> None:
    """Trains; writes the record after every training."""
    options = tyro.cli(Scores, description=__doc__)
    rows: list[dict[str, Any]] = []
    repeats: dict[str, dict[str, bool]] = {name: {} for name in options.networks}
    for seed, network, mode in itertools.product(options.seeds, options.networks, options.modes):
        row, weights = train(options, network, mode, seed)
        if mode not in repeats[network]:
            again = train(options, network, mode, seed)[1]
            repeats[network][mode] = all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))
        rows.append(row)
        print(row, flush=True)
        means = {name: by_mode([one for one in rows if one["network"] == name]) for name in options.networks}
        record = {"rows": rows, "mean_and_sd": means, "same_seed_same_weights": repeats}
        settings = dataclasses.asdict(options) | {"out": ""}
        write_record(options.out, record | {"options": settings, "threads": torch.get_num_threads()} | provenance())


def by_mode(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over the seeds of each mode."""
    return {
        mode: {
            score: (float(np.mean(found)), float(np.std(found)))
            for score in ("dice", "biou")
            if (found := [row[score] for row in rows if row["mode"] == mode])
        }
        for mode in dict.fromkeys(row["mode"] for row in rows)
    }


if __name__ == "__main__":
    main()
