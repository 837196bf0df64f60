"""`Reward`: what every pixel earns when the segmentation map changes, as an object that composes.

    0.7 * squared_error + 0.3 * boundary
    (squared_error - my_function).clip(-1, 1)
    squared_error.scale(2)

A reward is called with `(previous, current, target)`, three uint8 arrays (..., H, W) of 0 and 1 (with the transition
`"additive"` the maps are float32 in [0, 1]), and returns a new float32 array of the same shape. Leading dimensions are
a batch (and labels, where there are several). Arrays are NumPy's or torch's, and the result is of the same kind.

Your own reward is a plain function of these three. It must treat each (H, W) map by itself, so that the single and
the vector environment agree (`check_reward` tells). It gets maps of 0 and 1 as *int32*, so that differences can be
negative, and asks for more by naming it: `def late(previous, current, target, step, horizon)`, see `RewardContext`.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from pixelseg_env.arrays import Array, namespace
from pixelseg_env.errors import OptionError
from pixelseg_env.rewards.context import CONTEXT, RewardContext
from pixelseg_env.rewards.facts import RewardFacts
from pixelseg_env.rewards.guard import guarded

Map = Array  # uint8 (..., H, W) of 0 and 1
RewardMap = Array  # float32 (..., H, W)
RewardFunction = Callable[..., RewardMap]  # (previous, current, target), and fields of RewardContext by name

MAPS = ("previous", "current", "target")


class Defaults(ABCMeta):
    """The type of a reward with parameters that all have defaults: the class itself computes as its default does.

    So `0.3 * balanced` and `balanced.clip(-1, 1)` mean what they say, as with the rewards that have no parameters.
    """

    def __mul__(cls, factor: object) -> Reward:
        return cls() * factor  # type: ignore

    __rmul__ = __mul__

    def __truediv__(cls, divisor: object) -> Reward:
        return cls() / divisor  # type: ignore

    def __neg__(cls) -> Reward:
        return -cls()  # type: ignore

    def __add__(cls, other: object) -> Reward:
        return cls() + other  # type: ignore

    def __radd__(cls, other: object) -> Reward:
        return other + cls()  # type: ignore

    def __sub__(cls, other: object) -> Reward:
        return cls() - other  # type: ignore

    def __rsub__(cls, other: object) -> Reward:
        return other - cls()  # type: ignore


class of_default:  # noqa: N801 (a decorator)
    """Makes a method of a class with defaults callable on the class, too."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        functools.update_wrapper(self, method)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: type) -> Callable[..., Reward]:
        holder = owner() if instance is None and isinstance(owner, Defaults) else instance
        return self._method if holder is None else functools.partial(self._method, holder)


class Reward(ABC):
    """A reward that can be added to another, multiplied by a number, clipped, and written down.

    `str(reward)` is an expression that `resolve_reward` (and so `reward=` and `--reward`) reads.
    """

    __array_ufunc__ = None  # numpy.float64(0.5) * reward is ours to compute

    needs: frozenset[str] = frozenset()
    """The fields of `RewardContext` that it asks for."""

    @property
    def facts(self) -> RewardFacts:
        """What is known of it; a subclass that knows something says so."""
        return RewardFacts()

    @abstractmethod
    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W).

        Raises:
            OptionError: the reward asks for a context, and `context` is None or lacks it.
        """

    def asked(self, context: RewardContext | None) -> dict[str, Any]:
        """What it needs of a context, by name.

        Raises:
            OptionError: there is no context, or it lacks something.
        """
        found = {name: getattr(context, name, None) for name in self.needs}
        missing = sorted(name for name, value in found.items() if value is None)
        if missing:
            raise OptionError(
                f"reward {self}: it asks for {', '.join(missing)}; call it with a context, "
                "reward(previous, current, target, RewardContext.of(step, horizon, image, action))"
            )
        return found

    @abstractmethod
    def to_spec(self) -> str:
        """The expression that stands for this reward, such as `"0.7*squared_error + 0.3*my_module:bonus"`.

        Raises:
            OptionError: there is none, for a function has no name that can be imported.
        """

    @of_default
    def scale(self, factor: float) -> Reward:
        """This reward times a number.

        Raises:
            OptionError: the factor is not a finite number.
        """
        return Scaled(_number("factor", factor), self)

    @of_default
    def clip(self, low: float | None = None, high: float | None = None) -> Reward:
        """This reward, but at least `low` and at most `high`; None leaves a side open.

        Raises:
            OptionError: a bound is not a finite number, both are None, or `low` is above `high`.
        """
        bounds = [None if bound is None else _number("clip", bound) for bound in (low, high)]
        return Clipped(self, *bounds)

    def __mul__(self, factor: object) -> Reward:
        return self.scale(factor) if _is_number(factor) else NotImplemented  # type: ignore[arg-type]

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Reward:
        if not _is_number(divisor):
            return NotImplemented
        if divisor == 0:
            raise OptionError(f"{self} / 0: expected a divisor other than 0")
        return self.scale(1 / divisor)  # type: ignore[operator]

    def __neg__(self) -> Reward:
        return self.scale(-1)

    def __add__(self, other: object) -> Reward:
        return Sum((*_terms(self), *_terms(as_reward(other)))) if callable(other) else NotImplemented

    def __radd__(self, other: object) -> Reward:
        if _is_number(other) and other == 0:  # sum() starts from 0
            return self
        return as_reward(other) + self if callable(other) else NotImplemented

    def __sub__(self, other: object) -> Reward:
        return self + -as_reward(other) if callable(other) else NotImplemented

    def __rsub__(self, other: object) -> Reward:
        return as_reward(other) - self if callable(other) else NotImplemented

    def __str__(self) -> str:
        try:
            return self.to_spec()
        except OptionError:
            return object.__repr__(self)

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class Scaled(Reward):
    """A reward times a number."""

    factor: float
    part: Reward

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What the part asks for."""
        return self.part.needs

    @property
    def facts(self) -> RewardFacts:
        """The part's, for this factor."""
        return self.part.facts.scaled(self.factor)

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        return self.part(previous, current, target, context) * self.factor

    def scale(self, factor: float) -> Reward:
        """This reward times a number."""
        return Scaled(_number("factor", self.factor * _number("factor", factor)), self.part)

    def to_spec(self) -> str:
        """`"0.7*part"`."""
        return f"{number_text(self.factor)}*{_bracketed(self.part, Sum)}"


@dataclass(frozen=True, repr=False)
class Sum(Reward):
    """The sum of two or more rewards, added from left to right."""

    parts: tuple[Reward, ...]

    @functools.cached_property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any part asks for."""
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def facts(self) -> RewardFacts:
        """What follows from the parts'."""
        return functools.reduce(RewardFacts.plus, (part.facts for part in self.parts))

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        first, *others = self.parts
        total = first(previous, current, target, context)
        for part in others:
            total = total + part(previous, current, target, context)
        return total

    def to_spec(self) -> str:
        """`"part + part - 0.3*part"`."""
        return " + ".join(part.to_spec() for part in self.parts).replace("+ -", "- ")


@dataclass(frozen=True, repr=False)
class Clipped(Reward):
    """A reward between bounds; None leaves a side open."""

    part: Reward
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise OptionError("clip: expected a lower or an upper bound, got neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise OptionError(f"clip({self.low}, {self.high}): expected the lower bound first")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What the part asks for."""
        return self.part.needs

    @property
    def facts(self) -> RewardFacts:
        """The part's, between the bounds."""
        return self.part.facts.clipped(self.low, self.high)

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        earned = self.part(previous, current, target, context)
        return namespace(earned).clip(earned, self.low, self.high)

    def to_spec(self) -> str:
        """`"(part).clip(-1, 1)"`."""
        low, high = ("None" if bound is None else number_text(bound) for bound in (self.low, self.high))
        return f"({self.part.to_spec()}).clip({low}, {high})"


@dataclass(frozen=True, repr=False)
class Own(Reward):
    """A third party's function, guarded: see `pixelseg_env.rewards.guard`.

    Args:
        function: `(previous, current, target)`, and any fields of `RewardContext` by name.
        spec: what `resolve_reward` was given for it, if anything.

    Raises:
        OptionError: its signature asks for what there is not.
    """

    function: RewardFunction
    spec: str | None = field(default=None, compare=False)
    needs: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", asked_for(self.function))

    @property
    def facts(self) -> RewardFacts:
        """The function's attribute `facts`, if it has one."""
        known = getattr(self.function, "facts", None)
        return known if isinstance(known, RewardFacts) else RewardFacts()

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        return guarded(self.function, (previous, current, target), self.asked(context))

    def to_spec(self) -> str:
        """What it was resolved from, or `"module:name"`."""
        spec = self.spec or import_path(self.function)
        if spec is None:
            raise OptionError(
                f"reward {self.function!r}: it cannot be written down, for it has no name that can be imported; "
                "register it (register_reward), or define it at the top of a module"
            )
        return spec

    def __str__(self) -> str:
        return self.spec or import_path(self.function) or repr(self.function)

    __repr__ = __str__


def as_reward(reward: Any) -> Reward:
    """Makes a `Reward` of a function, or of a class without arguments; a `Reward` is returned as it is.

    Raises:
        OptionError: it cannot be called, or its signature asks for what there is not.
    """
    if isinstance(reward, type):  # `reward=balanced`, without parentheses
        try:
            reward = reward()
        except TypeError as error:
            raise OptionError(
                f"reward {reward!r}: expected a class without arguments, or an object ({error})"
            ) from error
    if isinstance(reward, Reward):
        return reward
    if not callable(reward):
        raise OptionError(f"reward: expected a function (previous, current, target) -> map, got {reward!r}")
    return Own(reward)


def asked_for(function: RewardFunction) -> frozenset[str]:
    """The fields of `RewardContext` that a function's signature names.

    Raises:
        OptionError: the first three parameters are not maps, or another one is unknown and has no default.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C, without a signature: the three maps it is
        return frozenset()
    name = getattr(function, "__qualname__", type(function).__qualname__)
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    maps, others = (
        places[: len(MAPS)],
        places[len(MAPS) :] + [one for one in parameters if one.kind == one.KEYWORD_ONLY],
    )
    confused = [one.name for one in maps if one.name in CONTEXT]
    if confused or (len(maps) < len(MAPS) and not any(one.kind == one.VAR_POSITIONAL for one in parameters)):
        raise OptionError(
            f"reward {name}({', '.join(map(str, parameters))}): expected three maps first, {', '.join(MAPS)}; "
            f"after them it may ask for {', '.join(CONTEXT)}"
        )
    for one in others:
        if one.name not in CONTEXT and one.default is one.empty:
            raise OptionError(
                f"reward {name}: parameter {one.name!r} is not known; after {', '.join(MAPS)} a function may ask for "
                f"{', '.join(CONTEXT)}. Give it a default if it is your own"
            )
    for one in others:
        if one.name in CONTEXT and one.kind == one.POSITIONAL_ONLY:
            raise OptionError(f"reward {name}: parameter {one.name!r} must not be positional-only, it is given by name")
    return frozenset(one.name for one in others if one.name in CONTEXT)


def number_text(value: float) -> str:
    """A number in an expression, exact: `"20"`, `"0.7"`, `"-1"`."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def import_path(function: Any) -> str | None:
    """`module:name`, or `module:name(3)` for an object of a data class, if that leads back to it."""
    if is_dataclass(function) and not isinstance(function, type):
        values, maker = (
            [getattr(function, one.name) for one in fields(function) if one.init],
            import_path(type(function)),
        )
        plain = all(value is None or type(value) in (bool, int, float, str) for value in values)
        return f"{maker}({', '.join(map(repr, values))})" if plain and maker else None
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    same = found is function or (isinstance(found, Own) and found.function is function)
    return f"{module}:{name}" if same else None


def _terms(reward: Reward) -> tuple[Reward, ...]:
    return reward.parts if isinstance(reward, Sum) else (reward,)


def _bracketed(part: Reward, kind: type[Reward]) -> str:
    return f"({part.to_spec()})" if isinstance(part, kind) else part.to_spec()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _number(name: str, value: Any) -> float:
    if not _is_number(value) or not math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
        raise OptionError(f"{name}={value!r}: expected a finite number")
    return float(value)
