"""The Stable-Baselines3 views, with Stable-Baselines3's own algorithms."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from benchmarks.third_party import sb3_agents
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.references import KeepAll, Otsu
from pixelseg_env import ActionError, FlatActions, OptionError, PixelSegVectorEnv
from pixelseg_env.views.sb3 import PixelPolicy, PixelVecEnv
from pixelseg_env.views.windows import windows
from tests.helpers.env import TASKS, random_actions, small_set

SMALL: dict[str, Any] = {"dataset": "phantom", "size": 16, "count": 20}


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    view=st.sampled_from([1, 3, 5, 7]),
    seed=st.integers(0, 1000),
)
def test_windows_are_what_lies_around_the_pixel(shape: tuple[int, int, int, int], view: int, seed: int) -> None:
    batch = np.random.default_rng(seed).random(shape, dtype=np.float32)
    found = windows(batch, view)
    assert found.shape == (shape[0], *shape[2:], shape[1], view, view)
    margin = view // 2
    for b, y, x in np.ndindex(shape[0], *shape[2:]):
        for dy, dx in np.ndindex(view, view):
            row, column = y + dy - margin, x + dx - margin
            inside = 0 <= row < shape[2] and 0 <= column < shape[3]
            expected = batch[b, :, row, column] if inside else np.zeros(shape[1], np.float32)
            np.testing.assert_array_equal(found[b, y, x, :, dy, dx], expected)


@pytest.mark.parametrize("task", TASKS)
def test_trajectories_are_those_of_the_vector_environment(task: tuple[str, str]) -> None:
    options: dict[str, Any] = {"dataset": small_set(), "transition": task[0], "observation": task[1], "horizon": 2}
    view = PixelVecEnv(3, view=3, reward="balanced", **options)
    plain = PixelSegVectorEnv(3, reward="balanced", autoreset_mode="SameStep", **options)
    view.seed(4)
    cells = view.reset()
    observation, info = plain.reset(seed=4)
    assert view.num_envs == 3 * 12 * 9
    for action in random_actions((3, 12, 9), 6):
        np.testing.assert_array_equal(cells, windows(observation, 3).reshape(cells.shape))
        cells, rewards, dones, infos = view.step(action.reshape(-1).astype(np.int64))
        observation, means, terminated, _, info = plain.step(action)
        ended = info.get("final_info", info)
        np.testing.assert_array_equal(rewards.reshape(3, 12, 9), ended["reward_map"])
        np.testing.assert_allclose(rewards.reshape(3, -1).mean(axis=1), means, atol=1e-6)
        np.testing.assert_array_equal(dones.reshape(3, -1), np.repeat(terminated[:, None], 108, axis=1))
        for i in range(3):
            for key in ("dice", "slice", "index", "step", "horizon"):
                assert infos[108 * i + 5][key] == ended[key][i], key


def test_the_last_window_of_an_episode_is_handed_over_at_its_end() -> None:
    data = small_set()
    env = PixelVecEnv(2, view=3, dataset=data, horizon=2)
    plain = PixelSegVectorEnv(2, data, horizon=2, autoreset_mode="Disabled")
    env.seed(0)
    env.reset()
    plain.reset(seed=0)
    actions = random_actions((2, 12, 9), 2)
    for step, action in enumerate(actions):
        following, _, dones, infos = env.step(action.reshape(-1))
        last, *_ = plain.step(action)
        assert dones.all() == (step == 1)
        assert all(("terminal_observation" in info) == (step == 1) for info in infos)
    expected = windows(last, 3).reshape(following.shape)
    np.testing.assert_array_equal(np.stack([info["terminal_observation"] for info in infos]), expected)
    assert (following != expected).any(), "what follows is the new episode"
    assert [info["TimeLimit.truncated"] for info in infos] == [False] * len(infos)
    assert [info["step"] for info in env.reset_infos] == [0] * len(infos)


def test_seeds_and_options_are_used_once() -> None:
    env = PixelVecEnv(2, dataset=small_set(), horizon=2)
    assert len(env.seed(3)) == env.num_envs
    env.set_options({"index": 1, "horizon": 3})
    first = env.reset()
    assert {env.dataset.cases[info["index"]] for info in env.reset_infos} == {"case0"}
    for step in range(3):
        _, _, dones, _ = env.step(np.ones(env.num_envs, np.int64))
        assert dones.all() == (step == 2)
    env.seed(3)
    env.set_options({"index": 1})
    np.testing.assert_array_equal(env.reset(), first)
    drawn = {info["index"] for _ in range(12) if env.reset() is not None for info in env.reset_infos}
    assert len(drawn) > 1, "index is not kept"


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
def test_algorithms_train_unmodified(algorithm: Any) -> None:
    torch.set_num_threads(1)
    env = PixelVecEnv(1, view=3, horizon=2, **SMALL)
    options: dict[str, Any] = {"n_steps": 2} if algorithm is not DQN else {"learning_starts": 256, "buffer_size": 2048}
    if algorithm is PPO:
        options["batch_size"] = 128
    with pytest.warns(UserWarning, match="one pixel's"):
        monitored = VecMonitor(env)
    model = algorithm("MlpPolicy", monitored, seed=0, device="cpu", **options)
    before = torch.cat([p.detach().flatten().clone() for p in model.policy.parameters()])
    model.learn(4 * 256)
    assert not torch.equal(before, torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    assert len(model.ep_info_buffer) > 0, "episodes were seen to end"
    result = evaluate(PixelPolicy(model, 3), PixelSegVectorEnv(2, split="test", horizon=2, **SMALL))
    assert np.isfinite(result.metrics["DICE"]).all()


def test_labels_have_cells_of_their_own() -> None:
    env = PixelVecEnv(2, view=3, labels=2, horizon=1, **SMALL)
    plain = PixelSegVectorEnv(2, labels=2, horizon=1, autoreset_mode="SameStep", **SMALL)
    env.seed(1)
    plain.reset(seed=1)
    seen = env.reset()
    assert seen.shape == (2 * 2 * 256, 2 + 2, 3, 3)
    of_label = seen.reshape(2, 2, 256, 4, 3, 3)
    np.testing.assert_array_equal(of_label[:, 0, :, :2], of_label[:, 1, :, :2])
    for label in (0, 1):  # a shared policy is told what it decides about
        np.testing.assert_array_equal(of_label[:, label, :, 2:, 1, 1], np.eye(2)[label] + np.zeros((2, 256, 2)))
    action = random_actions((2, 2, 16, 16), 1)[0]
    _, rewards, _, infos = env.step(action.reshape(-1))
    final = plain.step(action)[4]["final_info"]
    np.testing.assert_array_equal(rewards.reshape(action.shape), final["reward_map"])
    np.testing.assert_array_equal(infos[0]["label_dice"], final["label_dice"][0])
    assert env.get_attr("view", [0, 1]) == [3, 3]
    assert env.get_attr("action_space", 0) == [env.action_space]


class KeepsTheFirstLabel:
    """A model that keeps what belongs to label 0."""

    def predict(self, cells: Any, state: Any, episode_start: Any, deterministic: bool = True) -> Any:
        return cells[:, -2, 1, 1].astype(np.int64), None


def test_a_shared_policy_can_tell_labels_apart() -> None:
    env = PixelSegVectorEnv(2, labels=2, horizon=1, **SMALL)
    actions, _ = PixelPolicy(KeepsTheFirstLabel(), view=3, labels=2).predict(env.reset(seed=0)[0])
    assert actions.shape == (2, 2, 16, 16)
    assert (actions[:, 0] == 1).all()
    assert (actions[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"view": 4}, "odd"),
        ({"view": 0}, "odd"),
        ({"num_images": 0}, "at least 1"),
        ({"backend": "torch"}, "leave it out"),
        ({"horizont": 3}, "horizon"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        PixelVecEnv(**(SMALL | options))


def test_bad_actions() -> None:
    env = PixelVecEnv(1, **SMALL)
    env.reset()
    with pytest.raises(ActionError, match=r"expected shape \(256,\)"):
        env.step(np.ones((16, 16), np.int64))
    with pytest.raises(ActionError, match="found 2"):
        env.step(np.full(256, 2))
    with pytest.raises(gym.error.ResetNeeded):
        PixelVecEnv(1, **SMALL).step_wait()


def test_the_rest_of_the_interface() -> None:
    env = PixelVecEnv(2, render_mode="rgb_array", **SMALL)
    env.reset()
    assert env.get_attr("horizon", [0, 3]) == [10, 10]
    assert env.env_method("close_extras", indices=0) == [None]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * env.num_envs
    with pytest.raises(OptionError, match="leave indices out"):
        env.set_attr("render_mode", None, [0])
    env.close()


def test_frames() -> None:
    env = PixelVecEnv(2, render_mode="rgb_array", **SMALL)
    env.reset()
    assert [frame.shape for frame in env.get_images() if frame is not None][0][2] == 3  # noqa: RUF015
    assert len(env.get_images()) == 2


# ---------------------------------------------------------------- flat actions


def flat(**options: Any) -> FlatActions:
    return FlatActions(gym.make("PixelSegEnv-v0", **(SMALL | options)))


def test_flat_actions_are_folded_row_by_row() -> None:
    env, plain = flat(), gym.make("PixelSegEnv-v0", **SMALL)
    assert env.action_space == gym.spaces.MultiBinary(256)
    env.reset(seed=2)
    plain.reset(seed=2)
    action = random_actions((16, 16), 1)[0]
    one, other = env.step(action.reshape(-1)), plain.step(action)
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]
    np.testing.assert_array_equal(env.step(np.zeros(256, np.float32))[4]["segmentation"], 0)
    with pytest.raises(ActionError, match=r"expected shape \(256,\)"):
        env.step(action)
    with pytest.raises(ActionError, match="float"):
        env.step(np.full(256, 0.5, np.float32))
    with pytest.raises(OptionError, match="expected a PixelSegEnv"):
        FlatActions(gym.make("CartPole-v1"))


@pytest.mark.filterwarnings("ignore")
def test_flat_actions_pass_sb3s_check_and_train() -> None:
    torch.set_num_threads(1)
    check_env(flat(horizon=2))
    model = PPO("MlpPolicy", flat(horizon=2), n_steps=32, batch_size=32, seed=0, device="cpu").learn(64)
    result = evaluate(model, PixelSegVectorEnv(2, split="test", horizon=2, **SMALL))
    assert np.isfinite(result.metrics["DICE"]).all()


# ---------------------------------------------------------------- learning


def dice_of(results: dict[str, Any], name: str) -> float:
    return float(results[name].metrics["DICE"].mean())


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["a2c", "dqn"])
def test_the_example_beats_otsu(algorithm: Any) -> None:
    torch.set_num_threads(1)
    results = sb3_agents.main(sb3_agents.Options(algorithm=algorithm, rounds=30))
    assert dice_of(results, algorithm) > dice_of(results, "Otsu") + 0.1


@pytest.mark.slow
def test_swapped_actions_do_not_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The margin above is one that a broken view misses."""
    plain = PixelVecEnv.step_async
    monkeypatch.setattr(PixelVecEnv, "step_async", lambda self, actions: plain(self, 1 - np.asarray(actions)))
    torch.set_num_threads(1)
    results = sb3_agents.main(sb3_agents.Options(algorithm="a2c", rounds=30))
    assert dice_of(results, "a2c") < dice_of(results, "Otsu")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "flat-ppo"])
def test_the_slower_examples_beat_otsu(algorithm: Any) -> None:
    results = sb3_agents.main(sb3_agents.Options(algorithm=algorithm, rounds=60 if algorithm == "ppo" else 100))
    test = PixelSegVectorEnv(8, "phantom", split="test", size=32, horizon=1)
    assert dice_of(results, algorithm) > dice_of({"Otsu": evaluate(Otsu(), test)}, "Otsu") + 0.1
    assert dice_of(results, algorithm) > float(evaluate(KeepAll(), test).metrics["DICE"].mean())
