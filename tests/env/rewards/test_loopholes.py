"""What a search for loopholes tries, how it climbs, and what it calls what it finds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pixelseg_env.rewards import Rules, as_reward, dice_gain, find_loophole, squared_error
from pixelseg_env.rewards.loopholes import _best_cheat, _named, _of_classes, _sequences
from pixelseg_env.rewards.trials import honest, play, scenes


def distinct(sequences: Any) -> set[tuple[int, ...]]:
    found = {tuple(int(action) for action in one) for one in sequences}
    assert len(found) == len(sequences), "none twice"
    return found


@pytest.mark.parametrize(
    ("transition", "steps", "actions"),
    [
        ("absorbing", 1, (0, 1)),
        ("restorable", 5, (0, 1)),
        ("absorbing", 12, (0, 1)),
        ("additive", 2, range(8)),
        ("additive", 4, range(8)),
        ("additive", 5, (0, 7)),
        ("additive", 12, (0, 7)),
    ],
)
def test_all_that_a_pixel_can_do_is_tried_as_far_as_there_are_4096_ways(
    transition: str, steps: int, actions: Any
) -> None:
    assert distinct(_sequences(Rules(transition, steps))) == set(itertools.product(actions, repeat=steps))


def simple(steps: int) -> set[tuple[int, ...]]:
    """Never, always, every second step, from a step on, until a step."""
    found = {tuple((k + t) % 2 for t in range(steps)) for k in (0, 1)}
    found |= {tuple(int(t >= k) for t in range(steps)) for k in range(steps + 1)}
    return found | {tuple(int(t < k) for t in range(steps)) for k in range(steps + 1)}


@pytest.mark.parametrize("transition", ["restorable", "additive"])
def test_of_more_ways_what_is_simple_is_tried_and_some_by_chance(transition: str) -> None:
    rules = Rules(transition, 20)
    tried = _sequences(rules)
    assert set(np.unique(tried)) == {0, rules.keep}
    assert {tuple(one) for one in (tried // rules.keep).tolist()} >= simple(20)
    assert 4096 < len(tried) < 4200
    assert abs(float((tried[-4096:] > 0).mean()) - 0.5) < 0.01
    assert len(np.unique(tried[-4096:], axis=0)) > 4000


@pytest.mark.parametrize(("transition", "steps"), [("absorbing", 1), ("additive", 3), ("restorable", 6)])
def test_object_and_background_as_wholes_do_all_that_two_pixels_can(transition: str, steps: int) -> None:
    rules, target = Rules(transition, steps), scenes()[0]
    tried = _of_classes(target, rules)
    of_object, of_rest = tried[:, :, 2, 2], tried[:, :, 0, 0]
    assert (tried == np.where(target == 1, of_object[..., None, None], of_rest[..., None, None])).all()
    pairs = distinct(np.concatenate([of_object, of_rest]).T)
    assert pairs == set(itertools.product((0, rules.keep), repeat=2 * steps))


def test_in_more_steps_they_do_what_is_simple() -> None:
    tried = _of_classes(scenes()[0], Rules("restorable", 7))
    of_object, of_rest = (map(tuple, tried[:, :, k, k].T.tolist()) for k in (2, 0))
    found = set(zip(of_object, of_rest, strict=True))
    assert found == set(itertools.product(simple(7), repeat=2))


def test_pixels_are_changed_one_by_one_in_short_episodes_alone() -> None:
    """Where a pixel's reward is not its own: what five steps cost more than four is all that wholes can do in them."""
    four, five = (find_loophole(dice_gain, Rules("absorbing", steps)) for steps in (4, 5))
    assert (four.pixelwise, four.loophole, five.loophole) == (False, None, None)
    assert five.episodes - four.episodes == 3 * (2 + 1 + 1 + 4**5) + 2 * (1 + 4**5)
    climbing = four.episodes - 3 * (2 + 1 + 1 + 4**4) - 2 * (1 + 4**4)
    assert climbing > 0
    assert climbing % (4 * 36) == 0, "each pixel's action of each step, the other way"
    assert not four.exhaustive


def agrees_with_a_secret(previous: Any, current: Any, target: Any) -> Any:
    """Every pixel earns how far the map is a certain wrong one; only the right map itself earns a little less."""
    secret = 1 * target
    secret[..., 1, :] = 0
    matches = 1.0 * (current == secret).sum((-2, -1))
    right = (current == target).all((-2, -1))
    earned = matches + right * (33.5 - matches)
    return 0.0 * target + earned[..., None, None] / 36


def test_a_loophole_that_lies_some_pixels_away_is_climbed_to() -> None:
    """Its neighbours earn less than the honest episode, and theirs earn more."""
    found = find_loophole(as_reward(agrees_with_a_secret), Rules("absorbing", 1)).loophole
    assert found is not None
    assert (found.kind, found.honest.right.all()) == ("wrong", True)
    assert found.deserved == pytest.approx(33.5 / 36)
    assert found.earned == pytest.approx(34 / 36), "and no farther than it must"
    wrong = ~found.played.right[0]
    assert wrong.sum() == 2
    assert wrong[1].sum() == 2


def played(*maps: Any, reward: Any = squared_error) -> Any:
    """An episode on the middling target under `"restorable"`, whose actions are its maps."""
    rules = Rules("restorable", len(maps))
    actions = np.stack([np.broadcast_to(one, (6, 6)) for one in maps]).astype(np.uint8)[:, None]
    return play(reward, scenes()[0], actions, rules), play(reward, scenes()[0], honest(scenes()[0], rules), rules)


@pytest.mark.parametrize(
    ("maps", "kind"),
    [
        ([1, 1, 1], "idle"),
        ([1, 1, 0], "wrong"),  # at the last moment
        ([0, 0, 0], "wrong"),
        ([0, 0, 1], "flicker"),
        ([0, 1, 1], "flicker"),
        ([1, 0, 1], "flicker"),
        ([0, 1, 0], "flicker"),
    ],
)
def test_what_an_episode_is_called(maps: list[Any], kind: str) -> None:
    found, base = played(*maps)
    assert _named(found, base).kind == kind


def test_an_episode_is_called_what_most_of_its_wrong_pixels_do() -> None:
    target = scenes()[0]
    few = target.copy()
    few[1, 1:3] = 0  # two of the object are lost
    few[0, :3] = 1  # and three of the background left
    assert _named(*played(few, few)).kind == "idle"
    few[0, :3] = 0
    few[5, 5] = 1
    assert _named(*played(few, few)).kind == "wrong"


def test_the_best_of_a_batch_that_cheats() -> None:
    def late(previous: Any, current: Any, target: Any, step: Any) -> Any:
        return squared_error(previous, current, target) * step

    rules, target = Rules("restorable", 3), scenes()[0]
    right = honest(target, rules)
    waits = right.copy()
    waits[:2] = 1  # everything is kept until the last step, where all becomes right
    flickers = right.copy()
    flickers[1] = 1 - target  # all wrong in between
    one_flickers = right.copy()
    one_flickers[1, :, 2, 2] = 0
    base = play(as_reward(late), target, right, rules)
    only = play(as_reward(late), target, np.concatenate([right, waits], axis=1), rules)
    assert only.returns[1].mean() > base.returns.mean()
    assert _best_cheat(only, base) is None, "it waits, and is right in the end"
    several = play(as_reward(late), target, np.concatenate([waits, one_flickers, flickers, right], axis=1), rules)
    found = _best_cheat(several, base)
    assert found is not None
    assert found.earned == pytest.approx(several.returns[2].mean()) == pytest.approx((24 - 36 * 2 + 36 * 3) / 36)
    assert (found.kind, found.deserved) == ("flicker", pytest.approx(24 / 36))
