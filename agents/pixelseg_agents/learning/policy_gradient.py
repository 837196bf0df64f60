"""How advantages move a pixel's policy: the likelihood-ratio gradient, and the natural one.

Both follow the sampled reward alone. They differ in what a certain policy still learns: the likelihood-ratio gradient
of a logit has the factor pi (1 - pi), which is 0 where a policy is certain, be it right or wrong; the natural gradient
(Kakade 2001; Peters and Schaal 2008) divides by the policy's Fisher information, which is that same factor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

from pixelseg_agents.learning.distributions import Bernoulli, Categorical

Policy: TypeAlias = Bernoulli | Categorical
# Of policy, logits, actions, advantages, share of uniform actions in the behaviour, limit; a loss for every pixel.
PolicyLoss: TypeAlias = Callable[[Policy, Tensor, Tensor, Tensor, float, float], Tensor]


def vanilla(
    policy: Policy, logits: Tensor, actions: Tensor, advantage: Tensor, exploration: float, limit: float
) -> Tensor:
    """The likelihood-ratio policy gradient (REINFORCE with a baseline, Williams 1992), as published.

    Args:
        policy: `Bernoulli` or `Categorical`.
        logits: see the policy.
        actions: that were taken, (..., H, W).
        advantage: of those actions; no gradient goes into it.
        exploration: share of uniform actions that they were drawn with; corrected for by importance weights.
        limit: see `natural`; 0: none.

    Returns:
        A loss for every pixel, (..., H, W).
    """
    log_probability, push = policy.log_probability(logits, actions), advantage.detach()
    if exploration:
        taken = log_probability.detach().exp()
        push = push * taken / policy.behaviour(taken, exploration)
    if limit:
        push = _within(policy.score(logits, actions), push, limit)
    return -log_probability * push


def natural(
    policy: Policy, logits: Tensor, actions: Tensor, advantage: Tensor, exploration: float, limit: float
) -> Tensor:
    """The natural policy gradient of every pixel: the taken action's logit is pushed by A / b, see `vanilla`.

    b is the probability with which the action was taken, so that the mean push is the difference of the actions'
    values, whatever the policy: Q(keep) - Q(zero) on the log-odds of *keep*.

    Args:
        policy: see `vanilla`.
        logits: see `vanilla`.
        actions: see `vanilla`.
        advantage: see `vanilla`.
        exploration: share of uniform actions in the behaviour, which bounds 1 / b.
        limit: a logit is not pushed further from 0 than this, or a policy that is right would move for ever; 0: none.

    Returns:
        A loss for every pixel, (..., H, W).
    """
    taken = policy.log_probability(logits, actions).detach().exp()
    push = advantage.detach() / policy.behaviour(taken, exploration)
    score = policy.score(logits, actions)
    return -score * (_within(score, push, limit) if limit else push)


def _within(score: Tensor, push: Tensor, limit: float) -> Tensor:
    """Pushes, without those that would lead a logit beyond the limit."""
    return push * (score.detach() * push.sign() < limit)


POLICY_GRADIENTS: Mapping[str, PolicyLoss] = {"vanilla": vanilla, "natural": natural}
