"""PA3C: pixel-level advantage actor-critic (Algorithm 1 of the publication), batched.

The publication's asynchronous workers, one environment each, become the images of one vector
environment: one update rolls out a batch of episodes of t_max steps and takes one gradient step.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.learning.distributions import Bernoulli, Categorical
from pixelseg_agents.learning.episodes import weight_maps
from pixelseg_agents.learning.returns import RewardMapConvolution, discounted_returns
from pixelseg_agents.networks import PA3CNetwork


def pa3c_network(config: PA3CConfig, channels: int, labels: int, actions: int = 1) -> PA3CNetwork:
    """The network that a configuration describes, see `PA3CNetwork`."""
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


class PA3C(PixelAgent):
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
    policy: ClassVar[Bernoulli | Categorical] = Bernoulli()

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
        assert self.logger is not None
        episodes, sampling = self._play(horizon)
        weights = weight_maps(episodes.foreground, weight, self.config.later_background_weight)
        logits, values, actions, alive, ended = [], [], [], [], []
        rewards: list[Tensor] = []
        for _ in range(horizon):
            step_logits, step_values = self.network(episodes.observation)
            with torch.no_grad():
                action = self.policy.sample(step_logits, sampling)
            logits.append(step_logits)
            values.append(step_values)
            actions.append(action.float())
            alive.append(episodes.playing)
            rewards.append(episodes.step(action) * weights[min(len(rewards), 1)])
            ended.append(episodes.ended)
            if episodes.over:
                break
        with torch.no_grad():
            # Not over: an environment that did not take the horizon option, so an n-step return.
            bootstrap = torch.zeros_like(rewards[-1]) if episodes.over else self.network(episodes.observation)[1]
        returns = torch.stack(discounted_returns(rewards, ended, bootstrap, self.config.gamma, self.convolution))
        losses = self._losses(
            torch.stack(logits), torch.stack(values), torch.stack(actions), returns, torch.stack(alive)
        )
        norm = self._descend(losses["loss"])
        for name, value in losses.items():
            self.logger.record_mean(f"train/{name}", float(value.detach()))
        self.logger.record_mean("train/gradient_norm", norm)
        self._record_episodes(episodes, horizon)
        return len(rewards) * len(rewards[0])

    def _losses(
        self, logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, alive: Tensor
    ) -> dict[str, Tensor]:
        """Policy, value and entropy terms, means over steps, images and pixels; all (T, B, [L,] H, W)."""
        share = alive / alive.sum().clamp_min(1)
        advantage = (returns - values).detach()
        policy_loss = -(self.policy.log_probability(logits, actions) * advantage * share).sum()
        # Of the pixels that play, as the policy's: a zeroed pixel is worth 0 for good, and when t_max first exceeds 1
        # black images by the thousand would otherwise redraw the trunk that both heads share (benchmarks/LOG.md).
        value_loss = ((values - returns) ** 2 * share).sum()
        entropy = (self.policy.entropy(logits) * share).sum()
        loss = policy_loss + self.config.value_coefficient * value_loss - self.config.entropy_coefficient * entropy
        return {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "advantage": advantage.abs().mean(),
            "keep": actions.mean(),
        }

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        logits: Tensor = self.network(observation)[0]
        if deterministic:
            return self.policy.mode(logits)
        return self.policy.sample(logits, self._predict_generator)
