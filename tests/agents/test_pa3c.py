"""PA3C: its public face, that its updates are what Algorithm 1 says, and that a run can be repeated and resumed."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from safetensors.torch import load_file, save_file
from torch import Tensor

from pixelseg_agents import PA3C, CheckpointError, PA3CConfig
from pixelseg_agents import pa3c as module
from pixelseg_agents.actor_critic import SaturationWarning
from pixelseg_agents.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pixelseg_agents.learning.errors import TrainingError
from pixelseg_agents.learning.returns import discounted_returns
from pixelseg_agents.team import Team
from pixelseg_env import OptionError, SegmentationDataset
from tests.helpers.env import TASKS, small_set

TINY: dict[str, Any] = {"width": 0.125, "head_stride": 4, "device": "cpu"}


def make_env(num_envs: int = 2, **options: Any) -> VectorEnv[Any, Any, Any]:
    data = small_set(8, channels=2, height=16, width=16)
    return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, **{"dataset": data, "horizon": 3, **options})


def make_agent(env: VectorEnv[Any, Any, Any] | None = None, **options: Any) -> PA3C:
    return PA3C(env or make_env(), **{**TINY, **options})


def weights(agent: PA3C) -> dict[str, Tensor]:
    tensors = {name: value.clone() for name, value in agent.network.state_dict().items()}
    if agent.convolution is not None:
        tensors |= {f"convolution.{name}": value.clone() for name, value in agent.convolution.state_dict().items()}
    return tensors


def assert_same_weights(one: PA3C, other: PA3C) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def differ(one: PA3C, other: PA3C) -> bool:
    first, second = weights(one), weights(other)
    return any(not torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------ predict


def test_predict_shapes_and_types() -> None:
    agent = make_agent()
    for shape in ((2, 16, 16), (5, 2, 16, 16), (1, 2, 16, 16), (2, 13, 21), (3, 2, 8, 30)):
        observation = np.random.default_rng(0).random(shape, dtype=np.float32)
        for deterministic in (True, False):
            actions, state = agent.predict(observation, deterministic=deterministic)
            assert actions.dtype == np.int8
            assert actions.shape == (*shape[:-3], *shape[-2:])
            assert set(np.unique(actions)) <= {0, 1}
            assert state is None
    assert agent.predict(observation, state=(np.ones(3),), episode_start=np.ones(3, bool))[1] is not None


def test_predict_takes_the_likelier_action_or_draws_one() -> None:
    agent = make_agent(start_bias=0.0)
    observation = np.random.default_rng(0).random((64, 2, 16, 16), dtype=np.float32)
    with torch.no_grad():
        probability = agent.network.eval()(torch.from_numpy(observation))[0].sigmoid().numpy()
    actions, _ = agent.predict(observation)
    np.testing.assert_array_equal(actions, probability > 0.5)
    one, _ = agent.predict(observation[3])
    np.testing.assert_array_equal(one, actions[3])
    np.testing.assert_array_equal(agent.predict(observation)[0], actions)
    draws = np.stack([agent.predict(observation, deterministic=False)[0] for _ in range(20)])
    assert (draws[0] != draws[1]).any()
    assert draws.mean() == pytest.approx(probability.mean(), abs=0.01)
    twin = make_agent(start_bias=0.0)
    np.testing.assert_array_equal(twin.predict(observation, deterministic=False)[0], draws[0])


def test_keep_is_one_and_zero_is_zero() -> None:
    for bias, action in ((50.0, 1), (-50.0, 0)):
        env = make_env()
        observation, _ = env.reset(seed=0)
        actions, _ = make_agent(env, start_bias=bias).predict(observation)
        assert (actions == action).all()
        assert (env.step(actions)[4]["segmentation"] == action).all()


@pytest.mark.parametrize("shape", [(3, 16, 16), (4, 1, 16, 16), (16, 16), (1, 1, 2, 16, 16)])
def test_predict_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"expected an observation of shape \(2, H, W\)"):
        make_agent().predict(np.zeros(shape, np.float32))


# ------------------------------------------------------------------------------------------------ options


def test_wrong_environments_options_and_devices() -> None:
    with pytest.raises(OptionError, match=r"expected a vector environment.*OrderEnforcing"):
        PA3C(gym.make("PixelSegEnv-v0", dataset=small_set()))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"\(C, H, W\), got \(4,\)"):
        PA3C(gym.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(OptionError, match="Did you mean 'width'"):
        make_agent(widht=1)
    with pytest.raises(OptionError, match="total_updates=0"):
        make_agent().learn(0)
    with pytest.raises(OptionError, match='expected "auto"'):
        make_agent(device="gpu9")


def test_a_device_that_is_not_there_is_refused_in_few_words() -> None:
    with pytest.raises(OptionError, match=r"device=.mps.: cannot be used here .*; use .cpu. or .auto.") as caught:
        make_agent(device="mps")
    assert len(str(caught.value)) < 260


def test_cuda_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = make_agent().save(tmp_path / "agent")
    for device in ("cuda", "cuda:0", torch.device("cuda")):
        with pytest.raises(OptionError, match="no CUDA device is available"):
            make_agent(device=device)
        with pytest.raises(OptionError, match="no CUDA device is available") as caught:
            PA3C.load(path, device=device)
        assert not isinstance(caught.value, CheckpointError), "the file is not at fault"
    assert make_agent(device="auto").device == torch.device("cpu")


def test_what_is_left_to_the_task_is_spelt_out() -> None:
    horizons = {task: PA3CConfig().for_task(*task).horizons for task in TASKS}
    assert horizons.pop(("restorable", "stacked")) == (2, 3, 10)
    assert set(horizons.values()) == {(1, 2, 10)}
    later = {task: PA3CConfig().for_task(*task).later_background_weight for task in TASKS}
    assert {later[task] for task in TASKS if task[0] == "absorbing"} == {0.25}
    assert {later[task] for task in TASKS if task[0] == "restorable"} == {1.0}
    assert PA3CConfig(later_background_weight=0.5).for_task(*TASKS[0]).later_background_weight == 0.5
    constant = PA3CConfig(horizons=(10,))
    biases = [constant.for_task(*task).start_bias for task in TASKS]
    assert sorted(bias or 0.0 for bias in biases) == [0.0, 2.0, 4.0, 4.0]
    assert PA3CConfig(horizons=(10,), start_bias=1.0).for_task(*TASKS[0]).start_bias == 1.0
    assert PA3CConfig().for_task(*TASKS[0]).to_dict()["horizon_shares"] == pytest.approx((0.6, 0.2, 0.2))
    assert PA3CConfig(horizon_shares=(1, 1, 1)).for_task(*TASKS[0]).shares == (1, 1, 1)
    with pytest.raises(OptionError, match="horizon_shares"):
        PA3CConfig(horizon_shares=(1, 1)).for_task(*TASKS[0])


def test_an_environment_with_other_rules_is_refused(tmp_path: Path) -> None:
    path = make_agent().save(tmp_path / "agent")
    with pytest.raises(OptionError, match="transition='absorbing'"):
        PA3C.load(path, env=make_env(transition="restorable"))


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0}, {"norm": "batch"}, {"head_stride": 3}, {"learning_rate": 0}, {"gamma": 1.1}, {"gamma": -0.1},
        {"horizons": (1.5,)}, {"horizons": (0,)}, {"horizons": (1, 2), "horizon_shares": (1,)},
        {"horizon_shares": (0, 1, 1)}, {"value_coefficient": -1}, {"entropy_coefficient": -1}, {"foreground_weight": 0},
        {"final_foreground_weight": 0}, {"later_background_weight": 0},
        {"reward_map_convolution": 2}, {"reward_map_on": "values"}, {"max_gradient_norm": -1},
        {"learning_rate_schedule": "cosine"},
    ],
)  # fmt: skip
def test_values_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="|".join(changes)):
        PA3CConfig().replace(**changes)


def test_config_survives_json() -> None:
    for config in (
        PA3CConfig(),
        PA3CConfig.published(),
        PA3CConfig(horizons=(2,), horizon_shares=(1.0,), start_bias=1),
    ):
        assert PA3CConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert PA3CConfig.published(width=0.5).width == 0.5
    for horizons in ((2,), (2, 4), (1, 2, 3, 4)):
        shares = PA3CConfig(horizons=(1, 5, 9), horizon_shares=(1, 1, 1)).replace(horizons=horizons).shares
        assert len(shares) == len(horizons)
        assert sum(shares) == pytest.approx(1)


# ------------------------------------------------------------------------------------------------ updates


@pytest.mark.parametrize("norm", ["group", "none"])
def test_every_parameter_moves_at_every_update(norm: str) -> None:
    """Catches gradients that no longer reach the optimizer, as `set_to_none` does to copied A3C code."""
    agent = make_agent(
        norm=norm, reward_map_convolution=3, horizons=(3,), horizon_shares=(1.0,), learning_rate_schedule="constant"
    )
    history = [weights(agent)]
    agent.learn(4, callback=lambda a: history.append(weights(a)))
    for before, after in itertools.pairwise(history):
        for name in before:
            moved = float((before[name] - after[name]).abs().max())
            # The softmax does not see the keys' bias. Without normalisation the attention's other inputs are so
            # faint at the start that Adam's epsilon swallows their gradients; test_networks sees that they are there.
            idle = name == "sam.key.bias" or (norm == "none" and name.startswith(("sam.query", "sam.key")))
            assert moved > 0 or idle, name


def test_the_optimizer_sees_each_new_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent()
    seen: list[list[Tensor]] = []
    fresh: list[list[Tensor]] = []
    plain_step, plain_descend = agent.optimizer.step, agent._descend

    def step(*args: Any) -> Any:
        groups = agent.optimizer.param_groups
        seen.append([p.grad.clone() for g in groups for p in g["params"] if p.grad is not None])
        return plain_step(*args)

    def descend(loss: Tensor) -> float:
        # What the gradient must be, worked out apart from zero_grad, backward and clipping.
        gradients = torch.autograd.grad(loss, agent._parameters, retain_graph=True)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        fresh.append([g * min(1.0, float(agent.config.max_gradient_norm / (norm + 1e-6))) for g in gradients])
        assert plain_descend(loss) == pytest.approx(float(norm), rel=1e-4)
        return float(norm)

    monkeypatch.setattr(agent.optimizer, "step", step)
    monkeypatch.setattr(agent, "_descend", descend)
    agent.learn(5)
    assert len(seen) == len(fresh) == 5
    for given, expected in zip(seen, fresh, strict=True):
        for one, other in zip(given, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-7)
    assert all(not torch.equal(a[0], b[0]) for a, b in itertools.pairwise(seen))
    assert {id(p) for g in agent.optimizer.param_groups for p in g["params"]} == {
        id(p) for p in agent.network.parameters()
    }


def losses_of(agent: PA3C, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The terms of the loss of one update, with their graph, and the arguments they were computed from."""
    caught: dict[str, Any] = {}
    plain = agent._losses

    def losses(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
        names = ("logits", "values", "actions", "returns", "alive")
        caught["arguments"] = dict(zip(names, args, strict=False)) | kwargs
        caught["losses"] = plain(*args, **kwargs)
        return caught["losses"]

    with monkeypatch.context() as patch:
        patch.setattr(agent, "_losses", losses)
        patch.setattr(agent, "_descend", lambda loss: 0.0)
        agent.learn(1)
    return caught["losses"], caught["arguments"]


def gradient(loss: Tensor, module: torch.nn.Module) -> float:
    parameters = list(module.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return sum(float(g.abs().sum()) for g in found if g is not None)


def test_each_loss_reaches_its_own_head_and_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(horizons=(3,), horizon_shares=(1.0,))
    losses, _ = losses_of(agent, monkeypatch)
    network = agent.network
    assert gradient(losses["policy_loss"], network.value) == 0, "the advantage is detached"
    assert gradient(losses["policy_loss"], network.policy) > 0
    assert gradient(losses["value_loss"], network.policy) == 0
    assert gradient(losses["value_loss"], network.value) > 0
    assert gradient(losses["entropy"], network.value) == 0
    for term in ("policy_loss", "value_loss", "entropy"):
        assert gradient(losses[term], network.trunk) > 0
        assert gradient(losses[term], network.sam) > 0


@pytest.mark.parametrize("transition", ["absorbing", "restorable"])
def test_losses_are_those_of_algorithm_1(transition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(transition=transition)
    options = {"horizons": (3,), "horizon_shares": (1.0,), "augmentation": False, "start_bias": 0.5}
    agent = make_agent(env, foreground_weight=3.0, final_foreground_weight=3.0, **options)
    steps: list[Any] = []
    plain_step = env.step
    monkeypatch.setattr(env, "step", lambda a: steps.append((a, plain_step(a))) or steps[-1][1])
    losses, arguments = losses_of(agent, monkeypatch)

    foreground = torch.from_numpy(np.array(steps[0][1][4]["target"])).float()
    later = 0.25 if transition == "absorbing" else 1.0  # a later step earns less by zeroing background for good
    weights = [1 + 2 * foreground, *[3 * foreground + later * (1 - foreground)] * 2]
    rewards = [torch.from_numpy(step[1][4]["reward_map"]) * weight for step, weight in zip(steps, weights, strict=True)]
    returns, following = [], torch.zeros_like(rewards[0])
    for reward in reversed(rewards):
        following = reward + agent.config.gamma * following
        returns.insert(0, following)
    torch.testing.assert_close(arguments["returns"], torch.stack(returns))
    actions = torch.from_numpy(np.stack([a for a, _ in steps]))
    assert torch.equal(arguments["actions"], actions.float()), "what was done is what is learnt from"

    # A pixel that was zeroed has left the absorbing game; everybody plays the restorable one to the end.
    maps = np.stack([np.ones_like(steps[0][1][4]["segmentation"]), *(r[4]["segmentation"] for _, r in steps[:-1])])
    playing = torch.from_numpy(maps if transition == "absorbing" else np.ones_like(maps)).bool()
    policy = torch.distributions.Bernoulli(logits=arguments["logits"].detach())
    advantage = torch.stack(returns) - arguments["values"].detach()
    expected = -(policy.log_prob(actions.float()) * advantage)[playing].mean()
    torch.testing.assert_close(losses["policy_loss"].detach(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["entropy"].detach(), policy.entropy()[playing].mean(), rtol=1e-4, atol=1e-6)
    value_loss = advantage[playing].square().mean()
    torch.testing.assert_close(losses["value_loss"].detach(), value_loss, rtol=1e-4, atol=1e-6)
    total = expected + agent.config.value_coefficient * value_loss
    total = total - agent.config.entropy_coefficient * policy.entropy()[playing].mean()
    torch.testing.assert_close(losses["loss"].detach(), total, rtol=1e-4, atol=1e-6)


def test_a_good_surprise_makes_the_action_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent()
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    zeros = torch.zeros(1, 1, 1, 2)
    for action, surprise in ((1, 1), (1, -1), (0, 1), (0, -1)):
        losses = agent._losses(logits, zeros, zeros + action, zeros + surprise, zeros + 1)
        (slope,) = torch.autograd.grad(losses["policy_loss"], logits)
        assert torch.equal(-slope.sign(), zeros + (2 * action - 1) * surprise)


def test_a_pixel_that_has_left_the_game_teaches_nothing() -> None:
    """Else black images by the thousand redraw the trunk when t_max first exceeds 1 (benchmarks/LOG.md)."""
    agent = make_agent()
    logits, values = torch.randn(2, 1, 1, 2, 2), torch.randn(2, 1, 1, 2, 2)
    alive = torch.tensor([1.0, 0.0]).expand(1, 2, 2).expand(2, 1, 1, 2, 2).clone()
    parts = [part.requires_grad_() for part in (logits, values)]
    losses = agent._losses(*parts, torch.ones_like(alive), torch.randn_like(alive), alive)
    for slope in torch.autograd.grad(losses["loss"], parts):
        assert torch.equal(slope != 0, alive.bool())


@pytest.mark.parametrize("told", [True, False])
def test_terms_of_parts_add_up_to_those_of_the_batch(told: bool) -> None:
    """Whether the parts are one process's, which tells how many pixels play, or of two that ask each other."""
    generator = torch.Generator().manual_seed(0)
    logits, values, actions, returns, playing = torch.randn((5, 2, 4, 3, 3), generator=generator)
    actions, playing = (actions > 0).float(), (playing > 0).float()
    agent = make_agent()
    whole = agent._losses(logits, values, actions, returns, playing)

    class Half(Team):
        def total(self, value: Tensor) -> Tensor:
            return playing.sum()

    parts = []
    for rank, images in enumerate((slice(2), slice(2, None))):
        agent.team = Team() if told else Half(rank, 2)
        batch = (part[:, images] for part in (logits, values, actions, returns, playing))
        parts.append(agent._losses(*batch, playing.sum() if told else None))
    for name, value in whole.items():
        both = parts[0][name] + parts[1][name]
        torch.testing.assert_close(both / 2 if told and name in ("advantage", "keep") else both, value, msg=name)
    torch.testing.assert_close(whole["advantage"], (returns - values).abs().mean())
    torch.testing.assert_close(whole["keep"], actions.mean())
    none = agent._losses(logits, values, actions, returns, 0 * playing, torch.tensor(0.0))
    assert none["loss"] == 0, "nobody plays"
    one = torch.zeros_like(playing)
    one[0, 0, 0, 0] = 1
    alone = agent._losses(logits, values, actions, returns, one, one.sum())
    torch.testing.assert_close(alone["value_loss"], (values - returns)[0, 0, 0, 0] ** 2)


def test_augmented_learning_sees_actions_rewards_and_maps_of_one_pixel_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under augmentation, reward must still tell of the action that was taken at that place."""
    env = make_env(8)
    agent = make_agent(env, horizons=(3,), horizon_shares=(1.0,), start_bias=0.0, gamma=0.0)
    agent.config = agent.config.replace(foreground_weight=1.0, final_foreground_weight=1.0)
    _, arguments = losses_of(agent, monkeypatch)
    alive, actions, rewards = arguments["alive"], arguments["actions"], arguments["returns"]
    removed = (alive == 1) & (actions == 0)
    assert torch.equal(rewards != 0, removed), "Eq. 12: exactly the pixels zeroed in this step are rewarded or punished"
    assert (rewards > 0).any()
    assert (rewards < 0).any()
    assert torch.equal(alive[1:], alive[:-1] * actions[:-1])


@pytest.mark.parametrize("on", ["returns", "values"])
def test_the_convolution_learns_and_is_saved(on: str, tmp_path: Path) -> None:
    agent = make_agent(reward_map_convolution=3, reward_map_on=on, horizons=(3,), horizon_shares=(1.0,)).learn(3)
    assert agent.convolution is not None
    assert agent.convolution.weight.count_nonzero() == 9
    assert_same_weights(PA3C.load(agent.save(tmp_path / "a"), device="cpu"), agent)
    one_step = make_agent(reward_map_convolution=3, horizons=(1,), horizon_shares=(1.0,)).learn(3)
    assert one_step.convolution is not None
    assert one_step.convolution.weight.count_nonzero() == 1, "skipped at a terminal step"


def test_the_readings_of_eq8_differ_where_a_step_follows() -> None:
    for horizon, alike in ((1, True), (2, False)):
        options: dict[str, Any] = {"reward_map_convolution": 3, "horizons": (horizon,), "seed": 1}
        one, other = (make_agent(reward_map_on=on, **options).learn(2) for on in ("returns", "values"))
        assert differ(one, other) is not alike


def test_eq8_on_values_counts_what_the_next_state_is_worth() -> None:
    rollouts = []
    for on in ("returns", "values"):
        agent = make_agent(reward_map_convolution=3, reward_map_on=on, gamma=0.5, horizons=(3,), seed=1)
        rollouts.append(agent._rollout(*agent._play(3), 3, 1.0))
    sums, found = rollouts
    rewards = sums.returns - 0.5 * torch.cat([sums.returns[1:], torch.zeros_like(sums.returns[:1])])
    following = torch.cat([found.values[1:], torch.zeros_like(found.values[:1])])
    torch.testing.assert_close(found.returns, rewards + 0.5 * following, rtol=1e-4, atol=1e-4)


def test_foreground_weight_starts_at_the_class_ratio_and_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env()
    ratio = env.unwrapped.dataset.class_ratio
    used: list[tuple[int, float]] = []
    for start, final, ends in ((None, 2.0, (ratio, 2)), (5.0, 1.0, (5, 1)), (None, 99.0, (99, 99))):
        agent = make_agent(
            env, foreground_weight=start, final_foreground_weight=final, horizons=(1, 3, 10), horizon_shares=(3, 1, 1)
        )
        used.clear()
        monkeypatch.setattr(agent, "_update", lambda horizon, weight: used.append((horizon, weight)) or horizon)
        agent.learn(200)
        values = [weight for _, weight in used]
        assert values == sorted(values, reverse=True)
        assert (values[0], values[-1]) == pytest.approx(ends)
        assert [h for h, _ in used] == sorted(h for h, _ in used)
        assert {h for h, _ in used} == {1, 3, 10}


def test_previews_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, used = make_agent(horizons=(1, 3), horizon_shares=(1, 1), preview_every=4), []
    monkeypatch.setattr(agent, "_update", lambda horizon, weight: used.append(horizon) or horizon)
    agent.learn(80)
    first = agent.config.schedule(80).lengths[0]
    assert used[:8] == [1, 1, 1, 3] * 2
    assert set(used[first:]) == {3}


def test_learning_rate_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env()  # 8 images, 2 at a time: an epoch is 4 updates

    def rates(total: int, **options: Any) -> list[float]:
        agent = make_agent(env, learning_rate=0.01, horizons=(1,), horizon_shares=(1.0,), **options)
        monkeypatch.setattr(agent, "_update", lambda horizon, weight: horizon)
        seen: list[float] = []
        agent.learn(total, callback=lambda a: seen.append(a.optimizer.param_groups[0]["lr"]))
        return seen

    epochs = rates(410, learning_rate_schedule="epochs")
    for epoch in range(102):
        assert epochs[4 * epoch : 4 * epoch + 4] == pytest.approx([0.01 * 0.9 ** (epoch // 25)] * 4)
    assert rates(10, learning_rate_schedule="constant") == [0.01] * 10
    assert rates(10) == pytest.approx([0.01 * (1 - u / 10) for u in range(10)])


def test_the_learning_rate_falls_by_steps_not_by_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(learning_rate=0.01, horizons=(1, 3), horizon_shares=(1.0, 1.0))
    monkeypatch.setattr(agent, "_update", lambda horizon, weight: horizon)
    seen: list[float] = []
    agent.learn(40, callback=lambda a: seen.append(a.optimizer.param_groups[0]["lr"]))
    assert seen[30] == pytest.approx(0.005), "30 updates of one step, then 10 of three"


# ------------------------------------------------------------------------------------------------ repeat, resume


def test_the_seed_decides_and_global_generators_are_left_alone() -> None:
    states = []
    for work in (None, make_agent):
        torch.manual_seed(1)
        np.random.seed(1)
        if work is not None:
            work(seed=3).learn(4).predict(np.zeros((2, 16, 16), np.float32), deterministic=False)
        states.append((torch.rand(1).item(), np.random.rand()))
    assert states[0] == states[1]
    one = make_agent(seed=3).learn(4)
    torch.manual_seed(2)
    assert_same_weights(make_agent(seed=3).learn(4), one)
    assert differ(make_agent(seed=4).learn(4), one)
    assert differ(make_agent(seed=3).learn(5), one)


class Stop:
    """Ends a training after some updates, as a user's callback would."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def __call__(self, agent: PA3C) -> bool:
        return agent.updates < self.updates


@pytest.mark.parametrize("convolution", [0, 3])
def test_interrupted_saved_and_resumed_is_as_if_nothing_happened(tmp_path: Path, convolution: int) -> None:
    options = {"seed": 5, "reward_map_convolution": convolution}
    whole = make_agent(**options).learn(20)
    part = make_agent(**options).learn(20, callback=Stop(10))
    assert part.updates == 10
    path = part.save(tmp_path / "part")
    resumed = PA3C.load(path, env=make_env(), device="cpu")
    assert_same_weights(resumed, part)
    assert (resumed.updates, resumed.passes, resumed.total_updates) == (part.updates, part.passes, 20)
    resumed.learn(20)
    assert_same_weights(resumed, whole)
    assert resumed.passes == whole.passes
    assert_same_weights(part.learn(20), whole)


def test_two_calls_of_learn_are_one_where_nothing_depends_on_the_plan(tmp_path: Path) -> None:
    options = {
        "learning_rate_schedule": "epochs", "horizons": (2,), "horizon_shares": (1.0,), "foreground_weight": 2.0,
        "final_foreground_weight": 2.0,
    }  # fmt: skip
    whole = make_agent(**options).learn(20)
    path = make_agent(**options).learn(10).save(tmp_path / "half")
    assert_same_weights(PA3C.load(path, env=make_env(), device="cpu").learn(20), whole)


def test_a_loaded_agent_predicts_the_same(tmp_path: Path) -> None:
    agent = make_agent(sam=False, dilation=False, norm="none", width=0.2).learn(3)
    loaded = PA3C.load(agent.save(tmp_path / "a"), device="cpu")
    observation = make_env().reset(seed=0)[0]
    np.testing.assert_array_equal(loaded.predict(observation)[0], agent.predict(observation)[0])
    assert loaded.config == agent.config
    with pytest.raises(OptionError, match="no environment"):
        loaded.learn(5)


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    path = make_agent().learn(1).save(tmp_path / "agent")
    with pytest.raises(OptionError, match=r"trained on 2 channels.*\(3, 16, 16\)"):
        PA3C.load(path, env=make_env(observation="stacked"), device="cpu")
    original = load_checkpoint(path)
    other = save_checkpoint(tmp_path / "dqn", Checkpoint("DQN", original.settings, original.tensors))
    with pytest.raises(CheckpointError, match=r"dqn.*a checkpoint of DQN, expected PA3C"):
        PA3C.load(other)
    settings, tensors = original.settings, original.tensors
    name = next(name for name in tensors if name.startswith("network."))
    broken: list[tuple[dict[str, Any], dict[str, Tensor]]] = [
        ({k: v for k, v in settings.items() if k != "seed"}, tensors),
        (settings | {"config": settings["config"] | {"head_stride": 5}}, tensors),
        (settings | {"config": settings["config"] | {"unheard_of": 5}}, tensors),
        (settings | {"config": [1]}, tensors),
        (settings | {"channels": 7}, tensors),
        (settings, {k: v for k, v in tensors.items() if k != name}),
        (settings, tensors | {"odd.one": torch.ones(1)}),
        (settings, tensors | {"optimizer.x.step": torch.ones(1)}),
        (settings, tensors | {name: torch.ones(1)}),
    ]
    for number, (changed, held) in enumerate(broken):
        wrong = save_checkpoint(tmp_path / f"wrong{number}", Checkpoint("PA3C", changed, held))
        with pytest.raises(CheckpointError, match=f"wrong{number}"):
            PA3C.load(wrong, device="cpu")
    cut = shutil.copy(path, tmp_path / "cut.safetensors")
    Path(cut).write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        PA3C.load(cut)
    save_file(load_file(path), tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors.*not a PixelSeg checkpoint"):
        PA3C.load(tmp_path / "foreign")


# ------------------------------------------------------------------------------------------------ environments


@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_every_task_trains(transition: str, observation: str) -> None:
    options = {"transition": transition, "observation": observation}
    agent = make_agent(make_env(**options)).learn(12)
    assert all(torch.isfinite(value).all() for value in weights(agent).values())
    assert (agent.transition, agent.observation) == (transition, observation)
    assert agent.channels == 2 + (observation == "stacked")


def test_images_that_are_not_square_train() -> None:
    make_agent(make_env(dataset=small_set(height=12, width=9))).learn(6)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_vector_environment_and_autoreset_mode_trains_alike(mode: AutoresetMode) -> None:
    data = small_set(8, channels=2, height=16, width=16)
    sync = SyncVectorEnv([lambda: gym.make("PixelSegEnv-v0", dataset=data, horizon=3)] * 2, autoreset_mode=mode)
    reference = make_agent().learn(8)
    assert_same_weights(make_agent(make_env(autoreset_mode=mode)).learn(8), reference)
    agent = make_agent(sync).learn(8)
    assert (agent.transition, agent.observation) == ("absorbing", "masked")
    assert_same_weights(agent, reference)


class OtherEnv(VectorEnv[Any, Any, Any]):
    """A third party's environment with the documented infos and nothing else. Takes no horizon: always 4 steps."""

    def __init__(self, lengths: tuple[int, ...] = (4, 4), mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> None:
        self.num_envs = len(lengths)
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = gym.spaces.Box(0, 1, (1, 8, 8), np.float32)
        self.single_action_space = gym.spaces.MultiBinary((8, 8))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.lengths = np.array(lengths)

    def _result(self, reward_map: Any) -> tuple[Any, dict[str, Any]]:
        info = {
            "reward_map": reward_map,
            "target": self.target,
            "segmentation": self.map,
            "dice": np.zeros(self.num_envs),
        }
        return self.image * self.map[:, None], info

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        rng = np.random.default_rng(seed)
        self.image = rng.random((self.num_envs, 1, 8, 8), dtype=np.float32)
        self.target = (self.image[:, 0] > 0.7).astype(np.uint8)
        self.map = np.ones_like(self.target)
        self.time = 0
        return self._result(np.zeros(self.target.shape, np.float32))

    def step(self, actions: Any) -> Any:
        assert actions.shape == self.map.shape
        before, self.map = self.map, (self.map * actions).astype(np.uint8)
        self.time += 1
        reward = ((before != self.target) * 1.0 - (self.map != self.target)).astype(np.float32)
        observation, info = self._result(reward)
        ended = self.time >= self.lengths
        return observation, reward.mean((1, 2)), ended, np.zeros_like(ended), info


def test_a_third_party_environment_trains() -> None:
    agent = PA3C(OtherEnv(), **TINY)
    before = weights(agent)
    agent.learn(8)
    assert any(not torch.equal(value, before[name]) for name, value in weights(agent).items())
    assert (agent.transition, agent.observation) == ("absorbing", "masked")


def test_rollouts_end_with_the_episode_or_go_on_from_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, bool, Tensor]] = []

    def spied(rewards: Any, ended: Any, bootstrap: Tensor, *args: Any) -> Any:
        calls.append((len(rewards), bool(ended[-1].all()), bootstrap))
        return discounted_returns(rewards, ended, bootstrap, *args)

    monkeypatch.setattr(module, "discounted_returns", spied)
    for horizon, steps, whole in ((3, 3, False), (4, 4, True), (9, 4, True)):
        PA3C(OtherEnv(), **TINY, horizons=(horizon,), horizon_shares=(1.0,)).learn(1)
        assert calls[-1][:2] == (steps, whole)
        assert bool(calls[-1][2].any()) is not whole, "R = 0 at the end, V otherwise"
    with pytest.raises(OptionError, match=r"episodes of a batch to end together.*\[False, True\]"):
        PA3C(OtherEnv((4, 2)), **TINY, horizons=(3,), horizon_shares=(1.0,)).learn(1)


def test_only_public_names_of_the_environment_are_used() -> None:
    """A wrapper that lets through what the documentation promises, and nothing else."""
    env = make_env()
    allowed = {
        "num_envs", "single_observation_space", "single_action_space", "observation_space", "action_space", "reset",
        "step", "unwrapped", "dataset", "transition", "observation", "horizon", "metadata", "get_attr", "spec", "close",
        "closed", "render_mode", "reward_name", "actions", "observe_time", "order",
    }  # fmt: skip
    used: set[str] = set()

    class Guard(VectorEnv[Any, Any, Any]):
        def __getattribute__(self, name: str) -> Any:
            if name in ("__class__", "__dict__"):
                return object.__getattribute__(self, name)
            assert name in allowed, f"PA3C uses {name}"
            used.add(name)
            return self if name == "unwrapped" else getattr(env, name)

    assert_same_weights(make_agent(Guard()).learn(4), make_agent().learn(4))
    assert {"reset", "step", "num_envs"} <= used


def test_the_target_is_never_shown_to_the_network() -> None:
    """With the rewards held fixed, another target changes nothing that the network sees or does."""

    class Lying(OtherEnv):
        def _result(self, reward_map: Any) -> tuple[Any, dict[str, Any]]:
            observation, info = super()._result(reward_map)
            return observation, info | {"target": 1 - self.target}

    options = {**TINY, "foreground_weight": 1.0, "final_foreground_weight": 1.0, "later_background_weight": 1.0}
    assert_same_weights(PA3C(Lying(), **options).learn(4), PA3C(OtherEnv(), **options).learn(4))
    assert differ(PA3C(Lying(), **TINY, foreground_weight=5.0).learn(4), PA3C(OtherEnv(), **options).learn(4))


def test_a_set_without_foreground_trains_to_finite_weights() -> None:
    data = SegmentationDataset(
        "empty", np.full((2, 1, 8, 8), 9, np.uint8), np.zeros((2, 8, 8), np.uint8), ("a", "b"), np.arange(2)
    )
    agent = make_agent(make_env(dataset=data)).learn(3)
    assert all(torch.isfinite(value).all() for value in weights(agent).values())


# ------------------------------------------------------------------------------------------------ callback, log


def test_callback_and_log(tmp_path: Path) -> None:
    from stable_baselines3.common.logger import configure

    agent = make_agent()
    calls: list[int] = []
    agent.learn(
        12, callback=lambda a: calls.append(a.updates), log_interval=5, logger=configure(str(tmp_path), ["csv"])
    )
    assert calls == list(range(1, 13))
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    assert [int(row["time/updates"]) for row in rows] == [5, 10, 12]
    for key in ("train/loss", "train/policy_loss", "train/value_loss", "train/entropy", "train/dice", "train/reward",
                "train/learning_rate", "train/foreground_weight", "train/gradient_norm", "train/horizon"):  # fmt: skip
        assert all(np.isfinite(float(row[key])) for row in rows), key
    assert agent.passes == int(rows[-1]["time/passes"])
    assert agent.learn(12) is agent, "nothing left to do"
    assert calls[-1] == 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda(tmp_path: Path) -> None:
    agent = make_agent(device="cuda", reward_map_convolution=3).learn(6)
    assert all(value.is_cuda and torch.isfinite(value).all() for value in weights(agent).values())
    observation = make_env().reset(seed=0)[0]
    loaded = PA3C.load(agent.save(tmp_path / "a"), env=make_env(), device="cpu")
    assert (loaded.predict(observation)[0] == agent.predict(observation)[0]).mean() > 0.99
    loaded.learn(8)
    PA3C.load(agent.save(tmp_path / "a"), env=make_env(), device="cuda").learn(8)


@pytest.mark.parametrize(
    ("blow", "said"),
    [
        (lambda loss: loss * float("nan"), r"gradient is not finite \(loss nan\)"),
        (lambda loss: loss + float("inf"), r"loss is not finite \(loss inf\)"),  # whose gradient is finite
    ],
)
def test_a_training_that_blows_up_is_stopped_with_sound_weights(blow: Any, said: str) -> None:
    agent = make_agent(reward_map_convolution=0)
    good = [parameter.clone() for parameter in agent.network.parameters()]
    agent._losses = lambda logits, *_: {"loss": blow(logits.mean())}  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=rf"update 1: the {said}, on case\d \(slice \d\)"):
        agent.learn(1)
    assert all(torch.equal(a, b) for a, b in zip(good, agent.network.parameters(), strict=True))


def test_a_policy_that_is_certain_and_wrong_is_told_once() -> None:
    def told(**changes: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            make_agent(**changes).learn(5)
        return [str(one.message) for one in seen if one.category is SaturationWarning]

    (message,) = told(start_bias=-60.0)  # certain that nothing is there
    assert re.search(r"PA3C, update 1: .* 99% of the pixels, and wrong: Dice 0\.0\d\d, of keeping everything", message)
    assert "Try norm='group'" in message
    assert "policy_gradient='natural'" in message
    assert not told(start_bias=60.0), "as good as keeping everything, which it does"
    assert not told(start_bias=-60.0, policy_gradient="natural"), "whose gradient is not 0 there"
    assert not told()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("network.policy.output.weight", float("nan"), "NaN"), ("optimizer.0.exp_avg", None, "another shape")],
)
def test_checkpoints_that_cannot_go_on_are_refused(tmp_path: Path, key: str, value: float, message: str) -> None:
    path = make_agent().learn(1).save(tmp_path / "agent")
    checkpoint = load_checkpoint(path)
    tensor = checkpoint.tensors[key]
    changed = torch.full_like(tensor, value) if value else torch.zeros(3)
    save_checkpoint(path, Checkpoint("PA3C", checkpoint.settings, checkpoint.tensors | {key: changed}))
    with pytest.raises(CheckpointError, match=message):
        PA3C.load(path)


@pytest.mark.parametrize("changes", [{"horizons": 10}, {"width": "a"}, {"width": float("inf")}])
def test_values_of_the_wrong_type(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(changes))):
        PA3CConfig(**changes)


def test_seeds_and_counts_must_be_whole_numbers() -> None:
    for seed in (-1, 1.5, 2**70):
        with pytest.raises(OptionError, match="seed"):
            PA3C(make_env(), seed=seed, width=0.125)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="total_updates"):
        make_agent().learn(1.5)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="log_interval"):
        make_agent().learn(1, log_interval=0)


def plain_difference(previous: Any, current: Any, target: Any) -> Any:
    """A reward of the user's own."""
    return (previous - target) ** 2 - (current - target) ** 2


def test_weights_that_belong_to_equation_12_are_off_under_other_rewards() -> None:
    ratio = make_env().unwrapped.dataset.class_ratio
    for reward, start, later in (
        ("squared_error", ratio, 0.25), ("sign", ratio, 0.25), ("2*squared_error", ratio, 0.25),
        (plain_difference, 1, 1), ("dice_gain", 1, 1),
        ("balanced", 1, 1), ("0.5*squared_error + 0.5*dice_gain", 1, 1),
    ):  # fmt: skip
        agent = make_agent(make_env(reward=reward))
        assert agent.start_weight() == [pytest.approx(start)], reward
        assert agent.config.later_background_weight == later, reward
    asked = make_agent(make_env(reward="dice_gain"), foreground_weight="ratio", later_background_weight=0.25)
    assert asked.start_weight() == [pytest.approx(ratio)]
    assert asked.config.later_background_weight == 0.25
    assert make_agent(make_env(reward="dice_gain"), foreground_weight=3.0).start_weight() == [3]


def test_a_custom_reward_is_learnt_from_as_it_is() -> None:
    """Eq. 12 as a function of one's own trains as Eq. 12 does without weights."""
    plain = {"foreground_weight": 1.0, "later_background_weight": 1.0}
    own = make_agent(make_env(reward=plain_difference)).learn(4)
    same = make_agent(make_env(reward="squared_error"), **plain).learn(4)
    weighted = make_agent(make_env(reward="squared_error")).learn(4)
    assert all(torch.equal(a, b) for a, b in zip(weights(own).values(), weights(same).values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(own).values(), weights(weighted).values(), strict=True))
