"""The TorchRL view, with TorchRL's own checks and rollouts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torchrl.envs import GymWrapper, RewardScaling, TransformedEnv
from torchrl.envs.utils import check_env_specs

from benchmarks.third_party import torchrl_reinforce
from pixelseg_env import FlatActions, OptionError, PixelSegVectorEnv
from pixelseg_env.views import PixelVectorEnv
from pixelseg_env.views.torchrl import PixelSegTorchRLEnv
from pixelseg_env.views.windows import agent_names
from tests.helpers.env import TASKS, random_actions, small_set

KEYS = ("reward_map", "segmentation", "target")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("labels", [1, 2])
def test_specs(task: tuple[str, str], labels: int) -> None:
    env = PixelSegTorchRLEnv(3, size=16, count=10, labels=labels, transition=task[0], observation=task[1])
    check_env_specs(env, seed=0)


@pytest.mark.parametrize("task", TASKS)
def test_trajectories_are_those_of_the_vector_environment(task: tuple[str, str]) -> None:
    options: dict[str, Any] = {"dataset": small_set(), "transition": task[0], "observation": task[1], "horizon": 3}
    env, plain = PixelSegTorchRLEnv(3, **options), PixelSegVectorEnv(3, **options)
    env.set_seed(7)
    found = env.reset()
    observation, info = plain.reset(seed=7)
    for step, action in enumerate(random_actions((3, 12, 9), 3)):
        np.testing.assert_array_equal(found["observation"].numpy(), observation)
        np.testing.assert_array_equal(found["index"].numpy()[:, 0], plain.index)
        found["action"] = torch.from_numpy(action)
        found = env.step(found)["next"]
        observation, rewards, terminated, _, info = plain.step(action)
        for key in KEYS:
            np.testing.assert_array_equal(found[key].numpy(), info[key], err_msg=key)
        np.testing.assert_allclose(found["reward"].numpy()[:, 0], rewards, rtol=1e-6)
        np.testing.assert_allclose(found["dice"].numpy()[:, 0], info["dice"], rtol=1e-6)
        np.testing.assert_array_equal(found["done"].numpy()[:, 0], terminated)
        assert bool(found["terminated"].all()) == (step == 2)
        assert found["step_count"].unique().tolist() == [step + 1]


def test_ended_images_start_anew_and_the_others_go_on() -> None:
    env = PixelSegTorchRLEnv(3, dataset=small_set(), horizon=4)
    env.set_seed(0)
    state = env.reset(horizon=np.array([1, 4, 2]), index=np.array([0, 1, 2]))
    assert state["index"][:, 0].tolist() == [0, 1, 2]
    counts = []
    for _ in range(4):
        state["action"] = torch.ones(3, 12, 9, dtype=torch.int8)
        _, state = env.step_and_maybe_reset(state)
        counts.append(state["step_count"][:, 0].tolist())
    assert counts[0] == [0, 1, 1]
    assert counts[1] == [1, 2, 0]
    assert counts[2] == [2, 3, 1]
    assert counts[3] == [3, 0, 2]


def test_rollouts_are_reproducible() -> None:
    rollouts = []
    for _ in range(2):
        env = PixelSegTorchRLEnv(2, dataset=small_set(), horizon=3)
        env.set_seed(5)
        torch.manual_seed(0)
        rollouts.append(env.rollout(8, break_when_any_done=False))
    assert rollouts[0].shape == (2, 8)
    for key in ("observation", "action", ("next", "reward_map")):
        assert torch.equal(rollouts[0][key], rollouts[1][key])
    assert rollouts[0]["next", "done"][:, :, 0].tolist() == [[False, False, True] * 2 + [False, False]] * 2


def test_a_partial_reset_keeps_the_others() -> None:
    env = PixelSegTorchRLEnv(2, dataset=small_set(), horizon=4)
    state = env.reset()
    state["action"] = torch.zeros(2, 12, 9, dtype=torch.int8)
    stepped = env.step(state)["next"]
    after = env.reset(stepped.set("_reset", torch.tensor([[True], [False]])))
    assert after["segmentation"].float().mean((1, 2)).tolist() == [1.0, 0.0]
    assert after["step_count"][:, 0].tolist() == [0, 1]


def test_gym_wrapper_takes_the_single_environment() -> None:
    """With flat actions, and as it is (test_third_party)."""
    single = gym.make("PixelSegEnv-v0", size=16, count=10, horizon=2)
    env = GymWrapper(FlatActions(single))
    check_env_specs(env, seed=0)
    assert env.rollout(5)["observation"].shape == (2, 1, 16, 16)


@pytest.mark.parametrize("task", [*TASKS, ("additive", "masked")])
@pytest.mark.parametrize("labels", [1, 2])
def test_pixels_as_a_group(task: tuple[str, str], labels: int) -> None:
    options: dict[str, Any] = {"size": 16, "count": 10, "labels": labels, "transition": task[0], "observation": task[1]}
    env, plain = PixelSegTorchRLEnv(2, view=3, horizon=2, **options), PixelVectorEnv(2, view=3, horizon=2, **options)
    check_env_specs(env, seed=0)
    agents = 256 * labels
    assert env.group_map == {"pixels": list(agent_names((16, 16) if labels == 1 else (labels, 16, 16)))}
    env.set_seed(7)
    found, (windows, _) = env.reset(), plain.reset(seed=7)
    for step in range(2):
        np.testing.assert_array_equal(found["pixels", "observation"].flatten(0, 1), windows)
        action = torch.randint(2, (2, agents), generator=torch.Generator().manual_seed(step))
        found["pixels", "action"] = action
        found = env.step(found)["next"]
        windows, rewards, terminated, _, _ = plain.step(action.reshape(-1).numpy())
        np.testing.assert_array_equal(found["pixels", "reward"].flatten(), rewards)
        np.testing.assert_array_equal(found["pixels", "done"].flatten(), terminated)
        np.testing.assert_array_equal(found["pixels", "terminated"].flatten(), terminated)
        np.testing.assert_array_equal(found["done"].flatten(), terminated.reshape(2, -1)[:, 0])
        assert "reward" not in found.keys()  # noqa: SIM118 (a TensorDict iterates its batch)


def test_a_reward_of_each_pixel_for_whole_maps() -> None:
    env = PixelSegTorchRLEnv(3, dataset=small_set(), horizon=2, reward_output="map")
    check_env_specs(env, seed=0)
    rollout = env.rollout(5, break_when_any_done=False)
    assert rollout["action"].shape == (3, 5, 12, 9)
    assert env.group_map == {}
    each = rollout["next", "pixels", "reward"]
    assert torch.equal(each, rollout["next", "reward_map"].flatten(2)[..., None])
    assert each.shape == rollout["next", "pixels", "done"].shape == (3, 5, 108, 1)
    assert rollout["next", "pixels", "done"][0, :, 5, 0].tolist() == [False, True, False, True, False]
    weights = TransformedEnv(env, RewardScaling(loc=0.0, scale=2.0, in_keys=[("pixels", "reward")]))
    scaled = weights.rollout(2)["next"]
    assert torch.equal(scaled["pixels", "reward"], 2 * scaled["reward_map"].flatten(2)[..., None])
    with pytest.raises(OptionError, match="reward_output"):
        PixelSegTorchRLEnv(1, reward_output="sum")
    with pytest.raises(OptionError, match="odd"):
        PixelSegTorchRLEnv(1, view=4)


@pytest.mark.parametrize("name", ["num_envs", "autoreset_mode", "backend"])
def test_options_that_are_not_open(name: str) -> None:
    with pytest.raises(OptionError, match="leave it out"):
        PixelSegTorchRLEnv(1, **{name: 1})


@pytest.mark.slow  # that it runs is seen in test_examples
def test_the_example_learns() -> None:
    torch.set_num_threads(1)
    learnt, keep = torchrl_reinforce.main(torchrl_reinforce.Options(batches=150))
    assert learnt > keep + 0.2
