"""Which image an episode shows, how long it lasts, and what tells and sets it between episodes."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv
from pixelseg_env.draws import Order
from tests.helpers.env import assert_same, small_set

KEEP = np.ones((12, 9), np.int8)


def drawn(env: Any, episodes: int, seed: int | None = None) -> list[int]:
    return [env.reset(seed=seed if i == 0 else None)[1]["index"] for i in range(episodes)]


# ------------------------------------------------------------------------------------------------ images


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 9), batch=st.integers(1, 5), epochs=st.integers(1, 4), seed=st.integers(0, 1000))
def test_an_epoch_holds_every_image_once(count: int, batch: int, epochs: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((100, batch)) < 0.6
    for name in ("shuffled", "sequential"):
        order, generators = Order(name, count), [np.random.default_rng(seed + i) for i in range(batch)]
        images: list[int] = []
        for mask in masks:
            images += order.draw(generators, mask)[mask].tolist()
            if len(images) >= count * epochs:
                break
        for epoch in range(epochs):
            part = images[epoch * count : (epoch + 1) * count]
            assert sorted(part) == list(range(len(part))) or len(part) < count
            if name == "sequential":
                assert part == list(range(len(part)))


def test_an_order_of_each_epoch_and_none_by_default() -> None:
    env = PixelSegEnv(small_set(), order="shuffled")
    first = drawn(env, 18, seed=3)
    assert [sorted(first[i : i + 6]) for i in (0, 6, 12)] == [list(range(6))] * 3
    assert len({tuple(first[i : i + 6]) for i in (0, 6, 12)}) == 3
    assert drawn(env, 18, seed=3) == first, "a seed begins a new epoch"
    assert drawn(env, 18, seed=4) != first
    assert drawn(PixelSegEnv(small_set(), order="sequential"), 8, seed=3) == [0, 1, 2, 3, 4, 5, 0, 1]
    independent = np.random.default_rng(np.random.SeedSequence(3))
    reference = [int(independent.integers(6)) for _ in range(18)]
    assert drawn(PixelSegEnv(small_set()), 18, seed=3) == reference, "draws of the default are what they were"


def test_a_named_image_is_none_of_an_epoch() -> None:
    for name in ("shuffled", "sequential"):
        env = PixelSegEnv(small_set(), order=name)
        images = drawn(env, 3, seed=0)
        assert env.reset(options={"index": 2})[1]["index"] == 2
        assert sorted(images + drawn(env, 3)) == list(range(6))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_batch_shares_an_epoch_under_autoreset(mode: str) -> None:
    data = small_set(24)
    for name in ("shuffled", "sequential"):
        env = PixelSegVectorEnv(4, data, horizon=1, autoreset_mode=mode, order=name)
        seen = env.reset(seed=0)[1]["index"].tolist()
        while len(seen) < 48:
            *_, infos = env.step(np.ones((4, 12, 9), np.int8))
            seen += infos["index"][infos["step"] == 0].tolist()
        assert set(Counter(seen).values()) == {2}
        assert set(Counter(seen[:24]).values()) == {1}
        assert (seen == [*range(24), *range(24)]) == (name == "sequential")


def test_copies_go_on_apart() -> None:
    env = PixelSegEnv(small_set(), order="shuffled")
    drawn(env, 2, seed=0)
    twin = copy.deepcopy(env)
    assert drawn(env, 10) == drawn(twin, 10)


def test_wrong_orders() -> None:
    with pytest.raises(OptionError, match="Did you mean 'shuffled'"):
        PixelSegEnv(small_set(), order="shuffle")


# ------------------------------------------------------------------------------------------------ horizons


def lengths(env: Any, episodes: int, seed: int | None = None) -> list[int]:
    return [env.reset(seed=seed if i == 0 else None)[1]["horizon"] for i in range(episodes)]


def test_several_horizons_are_drawn_by_the_seed() -> None:
    env = PixelSegEnv(small_set(), horizon=(1, 3, 10))
    first = lengths(env, 300, seed=1)
    assert lengths(env, 300, seed=1) == first
    assert lengths(env, 300, seed=2) != first
    counts = Counter(first)
    assert set(counts) == {1, 3, 10}
    assert min(counts.values()) > 70
    several = PixelSegVectorEnv(2, small_set(), horizon=[1, 3, 10])
    assert several.reset(seed=1)[1]["horizon"][0] == first[0]
    env.reset(options={"horizon": 7})
    assert env.step(KEEP)[-1]["horizon"] == 7


def test_a_schedule_counts_episodes() -> None:
    env = PixelSegEnv(small_set(), horizon=lambda episode: 1 + episode // 2)
    assert lengths(env, 6, seed=0) == [1, 1, 2, 2, 3, 3]
    assert lengths(env, 2, seed=0) == [4, 4], "over the environment's life"
    several = PixelSegVectorEnv(2, small_set(), horizon=lambda episode: 1 + episode, autoreset_mode="SameStep")
    found = several.reset(seed=0)[1]["horizon"].tolist()
    for _ in range(3):
        *_, infos = several.step(np.ones((2, 12, 9), np.int8))
        found += infos["horizon"].tolist()
    assert found == [1, 1, 2, 2, 2, 2, 3, 3]
    with pytest.raises(OptionError, match="horizon=0: expected a whole number"):
        PixelSegEnv(small_set(), horizon=lambda episode: 0).reset(seed=0)


@pytest.mark.parametrize("horizon", [(), (1, 0), "10", [2, 2.5], None, {1: 2}])
def test_horizons_are_checked(horizon: Any) -> None:
    for make in (PixelSegEnv, PixelSegVectorEnv):
        with pytest.raises(OptionError, match="horizon"):
            make(dataset=small_set(), horizon=horizon)
    env = PixelSegEnv(small_set(), horizon=4)
    with pytest.raises(OptionError, match="horizon"):
        env.horizon = horizon
    assert env.horizon == 4


def test_it_can_be_set_between_episodes_however_it_is_wrapped() -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set(), horizon=3)
    env.reset(seed=0)
    env.set_wrapper_attr("horizon", 1)
    assert env.get_wrapper_attr("horizon") == 1
    assert [env.step(KEEP)[2] for _ in range(3)] == [False, False, True], "the episode that runs stays as it is"
    env.reset()
    assert env.step(KEEP)[2]
    pytest.importorskip("stable_baselines3")
    from pixelseg_env.views import PixelVecEnv

    cells = PixelVecEnv(1, dataset=small_set(), horizon=3)
    cells.set_attr("horizon", 1)
    cells.reset()
    assert cells.step(np.ones(cells.num_envs, int))[2].all()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_under_autoreset_it_is_that_of_a_sync_vector_env(mode: str) -> None:
    options = {"dataset": small_set(), "horizon": 1}
    ours = PixelSegVectorEnv(3, autoreset_mode=mode, **options)
    modes = {member.value: member for member in gym.vector.AutoresetMode}
    theirs = SyncVectorEnv([lambda: gym.make("PixelSegEnv-v0", **options)] * 3, autoreset_mode=modes[mode])
    actions = np.ones((3, 12, 9), np.int8)
    for env in (ours, theirs):
        env.reset(seed=0)
    for t in range(12):
        if t in (1, 4):
            for env in (ours, theirs):
                env.set_attr("horizon", 2 if t == 1 else [1, 2, 3])
            assert ours.get_attr("horizon") == theirs.get_attr("horizon")
        mine, their = ours.step(actions), theirs.step(actions)
        for k in (0, 1, 2):
            assert_same(mine[k], their[k])
        assert_same(mine[4]["horizon"], their[4]["horizon"])
        assert_same(mine[4]["index"], their[4]["index"])


# ------------------------------------------------------------------------------------------------ questions


def test_seeds_attributes_and_calls_are_those_of_a_sync_vector_env() -> None:
    options = {"num_envs": 3, "dataset": small_set(), "render_mode": "rgb_array"}
    ours = gym.make_vec("PixelSegEnv-v0", **options)
    theirs = gym.make_vec("PixelSegEnv-v0", **options, vectorization_mode="sync")
    assert len(ours.np_random_seed) == 3
    for seed in (5, [9, None, 2]):
        ours.reset(seed=seed)
        theirs.reset(seed=seed)
        assert ours.np_random_seed == theirs.np_random_seed
    for one, other in zip(ours.np_random, theirs.np_random, strict=True):
        assert one.bit_generator.state == other.bit_generator.state
    for name in ("transition", "observation", "horizon", "np_random_seed", "dataset", "action_space", "observe_time"):
        assert ours.get_attr(name) == theirs.get_attr(name), name
    for name in ("render", "action_masks"):
        assert_same(list(ours.call(name)), list(theirs.call(name)))
    with pytest.raises(AttributeError):
        ours.get_attr("horizn")
    with pytest.raises(AttributeError):
        ours.set_attr("transition", "restorable")
    with pytest.raises(AttributeError, match=r"no such attribute\. Did you mean 'horizon'"):
        ours.set_attr("horizn", 2)
    with pytest.raises(OptionError, match="a list of 3, one per image, got 2"):
        ours.set_attr("horizon", [1, 2])
    with pytest.raises(OptionError, match="the images share it"):
        ours.set_attr("render_mode", [None, None, "rgb_array"])
    with pytest.raises(OptionError, match="stepped together"):
        ours.call("step", KEEP)
