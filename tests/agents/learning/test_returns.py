"""n-step returns against a plain loop, and the reward-map convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixelseg_agents.learning.returns import RewardMapConvolution, discounted_returns, one_step_returns


def rollout(steps: int, batch: int, seed: int, ends: float = 0.3) -> tuple[list[Tensor], list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = list(torch.randn((steps, batch, 5, 4), generator=generator))
    ended = list(torch.rand((steps, batch), generator=generator) < ends)
    return rewards, ended, torch.randn((batch, 5, 4), generator=generator)


def by_definition(
    rewards: list[Tensor], ended: list[Tensor], bootstrap: Tensor, gamma: float, t: int, b: int
) -> Tensor:
    """The sum of gamma^k r(t + k) until the episode ends, plus the bootstrap if it does not."""
    total, discount = torch.zeros(bootstrap.shape[1:]), 1.0
    for k in range(t, len(rewards)):
        total = total + discount * rewards[k][b]
        discount *= gamma
        if ended[k][b]:
            return total
    return total + discount * bootstrap[b]


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(1, 7), batch=st.integers(1, 3), seed=st.integers(0, 999), gamma=st.floats(0, 1))
def test_returns_by_definition(steps: int, batch: int, seed: int, gamma: float) -> None:
    rewards, ended, bootstrap = rollout(steps, batch, seed)
    returns = discounted_returns(rewards, ended, bootstrap, gamma)
    assert len(returns) == steps
    for t in range(steps):
        for b in range(batch):
            expected = by_definition(rewards, ended, bootstrap, gamma, t, b)
            torch.testing.assert_close(returns[t][b], expected, atol=1e-5, rtol=1e-5)


def test_nothing_follows_the_terminal_step_and_the_bootstrap_follows_any_other() -> None:
    one = torch.ones(2, 1, 1)
    ended = [torch.tensor([False, False]), torch.tensor([True, False])]
    returns = discounted_returns([one, one], ended, 100 * one, 0.5)
    assert returns[1].flatten().tolist() == [1, 51]
    assert returns[0].flatten().tolist() == [1.5, 26.5]


def test_returns_carry_no_gradient_to_the_bootstrap() -> None:
    rewards, ended, bootstrap = rollout(3, 2, 0, ends=0)
    bootstrap.requires_grad_()
    assert not discounted_returns(rewards, ended, bootstrap, 0.9)[0].requires_grad


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_convolution_starts_as_a_delta(size: int) -> None:
    rewards, ended, bootstrap = rollout(5, 3, 1)
    plain = discounted_returns(rewards, ended, bootstrap, 0.9)
    convolved = discounted_returns(rewards, ended, bootstrap, 0.9, RewardMapConvolution(size))
    for one, other in zip(plain, convolved, strict=True):
        torch.testing.assert_close(one, other)


def test_eq8_with_a_shifting_kernel_and_zeros_outside() -> None:
    convolution = RewardMapConvolution(3)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, 1, 0] = 2.0  # twice the left neighbour
    rewards, _, bootstrap = rollout(2, 1, 2)
    running = [torch.tensor([False])] * 2
    last = rewards[1].clone()
    last[..., 1:] += 0.5 * 2 * bootstrap[..., :-1]
    first = rewards[0].clone()
    first[..., 1:] += 0.5 * 2 * last[..., :-1]
    returns = discounted_returns(rewards, running, bootstrap, 0.5, convolution)
    torch.testing.assert_close(returns[1], last)
    torch.testing.assert_close(returns[0], first)


def test_the_convolution_is_skipped_at_a_terminal_step_and_learns_from_the_others() -> None:
    rewards, _, bootstrap = rollout(2, 2, 3)
    convolution = RewardMapConvolution(3)
    with torch.no_grad():
        convolution.weight.fill_(float("nan"))  # would show wherever the kernel is used
    whole = [torch.tensor([True, True])]
    torch.testing.assert_close(discounted_returns(rewards[1:], whole, bootstrap, 0.9, convolution)[0], rewards[1])

    convolution = RewardMapConvolution(3)
    ended = [torch.tensor([False, True]), torch.tensor([True, True])]
    returns = discounted_returns(rewards, ended, bootstrap, 0.9, convolution)
    assert not returns[1].requires_grad, "R = r at the end"
    for image, reached in ((0, True), (1, False)):
        (gradient,) = torch.autograd.grad(returns[0][image].square().sum(), convolution.weight, retain_graph=True)
        assert bool((gradient != 0).all()) is reached
    assert list(convolution.parameters()) == [convolution.weight]


def test_rewards_and_ends_are_as_many() -> None:
    rewards, ended, bootstrap = rollout(3, 1, 0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        discounted_returns(rewards, ended[1:], bootstrap, 0.9)


def test_labels_are_convolved_each_by_itself() -> None:
    convolution, maps = RewardMapConvolution(3), torch.rand(2, 3, 5, 4)
    with torch.no_grad():
        convolution.weight.normal_()
    for label in range(3):
        torch.testing.assert_close(convolution(maps)[:, label], convolution(maps[:, label]))


@pytest.mark.parametrize("size", [0, 2, -1])
def test_an_even_kernel_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        RewardMapConvolution(size)


def test_the_kernel_learns_through_every_step_that_follows() -> None:
    """With one weight w, R(1) = r1 + g w r2 + (g w)^2 r3, so dR(1)/dw = g r2 + 2 g^2 w r3."""
    convolution = RewardMapConvolution(1)
    with torch.no_grad():
        convolution.weight.fill_(0.8)
    rewards = [torch.full((1, 1, 1), value) for value in (5.0, 7.0, 11.0)]
    ended = [np.array([False]), np.array([False]), np.array([True])]
    first = discounted_returns(rewards, ended, torch.zeros(1, 1, 1), 0.5, convolution)[0]
    assert float(first.detach()) == pytest.approx(5 + 0.4 * 7 + 0.16 * 11)
    (gradient,) = torch.autograd.grad(first.sum(), [convolution.weight])
    assert float(gradient) == pytest.approx(0.5 * 7 + 2 * 0.25 * 0.8 * 11)


def test_eq8_on_values_looks_one_step_ahead() -> None:
    """A delta gives r + gamma V(s(t+1)), a kernel that shifts the neighbour's V, and r alone where an episode ends."""
    rewards, ended, _ = rollout(4, 3, 5)
    values = [torch.randn(3, 5, 4, requires_grad=True) for _ in rewards]
    convolution = RewardMapConvolution(3)
    for t, found in enumerate(one_step_returns(rewards, ended, values, 0.5, convolution)):
        going_on = (~ended[t]).float().view(-1, 1, 1)
        torch.testing.assert_close(found, rewards[t] + 0.5 * values[t] * going_on)
        assert found.requires_grad is not bool(ended[t].all())
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, 1, 0] = 2.0  # twice the left neighbour
    (one,) = one_step_returns(rewards[:1], [torch.tensor([False] * 3)], values[:1], 0.5, convolution)
    torch.testing.assert_close(one[..., 1:], rewards[0][..., 1:] + values[0][..., :-1])
    torch.testing.assert_close(one[..., 0], rewards[0][..., 0])
    assert torch.autograd.grad(one.sum(), values[0], allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(one.sum(), convolution.weight)[0].abs().sum() > 0
