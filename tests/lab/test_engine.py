"""The lab's engine, without a page: a trajectory is what the environment makes of it, whatever is changed."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_agents import DQN, PA3C, PixelRL
from pixelseg_agents.lab.acting import KEEP, STRATEGIES, Actor, decide, entropy
from pixelseg_agents.lab.episode import LONGEST, Rules, play
from pixelseg_agents.lab.session import Session
from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv, SegmentationDataset, load_dataset

SIDE = 16
REWARDS = ("squared_error", "balanced(3)", "0.5*dice_gain - sign", "(squared_error).clip(0, None)")


@functools.cache
def four_phantoms() -> SegmentationDataset:
    return load_dataset("phantom", split="all", size=SIDE, count=4)


@pytest.fixture(scope="module")
def phantoms() -> SegmentationDataset:
    return four_phantoms()


@pytest.fixture(scope="module")
def agent(phantoms: SegmentationDataset) -> PA3C:
    env = PixelSegVectorEnv(2, phantoms, horizon=3, observation="stacked", observe_time=True)
    return PA3C(env, width=0.03, look="closer(side=16, smallest=4)", device="cpu", seed=1)


def drawn(count: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 2, (count, SIDE, SIDE), np.uint8))


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(("absorbing", "restorable")),
    st.sampled_from(REWARDS),
    st.integers(0, 6),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_an_episode_is_what_the_environment_says(
    transition: str, reward: str, steps: int, gamma: float, seed: int
) -> None:
    data = four_phantoms()
    actions, index = drawn(steps, seed), seed % 4
    rules = Rules(transition, "stacked", reward, gamma, 6)
    episode = play(data, index, rules, actions)
    env = PixelSegEnv(data, horizon=6, transition=transition, observation="stacked", reward=reward)
    seen, _ = env.reset(options={"index": index})
    assert np.array_equal(episode.observations[0], seen)
    total = 0.0
    for t, action in enumerate(actions):
        seen, earned, _, _, info = env.step(action.astype(np.int8))
        total += gamma**t * earned
        assert np.array_equal(episode.rewards[t], info["reward_map"])
        assert np.array_equal(episode.maps[t + 1], info["segmentation"])
        assert np.array_equal(episode.observations[t + 1], seen)
        assert episode.earned()[t] == pytest.approx(earned, abs=1e-6)
        assert episode.totals()[t + 1] == pytest.approx(total, abs=1e-6)
        assert episode.scores()["DICE"][t + 1] == pytest.approx(info["dice"])
    if steps:  # Bellman's equation, and the total as the mean of the pixels' returns
        returns = episode.returns()
        assert np.allclose(returns[:-1], episode.rewards[:-1] + gamma * returns[1:], atol=1e-5)
        assert np.allclose(returns[-1], episode.rewards[-1])
        assert returns[0].mean() == pytest.approx(total, abs=1e-5)


def test_another_reward_scores_the_same_trajectory_again(phantoms: SegmentationDataset) -> None:
    session = Session(phantoms, 1, Rules("restorable", horizon=4))
    for action in drawn(3, 5):
        session.step(action)
    before, at = session.episode, session.at
    session.change(reward="balanced(3)")
    assert np.array_equal(session.episode.maps, before.maps)
    assert session.at == at == 3
    weight = np.where(before.target == 1, 3, 1)
    assert np.array_equal(session.episode.rewards, before.rewards * weight)
    with pytest.raises(OptionError, match="no_such_reward"):
        session.change(reward="no_such_reward")
    assert session.rules.reward == "balanced(3)"  # what could not be done has changed nothing


def test_back_forward_and_another_branch(phantoms: SegmentationDataset) -> None:
    session = Session(phantoms, 0, Rules("restorable", horizon=3))
    first, second, other = drawn(3, 9)
    session.step(first)
    session.step(second)
    session.go(1)
    assert np.array_equal(session.segmentation, first)
    session.go(99)
    assert np.array_equal(session.segmentation, second)
    session.go(-5)
    assert session.at == 0
    assert session.segmentation.all()
    session.go(1)
    session.step(other)  # what had followed is dropped
    assert [action.tolist() for action in session.actions] == [first.tolist(), other.tolist()]
    session.change(horizon=1)
    assert len(session.actions) == session.at == 1
    assert session.over
    with pytest.raises(OptionError, match="over after 1"):
        session.step(other)
    session.restart()
    assert session.actions == ()
    assert session.at == 0


def test_actions_carry_over_between_zero_and_keep_and_amounts(phantoms: SegmentationDataset) -> None:
    session = Session(phantoms, 0, Rules("restorable", horizon=2))
    first, second = drawn(2, 4)
    session.step(first)
    session.step(second)
    session.change(transition="additive")
    assert np.array_equal(session.episode.levels[1:], [first, second])
    session.go(1)
    added = np.full((SIDE, SIDE), 4, np.uint8)  # +0.1
    session.step(added)
    assert np.allclose(session.episode.levels[2], np.minimum(1, first + 0.1))
    session.change(transition="restorable")
    assert session.segmentation.all()


def test_of_several_labels_one_is_shown_and_painted_and_the_others_stay() -> None:
    data = load_dataset("phantom", split="all", size=SIDE, count=1, labels=2)
    session = Session(data, 0, Rules("restorable", horizon=3))
    session.step(np.stack(drawn(2, 7)))
    before = session.episode.maps[1]
    session.show_label(1)
    painted = drawn(1, 8)[0]
    session.paint(painted)
    assert np.array_equal(session.episode.maps[2], [before[0], painted])
    assert np.array_equal(session.segmentation, painted)
    shown = session.shown
    assert np.array_equal(shown.target, data.batch([0])[1][0][1])
    assert np.array_equal(shown.rewards, session.episode.rewards[:, 1])
    assert shown.scores()["DICE"].shape == (3,)
    session.choose(four_phantoms(), 0)  # of one label
    assert session.label == 0


def test_another_transition_shows_what_the_same_actions_lead_to(phantoms: SegmentationDataset) -> None:
    session = Session(phantoms, 0, Rules("restorable", horizon=2))
    first, second = drawn(2, 3)
    session.step(first)
    session.step(second)
    session.change(transition="absorbing")
    assert np.array_equal(session.segmentation, first & second)


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("transition", ["restorable", "additive"])
@pytest.mark.parametrize("who", STRATEGIES)
def test_every_strategy_plays_to_the_end(who: str, transition: str, labels: int) -> None:
    data = load_dataset("phantom", split="all", size=SIDE, count=3, labels=labels)
    session = Session(data, 2, Rules(transition, horizon=4))
    session.act(who, to_the_end=True)
    assert session.over
    maps, target = session.episode.maps, session.episode.target
    if who == "flip":
        assert all(np.array_equal(a, 1 - b) for a, b in zip(maps[1:], maps[:-1], strict=True))
    if who == "truth":
        assert np.array_equal(maps[-1], target)
    if who in ("keep", "zero"):
        assert (maps[1:] == (who == KEEP)).all()
    if who == "otsu":
        assert 0 < maps[-1].mean() < 1
    if who == "random":
        assert 0.3 < maps[-1].mean() < 0.7
        assert not np.array_equal(maps[-1], maps[-2])


def test_flipping_is_paid_by_gains_alone_and_by_eq_12_it_is_not(phantoms: SegmentationDataset) -> None:
    """The loophole of lesson 1: every pixel is wrong every second step, and earns 1 when it is right again."""
    session = Session(phantoms, 0, Rules("restorable", horizon=4, gamma=1.0, reward="(squared_error).clip(0, None)"))
    session.act("flip", to_the_end=True)
    assert np.array_equal(session.episode.returns()[0], np.full((SIDE, SIDE), 2.0))
    session.change(reward="squared_error")
    assert session.episode.totals()[-1] == pytest.approx(0)


def test_a_strategy_and_rules_that_are_not_known_are_refused(phantoms: SegmentationDataset) -> None:
    with pytest.raises(OptionError, match="no strategy"):
        decide("cheat", phantoms, 0, Rules(), ())
    for wrong in ({"transition": "subtractive"}, {"observation": "all"}, {"gamma": 1.1}, {"horizon": LONGEST + 1}):
        with pytest.raises(OptionError):
            replace(Rules(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at most 1"):
        play(phantoms, 0, Rules(horizon=1), drawn(2, 0))


def test_an_agent_acts_on_what_it_was_trained_on_whatever_is_shown(phantoms: SegmentationDataset, agent: PA3C) -> None:
    session = Session(phantoms, 3, Rules(observation="masked", horizon=3))
    session.act(Actor("tiny", agent), to_the_end=True)
    env = PixelSegEnv(phantoms, horizon=3, observation="stacked", observe_time=True)
    seen, _ = env.reset(options={"index": 3})
    for t in range(3):
        action, _ = agent.predict(seen)
        assert np.array_equal(session.actions[t], action)
        seen, *_ = env.step(action)


def test_an_agents_thoughts(phantoms: SegmentationDataset, agent: PA3C) -> None:
    session = Session(phantoms, 0, Rules(horizon=3))
    found = session.thoughts(Actor("tiny", agent))
    assert found.keep is not None
    assert found.value is not None
    assert found.value.shape == found.keep.shape == (SIDE, SIDE)
    assert found.entropy is not None
    assert np.allclose(found.entropy, entropy(found.keep))
    assert found.seen is not None
    assert found.seen.shape == (1, 16, 16)
    assert found.windows is not None
    assert found.windows.tolist() == [[0, 0, SIDE]]
    assert session.thoughts("flip").keep is None
    assert entropy(np.array([0, 0.5, 1], np.float32)).tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_agents_that_the_lab_cannot_show_are_refused(phantoms: SegmentationDataset) -> None:
    colours = SegmentationDataset.from_arrays(
        np.full((2, 3, SIDE, SIDE), 0.5, np.float32), np.ones((2, SIDE, SIDE), bool)
    )
    agent = DQN(PixelSegVectorEnv(1, colours), width=0.03, device="cpu")
    with pytest.raises(OptionError, match="3 channel"):
        Session(phantoms).act(Actor("rgb", agent))
    adds = Actor("adds", PixelRL(PixelSegVectorEnv(1, phantoms, transition="additive"), width=0.03, device="cpu"))
    session = Session(phantoms)
    with pytest.raises(OptionError, match="choose the transition additive"):
        session.act(adds)
    session.change(transition="additive")
    session.act(adds)
    assert session.thoughts(adds).value is not None
    both = load_dataset("phantom", split="all", size=SIDE, count=1, labels=2)
    two = Actor("two", PA3C(PixelSegVectorEnv(1, both), width=0.03, device="cpu"))
    with pytest.raises(OptionError, match=r"2 label\(s\), and this data set has 1"):
        Session(phantoms).act(two)
    session = Session(both)
    session.act(two)
    session.show_label(1)
    found = session.thoughts(two)
    assert found.keep is not None
    assert found.keep.shape == found.value.shape == (SIDE, SIDE)
