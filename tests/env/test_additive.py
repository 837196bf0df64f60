"""The transition "additive" on the same core, its rewards, and PixelRL, which learns on it."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorWrapper
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical as TorchCategorical

from pixelseg_agents import AC, DQN, PA3C, PixelRL, Supervised
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.learning.distributions import Bernoulli, Categorical
from pixelseg_agents.networks import PA3CNetwork, parameter_count
from pixelseg_agents.references import KeepAll, Oracle, Otsu
from pixelseg_env import ActionError, OptionError, PixelSegEnv, PixelSegVectorEnv
from pixelseg_env.rewards import cross_entropy, sign, squared_error
from tests.helpers.env import small_set

AMOUNTS = (-1.0, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 1.0)  # of the publication's ablation
ADDITIVE: dict[str, Any] = {"transition": "additive", "observation": "stacked", "horizon": 4}


def start_maps(data: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((len(data), *data.map_shape), dtype=np.float32)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("observation", ["masked", "stacked"])
@pytest.mark.parametrize("reward", ["squared_error", "cross_entropy", "dice_gain", "sign", "balanced"])
def test_a_trajectory_by_the_definition(backend: str, observation: str, reward: str) -> None:
    data = small_set(6, channels=2, height=8, width=9)
    start = start_maps(data)
    options = ADDITIVE | {"observation": observation, "reward": reward, "start": start}
    env = PixelSegVectorEnv(3, data, backend=backend, **options)
    single = PixelSegEnv(data, **options)
    seen, info = env.reset(seed=5)
    index, probability = info["index"], start[info["index"]].copy()
    images, targets = data.batch(index)
    alone, alone_info = single.reset(options={"index": int(index[1])})
    rng = np.random.default_rng(1)
    for _ in range(4):
        action = rng.integers(0, 8, (3, 8, 9)).astype(np.int8)
        before = probability
        probability = np.clip(probability + np.array(AMOUNTS, np.float32)[action], 0, 1)
        seen, scalar, ended, _, info = env.step(torch.from_numpy(action) if backend == "torch" else action)
        alone, alone_reward, _, _, alone_info = single.step(action[1])
        np.testing.assert_array_equal(info["probability"], probability)
        np.testing.assert_array_equal(info["segmentation"], (probability >= 0.5).astype(np.uint8))
        shown = images * probability[:, None] if observation == "masked" else np.concatenate(
            [images, probability[:, None]], axis=1)  # fmt: skip
        np.testing.assert_array_equal(seen, shown)
        if reward == "squared_error":
            np.testing.assert_allclose(info["reward_map"], (before - targets) ** 2 - (probability - targets) ** 2)
        np.testing.assert_array_equal(alone, np.asarray(seen)[1])
        # Logarithms of NumPy and torch differ in the last bit; everything else is equal.
        tolerance = 1e-6 if reward == "cross_entropy" else 0
        np.testing.assert_allclose(alone_info["reward_map"], np.asarray(info["reward_map"])[1], tolerance, tolerance)
        assert alone_reward == pytest.approx(float(scalar[1]), abs=1e-6)
        assert alone_info["dice"] == float(info["dice"][1])
    assert bool(ended.all())


UNIT = st.floats(0, 1, width=32)


@given(st.lists(UNIT, min_size=2, max_size=6), st.integers(0, 1))
@settings(deadline=None)
def test_rewards_add_up_to_what_the_episode_changed(maps: list[float], actual: int) -> None:
    steps = [np.full((1, 1), value, np.float32) for value in maps]
    target = np.full((1, 1), actual, np.uint8)
    pairs = list(itertools.pairwise(steps))
    total = sum(float(squared_error(a, b, target)[0, 0]) for a, b in pairs)
    assert total == pytest.approx((maps[0] - actual) ** 2 - (maps[-1] - actual) ** 2, abs=1e-5)
    likelihood = np.clip([1 - abs(value - actual) for value in (maps[0], maps[-1])], 1e-3, 1 - 1e-3)
    total = sum(float(cross_entropy(a, b, target)[0, 0]) for a, b in pairs)
    assert total == pytest.approx(np.log(likelihood[1]) - np.log(likelihood[0]), abs=1e-4)
    for a, b in pairs:
        assert float(sign(a, b, target)[0, 0]) == np.sign(squared_error(a, b, target)[0, 0])


def test_it_is_a_gymnasium_environment_and_starts_from_ones_by_default() -> None:
    env = PixelSegEnv(small_set(4), **ADDITIVE)
    check_env(env, skip_render_check=True)
    assert env.action_space == gym.spaces.MultiDiscrete(np.full(env.task.map_shape, 8), dtype=np.int8)
    assert (env.reset(seed=0)[1]["probability"] == 1).all()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_every_episode_starts_from_its_images_map(mode: str) -> None:
    data = small_set(6)
    start = start_maps(data)
    env = PixelSegVectorEnv(2, data, start=start, autoreset_mode=mode, **ADDITIVE)
    _, info = env.reset(seed=0, options={"horizon": np.array([1, 2])})
    zero = np.full((2, *data.map_shape), 3, np.int8)
    for _ in range(3):
        fresh = info["step"] == 0
        np.testing.assert_array_equal(info["probability"][fresh], start[info["index"][fresh]])
        ended = info["step"] >= info["horizon"]
        if mode == "Disabled" and ended.any():
            _, info = env.reset(options={"reset_mask": ended})
        else:
            *_, info = env.step(zero)


def test_wrong_use_is_named() -> None:
    data = small_set(4)
    start = start_maps(data)
    with pytest.raises(OptionError, match="need transition='additive'"):
        PixelSegEnv(data, start=start)
    for wrong in (start[:3], start[..., :-1], (start > 0.5).astype(np.uint8)):
        with pytest.raises(OptionError, match="one map per image"):
            PixelSegEnv(data, start=wrong, **ADDITIVE)
    for wrong in (start * 2, start * np.nan):
        with pytest.raises(OptionError, match="from 0 to 1"):
            PixelSegEnv(data, start=wrong, **ADDITIVE)
    env = PixelSegEnv(data, start=start, **ADDITIVE)
    env.reset(seed=0)
    for wrong in (8, -1):
        with pytest.raises(ActionError, match=f"0 to 7, found {wrong}"):
            env.step(np.full(data.map_shape, wrong, np.int8))
    vector = PixelSegVectorEnv(2, data, **ADDITIVE)
    for kind in (PA3C, AC, DQN, Supervised):
        with pytest.raises(OptionError, match="got 'additive'"):
            kind(vector)
    with pytest.raises(OptionError, match="transition='additive', got 'absorbing'"):
        PixelRL(PixelSegVectorEnv(2, data))


# ------------------------------------------------------------------------------------------------ policies


def test_policies_are_torchs_own_distributions() -> None:
    rng = torch.Generator().manual_seed(0)
    for policy, shape, reference in (
        (Bernoulli(), (3, 4, 5), lambda logits: TorchBernoulli(logits=logits)),
        (Categorical(8), (3, 8, 4, 5), lambda logits: TorchCategorical(logits=logits.movedim(-3, -1))),
    ):
        logits = 2 * torch.randn(shape, generator=rng)
        action = policy.sample(logits, rng)
        theirs = reference(logits)
        torch.testing.assert_close(policy.log_probability(logits, action), theirs.log_prob(action.float()))
        torch.testing.assert_close(policy.entropy(logits), theirs.entropy())
        many = torch.stack([policy.sample(logits, rng) for _ in range(3000)]).float()
        likeliest = policy.mode(logits).float()
        share = (many == likeliest).float().mean(0)
        expected = theirs.log_prob(likeliest).exp()
        torch.testing.assert_close(share, expected, atol=0.05, rtol=0)
        assert (expected >= 1 / 8).all()


# ------------------------------------------------------------------------------------------------ PixelRL


def test_pixelrl_has_pa3cs_network_with_eight_actions() -> None:
    more = parameter_count(PA3CNetwork(actions=8)) - parameter_count(PA3CNetwork())
    assert more == 7 * 4 * (128 + 1), "seven more outputs at each of 2 x 2 positions"
    logits, values = PA3CNetwork(2, 0.125, actions=8)(torch.rand(3, 2, 20, 17))
    assert (logits.shape, values.shape) == ((3, 8, 20, 17), (3, 20, 17))


SIZE, BETTER = 24, 0.2


def phantoms(split: str, **options: Any) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=8, split=split, size=SIZE, count=150, **options)


@pytest.fixture(scope="module")
def unet() -> Supervised:
    torch.set_num_threads(1)
    return Supervised(phantoms("train"), seed=0, width=0.125, learning_rate=3e-3, device="cpu").learn(15)


def score(agent: Any, **options: Any) -> float:
    return float(evaluate(agent, phantoms("test", **options).unwrapped).metrics["DICE"].mean())


class SwappedActions(VectorWrapper):
    """What adds takes away."""

    def step(self, actions: Any) -> Any:
        return self.env.step(7 - actions)


class Idle(PixelRL):
    """The optimizer never steps."""

    def _descend(self, loss: Tensor) -> float:
        return 0.0


def refined(unet: Supervised, reward: str, kind: Any = PixelRL, wrapper: Any = None, updates: int = 180) -> float:
    """Dice of the refined maps, as soon as it is better by far than that of the coarse ones or after all updates."""
    options = {"transition": "additive", "observation": "stacked", "horizon": 2, "start": unet.probability}
    env = phantoms("train", reward=reward, **options)
    bar = score(unet, horizon=1) + BETTER
    kind = functools.partial(kind, seed=0, width=0.125, learning_rate=3e-3, horizons=(1, 2), device="cpu")
    agent = kind(wrapper(env) if wrapper else env)
    return score(
        agent.learn(updates, callback=lambda one: bool(one.updates % 30) or score(one, **options) <= bar), **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["squared_error", "cross_entropy"])
def test_pixelrl_improves_its_coarse_maps(unet: Supervised, reward: str) -> None:
    found = refined(unet, reward)
    assert found > score(unet, horizon=1) + BETTER
    assert found > max(score(Otsu(), horizon=1), score(KeepAll(), horizon=1)) + 0.2


@pytest.mark.parametrize("horizon", [1, 3])
def test_references_decide_as_under_any_other_transition(horizon: int) -> None:
    """The bar of every PixelRL run: what Otsu and "keep everything" have, not what amounts number 0 and 1 do."""
    plain = gym.make_vec("PixelSegEnv-v0", num_envs=4, size=16, count=20, split="test").unwrapped
    half = np.full((8, 16, 16), 0.5, np.float32)
    rules = {"transition": "additive", "observation": "stacked", "start": lambda images: half[: len(images)]}
    added = gym.make_vec("PixelSegEnv-v0", num_envs=4, size=16, count=20, split="test", **rules).unwrapped
    for reference in (KeepAll, Otsu, Oracle):
        one, two = (evaluate(reference.playing(env), env, horizon).metrics["DICE"] for env in (plain, added))
        np.testing.assert_array_equal(one, two)
        assert one.mean() > 0.1


@pytest.mark.slow  # wrong rewards and idle optimizers are tried with PA3C each time (tests/agents/test_learning)
def test_a_broken_pixelrl_does_not(unet: Supervised) -> None:
    bar = score(unet, horizon=1) + BETTER
    assert refined(unet, "squared_error", Idle, updates=5) < bar  # more would change nothing
    assert refined(unet, "squared_error", wrapper=SwappedActions) < bar
