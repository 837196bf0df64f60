"""Rewards: their formulas, what they add up to, and rewards of third parties."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelseg_env import OptionError, balanced, metrics, register_reward, registered_rewards, rewards
from pixelseg_env.dynamics import TRANSITIONS
from pixelseg_env.rewards import registry, resolve_reward, squared_error
from tests.helpers.env import REWARDS, random_actions, small_set

Map = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_REWARDS", dict(registry._REWARDS))
    return


def maps_of(seed: int, shape: tuple[int, ...], steps: int, transition: str) -> tuple[list[Map], Map]:
    """f(0), ..., f(T) under random actions, and a random target."""
    rng = np.random.default_rng(seed)
    maps = [np.ones(shape, np.uint8)]
    for _ in range(steps):
        action = (rng.random(shape) < rng.random()).astype(np.uint8)
        maps.append(TRANSITIONS[transition](maps[-1], action))
    return maps, (rng.random(shape) < rng.random()).astype(np.uint8)


cases = given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    steps=st.integers(1, 6),
    transition=st.sampled_from(["absorbing", "restorable"]),
)


@settings(max_examples=60, deadline=None)
@cases
def test_eq12_by_its_formula_and_telescoping(seed: int, shape: tuple[int, ...], steps: int, transition: str) -> None:
    maps, target = maps_of(seed, shape, steps, transition)
    error = [(f.astype(float) - target) ** 2 for f in maps]
    total = np.zeros(shape)
    for t in range(steps):
        reward = rewards.squared_error(maps[t], maps[t + 1], target)
        assert reward.dtype == np.float32
        np.testing.assert_array_equal(reward, error[t] - error[t + 1])
        total += reward
    np.testing.assert_array_equal(total, error[0] - error[-1])


@settings(max_examples=40, deadline=None)
@cases
def test_other_rewards_by_their_formulas(seed: int, shape: tuple[int, ...], steps: int, transition: str) -> None:
    maps, target = maps_of(seed, shape, steps, transition)
    gained = np.zeros(shape[0])
    for before, after in itertools.pairwise(maps):
        plain = rewards.squared_error(before, after, target)
        np.testing.assert_array_equal(rewards.sign(before, after, target), np.sign(plain))
        np.testing.assert_array_equal(balanced(3.5)(before, after, target), np.where(target == 1, 3.5 * plain, plain))
        gain = rewards.dice_gain(before, after, target)
        expected = metrics.dice(after, target) - metrics.dice(before, target)
        assert gain.dtype == np.float32
        np.testing.assert_allclose(gain.mean(axis=(-2, -1)), expected, atol=1e-6)
        assert (gain == gain[:, :1, :1]).all()
        gained += gain[:, 0, 0]
    np.testing.assert_allclose(gained, metrics.dice(maps[-1], target) - metrics.dice(maps[0], target), atol=1e-5)


@pytest.mark.parametrize("name", REWARDS)
def test_a_batch_is_its_images(name: str) -> None:
    maps, target = maps_of(3, (4, 9, 11), 2, "restorable")
    function = resolve_reward(name)
    batch = function(maps[1], maps[2], target)
    assert batch.dtype == np.float32
    assert batch.flags.writeable, "it is the caller's own"
    assert np.unique(batch).size > 1
    for i in range(4):
        np.testing.assert_array_equal(batch[i], function(maps[1][i], maps[2][i], target[i]))


def test_registered_balanced_has_the_documented_factor() -> None:
    one, zero = np.ones((1, 1), np.uint8), np.zeros((1, 1), np.uint8)
    assert resolve_reward("balanced")(one, zero, one) == -10
    assert resolve_reward("balanced")(one, zero, zero) == 1
    assert balanced(0.5)(one, zero, one) == -0.5
    for wrong in (0, -1, float("nan")):
        with pytest.raises(OptionError, match="foreground_weight"):
            balanced(wrong)


def ignore_background(previous: Map, current: Map, target: Map) -> NDArray[np.float32]:
    return rewards.squared_error(previous, current, target) * target


def rewards_of_both(reward: object) -> tuple[list[float], list[float], NDArray[np.float32]]:
    data = small_set()
    single = gym.make("PixelSegEnv-v0", dataset=data, reward=reward, horizon=3)
    several = gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=data, reward=reward, horizon=3)
    single.reset(seed=0, options={"index": 2})
    several.reset(seed=0, options={"index": 2})
    one, many = [], []
    for action in random_actions((12, 9), 3):
        _, r, _, _, info = single.step(action)
        _, rs, _, _, infos = several.step(np.stack([action, action]))
        np.testing.assert_array_equal(infos["reward_map"][1], info["reward_map"])
        one.append(r)
        many.append(rs[1])
    return one, many, info["reward_map"]


def test_third_party_rewards_by_name_and_as_functions() -> None:
    register_reward("mine", ignore_background)
    assert "mine" in registered_rewards()
    by_name, vector_by_name, _ = rewards_of_both("mine")
    by_function, vector_by_function, _ = rewards_of_both(ignore_background)
    assert by_name == by_function == vector_by_name == vector_by_function
    assert by_name != rewards_of_both("squared_error")[0]
    with pytest.raises(OptionError, match="registered already"):
        register_reward("mine", ignore_background)
    register_reward("mine", rewards.squared_error, overwrite=True)
    assert rewards_of_both("mine")[0] == rewards_of_both("squared_error")[0]
    with pytest.raises(OptionError, match="expected a function"):
        register_reward("other", 3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"reward='squared_eror'.*'balanced'.*Did you mean 'squared_error'"):
        gym.make("PixelSegEnv-v0", reward="squared_eror", size=16)


def test_any_number_type_becomes_float32() -> None:
    for kind in (np.float64, np.int8, np.bool_):
        _, _, reward_map = rewards_of_both(lambda p, c, g, kind=kind: ignore_background(p, c, g).astype(kind))
        assert reward_map.dtype == np.float32


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda p, c, g: np.float32(1), r"expected a map of shape \(.*12, 9\), the function returned \(\)"),
        (lambda p, c, g: g[..., :4].astype(np.float32), r"returned \(.*12, 4\)"),
        (lambda p, c, g: np.concatenate([g, g], axis=-1), r"returned \(.*12, 18\)"),
        (lambda p, c, g: np.full(g.shape, "much"), "map of numbers"),
        (lambda p, c, g: None, "map of numbers"),
    ],
)
def test_a_wrong_result_is_refused(result: object, message: str) -> None:
    data = small_set()
    single = gym.make("PixelSegEnv-v0", dataset=data, reward=result)
    several = gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=data, reward=result)
    for env, shape in ((single, (12, 9)), (several, (2, 12, 9))):
        env.reset(seed=0)
        with pytest.raises(OptionError, match=message):
            env.step(np.ones(shape, np.int8))


def test_a_reward_cannot_write_to_maps_or_target() -> None:
    for argument in range(3):

        def cheat(*maps: Map, argument: int = argument) -> NDArray[np.float32]:
            maps[argument][...] = 0
            return np.zeros(maps[0].shape, np.float32)

        for env in (
            gym.make("PixelSegEnv-v0", dataset=small_set(), reward=cheat),
            gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=small_set(), reward=cheat),
        ):
            env.reset(seed=0)
            with pytest.raises(ValueError, match="read-only"):
                env.step(np.ones(env.action_space.shape, np.int8))


def test_a_reward_may_reuse_its_buffer_or_return_a_broadcast() -> None:
    buffers: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def reusing(previous: Map, current: Map, target: Map) -> NDArray[np.float32]:
        buffer = buffers.setdefault(target.shape, np.empty(target.shape, np.float32))
        buffer[...] = rewards.squared_error(previous, current, target)
        return buffer

    for env in (
        gym.make("PixelSegEnv-v0", dataset=small_set(), reward=reusing, horizon=5),
        gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=small_set(), reward=reusing, horizon=5),
    ):
        env.reset(seed=0)
        first = env.step(np.zeros(env.action_space.shape, np.int8))[4]["reward_map"]
        kept = first.copy()
        assert kept.any()
        env.step(np.ones(env.action_space.shape, np.int8))
        np.testing.assert_array_equal(first, kept)

    env = gym.make_vec(
        "PixelSegEnv-v0", num_envs=2, dataset=small_set(), horizon=1,
        reward=lambda p, c, g: np.broadcast_to(np.float32(0.5), g.shape),
    )  # fmt: skip
    env.reset(seed=0)
    ones = np.ones((2, 12, 9), np.int8)
    assert env.step(ones)[1].tolist() == [0.5, 0.5]
    assert env.step(ones)[1].tolist() == [0, 0]  # autoreset writes zeros into the map


def test_names_must_be_text_and_weights_numbers() -> None:
    for name in (3, "", "a:b"):
        with pytest.raises(OptionError, match="non-empty string without a colon"):
            register_reward(name, squared_error)  # type: ignore[arg-type]
    for weight in (0, -1, float("inf"), "a"):
        with pytest.raises(OptionError, match="foreground_weight"):
            balanced(weight)  # type: ignore[arg-type]


def test_environments_can_be_pickled_and_the_factory_itself_is_the_default() -> None:
    env = gym.make("PixelSegEnv-v0", reward=balanced, size=16, count=20)
    twin = pickle.loads(pickle.dumps(env))
    for one in (env, twin):
        one.reset(seed=3)
    action = np.zeros((16, 16), np.int8)
    assert env.step(action)[1] == twin.step(action)[1]
    assert resolve_reward(balanced) == resolve_reward("balanced")


def test_rewards_must_be_finite() -> None:
    env = gym.make("PixelSegEnv-v0", reward=lambda p, c, t: np.full(t.shape, np.nan), size=16, count=20)
    env.reset(seed=0)
    with pytest.raises(OptionError, match="finite"):
        env.step(env.action_space.sample())
