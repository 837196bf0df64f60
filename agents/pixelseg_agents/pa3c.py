"""PA3C: pixel-level advantage actor-critic (Algorithm 1 of the publication), batched.

The publication's asynchronous workers, one environment each, become the images of one vector
environment: one update rolls out a batch of episodes of t_max steps and takes one gradient step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pixelseg_agents.actor_critic import ActorCritic, actor_critic_heads
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.learning.episodes import Episodes, weight_maps
from pixelseg_agents.learning.returns import RewardMapConvolution, discounted_returns
from pixelseg_agents.networks import ActorCriticHeads, PA3CNetwork


def pa3c_network(config: PA3CConfig, channels: int, labels: int, actions: int = 1) -> PA3CNetwork | ActorCriticHeads:
    """The network that a configuration describes: `PA3CNetwork`, or another one with heads of an agent."""
    if config.network is not None:
        return actor_critic_heads(config, channels, labels, actions)
    return PA3CNetwork(
        channels,
        config.width,
        sam=config.sam,
        dilation=config.dilation,
        blocks=config.blocks,
        norm=config.norm,
        head_stride=config.head_stride,
        detail=config.detail,
        labels=labels,
        actions=actions,
        start_bias=config.start_bias or 0.0,
    )


@dataclass(frozen=True)
class Rollout:
    """A batch of episodes of T steps; every tensor is float32 (T, B, [L,] H, W).

    Attributes:
        logits: of the policy, with a graph; (T, B, K, H, W) with K actions.
        values: of the states, with a graph.
        actions: that were taken.
        returns: discounted sums of rewards; with the convolution of Eq. 8 they have a graph to its kernel.
        playing: 1 where a pixel's action counted.
    """

    logits: Tensor
    values: Tensor
    actions: Tensor
    returns: Tensor
    playing: Tensor

    @property
    def passes(self) -> int:
        """Images that went through the network."""
        return len(self.values) * len(self.values[0])


class PA3C(ActorCritic):
    """Pixel-level A3C on a PixelSeg vector environment.

    ```python
    env = gym.make_vec("PixelSegEnv-v0", num_envs=8, dataset="phantom")
    agent = PA3C(env, width=0.25).learn(2000)
    actions, _ = agent.predict(observation)
    ```

    One update is one batch of episodes of t_max steps, t_max passes of the batch through the network, and one
    gradient step. Arguments are those of `PixelAgent`; hyperparameters are in `PA3CConfig`.
    """

    name = "PA3C"
    config_class = PA3CConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        config = self.config
        network = pa3c_network(config, self.channels, self.labels, self.policy.outputs)
        if not config.reward_map_convolution:
            return {"network": network}
        return {"network": network, "convolution": RewardMapConvolution(config.reward_map_convolution)}

    @property
    def convolution(self) -> nn.Module | None:
        """The reward-map convolution of Eq. 8; None without it."""
        return self.parts.get("convolution")

    def passes_per_update(self, horizon: int) -> float:
        """One pass per step."""
        return horizon

    def _update(self, horizon: int, weight: Any) -> int:
        """Algorithm 1: rolls out one batch of episodes and takes one gradient step."""
        episodes, sampling = self._play(horizon)
        rollout = self._rollout(episodes, sampling, horizon, weight)
        self._learn(rollout.logits, rollout.values, rollout.actions, rollout.returns, rollout.playing)
        self._record_episodes(episodes, horizon)
        return rollout.passes

    def _rollout(self, episodes: Episodes, sampling: torch.Generator, horizon: int, weight: Any) -> Rollout:
        """Plays a batch of episodes with the policy, and computes what every decision led to.

        Args:
            episodes: at their first observation.
            sampling: where actions are drawn from.
            horizon: steps at most.
            weight: factor on object pixels' rewards.
        """
        weights = weight_maps(episodes.foreground, weight, self.config.later_background_weight)
        logits, values, actions, playing, ended = [], [], [], [], []
        rewards: list[Tensor] = []
        for step in range(horizon):
            step_logits, step_values = self._forward(episodes.observation)
            with torch.no_grad():
                action = self.policy.sample(step_logits, sampling)
            logits.append(step_logits)
            values.append(step_values)
            actions.append(action.float())
            playing.append(episodes.playing)
            rewards.append(episodes.step(action) * weights[min(step, 1)])
            ended.append(episodes.ended)
            if episodes.over:
                break
        with torch.no_grad():
            # Not over: an environment that did not take the horizon option, so an n-step return.
            bootstrap = torch.zeros_like(rewards[-1]) if episodes.over else self._forward(episodes.observation)[1]
        returns = discounted_returns(rewards, ended, bootstrap, self.config.gamma, self.convolution)
        return Rollout(*map(torch.stack, (logits, values, actions, returns, playing)))
