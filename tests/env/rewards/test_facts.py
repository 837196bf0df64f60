"""What follows for a sum, a multiple or a cut reward from what its parts say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pixelseg_env.rewards import RewardFacts

RANGES = [(-1.0, 1.0), (0.0, 1.0), (-3.0, -2.0), (2.0, 2.0), (-2.0, 5.0)]
BOUNDS = [None, -2.5, -1.0, 0.0, 0.5, 1.0, 5.0]
KNOWN = (True, False, None)


@pytest.mark.parametrize("span", RANGES)
def test_a_multiple_reaches_the_multiples_of_the_ends(span: tuple[float, float]) -> None:
    for factor, telescopes in itertools.product((2.0, -3.0, 0.0, 1.0), KNOWN):
        found = RewardFacts("f", "someone", span, telescopes, "by hand").scaled(factor)
        values = factor * np.linspace(*span, 5)
        assert found.range == (values.min(), values.max())
        assert found.telescopes is (True if factor == 0 else telescopes), "nothing telescopes, whatever of"
        assert (found.formula, found.source, found.hack) == ("", "someone", "by hand")
    assert RewardFacts(telescopes=False).scaled(2) == RewardFacts(telescopes=False)


def test_a_sum_lies_between_the_sums_of_the_ends() -> None:
    for one, other in itertools.product(RANGES, repeat=2):
        found = RewardFacts("f", range=one).plus(RewardFacts("g", range=other))
        assert found.range == (one[0] + other[0], one[1] + other[1])
        assert found.formula == ""
    for unknown in ((RewardFacts(), RewardFacts(range=(0, 1))), (RewardFacts(range=(0, 1)), RewardFacts())):
        assert unknown[0].plus(unknown[1]).range is None


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, None),  # one may make up for the other
        (True, None, None),
        (None, False, None),
        (None, None, None),
    ],
)
def test_whether_a_sum_telescopes(one: bool | None, other: bool | None, both: bool | None) -> None:
    assert RewardFacts(telescopes=one).plus(RewardFacts(telescopes=other)).telescopes is both


def test_a_sum_names_all_sources_once_and_the_first_hack() -> None:
    first, second, third = RewardFacts(source="A", hack="x"), RewardFacts(source="B", hack="y"), RewardFacts()
    assert first.plus(second).source == "A; B"
    assert first.plus(first).source == first.plus(third).source == third.plus(first).source == "A"
    assert (first.plus(second).hack, third.plus(second).hack, third.plus(third).hack) == ("x", "y", "")


@pytest.mark.parametrize("span", RANGES)
def test_a_cut_reward_reaches_the_cut_ends(span: tuple[float, float]) -> None:
    for low, high in itertools.product(BOUNDS, repeat=2):
        if low is not None and high is not None and low > high:
            continue
        found = RewardFacts("f", "someone", span, True, "by hand").clipped(low, high)
        least, most = -math.inf if low is None else low, math.inf if high is None else high
        assert found.range == tuple(np.clip(span, least, most))
        untouched = least <= span[0] and span[1] <= most
        assert found.telescopes is (True if untouched else None)
        assert (found.formula, found.source, found.hack) == ("", "someone", "by hand")


def test_a_cut_reward_of_unknown_range_is_known_between_two_bounds() -> None:
    for low, high in itertools.product((None, -1.0), (None, 2.0)):
        found = RewardFacts("f", telescopes=True).clipped(low, high)
        assert found.range == (None if low is None or high is None else (low, high))
        assert found.telescopes is None
        assert found.formula == ""


def test_facts_stay_as_they_are() -> None:
    facts = RewardFacts("f", range=(0, 1))
    assert hash(facts) == hash(RewardFacts("f", range=(0, 1)))
    with pytest.raises(AttributeError):
        facts.range = (0, 2)  # type: ignore[misc]
