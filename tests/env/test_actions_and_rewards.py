"""Forms of actions and rewards, random draws of actions, masks of actions, and what a spec can be remade from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError
from gymnasium.utils.env_checker import check_env
from gymnasium.vector.utils import batch_space
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO

from pixelseg_agents import PA3C
from pixelseg_agents.learning.episodes import Episodes
from pixelseg_agents.learning.task import AgentTask
from pixelseg_env import (
    ActionError,
    FlatActions,
    OptionError,
    PixelSegEnv,
    PixelSegVectorEnv,
    balanced,
    load_dataset,
    parallel_env,
)
from pixelseg_env.errors import shown
from pixelseg_env.spaces import BinaryMap, ChoiceMap
from tests.helpers.env import assert_same, random_actions, small_set

FORMS = [(form, transition) for form in ("flat", "multidiscrete") for transition in ("absorbing", "additive")]
FLAT = 12 * 9


# ------------------------------------------------------------------------------------------------ actions


@pytest.mark.parametrize(("form", "transition"), FORMS)
def test_flat_forms_are_the_map_in_one_row(form: str, transition: str) -> None:
    options = {"dataset": small_set(), "transition": transition, "horizon": 4}
    choices = 8 if transition == "additive" else 2
    flat, maps = PixelSegEnv(**options, actions=form), PixelSegEnv(**options)
    batch = PixelSegVectorEnv(1, **options, actions=form)
    tensors = PixelSegVectorEnv(1, **options, actions=form, backend="torch")
    binary = form == "flat" and choices == 2
    kind = np.int8 if form == "flat" else np.int64
    several = spaces.MultiDiscrete([choices] * FLAT, kind)
    assert flat.action_space == (spaces.MultiBinary(FLAT) if binary else several)
    assert batch.action_space == batch_space(flat.action_space, 1)
    for env in (flat, maps, batch, tensors):
        env.reset(seed=0)
    for kind in (np.int8, np.int64, np.float32, np.float64):
        action = np.random.default_rng(1).integers(0, choices, (12, 9))
        row = action.reshape(-1).astype(kind)
        expected = maps.step(action.astype(np.int8))
        assert_same(flat.step(row), expected)
        assert_same(batch.step(row[None])[0][0], expected[0])
        assert_same(tensors.step(torch.from_numpy(row[None]))[0][0].numpy(), expected[0])
    flat.reset()
    for wrong in (np.ones((12, 9), np.int8), np.full(FLAT, choices), np.full(FLAT, 0.5), np.full(FLAT, np.nan)):
        with pytest.raises(ActionError, match="expected"):
            flat.step(wrong)
    check_env(PixelSegEnv(**options, actions=form), skip_render_check=True)


@pytest.mark.parametrize("form", ["flat", "multidiscrete"])
def test_stable_baselines3_takes_them_unmodified(form: str) -> None:
    env = gym.make("PixelSegEnv-v0", size=16, count=12, horizon=2, actions=form)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(16)
    assert model.predict(env.reset(seed=0)[0])[0].shape == (256,)


def test_torchrls_gymenv_takes_them_unmodified() -> None:
    envs = pytest.importorskip("torchrl.envs", reason="TorchRL is not installed")
    for form in ("map", "flat", "multidiscrete"):
        env = envs.GymEnv("PixelSegEnv-v0", size=16, count=12, horizon=3, actions=form)
        rollout = env.rollout(5)
        assert rollout["next", "reward"].shape == (3, 1)
        assert rollout["action"].shape[:1] == (3,)


def test_skrl_takes_them_unmodified() -> None:
    """Where it has a policy for them: it has none for flat binary actions, and takes choices between two instead."""
    pytest.importorskip("skrl", reason="skrl is not installed")
    from skrl.agents.torch import ppo
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.trainers.torch import SequentialTrainer
    from skrl.utils.model_instantiators.torch import deterministic_model, multicategorical_model

    env = wrap_env(gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=12, horizon=2, actions="multidiscrete"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    layers = [{"name": "net", "input": "OBSERVATIONS", "layers": ["flatten", 8], "activations": "relu"}]
    models = {
        "policy": multicategorical_model(**spaces, network=layers, output="ACTIONS"),
        "value": deterministic_model(**spaces, network=layers, output="ONE"),
    }
    cfg = ppo.PPO_CFG(rollouts=4, learning_epochs=1, mini_batches=2)
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    memory = RandomMemory(memory_size=4, num_envs=2, device="cpu")
    agent = ppo.PPO(models=models, memory=memory, cfg=cfg, **spaces)
    agent.init()
    agent.track_data = lambda *_: None
    states = []
    trainer = SequentialTrainer(
        cfg={"timesteps": 4, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
        env=env,
        agents=agent,
    )
    for _ in range(2):
        trainer.train()
        states.append([p.detach().clone() for p in models["policy"].parameters()])
    assert any(not torch.equal(before, after) for before, after in zip(*states, strict=True))


def test_an_option_that_is_not_known_is_a_type_error_of_the_usual_form() -> None:
    for make in (PixelSegEnv, PixelSegVectorEnv, parallel_env, lambda **o: gym.make("PixelSegEnv-v0", **o)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'") as caught:
            make(size=16, frameskip=1)
        assert isinstance(caught.value, OptionError)
    with pytest.raises(OptionError, match="Did you mean 'multidiscrete'"):
        PixelSegEnv(small_set(), actions="multi_discrete")


def test_agents_say_that_they_decide_over_maps() -> None:
    with pytest.raises(OptionError, match="expected an environment with actions='map', got 'flat'"):
        PA3C(PixelSegVectorEnv(2, small_set(), actions="flat"))


# ------------------------------------------------------------------------------------------------ draws


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 9), width=st.integers(1, 9), form=st.sampled_from(["binary", "eight"]), n=st.integers(1, 3)
)
def test_draws_lie_in_their_space_and_are_seeded(height: int, width: int, form: str, n: int) -> None:
    shape = (height, width)
    space: Any = BinaryMap(shape) if form == "binary" else ChoiceMap(np.full(shape, 8), dtype=np.int8)
    plain: Any = spaces.MultiBinary(shape) if form == "binary" else spaces.MultiDiscrete(np.full(shape, 8), np.int8)
    for ours, theirs in ((space, plain), (batch_space(space, n), batch_space(plain, n))):
        assert ours == theirs
        assert theirs == ours
        drawn = []
        for seed in (3, 3, 4):
            ours.seed(seed)
            drawn.append([ours.sample() for _ in range(5)])
        assert all(ours.contains(one) and one.dtype == theirs.dtype and one.flags.writeable for one in drawn[0])
        assert_same(drawn[0], drawn[1])
        with_same = all((one == other).all() for one, other in zip(drawn[0], drawn[2], strict=True))
        assert not with_same or np.prod(shape) < 8


@pytest.mark.parametrize("choices", [2, 8])
def test_draws_are_uniform_and_independent(choices: int) -> None:
    shape = (13, 11)  # not a multiple of eight bits
    space: Any = BinaryMap(shape) if choices == 2 else ChoiceMap(np.full(shape, choices), dtype=np.int8)
    for one in (space, batch_space(space, 3)):
        one.seed(0)
        many = np.stack([one.sample().reshape(-1) for _ in range(4000)])
        for value in range(choices):
            share = (many == value).mean(0)  # of each pixel: five standard deviations
            bound = 5 * np.sqrt((1 / choices) * (1 - 1 / choices) / len(many))
            assert np.abs(share - 1 / choices).max() < bound
        neighbours = [np.corrcoef(many[:, k], many[:, k + 1])[0, 1] for k in range(many.shape[1] - 1)]
        assert np.abs(neighbours).max() < 0.08
        assert abs(np.corrcoef(many[:-1].ravel(), many[1:].ravel())[0, 1]) < 0.01
    fixed = np.full(shape, 2, np.int8)
    fixed[0] = 1
    if choices == 2:
        assert (space.sample(mask=fixed)[0] == 1).all()
        assert not (space.sample(probability=np.ones(shape)) == 0).any()


def test_a_draw_costs_at_most_half_a_step() -> None:
    env = PixelSegVectorEnv(64, size=64, count=80)
    env.reset(seed=0)
    action = env.action_space.sample()

    def least(function: Any) -> float:
        spent = []
        for _ in range(12):
            start = time.perf_counter()
            function()
            spent.append(time.perf_counter() - start)
        return min(spent)

    assert least(env.action_space.sample) < 0.5 * least(lambda: env.step(action))


# ------------------------------------------------------------------------------------------------ masks


@pytest.mark.parametrize("transition", ["absorbing", "restorable", "additive"])
def test_masks_leave_what_makes_a_difference(transition: str) -> None:
    env = PixelSegEnv(small_set(), transition=transition, horizon=2)
    several = PixelSegVectorEnv(1, small_set(), transition=transition, horizon=2)
    for one in (env, several):
        with pytest.raises(gym.error.ResetNeeded, match="action_masks"):
            one.action_masks()
        one.reset(seed=0)
    choices = env.task.choices
    assert env.action_masks().all()
    action = random_actions((12, 9), 1)[0]
    env.step(action)
    several.step(action[None])
    masks = env.action_masks()
    assert masks.dtype == np.bool_
    assert_same(several.action_masks()[0], masks)
    pixels = masks.reshape(12, 9, choices)
    assert pixels.any(-1).all(), "something is always allowed"
    if transition == "absorbing":
        np.testing.assert_array_equal(pixels[..., 1], action == 1)
        assert pixels[..., 0].all()
    else:
        assert pixels.all()


def test_maskable_ppo_trains_on_it() -> None:
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    env = gym.make("PixelSegEnv-v0", size=16, count=12, horizon=3, actions="multidiscrete")
    model = contrib.MaskablePPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(16)
    observation, _ = env.reset(seed=0)
    observation, *_ = env.step(np.zeros(256, np.int64))
    chosen, _ = model.predict(observation, action_masks=env.get_wrapper_attr("action_masks")(), deterministic=False)
    assert not chosen.any(), "zero is all that is left"


# ------------------------------------------------------------------------------------------------ rewards


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_reward_map_is_that_of_the_step_just_made(mode: str, backend: str) -> None:
    for output in ("mean", "map"):
        env = PixelSegVectorEnv(3, small_set(), horizon=3, autoreset_mode=mode, backend=backend, reward_output=output)
        _, infos = env.reset(seed=0, options={"horizon": [1, 2, 3]})
        assert not np.asarray(infos["reward_map"]).any()
        earned = 0
        for actions in random_actions((3, 12, 9), 7):
            ended = infos["step"] >= infos["horizon"]
            if mode == "Disabled" and ended.any():
                env.reset(options={"reset_mask": ended})
            _, rewards, terminated, _, infos = env.step(actions)
            maps, given = np.asarray(infos["reward_map"]), np.asarray(rewards)
            if output == "map":
                assert_same(given, maps)
                assert env.reward_space.contains(given)
            else:
                np.testing.assert_allclose(maps.mean((1, 2)), given, atol=1e-6)
            if "final_info" in infos:
                final = np.asarray(infos["final_info"]["reward_map"])
                assert_same(final[np.asarray(terminated)], maps[np.asarray(terminated)])
            earned += int(np.abs(maps).sum() > 0)
        assert earned >= 5


def test_agents_read_the_same_rewards_in_every_mode() -> None:
    found = []
    for mode in ("NextStep", "SameStep", "Disabled"):
        env = PixelSegVectorEnv(2, small_set(), autoreset_mode=mode)
        task = AgentTask.of(env, "test")
        episodes = Episodes(env, 2, seed=0, augmentation=None, device=torch.device("cpu"), task=task)
        found.append(torch.stack([episodes.step(torch.zeros(2, 12, 9) + k) for k in (1, 0)]))
        assert episodes.over
        assert float(found[-1].abs().sum()) > 0
    assert all(torch.equal(found[0], other) for other in found)


def test_reward_wrappers_work_on_maps() -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set(), reward_output="map", disable_env_checker=True)
    plain = gym.make("PixelSegEnv-v0", dataset=small_set())
    assert env.unwrapped.reward_space == spaces.Box(-np.inf, np.inf, (12, 9), np.float32)
    assert plain.unwrapped.reward_space.shape == ()
    clipped = gym.wrappers.TransformReward(env, lambda reward: np.clip(reward, 0, 1))
    clipped.reset(seed=0)
    plain.reset(seed=0)
    action = random_actions((12, 9), 1)[0]
    _, reward, _, _, info = clipped.step(action)
    assert_same(reward, np.clip(plain.step(action)[-1]["reward_map"], 0, 1))
    assert info["reward_map"].min() < 0, "the info keeps what the environment gave"
    several = gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=small_set(), reward_output="map")
    wrapped = gym.wrappers.vector.TransformReward(several, lambda reward: 2 * reward)
    wrapped.reset(seed=0)
    _, reward, _, _, infos = wrapped.step(np.stack([action, action]))
    assert_same(reward, 2 * infos["reward_map"])
    with pytest.raises(OptionError, match="Did you mean 'map'"):
        PixelSegEnv(small_set(), reward_output="maps")


def test_infos_can_be_made_tensors() -> None:
    for several in (
        gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=small_set()),
        gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset=small_set(), vectorization_mode="sync"),
    ):
        env = gym.wrappers.vector.NumpyToTorch(several)
        env.reset(seed=0)
        assert isinstance(env.step(torch.ones((2, 12, 9), dtype=torch.int8))[-1]["index"], torch.Tensor)
    single = gym.wrappers.NumpyToTorch(gym.make("PixelSegEnv-v0", dataset=small_set()))
    assert isinstance(single.reset(seed=0)[1]["target"], torch.Tensor)


# ------------------------------------------------------------------------------------------------ specs and objects


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"actions": "flat", "observe_time": True, "order": "shuffled", "reward_output": "map", "horizon": (2, 3)},
        {"reward": balanced(20), "size": (16, 20)},
        {"reward": "0.7*squared_error + 0.3*boundary", "transition": "additive", "actions": "multidiscrete"},
    ],
)
def test_a_spec_goes_through_json_and_back(options: dict[str, Any]) -> None:
    env = gym.make("PixelSegEnv-v0", **{"size": 16, "count": 12, "horizon": 3, **options})
    again = gym.make(EnvSpec.from_json(env.spec.to_json()), disable_env_checker=True)
    several = gym.make_vec("PixelSegEnv-v0", num_envs=2, **{"size": 16, "count": 12, "horizon": 3, **options})
    assert again.observation_space == env.observation_space == several.single_observation_space
    assert again.action_space == env.action_space == several.single_action_space
    env.action_space.seed(0)
    action = env.action_space.sample()
    for one in (env, again):
        one.reset(seed=0)
    assert_same(env.unwrapped.step(action), again.unwrapped.step(action))
    text = several.spec.to_json()
    assert '"max_episode_steps": 3' in text


def test_flat_actions_are_remade_from_a_spec() -> None:
    for transition in ("absorbing", "additive"):
        env = FlatActions(gym.make("PixelSegEnv-v0", size=16, count=12, transition=transition))
        again = gym.make(EnvSpec.from_json(env.spec.to_json()))
        assert isinstance(again, FlatActions)
        assert again.action_space == env.action_space
        assert again.action_space.shape == (256,)
        again.reset(seed=0)
        again.step(again.action_space.sample().astype(np.float32))
    with pytest.raises(OptionError, match="flat actions already"):
        FlatActions(gym.make("PixelSegEnv-v0", size=16, count=12, actions="flat"))


def test_paths_and_modes_are_written_as_text(tmp_path: Path) -> None:
    from tests.helpers.data import write_folder

    write_folder(tmp_path, ("a", "b", "c"))
    options = {"dataset": "folder", "data": [tmp_path], "split": "all", "size": 8}
    assert EnvSpec.from_json(gym.make("PixelSegEnv-v0", **options).spec.to_json()).kwargs["data"] == [str(tmp_path)]
    mode = gym.vector.AutoresetMode.SAME_STEP
    env = gym.make_vec("PixelSegEnv-v0", num_envs=2, autoreset_mode=mode, **options)
    assert EnvSpec.from_json(env.spec.to_json()).kwargs["autoreset_mode"] == "SameStep"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 128}, r"size=128 cannot be applied to data set 'small'.*12 x 9 pixels"),
        ({"size": (9, 12)}, "size="),
        ({"size": 12}, "size=12"),
        ({"fit": "crop"}, "fit='crop' cannot be applied"),
        ({"keep_empty": True}, "keep_empty=True cannot be applied"),
    ],
)
def test_what_cannot_be_done_to_a_made_data_set_is_refused(options: dict[str, Any], message: str) -> None:
    for make in (PixelSegEnv, PixelSegVectorEnv, parallel_env):
        with pytest.raises(OptionError, match=message):
            make(dataset=small_set(), **options)
    for right in ({}, {"size": (12, 9)}, {"size": None}, {"split_by": "slice", "split": "train"}):
        PixelSegEnv(small_set(), **right)
    PixelSegEnv(load_dataset("phantom", size=16, count=12), size=16)


def test_after_close_every_use_says_so() -> None:
    env, action = PixelSegEnv(small_set(), render_mode="rgb_array"), np.ones((12, 9), np.int8)
    env.reset(seed=0)
    env.close()
    several = PixelSegVectorEnv(1, small_set(), render_mode="rgb_array")
    several.reset(seed=0)
    several.close()
    uses = (env.reset, env.render, several.reset, several.render, lambda: several.step(action[None]))
    for use in (*uses, lambda: env.step(action)):
        with pytest.raises(ClosedEnvironmentError, match="make a new one"):
            use()
    env.close()
    several.close()


def test_messages_do_not_print_whole_arrays() -> None:
    assert shown(np.zeros((64, 64), np.int8)) == "<ndarray of shape (64, 64), int8>"
    assert shown(torch.zeros(2, 3)) == "<Tensor of shape (2, 3), torch.float32>"
    assert shown([0] * 1000) == "<list of 1000: 0, ...>"
    assert shown([np.zeros(9)] * 1000) == "<list of 1000: <ndarray of shape (9,), float64>, ...>"
    assert shown("x" * 1000) == f"'{'x' * 76}..."
    assert (shown(3), shown((1, 2)), shown(np.int64(3)), shown("a")) == ("3", "(1, 2)", "3", "'a'")
    large = np.zeros((400, 400))
    env = PixelSegEnv(small_set())
    env.reset(seed=0)
    for wrong in (
        lambda: PixelSegEnv(small_set(), horizon=large),
        lambda: PixelSegEnv(small_set(), transition=large),
        lambda: PixelSegEnv(small_set(), observe_time=large),
        lambda: PixelSegEnv(small_set(), size=[*range(999)]),
        lambda: env.reset(options={"index": large}),
        lambda: env.reset(options={"horizon": large.tolist()}),
    ):
        with pytest.raises(OptionError) as caught:
            wrong()
        assert len(str(caught.value)) < 300
