"""The other teachers that were tried: each trains, and does what sets it apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.study import teachers
from pixelseg_env import PixelSegVectorEnv
from tests.helpers.env import small_set

KINDS = (teachers.Unweighted, teachers.Regression, teachers.OwnTrunk, teachers.Clipped, teachers.AllActions)


@pytest.mark.parametrize("kind", KINDS)
def test_each_trains_and_counts_its_passes(kind: Any) -> None:
    agent = kind(PixelSegVectorEnv(2, small_set()), width=0.05, horizons=(2,), device="cpu")
    before = [one.detach().clone() for one in agent._parameters]
    agent.learn(2)
    assert all(torch.isfinite(one).all() for one in agent._parameters)
    assert any(not torch.equal(one, two) for one, two in zip(before, agent._parameters, strict=True))
    assert agent.passes == 2 * 2 * agent.passes_per_update(2)


def test_what_each_makes_of_advantages() -> None:
    env = PixelSegVectorEnv(2, small_set())
    logits = torch.tensor([[-3.0, 3.0]], requires_grad=True)
    actions, advantage = torch.ones(1, 2), torch.tensor([[1.0, 1.0]])

    def push(kind: Any, **changes: Any) -> list[float]:
        agent = kind(env, width=0.05, device="cpu", **changes)
        if kind is teachers.Clipped:  # the policy has moved far from the one that played
            agent._old = agent.policy.log_probability(logits, actions).detach() - torch.tensor([[1.0, 0.0]])
        (gradient,) = torch.autograd.grad(-agent._policy_loss(logits, actions, advantage).sum(), logits)
        return [round(one, 4) for one in gradient.flatten().tolist()]

    rare, usual = push(teachers.Unweighted)
    assert rare == usual == 1.0
    rare, usual = push(teachers.Clipped)
    assert rare == 0.0  # beyond the ratio there is no more push
    assert usual > 0
    agent, ones = teachers.Regression(env, width=0.05, device="cpu"), torch.ones(1, 2)
    with torch.no_grad():
        worse, better = (agent._policy_loss(logits, actions, sign * ones)[0, 0] for sign in (-1, 1))
    assert float(better / worse) == pytest.approx(torch.tensor(2 / teachers.TEMPERATURE).exp().item(), rel=1e-3)
    apart = teachers.OwnTrunk(env, width=0.05, device="cpu")
    seen = torch.rand(2, apart.task.channels, 16, 16)
    grads = torch.autograd.grad(
        apart._forward(seen)[1].sum(), list(apart.network.actor.parameters()), allow_unused=True
    )
    assert all(one is None for one in grads), "the critic's loss does not reach the policy's network"


def test_a_critic_of_both_actions_moves_the_policy_alike_whichever_was_drawn() -> None:
    agent = teachers.AllActions(PixelSegVectorEnv(2, small_set()), width=0.05, device="cpu")
    seen = torch.rand(2, agent.task.channels, 18, 16)
    logits, values = agent._forward(seen)
    assert values.shape == (2, 2, 18, 16)
    returns, ones = torch.rand(2, 18, 16), torch.ones(2, 18, 16)
    zero, keep = values.unbind(1)
    for actions in (ones, 0 * ones):
        losses = agent._losses(logits, values, actions, returns, ones)
        (push,) = torch.autograd.grad(-losses["policy_loss"] * ones.sum(), logits, retain_graph=True)
        probability = logits.sigmoid()
        torch.testing.assert_close(push, probability * (1 - probability) * (keep - zero))
        (error,) = torch.autograd.grad(losses["value_loss"] * ones.sum(), values, retain_graph=True)
        taken = int(actions.mean())
        torch.testing.assert_close(error[:, taken], 2 * (values[:, taken] - returns))
        assert not error[:, 1 - taken].any()
