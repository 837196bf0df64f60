"""An episode as a function of image, rules and actions: change one, and all that follows is computed anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pixelseg_env import OptionError, SegmentationDataset, check_choice, check_horizon, compute_metrics
from pixelseg_env.dynamics import AMOUNTS, GRADED, OBSERVATIONS, TRANSITIONS, decided

LONGEST = 20  # steps of an episode
SHOWN_METRICS = ("DICE", "IoU", "PPV", "SEN", "BIoU", "HD95")
MOVES = (*TRANSITIONS, *GRADED)  # what a step can do
LEAST = min(amount for amount in AMOUNTS if amount > 0)
Map = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Rules:
    """The rules of the game, as `PixelSegEnv` has them, and the discount.

    Raises:
        OptionError: one is not known, or out of range. The reward is checked where it is used.
    """

    transition: str = "absorbing"
    observation: str = "masked"
    reward: str = "squared_error"
    gamma: float = 0.95
    horizon: int = 5
    observe_time: bool = False

    def __post_init__(self) -> None:
        check_choice("transition", self.transition, MOVES)
        check_choice("observation", self.observation, OBSERVATIONS)
        if check_horizon(self.horizon) > LONGEST:
            raise OptionError(f"horizon={self.horizon}: expected at most {LONGEST} steps")
        if not 0 <= self.gamma <= 1:
            raise OptionError(f"gamma={self.gamma!r}: expected a number from 0 to 1")

    @property
    def graded(self) -> bool:
        """Whether maps hold probabilities, and an action is the number of an amount that is added."""
        return self.transition in GRADED

    def carried(self, keep: NDArray[Any]) -> Map:
        """Zero and keep as actions of these rules: the amounts that bring every pixel to 0 and to 1 where it is graded.

        Args:
            keep: 0 or 1.
        """
        top, bottom = AMOUNTS.index(max(AMOUNTS)), AMOUNTS.index(min(AMOUNTS))
        return np.where(keep, top, bottom).astype(np.uint8) if self.graded else np.asarray(keep, np.uint8)

    def idle(self, maps: NDArray[Any]) -> Map:
        """The actions of pixels that are left alone: they stay; a probability goes on the least way to its own side."""
        if not self.graded:
            return np.asarray(maps, np.uint8).copy()
        return np.where(decided(maps), AMOUNTS.index(LEAST), AMOUNTS.index(-LEAST)).astype(np.uint8)

    @property
    def options(self) -> dict[str, Any]:
        """What an environment is told of them: all but the discount."""
        return {name: value for name, value in vars(self).items() if name != "gamma"}


@dataclass(frozen=True)
class Episode:
    """What has happened on one image after T steps; of L > 1 labels maps have an axis (L,) before (H, W).

    Attributes:
        image: float32 (C, H, W) in [0, 1].
        target: uint8 (H, W).
        observations: float32 (T + 1, C', H, W), the first one before the first step.
        maps: f(0) to f(T), uint8 (T + 1, H, W).
        levels: the same; float32 probabilities in [0, 1] where the rules are graded.
        actions: uint8 (T, H, W), 0 = zero and 1 = keep, or numbers of amounts.
        rewards: of every pixel, float32 (T, H, W).
        gamma: the discount.
    """

    image: Field
    target: Map
    observations: Field
    maps: Map
    levels: NDArray[Any]
    actions: Map
    rewards: Field
    gamma: float

    def of_label(self, label: int) -> Episode:
        """What concerns one label alone."""
        if self.target.ndim == 2:
            return self
        cut = {name: getattr(self, name)[:, label] for name in ("maps", "levels", "actions", "rewards")}
        return replace(self, target=self.target[label], **cut)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.actions)

    def returns(self) -> Field:
        """What every pixel earns from a step on, discounted, float32 (T, H, W)."""
        found = np.zeros_like(self.rewards)
        following = np.zeros(self.target.shape, np.float32)
        for t in reversed(range(self.steps)):
            following = found[t] = self.rewards[t] + np.float32(self.gamma) * following
        return found

    def changed(self, t: int) -> NDArray[np.bool_]:
        """Which pixels step t changed, bool (H, W); none before the first step."""
        return np.asarray(self.maps[t] != self.maps[max(0, t - 1)])

    def earned(self) -> NDArray[np.float64]:
        """The environment's scalar reward of every step, the mean over pixels, float64 (T,)."""
        return np.asarray(self.rewards.reshape(self.steps, self.target.size).mean(axis=1, dtype=np.float64))

    def totals(self) -> NDArray[np.float64]:
        """The discounted sum of these up to every step, float64 (T + 1,), 0 before the first."""
        discounted = self.earned() * float(self.gamma) ** np.arange(self.steps)
        return np.concatenate([[0.0], np.cumsum(discounted)])

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """The metrics of f(0) to f(T), float64 (T + 1,) each."""
        truth = np.broadcast_to(self.target, self.maps.shape)
        found = compute_metrics(self.maps, truth, SHOWN_METRICS)
        return {name: np.asarray(values, np.float64) for name, values in found.items()}


def play(dataset: SegmentationDataset, index: int, rules: Rules, actions: Sequence[NDArray[Any]]) -> Episode:
    """Plays given actions on one image, in `PixelSegEnv-v0`.

    Args:
        dataset: where it is from.
        index: which image.
        rules: see `Rules`.
        actions: T joint actions ([L,] H, W), at most `rules.horizon`.

    Raises:
        OptionError: the reward cannot be read or used, or there are too many actions.
    """
    if len(actions) > rules.horizon:
        raise OptionError(f"{len(actions)} actions: expected at most {rules.horizon}, the horizon")
    env = gym.make(
        "PixelSegEnv-v0",
        disable_env_checker=True,
        dataset=dataset,
        **rules.options,
    )
    observation, info = env.reset(options={"index": index})
    observations, maps, rewards = [observation], [info["segmentation"]], []
    levels = [info.get("probability", info["segmentation"])]
    for action in actions:
        observation, _, _, _, info = env.step(np.asarray(action, np.int8))
        observations.append(observation)
        maps.append(info["segmentation"])
        levels.append(info.get("probability", info["segmentation"]))
        rewards.append(info["reward_map"])
    image, target = dataset.batch([index])
    shape = target[0].shape
    return Episode(
        image[0],
        target[0],
        np.stack(observations),
        np.stack(maps),
        np.stack(levels),
        np.array(actions, np.uint8).reshape(-1, *shape),
        np.array(rewards, np.float32).reshape(-1, *shape),
        rules.gamma,
    )
