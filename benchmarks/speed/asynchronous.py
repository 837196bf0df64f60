"""PA3C with 0, 1 and 2 workers: updates per second, and what they have learnt after so much time.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.asynchronous --out benchmarks/records/speed/asynchronous.json

trains every seed with each number of workers, one after the other, on phantoms (or on `--dataset brain --data ...`),
and draws Dice on held-out images over wall time. With OMP_NUM_THREADS=1 every worker has one thread. A machine with as
many free cores as workers is needed for figures that mean something.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
import torch
import tyro

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)
from benchmarks.records import write_record
from pixelseg_agents import PA3C, evaluate
from pixelseg_agents.provenance import provenance

Row = dict[str, Any]
LINES = {0: ("0 (synchronous)", "#555555"), 1: ("1 worker", "#0072b2"), 2: ("2 workers", "#d55e00")}


@dataclasses.dataclass
class Asynchronous:
    """What to measure."""

    workers: tuple[int, ...] = (0, 1, 2)
    """Numbers of workers."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""
    dataset: str = "phantom"
    """What is learnt: 150 phantoms, or a data set of files, whose validation patients are held out."""
    data: tuple[Path, ...] = ()
    """Folders of that data set."""
    size: int = 48
    """Side of the images in pixels."""
    width: float = 0.25
    """Width of the network."""
    batch: int = 8
    """Images of an update."""
    updates: int = 240
    """Updates of a training."""
    looks: int = 12
    """How often Dice is taken."""
    out: Path = Path("asynchronous.json")
    """The record."""
    figure: Path | None = None
    """The figure; by default beside the record."""


def train(options: Asynchronous, workers: int, seed: int) -> Row:
    """One training; its states are kept on the way and scored after it, so that scoring takes no time from it."""

    def env(split: str, count: int) -> Any:
        place: dict[str, Any] = {"count": 150} if options.dataset == "phantom" else {"data": list(options.data)}
        return gym.make_vec(
            "PixelSegEnv-v0", num_envs=count, split=split, size=options.size, dataset=options.dataset, **place
        )

    agent = PA3C(env("train", options.batch), seed=seed, device="cpu", width=options.width, workers=workers)
    times: list[tuple[int, float]] = []
    states: list[tuple[int, float, dict[str, torch.Tensor]]] = []
    every = max(1, options.updates // options.looks)

    def look(_: Any) -> None:
        times.append((agent.updates, time.perf_counter() - started))
        if agent.updates // every > len(states) or agent.updates == options.updates:
            state = {name: value.detach().clone() for name, value in agent.network.state_dict().items()}
            states.append((*times[-1], state))

    started = time.perf_counter()
    agent.learn(options.updates, callback=look)
    held_out, curve = env("test" if options.dataset == "phantom" else "val", 15), []
    for updates, seconds, state in states:
        agent.network.load_state_dict(state)
        dice = float(evaluate(agent, held_out, keep_maps=False).metrics["DICE"].mean())
        curve.append({"updates": updates, "seconds": seconds, "dice": dice})
    # The second half, where all workers have long started, and every update has several steps.
    (first, begun), (last, ended) = times[len(times) // 2], times[-1]
    return {
        "workers": workers,
        "seed": seed,
        "start_seconds": times[0][1],
        "seconds": ended,
        "updates_per_second": (last - first) / (ended - begun),
        "dice": curve[-1]["dice"],
        "curve": curve,
    }


def ratios(rows: Sequence[Row], more: int, less: int) -> list[float]:
    """By seed, how many times the updates per second `more` workers do of those of `less`."""
    rates = {(row["workers"], row["seed"]): row["updates_per_second"] for row in rows}
    return [
        rates[more, seed] / rates[less, seed] for workers, seed in rates if workers == more and (less, seed) in rates
    ]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Dice over wall time, a line per training."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for row in rows:
        label, colour = LINES.get(row["workers"], (f"{row['workers']} workers", None))
        first = not any(line.get_label() == label for line in axes.get_lines())
        seconds, dice = zip(*((point["seconds"], point["dice"]) for point in row["curve"]), strict=True)
        axes.plot(seconds, dice, color=colour, label=label if first else None, linewidth=1.5, marker="o", markersize=3)
    axes.set(xlabel="seconds since the start, that of the processes too", ylabel="Dice on held-out images")
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Trains in turn, so that what else the machine does falls on all alike; writes the record and the figure."""
    options = tyro.cli(Asynchronous, description=__doc__)
    rows: list[Row] = []
    for seed in options.seeds:
        for workers in options.workers:
            rows.append(train(options, workers, seed))
            print({name: value for name, value in rows[-1].items() if name != "curve"}, flush=True)
    said = {"out": options.out.name, "figure": "", "data": [folder.name for folder in options.data]}
    record: Row = {"rows": rows, "options": dataclasses.asdict(options) | said}
    record |= {"cores": os.cpu_count(), "threads_together": torch.get_num_threads()}
    for more, less in ((2, 1), (1, 0), (2, 0)):
        if found := ratios(rows, more, less):
            record[f"updates_per_second_{more}_over_{less}"] = statistics.median(found)
    for workers in options.workers:
        dice = [row["dice"] for row in rows if row["workers"] == workers]
        record[f"dice_of_{workers}"] = {"mean": float(np.mean(dice)), "seeds": dice}
    write_record(options.out, record | provenance())
    draw(rows, options.figure or options.out.with_suffix(".png"))
    print({name: value for name, value in record.items() if name.startswith(("updates_per", "dice_of"))})


if __name__ == "__main__":
    main()
