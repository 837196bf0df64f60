"""AC: pixel-level one-step actor-critic, a gradient step after every step of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import PolicyConfig
from pixelseg_agents.learning.distributions import Bernoulli
from pixelseg_agents.learning.episodes import weight_maps
from pixelseg_agents.networks.unet import ActorCriticUNet


@dataclass(frozen=True)
class ACConfig(PolicyConfig):
    """Hyperparameters of AC. At `width=1` the network has 10.82 M parameters."""

    agent: ClassVar[str] = "AC"


def ac_network(config: PolicyConfig, channels: int, labels: int) -> ActorCriticUNet:
    """The network that a configuration describes, see `ActorCriticUNet`."""
    return ActorCriticUNet(channels, config.width, norm=config.norm, labels=labels, start_bias=config.start_bias or 0.0)


class AC(PixelAgent):
    """One-step actor-critic (Sutton and Barto 2018, 13.5) on a PixelSeg vector environment.

    After every step the critic moves towards r + gamma V(s'), and the actor along the advantage
    r + gamma V(s') - V(s). PA3C waits for the end of the episode and uses the whole return instead.

    Arguments are those of `PixelAgent`; hyperparameters are in `ACConfig`.
    """

    name = "AC"
    config_class: ClassVar[type[PolicyConfig]] = ACConfig
    policy = Bernoulli()

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": ac_network(self.config, self.channels, self.labels)}

    def passes_per_update(self, horizon: int) -> float:
        """One pass per step, and one more, without a gradient, for the value of every state but the terminal one."""
        return 2 * horizon - 1

    def _update(self, horizon: int, weight: Any) -> int:
        episodes, sampling = self._play(horizon)
        weights = weight_maps(episodes.foreground, weight, self.config.later_background_weight)
        absorbing = self.transition == "absorbing"
        passes = 0
        while not episodes.over and episodes.steps < horizon:
            playing = episodes.playing
            logits, values = self.network(episodes.observation)
            passes += len(logits)
            with torch.no_grad():
                keep = self.policy.sample(logits, sampling)
            returns = episodes.step(keep) * weights[min(episodes.steps - 1, 1)]
            if not episodes.over:
                with torch.no_grad():
                    following = self.network(episodes.observation)[1]
                passes += len(logits)
                if absorbing:  # a zeroed pixel has left the game and earns nothing any more
                    following = following * episodes.playing
                returns = returns + self.config.gamma * following * episodes.going_on(following)
            self._learn(logits, values, keep.float(), returns, playing)
        self._record_episodes(episodes, horizon)
        return passes

    def _learn(self, logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, playing: Tensor) -> None:
        """One gradient step on policy, value and entropy terms, means over the pixels that play; all (B, [L,] H, W)."""
        assert self.logger is not None
        share = playing / playing.sum().clamp_min(1)
        advantage = (returns - values).detach()
        terms = {
            "policy_loss": -(self.policy.log_probability(logits, actions) * advantage * share).sum(),
            "value_loss": ((values - returns) ** 2 * share).sum(),
            "entropy": (self.policy.entropy(logits) * share).sum(),
            "advantage": advantage.abs().mean(),
        }
        value_loss, bonus = self.config.value_coefficient * terms["value_loss"], terms["entropy"]
        norm = self._descend(terms["policy_loss"] + value_loss - self.config.entropy_coefficient * bonus)
        for name, value in terms.items():
            self.logger.record_mean(f"train/{name}", float(value.detach()))
        self.logger.record_mean("train/gradient_norm", norm)

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        logits: Tensor = self.network(observation)[0]
        if deterministic:
            return self.policy.mode(logits)
        return self.policy.sample(logits, self._predict_generator)
