"""Potentials: how good a map is, pixel by pixel. Two families of rewards are made of them, `sparse` and `shaping`.

A potential is a function `(maps, target) -> float32 (..., H, W)`, which may name `image` after them. Your own gets maps
of 0 and 1 as int32, as a reward of your own does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pixelseg_env.arrays import Array, namespace
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import OptionError
from pixelseg_env.metrics import map_dice
from pixelseg_env.plugins import resolve
from pixelseg_env.rewards.base import Defaults, Map, Reward, RewardMap, import_path, number_text
from pixelseg_env.rewards.built_in import built_in_family
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.facts import Range, RewardFacts
from pixelseg_env.rewards.guard import guarded

CLIP = 1e-3
LEAST_LIKELY = -6.907755  # log(CLIP)

Potential = Callable[..., RewardMap]  # (maps, target), and image by name


def squared_error(maps: Map, target: Map) -> RewardMap:
    """-(f - G)^2: Eq. 12 is its gain."""
    xp = namespace(target)
    return -((xp.astype(maps, xp.float32) - xp.astype(target, xp.float32)) ** 2)


def dice(maps: Map, target: Map) -> RewardMap:
    """The image's Dice, the same for every pixel."""
    xp = namespace(target)
    score = xp.astype(map_dice(decided(maps), target), xp.float32)
    return xp.asarray(xp.broadcast_to(score[..., None, None], target.shape), copy=True)


def log_likelihood(maps: Map, target: Map) -> RewardMap:
    """log(1 - |f - G|), with probabilities kept from 0 and 1 by 0.001: minus the cross-entropy."""
    xp = namespace(target)
    distance = xp.abs(xp.astype(maps, xp.float32) - xp.astype(target, xp.float32))
    return xp.log(xp.clip(1 - distance, CLIP, 1 - CLIP))


POTENTIALS: dict[str, Potential] = {"squared_error": squared_error, "dice": dice, "log_likelihood": log_likelihood}
RANGES: dict[Any, Range] = {squared_error: (-1, 0), dice: (0, 1), log_likelihood: (LEAST_LIKELY, 0)}
FORMULAS = {squared_error: "-(f - G)^2", dice: "Dice(f, G)", log_likelihood: "log(1 - |f - G|)"}


@dataclass(frozen=True, repr=False)
class OfPotential(Reward):
    """A reward that is made of a potential.

    Args:
        potential: `"squared_error"`, `"dice"`, `"log_likelihood"`, `"module:name"`, or a function.

    Raises:
        OptionError: the potential is not known, or is no function of maps and target.
    """

    potential: str | Potential
    function: Potential = field(init=False, repr=False, compare=False)
    needs: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: Any = self.potential
        if isinstance(found, str):
            found = resolve("potential", found, POTENTIALS)
        object.__setattr__(self, "function", found)
        object.__setattr__(self, "needs", frozenset({"steps_left"} | _asked(found)))

    @property
    def span(self) -> Range | None:
        """The least and the largest value of the potential, where they are known."""
        return RANGES.get(self.function)

    @property
    def potential_formula(self) -> str:
        """What the potential computes, for the catalogue."""
        return FORMULAS.get(self.function, self._potential_text())

    def of(self, maps: Map, target: Map, context: RewardContext | None) -> RewardMap:
        """The potential of maps, float32 (..., H, W)."""
        if self.function in RANGES:
            return self.function(maps, target)
        image = {"image": self.asked(context)["image"]} if "image" in self.needs else {}
        function = self.function

        def as_a_reward(previous: Map, current: Map, goal: Map, **more: Array) -> RewardMap:
            return function(current, goal, **more)

        return guarded(as_a_reward, (maps, maps, target), image)

    def _potential_text(self) -> str:
        text = self.potential if isinstance(self.potential, str) else import_path(self.potential)
        if text is None:
            raise OptionError(
                f"potential {self.potential!r}: it cannot be written down, for it has no name that can be imported; "
                "define it at the top of a module"
            )
        return text


@built_in_family
@dataclass(frozen=True, repr=False)
class sparse(OfPotential, metaclass=Defaults):  # noqa: N801 (used like the functions beside it)
    """Nothing before the last step, which pays all: P(f(T)) - P(1), the gain over the map that keeps everything.

    From f(0) = 1 an episode earns what it earns under the dense reward of the same potential; which of its steps
    earned it, the agent has to find out. In the range of the potential's differences.

    Args:
        potential: P, see `pixelseg_env.rewards.potentials`.

    Raises:
        OptionError: the potential is not known.
    """

    potential: str | Potential = "squared_error"

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        last = 1 - _goes_on(self.asked(context)["steps_left"], target)
        everything = namespace(current).ones_like(current)
        return (self.of(current, target, context) - self.of(everything, target, context)) * last

    @property
    def facts(self) -> RewardFacts:
        """For this potential."""
        span = None if self.span is None else (self.span[0] - self.span[1], self.span[1] - self.span[0])
        formula = f"t = T: P(f(T)) - P(1), else 0; P = {self.potential_formula}"
        return RewardFacts(formula, "Sutton and Barto 2018, section 3.2", span, True)

    def to_spec(self) -> str:
        """`"sparse('dice')"`."""
        return f"sparse({self._potential_text()!r})"


@built_in_family
@dataclass(frozen=True, repr=False)
class shaping(OfPotential, metaclass=Defaults):  # noqa: N801 (used like the functions beside it)
    """Potential-based shaping: r = gamma P(f(t)) - P(f(t-1)), with P = 0 once the episode has ended.

    Added to a reward, it changes every episode's return, discounted with the same gamma, by -P(f(0)): by the same
    whatever the agent does. So the best policies stay the best, and hints cost nothing (Ng, Harada and Russell 1999).
    It is no reward by itself, and gamma has to be the agent's own.

    Args:
        potential: P, see `pixelseg_env.rewards.potentials`.
        gamma: the agent's discount, from 0 to 1.

    Raises:
        OptionError: the potential is not known, or gamma is out of range.
    """

    potential: str | Potential = "dice"
    gamma: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.gamma, (int, float)) or isinstance(self.gamma, bool) or not 0 <= self.gamma <= 1:
            raise OptionError(f"gamma={self.gamma!r}: expected a number from 0 to 1, the discount of the agent")

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        goes_on = _goes_on(self.asked(context)["steps_left"], target)
        return self.of(current, target, context) * float(self.gamma) * goes_on - self.of(previous, target, context)

    @property
    def facts(self) -> RewardFacts:
        """For this potential and gamma; undiscounted, it telescopes for gamma = 1 alone."""
        span = None
        if self.span is not None:
            low, high = self.span
            span = (min(self.gamma * low, 0.0) - high, max(self.gamma * high, 0.0) - low)
        formula = f"gamma P(f(t)) - P(f(t-1)), P(f(T)) = 0; P = {self.potential_formula}, gamma = {self.gamma:g}"
        return RewardFacts(formula, "Ng, Harada and Russell 1999", span, self.gamma == 1)

    def to_spec(self) -> str:
        """`"shaping('dice', 0.95)"`."""
        return f"shaping({self._potential_text()!r}, {number_text(self.gamma)})"


def _goes_on(steps_left: Any, like: Array) -> Any:
    """1 while the episode goes on and 0 at its last step: a number, or float32 that broadcasts against the maps."""
    xp = namespace(like)
    return float(steps_left > 0) if isinstance(steps_left, int) else xp.astype(steps_left > 0, xp.float32)


def _asked(potential: Any) -> set[str]:
    """What a potential names besides maps and target.

    Raises:
        OptionError: it cannot be called with the two.
    """
    try:
        parameters = inspect.signature(potential).parameters
        asked = {"image"} & parameters.keys()
        inspect.signature(potential).bind(None, None, **dict.fromkeys(asked))
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"potential={potential!r}: expected a function (maps, target) -> map, or (maps, target, image) ({error})"
        ) from error
    return asked
