"""What every reward of the catalogue says of itself, held against episodes; the newer ones by their definitions."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import types
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelseg_env import OptionError, PixelSegEnv, register_reward
from pixelseg_env.dynamics import TRANSITIONS
from pixelseg_env.metrics import dice
from pixelseg_env.rewards import (
    RewardContext,
    RewardFacts,
    as_reward,
    balanced,
    boundary_weighted,
    catalogue_table,
    difference,
    gain_only,
    hits_only,
    keep_bonus,
    plus_minus_one,
    registry,
    resolve_reward,
    shaping,
    sparse,
    squared_error,
)
from tests.helpers.env import small_set

NAMES = tuple(sorted(registry._REWARDS))
SPECS = (*NAMES, "sparse('dice')", "shaping('log_likelihood', 1)", "shaping('squared_error', 0.5)", "keep_bonus(0)")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REWARDS", dict(registry._REWARDS))


def episode(
    reward: Any, maps: list[NDArray[Any]], target: NDArray[Any], convert: Any = np.asarray
) -> list[NDArray[np.float32]]:
    """The reward maps of an episode of maps (B, [L,] H, W)."""
    image = np.random.default_rng(9).random((len(target), 2, *target.shape[-2:]), np.float32)
    horizon, found = len(maps) - 1, []
    for t in range(1, len(maps)):
        action = np.zeros(target.shape, np.uint8)
        context = RewardContext.of(np.full(len(target), t), horizon, convert(image), convert(action))
        found.append(np.asarray(reward(convert(maps[t - 1]), convert(maps[t]), convert(target), context)))
    return found


def random_maps(seed: int, steps: int, shape: tuple[int, ...], graded: bool = False) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    if graded:
        return [rng.random(shape).astype(np.float32) for _ in range(steps + 1)]
    return [(rng.random(shape) < rng.random()).astype(np.uint8) for _ in range(steps + 1)]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 4), labels=st.integers(1, 2), graded=st.booleans())
@pytest.mark.parametrize("spec", SPECS)
def test_it_stays_in_its_range_and_torch_agrees(spec: str, seed: int, steps: int, labels: int, graded: bool) -> None:
    reward = resolve_reward(spec)
    shape = (2, 4, 5) if labels == 1 else (2, labels, 4, 5)
    maps, target = random_maps(seed, steps, shape, graded), random_maps(seed + 1, 0, shape)[0]
    found = episode(reward, maps, target)
    low, high = reward.facts.range
    for ours, theirs in zip(found, episode(reward, maps, target, torch.from_numpy), strict=True):
        assert (ours.dtype, ours.shape) == (np.float32, shape)
        assert low - 1e-5 <= ours.min()
        assert ours.max() <= high + 1e-5
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_the_ends_of_its_range_are_reached(spec: str) -> None:
    """Over all maps of two by one pixels, or nearly: an intensity is never quite 1."""
    maps = [np.array([[[k & 1, k >> 1]]], np.uint8) for k in range(4)]
    reward = resolve_reward(spec)
    seen = [
        one
        for target in maps
        for first in maps
        for second in maps
        for third in maps
        for one in episode(reward, [first, second, third], target)
    ]
    room = 0.4 if spec == "intensity_error" else 0.01
    np.testing.assert_allclose((np.min(seen), np.max(seen)), reward.facts.range, atol=room)


def detour(reward: Any, seed: int, steps: int) -> float:
    """By how much the sums of two episodes between the same maps differ at most."""
    shape = (3, 3, 4)
    one, other = (random_maps(seed + k, steps, shape) for k in (0, 1))
    other[0], other[-1] = one[0], one[-1]
    target = random_maps(seed + 2, 0, shape)[0]
    sums = [np.sum(episode(reward, maps, target), axis=0) for maps in (one, other)]
    return float(np.abs(sums[0] - sums[1]).max())


@pytest.mark.parametrize("spec", SPECS)
def test_it_telescopes_exactly_where_it_says_so(spec: str) -> None:
    reward = resolve_reward(spec)
    found = max(detour(reward, 3 * seed, steps=2 + seed % 4) for seed in range(30))
    assert reward.facts.telescopes == (found < 1e-4), (spec, found)


def exact_dice(maps: NDArray[Any], target: NDArray[Any]) -> Fraction:
    both, all_of = int((maps & target).sum()), int(maps.sum()) + int(target.sum())
    return Fraction(2 * both, all_of) if all_of else Fraction(1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 4), width=st.integers(1, 5))
def test_the_difference_reward_is_what_each_pixel_did_for_dice(seed: int, height: int, width: int) -> None:
    """By its definition, one pixel after the other undone, in exact fractions."""
    previous, current, target = (one[0] for one in random_maps(seed, 2, (1, height, width)))
    found = difference(previous, current, target)
    after, pixels = exact_dice(current, target), int(current.sum()) + int(target.sum())
    for at in np.ndindex(height, width):
        undone = current.copy()
        undone[at] = previous[at]
        scale = Fraction(pixels - 1 if current[at] else pixels + 1) / (2 - after)
        expected = (after - exact_dice(undone, target)) * scale
        assert found[at] == pytest.approx(float(expected), abs=1e-4), at
        if target[at]:
            assert found[at] == int(current[at]) - int(previous[at]), "an object pixel's stake is 1"


def test_the_difference_reward_rewards_each_pixel_for_what_makes_dice_larger() -> None:
    previous, current, target = (one[0] for one in random_maps(4, 2, (1, 6, 6)))
    earned = difference(previous, current, target)
    for at in zip(*np.nonzero(previous != current), strict=True):
        undone = current.copy()
        undone[at] = previous[at]
        assert np.sign(earned[at]) == np.sign(float(dice(current, target)) - float(dice(undone, target)))
    everything, nothing = np.ones((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    target = nothing.copy()
    target[:2, :5] = 1  # 10 of 100: the class ratio is 1 to 9
    almost = everything.copy()
    almost[9, 9] = 0
    assert difference(everything, almost, target)[9, 9] == pytest.approx(10 / 99, abs=1e-3)  # D / (2 - D) is IoU
    assert difference(everything, target, target)[9, 9] == 1


def test_plus_minus_one_is_for_being_right_at_every_step() -> None:
    maps, target = random_maps(1, 4, (2, 4, 5)), random_maps(2, 0, (2, 4, 5))[0]
    for after, earned in zip(maps[1:], episode(plus_minus_one, maps, target), strict=True):
        np.testing.assert_array_equal(earned, np.where(after == target, 1, -1))
    graded = [np.array([[[0.4, 0.6]]], np.float32)] * 2
    np.testing.assert_array_equal(episode(plus_minus_one, graded, np.array([[[0, 0]]], np.uint8))[0], [[[1, -1]]])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 5), gamma=st.floats(0, 1))
@pytest.mark.parametrize("potential", ["dice", "squared_error", "log_likelihood"])
def test_shaping_changes_every_return_by_the_first_maps_potential(
    potential: str, seed: int, steps: int, gamma: float
) -> None:
    """Whatever the agent does: the discounted return is -P(f(0)), pixel by pixel."""
    reward = shaping(potential, gamma)
    maps, target = random_maps(seed, steps, (2, 4, 3)), random_maps(seed + 1, 0, (2, 4, 3))[0]
    earned = sum(gamma**t * one for t, one in enumerate(episode(reward, maps, target)))
    np.testing.assert_allclose(earned, -reward.of(maps[0], target, None), atol=1e-4)


@pytest.mark.parametrize("potential", ["squared_error", "dice", "log_likelihood"])
@pytest.mark.parametrize("transition", ["absorbing", "restorable"])
def test_sparse_pays_at_the_end_what_the_dense_reward_paid_on_the_way(potential: str, transition: str) -> None:
    dense = resolve_reward({"dice": "dice_gain", "log_likelihood": "cross_entropy"}.get(potential, potential))
    maps, target = [np.ones((3, 4, 5), np.uint8)], random_maps(5, 0, (3, 4, 5))[0]
    for action in random_maps(6, 3, (3, 4, 5)):
        maps.append(TRANSITIONS[transition](maps[-1], action))
    *before, last = episode(sparse(potential), maps, target)
    assert not np.any(before)
    np.testing.assert_allclose(last, np.sum(episode(dense, maps, target), axis=0), atol=1e-5)
    assert last.any()


def test_sparse_in_the_environments_own_time() -> None:
    env = PixelSegEnv(small_set(), reward=sparse, horizon=3)
    _, info = env.reset(seed=0)
    earned = [env.step(info["target"])[1] for _ in range(3)]
    assert earned[:2] == [0, 0]
    assert earned[2] == pytest.approx((1 - info["target"]).mean())


def test_those_for_teaching_can_be_hacked_as_they_say() -> None:
    target = np.zeros((1, 2, 4), np.uint8)
    target[..., :2] = 1
    full, right = np.ones_like(target), target
    flicker = [full, 1 - full, full, 1 - full, full]
    assert np.sum(episode(gain_only, flicker, target), axis=0).tolist() == np.full(target.shape, 2).tolist()
    honest, idle = [full, *[right] * 6], [full] * 7
    assert np.sum(episode(gain_only, honest, target)) == 4
    for reward in (hits_only, keep_bonus()):
        assert np.sum(episode(reward, idle, target)) >= np.sum(episode(reward, honest, target)) > 0
    assert np.sum(episode(keep_bonus(), idle, target)) > np.sum(episode(keep_bonus(), honest, target))
    for name in NAMES:
        assert bool(resolve_reward(name).facts.hack) == (name in ("gain_only", "hits_only", "keep_bonus")), name


@pytest.mark.parametrize("spec", SPECS)
def test_a_reward_is_its_text_and_stays_as_it_is(spec: str) -> None:
    """It may be a key, and one that everybody shares."""
    one, other = resolve_reward(spec), resolve_reward(spec)
    assert resolve_reward(one.to_spec()) == one == other
    assert hash(one) == hash(other)
    assert repr(one) == str(one) == one.to_spec()
    for field in dataclasses.fields(one) if dataclasses.is_dataclass(one) else ():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, field.name, 1)


def test_parameters_that_are_left_out() -> None:
    """The values that the documentation states."""
    assert keep_bonus() == keep_bonus(0.2) != keep_bonus(0.3)
    assert sparse() == sparse("squared_error") != sparse("dice")
    assert shaping() == shaping("dice", 0.95) != shaping("dice", 0.9)
    assert boundary_weighted() == boundary_weighted(10, 5) != boundary_weighted(10, 4)
    assert balanced() == balanced(10) != balanced(9)


@pytest.mark.parametrize(("bonus", "steps"), [(0.2, 6), (0.25, 5), (0.3, 4), (1, 2), (1.5, 1), (np.float32(0.5), 3)])
def test_from_how_many_steps_on_waiting_pays(bonus: float, steps: int) -> None:
    """A false pixel that is kept earns more than the 1 for zeroing it at once, and in a step less it does not."""
    reward, target = keep_bonus(bonus), np.zeros((1, 1, 1), np.uint8)
    assert f" from {steps} steps on" in reward.facts.hack
    full = np.ones_like(target)
    for count in range(1, 8):
        idle = np.sum(episode(reward, [full] * (count + 1), target))
        honest = np.sum(episode(reward, [full, *[target] * count], target))
        assert honest == 1
        assert (idle > honest + 1e-6) == (count >= steps)


def test_without_a_bonus_nothing_is_to_be_had() -> None:
    for bonus in (0, 0.0):
        facts = keep_bonus(bonus).facts
        assert (facts.hack, facts.telescopes, facts.range) == ("", True, (-1, 1))
    assert keep_bonus(0.5).facts.telescopes is False
    for wrong in (-0.1, np.inf, np.nan, "x", None):
        with pytest.raises(OptionError, match="bonus="):
            keep_bonus(wrong)  # type: ignore[arg-type]


def test_gamma_is_a_number_from_0_to_1() -> None:
    for gamma in (0, 1, 0.5):
        assert shaping("dice", gamma).facts.telescopes == (gamma == 1)
    for wrong in (-0.1, 1.1, np.nan, np.inf, "x", None, True, False):
        with pytest.raises(OptionError, match="gamma="):
            shaping("dice", wrong)  # type: ignore[arg-type]


def test_likelihoods_are_cut_off_at_a_thousandth() -> None:
    """By hand: a wrong pixel has log(0.001), a right one log(0.999)."""
    target = np.array([[0, 1, 0, 1]], np.uint8)
    for maps, expected in (
        (np.array([[0, 0, 1, 1]], np.uint8), [0.999, 0.001, 0.001, 0.999]),
        (np.array([[0.25, 0.25, 0.9995, 0.9995]], np.float32), [0.75, 0.25, 0.001, 0.999]),
    ):
        found = shaping("log_likelihood").of(maps, target, None)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [np.log(expected)], rtol=1e-4)
    assert shaping("log_likelihood").span == pytest.approx((np.log(0.001), 0))


def bright(maps: Any, target: Any, image: Any) -> Any:
    """A potential of a third party's."""
    return maps * image[..., 0, :, :] - target


def test_potentials_of_a_third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = types.ModuleType("their_potentials")
    theirs.bright = bright  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_potentials", theirs)
    monkeypatch.setitem(sys.modules, bright.__module__, sys.modules[__name__])
    reward = resolve_reward("squared_error + shaping('their_potentials:bright', 0.5)")
    assert reward.needs == {"steps_left", "image"}
    assert resolve_reward(reward.to_spec()) == reward
    assert shaping(bright, 0.5).to_spec() == f"shaping('{bright.__module__}:bright', 0.5)"
    maps, target = random_maps(3, 3, (2, 4, 5)), random_maps(8, 0, (2, 4, 5))[0]
    found = episode(reward, maps, target)
    seen = np.random.default_rng(9).random((2, 2, 4, 5), np.float32)[:, 0]
    for t in range(3):
        gamma = 0.5 * (t < 2)
        hint = gamma * (maps[t + 1] * seen - 1.0 * target) - (maps[t] * seen - 1.0 * target)
        np.testing.assert_allclose(found[t], squared_error(maps[t], maps[t + 1], target) + hint, atol=1e-5)
    assert reward.facts.range is None
    for wrong, words in (
        ("shaping('dcie')", "Did you mean 'dice'"),
        ("shaping('dice', 2)", "gamma=2"),
        ("sparse('their_potentials:nothing')", "check the spelling"),
        ("keep_bonus(-1)", "bonus=-1"),
    ):
        with pytest.raises(OptionError, match=words):
            resolve_reward(wrong)
    for function in (3, lambda maps: maps, lambda maps, target, step: maps):
        with pytest.raises(OptionError, match="potential="):
            shaping(function)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="cannot be written down"):
        shaping(lambda maps, target: maps).to_spec()


def test_potentials_are_guarded() -> None:
    def spoils(maps: Any, target: Any) -> Any:
        maps[...] = 0
        return 1.0 * maps

    def wraps(maps: Any, target: Any) -> Any:
        return maps - target  # of uint8, 0 - 1 would be 255

    maps = [np.zeros((1, 2, 2), np.uint8)] * 3
    with pytest.raises(ValueError, match="read-only"):
        episode(shaping(spoils, 1), maps, np.ones((1, 2, 2), np.uint8))
    assert episode(shaping(wraps, 0.5), maps, np.ones((1, 2, 2), np.uint8))[0].max() == 0.5


def test_facts_follow_from_those_of_the_parts() -> None:
    whole = resolve_reward("2*squared_error - 0.5*dice_gain").facts
    assert (whole.range, whole.telescopes) == ((-2.5, 2.5), True)
    assert whole.source == "Liu et al. 2025, Eq. 12; PixelSeg"
    assert (squared_error + gain_only).facts.telescopes is False
    assert (squared_error + gain_only).facts.hack == gain_only.facts.hack
    assert (gain_only + plus_minus_one).facts.telescopes is None
    assert (0 * gain_only).facts.telescopes is True
    assert squared_error.clip(-1, 2).facts.telescopes is True
    cut = squared_error.clip(0).facts
    assert (cut.range, cut.telescopes) == ((0, 1), None)

    def own(previous: Any, current: Any, target: Any) -> Any:
        return 1.0 * current

    assert as_reward(own).facts == RewardFacts()
    assert (as_reward(own) + squared_error).facts.range is None
    assert as_reward(own).clip(0, 2).facts.range == (0, 2)
    assert as_reward(own).clip(0, None).facts.range is None
    assert as_reward(own).clip(None, 2).facts.range is None
    own.facts = RewardFacts("f(t)", range=(0, 1), telescopes=False)  # type: ignore[attr-defined]
    assert (3 * as_reward(own)).facts.range == (0, 3)
    assert (3 * as_reward(own)).facts.telescopes is False
    assert as_reward(own).clip(None, 0.5).facts.range == (0, 0.5)
    register_reward("mine", own)
    assert "| `mine` | `f(t)` |  | 0 to 1 | no |  |" in catalogue_table().splitlines()


def test_the_table_and_the_environments_page_have_every_reward() -> None:
    lines = catalogue_table().splitlines()
    assert len(lines) == len(NAMES) + 2
    assert {line.count(" | ") for line in lines} == {5}
    for name in NAMES:
        facts = resolve_reward(name).facts
        assert facts.formula
        assert facts.source
        assert f'| `"{name}"`' in (PixelSegEnv.__doc__ or ""), name
    assert pickle.loads(pickle.dumps(gain_only)) is gain_only
