"""`RewardFacts`: what is known of a reward before anyone trains with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class RewardFacts:
    """What is known of a reward; None, or an empty text, where nothing is.

    Every reward carries its own, `reward.facts`; sums, multiples and clipped rewards find theirs from their parts. A
    function of your own may have some, `my_reward.facts = RewardFacts(range=(-1, 1), telescopes=True)`: `pixelseg
    rewards check` then holds it to them.

    Attributes:
        formula: r(t) of a pixel, with f the map and G the target.
        source: where it comes from.
        range: the least and the largest that a pixel can earn in one step.
        telescopes: whether the rewards of an episode on maps of 0 and 1, undiscounted, add up to what the first and
            the last map alone decide. Then no detour pays: how a map came about does not count.
        hack: for a reward that is here to be hacked, how that is done.
    """

    formula: str = ""
    source: str = ""
    range: Range | None = None
    telescopes: bool | None = None
    hack: str = ""

    def scaled(self, factor: float) -> RewardFacts:
        """Of the reward times a number."""
        span = None
        if self.range is not None:
            low, high = sorted(one * factor for one in self.range)
            span = (low, high)
        return replace(self, formula="", range=span, telescopes=True if factor == 0 else self.telescopes)

    def plus(self, other: RewardFacts) -> RewardFacts:
        """Of the sum of two rewards, whose range may be narrower than it says."""
        span = None
        if self.range is not None and other.range is not None:
            span = (self.range[0] + other.range[0], self.range[1] + other.range[1])
        known = (self.telescopes, other.telescopes)
        unsure = None in known or known == (False, False)  # what two do not, their sum may
        sources = dict.fromkeys(one for one in (self.source, other.source) if one)
        return RewardFacts("", "; ".join(sources), span, None if unsure else all(known), self.hack or other.hack)

    def clipped(self, low: float | None, high: float | None) -> RewardFacts:
        """Of the reward between bounds."""
        least, most = (-math.inf if low is None else low, math.inf if high is None else high)
        if self.range is None:
            span = None if low is None or high is None else (low, high)
            return replace(self, formula="", range=span, telescopes=None)
        if least <= self.range[0] and self.range[1] <= most:  # nothing is cut off
            return replace(self, formula="")
        bottom, top = (min(max(one, least), most) for one in self.range)
        return replace(self, formula="", range=(bottom, top), telescopes=None)
