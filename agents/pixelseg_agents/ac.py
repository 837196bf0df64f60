"""AC: pixel-level one-step actor-critic, a gradient step after every step of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from pixelseg_agents.actor_critic import ActorCritic, actor_critic_heads
from pixelseg_agents.config import PolicyConfig
from pixelseg_agents.learning.episodes import weight_maps
from pixelseg_agents.networks import ActorCriticHeads, ActorCriticUNet


@dataclass(frozen=True)
class ACConfig(PolicyConfig):
    """Hyperparameters of AC. At `width=1` the network has 10.82 M parameters."""

    agent: ClassVar[str] = "AC"


def ac_network(config: PolicyConfig, channels: int, labels: int) -> ActorCriticUNet | ActorCriticHeads:
    """The network that a configuration describes: `ActorCriticUNet`, or another one with heads of an agent."""
    if config.network is not None:
        return actor_critic_heads(config, channels, labels)
    return ActorCriticUNet(channels, config.width, norm=config.norm, labels=labels, start_bias=config.start_bias or 0.0)


class AC(ActorCritic):
    """One-step actor-critic (Sutton and Barto 2018, 13.5) on a PixelSeg vector environment.

    After every step the critic moves towards r + gamma V(s'), and the actor along the advantage
    r + gamma V(s') - V(s). PA3C waits for the end of the episode and uses the whole return instead.

    Arguments are those of `PixelAgent`; hyperparameters are in `ACConfig`.
    """

    name = "AC"
    config_class: ClassVar[type[PolicyConfig]] = ACConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": ac_network(self.config, self.inputs, self.labels)}

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
            logits, values = self._forward(episodes.observation)
            passes += len(logits)
            with torch.no_grad():
                keep = self.policy.sample(logits, sampling, self.config.exploration)
            returns = episodes.step(keep) * weights[min(episodes.steps - 1, 1)]
            if not episodes.over:
                with torch.no_grad():
                    following = self._forward(episodes.observation)[1]
                passes += len(logits)
                if absorbing:  # a zeroed pixel has left the game and earns nothing any more
                    following = following * episodes.playing
                returns = returns + self.config.gamma * following * episodes.going_on(following)
            self._learn(logits, values, keep.float(), returns, playing)
        self._record_episodes(episodes, horizon)
        return passes
