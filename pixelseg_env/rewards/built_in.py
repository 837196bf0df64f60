"""How a reward of ours enters the catalogue: as a function, or as a class of rewards with parameters.

They are trusted: fast on uint8 maps, of NumPy or torch, and returned without a check. See `pixelseg_env.rewards.base`
for what a reward is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from pixelseg_env.rewards.base import Map, Reward, RewardFunction, RewardMap, asked_for
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.facts import RewardFacts

CATALOGUE: dict[str, Reward | type[Reward]] = {}
"""The built-in rewards by name; a class is a family with parameters, whose name alone stands for its defaults."""

Family = TypeVar("Family", bound=type[Reward])


class BuiltIn(Reward):
    """A function of ours as a reward; called like the function, in its time."""

    def __init__(self, function: RewardFunction, facts: RewardFacts) -> None:
        self._function, self._name, self._facts = function, function.__name__, facts
        self.needs = asked_for(function)
        functools.update_wrapper(self, function)

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        return self._function(previous, current, target, **self.asked(context))

    @property
    def facts(self) -> RewardFacts:
        """What is known of it."""
        return self._facts

    def to_spec(self) -> str:
        """Its name."""
        return self._name

    def __reduce__(self) -> str:  # pickled and copied by name
        return self._name


def built_in(
    formula: str, source: str, range: tuple[float, float], telescopes: bool, hack: str = ""
) -> Callable[[RewardFunction], BuiltIn]:
    """Puts a function into the catalogue, under its name; arguments are those of `RewardFacts`."""

    def added(function: RewardFunction) -> BuiltIn:
        reward = BuiltIn(function, RewardFacts(formula, source, range, telescopes, hack))
        CATALOGUE[reward.to_spec()] = reward
        return reward

    return added


def built_in_family(family: Family) -> Family:
    """Puts a class into the catalogue, under its name; its objects tell their `facts`."""
    CATALOGUE[family.__name__] = family
    return family
