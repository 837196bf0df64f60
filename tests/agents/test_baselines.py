"""DQN, Double DQN, Dueling DQN and AC: what each computes, that each learns, and that a broken one is caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from torch import Tensor

from pixelseg_agents import AC, DQN, PA3C, DoubleDQN, DuelingDQN, PixelRL, Supervised
from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.learning.replay import Transitions
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.networks.unet import ActorCriticUNet, QNetwork
from pixelseg_agents.references import KeepAll, Oracle, Otsu
from pixelseg_agents.registry import AGENTS, load_agent
from pixelseg_env import OptionError
from tests.helpers.env import TASKS, small_set

BASELINES: list[Any] = [DQN, DoubleDQN, DuelingDQN, AC]
Q_LEARNERS: list[Any] = [DQN, DoubleDQN, DuelingDQN]
TINY: dict[str, Any] = {"width": 0.125, "device": "cpu"}
QUICK: dict[str, Any] = {"learning_starts": 4, "replay_batch": 4}


def make_env(num_envs: int = 2, **options: Any) -> VectorEnv[Any, Any, Any]:
    data = small_set(8, channels=2, height=16, width=16)
    return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, **{"dataset": data, "horizon": 3, **options})


def make_agent(kind: Any, env: Any = None, **changes: Any) -> Any:
    quick = QUICK if issubclass(kind, DQN) else {}
    return kind(env or make_env(), **{**TINY, **quick, **changes})


def weights(agent: PixelAgent) -> list[Tensor]:
    return [value.clone() for part in agent.parts.values() for value in part.state_dict().values()]


def same(one: PixelAgent, other: PixelAgent) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


# ------------------------------------------------------------------------------------------------ networks


def test_parameter_counts_are_the_published_ones() -> None:
    assert round(parameter_count(QNetwork()) / 1e6, 2) == 7.77
    assert round(parameter_count(ActorCriticUNet()) / 1e6, 2) == 10.82
    assert parameter_count(QNetwork(dueling=True)) - parameter_count(QNetwork()) == 33


@pytest.mark.parametrize("kind", BASELINES)
def test_widths_scale(kind: Any) -> None:
    counts = [parameter_count(make_agent(kind, width=width).network) for width in (0.125, 0.25, 0.5)]
    assert 3 < counts[1] / counts[0] < 4.5
    assert 3 < counts[2] / counts[1] < 4.5


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 30), (5, 3), (48, 64)])
@pytest.mark.parametrize("labels", [1, 2])
def test_networks_take_any_size(height: int, width: int, labels: int) -> None:
    maps = (3, height, width) if labels == 1 else (3, labels, height, width)
    image = torch.rand(3, 2, height, width)
    for dueling in (False, True):
        q = QNetwork(2, 0.125, dueling=dueling, labels=labels)(image)
        assert q.shape == (maps[0], 2, *maps[1:])
    assert [part.shape for part in ActorCriticUNet(2, 0.125, labels=labels)(image)] == [maps, maps]


def test_dueling_splits_q_into_a_value_and_advantages_without_a_mean() -> None:
    network, image = QNetwork(2, 0.125, dueling=True), torch.rand(2, 2, 16, 16)
    q = network(image)
    features = network.decoder(network.encoder(image))
    torch.testing.assert_close(q.mean(dim=1), network.value(features)[:, 0])
    advantages = network.actions(features)
    torch.testing.assert_close(q[:, 1] - q[:, 0], advantages[:, 1] - advantages[:, 0])


# ------------------------------------------------------------------------------------------------ one face


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_every_agent_trains_on_every_task(kind: Any, transition: str, observation: str) -> None:
    env = make_env(transition=transition, observation=observation)
    agent = make_agent(kind, env, horizons=(2,))
    before = weights(agent)
    agent.learn(4)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(agent), strict=True))
    assert agent.episodes == 8
    actions, state = agent.predict(env.reset(seed=0)[0])
    assert (actions.shape, actions.dtype, state) == ((2, 16, 16), np.int8, None)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_training_can_be_repeated_saved_and_loaded(kind: Any, tmp_path: Path) -> None:
    one, two, other = (make_agent(kind, seed=seed).learn(6) for seed in (3, 3, 4))
    assert same(one, two)
    assert not same(one, other)
    path = one.save(tmp_path / "agent")
    loaded = load_agent(path, env=make_env(), device="cpu")
    assert type(loaded) is kind
    assert same(one, loaded)
    assert (loaded.updates, loaded.passes, loaded.episodes) == (one.updates, one.passes, one.episodes)
    observation = np.random.default_rng(0).random((2, 2, 16, 16), dtype=np.float32)
    np.testing.assert_array_equal(one.predict(observation)[0], loaded.predict(observation)[0])
    assert loaded.learn(9).updates == 9


@pytest.mark.parametrize("kind", BASELINES)
def test_every_agent_goes_on_as_if_it_had_not_stopped(kind: Any, tmp_path: Path) -> None:
    """With its replay, whose oldest transitions have given way, and its counts; saved twice without learning too."""
    replay = {"replay_size": 6, "learning_starts": 4} if issubclass(kind, DQN) else {}
    whole, half = (make_agent(kind, **replay) for _ in range(2))
    whole.learn(6)
    half.learn(6, callback=lambda agent: agent.updates < 3)
    again = kind.load(half.save(tmp_path / "half"), env=make_env(), device="cpu")
    again = kind.load(again.save(tmp_path / "again"), env=make_env(), device="cpu").learn(6)
    assert same(whole, again)
    if issubclass(kind, DQN):
        assert again.gradient_steps == whole.gradient_steps > 2
        elsewhere = kind.load(half.save(tmp_path / "half"), env=make_env(dataset=small_set(9, 2, 16, 16)))
        assert not len(elsewhere._open_replay(elsewhere._play(1)[0])), "images of another set"


def test_a_damaged_replay_is_refused(tmp_path: Path) -> None:
    agent = make_agent(DQN, replay_size=6).learn(3)
    for name, value in (("next", torch.tensor(7)), ("step", torch.zeros(2)), ("maps", torch.zeros(3, 3, 9))):
        sound = agent.replay.contents()
        with pytest.raises(ValueError, match=r"expected|transitions|not as many"):
            agent.replay.restore(sound | {name: value})


@pytest.mark.parametrize("kind", [*BASELINES, PA3C])
@pytest.mark.parametrize("horizon", [1, 3])
def test_passes_are_what_was_planned(kind: Any, horizon: int) -> None:
    agent = make_agent(kind, horizons=(horizon,))
    if isinstance(agent, DQN):
        agent.config = agent.config.replace(learning_starts=1, replay_batch=2)
    seen = []
    handles = [part.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
               for part in agent.parts.values()]  # fmt: skip
    agent.learn(5)
    for handle in handles:
        handle.remove()
    assert agent.passes == sum(seen)
    first = 1 if kind in Q_LEARNERS else 0  # a replay that holds one-step ends alone asks for no next value
    assert agent.passes / 10 == pytest.approx(agent.passes_per_update(horizon), abs=1.3 * first)


@pytest.mark.parametrize("horizon", [1, 2])
def test_double_dqn_is_dqn_until_there_is_a_next_state(horizon: int) -> None:
    """At t_max 1 every state is followed by the end, whose value both take to be 0."""
    one, other = (make_agent(kind, horizons=(horizon,), target_update=1000) for kind in (DQN, DoubleDQN))
    for agent in (one, other):
        agent.learn(4)
        assert agent.gradient_steps >= 3
    assert same(one, other) == (horizon == 1)
    assert (one.passes == other.passes) == (horizon == 1)


def test_wrong_options_are_named() -> None:
    with pytest.raises(OptionError, match=r"Double DQN has no hyperparameter 'entropy'"):
        make_agent(DoubleDQN, entropy=1)
    for name, value in (("replay_size", 0), ("exploration_end", 2), ("target_update", 0.5), ("train_every", 0)):
        with pytest.raises(OptionError, match=name):
            make_agent(DQN, **{name: value})
    for kind, name in ((DoubleDQN, "double"), (DuelingDQN, "dueling")):
        with pytest.raises(OptionError, match=f"{name}=False is not valid: without it this is DQN"):
            make_agent(kind, **{name: False})
    # Neither of these would ever take a gradient step, and say nothing.
    with pytest.raises(OptionError, match=r"learning_starts=64.*at most replay_size"):
        make_agent(DQN, replay_size=50, learning_starts=64)
    with pytest.raises(OptionError, match="train_every=2: expected at most the smallest t_max"):
        make_agent(DQN, train_every=2)
    assert set(AGENTS) >= {"pa3c", "ac", "dqn", "double-dqn", "dueling-dqn"}


class DoubledRewards(VectorWrapper):
    """A wrapper that changes what a step earned."""

    def step(self, actions: Any) -> Any:
        *rest, info = self.env.step(actions)
        return *rest, info | {"reward_map": 2 * info["reward_map"]}


def test_rewards_that_a_replay_cannot_compute_again_are_refused() -> None:
    with pytest.raises(OptionError, match="register_reward"):
        make_agent(DQN, DoubledRewards(make_env())).learn(1)
    make_agent(DQN, make_env(reward="balanced")).learn(3)


# ------------------------------------------------------------------------------------------------ what is computed


class Tabled(torch.nn.Module):
    """Q-values or policy and value that do not depend on the observation, each a parameter."""

    def __init__(self, *maps: Tensor) -> None:
        super().__init__()
        self.maps = torch.nn.ParameterList(maps)

    def forward(self, observation: Tensor) -> Any:
        outputs = tuple(m.expand(len(observation), *m.shape) for m in self.maps)
        return outputs if len(outputs) > 1 else outputs[0]


def q_losses(
    kind: Any, terminal: list[bool], transition: str = "absorbing", step: int = 0, left: int | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """The gradient of the loss with respect to Q of one transition, and what it was computed from.

    With two values of `terminal` it is there twice, once as the end of an episode. Object pixels' rewards weigh 3,
    background's 0.5 after the first step. Of its map about half is left, or so many pixels.
    """
    agent = make_agent(kind, make_env(transition=transition), gamma=0.5, augmentation=False, max_gradient_norm=0.0,
                       later_background_weight=0.5, learning_starts=1)  # fmt: skip
    agent.learn(1)  # opens the replay
    rng = torch.Generator().manual_seed(1)
    online, target = torch.randn(2, 16, 16, generator=rng), torch.randn(2, 16, 16, generator=rng)
    agent.parts = {"network": Tabled(online.clone()), "target": Tabled(target)}
    agent._parameters = list(agent.network.parameters())
    before, action = (torch.randint(0, 2, (1, 16, 16), generator=rng, dtype=torch.uint8) for _ in range(2))
    if left is not None:
        before = (torch.arange(256) < left).to(torch.uint8).view(1, 16, 16)
    after = before & action if transition == "absorbing" else action
    times = len(terminal)
    maps = (m.expand(times, 16, 16) for m in (before, action, after))
    batch = Transitions(np.full(times, 3), np.full(times, step), *maps, np.array(terminal))
    caught: list[Tensor] = []
    agent._descend = lambda loss: caught.append(torch.autograd.grad(loss, agent._parameters)[0]) or 0.0
    agent._learn(batch, 3.0, torch.Generator().manual_seed(0))
    mask = torch.tensor(agent.env.unwrapped.dataset.masks[3]).float()
    parts = {"online": online, "target": target, "before": before[0].float(), "action": action[0].long()}
    return caught[0], parts | {"after": after[0].float(), "mask": mask}


def test_pixelrl_learns_from_the_reward_that_the_environment_has() -> None:
    """Its returns are what the fall of the cross-entropy adds up to, computed from the maps themselves."""
    env = make_env(transition="additive", observation="stacked", reward="cross_entropy")
    agent = make_agent(PixelRL, env, gamma=1.0, augmentation=False, foreground_weight=1.0, later_background_weight=1.0)
    episodes, sampling = agent._play(3)
    target = torch.as_tensor(episodes.info["target"]).float()
    maps = [torch.as_tensor(np.array(episodes.info["probability"]))]
    step = episodes.step

    def watched(action: Tensor) -> Tensor:
        found = step(action)
        maps.append(torch.as_tensor(np.array(episodes.of_this_step("probability"))))
        return found

    episodes.step = watched  # type: ignore[method-assign]
    returns = agent._rollout(episodes, sampling, 3, 1.0).returns
    entropy = [-torch.log((1 - (one.float() - target).abs()).clip(0.001, 0.999)) for one in maps]
    assert len(maps) == 4
    for k in range(3):
        torch.testing.assert_close(returns[k], entropy[k] - entropy[-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", Q_LEARNERS)
@pytest.mark.parametrize("terminal", [[False], [True], [False, True]])
@pytest.mark.parametrize("transition", ["absorbing", "restorable"])
@pytest.mark.parametrize("step", [0, 1])
def test_q_learning_by_the_definition(kind: Any, terminal: list[bool], transition: str, step: int) -> None:
    check_by_the_definition(kind, terminal, transition, step)


@pytest.mark.parametrize("left", [0, 1])
def test_one_pixel_that_plays_weighs_all_and_none_nothing(left: int) -> None:
    check_by_the_definition(DQN, [True], "absorbing", 1, left)


def check_by_the_definition(
    kind: Any, terminal: list[bool], transition: str, step: int, left: int | None = None
) -> None:
    gradient, p = q_losses(kind, terminal, transition, step, left)
    reward = (p["before"] - p["mask"]) ** 2 - (p["after"] - p["mask"]) ** 2
    reward = reward * torch.where(p["mask"] > 0, 3.0, 0.5 if step else 1.0)
    best = p["online"].argmax(0) if kind is DoubleDQN else p["target"].argmax(0)
    following = p["target"].gather(0, best[None])[0]
    playing = torch.ones_like(reward)
    if transition == "absorbing":
        following, playing = following * p["after"], p["before"]
    wanted = reward + 0.5 * (1 - np.mean(terminal)) * following
    chosen = p["online"].gather(0, p["action"][None])[0]
    expected = torch.zeros_like(p["online"])
    expected.scatter_(0, p["action"][None], (2 * (chosen - wanted) * playing / playing.sum().clamp_min(1))[None])
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("transition", ["absorbing", "restorable"])
def test_what_is_turned_together_teaches_the_same(transition: str) -> None:
    """Q that is the same everywhere knows no directions: then augmentation changes no loss, whatever was zeroed."""
    losses = []
    for augmentation in (False, True):
        agent = make_agent(DQN, make_env(transition=transition), gamma=0.5, augmentation=augmentation)
        agent.learn(1)
        q = torch.tensor([0.3, -0.7])[:, None, None].expand(2, 16, 16).clone()
        agent.parts = {"network": Tabled(q), "target": Tabled(q + 0.2)}
        agent._parameters = list(agent.network.parameters())
        agent._descend = lambda loss: losses.append(float(loss.detach())) or 0.0  # type: ignore[func-returns-value]
        rng = torch.Generator().manual_seed(1)
        before, action = (torch.rand(6, 16, 16, generator=rng) < 0.5 for _ in range(2))
        before[:, :, :9] = False  # on one side alone
        maps = (
            one.to(torch.uint8) for one in (before, action, before & action if transition == "absorbing" else action)
        )
        batch = Transitions(np.arange(6), torch.zeros(6, dtype=torch.long), *maps, torch.zeros(6, dtype=torch.bool))
        agent._learn(batch, 3.0, torch.Generator().manual_seed(0))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("network", [None, "unet3+"])
@pytest.mark.parametrize("kind", Q_LEARNERS)
def test_the_target_network_begins_as_the_network(kind: type[DQN], network: str | None) -> None:
    agent = make_agent(kind, network=network)
    parts = [agent.parts[name].state_dict() for name in ("network", "target")]
    assert parts[0].keys() == parts[1].keys()
    assert all(torch.equal(parts[0][name], parts[1][name]) for name in parts[0])


def check_that_the_target_follows(kind: type[DQN]) -> None:
    agent = make_agent(kind, target_update=3, learning_starts=1, horizons=(1,))

    def apart() -> bool:
        pairs = zip(agent.network.parameters(), agent.parts["target"].parameters(), strict=True)
        return any(not torch.equal(a, b) for a, b in pairs)

    seen = []
    agent.learn(6, callback=lambda _: seen.append((agent.gradient_steps, apart())))
    assert seen == [(1, True), (2, True), (3, False), (4, True), (5, True), (6, False)]
    assert not any(p.requires_grad for p in agent.parts["target"].parameters())


def test_the_target_network_follows_now_and_then() -> None:
    check_that_the_target_follows(DQN)


def replayed(agent: DQN) -> list[tuple[int, int, Tensor, Tensor, Tensor]]:
    """Everything in the replay, in the order in which it was stored."""
    assert agent.replay is not None
    replay, count = agent.replay, len(agent.replay)
    maps = replay._unpacked(replay._maps[:count]).reshape(count, 3, *replay.map_shape)
    return [(int(replay._index[k]), int(replay._step[k]), *maps[k]) for k in range(count)]


def test_the_replay_holds_what_happened_and_starts_anew_with_another_horizon() -> None:
    agent = make_agent(DQN, horizons=(1, 3), horizon_shares=(0.5, 0.5), learning_starts=1)
    sizes: list[int] = []
    agent.learn(8, callback=lambda _: sizes.append(len(agent.replay)))
    assert sizes == [2, 4, 6, 8, 10, 12, 6, 12]  # two images: one step each, then three
    found = replayed(agent)
    assert [step for _, step, *_ in found] == [0, 0, 1, 1, 2, 2] * 2
    assert any(0 < before.float().mean() < 1 for _, _, before, _, _ in found)
    for k, (index, step, before, action, after) in enumerate(found):
        assert torch.equal(after, before * action)
        if step:  # the same image's transition before
            assert found[k - 2][0] == index
            assert torch.equal(before, found[k - 2][4])
        else:
            assert before.all()


def test_the_replay_knows_which_image_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(DQN, make_env(3), horizons=(2,))
    act, looked = agent._act, []

    def spy(episodes: Any, replay: Any, generator: Any) -> None:
        seen, stored = episodes.observation.clone(), len(replay)
        act(episodes, replay, generator)
        images, targets = map(torch.from_numpy, agent._draw(replay._index[stored : len(replay)]))
        befores = torch.stack([before for _, _, before, _, _ in replayed(agent)[stored:]])
        torch.testing.assert_close(seen, images * befores[:, None])
        looked.append(torch.equal(targets, torch.as_tensor(episodes.of_this_step("target"))))

    monkeypatch.setattr(agent, "_act", spy)
    agent.learn(2)
    assert looked == [True] * 4


def test_gradient_steps_begin_and_come_as_they_are_asked_for() -> None:
    agent = make_agent(DQN, horizons=(4,), learning_starts=9, train_every=2)
    steps: list[int] = []
    agent.learn(3, callback=lambda _: steps.append(agent.gradient_steps))
    assert steps == [0, 2, 4], "two images, four steps each: nine transitions are there in the second update"
    with pytest.warns(UserWarning, match="DQN: no gradient step was taken, .*learning_starts=9"):
        make_agent(DQN, horizons=(4,), learning_starts=9).learn(1)


def test_every_update_draws_anew() -> None:
    agent = make_agent(DQN, learning_starts=1)
    seeds: list[int] = []
    learn = agent._learn
    agent._learn = lambda batch, weight, draws: seeds.append(draws.initial_seed()) or learn(batch, weight, draws)
    agent.learn(4)
    assert len(seeds) > len(set(seeds)) == 4


def test_what_follows_has_a_step_less_left() -> None:
    agent = make_agent(DQN, make_env(observe_time=True), learning_starts=1, horizons=(3,))
    seen: list[tuple[Any, Any]] = []
    learn, value = agent._learn, agent._next_value
    steps: list[Any] = []
    agent._learn = lambda batch, *more: steps.append(batch.step) or learn(batch, *more)  # type: ignore[func-returns-value]

    def next_value(observation: torch.Tensor) -> torch.Tensor:
        seen.append((steps[-1], observation[:, -1, 0, 0].numpy()))
        return value(observation)

    agent._next_value = next_value
    agent.learn(3)
    for step, plane in seen:
        np.testing.assert_allclose(plane, [1 / (2 - k) if k < 2 else 0 for k in step])
    assert seen


def test_both_observations_of_a_transition_are_turned_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(DQN, make_env(observation="stacked"), learning_starts=1).learn(1)
    maps = torch.randint(0, 2, (4, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    kept = Transitions(np.arange(4), torch.zeros(4).long(), maps, maps, maps, torch.zeros(4).bool())  # nothing changes
    seen: list[Tensor] = []
    for part in ("network", "target"):
        agent.parts[part].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    agent._learn(kept, 1.0, torch.Generator().manual_seed(0))
    following, now = seen
    assert torch.equal(following, now)
    assert not torch.equal(now[:, -1], maps.float()), "the draw turned something"


def test_epsilon_falls_and_rules_exploration() -> None:
    agent = make_agent(DQN, horizons=(1,), exploration_start=1.0, exploration_end=0.1, exploration_share=0.5)
    seen: list[float] = []
    agent.learn(10, callback=lambda _: seen.append(agent.epsilon))
    assert seen[4:] == [pytest.approx(0.1)] * 6
    assert seen[0] > seen[1] > seen[2] > 0.1
    q = torch.zeros(1, 2, 64, 64)
    q[:, 1] = 1.0
    for epsilon, kept in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5)):
        found = agent._explored(q, epsilon, torch.Generator().manual_seed(0)).float().mean()
        assert float(found) == pytest.approx(kept, abs=0.02)


def test_epsilon_falls_by_steps_not_by_updates() -> None:
    """An update of ten steps lets it fall ten times as far as one of one."""
    agent = make_agent(DQN, horizons=(1, 10), horizon_shares=(0.5, 0.5), exploration_end=0.0, exploration_share=1.0)
    agent.total_updates = 22
    horizons = [agent.config.schedule(22).horizon(update) for update in range(22)]
    assert horizons == [1] * 20 + [10] * 2
    for agent.updates in range(22):
        assert agent.epsilon == pytest.approx(1 - sum(horizons[: agent.updates]) / 40)


def test_epsilon_is_for_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(DQN, horizons=(1,), exploration_start=0.8, exploration_end=0.6, exploration_share=0.5)
    explored, asked, planned = agent._explored, [], []
    monkeypatch.setattr(agent, "_explored", lambda q, epsilon, g: asked.append(epsilon) or explored(q, epsilon, g))
    agent.learn(6, callback=lambda _: planned.append(agent.epsilon))
    assert asked == [0.8, *planned[:-1]]
    observation, _ = make_env(8).reset(seed=0)
    agent.predict(observation)
    agent.predict(observation, deterministic=False)
    assert asked[-2:] == [0.0, 0.6]


def ac_gradients(agent: AC, playing: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    logits, values = (torch.randn(1, 4, 4, generator=rng, requires_grad=True) for _ in range(2))
    actions = torch.randint(0, 2, (1, 4, 4), generator=rng).float()
    returns = torch.randn(1, 4, 4, generator=rng)
    caught: list[Any] = []
    agent._descend = lambda loss: caught.append(torch.autograd.grad(loss, [logits, values])) or 0.0  # type: ignore
    agent.logger = type("Silent", (), {"record_mean": lambda *_: None})()  # type: ignore[assignment]
    agent._learn(logits, values, actions, returns, playing)
    return *caught[0], {"logits": logits, "values": values, "actions": actions, "returns": returns}


def test_ac_by_the_definition() -> None:
    agent = make_agent(AC, entropy_coefficient=0.1, value_coefficient=0.5)
    playing = torch.ones(1, 4, 4)
    playing[0, 0] = 0
    policy, value, p = ac_gradients(agent, playing)
    share, advantage = playing / playing.sum(), p["returns"] - p["values"]
    # d log pi(a) / d logit = a - p, d H / d logit = -logit p (1 - p); the value head gets no gradient of either, so the
    # advantage is detached
    logits, keep = p["logits"].detach(), p["logits"].detach().sigmoid()
    bonus = 0.1 * logits * keep * (1 - keep) * share
    torch.testing.assert_close(policy, -(p["actions"] - keep) * advantage.detach() * share + bonus)
    torch.testing.assert_close(value, (-advantage * share).detach())


def test_an_advantage_that_is_not_detached_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    test_ac_by_the_definition()
    monkeypatch.setattr(Tensor, "detach", lambda self: self)
    with pytest.raises(AssertionError, match="not close"):
        test_ac_by_the_definition()


def test_ac_bootstraps_with_the_next_value_but_not_at_the_end() -> None:
    agent = make_agent(AC, gamma=0.5, horizons=(2,), augmentation=False, foreground_weight=4.0,
                       final_foreground_weight=4.0, later_background_weight=0.5)  # fmt: skip
    worth = torch.full((16, 16), 3.0)
    agent.parts = {"network": Tabled(torch.zeros(16, 16), worth)}
    seen: list[tuple[Tensor, ...]] = []
    agent._learn = lambda *args: seen.append(tuple(a.detach() for a in args))
    agent.learn(1)
    (_, _, actions, first, playing), (_, _, later_actions, last, later_playing) = seen
    assert playing.all(), "every pixel of a fresh image plays"
    assert torch.equal(later_playing, playing * actions)
    rewards = first - 0.5 * 3.0 * later_playing
    assert set(rewards.unique().tolist()) <= {-4.0, 0.0, 1.0}, "an object pixel lost, nothing, background zeroed"
    assert set(last.unique().tolist()) <= {-4.0, 0.0, 0.5}
    assert rewards.max() == 1
    assert last.max() == 0.5
    assert (rewards[actions == 0] != 0).all()
    assert len(later_actions) == 2


def test_ac_sends_no_gradient_through_what_follows() -> None:
    agent, seen = make_agent(AC, horizons=(2,)), []
    agent._learn = lambda *args: seen.append([a.requires_grad for a in args])
    agent.learn(1)
    assert seen == [[True, True, False, False, False]] * 2, "logits and values alone"


def test_ac_values_what_follows_for_those_alone_who_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(AC, make_env(transition="restorable"), gamma=0.5, horizons=(2,), foreground_weight=1.0)
    agent.parts = {"network": Tabled(torch.zeros(16, 16), torch.full((16, 16), 100.0))}
    play, seen = agent._play, []

    def uneven(horizon: int) -> Any:
        episodes, sampling = play(horizon)
        step = episodes.step

        def first_ends(action: Tensor) -> Tensor:
            reward: Tensor = step(action)
            episodes.ended = episodes.ended | np.array([True, False])
            return reward

        episodes.step = first_ends
        return episodes, sampling

    monkeypatch.setattr(agent, "_play", uneven)
    agent._learn = lambda *args: seen.append(args[3])
    agent.learn(1)
    ended, goes_on = seen[0]
    assert ended.abs().max() <= 1
    assert goes_on.min() >= 49


# ------------------------------------------------------------------------------------------------ learning

SIZE = 24
BAR = 0.6
UPDATES = 150
HYPER: dict[str, Any] = {"width": 0.125, "learning_rate": 3e-3, "horizons": (1, 3)}


def phantoms(split: str) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=8, split=split, size=SIZE, count=150, horizon=3)


def score(agent: Any) -> float:
    return float(evaluate(agent, phantoms("test").unwrapped).metrics["DICE"].mean())


def goes_on(agent: Any) -> bool:
    """Looks now and then, and ends a training that has reached the bar."""
    return bool(agent.updates % 30) or score(agent) <= BAR


def train(kind: Any, env: Any = None, updates: int = UPDATES) -> float:
    """Dice on held-out phantoms when the bar is reached, or after all updates."""
    torch.set_num_threads(1)
    # AC takes a gradient step per step of the environment, so its own are smaller.
    more = {"target_update": 20, "gamma": 0.9} if issubclass(kind, DQN) else {"learning_rate": 1e-3}
    agent = kind(env or phantoms("train"), seed=0, device="cpu", **(HYPER | more))
    return score(agent.learn(updates, callback=goes_on))


# In one training dueling, target and replay are those of all DQNs; what Double changes has tests of its own.
LONG = {DQN, DoubleDQN}


@pytest.mark.parametrize("kind", [pytest.param(one, marks=[pytest.mark.slow] * (one in LONG)) for one in BASELINES])
def test_every_agent_learns_what_thresholding_cannot(kind: Any) -> None:
    otsu, keep = score(Otsu()), score(KeepAll())
    assert train(kind) > BAR > max(otsu, keep) + 0.2


class IdleUNet(Supervised):
    """The optimizer never steps."""

    def _descend(self, loss: Tensor) -> float:
        return 0.0


@pytest.mark.parametrize(("kind", "learns"), [(Supervised, True), (IdleUNet, False)])
def test_the_unet_learns_and_a_broken_one_does_not(kind: type[Supervised], learns: bool) -> None:
    torch.set_num_threads(1)
    assert max(score(Otsu()), score(KeepAll())) + 0.2 < BAR
    updates = UPDATES // 2 if learns else 20  # an idle one is as it was after any number
    unet = kind(phantoms("train"), seed=0, device="cpu", width=0.125, learning_rate=3e-3).learn(updates)
    test = gym.make_vec("PixelSegEnv-v0", num_envs=8, split="test", size=SIZE, count=150, horizon=1).unwrapped
    assert (float(evaluate(unet, test).metrics["DICE"].mean()) > BAR) == learns


def test_the_oracle_is_perfect() -> None:
    env = phantoms("test").unwrapped
    assert evaluate(Oracle(env), env).metrics["DICE"].min() == 1.0


class SwappedActions(VectorWrapper):
    """Zero and keep change places between the agent and the environment."""

    def step(self, actions: Any) -> Any:
        return self.env.step(1 - actions)


class Idle(AC):
    """The optimizer never steps."""

    def _descend(self, loss: Tensor) -> float:
        return 0.0


class IdleDQN(DQN):
    """The optimizer never steps."""

    def _descend(self, loss: Tensor) -> float:
        return 0.0


class NoTargetUpdate(DQN):
    """The target network stays what it was at the start."""

    def _update_target(self) -> None:
        pass


class Worst(DuelingDQN):
    """Acts by the least Q-value."""

    def _explored(self, q: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        return super()._explored(-q, epsilon, generator)


FAULTS: dict[str, Any] = {"idle AC": Idle, "idle DQN": IdleDQN, "worst action": Worst}


# What acts or is rewarded the wrong way round is tried with PA3C each time (test_learning).
@pytest.mark.parametrize("fault", [pytest.param(f, marks=[pytest.mark.slow] * ("idle" not in f)) for f in FAULTS])
def test_a_broken_agent_does_not_reach_the_bar(fault: str) -> None:
    updates = 20 if "idle" in fault else UPDATES  # an idle one is as it was after any number
    assert train(FAULTS[fault], updates=updates) < BAR


@pytest.mark.slow
def test_swapped_actions_do_not_reach_the_bar() -> None:
    assert train(DoubleDQN, SwappedActions(phantoms("train"))) < BAR


def test_a_target_that_is_never_updated_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_that_the_target_follows(NoTargetUpdate)


def test_the_readme_tells_the_parameters_of_every_agent() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in readme.splitlines() if line.startswith("| `") and line.endswith(" M |")]
    told = {row[1].strip(" `"): row[4].strip() for row in rows}
    assert told.keys() == AGENTS.keys()
    data = small_set(4, channels=3, height=16, width=16)
    for name, kind in AGENTS.items():
        rules = {"transition": "additive"} if name == "pixelrl" else {}
        agent = kind(make_env(dataset=data, **rules), width=1.0, device="cpu")
        assert told[name] == f"{parameter_count(agent.network) / 1e6:.2f} M"


def late_and_bright(previous: Any, current: Any, target: Any, step: Any, horizon: Any, image: Any, action: Any) -> Any:
    """Eq. 12 with weights that depend on all that a reward may ask for."""
    earned = (previous - target) ** 2 - (current - target) ** 2
    return earned * (step / horizon) * (1 + image[..., 0, :, :]) * (1 + action)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_replayed_rewards_know_what_the_environments_knew(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(3, reward=late_and_bright, backend=backend)
    agent = make_agent(DQN, env, horizons=(3,), learning_starts=3, augmentation=False)
    played: dict[tuple[int, int], list[Tensor]] = {}
    replayed_maps: list[Any] = []
    act, reward = agent._act, agent._reward

    def spy_act(episodes: Any, *others: Any) -> None:
        act(episodes, *others)
        maps = torch.as_tensor(episodes.of_this_step("reward_map"))
        for image, row in zip(episodes.info["index"], maps, strict=True):
            played.setdefault((int(image), episodes.steps), []).append(row)

    def spy_reward(maps: Any, step: Any, index: Any, action: Any) -> Tensor:
        found = reward(maps, step, index, action)
        replayed_maps.append((step, index, maps, action, found))
        return found

    monkeypatch.setattr(agent, "_act", spy_act)
    monkeypatch.setattr(agent, "_reward", spy_reward)
    agent.learn(3)
    compared = 0
    for step, index, _, _, found in replayed_maps[1:]:
        for k in range(len(index)):
            rows = played[int(index[k]), int(step[k])]
            assert any(torch.allclose(found[k], row, atol=1e-6) for row in rows)
            compared += 1
    assert compared >= 8
    assert len({float(found.abs().max()) for *_, found in replayed_maps}) > 1
