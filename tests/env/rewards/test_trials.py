"""The small images that rewards are tried on, and how episodes are played there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pixelseg_env.metrics import dice
from pixelseg_env.rewards import Rules, as_reward, hits_only, plus_minus_one, squared_error
from pixelseg_env.rewards.loopholes import find_loophole
from pixelseg_env.rewards.trials import honest, play, scenes


def random_actions(rules: Rules, count: int, seed: int = 0) -> Any:
    shape = (rules.horizon, count, *scenes()[0].shape)
    return np.random.default_rng(seed).integers(0, rules.choices, shape, dtype=np.uint8)


def test_the_targets() -> None:
    """Square, of every size from nothing to everything, and not all at the border."""
    targets = scenes()
    sizes = [int(target.sum()) for target in targets]
    assert sizes == [12, 2, 25, 0, 36]
    assert all(target.shape == (6, 6) and set(np.unique(target)) <= {0, 1} for target in targets)
    assert all(np.ptp(np.nonzero(target), axis=1).tolist() != [0, 0] for target in targets[:3])
    inner = [target[1:-1, 1:-1].sum() for target in targets]
    assert inner[:2] == sizes[:2]


@pytest.mark.parametrize("transition", ["absorbing", "restorable", "additive"])
def test_zero_makes_background_and_keep_makes_object(transition: str) -> None:
    rules = Rules(transition, 2)
    target = scenes()[0]
    actions = np.zeros((2, 2, 6, 6), np.uint8)
    actions[1, 1] = rules.keep
    played = play(squared_error, target, actions, rules)
    assert (played.maps[:, 0] == np.array([1, 0, 0])[:, None, None]).all()
    assert (played.maps[2, 1] == (0 if transition == "absorbing" else 1)).all()
    assert rules.graded == (transition == "additive")
    assert played.maps.dtype == (np.float32 if rules.graded else np.uint8)
    assert rules.choices == (8 if rules.graded else 2)


def test_what_a_reward_is_told_of_an_episode() -> None:
    seen: list[Any] = []

    def watching(previous: Any, current: Any, target: Any, step: Any, horizon: Any, image: Any, action: Any) -> Any:
        seen.append((previous.copy(), current.copy(), target.copy(), step, horizon, image, action.copy()))
        return (step + 10 * current) * (1.0 + target)

    rules, target = Rules("restorable", 3, 0.5), scenes()[1]
    actions = random_actions(rules, 4)
    played = play(as_reward(watching), target, actions, rules)
    assert len(seen) == 3
    expected = np.zeros((4, 6, 6))
    for t, (previous, current, goal, step, horizon, image, action) in enumerate(seen):
        np.testing.assert_array_equal(previous, np.ones_like(current) if t == 0 else actions[t - 1])
        np.testing.assert_array_equal(current, actions[t])
        np.testing.assert_array_equal(action, actions[t])
        assert (goal == target).all()
        assert (step == t + 1).all()
        assert (horizon == 3).all()
        assert image.shape == (4, 1, 6, 6)
        assert (image == image[:1]).all(), "one image"
        bright, dark = image[0, 0][target == 1], image[0, 0][target == 0]
        assert image.min() >= 0
        assert image.max() <= 1
        assert bright.min() > dark.max()
        assert dark.std() > 0.01, "with noise"
        np.testing.assert_array_equal(played.rewards[t], (t + 1 + 10.0 * actions[t]) * (1 + target))
        expected += 0.5**t * played.rewards[t]
    np.testing.assert_allclose(played.returns, expected)
    assert (played.target == target).all()


@pytest.mark.parametrize("transition", ["restorable", "additive"])
def test_what_is_counted_of_an_episode(transition: str) -> None:
    rules, target = Rules(transition, 4), scenes()[2]
    played = play(plus_minus_one, target, random_actions(rules, 5), rules)
    last = played.maps[-1] >= 0.5
    np.testing.assert_array_equal(played.right, last == target)
    np.testing.assert_array_equal(played.rewards[-1], np.where(last == target, 1, -1))
    changes = np.zeros((5, 6, 6), int)
    for t in range(4):
        changes += played.maps[t] != played.maps[t + 1]
    np.testing.assert_array_equal(played.changes, changes)
    np.testing.assert_allclose(played.dice, [float(dice(one.astype(np.uint8), target)) for one in last])
    third = played.only(2)
    for name in ("maps", "rewards", "returns", "target", "changes", "right", "dice"):
        whole, one = getattr(played, name), getattr(third, name)
        batch = 1 if name in ("maps", "rewards") else 0
        np.testing.assert_array_equal(one, np.take(whole, [2], axis=batch), err_msg=name)


def test_how_many_episodes_a_search_plays() -> None:
    """All that a pixel can do, once per target, the honest way, and keeping and zeroing everything."""
    for horizons in ((2,), (4,), (4, 6)):
        search = find_loophole(squared_error, Rules("absorbing", horizons[-1]))
        assert search.loophole is None
        assert search.horizons == horizons
        assert search.episodes == sum(5 * (1 + 2**steps) + 3 * (1 + 2) for steps in horizons)
        assert search.exhaustive


def test_a_search_ends_where_it_finds() -> None:
    search = find_loophole(hits_only, Rules("absorbing", 6))
    assert search.loophole is not None
    assert search.horizons == (4,)
    assert search.loophole.kind == "keep all"
    assert search.loophole.earned == search.loophole.deserved == pytest.approx(4 * 12 / 36)
    assert (search.loophole.played.maps == 1).all()
    np.testing.assert_array_equal(search.loophole.honest.maps[1:, 0], [scenes()[0]] * 4)


@pytest.mark.parametrize(("transition", "most"), [("absorbing", 12), ("additive", 4)])
def test_whether_all_was_tried(transition: str, most: int) -> None:
    """2^12 and 8^4 are 4096 ways."""
    assert find_loophole(squared_error, Rules(transition, most)).exhaustive
    assert not find_loophole(squared_error, Rules(transition, most + 1)).exhaustive


def test_earning_nothing_is_no_loophole() -> None:
    nothing = as_reward(lambda p, c, t: 0.0 * c)
    assert find_loophole(nothing, Rules("restorable", 3)).loophole is None
    # A constant, though, is earned by keeping everything as well as by segmenting.
    found = find_loophole(as_reward(lambda p, c, t: 0.0 * c + 1), Rules("restorable", 3)).loophole
    assert found is not None
    assert found.kind == "keep all"


def test_honest_actions_are_in_time_and_place() -> None:
    for transition in ("absorbing", "additive"):
        rules = Rules(transition, 5)
        for target in scenes():
            actions = honest(target, rules)
            assert (actions.shape, actions.dtype) == ((5, 1, 6, 6), np.uint8)
            assert (actions == target * rules.keep).all()
            actions[0, 0, 0, 0] = 0  # its own
