"""What advantages do to a pixel's policy: the mean of both gradients is known, whatever the policy is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixelseg_agents import AC, PA3C, PA3CConfig, PixelRL
from pixelseg_agents.learning.distributions import Bernoulli, Categorical
from pixelseg_agents.learning.policy_gradient import POLICY_GRADIENTS, natural, vanilla
from pixelseg_env import OptionError, PixelSegVectorEnv
from tests.helpers.env import small_set

LOGITS = st.floats(-6, 6, width=32)
VALUES = st.floats(-3, 3, width=32)
EXPLORATION = st.floats(0.0625, 1, width=32)


def mean_push(loss: Any, policy: Any, logits: Tensor, values: list[float], exploration: float) -> Tensor:
    """What a step against the loss does to a pixel's logits, the mean over actions drawn from the behaviour."""
    leaf = logits.clone().requires_grad_()
    total = torch.zeros(())
    for action, value in enumerate(values):
        taken = torch.full((1, 1), action)
        probability = policy.behaviour(policy.log_probability(leaf, taken).detach().exp(), exploration)
        total = total + (probability * loss(policy, leaf, taken, torch.full((1, 1), value), exploration, 0.0)).sum()
    (gradient,) = torch.autograd.grad(-total, leaf)
    return gradient


@settings(deadline=None)
@given(LOGITS, VALUES, VALUES, EXPLORATION)
def test_a_natural_push_is_the_difference_of_the_values(
    logit: float, zero: float, keep: float, exploration: float
) -> None:
    logits = torch.full((1, 1), logit)
    probability = logits.sigmoid()
    found = mean_push(natural, Bernoulli(), logits, [zero, keep], exploration)
    torch.testing.assert_close(found, torch.full((1, 1), keep - zero), rtol=1e-4, atol=1e-4)
    fisher = probability * (1 - probability)
    plain = mean_push(vanilla, Bernoulli(), logits, [zero, keep], exploration)
    torch.testing.assert_close(plain, found * fisher, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(st.lists(LOGITS, min_size=3, max_size=3), st.lists(VALUES, min_size=3, max_size=3), EXPLORATION)
def test_among_several_actions_each_is_pushed_by_its_value_above_the_mean(
    several: list[float], values: list[float], exploration: float
) -> None:
    logits, policy = torch.tensor(several).view(3, 1, 1), Categorical(3)
    wanted = torch.tensor(values).view(3, 1, 1)
    found = mean_push(natural, policy, logits, values, exploration)
    torch.testing.assert_close(found, wanted - wanted.mean(), rtol=1e-4, atol=1e-4)
    pi = logits.softmax(0)
    plain = mean_push(vanilla, policy, logits, values, exploration)
    torch.testing.assert_close(plain, pi * (wanted - (pi * wanted).sum()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", POLICY_GRADIENTS)
def test_a_logit_is_not_pushed_beyond_the_limit_but_back(name: str) -> None:
    logits = torch.tensor([-5.0, -3.0, 3.0, 5.0]).view(1, 4).requires_grad_()
    for outwards in (True, False):
        advantage = torch.ones(1, 4) if outwards else -torch.ones(1, 4)
        loss = POLICY_GRADIENTS[name](Bernoulli(), logits, logits.detach() > 0, advantage, 0.1, 4.0)
        (gradient,) = torch.autograd.grad(-loss.sum(), logits)
        moved = (gradient != 0).flatten().tolist()
        assert moved == ([False, True, True, False] if outwards else [True] * 4)
        assert bool(((gradient * logits.detach() > 0) == outwards)[gradient != 0].all())


@pytest.mark.parametrize("policy", [Bernoulli(), Categorical(4)])
def test_some_actions_are_uniform(policy: Any) -> None:
    logits = torch.zeros(4, 100, 100) if isinstance(policy, Categorical) else torch.full((100, 100), -30.0)
    if isinstance(policy, Categorical):
        logits[0] = 30.0
    draws = torch.Generator().manual_seed(0)
    other = (policy.sample(logits, draws, 0.2) != 0).float().mean()
    assert float(other) == pytest.approx(
        0.2 * (policy.outputs - 1 if policy.outputs > 1 else 1) / max(2, policy.outputs), abs=0.02
    )
    assert not policy.sample(logits, draws).any()


def test_a_policy_that_is_certain_and_wrong_learns_only_by_the_natural_gradient() -> None:
    """A bandit for each of 256 pixels: keep earns 1, and the policy keeps at odds of 1 to 3,000."""
    ends = {}
    for name, loss in POLICY_GRADIENTS.items():
        draws = torch.Generator().manual_seed(0)
        logits = torch.full((256,), -8.0, requires_grad=True)
        optimizer = torch.optim.SGD([logits], lr=0.05)
        for _ in range(200):
            actions = Bernoulli().sample(logits.detach(), draws, 0.1)
            optimizer.zero_grad()
            loss(Bernoulli(), logits, actions, actions.float() - 0.5, 0.1, 4.0).sum().backward()
            optimizer.step()
        ends[name] = float(logits.detach().mean())
    assert ends["vanilla"] < -7
    assert ends["natural"] > 1


@pytest.mark.parametrize("kind", [PA3C, AC, PixelRL])
def test_agents_train_by_it_and_say_what_goes_with_it(kind: Any) -> None:
    task = {"transition": "additive", "observation": "stacked"} if kind is PixelRL else {}
    env = PixelSegVectorEnv(4, small_set(), **task)
    agent = kind(env, policy_gradient="natural", width=0.05, horizons=(2,), device="cpu")
    before = [one.detach().clone() for one in agent._parameters]
    agent.learn(2)
    assert any(not torch.equal(one, two) for one, two in zip(before, agent._parameters, strict=True))
    assert (agent.config.exploration, agent.config.logit_limit) == (0.1, 4.0)
    assert agent.config.entropy_coefficient == (0.001 if kind is PixelRL else 0.0)


def test_its_options_are_checked() -> None:
    for values in ({"policy_gradient": "steepest"}, {"exploration": 1.5}, {"logit_limit": -1.0}):
        with pytest.raises(OptionError, match=next(iter(values))):
            PA3CConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="exploration"):
        PA3CConfig(policy_gradient="natural", exploration=0.0)


@pytest.mark.parametrize("recompute", [False, True])
def test_equal_steps_weigh_the_same_however_few_pixels_play(recompute: bool) -> None:
    """Of two steps, one with 100 and one with 4 pixels; by decisions the second is 4 of 104."""
    agent = PA3C(PixelSegVectorEnv(1, small_set()), width=0.05, device="cpu", equal_steps=True, recompute=recompute)
    playing = torch.zeros(2, 1, 20, 20)
    playing[0, :, :10, :10] = playing[1, :, :2, :2] = 1
    share = playing / agent._total(playing)
    assert share.flatten(1).sum(1).tolist() == pytest.approx([0.5, 0.5])
    agent.config = agent.config.replace(equal_steps=False)
    share = playing / agent._total(playing)
    assert share.flatten(1).sum(1).tolist() == pytest.approx([100 / 104, 4 / 104])


def test_equal_steps_recomputed_give_the_same_gradient() -> None:
    found = []
    for recompute in (False, True):
        env = PixelSegVectorEnv(4, small_set(), horizon=3)
        options: dict[str, Any] = {"width": 0.05, "device": "cpu", "horizons": (3,), "seed": 1}
        agent = PA3C(env, policy_gradient="natural", recompute=recompute, **options)
        agent.apply_gradients = lambda: None
        agent.learn(1)
        found.append(torch.cat([one.grad.flatten() for one in agent._parameters if one.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-6)
    assert found[0].norm() > 0


@pytest.mark.parametrize("kind", [PA3C, AC])
def test_agents_explore_in_training_and_not_in_prediction(kind: Any) -> None:
    """A policy that is sure to keep: of the actions half are uniform, so a quarter is zero."""
    env = PixelSegVectorEnv(8, small_set(), horizon=1)
    agent = kind(env, exploration=0.5, start_bias=30.0, width=0.05, horizons=(1,), device="cpu")
    agent.learn(2, log_interval=9, callback=lambda one: False)
    assert agent.logger.name_to_value["train/keep"] == pytest.approx(0.75, abs=0.06)
    observation, _ = env.reset(seed=0)
    assert agent.predict(observation, deterministic=False)[0].all()
