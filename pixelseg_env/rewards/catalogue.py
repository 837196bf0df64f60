"""Reward functions: what every pixel earns when the segmentation map changes.

A reward function takes `(previous, current, target)`, three uint8 arrays (..., H, W) of 0 and 1 (with the
transition `"additive"` the maps are float32 in [0, 1]), and returns a float32 array of the same shape.
Leading dimensions are a batch (and labels, where there are several); a function must treat each (H, W) map
by itself, so that the single and the vector environment agree. With `backend="torch"` the arrays are tensors,
and so must the result be; the functions here take either kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pixelseg_env.arrays import Array, namespace
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import OptionError, check_choice
from pixelseg_env.metrics import map_dice

Map = Array  # uint8 (..., H, W) of 0 and 1
RewardMap = Array  # float32 (..., H, W)
RewardFunction = Callable[[Map, Map, Map], RewardMap]

BALANCED_FOREGROUND_WEIGHT = 10.0
CLIP = 1e-3


def squared_error(previous: Map, current: Map, target: Map) -> RewardMap:
    """Eq. 12: r = (f(t-1) - G)^2 - (f(t) - G)^2, the fall of the pixel's squared error: -1, 0 or 1.

    Undiscounted, the rewards of an episode add up to (f(0) - G)^2 - (f(T) - G)^2.
    """
    if previous.dtype == namespace(target).float32:  # maps of probabilities
        actual = namespace(target).astype(target, previous.dtype)
        return (previous - actual) ** 2 - (current - actual) ** 2
    # For maps of 0 and 1 the squared difference is the exclusive or; int8 keeps the memory traffic low.
    xp = namespace(target)
    before, after = (previous ^ target).view(xp.int8), (current ^ target).view(xp.int8)
    return xp.astype(before - after, xp.float32)


def sign(previous: Map, current: Map, target: Map) -> RewardMap:
    """The sign of Eq. 12: 1 where a pixel got better, -1 where worse, 0 where neither.

    On maps of 0 and 1 this equals `squared_error`; it differs once maps hold values in between.
    """
    return namespace(target).sign(squared_error(previous, current, target))


@dataclass(frozen=True)
class balanced:  # noqa: N801 (used like the functions beside it)
    """Eq. 12 with the rewards of the object's pixels multiplied by a factor.

    The registered name `"balanced"` uses a factor of 10; pass `reward=balanced(20)` for another.
    A weight other than 1 moves the optimum: a missed object pixel costs as much as `foreground_weight`
    false ones.

    Args:
        foreground_weight: the factor, > 0.

    Raises:
        OptionError: the factor is not a positive, finite number.
    """

    foreground_weight: float = BALANCED_FOREGROUND_WEIGHT

    def __post_init__(self) -> None:
        weight = self.foreground_weight
        if not isinstance(weight, (int, float, np.number)) or not 0 < weight < math.inf:
            raise OptionError(f"foreground_weight={weight!r}: expected a number > 0")

    def __call__(self, previous: Map, current: Map, target: Map) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        earned = squared_error(previous, current, target)
        return namespace(target).where(target == 1, earned * float(self.foreground_weight), earned)


def dice_gain(previous: Map, current: Map, target: Map) -> RewardMap:
    """The image's Dice gain, dealt out evenly: every pixel receives Dice(f(t), G) - Dice(f(t-1), G).

    The mean over pixels, the environment's scalar reward, is then the Dice gain itself, and the
    rewards of an episode add up to Dice(f(T), G) - Dice(f(0), G).
    """
    xp = namespace(target)
    gain = xp.astype(map_dice(decided(current), target) - map_dice(decided(previous), target), xp.float32)
    return xp.asarray(xp.broadcast_to(gain[..., None, None], target.shape), copy=True)


def cross_entropy(previous: Map, current: Map, target: Map) -> RewardMap:
    """The gain in cross-entropy: r = H(f(t-1), G) - H(f(t), G) with H(f, G) = -log(1 - |f - G|).

    Probabilities are kept from 0 and 1 by 0.001, so that a step earns at most 6.9. Undiscounted, the rewards of an
    episode add up to the fall of the cross-entropy, as those of Eq. 12 to that of the squared error.
    """
    xp = namespace(target)
    actual = xp.astype(target, xp.float32)

    def likelihood(maps: Map) -> RewardMap:
        return xp.clip(1 - xp.abs(xp.astype(maps, xp.float32) - actual), CLIP, 1 - CLIP)

    return xp.log(likelihood(current)) - xp.log(likelihood(previous))


_REWARDS: dict[str, RewardFunction] = {
    "squared_error": squared_error,
    "sign": sign,
    "balanced": balanced(),
    "dice_gain": dice_gain,
    "cross_entropy": cross_entropy,
}


_BUILT_IN = (squared_error, sign, dice_gain, cross_entropy)


def is_built_in(function: RewardFunction) -> bool:
    """Whether the function is one of this module, whose results need no check."""
    return function in _BUILT_IN or type(function) is balanced


def registered_rewards() -> tuple[str, ...]:
    """The names that `reward=` accepts."""
    return tuple(sorted(_REWARDS))


def register_reward(name: str, function: RewardFunction, *, overwrite: bool = False) -> None:
    """Makes `reward=name` work in every environment.

    Args:
        name: the new name.
        function: `(previous, current, target) -> map`, see this module's head.
        overwrite: allow an existing name to be replaced.

    Raises:
        OptionError: the name is taken or is not a name, or `function` cannot be called.
    """
    if not isinstance(name, str) or not name:
        raise OptionError(f"a reward's name must be a non-empty string, got {name!r}")
    if name in _REWARDS and not overwrite:
        raise OptionError(f"reward {name!r} is registered already; choose another name or pass overwrite=True")
    if not callable(function):
        raise OptionError(f"reward {name!r}: expected a function (previous, current, target) -> map, got {function!r}")
    _REWARDS[name] = function


def resolve_reward(reward: str | RewardFunction) -> RewardFunction:
    """Returns the function behind a registered name; a callable is returned as it is.

    Raises:
        OptionError: the name is not registered; the message lists those that are and the nearest.
    """
    if isinstance(reward, type):  # `reward=balanced`, without parentheses
        return resolve_reward(reward())
    if callable(reward):
        return reward
    return _REWARDS[check_choice("reward", reward, _REWARDS)]
