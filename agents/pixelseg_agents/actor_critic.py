"""What agents with a policy and a value for every pixel share: the loss, and the decision."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import PolicyConfig
from pixelseg_agents.learner import ASIDE
from pixelseg_agents.learning.distributions import Bernoulli, Categorical
from pixelseg_agents.learning.episodes import Episodes, tensor
from pixelseg_agents.learning.policy_gradient import POLICY_GRADIENTS
from pixelseg_agents.networks import ActorCriticHeads, build_network
from pixelseg_env import OptionError


def actor_critic_heads(config: PolicyConfig, channels: int, labels: int, actions: int = 1) -> ActorCriticHeads:
    """The network that `config.network` names, with a policy and a value head, see `ActorCriticHeads`."""
    assert config.network is not None
    network = build_network(config.network, channels, config.width, norm=config.norm, labels=0)
    return ActorCriticHeads(network, labels=labels, actions=actions, start_bias=config.start_bias or 0.0)


CERTAIN = 1e-6  # a policy's p (1 - p), the factor on its gradient, below which it is certain
SATURATED = 0.99  # share of pixels


class SaturationWarning(UserWarning):
    """A policy that is certain of nearly every pixel, wrongly, and so has no gradient."""


class ActorCritic(PixelAgent):
    """An agent whose network gives logits and values; a subclass says how it plays and what it learns from.

    Arguments are those of `PixelAgent`; hyperparameters are in `PolicyConfig`.
    """

    config_class: ClassVar[type[PolicyConfig]] = PolicyConfig
    policy: ClassVar[Bernoulli | Categorical] = Bernoulli()
    _undecided: Tensor | None = None  # share of pixels, of the last batch that was learnt from
    _warned = False

    def _losses(
        self,
        logits: Tensor,
        values: Tensor,
        actions: Tensor,
        returns: Tensor,
        playing: Tensor,
        total: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`"loss"`, and the policy, value and entropy terms that it consists of.

        Args:
            logits: of the policy, float32 ([T,] B, [L,] H, W), or with K actions ([T,] B, K, H, W).
            values: of the states, ([T,] B, [L,] H, W), as are all others.
            actions: that were taken.
            returns: what they led to; no gradient goes into them but that of Eq. 8's convolution.
            playing: 1 for the pixels that count, over which every term is a mean.
            total: by what the weight of every decision is divided, where this is a part of a batch; None: `_total`.
        """
        config: Any = self.config
        share = playing / (self._total(playing) if total is None else total).clamp_min(1)
        advantage = (returns - values).detach()
        policy_loss = (self._policy_loss(logits, actions, advantage) * share).sum()
        # Of the pixels that play, as the policy's: a zeroed pixel is worth 0 for good, and when t_max first exceeds 1
        # black images by the thousand would otherwise redraw the trunk that both heads share (benchmarks/LOG.md).
        value_loss = ((values - returns) ** 2 * share).sum()
        entropy = (self.policy.entropy(logits) * share).sum()
        return {
            "loss": policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "advantage": advantage.abs().mean() / self.team.size,
            "keep": actions.mean() / self.team.size,
        }

    def _total(self, playing: Tensor) -> Tensor:
        """How many pixels count in a batch of all processes; every decision weighs one of so many."""
        return self.team.total(playing.sum())

    def _policy_loss(self, logits: Tensor, actions: Tensor, advantage: Tensor) -> Tensor:
        """What moves the policy of every pixel, ([T,] B, [L,] H, W); arguments as of `_losses`."""
        config: Any = self.config
        loss = POLICY_GRADIENTS[config.policy_gradient]
        return loss(self.policy, logits, actions, advantage, config.exploration, config.logit_limit)

    def _record_episodes(self, episodes: Episodes, horizon: int) -> None:
        """As `PixelAgent`'s; and what tells whether the policy can still learn."""
        super()._record_episodes(episodes, horizon)
        config: Any = self.config
        if self._warned or not self.speaks or self._undecided is None:
            return
        if config.policy_gradient == "natural":  # whose gradient is not 0
            return
        objects = episodes.foreground.flatten(-2).sum(-1)
        everything = 2 * objects / (objects + episodes.foreground.shape[-1] * episodes.foreground.shape[-2])
        for name, value in (("undecided", self._undecided), ("dice", episodes.dice), ("keep", everything.mean())):
            self._notes.add(ASIDE + name, value / self.team.size)

    def _look_back(self, asides: dict[str, float]) -> None:
        """Warns once of a policy that cannot learn any more."""
        undecided, dice, keep_all = (asides.get(ASIDE + name, 0.0) for name in ("undecided", "dice", "keep"))
        if not asides or undecided >= 1 - SATURATED or dice >= keep_all or not self.team.first:
            return
        self._warned = True
        warnings.warn(
            f"{self.name}, update {self.updates + 1}: the policy is certain of more than {SATURATED:.0%} of the "
            f"pixels, and wrong: Dice {dice:.3f}, of keeping everything {keep_all:.3f}. It hardly learns any more, "
            "for the gradient of a certain policy is 0. Try norm='group', a smaller learning_rate, horizons that "
            "begin with 1, a larger entropy_coefficient, or policy_gradient='natural'",
            SaturationWarning,
            stacklevel=3,
        )

    def _learn(self, *batch: Tensor) -> None:
        """One gradient step on what `_losses` makes of a batch."""
        self._note_certainty(batch[0])
        losses = self._losses(*batch)
        self._note_losses(losses, self._descend(losses["loss"]))

    def _note_certainty(self, logits: Tensor) -> None:
        if isinstance(self.policy, Bernoulli):
            probability = logits.detach().sigmoid()
            self._undecided = (probability * (1 - probability) > CERTAIN).float().mean()

    @torch.no_grad()
    def keep_probability(self, observation: NDArray[Any] | Tensor) -> NDArray[np.float32]:
        """The probability that the policy keeps a pixel.

        Args:
            observation: float32 (B, C, H, W).

        Returns:
            float32 (B, [L,] H, W), NumPy.

        Raises:
            OptionError: the policy has more than two actions.
        """
        if not isinstance(self.policy, Bernoulli):
            raise OptionError(f"{self.name}: its actions change a map, none of them keeps a pixel")
        self.network.eval()
        logits = self._decide(tensor(observation, self.device))
        found: NDArray[np.float32] = logits.float().sigmoid().cpu().numpy()
        return found

    def _decide(self, observation: Tensor) -> Tensor:
        """The policy's logits; the critic, which nobody asks here, is left out where the network can."""
        if hasattr(self.network, "decide"):
            logits: Tensor = self._forward(observation, method="decide")
            return logits
        found: tuple[Tensor, Tensor] = self._forward(observation)
        return found[0]

    @torch.no_grad()
    def state_value(self, observation: NDArray[Any] | Tensor) -> NDArray[np.float32]:
        """What the agent expects every pixel to earn from this state on, discounted.

        Args:
            observation: float32 (B, C, H, W).

        Returns:
            float32 (B, [L,] H, W), NumPy.
        """
        self.network.eval()
        values: Tensor = self._forward(tensor(observation, self.device))[1]
        found: NDArray[np.float32] = values.float().cpu().numpy()
        return found

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        logits = self._decide(observation)
        if deterministic:
            return self.policy.mode(logits)
        return self.policy.sample(logits, self._predict_generator)
