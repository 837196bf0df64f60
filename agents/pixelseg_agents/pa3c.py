"""PA3C: pixel-level advantage actor-critic (Algorithm 1 of the publication), batched.

The publication's asynchronous workers, one environment each, become the images of one vector
environment: one update rolls out a batch of episodes of t_max steps and takes one gradient step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pixelseg_agents.actor_critic import ActorCritic, actor_critic_heads
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.learning.episodes import Episodes, weight_maps
from pixelseg_agents.learning.returns import RewardMapConvolution, discounted_returns, one_step_returns
from pixelseg_agents.learning.room import NEVER, Decided, differs_again, free_bytes, kept_text, sharers, told_apart
from pixelseg_agents.networks import ActorCriticHeads, PA3CNetwork
from pixelseg_env import OptionError


def pa3c_network(config: PA3CConfig, channels: int, labels: int, actions: int = 1) -> PA3CNetwork | ActorCriticHeads:
    """The network that a configuration describes: `PA3CNetwork`, or another one with heads of an agent."""
    if config.network is not None:
        return actor_critic_heads(config, channels, labels, actions)
    return PA3CNetwork(
        channels,
        config.width,
        sam=config.sam,
        dilation=config.dilation,
        sam_form=config.sam_form,
        dilate_every_layer=config.dilate_every_layer,
        finest=config.finest,
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
        observations: T of (B, C, H, W), what was seen.
    """

    logits: Tensor
    values: Tensor
    actions: Tensor
    returns: Tensor
    playing: Tensor
    observations: list[Tensor]

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
    _free: int | None = None  # memory, when it was first asked for
    _sharers: int | None = None  # processes that share it
    _room = Decided()  # about what all of these keep together

    def _make_parts(self) -> dict[str, nn.Module]:
        config = self.config
        network = pa3c_network(config, self.inputs, self.labels, self.policy.outputs)
        if not config.reward_map_convolution:
            return {"network": network}
        return {"network": network, "convolution": RewardMapConvolution(config.reward_map_convolution)}

    @property
    def convolution(self) -> nn.Module | None:
        """The reward-map convolution of Eq. 8; None without it."""
        return self.parts.get("convolution")

    def passes_per_update(self, horizon: int) -> float:
        """One pass per step, or two with `recompute`."""
        return horizon * (2 if self.config.recompute else 1)

    def _update(self, horizon: int, weight: Any) -> int:
        """Algorithm 1: rolls out one batch of episodes and takes one gradient step."""
        episodes, sampling = self._play(horizon)
        shape = tuple(episodes.observation.shape)
        each = self._pass_bytes(shape)
        again = self._recomputes(each * horizon, [each * steps for steps in self.config.horizons])
        kept = each if again else each * horizon
        what = f"an update with observations {shape}, t_max {horizon}, width {self.config.width:g}, recompute={again}"
        more = "" if again else ", or set recompute=True, which keeps one step's part of it at a time"
        with told_apart(lambda: kept_text(what, kept, "size, batch or width", more)):
            with torch.set_grad_enabled(not again):
                rollout = self._rollout(episodes, sampling, horizon, weight)
            if again:
                self._learn_step_by_step(rollout)
            else:
                self._learn(rollout.logits, rollout.values, rollout.actions, rollout.returns, rollout.playing)
        self._record_episodes(episodes, horizon)
        return rollout.passes * (1 + again)

    def memory(self) -> dict[str, Tensor]:
        """What was decided about `recompute` on this kind of device."""
        return {f"room.{self.device.type}": self._room.tensor()}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Takes up what `memory` gave; without it, and on another kind of device, the free memory decides anew."""
        found = memory.get(f"room.{self.device.type}")
        self._room = Decided() if found is None else Decided.of(found)

    def _recomputes(self, estimate: int, others: Iterable[int] = ()) -> bool:
        """Whether a second pass of a batch is done for its gradient; layers are asked only where it would be.

        Args:
            estimate: the bytes that the update keeps without it, in this process.
            others: of the training's other updates.
        """
        wanted: bool | None = self.config.recompute
        if wanted is None:
            count = self._shared_by()
            if self._room.fits < count * estimate < self._room.exceeds:
                self._room = self._room.about([count * one for one in (estimate, *others)], self._free_bytes)
            wanted = count * estimate >= self._room.exceeds
        if not wanted or not any(map(differs_again, self.network.modules())):
            return bool(wanted)
        if self.config.recompute is None:
            return False
        raise OptionError(
            "recompute=True: the network has dropout or batch normalisation, so its second pass would not be the "
            "first one's; leave it out, or choose another network"
        )

    def _free_bytes(self) -> int:
        """Asked once: what an update takes must not change the next one's way."""
        if self._free is None:
            free = free_bytes(self.device)
            self._free = int(self.team.told(NEVER if free is None else free))
        return self._free

    def _shared_by(self) -> int:
        """How many processes share the memory; a training that goes on with more of them decides anew about more."""
        if self._sharers is None:
            self._sharers = int(self.team.told(sharers(self.device, self.config.workers)))
        return self._sharers

    def _total(self, playing: Tensor) -> Tensor:
        """Of a batch of T steps, (T, B, [L,] H, W); with `equal_steps` a number for each step."""
        if not self.config.equal_steps:
            return super()._total(playing)
        steps = self.team.total(playing.flatten(1).sum(1)).clamp_min(1) * len(playing)
        return steps.view(-1, *(1,) * (playing.ndim - 1))

    def _learn_step_by_step(self, rollout: Rollout) -> None:
        """What `_learn` does, with a pass and a gradient for each step by itself: memory for one step at a time."""
        assert self.logger is not None
        count = len(rollout.observations)
        totals = self._total(rollout.playing).expand(count, *(1,) * (rollout.playing.ndim - 1))
        returns = rollout.returns
        leaf = returns.detach().requires_grad_(returns.requires_grad)
        found: dict[str, Tensor] = {}

        def parts() -> Iterator[Tensor]:
            for step, observation in enumerate(rollout.observations):
                logits, values = self._forward(observation)
                batch = (logits, values, rollout.actions[step], leaf[step], rollout.playing[step])
                losses = self._losses(*batch, totals[step])
                for name, value in losses.items():
                    share = 1 / count if name in ("advantage", "keep") else 1.0
                    found[name] = found.get(name, 0.0) + share * value.detach()
                yield losses["loss"]
            if leaf.grad is not None:
                yield (returns * leaf.grad).sum()  # on into the kernel of Eq. 8

        self._note_certainty(rollout.logits)
        self._note_losses(found, self._descend(parts()))

    def _reward_weights(self, foreground: Tensor, weight: Any) -> tuple[Tensor, ...]:
        """The factors on the rewards of the first step, the second and so on; the last are those of all later ones."""
        return weight_maps(foreground, weight, self.config.later_background_weight)

    def _rollout(self, episodes: Episodes, sampling: torch.Generator, horizon: int, weight: Any) -> Rollout:
        """Plays a batch of episodes with the policy, and computes what every decision led to.

        Args:
            episodes: at their first observation.
            sampling: where actions are drawn from.
            horizon: steps at most.
            weight: factor on object pixels' rewards.
        """
        weights = self._reward_weights(episodes.foreground, weight)
        seen: list[Tensor] = []
        logits, values, actions, playing, ended = [], [], [], [], []
        rewards: list[Tensor] = []
        for step in range(horizon):
            step_logits, step_values = self._forward(episodes.observation)
            with torch.no_grad():
                action = self.policy.sample(step_logits, sampling, self.config.exploration)
            seen.append(episodes.observation)
            logits.append(step_logits)
            values.append(step_values)
            actions.append(action.float())
            playing.append(episodes.playing)
            rewards.append(episodes.step(action) * weights[min(step, len(weights) - 1)])
            ended.append(episodes.ended)
            if episodes.over:
                break
        with torch.no_grad():
            # Not over: an environment that did not take the horizon option, so an n-step return.
            bootstrap = torch.zeros_like(rewards[-1]) if episodes.over else self._forward(episodes.observation)[1]
        gamma, kernel = self.config.gamma, self.convolution
        with torch.enable_grad():  # into the kernel of Eq. 8
            if kernel is not None and self.config.reward_map_on == "values":
                found = one_step_returns(rewards, ended, [*values[1:], bootstrap], gamma, kernel)
            else:
                found = discounted_returns(rewards, ended, bootstrap, gamma, kernel)
            returns = torch.stack(found)
        return Rollout(
            torch.stack(logits), torch.stack(values), torch.stack(actions), returns, torch.stack(playing), seen
        )
