"""How the published settings end: how many pixels can still be learnt from, update by update, and what changes that.

    python -m benchmarks.study.saturation --data FOLDER ... --out benchmarks/records/saturation/saturation.json

Trains PA3C on brain with the published settings, and with one change to them at a time. After every update it asks of
some validation images, at the first step: how many pixels are not yet certain (p (1 - p), the factor on a decision's
gradient, above 1e-6), and with which probability the policy keeps object and background. Now and then it plays whole
episodes, and at the end it plays them on all validation images. Test patients are not touched. A figure is written
beside the record.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.failures import exit_code
from benchmarks.records import write_record
from benchmarks.study.saturation_figure import draw
from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.actor_critic import CERTAIN, SaturationWarning
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.provenance import provenance
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset, load_dataset

PROBE = 16  # validation images that are asked after every update
CHANGES: dict[str, dict[str, Any]] = {
    "published": {},
    "learning rate 0.0001": {"learning_rate": 1e-4},
    "learning rate 0.00001": {"learning_rate": 1e-5},
    "entropy coefficient 0.2": {"entropy_coefficient": 0.2},
    "gradient norm at most 0.1": {"max_gradient_norm": 0.1},
    "t_max 1, 2, then 10": {"horizons": (1, 2, 10), "horizon_shares": (0.6, 0.2, 0.2)},
    "weight of the object's pixels": {"foreground_weight": "ratio"},
    "natural gradient": {"policy_gradient": "natural"},
    "normalisation (published-alive)": {"norm": "group"},
}


@dataclass
class Saturation:
    """Trains PA3C with the published settings and changes to them, and watches whether it can still learn."""

    data: tuple[Path, ...]
    """Folders of brain."""
    out: Path = Path("benchmarks/records/saturation/saturation.json")
    """The record; the figure has its name and ends in .png."""
    size: int = 48
    """Side of the images."""
    width: float = 0.25
    """Of the network; the publication's is 1."""
    updates: int = 300
    """Of ten steps each, as many as the study's 24,000 passes allow."""
    seeds: tuple[int, ...] = (0,)
    """One training of each setting with every seed."""
    settings: tuple[str, ...] = tuple(CHANGES)
    """Which of them."""
    every: int = 10
    """Updates from one played episode of the probe to the next."""
    jobs: int = 1
    """Trainings at a time, one thread each."""

    def main(self) -> int:
        """Trains, writes record and figure, and prints what came out."""
        made, options = provenance(), (self.size, self.width, self.updates, self.every)
        cells = [(name, seed) for name in self.settings for seed in self.seeds]
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
            tasks = [pool.submit(training, self.data, *options, name, seed) for name, seed in cells]
            rows = []
            for task in tasks:
                rows.append(task.result())
                record = {"size": self.size, "width": self.width, "rows": rows}
                write_record(self.out, record | made, lines=True)
                print(told(rows[-1]), flush=True)
        draw(record, figure := self.out.with_suffix(".png"))
        print(f"written   {self.out}, {figure}")
        return 0


def training(
    data: tuple[Path, ...], size: int, width: float, updates: int, every: int, setting: str, seed: int
) -> dict[str, Any]:
    """One training; see `watching` for what is noted of it."""
    torch.set_num_threads(1)
    parts = {part: load_dataset("brain", data=data, split=part, size=size) for part in ("train", "val")}
    config = PA3CConfig.published(width=width).replace(**CHANGES[setting])
    env = PixelSegVectorEnv(8, parts["train"], split="all", horizon=10)
    agent = PA3C(env, config, seed=seed, device="cpu")
    curves: dict[str, list[Any]] = {"undecided": [], "keep_object": [], "keep_background": [], "dice": []}
    note = watching(parts["val"], every, curves)
    note(agent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SaturationWarning)
        agent.learn(updates, callback=note)
    warned = [str(one.message) for one in caught if issubclass(one.category, SaturationWarning)]
    judged = PixelSegVectorEnv(8, parts["val"], split="all", horizon=10)
    return {
        "setting": setting,
        "seed": seed,
        "updates": agent.updates,
        "every": every,
        "config": agent.config.to_dict(),
        "warned": warned[0] if warned else None,
        "validation_dice": mean_dice(agent, judged),
        **curves,
    }


def mean_dice(agent: Any, env: PixelSegVectorEnv) -> float:
    """The mean Dice of an environment's images after their episodes."""
    return float(evaluate(agent, env).metrics["DICE"].mean())


def watching(dataset: SegmentationDataset, every: int, curves: dict[str, list[Any]]) -> Callable[[Any], None]:
    """A callback that asks a policy of some of a data set's images, spread evenly, and notes what it says.

    Args:
        dataset: the images.
        every: updates from one played episode to the next.
        curves: is added to: after each update the share of pixels that are `undecided`, the mean probability of
            keeping an object's pixel and one of the background (`keep_object`, `keep_background`), at the first step;
            after every so many the `dice` of whole episodes.
    """
    chosen = np.linspace(0, len(dataset) - 1, min(PROBE, len(dataset))).round().astype(int)
    probe = dataset.subset(chosen)
    env = PixelSegVectorEnv(len(probe), probe, split="all", horizon=10)
    observation, info = env.reset(seed=0, options={"index": np.arange(len(probe))})
    target = np.asarray(info["target"]).astype(bool)

    def note(agent: Any) -> None:
        keep = agent.keep_probability(observation).astype(np.float64)
        curves["undecided"].append(float((keep * (1 - keep) > CERTAIN).mean()))
        curves["keep_object"].append(float(keep[target].mean()))
        curves["keep_background"].append(float(keep[~target].mean()))
        if agent.updates % every == 0:
            curves["dice"].append(mean_dice(agent, env))

    return note


def saturated_at(row: dict[str, Any], share: float = 0.01) -> int | None:
    """The first update after which at most this share of the pixels was undecided; None: there was none."""
    return next((k for k, value in enumerate(row["undecided"]) if value <= share), None)


def told(row: dict[str, Any]) -> str:
    """A line about a training."""
    at = saturated_at(row)
    said = "never saturated" if at is None else f"saturated after update {at}"
    return (
        f"{row['setting']:<34} seed {row['seed']}  {said:<27} undecided at the end {row['undecided'][-1]:.3f}  "
        f"validation Dice {row['validation_dice']:.3f}"
    )


if __name__ == "__main__":
    raise SystemExit(exit_code(lambda: tyro.cli(Saturation).main()))
