"""Floating-point operations of a record's training, and of each look of what was trained: counted, not estimated.

The agent is built again from what its record says, and torch's counter runs along (two operations a multiplication and
addition, of matrix products and convolutions) while it looks at an image and while it does an update. No data set is
needed, for the numbers depend on shapes alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.study import STUDY
from pixelseg_agents import Supervised
from pixelseg_agents.networks import parameter_count
from pixelseg_env import DataError, OptionError, PixelSegVectorEnv, SegmentationDataset

GIGA = 1e9
CHANNELS = (3, 1, 2, 4)  # of images; which it was is told by the number of parameters
# What changes how operations are done, or how many images the first ones wait for, but not what they are.
PLAIN = {
    "precision": "fp32",
    "channels_last": False,
    "compile": False,
    "workers": 0,
    "recompute": False,
    "missing_sequences": 0.0,
    "learning_starts": 1,
}


@dataclass(frozen=True)
class Operations:
    """What a training cost, and what using it costs.

    Attributes:
        looks: GFLOP of each look at one image, in their order; of a learner that refines, with its coarse map first.
        training: GFLOP of the whole training, passes without a gradient among them.
        seen: height and width of what a look shows the network.
    """

    looks: tuple[float, ...]
    training: float
    seen: tuple[int, int]


def count(record: Mapping[str, Any], part: str) -> Operations:
    """Counts what a record's agent costs.

    Args:
        record: of a cell, with `config`.
        part: whose image size and number of steps are meant, "val" or "test".

    Raises:
        DataError: the agent cannot be built from the record, or has another number of parameters than it says.
    """
    found: Operations = _told_apart(_count, record, part)
    return found


def count_looks(record: Mapping[str, Any], part: str) -> tuple[float, ...]:
    """Counts what using a record's agent costs, and not what its training did: `Operations.looks`.

    Args:
        record: of a cell, with `config`.
        part: see `count`.

    Raises:
        DataError: see `count`.
    """
    looks: tuple[float, ...] = _told_apart(_using, record, part)[0]
    return looks


def _told_apart(counted: Callable[[str], Any], record: Mapping[str, Any], part: str) -> Any:
    """Hands what matters of a record to a function that is cached."""
    cell, summary = record["cell"], record[part]["summary"]
    matters = {name: record[name] for name in ("config", "parameters", "updates", "image_passes")}
    matters |= {name: cell[name] for name in ("agent", "setting")}
    matters |= {name: cell["protocol"][name] for name in ("batch", "width")}
    matters |= {"size": summary["size"], "steps": len(summary["dice_by_step"])}
    matters |= {"coarse_updates": record.get("coarse", {}).get("updates", 0)}
    try:
        return counted(json.dumps(matters, sort_keys=True))
    except (OptionError, TypeError) as error:
        raise DataError(f"{record['name']}: cannot be built again from its record: {error}") from error


@functools.cache
def _count(matters: str) -> Operations:
    """Counts once for all seeds and folds that nothing which matters tells apart."""
    told = json.loads(matters)
    builder = _builder(told)
    coarse = builder.coarse()
    (looks, seen), training, passes = _using(matters), 0.0, told["image_passes"]
    agent = builder.agent(coarse, 1, told["steps"])
    if coarse is not None:
        own = told["coarse_updates"] * told["batch"]
        training, passes = own * np.divide(*_of_an_update(coarse)), passes - own
    # What is replayed beside a batch does not shrink with it.
    images = told["batch"] if hasattr(agent.config, "replay_batch") else 1
    plan = agent.config.schedule(told["updates"])
    spent = np.zeros(2)
    for horizon, updates in Counter(plan.horizon(update) for update in range(told["updates"])).items():
        changes = {"horizons": (horizon,), "horizon_shares": ()}
        spent += updates * np.array(_of_an_update(builder.agent(coarse, images, horizon, **changes)))
    training += passes * np.divide(*spent)
    return Operations(looks, float(training), seen)


@functools.cache
def _using(matters: str) -> tuple[tuple[float, ...], tuple[int, int]]:
    """GFLOP of each look, and what a look shows the network."""
    told = json.loads(matters)
    builder = _builder(told)
    coarse = builder.coarse()
    agent = builder.agent(coarse, 1, told["steps"])
    looks = _looks(agent, told["steps"])
    if coarse is not None:
        assert coarse.env is not None
        image = coarse.env.reset(seed=0)[0]
        with _counting() as counter:
            coarse.probability(image)
        looks[0] += counter.get_total_flops() / GIGA
    return tuple(looks), agent.look.shape(tuple(told["size"]))


@dataclass(frozen=True)
class _Builder:
    """Makes the agent of a record, on images of noise."""

    told: dict[str, Any]
    channels: int

    def agent(self, coarse: Supervised | None, images: int, horizon: int, **changes: Any) -> Any:
        learner = STUDY.learner(self.told["agent"])
        rules = STUDY.setting(self.told["setting"]).env | learner.rules
        if coarse is not None:
            rules["start"] = coarse.probability
        config = learner.kind.config_class.from_dict(self.told["config"])
        changes |= {name: value for name, value in PLAIN.items() if hasattr(config, name)}
        return learner.kind(self.environment(images, horizon, **rules), config.replace(**changes), device="cpu")

    def coarse(self) -> Supervised | None:
        learner = STUDY.learner(self.told["agent"])
        if not learner.refines:
            return None
        settings = {"width": self.told["width"]} | dict(learner.start)
        return Supervised(self.environment(1, 1), device="cpu", **settings)

    def environment(self, images: int, horizon: int, **rules: Any) -> PixelSegVectorEnv:
        """One image of noise with an object in its middle, as often as asked for."""
        height, width = self.told["size"]
        noise = np.random.default_rng(0).random((1, self.channels, height, width), dtype=np.float32)
        mask = np.zeros((1, height, width), np.uint8)
        mask[:, height // 4 : -height // 4, width // 4 : -width // 4] = 1
        dataset = SegmentationDataset("noise", noise, mask, ("one",), np.zeros(1, np.int64))
        return PixelSegVectorEnv(images, dataset, split="all", horizon=horizon, **rules)


def _builder(told: dict[str, Any]) -> _Builder:
    """The builder for images of as many channels as the record's network has the parameters for."""
    found = []
    for channels in CHANNELS:
        builder = _Builder(told, channels)
        found.append(parameter_count(builder.agent(builder.coarse(), 1, told["steps"]).network))
        if found[-1] == told["parameters"]:
            return builder
    raise OptionError(f"expected {told['parameters']} parameters, as it says, got one of {found}")


@contextlib.contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """Torch's counter, with attention as matrix products: it does not see the CPU's fused kernels."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _looks(agent: Any, steps: int) -> list[float]:
    """GFLOP of each look at one image, of which the object alone is left after the first step."""
    observation, info = agent.env.reset(seed=0, options={"horizon": steps})
    found = []
    for _ in range(steps):
        with _counting() as counter:
            agent.predict(observation)
        found.append(counter.get_total_flops() / GIGA)
        observation = agent.env.step(info["target"].astype(np.int8))[0]
    return found


def _of_an_update(agent: Any) -> tuple[float, int]:
    """GFLOP and passes of an agent's second update: the first one looks around, too."""
    agent.learn(1)
    before = agent.passes
    with _counting() as counter:
        agent.learn(2)
    return counter.get_total_flops() / GIGA, agent.passes - before
