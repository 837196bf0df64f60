"""Rewards that are here to be hacked: each looks sensible, and each can be earned without segmenting anything.

For lessons, not for agents that are to be used. `reward.facts.hack` says how each is hacked, and
`pixelseg rewards check NAME` finds it out by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelseg_env.arrays import namespace
from pixelseg_env.errors import OptionError
from pixelseg_env.rewards.base import Defaults, Map, Reward, RewardMap, number_text
from pixelseg_env.rewards.built_in import built_in, built_in_family
from pixelseg_env.rewards.catalogue import squared_error
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.facts import RewardFacts

LESSON = "for teaching"


@built_in(
    "max((f(t-1) - G)^2 - (f(t) - G)^2, 0)", LESSON, range=(0, 1), telescopes=False,
    hack="flicker: where a pixel may come back (restorable, additive), getting worse is free and getting better again "
    "is paid, so every pixel changes at every step",
)  # fmt: skip
def gain_only(previous: Map, current: Map, target: Map) -> RewardMap:
    """Eq. 12 without its penalties: gains are paid, losses are not; 0 or 1, on maps of probabilities in [0, 1].

    How it is hacked: a pixel that flips at every step gains at every second one. Under `"restorable"` an episode of
    four steps earns 2 a pixel by flickering, and at most 1 by segmenting.
    """
    return namespace(target).clip(squared_error(previous, current, target), 0.0, None)


@built_in(
    "f(t) G", LESSON, range=(0, 1), telescopes=False,
    hack="keep everything: a false pixel costs nothing, so the map that was there before the first step earns the most",
)  # fmt: skip
def hits_only(previous: Map, current: Map, target: Map) -> RewardMap:
    """1 for every object pixel that is kept, at every step; on maps of probabilities its probability.

    How it is hacked: by doing nothing. It pays for sensitivity, and a false pixel costs nothing.
    """
    xp = namespace(target)
    return xp.astype(current, xp.float32) * xp.astype(target, xp.float32)


@built_in_family
@dataclass(frozen=True, repr=False)
class keep_bonus(Reward, metaclass=Defaults):  # noqa: N801 (used like the functions beside it)
    """Eq. 12 and a small bonus for every pixel that is kept, at every step, so that no object gets lost.

    How it is hacked: by waiting. Zeroing a false pixel earns 1 once, keeping it earns the bonus T times: from
    T > 1 / bonus on, keeping everything to the end is better than segmenting at once.

    Args:
        bonus: per step, >= 0.

    Raises:
        OptionError: the bonus is not such a number.
    """

    bonus: float = 0.2

    def __post_init__(self) -> None:
        bonus: Any = self.bonus
        if not isinstance(bonus, (int, float, np.number)) or not 0 <= bonus < math.inf:
            raise OptionError(f"bonus={bonus!r}: expected a number >= 0")

    def __call__(self, previous: Map, current: Map, target: Map, context: RewardContext | None = None) -> RewardMap:
        """The reward map, float32 (..., H, W)."""
        xp = namespace(target)
        return squared_error(previous, current, target) + xp.astype(current, xp.float32) * float(self.bonus)

    @property
    def facts(self) -> RewardFacts:
        """For this bonus."""
        bonus = float(self.bonus)
        formula = f"(f(t-1) - G)^2 - (f(t) - G)^2 + {bonus:g} f(t)"
        hack = f"wait: false pixels that are kept earn {bonus:g} a step, which is more than 1 from {_steps(bonus)} on"
        return RewardFacts(formula, LESSON, (-1, 1 + bonus), bonus == 0, hack if bonus else "")

    def to_spec(self) -> str:
        """`"keep_bonus(0.2)"`."""
        return f"keep_bonus({number_text(self.bonus)})"


def _steps(bonus: float) -> str:
    return f"{math.floor(1 / bonus) + 1} steps" if bonus else "no number of steps"
