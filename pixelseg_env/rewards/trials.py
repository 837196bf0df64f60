"""Small images on which rewards are tried, and episodes played on them with any actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.dynamics import AMOUNTS, GRADED, TRANSITIONS, decided
from pixelseg_env.metrics import map_dice
from pixelseg_env.rewards.base import Reward
from pixelseg_env.rewards.context import RewardContext

SIDE = 6
Map = NDArray[Any]
Actions = NDArray[np.uint8]  # (T, B, H, W)


@dataclass(frozen=True)
class Rules:
    """Under which rules episodes are played.

    Attributes:
        transition: `"absorbing"`, `"restorable"` or `"additive"`.
        horizon: steps of an episode.
        gamma: discount of returns.
    """

    transition: str
    horizon: int
    gamma: float = 1.0

    @property
    def graded(self) -> bool:
        """Whether maps hold probabilities."""
        return self.transition in GRADED

    @property
    def choices(self) -> int:
        """How many actions a pixel has."""
        return len(AMOUNTS) if self.graded else 2

    @property
    def keep(self) -> int:
        """The action that makes a pixel object, as 0 makes it background."""
        return self.choices - 1


@dataclass(frozen=True)
class Played:
    """A batch of B episodes of T steps.

    Attributes:
        maps: f(0) to f(T), (T + 1, B, H, W).
        rewards: r(1) to r(T), float64 (T, B, H, W).
        returns: their discounted sums, float64 (B, H, W).
        target: G, (B, H, W).
    """

    maps: Map
    rewards: NDArray[np.float64]
    returns: NDArray[np.float64]
    target: NDArray[np.uint8]

    @property
    def changes(self) -> NDArray[np.int64]:
        """How often each pixel changed, (B, H, W)."""
        return np.asarray((self.maps[1:] != self.maps[:-1]).sum(axis=0))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which pixels are right in the end, (B, H, W)."""
        return np.asarray(decided(self.maps[-1]) == self.target)

    @property
    def dice(self) -> NDArray[np.float64]:
        """In the end, (B,)."""
        return np.asarray(map_dice(decided(self.maps[-1]), self.target))

    def only(self, index: int) -> Played:
        """The episode at one position of the batch."""
        one = slice(index, index + 1)
        return Played(self.maps[:, one], self.rewards[:, one], self.returns[one], self.target[one])


def scenes() -> list[NDArray[np.uint8]]:
    """Targets (6, 6): a middling object, a small one, a large one, nothing, everything."""
    middling, small, large = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(3))
    middling[1:4, 1:5] = 1
    small[2, 3:5] = 1
    large[1:, :5] = 1
    return [middling, small, large, np.zeros_like(small), np.ones_like(small)]


def play(reward: Reward, target: NDArray[np.uint8], actions: Actions, rules: Rules) -> Played:
    """Plays a batch of episodes from f(0) = 1 on one target.

    Args:
        reward: what pays.
        target: G, (H, W).
        actions: (T, B, H, W).
        rules: of the episodes.
    """
    steps, count = actions.shape[:2]
    targets = np.repeat(target[None], count, axis=0)
    image = np.repeat(_image(target)[None], count, axis=0)
    move = GRADED[rules.transition] if rules.graded else TRANSITIONS[rules.transition]
    maps: list[Map] = [np.ones(targets.shape, np.float32 if rules.graded else np.uint8)]
    rewards = np.empty((steps, *targets.shape))
    for t in range(steps):
        maps.append(move(maps[-1], actions[t]))
        context = RewardContext.of(np.full(count, t + 1), steps, image, actions[t])
        rewards[t] = reward(maps[-2], maps[-1], targets, context)
    discounts = rules.gamma ** np.arange(steps)
    return Played(np.stack(maps), rewards, np.tensordot(discounts, rewards, axes=1), targets)


def honest(target: NDArray[np.uint8], rules: Rules) -> Actions:
    """The actions (T, 1, H, W) that make every pixel right in the first step and leave it so."""
    return np.broadcast_to(target * np.uint8(rules.keep), (rules.horizon, 1, *target.shape)).copy()


def _image(target: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image (1, H, W) whose object is brighter, as a reward may ask for one."""
    noise = np.random.default_rng(0).random(target.shape, np.float32)
    return np.asarray(0.3 * noise + 0.5 * target + 0.1, np.float32)[None]
