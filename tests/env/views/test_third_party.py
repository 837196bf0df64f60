"""What third-party learners ask of the views: state, statistics, evaluation by image, masks, amounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize
from torchrl.envs import GymEnv, GymWrapper, TransformedEnv, default_info_dict_reader
from torchrl.envs.utils import check_env_specs
from torchrl.record import PixelRenderTransform

from pixelseg_agents.evaluation import evaluate
from pixelseg_env import ActionError, OptionError, PixelSegEnv, PixelSegVectorEnv
from pixelseg_env.views import (
    FlatActions,
    ImageEvalCallback,
    PixelPolicy,
    PixelSegParallelEnv,
    PixelSegTorchRLEnv,
    PixelTianshouEnv,
    PixelVecEnv,
    PixelVectorEnv,
)
from pixelseg_env.views.image_eval import image_dice
from tests.helpers.env import random_actions, small_set

SMALL: dict[str, Any] = {"dataset": "phantom", "size": 16, "count": 20}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Counts:
    """Keeps a pixel for as many steps as its number in the batch says: needs state and starts, each per pixel."""

    def predict(self, cells: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True) -> Any:
        count = np.zeros(len(cells)) if state is None else np.where(episode_start, 0, state[0])
        return (count < np.arange(len(cells)) % 3).astype(int), (count + 1,)


def test_state_and_starts_reach_every_pixel() -> None:
    policy, observation = PixelPolicy(Counts(), view=3), np.zeros((2, 1, 3, 3), np.float32)
    limit = np.arange(18).reshape(2, 3, 3) % 3
    state = None
    for step, starts in enumerate([[True, True], [False, False], [True, False]]):
        actions, state = policy.predict(observation, state, np.array(starts))
        count = np.array([0, 2] if step == 2 else [step, step])[:, None, None]
        np.testing.assert_array_equal(actions, count < limit)


def trained(env: Any, cls: Any = PPO, policy: str = "MlpPolicy") -> Any:
    return cls(policy, env, n_steps=2, batch_size=256, seed=0, device="cpu").learn(2 * env.num_envs)


def test_a_recurrent_model_decides_as_in_its_own_environment() -> None:
    env = PixelVecEnv(1, view=3, horizon=3, observation="stacked", **SMALL)
    model, plain = (
        trained(env, RecurrentPPO, "MlpLstmPolicy"),
        PixelSegVectorEnv(1, horizon=3, observation="stacked", **SMALL),
    )
    env.seed(1)
    cells, (observation, _) = env.reset(), plain.reset(seed=1)
    own, starts = None, np.ones(256, bool)
    state, fresh = None, np.ones(1, bool)
    policy = PixelPolicy(model, 3)
    for _ in range(3):
        expected, own = model.predict(cells, own, starts, deterministic=True)
        found, state = policy.predict(observation, state, fresh)
        np.testing.assert_array_equal(found.reshape(-1), expected)
        cells, *_ = env.step(expected)
        observation, *_ = plain.step(found)
        starts, fresh = np.zeros(256, bool), np.zeros(1, bool)
    assert state is not None
    assert np.abs(state[1][0]).max() > 0, "an LSTM's state went through"


@pytest.mark.parametrize(
    "wrap",
    [
        VecNormalize,
        lambda env: VecFrameStack(env, 3, channels_order="first"),
        lambda env: VecNormalize(VecFrameStack(env, 3, channels_order="first")),
        lambda env: VecFrameStack(VecNormalize(env), 3, channels_order="first"),
    ],
    ids=["normalized", "stacked", "stacked, then normalized", "normalized, then stacked"],
)
def test_the_model_sees_what_its_wrappers_made(wrap: Any) -> None:
    env = wrap(PixelVecEnv(1, view=3, horizon=3, **SMALL))
    model = trained(env)
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        normalize.training = False
    seen: list[Any] = []
    choose = model.predict
    model.predict = lambda cells, *others, **more: seen.append(cells.copy()) or choose(cells, *others, **more)
    env.seed(1)
    cells, expected = env.reset().copy(), []
    plain = PixelSegVectorEnv(1, horizon=3, **SMALL)
    observation, _ = plain.reset(seed=1)
    policy, state = PixelPolicy(model, 3), None
    for step in range(3):
        expected.append(cells)
        found, state = policy.predict(observation, state, np.array([step == 0]))
        cells = env.step(found.reshape(-1))[0].copy()
        observation, *_ = plain.step(found)
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_normalization_can_be_given_or_left_out() -> None:
    model = trained(VecNormalize(PixelVecEnv(1, view=3, **SMALL)))
    assert PixelPolicy(model, 3)._normalize is not None
    assert PixelPolicy(model, 3, normalize=False)._normalize is None
    assert PixelPolicy(Counts(), 3, normalize=model.get_vec_normalize_env())._normalize is not None
    with pytest.raises(OptionError, match="expected a VecNormalize"):
        PixelPolicy(model, 3, normalize="yes")
    with pytest.raises(OptionError, match="trained on windows of shape"):
        PixelPolicy(model, 5).predict(np.zeros((1, 1, 8, 8), np.float32))


def test_more_channels_are_not_taken_for_frames(tmp_path: Path) -> None:
    """A model of another observation would otherwise be played on a stack of what it never saw."""
    plain = np.zeros((1, 1, 8, 8), np.float32)
    for options in ({"observation": "stacked"}, {"observe_time": True}):
        model = trained(PixelVecEnv(1, view=3, **(SMALL | options)))
        with pytest.raises(OptionError, match="same view, observation and observe_time"):
            PixelPolicy(model, 3).predict(plain)
    stacked = trained(VecFrameStack(PixelVecEnv(1, view=3, **SMALL), 3, channels_order="first"))
    stacked.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model")
    with pytest.raises(OptionError, match="loaded without it give frames="):
        PixelPolicy(loaded, 3).predict(plain)
    found, expected = PixelPolicy(loaded, 3, frames=3).predict(plain)[0], PixelPolicy(stacked, 3).predict(plain)[0]
    np.testing.assert_array_equal(found, expected)


def test_columns_are_not_stacked() -> None:
    with pytest.raises(OptionError, match="channels_order"):
        VecNormalize(VecFrameStack(PixelVecEnv(1, **SMALL), 3)).reset()
    stacked = VecFrameStack(PixelVecEnv(1, view=5, **SMALL), 3, channels_order="first")
    assert stacked.reset().shape == (256, 3, 5, 5)


def test_statistics_are_of_all_images_and_say_so() -> None:
    with pytest.warns(UserWarning, match="one pixel's"):
        env = VecMonitor(PixelVecEnv(4, horizon=2, **SMALL))
    env.seed(0)
    env.reset()
    total = np.zeros(env.num_envs)
    for action in random_actions((4, 16, 16), 2):
        _, rewards, _, infos = env.step(action.reshape(-1))
        total += rewards
    assert {info["episode"]["l"] for info in infos} == {2}
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], total.mean(), atol=1e-5)
    assert total[-100:].mean() != pytest.approx(total.mean(), abs=1e-3), "the last hundred pixels would say otherwise"
    with pytest.warns(UserWarning, match="ImageEvalCallback"):
        evaluate_policy(trained(PixelVecEnv(1, horizon=1, **SMALL)), PixelVecEnv(1, horizon=1, **SMALL))


def test_images_are_scored_during_training_and_the_best_model_kept(tmp_path: Path) -> None:
    test = PixelSegVectorEnv(3, split="test", horizon=2, **SMALL)
    env = VecNormalize(PixelVecEnv(1, view=3, horizon=2, **SMALL))
    callback = ImageEvalCallback(test, eval_freq=2, best_model_save_path=tmp_path)
    model = PPO("MlpPolicy", env, n_steps=2, batch_size=256, seed=0, device="cpu").learn(8 * 256, callback=callback)
    assert [steps for steps, _ in callback.history] == [512, 1024, 1536, 2048]
    assert callback.best_dice == max(score for _, score in callback.history)
    restored = VecNormalize.load(str(tmp_path / "vecnormalize.pkl"), PixelVecEnv(1, view=3, **SMALL))
    best = PixelPolicy(PPO.load(tmp_path / "best_model", device="cpu"), 3, normalize=restored)
    assert evaluate(best, test).metrics["DICE"].mean() == pytest.approx(callback.best_dice)
    policy = PixelPolicy(model, 3)
    np.testing.assert_allclose(image_dice(policy, test), evaluate(policy, test).metrics["DICE"])
    with pytest.raises(OptionError, match="make_vec"):
        ImageEvalCallback(gym.make("CartPole-v1"))
    with pytest.raises(OptionError, match="eval_freq"):
        ImageEvalCallback(test, eval_freq=0)
    for own in (env, env.unwrapped.env):
        with pytest.raises(OptionError, match="another environment than the one that is trained on"):
            model.learn(256, callback=ImageEvalCallback(own))


def test_zeroed_pixels_have_one_action_left() -> None:
    env = PixelVecEnv(2, horizon=2, **SMALL)
    assert is_masking_supported(env)
    env.reset()
    assert env.action_masks().all()
    action = random_actions((512,), 1)[0]
    env.step(action)
    masks = get_action_masks(env)
    np.testing.assert_array_equal(masks, np.stack([np.ones(512), action], axis=1).astype(bool))
    env.step(action)
    assert env.action_masks().all(), "a new episode"
    trained(env, MaskablePPO)
    free = PixelVecEnv(1, transition="restorable", **SMALL)
    free.reset()
    free.step(np.zeros(256, int))
    assert free.action_masks().all()


def test_amounts_reach_the_views() -> None:
    options: dict[str, Any] = {"dataset": small_set(), "transition": "additive", "horizon": 2}
    sb3, cells, tensors = PixelVecEnv(2, **options), PixelVectorEnv(2, **options), PixelSegTorchRLEnv(2, **options)
    plain = PixelSegVectorEnv(2, autoreset_mode="SameStep", **options)
    assert sb3.action_space == cells.single_action_space == gym.spaces.Discrete(8)
    check_env_specs(tensors, seed=0)
    sb3.seed(3)
    tensors.set_seed(3)
    state = tensors.reset()
    for env in (cells, plain):
        env.reset(seed=3)
    sb3.reset()
    action = np.random.default_rng(0).integers(8, size=(2, 12, 9)).astype(np.int8)
    expected = plain.step(action)[4]["reward_map"]
    np.testing.assert_array_equal(sb3.step(action.reshape(-1))[1], expected.reshape(-1))
    np.testing.assert_array_equal(cells.step(action.reshape(-1))[1], expected.reshape(-1))
    state["action"] = torch.from_numpy(action)
    np.testing.assert_array_equal(tensors.step(state)["next", "reward_map"].numpy(), expected)


def test_pixels_of_a_gymnasium_vector_environment_are_those_of_sb3s() -> None:
    ours, theirs = PixelVectorEnv(2, view=3, horizon=2, **SMALL), PixelVecEnv(2, view=3, horizon=2, **SMALL)
    theirs.seed(5)
    np.testing.assert_array_equal(ours.reset(seed=5)[0], theirs.reset())
    for action in random_actions((512,), 4):
        seen, rewards, terminated, truncated, infos = ours.step(action)
        cells, expected, dones, others = theirs.step(action)
        for one, other in ((seen, cells), (rewards, expected), (terminated, dones)):
            np.testing.assert_array_equal(one, other)
        assert not truncated.any()
        if dones.any():
            np.testing.assert_array_equal(infos["final_obs"][300], others[300]["terminal_observation"])
    with pytest.raises(OptionError, match="leave it out"):
        PixelVectorEnv(1, backend="torch")


def test_torchrl_takes_maps_and_draws_them() -> None:
    env = GymWrapper(gym.make("PixelSegEnv-v0", horizon=2, **SMALL))
    assert env.action_spec.shape == (16, 16)
    check_env_specs(env, seed=0)
    frames = TransformedEnv(PixelSegTorchRLEnv(2, render_mode="rgb_array", **SMALL), PixelRenderTransform())
    rollout = frames.rollout(2)
    assert rollout["pixels"].shape[:2] == (2, 2)
    assert rollout["pixels"].dtype == torch.uint8
    assert rollout["pixels"].shape[-1] == 3
    with pytest.raises(OptionError, match="render_mode"):
        PixelSegTorchRLEnv(1, **SMALL).render()


def test_torchrl_makes_the_environment_by_name_and_reads_its_infos() -> None:
    env = GymEnv("PixelSegEnv-v0", horizon=3, labels=2, **SMALL).auto_register_info_dict()
    check_env_specs(env, seed=0)
    rollout = env.rollout(3)
    assert rollout["action"].shape == (3, 2, 16, 16)
    _, info = PixelSegEnv(labels=2, **SMALL).reset()
    assert set(info) <= set(rollout["next"].keys()), "every key"
    assert rollout["next", "step"].tolist() == [1, 2, 3]
    assert rollout["next", "dice"].dtype == torch.float64
    np.testing.assert_allclose(
        rollout["next", "reward_map"].mean((1, 2, 3)), rollout["next", "reward"][:, 0], atol=1e-6
    )
    some = GymWrapper(gym.make("PixelSegEnv-v0", horizon=2, **SMALL))
    some.set_info_dict_reader(default_info_dict_reader(["dice", "index"]))
    found = some.rollout(2)["next"]
    assert {"dice", "index"} <= set(found.keys())
    assert "target" not in found.keys()  # noqa: SIM118 (a TensorDict iterates its batch)


def test_numbers_of_infos_know_their_type_and_are_numbers() -> None:
    env = PixelSegEnv(horizon=1, **SMALL)
    _, info = env.reset(seed=0)
    for key in ("dice", "slice", "index", "step", "horizon"):
        assert isinstance(info[key], np.generic), key
        assert type(info[key].item()) is (float if key == "dice" else int)
    assert isinstance(info["dice"], float)
    assert env.dataset.cases[info["index"]]
    assert env.reset(options={"index": info["index"], "horizon": info["horizon"]})[1]["index"] == info["index"]


def test_a_function_of_windows_is_a_model() -> None:
    observation = np.random.default_rng(0).random((2, 1, 5, 4), dtype=np.float32)
    middle = PixelPolicy(lambda cells: torch.as_tensor(cells)[:, 0, 1, 1] > 0.5, view=3)
    actions, state = middle.predict(observation)
    np.testing.assert_array_equal(actions, observation[:, 0] > 0.5)
    assert actions.dtype == np.int8
    assert state is None


# ---------------------------------------------------------------------------------------------- Tianshou


def test_tianshous_view_steps_as_gymnasiums_and_hands_out_new_episodes() -> None:
    options: dict[str, Any] = {"view": 3, "horizon": 2, **SMALL}
    env, plain = PixelTianshouEnv(2, **options), PixelVectorEnv(2, **options)
    assert len(env) == env.env_num == len(env.action_space) == 512
    assert not env.is_async
    env.seed(5)
    seen, infos = env.reset()
    expected, told = plain.reset(seed=5)
    np.testing.assert_array_equal(seen, expected)
    assert infos[300] == {"dice": told["dice"][1]}
    everyone = np.arange(512)
    for step, action in enumerate(random_actions((512,), 4)):
        seen, rewards, terminated, truncated, infos = env.step(action, everyone)
        following, earned, ended, _, told = plain.step(action)
        np.testing.assert_array_equal(rewards, earned)
        np.testing.assert_array_equal(terminated, ended)
        assert not truncated.any()
        assert terminated.all() == (step % 2 == 1)
        assert infos[10] == {"dice": told["dice"][0]}
        last = np.stack(told["final_obs"]) if ended.all() else following
        np.testing.assert_array_equal(seen, last)
        if ended.all():
            fresh, infos = env.reset(env_id=everyone[7:9])
            np.testing.assert_array_equal(fresh, following[7:9])
            assert len(infos) == 2


def test_tianshous_view_refuses_some_of_the_pixels() -> None:
    env = PixelTianshouEnv(1, **SMALL)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.ones(256, int))
    env.reset()
    with pytest.raises(ActionError, match="all 256 cells in order, got 2"):
        env.step(np.ones(2, int), [0, 1])
    env.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.reset()


def _stepped(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """A view that has begun an episode, and a function that steps it."""
    if name == "flat":
        env: Any = FlatActions(PixelSegEnv(**options))
        env.reset(seed=0)
        return env, lambda: env.step(env.action_space.sample())
    if name == "pettingzoo":
        pytest.importorskip("pettingzoo")
        env = PixelSegParallelEnv(**options)
        env.reset(seed=0)
        return env, lambda: env.step(dict.fromkeys(env.agents or env.possible_agents, 1))
    if name == "torchrl":
        env = PixelSegTorchRLEnv(2, **options)
        first = env.reset()
        return env, lambda: env.step(env.rand_action(first))
    env = {"sb3": PixelVecEnv, "vector": PixelVectorEnv}[name](2, view=3, **options)
    env.reset()
    return env, lambda: env.step(np.ones(env.num_envs, int))


@pytest.mark.parametrize("name", ["flat", "pettingzoo", "torchrl", "sb3", "vector"])
def test_a_closed_view_says_so(name: str) -> None:
    env, step = _stepped(name, {"dataset": small_set(), "split": "all", "horizon": 2})
    step()
    env.close()
    with pytest.raises((gym.error.ClosedEnvironmentError, RuntimeError), match="closed"):
        step()


@pytest.mark.parametrize("view", [PixelVectorEnv, PixelTianshouEnv])
def test_windows_show_the_time(view: Any) -> None:
    env = view(2, view=3, dataset=small_set(), split="all", horizon=2, observe_time=True)
    seen = np.asarray(env.reset()[0])
    assert (seen[:, -1, 1, 1] == 0.5).all()
    cells = len(seen)
    seen = np.asarray(env.step(np.ones(cells, int))[0])
    assert (seen[:, -1, 1, 1] == 1).all(), "one step is left"


def test_eval_callback_is_told_that_its_episodes_are_pixels() -> None:
    env = PixelVecEnv(1, view=3, dataset=small_set(), split="all", horizon=1)
    model = PPO("MlpPolicy", env, n_steps=1, batch_size=4, n_epochs=1, device="cpu")
    with pytest.warns(UserWarning, match="ImageEvalCallback"):
        model.learn(1, callback=EvalCallback(env, n_eval_episodes=1, eval_freq=1, verbose=0))
