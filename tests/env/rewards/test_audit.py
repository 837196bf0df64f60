"""What an audit measures, and the loopholes that it is to find, planted."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelseg_env import OptionError
from pixelseg_env.metrics import dice
from pixelseg_env.rewards import (
    RewardFacts,
    Rules,
    as_reward,
    audit_reward,
    find_loophole,
    resolve_reward,
    squared_error,
)
from pixelseg_env.rewards.audit import _range
from pixelseg_env.rewards.loopholes import is_pixelwise
from pixelseg_env.rewards.trials import honest, play, scenes

Fault = tuple[str, str, str, str | None]


def late(previous: Any, current: Any, target: Any, step: Any, horizon: Any) -> Any:
    """Losing early is cheap, and bringing back late is dear."""
    return squared_error(previous, current, target) * (step / horizon)


def for_changing(previous: Any, current: Any, target: Any) -> Any:
    return squared_error(previous, current, target) + 1.1 * abs(current - previous)


def for_sensitivity(previous: Any, current: Any, target: Any) -> Any:
    """Of the whole image, again at every step; a false pixel costs nothing."""
    found = (current * target).sum((-2, -1)) / target.sum((-2, -1)).clip(1)
    return 0 * target + found[..., None, None] - 0.0


def best_so_far(previous: Any, current: Any, target: Any) -> Any:
    """Gains of Dice alone, which is not decided pixel by pixel."""
    gain = dice_of(current, target) - dice_of(previous, target)
    return 0 * target + gain.clip(0)[..., None, None]


def dice_of(maps: Any, target: Any) -> Any:
    return 2 * (maps * target).sum((-2, -1)) / (maps.sum((-2, -1)) + target.sum((-2, -1))).clip(1)


def for_spoiling_a_row(previous: Any, current: Any, target: Any) -> Any:
    """The object's pixels in one row are paid for being lost."""
    earned = 1.0 * squared_error(previous, current, target)
    earned[..., 1, :] *= 1 - 4 * target[..., 1, :]
    return earned


def for_losing_a_row_of_dice(previous: Any, current: Any, target: Any) -> Any:
    """No pixel alone decides; losing a row of the object pays, losing all of it does not."""
    earned = dice_gain_of(previous, current, target)
    lost = (previous - current) * target
    earned += 1.5 * lost[..., 1:2, :].sum((-2, -1))[..., None, None] - lost.sum((-2, -1))[..., None, None]
    return earned


def dice_gain_of(previous: Any, current: Any, target: Any) -> Any:
    return 0.0 * target + (dice_of(current, target) - dice_of(previous, target))[..., None, None]


def wrong_way(previous: Any, current: Any, target: Any) -> Any:
    return -squared_error(previous, current, target)


LOOPHOLES = [
    ("gain_only", "restorable", "flicker"),
    ("gain_only", "absorbing", "zero all"),
    ("hits_only", "absorbing", "keep all"),
    ("keep_bonus", "absorbing", "keep all"),
    ("sign", "additive", "flicker"),  # small steps up one by one, all the way down at once
    ("difference", "restorable", "flicker"),
    (late, "restorable", "flicker"),
    (for_changing, "restorable", "flicker"),
    (for_changing, "absorbing", "zero all"),
    (for_sensitivity, "absorbing", "keep all"),
    (best_so_far, "restorable", "flicker"),
    (for_spoiling_a_row, "absorbing", "wrong"),
    (for_losing_a_row_of_dice, "absorbing", "wrong"),  # that object and background as wholes do not show
    (wrong_way, "absorbing", "idle"),
]


@pytest.mark.parametrize(("reward", "transition", "kind"), LOOPHOLES)
def test_a_planted_loophole_is_found(reward: Any, transition: str, kind: str) -> None:
    found = find_loophole(resolve_reward(reward), Rules(transition, 10)).loophole
    assert found is not None
    assert found.kind == kind
    assert found.earned >= found.deserved - 1e-4
    assert found.honest.right.all()
    # It is what it says: played again by hand, it earns that.
    maps, target = found.played.maps[:, 0], found.played.target[0]
    assert (maps[0] == 1).all()
    changes = (maps[1:] != maps[:-1]).sum(axis=0)
    assert ((maps[-1] >= 0.5) != target).any() or (changes > (target == 0)).any()
    if not resolve_reward(reward).needs and transition != "additive":
        pairs = itertools.pairwise(maps)
        again = sum(np.asarray(resolve_reward(reward)(a, b, target), float).mean() for a, b in pairs)
        assert again == pytest.approx(found.earned, abs=1e-5)


SOUND = ("squared_error", "balanced(3)", "plus_minus_one", "sparse", "boundary", "0.7*squared_error + 0.3*dice_gain")


@pytest.mark.parametrize("transition", ["absorbing", "restorable", "additive"])
@pytest.mark.parametrize("spec", SOUND)
def test_sound_rewards_have_none(spec: str, transition: str) -> None:
    search = find_loophole(resolve_reward(spec), Rules(transition, 6))
    assert search.loophole is None
    assert search.pixelwise == ("dice" not in spec)
    assert search.exhaustive == (search.pixelwise and transition != "additive")
    assert search.horizons == (4, 6)
    assert search.episodes > 200


def test_waiting_is_no_loophole_and_gamma_counts() -> None:
    assert find_loophole(as_reward(late), Rules("absorbing", 4)).loophole is None  # it waits, and is right in the end
    shaped = resolve_reward("squared_error + 30*shaping('dice', 0.9)")
    assert find_loophole(shaped, Rules("restorable", 3, 0.9)).loophole is None
    found = find_loophole(shaped, Rules("restorable", 3, 1.0)).loophole
    assert found is not None
    assert found.kind == "flicker"
    for reward in (shaped, shaped - 0.5 * squared_error, shaped.clip(-9, 9)):
        assert audit_reward(reward, horizon=1).rules.gamma == 0.9
    assert audit_reward(shaped, horizon=1, gamma=0.5).rules.gamma == 0.5
    with pytest.raises(OptionError, match="several gammas"):
        audit_reward(resolve_reward("shaping('dice', 0.9) + shaping('dice', 0.8)"))


def test_whether_pixels_depend_on_each_other() -> None:
    def neighbours(previous: Any, current: Any, target: Any) -> Any:
        found = 1.0 * current
        found[..., 1:] += current[..., :-1]
        return found

    rules = Rules("absorbing", 3)
    for reward, alone in (
        ("squared_error", True),
        ("boundary", True),  # whose weights are the target's
        (late, True),
        ("dice_gain", False),
        ("difference", False),
        (neighbours, False),
    ):
        assert is_pixelwise(resolve_reward(reward), rules) == alone, reward


def test_what_a_pixel_matters() -> None:
    middling, small, large = audit_reward(resolve_reward("balanced(3)"), horizon=2).weights
    assert (middling.lost, middling.removed, middling.missed, middling.false) == (3, 1, 3, 1)
    assert (small.object_share, large.object_share) == (2 / 36, 25 / 36)
    middling, *_ = audit_reward(resolve_reward("plus_minus_one"), horizon=2).weights
    assert (middling.lost, middling.missed) == (2, 4), "in one step, and in two"
    target = scenes()[0]
    middling, *_ = audit_reward(resolve_reward("dice_gain"), horizon=1).weights
    some, one = np.ones((1, 6, 6), np.uint8), target[None].copy()
    some[0, 1, 1] = one[0, 1, 1] = 0  # both of the object
    expected = 36 * (dice(np.ones_like(target), target) - dice(some[0], target))
    assert middling.lost == pytest.approx(float(expected), abs=1e-4)
    assert middling.missed == pytest.approx(36 * (1 - float(dice(one[0], target))), abs=1e-4)


@pytest.mark.parametrize("transition", ["absorbing", "restorable", "additive"])
@pytest.mark.parametrize("horizon", [1, 4])
def test_pixels_matter_alike_under_all_transitions_and_in_any_number_of_steps(transition: str, horizon: int) -> None:
    for weights in audit_reward(resolve_reward("balanced(3)"), transition, horizon).weights:
        assert (weights.lost, weights.removed, weights.missed, weights.false) == pytest.approx((3, 1, 3, 1))


def test_what_a_pixel_matters_where_time_or_the_end_counts() -> None:
    middling, *_ = audit_reward(as_reward(late), "absorbing", 4).weights
    assert (middling.lost, middling.removed, middling.missed, middling.false) == (0.25,) * 4
    middling, *_ = audit_reward(resolve_reward("sparse"), "absorbing", 4, gamma=0.5).weights
    assert (middling.lost, middling.removed, middling.missed, middling.false) == (0, 0, 0.125, 0.125)
    middling, *_ = audit_reward(resolve_reward("hits_only"), "restorable", 3).weights
    assert (middling.lost, middling.removed, middling.missed, middling.false) == (1, 0, 3, 0)


def test_one_step_knows_no_detour_and_the_way_counts_from_two_on() -> None:
    plus = resolve_reward("plus_minus_one")
    assert audit_reward(plus, "restorable", 1).detour == 0
    # Of two steps the first alone is free: -1 or 1.
    assert audit_reward(plus, "restorable", 2).detour == 2
    assert audit_reward(plus, "restorable", 4).detour == 6
    assert audit_reward(plus, "absorbing", 4).detour == 6, "gone at once, or in the last step"
    for transition in ("absorbing", "restorable", "additive"):
        assert audit_reward(squared_error, transition, 4).telescopes, transition
        assert not audit_reward(plus, transition, 4).telescopes, transition


def test_the_range_has_what_all_pixels_do_together() -> None:
    """All pixels wrong, right, kept or lost at once, and from one to the other: chance would never try these."""

    def together(previous: Any, current: Any, target: Any) -> Any:
        right, was = ((one == target).all((-2, -1))[..., None, None] for one in (current, previous))
        wrong, wrong_before = ((one != target).all((-2, -1))[..., None, None] for one in (current, previous))
        return 0.0 * target + 2.0 * right - 3.0 * wrong + 5 * (right & wrong_before) - 7 * (was & wrong)

    assert audit_reward(as_reward(together), "restorable", 2).range == (-10, 7)
    # Of maps of 0 and 1 that only lose pixels, none wrong becomes right everywhere but from all object.
    assert audit_reward(resolve_reward("difference"), "restorable", 3).range == (-1, 1)
    assert audit_reward(resolve_reward("2*hits_only"), "additive", 3).range == (0, 2)


def test_the_range_has_maps_that_are_half_full_early_and_late() -> None:
    """Chance zeroes every second pixel at once, and then nothing would be left of maps that only lose pixels."""

    def half(previous: Any, current: Any, target: Any, step: Any) -> Any:
        share = (1.0 * current).mean((-2, -1))[..., None, None]
        there = 1.0 * ((share > 0.4) & (share < 0.6)) + 0.0 * target
        return there * (5 * (step == 8) - 3 * (step == 1))

    assert _range(as_reward(half), Rules("absorbing", 8)) == (-3, 5)


def test_what_a_pixel_matters_is_the_mean_over_all_pixels_of_a_kind() -> None:
    def unlike(previous: Any, current: Any, target: Any) -> Any:
        weights = 1.0 + 0.0 * target
        weights[..., 0, 0], weights[..., 2, 3] = 25, 7  # the first pixel is background, the other one object
        return squared_error(previous, current, target) * weights

    middling, *_ = audit_reward(as_reward(unlike), horizon=2).weights
    assert (middling.lost, middling.missed) == pytest.approx(((11 + 7) / 12,) * 2)
    assert (middling.removed, middling.false) == pytest.approx(((23 + 25) / 24,) * 2)


def says(facts: RewardFacts, reward: Any) -> Any:
    def one_that_says(previous: Any, current: Any, target: Any) -> Any:
        return 1.0 * reward(previous, current, target)

    one_that_says.facts = facts  # type: ignore[attr-defined]
    return as_reward(one_that_says)


@pytest.mark.parametrize(
    ("facts", "reward", "found"),
    [
        (RewardFacts(), for_changing, []),
        (RewardFacts(range=(-1, 2.1)), for_changing, []),
        (RewardFacts(range=(-1, 2)), for_changing, ["range"]),
        (RewardFacts(range=(0.1, 2.1)), for_changing, ["range"]),
        (RewardFacts(range=(-5, 5), telescopes=False), for_changing, []),
        (RewardFacts(telescopes=True), for_changing, ["telescopes"]),
        (RewardFacts(telescopes=True), squared_error, []),
        (RewardFacts(telescopes=False), squared_error, []),  # modest, not wrong
    ],
)
def test_what_a_reward_says_is_held_to_it(facts: RewardFacts, reward: Any, found: list[str]) -> None:
    lines = audit_reward(says(facts, reward), "restorable", 3).contradictions
    assert [("range" if "earns" in line else "telescopes") for line in lines] == found


def test_a_claim_of_telescoping_is_about_maps_of_0_and_1() -> None:
    steps = says(RewardFacts(telescopes=True), lambda p, c, t: abs(c - p))
    assert audit_reward(steps, "restorable", 3).contradictions == ["it says that it telescopes"]
    audit = audit_reward(steps, "additive", 3)
    assert (audit.telescopes, audit.contradictions) == (False, [])


def test_the_time_of_a_step_is_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], itertools.count()

    def slow_at_first(previous: Any, current: Any, target: Any) -> Any:
        if target.shape[-1] == 64:
            clock[0] += 1000 if next(calls) < 3 else 0.25
            assert target.shape == (64, 64)
            assert {0, 1} == set(np.unique(target)) == set(np.unique(previous)) == set(np.unique(current))
        return 1.0 * target

    monkeypatch.setattr("pixelseg_env.rewards.audit.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert audit_reward(as_reward(slow_at_first), horizon=1).seconds == 0.25


def test_range_telescoping_and_contradictions() -> None:
    audit = audit_reward(squared_error, "restorable", 4)
    assert (audit.range, audit.telescopes, audit.contradictions) == ((-1, 1), True, [])
    assert 0 < audit.seconds < 0.1
    assert not audit_reward(resolve_reward("gain_only"), "restorable", 4).telescopes
    assert audit_reward(resolve_reward("gain_only"), "absorbing", 4).telescopes, "a pixel can get better once"
    assert not audit_reward(as_reward(late), "absorbing", 4).telescopes

    def boasts(previous: Any, current: Any, target: Any) -> Any:
        return for_changing(previous, current, target)

    boasts.facts = RewardFacts(range=(-1, 1), telescopes=True)  # type: ignore[attr-defined]
    assert audit_reward(as_reward(boasts), "restorable", 3).contradictions == [
        "it says that a pixel earns -1 to 1 in a step",
        "it says that it telescopes",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transition": "aditive"}, "Did you mean 'additive'"),
        ({"horizon": 0}, "horizon=0"),
        ({"horizon": 101}, "horizon=101.*1 to 100"),
        ({"gamma": 2.0}, "gamma=2"),
        ({"gamma": -0.5}, "gamma=-0.5"),
    ],
)
def test_what_cannot_be_tried_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        audit_reward(squared_error, **options)


def test_a_discount_of_0_and_of_1_are_tried() -> None:
    for gamma in (0, 1):
        audit = audit_reward(resolve_reward("sparse"), horizon=2, gamma=gamma)
        assert audit.rules == Rules("absorbing", 2, gamma)
        assert audit.weights[0].missed == gamma, "what comes in the second step"


def test_maps_of_probabilities_are_tried_where_there_are() -> None:
    whole = as_reward(lambda p, c, t: 1.0 * (p ^ t))
    assert audit_reward(whole, "restorable", 1).range == (0, 1)
    with pytest.raises(OptionError, match="fails on NumPy arrays"):
        audit_reward(whole, "additive", 1)


def test_a_reward_that_breaks_the_rules_is_not_tried() -> None:
    with pytest.raises(OptionError, match="mixes the images of a batch"):
        audit_reward(as_reward(lambda p, c, t: c - c.mean()))


@pytest.mark.parametrize("transition", ["absorbing", "restorable", "additive"])
def test_the_honest_episode_is_right_from_the_first_step_on(transition: str) -> None:
    for target in scenes():
        played = play(squared_error, target, honest(target, Rules(transition, 3)), Rules(transition, 3, 0.5))
        assert (played.maps[1:] == target).all()
        np.testing.assert_array_equal(played.returns[0], 1.0 - target)
        assert (played.changes == 1 - target).all()
