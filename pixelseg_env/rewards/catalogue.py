"""The rewards that come with the environment. A new one is one more `@built_in` function, or class, of this file.

`potentials` has those that are made of a potential, and `hackable` those that are there to be hacked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelseg_env.arrays import Array, namespace
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import OptionError
from pixelseg_env.metrics import map_dice
from pixelseg_env.rewards.base import Defaults, Map, Reward, RewardMap, number_text
from pixelseg_env.rewards.built_in import built_in, built_in_family
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.distances import WIDEST, boundary_weights
from pixelseg_env.rewards.facts import RewardFacts
from pixelseg_env.rewards.potentials import log_likelihood

BALANCED_FOREGROUND_WEIGHT = 10.0
PUBLICATION = "Liu et al. 2025"
GAIN = "(f(t-1) - G)^2 - (f(t) - G)^2"
LARGEST_ENTROPY = 6.906755  # log(0.999 / 0.001)
NEIGHBOURS = (  # of maps (..., H, W): all pixels that have one above them and those above; likewise to the left
    ((..., slice(1, None), slice(None)), (..., slice(None, -1), slice(None))),
    ((..., slice(1, None)), (..., slice(None, -1))),
)


@built_in(GAIN, f"{PUBLICATION}, Eq. 12", range=(-1, 1), telescopes=True)
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


@built_in("sgn(" + GAIN + ")", f"{PUBLICATION}, Eq. 12", range=(-1, 1), telescopes=True)
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

    @property
    def facts(self) -> RewardFacts:
        """For this weight."""
        weight = float(self.foreground_weight)
        most = max(weight, 1.0)
        return RewardFacts(f"w ({GAIN}), w = {weight:g} where G = 1, else 1", "PixelSeg", (-most, most), True)

    def to_spec(self) -> str:
        """`"balanced(20)"`."""
        return f"balanced({number_text(self.foreground_weight)})"


@built_in(f"{GAIN} within two pixels of G's outline, else 0", "PixelSeg", range=(-1, 1), telescopes=True)
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


@built_in_family
@dataclass(frozen=True, repr=False)
class boundary_weighted(Reward, metaclass=Defaults):  # noqa: N801 (used like the functions beside it)
    """Eq. 12 with a weight that falls with the distance to the target's boundary, as in U-Net's weight map.

    The weight is 1 + w exp(-d^2 / (2 s^2)), d being the Euclidean distance in pixels to the nearest pixel of the other
    kind: 1 on both sides of the boundary, and growing away from it. A mask that is empty or full has no boundary, and
    weight 1 everywhere. Unlike `boundary` it pays for every pixel, so that it can be used by itself. U-Net's map adds
    up the distances to the two nearest cells, and a balance of classes, for which there is `balanced`.

    Args:
        weight: w, the largest that is added to 1, >= 0.
        width: s, in pixels, > 0 and at most 100.

    Raises:
        OptionError: one of them is not such a number.
    """

    weight: float = 10.0
    width: float = 5.0

    def __post_init__(self) -> None:
        weight: Any = self.weight
        width: Any = self.width
        if not isinstance(weight, (int, float, np.number)) or not 0 <= weight < math.inf:
            raise OptionError(f"weight={weight!r}: expected a number >= 0")
        if not isinstance(width, (int, float, np.number)) or not 0 < width <= WIDEST:
            raise OptionError(f"width={width!r}: expected a number of pixels > 0 and at most {WIDEST}")

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        return squared_error(previous, current, target) * boundary_weights(target, self.weight, self.width)

    @property
    def facts(self) -> RewardFacts:
        """For this weight and width."""
        weight, width = float(self.weight), float(self.width)
        most = 1 + weight * math.exp(-1 / (2 * width**2))
        formula = f"(1 + {weight:g} exp(-d^2 / (2 {width:g}^2))) ({GAIN}), d the distance to G's outline"
        return RewardFacts(formula, "Ronneberger et al. 2015, Eq. 2", (-most, most), True)

    def to_spec(self) -> str:
        """`"boundary_weighted(10, 5)"`."""
        return f"boundary_weighted({number_text(self.weight)}, {number_text(self.width)})"


@built_in("1 where f(t) = G, else -1", "ports of PixelRL (Furuta et al. 2019)", range=(-1, 1), telescopes=False)
def plus_minus_one(previous: Map, current: Map, target: Map) -> RewardMap:
    """1 for a pixel that is right after the step, -1 for one that is wrong, at every step.

    Under `"restorable"` that is 1 for the right action. It pays for being right, not for getting better: what is right
    already earns again at every step, so the return says how long pixels were right, and late corrections earn little.
    Maps of probabilities are cut at 0.5.
    """
    xp = namespace(target)
    return 1 - 2 * xp.astype(decided(current) != target, xp.float32)


@built_in(
    "+-1 where G = 1, +-D / (2 - D) elsewhere, D = Dice(f(t), G); + towards G, - away from it",
    "Wolpert and Tumer 2002", range=(-1, 1), telescopes=False,
)  # fmt: skip
def difference(previous: Map, current: Map, target: Map) -> RewardMap:
    """The difference reward of Dice: every pixel is paid its own part of the image's Dice, D(f) - D(f without it).

    "Without it" is the map after the step with this one pixel as it was before. With A pixels in map and target
    together, an object pixel that was found made Dice larger by (2 - D) / (A - 1), a false one that was removed by
    D / (A + 1); losses are alike, A - 1 standing where the pixel is 1 now and A + 1 where it is 0. Multiplied by
    (A -+ 1) / (2 - D), so that steps of different images are worth the same, an object pixel's stake is 1 and a
    background pixel's D / (2 - D). It starts near the class ratio, when everything is kept, and rises to 1 by itself.

    What Dice was in between counts, so it does not telescope: under `"restorable"` background that comes while the
    map is bad, and goes when it is good, costs less than it earns. Maps of probabilities are cut at 0.5.
    """
    xp = namespace(target)
    before, after = decided(previous), decided(current)
    score = map_dice(after, target)
    stake = xp.astype(score / (2 - score), xp.float32)[..., None, None]
    gain = squared_error(before, after, target)
    return xp.where(target == 1, gain, gain * stake)


@built_in("Dice(f(t), G) - Dice(f(t-1), G)", "PixelSeg", range=(-1, 1), telescopes=True)
def dice_gain(previous: Map, current: Map, target: Map) -> RewardMap:
    """The image's Dice gain, dealt out evenly: every pixel receives Dice(f(t), G) - Dice(f(t-1), G), in (-1, 1).

    The mean over pixels, the environment's scalar reward, is then the Dice gain itself, and the
    rewards of an episode add up to Dice(f(T), G) - Dice(f(0), G).
    """
    xp = namespace(target)
    gain = xp.astype(map_dice(decided(current), target) - map_dice(decided(previous), target), xp.float32)
    return xp.asarray(xp.broadcast_to(gain[..., None, None], target.shape), copy=True)


@built_in(
    "H(f(t-1), G) - H(f(t), G), H(f, G) = -log(1 - |f - G|)", "PixelSeg",
    range=(-LARGEST_ENTROPY, LARGEST_ENTROPY), telescopes=True,
)  # fmt: skip
def cross_entropy(previous: Map, current: Map, target: Map) -> RewardMap:
    """The gain in cross-entropy: r = H(f(t-1), G) - H(f(t), G) with H(f, G) = -log(1 - |f - G|).

    Probabilities are kept from 0 and 1 by 0.001, so that a step earns from -6.9 to 6.9. Undiscounted, the rewards of
    an episode add up to the fall of the cross-entropy, as those of Eq. 12 to that of the squared error.
    """
    return log_likelihood(current, target) - log_likelihood(previous, target)


@built_in(
    "(m f(t-1) - G)^2 - (m f(t) - G)^2, m the mean of the channels", f"{PUBLICATION}, read otherwise",
    range=(-1, 1), telescopes=True,
)  # fmt: skip
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
