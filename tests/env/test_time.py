"""Time as a plane of the observation: 1 / steps left, for NumPy and torch, single, batched and wrapped."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_agents import DQN, PA3C
from pixelseg_agents.learning.task import AgentTask
from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv
from pixelseg_env.dynamics import OBSERVATIONS, image_channels, observation_channels, observe, time_plane
from tests.helpers.env import TASKS, assert_same, random_actions, small_set


@settings(max_examples=50, deadline=None)
@given(
    left=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    observation=st.sampled_from(sorted(OBSERVATIONS)),
    labels=st.integers(1, 3),
)
def test_the_plane_is_one_over_the_steps_left_on_either_backend(left: list[int], observation: str, labels: int) -> None:
    rng = np.random.default_rng(len(left))
    images = rng.random((len(left), 2, 3, 4)).astype(np.float32)
    maps = rng.integers(0, 2, (len(left), labels, 3, 4) if labels > 1 else (len(left), 3, 4)).astype(np.uint8)
    steps = np.array(left)
    seen = observe(images, maps, observation, steps)
    np.testing.assert_array_equal(seen[:, :-1], OBSERVATIONS[observation](images, maps))
    expected = [1 / steps_left if steps_left else 0 for steps_left in left]
    np.testing.assert_array_equal(seen[:, -1], np.broadcast_to(np.float32(expected)[:, None, None], (len(left), 3, 4)))
    assert seen.shape[1] == observation_channels(2, observation, labels, True)
    assert image_channels(seen.shape[1], observation, labels, True) == 2
    tensors = torch.from_numpy(images), torch.from_numpy(maps)
    for given_as in (steps, torch.from_numpy(steps)):
        assert_same(observe(*tensors, observation, given_as).numpy(), seen)
    assert_same(observe(images[0], maps[0], observation, left[0]), seen[0])
    assert_same(observe(images, maps, observation), OBSERVATIONS[observation](images, maps))


@pytest.mark.filterwarnings("error")  # nothing is divided by 0 on the way
def test_the_plane_is_an_array_of_its_own() -> None:
    images = np.ones((2, 3, 4, 5), np.float32)
    for convert in (np.asarray, torch.from_numpy):
        plane = time_plane(convert(images), np.array([0, 2]))
        plane[0, 0, 0, 0] = 7
        assert np.asarray(plane).ravel().tolist() == [7.0] + [0.0] * 19 + [0.5] * 20


@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_single_and_batched_environments_show_it(transition: str, observation: str) -> None:
    options = {"dataset": small_set(), "transition": transition, "observation": observation, "horizon": 3}
    single = PixelSegEnv(**options, observe_time=True)
    several = PixelSegVectorEnv(2, **options, observe_time=True, autoreset_mode="SameStep")
    tensors = PixelSegVectorEnv(2, **options, observe_time=True, autoreset_mode="SameStep", backend="torch")
    plain = PixelSegEnv(**options)
    seen, _ = single.reset(seed=0)
    batch, _ = several.reset(seed=0)
    assert_same(tensors.reset(seed=0)[0].numpy(), batch)
    without, _ = plain.reset(seed=0)
    for t, actions in enumerate([*random_actions((2, 12, 9), 3), None]):
        assert single.observation_space.contains(seen)
        assert_same(seen[:-1], without)
        assert np.unique(seen[-1]).tolist() == [np.float32((1 / 3, 1 / 2, 1.0, 0.0)[t])]
        assert_same(batch[0], seen)
        if actions is not None:
            seen, without = single.step(actions[0])[0], plain.step(actions[0])[0]
            batch, _, _, _, infos = several.step(actions)
            assert_same(tensors.step(torch.from_numpy(actions))[0].numpy(), batch)
            if t == 2:
                assert (batch[:, -1] == np.float32(1 / 3)).all(), "new episodes"
                batch = np.stack(infos["final_obs"])
    check_env(PixelSegEnv(**options, observe_time=True), skip_render_check=True)


def test_episodes_of_unlike_lengths_see_their_own_time() -> None:
    env = PixelSegVectorEnv(3, small_set(), observe_time=True)
    seen, _ = env.reset(seed=0, options={"horizon": [1, 2, 4]})
    assert seen[:, -1, 0, 0].tolist() == [1, 0.5, 0.25]
    seen, *_ = env.step(np.ones((3, 12, 9), np.int8))
    assert seen[:, -1, 5, 5].tolist() == pytest.approx([0, 1, 1 / 3])


def test_gymnasiums_own_wrapper_works_and_the_spec_tells_the_longest_episode() -> None:
    env = gym.make("PixelSegEnv-v0", size=16, count=12, horizon=3)
    wrapped = gym.wrappers.TimeAwareObservation(env, flatten=False)
    assert wrapped.reset(seed=0)[0]["time"].tolist() == [0.0]
    assert wrapped.step(env.action_space.sample())[0]["time"].tolist() == [1]
    assert gym.wrappers.TimeAwareObservation(env).observation_space.shape == (16 * 16 + 1,)
    assert env.spec.max_episode_steps == 3
    assert not any(isinstance(layer, gym.wrappers.TimeLimit) for layer in layers(env)), "nothing truncates"
    assert gym.make("PixelSegEnv-v0", size=16, count=12, horizon=(2, 7)).spec.max_episode_steps == 7
    assert gym.make("PixelSegEnv-v0", size=16, count=12, horizon=lambda episode: 2).spec.max_episode_steps is None
    batched = gym.make_vec(env.spec, num_envs=2)
    assert batched.spec.max_episode_steps == 3
    assert gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=12, horizon=4, max_episode_steps=4)
    with pytest.raises(OptionError, match="max_episode_steps=3: the horizon ends episodes and is 4"):
        gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=12, horizon=4, max_episode_steps=3)
    sync = gym.make_vec(
        "PixelSegEnv-v0",
        num_envs=2,
        vectorization_mode="sync",
        wrappers=[gym.wrappers.TimeAwareObservation],
        size=16,
        count=12,
    )
    assert sync.reset(seed=0)[0].shape == (2, 16 * 16 + 1)


def layers(env: Any) -> list[Any]:
    found = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return found


@pytest.mark.parametrize("kind", [PA3C, DQN])
@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_agents_train_on_it(kind: Any, transition: str, observation: str, tmp_path: Any) -> None:
    options = {"size": 16, "count": 20, "transition": transition, "observation": observation}
    env = gym.make_vec("PixelSegEnv-v0", num_envs=4, observe_time=True, **options)
    extra = {"learning_starts": 4, "replay_batch": 4} if kind is DQN else {}
    agent = kind(env, seed=0, width=0.05, horizons=(1, 3), device="cpu", **extra)
    assert agent.image_channels == 1
    looked: list[Any] = []
    augmented = []
    forward = agent._forward
    agent._forward = lambda seen, *part: (looked.append(seen.detach()), forward(seen, *part))[1]
    agent.learn(4)
    for seen in looked:
        plane = seen[:, -1]
        augmented.append(plane.unique().tolist())
        assert (plane == plane[:, :1, :1]).all(), "brightness leaves the plane alone"
    shown = {round(value, 6) for values in augmented for value in values}
    assert {1.0, round(1 / 3, 6), 0.5} <= shown
    assert shown <= {0.0, 1.0, round(1 / 3, 6), 0.5}
    agent._forward = forward
    agent.save(tmp_path / "agent")
    again = kind.load(tmp_path / "agent", env=env, device="cpu")
    assert again.task == agent.task
    assert again.task.observe_time
    with pytest.raises(OptionError, match="observe_time=True, the environment has False"):
        kind.load(tmp_path / "agent", env=gym.make_vec("PixelSegEnv-v0", num_envs=4, **options), device="cpu")


def test_the_plane_is_none_of_the_images_channels() -> None:
    for observation, labels, channels in (("masked", 1, 3), ("stacked", 1, 4), ("masked", 3, 7), ("stacked", 3, 6)):
        names = tuple(map(str, range(labels)))
        task = AgentTask(channels, "absorbing", observation, names, observe_time=True)
        assert task.image_channels == 2
        assert task.image_channels * task.copies + (labels if observation == "stacked" else 0) + 1 == channels


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_option_is_a_truth_value(value: Any) -> None:
    with pytest.raises(OptionError, match=r"observe_time=.*expected True or False"):
        PixelSegEnv(small_set(), observe_time=value)


def test_every_view_shows_it() -> None:
    pytest.importorskip("stable_baselines3")
    from pixelseg_env.views import PixelVecEnv

    cells = PixelVecEnv(1, view=3, dataset=small_set(), horizon=2, observe_time=True)
    assert cells.observation_space.shape == (3, 3, 3)
    assert (cells.reset()[:, -1, 1, 1] == 0.5).all()
    assert (cells.step(np.ones(cells.num_envs, int))[0][:, -1, 1, 1] == 1).all()
    torchrl = pytest.importorskip("pixelseg_env.views.torchrl", exc_type=gym.error.DependencyNotInstalled)
    env = torchrl.PixelSegTorchRLEnv(2, dataset=small_set(), horizon=2, observe_time=True)
    assert env.rollout(2)["observation"][0, :, -1, 0, 0].tolist() == [0.5, 1.0]
