"""What an agent looks at, what it makes of it, and what it does: an episode, step by step, for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation.play import play
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset, to_numpy
from pixelseg_env.metrics import dice


@dataclass(frozen=True)
class WatchedStep:
    """One step of one image's episode. Of several labels, maps hold their union.

    Attributes:
        seen: the image as the network was shown it, in K windows, float32 (K, C, h, w); None: the agent does not tell.
        windows: the squares of the image that these are, row and column of the first edge and the side, float32 (K, 3);
            None: all of it.
        probability: with which every pixel is in the map after the step, 0 where it has left for good, float32 (H, W);
            None: the agent has no such numbers.
        before: f(t-1), uint8 (H, W).
        after: f(t), uint8 (H, W).
        dice: after the step.
    """

    seen: NDArray[np.float32] | None
    windows: NDArray[np.float32] | None
    probability: NDArray[np.float32] | None
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    dice: float


@dataclass(frozen=True)
class WatchedEpisode:
    """An image's episode.

    Attributes:
        image: float32 (C, H, W) in [0, 1].
        target: uint8 (H, W).
        title: what the image is called.
        steps: in their order.
    """

    image: NDArray[np.float32]
    target: NDArray[np.uint8]
    title: str
    steps: tuple[WatchedStep, ...]


class _Watched:
    """A predictor that remembers what another one sees and how sure it is, and is asked at every step."""

    repeats = False

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.decides = getattr(agent, "decides", False)
        self.seen: Any = None
        self.kept: Any = None

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        if hasattr(self._agent, "seen"):
            self.seen = self._agent.seen(observation)
        if hasattr(self._agent, "keep_probability") and getattr(self._agent, "transition", "") != "additive":
            self.kept = self._agent.keep_probability(observation)
        found: tuple[Any, Any] = self._agent.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic
        )
        return found


def watch(agent: Any, env: PixelSegVectorEnv, images: Sequence[int], horizon: int) -> list[WatchedEpisode]:
    """Plays one episode on each of some images with an agent's likeliest actions, and keeps what there is to see.

    Args:
        agent: a predictor. What `PixelAgent` has besides (`seen`, `windows`, `keep_probability`) is shown.
        env: of as many images at once as there are images; it is left at the end of the episodes.
        images: their numbers in the environment's data set.
        horizon: steps of an episode.

    Returns:
        An episode for each image.
    """
    dataset, index = env.dataset, np.asarray(images)
    pictures, targets = dataset.batch(index)[0], _union(dataset.batch(index)[1])
    steps: list[list[WatchedStep]] = [[] for _ in index]
    watched, before = _Watched(agent), env.task.first_maps(index)
    for _, _, _, info in play(watched, env, horizon, images=index):
        windows = agent.windows(pictures, before) if hasattr(agent, "windows") else None
        kept = _in_map(watched.kept, before, getattr(agent, "transition", ""))
        maps = to_numpy(info.get("probability", info["segmentation"]))
        earlier, after = _union(before), _union(maps)
        for k, found in enumerate(steps):
            score = float(dice(after[k], targets[k]))
            step = WatchedStep(
                None if watched.seen is None else watched.seen[k],
                None if windows is None else windows[k],
                None if kept is None else kept[k],
                earlier[k],
                after[k],
                score,
            )
            found.append(step)
        before = maps
    titles = [f"{dataset.cases[i]}, slice {dataset.slices[i]}" for i in index.tolist()]
    each = zip(pictures, targets, titles, steps, strict=True)
    return [WatchedEpisode(image, target, title, tuple(found)) for image, target, title, found in each]


def images_with_objects(dataset: SegmentationDataset, count: int) -> list[int]:
    """The numbers of images spread evenly over those with an object: no choice by score."""
    there = np.flatnonzero(dataset.masks.reshape(len(dataset), -1).any(axis=1))
    there = there if len(there) else np.arange(len(dataset))
    places = np.unique(np.linspace(0, len(there) - 1, count).round().astype(int))
    return [int(one) for one in there[places]]


def _union(maps: Any) -> NDArray[np.uint8]:
    """Maps (B, [L,] H, W), of labels or probabilities, as (B, H, W) of 0 and 1."""
    array = to_numpy(maps)
    array = (array >= 0.5).astype(np.uint8)
    return array if array.ndim == 3 else array.max(axis=1)


def _in_map(kept: Any, before: Any, transition: str) -> NDArray[np.float32] | None:
    """The probability that a pixel is in the next map, of that with which it is kept; of several labels in any."""
    if kept is None:
        return None
    found: NDArray[np.float32] = kept * before if transition == "absorbing" else kept
    return found if found.ndim == 3 else found.max(axis=1)
