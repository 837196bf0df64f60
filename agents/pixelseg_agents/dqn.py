"""Pixel-level DQN (Mnih et al. 2015) with its variants Double (van Hasselt et al. 2016) and Dueling (Wang et al. 2016).

Every pixel is an agent with two Q-values, of *zero* and of *keep*; all share the network. What a variant changes:

- Double: `_next_value` lets the online network choose the action that the target network values.
- Dueling: `QNetwork(dueling=True)` composes Q of a value and two advantages.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.learning.augmentation import Augmentation
from pixelseg_agents.learning.device import moved
from pixelseg_agents.learning.distributed import rand
from pixelseg_agents.learning.episodes import Episodes, tensor, weight_maps
from pixelseg_agents.learning.replay import ReplayBuffer, Transitions
from pixelseg_agents.learning.task import attribute, draw_of, fingerprint
from pixelseg_agents.networks import QHeads, QNetwork, build_network
from pixelseg_env import OptionError
from pixelseg_env.dynamics import observe
from pixelseg_env.rewards import RewardContext, as_reward

KEEP = 1


@dataclass(frozen=True)
class DQNConfig(AgentConfig):
    """Hyperparameters of DQN. At `width=1` the network has 7.77 M parameters, 33 more when dueling."""

    agent: ClassVar[str] = "DQN"
    meanings: ClassVar[dict[str, str]] = AgentConfig.meanings | {
        "learning_starts": "expected at least 1, and at most replay_size, or nothing is ever learnt",
        "double": "without it this is DQN: train that",
        "dueling": "without it this is DQN: train that",
    }

    double: bool = False
    """The online network chooses the next action, the target network values it."""
    dueling: bool = False
    """Q is composed of a value and two advantages."""
    replay_size: int = 10_000
    """Transitions in the replay; one of 256x256 pixels takes 24.6 kB."""
    replay_batch: int = 8
    """Transitions per gradient step."""
    learning_starts: int = 64
    """Transitions before the first gradient step."""
    train_every: int = 1
    """Steps of the batch per gradient step."""
    target_update: int = 100
    """Gradient steps between copies of the network to the target network."""
    exploration_start: float = 1.0
    """Share of random actions at the start, epsilon."""
    exploration_end: float = 0.02
    """Epsilon at the end of its fall."""
    exploration_share: float = 0.3
    """Share of the planned steps over which epsilon falls, linearly."""

    def _checks(self) -> dict[str, bool]:
        counts = ("replay_size", "replay_batch", "learning_starts", "train_every", "target_update")
        shares = ("exploration_start", "exploration_end", "exploration_share")
        return (
            super()._checks()
            | {name: getattr(self, name) >= 1 for name in counts}
            | {name: 0 <= getattr(self, name) <= 1 for name in shares}
            | {"learning_starts": 1 <= self.learning_starts <= self.replay_size}
        )

    def for_task(self, transition: str, observation: str) -> Self:
        """As `AgentConfig`'s.

        Raises:
            OptionError: some episodes would end before the first gradient step.
        """
        spelt_out = super().for_task(transition, observation)
        if self.train_every > min(spelt_out.horizons):
            raise OptionError(
                f"train_every={self.train_every}: expected at most the smallest t_max of horizons={spelt_out.horizons}"
            )
        return spelt_out


class DQN(PixelAgent):
    """Pixel-level deep Q-network on a PixelSeg vector environment.

    One update is one batch of episodes; after every `train_every` steps of it, one gradient step on transitions
    drawn from the replay, which starts anew when t_max changes. Rewards are computed again from the replayed maps
    with the environment's own reward function, so a wrapper that changes `info["reward_map"]` is refused.

    The replay is part of a checkpoint, for images of the same data set: one that goes on with another data set fills it
    anew, with the policy it has by then, before it takes gradient steps again.

    Arguments are those of `PixelAgent`; hyperparameters are in `DQNConfig`.
    """

    name = "DQN"
    family = "q-learning"
    config_class: ClassVar[type[DQNConfig]] = DQNConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        config = self.config
        network: QNetwork | QHeads
        if config.network is None:
            network = QNetwork(self.inputs, config.width, norm=config.norm, dueling=config.dueling, labels=self.labels)
        else:
            other = build_network(config.network, self.inputs, config.width, norm=config.norm, labels=0)
            network = QHeads(other, dueling=config.dueling, labels=self.labels)
        self.replay: ReplayBuffer | None = None
        self._remembered: dict[str, Tensor] = {}  # of a checkpoint, until the environment is there
        self.gradient_steps = self.replayed_horizon = 0
        return {"network": network, "target": copy.deepcopy(network).requires_grad_(False)}

    @property
    def epsilon(self) -> float:
        """The share of random actions in this update."""
        plan = self.config.schedule(max(1, self.total_updates))
        fall = plan.progress(self.updates) / max(1e-9, self.config.exploration_share)
        start, end = self.config.exploration_start, self.config.exploration_end
        return float(start + (end - start) * min(1.0, fall))

    def passes_per_update(self, horizon: int) -> float:
        """A pass per step to act; per gradient step one of the network and, where t_max > 1, one or two of the next."""
        per_gradient_step = 1 + (horizon > 1) * (2 if self.config.double else 1)
        batch = self.env.num_envs if self.env is not None else self.config.replay_batch
        steps = horizon // self.config.train_every
        return float(horizon + steps * self.config.replay_batch / batch * per_gradient_step)

    def _update(self, horizon: int, weight: Any) -> int:
        assert self.logger is not None
        episodes, generator = self._play(horizon, augmentation=False)
        replay = self._open_replay(episodes)
        if horizon != self.replayed_horizon:  # transitions that ended elsewhere belong to another task
            replay.clear()
            self.replayed_horizon = horizon
        draws = self._generator(self._draws()[1])
        passes = 0
        while not episodes.over and episodes.steps < horizon:
            passes += len(episodes.observation)
            self._act(episodes, replay, generator)
            if len(replay) >= self.config.learning_starts and episodes.steps % self.config.train_every == 0:
                passes += self._learn(replay.sample(self.config.replay_batch, draws), weight, draws)
        self.logger.record_mean("train/epsilon", self.epsilon)
        self._record_episodes(episodes, horizon)
        if self.updates + 1 == self.total_updates and not self.gradient_steps:
            warnings.warn(
                f"{self.name}: no gradient step was taken, for the replay never held learning_starts="
                f"{self.config.learning_starts} transitions of one t_max; train longer, or lower it",
                stacklevel=3,
            )
        return passes

    @torch.no_grad()
    def _act(self, episodes: Episodes, replay: ReplayBuffer, generator: torch.Generator) -> None:
        """One epsilon-greedy step of the batch, into the replay."""
        before, index = tensor(episodes.info["segmentation"], self.device), np.array(episodes.info["index"])
        keep = self._explored(self._forward(episodes.observation), self.epsilon, generator)
        reward_map = episodes.step(keep)
        after = tensor(episodes.of_this_step("segmentation"), self.device)
        if self.updates == 0 and episodes.steps == 1:
            target = tensor(episodes.of_this_step("target"), self.device)
            step = np.ones(len(index), np.int64)
            if not torch.allclose(self._reward((before, after, target), step, index, keep), reward_map, atol=1e-5):
                raise OptionError(
                    f"{self.name}: the reward map of this environment is not what its reward function makes of the "
                    "maps; replayed rewards need a function (register_reward) instead of a wrapper"
                )
        gather, gather_array = self.team.gathered, self.team.gathered_array  # every process has the whole replay
        before, keep, after = (gather(one.to(torch.uint8)) for one in (before, keep, after))
        replay.add(gather_array(index), episodes.steps - 1, before, keep, after, gather_array(episodes.ended))

    def _learn(self, batch: Transitions, weight: Any, draws: torch.Generator) -> int:
        """One gradient step on Q(s, a) = r + gamma max Q'(s', a'); returns the images that went through a network."""
        assert self.logger is not None
        self._index = batch.index
        images, targets = (tensor(array, self.device) for array in self._draw(batch.index))
        before, after, action = (moved(m, self.device) for m in (batch.before, batch.after, batch.action))
        per_image = (-1, *(1,) * (before.ndim - 1))
        reward = self._reward((before, after, targets), batch.step + 1, batch.index, action)
        first, later = weight_maps(targets.float(), weight, self.config.later_background_weight)
        step, terminal = (tensor(one, self.device) for one in (batch.step, batch.terminal))
        reward = reward * torch.where((step == 0).view(per_image), first, later)
        going_on = (~terminal).float().view(per_image)
        left = self.replayed_horizon - step if self.task.observe_time else None
        now = observe(images, before, self.observation, left)
        following = observe(images, after, self.observation, None if left is None else left - 1)
        playing, still_playing = before.float(), after.float()
        if self.transition != "absorbing":  # there, a zeroed pixel has left the game and earns nothing any more
            playing, still_playing = torch.ones_like(playing), torch.ones_like(playing)
        if self.config.augmentation:
            turn = self._augmentation(now, draws)
            now, following = turn.observation(now), turn.observation(following)
            reward, action, playing, still_playing = map(turn.maps, (reward, action, playing, still_playing))
        passes = len(now)
        value = torch.zeros_like(reward)
        if not batch.terminal.all():
            value = self._next_value(following) * still_playing * going_on
            passes += len(now) * (2 if self.config.double else 1)
        q = self._forward(now).gather(1, action[:, None].long())[:, 0]
        # Squared, not Huber: Q is the mean of +1 for background and -weight for object, not their median.
        error = (q - (reward + self.config.gamma * value)) ** 2 * playing
        loss = error.sum() / self.team.total(playing.sum()).clamp_min(1)
        norm = self._descend(loss)
        self.gradient_steps += 1
        if self.gradient_steps % self.config.target_update == 0:
            self._update_target()
        self._note_losses({"loss": loss, "q": q.mean() / self.team.size}, norm)
        return passes

    @torch.no_grad()
    def _next_value(self, observation: Tensor) -> Tensor:
        """The worth of a pixel's next state, float32 (B, [L,] H, W)."""
        q: Tensor = self._forward(observation, "target")
        if not self.config.double:
            return q.amax(dim=1)
        best = self._forward(observation).argmax(dim=1, keepdim=True)
        return q.gather(1, best)[:, 0]

    def _update_target(self) -> None:
        self.parts["target"].load_state_dict(self.network.state_dict())

    def _reward(
        self, maps: tuple[Tensor, Tensor, Tensor], step: NDArray[np.int64], index: NDArray[np.int64], action: Tensor
    ) -> Tensor:
        """The environment's reward function: of arrays on the CPU, of tensors on CUDA, which it has to take there.

        Args:
            maps: previous, current and target, uint8 (N, [L,] H, W).
            step: number of the step that each transition is, from 1, int64 (N,).
            index: of the images, int64 (N,).
            action: that was taken, (N, [L,] H, W).
        """
        previous, current, target, taken = (self._for_reward(one.to(torch.uint8)) for one in (*maps, action))
        context = None
        if self._reward_function.needs:
            image = self._for_reward(tensor(self._draw(index)[0], self.device))
            context = RewardContext.of(step, self.replayed_horizon, image, taken)
        return tensor(self._reward_function(previous, current, target, context), self.device).float()

    def _for_reward(self, array: Tensor) -> Any:
        return array if self.device.type == "cuda" else array.cpu().numpy()

    def _open_replay(self, episodes: Episodes) -> ReplayBuffer:
        if self.replay is None:
            function = attribute(self.env, "reward", None)
            if function is None:
                raise OptionError(f"{self.name}: expected an environment with `reward`, as PixelSegVectorEnv has")
            self._draw, self._reward_function = draw_of(self.env, episodes.info, self.name), as_reward(function)
            shape = tuple(episodes.foreground.shape[1:])
            self.replay = ReplayBuffer(self.config.replay_size, shape, self.device)
            self._recall(self.replay)
        return self.replay

    def memory(self) -> dict[str, Tensor]:
        """The replay, and what counts with it."""
        if self.replay is None:
            return self._remembered
        counts = {
            "gradient_steps": torch.tensor(self.gradient_steps),
            "horizon": torch.tensor(self.replayed_horizon),
            "dataset": torch.tensor(fingerprint(attribute(self.env, "dataset", None))),
        }
        return self.replay.contents() | counts

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Takes up what `memory` gave, when the training goes on."""
        self._remembered = memory
        self.gradient_steps = int(memory["gradient_steps"]) if memory else 0

    def _recall(self, replay: ReplayBuffer) -> None:
        memory, self._remembered = self._remembered, {}
        if memory and int(memory["dataset"]) == fingerprint(attribute(self.env, "dataset", None)):
            replay.restore(memory)
            self.replayed_horizon = int(memory["horizon"])

    def _augmentation(self, observation: Tensor, draws: torch.Generator) -> Augmentation:
        return Augmentation(
            len(observation),
            self.task.image_channels,
            square=observation.shape[-1] == observation.shape[-2],
            generator=draws,
            device=self.device,
            copies=self.task.copies,
            missing=self.config.missing_sequences,
            stand_in=self.config.missing_stand_in,
        )

    def _explored(self, q: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        greedy = q[:, KEEP] > q[:, 1 - KEEP]
        if not epsilon:  # a draw that decides nothing would have a place in an exported graph
            return greedy
        draw = rand((2, *greedy.shape), generator, rows=1)
        return torch.where(draw[0] < epsilon, draw[1] < 0.5, greedy)

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        epsilon = 0.0 if deterministic else self.config.exploration_end
        return self._explored(self._forward(observation), epsilon, self._predict_generator)


@dataclass(frozen=True)
class DoubleDQNConfig(DQNConfig):
    """DQN's hyperparameters with `double` on."""

    agent: ClassVar[str] = "Double DQN"
    double: bool = True
    """The online network chooses the next action, the target network values it."""

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"double": self.double}


class DoubleDQN(DQN):
    """DQN with `double=True`."""

    name = "Double DQN"
    config_class = DoubleDQNConfig


@dataclass(frozen=True)
class DuelingDQNConfig(DQNConfig):
    """DQN's hyperparameters with `dueling` on."""

    agent: ClassVar[str] = "Dueling DQN"
    dueling: bool = True
    """Q is composed of a value and two advantages."""

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"dueling": self.dueling}


class DuelingDQN(DQN):
    """DQN with `dueling=True`."""

    name = "Dueling DQN"
    config_class = DuelingDQNConfig
