"""Other ways to teach a pixel's policy from sampled rewards, tried beside PA3C's; benchmarks/LOG.md has what came out.

Agents of their own for the grid, such as `--agents benchmarks.study.teachers:Clipped`. Networks, rewards, schedules and
hyperparameters are PA3C's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pixelseg_agents import PA3C

CLIP = 0.2  # PPO's, Schulman et al. 2017
EPOCHS = 3  # gradient steps on one batch of episodes
TEMPERATURE = 0.5  # of the regression's weights, in rewards
LARGEST_WEIGHT = 20.0  # as Peng et al. 2019 cut them


class Unweighted(PA3C):
    """The natural gradient without importance weights: an action's push does not grow as it gets rare."""

    name = "PA3C, unweighted push"

    def _policy_loss(self, logits: Tensor, actions: Tensor, advantage: Tensor) -> Tensor:
        score = self.policy.score(logits, actions)
        limit = self.config.logit_limit or float("inf")
        return -score * advantage * (score.detach() * advantage.sign() < limit)


class Regression(PA3C):
    """Advantage-weighted regression (Peng et al. 2019; MPO and V-MPO weigh alike): good actions are imitated."""

    name = "PA3C, advantage-weighted regression"

    def _policy_loss(self, logits: Tensor, actions: Tensor, advantage: Tensor) -> Tensor:
        weight = (advantage / TEMPERATURE).exp().clamp_max(LARGEST_WEIGHT)
        return -self.policy.log_probability(logits, actions) * weight


class OwnTrunk(PA3C):
    """A critic with a network of its own, so that its loss does not redraw what the policy sees with."""

    name = "PA3C, critic apart"

    def _make_parts(self) -> dict[str, nn.Module]:
        actor, critic = super()._make_parts()["network"], super()._make_parts()["network"]
        return {"network": _Apart(actor, critic)}


class _Apart(nn.Module):
    def __init__(self, actor: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.actor(observation)[0], self.critic(observation)[1]


class AllActions(PA3C):
    """A critic of the actions, Q(zero) and Q(keep), and a gradient over both in place of the one that was drawn.

    The expected policy gradient (Ciosek and Whiteson 2018): a draw no longer moves the policy by its luck, only by what
    it taught the critic.
    """

    name = "PA3C, critic of both actions"
    _gain: Tensor | None = None  # Q(keep) - Q(zero)

    def _make_parts(self) -> dict[str, nn.Module]:
        network, other = (super(AllActions, self)._make_parts()["network"] for _ in range(2))
        return {"network": _OfBoth(network, other.value)}

    def _losses(self, logits: Tensor, values: Tensor, actions: Tensor, *others: Any) -> dict[str, Tensor]:
        zero, keep = values.unbind(-3)
        self._gain = (keep - zero).detach()
        return super()._losses(logits, torch.where(actions > 0, keep, zero), actions, *others)

    def _policy_loss(self, logits: Tensor, actions: Tensor, advantage: Tensor) -> Tensor:
        assert self._gain is not None
        return -logits.sigmoid() * self._gain


class _OfBoth(nn.Module):
    """PA3C's network with two values of every pixel, (B, 2, H, W)."""

    def __init__(self, network: Any, keep: Any) -> None:
        super().__init__()
        self.network, self.keep = network, keep

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network._padded_features(observation)
        logits, zero, keep = (head(*features) for head in (self.network.policy, self.network.value, self.keep))
        both = torch.cat([zero, keep], dim=1)
        return self.network._shaped(logits, observation), self.network._shaped(both, observation, actions=2)


class Clipped(PA3C):
    """PPO: some gradient steps on every batch of episodes, each kept near the policy that played it."""

    name = "PA3C, clipped ratio"
    _seen: list[Tensor]
    _old: Tensor | None = None

    def passes_per_update(self, horizon: int) -> float:
        """One pass of a step to play it, and one more for each further gradient step."""
        return horizon * EPOCHS

    def _rollout(self, *arguments: Any) -> Any:
        rollout = super()._rollout(*arguments)
        self._seen = rollout.observations
        return rollout

    def _update(self, horizon: int, weight: Any) -> int:
        return super()._update(horizon, weight) * EPOCHS

    def _learn(self, *batch: Tensor) -> None:
        logits, _, actions, *others = batch
        self._old = self.policy.log_probability(logits, actions).detach()
        super()._learn(*batch)
        for _ in range(EPOCHS - 1):
            again = [self._forward(observation) for observation in self._seen]
            super()._learn(*(torch.stack(one) for one in zip(*again, strict=True)), actions, *others)

    def _policy_loss(self, logits: Tensor, actions: Tensor, advantage: Tensor) -> Tensor:
        assert self._old is not None
        ratio = (self.policy.log_probability(logits, actions) - self._old).exp()
        return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
