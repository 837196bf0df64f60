"""The rewards that come with the environment. A new one is one more `@built_in` function, or class, of this file.

They are trusted: fast on uint8 maps, of NumPy or torch, and returned without a check. See `pixelseg_env.rewards.base`
for what a reward is.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pixelseg_env.arrays import Array, namespace
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import OptionError
from pixelseg_env.metrics import map_dice
from pixelseg_env.rewards.base import Defaults, Map, Reward, RewardFunction, RewardMap, asked_for, number_text
from pixelseg_env.rewards.context import RewardContext

BALANCED_FOREGROUND_WEIGHT = 10.0
CLIP = 1e-3
NEIGHBOURS = (  # of maps (..., H, W): all pixels that have one above them and those above; likewise to the left
    ((..., slice(1, None), slice(None)), (..., slice(None, -1), slice(None))),
    ((..., slice(1, None)), (..., slice(None, -1))),
)

CATALOGUE: dict[str, Reward | type[Reward]] = {}
"""The built-in rewards by name; a class is a family with parameters, whose name alone stands for its defaults."""

Family = TypeVar("Family", bound=type[Reward])


class BuiltIn(Reward):
    """A function of this file as a reward; called like the function, in its time."""

    def __init__(self, function: RewardFunction) -> None:
        self._function, self._name = function, function.__name__
        self.needs = asked_for(function)
        functools.update_wrapper(self, function)

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        return self._function(previous, current, target, **self.asked(context))

    def to_spec(self) -> str:
        """Its name."""
        return self._name

    def __reduce__(self) -> str:  # pickled and copied by name
        return self._name


def built_in(function: RewardFunction) -> BuiltIn:
    """Puts a function into the catalogue, under its name."""
    reward = BuiltIn(function)
    CATALOGUE[reward.to_spec()] = reward
    return reward


def built_in_family(family: Family) -> Family:
    """Puts a class into the catalogue, under its name."""
    CATALOGUE[family.__name__] = family
    return family


@built_in
def squared_error(previous: Map, current: Map, target: Map) -> RewardMap:
    """Eq. 12: r = (f(t-1) - G)^2 - (f(t) - G)^2, the fall of the pixel's squared error: -1, 0 or 1.

    Undiscounted, the rewards of an episode add up to (f(0) - G)^2 - (f(T) - G)^2. On maps of probabilities it is in
    [-1, 1].
    """
    xp = namespace(target)
    if previous.dtype == xp.float32:  # maps of probabilities
        actual = xp.astype(target, previous.dtype)
        return (previous - actual) ** 2 - (current - actual) ** 2
    # For maps of 0 and 1 the squared difference is the exclusive or; int8 keeps the memory traffic low. A reward of
    # somebody's own that builds on this one has its maps in a wider type.
    wrong = (previous ^ target, current ^ target)
    before, after = (one.view(xp.int8) if one.dtype == xp.uint8 else one for one in wrong)
    return xp.astype(before - after, xp.float32)


@built_in
def sign(previous: Map, current: Map, target: Map) -> RewardMap:
    """The sign of Eq. 12: 1 where a pixel got better, -1 where worse, 0 where neither.

    On maps of 0 and 1 this equals `squared_error`; it differs once maps hold values in between.
    """
    return namespace(target).sign(squared_error(previous, current, target))


@built_in_family
@dataclass(frozen=True, repr=False)
class balanced(Reward, metaclass=Defaults):  # noqa: N801 (used like the functions beside it)
    """Eq. 12 with the rewards of the object's pixels multiplied by a factor w: w r on the object, r elsewhere.

    In [-w, w] for w >= 1. The registered name `"balanced"` uses a factor of 10; pass `reward=balanced(20)`, or the
    text `"balanced(20)"`, for another. A weight other than 1 moves the optimum: a missed object pixel costs as much as
    `foreground_weight` false ones.

    Args:
        foreground_weight: the factor, > 0.

    Raises:
        OptionError: the factor is not a positive, finite number.
    """

    foreground_weight: float = BALANCED_FOREGROUND_WEIGHT

    def __post_init__(self) -> None:
        weight: Any = self.foreground_weight
        if not isinstance(weight, (int, float, np.number)) or not 0 < weight < math.inf:
            raise OptionError(f"foreground_weight={weight!r}: expected a number > 0")

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        earned = squared_error(previous, current, target)
        return namespace(target).where(target == 1, earned * float(self.foreground_weight), earned)

    def to_spec(self) -> str:
        """`"balanced(20)"`."""
        return f"balanced({number_text(self.foreground_weight)})"


@built_in
def boundary(previous: Map, current: Map, target: Map) -> RewardMap:
    """Eq. 12 near the target's boundary, 0 elsewhere: -1, 0 or 1.

    Near are the pixels from which at most two steps, up, down, left or right, lead to a pixel of the other kind. By
    itself it pays for nothing but the contour: use it beside another, `0.7 * squared_error + 0.3 * boundary`.
    """
    xp = namespace(target)
    edge = xp.zeros_like(target, dtype=xp.bool)
    for after, before in NEIGHBOURS:
        differs = target[after] != target[before]
        edge[after] |= differs
        edge[before] |= differs
    near = xp.asarray(edge, copy=True)
    for after, before in NEIGHBOURS:
        near[after] |= edge[before]
        near[before] |= edge[after]
    return squared_error(previous, current, target) * near


@built_in
def dice_gain(previous: Map, current: Map, target: Map) -> RewardMap:
    """The image's Dice gain, dealt out evenly: every pixel receives Dice(f(t), G) - Dice(f(t-1), G), in (-1, 1).

    The mean over pixels, the environment's scalar reward, is then the Dice gain itself, and the
    rewards of an episode add up to Dice(f(T), G) - Dice(f(0), G).
    """
    xp = namespace(target)
    gain = xp.astype(map_dice(decided(current), target) - map_dice(decided(previous), target), xp.float32)
    return xp.asarray(xp.broadcast_to(gain[..., None, None], target.shape), copy=True)


@built_in
def cross_entropy(previous: Map, current: Map, target: Map) -> RewardMap:
    """The gain in cross-entropy: r = H(f(t-1), G) - H(f(t), G) with H(f, G) = -log(1 - |f - G|).

    Probabilities are kept from 0 and 1 by 0.001, so that a step earns from -6.9 to 6.9. Undiscounted, the rewards of
    an episode add up to the fall of the cross-entropy, as those of Eq. 12 to that of the squared error.
    """
    xp = namespace(target)
    actual = xp.astype(target, xp.float32)

    def likelihood(maps: Map) -> RewardMap:
        return xp.clip(1 - xp.abs(xp.astype(maps, xp.float32) - actual), CLIP, 1 - CLIP)

    return xp.log(likelihood(current)) - xp.log(likelihood(previous))


@built_in
def intensity_error(previous: Map, current: Map, target: Map, image: Array) -> RewardMap:
    """Eq. 12 on intensities: r = (m f(t-1) - G)^2 - (m f(t) - G)^2, m the mean of a pixel's channels; in [-1, 1].

    Another literal reading of the publication: the state is the image, s(0) = I, *zero* sets a pixel's value to 0, the
    squared error is that of the value, and what still has a value in the end is the segmentation, X(T) > 0 (with
    `start="image"`, so that pixels without a value are background from the beginning). A bright pixel of the
    background has much at stake, m^2, and a dark one little; of the object it is m (2 - m). Undiscounted, the rewards
    of an episode add up to (m f(0) - G)^2 - (m f(T) - G)^2.
    """
    xp = namespace(target)
    mean = xp.mean(image, axis=-3)
    if target.ndim > mean.ndim:  # labels
        mean = mean[..., None, :, :]
    before, after, actual = (xp.astype(one, xp.float32) for one in (previous, current, target))
    return (mean * before - actual) ** 2 - (mean * after - actual) ** 2
