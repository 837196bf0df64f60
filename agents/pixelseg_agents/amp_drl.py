"""AMP-DRL: pre-training on images whose parts an agent hides, then fine-tuning (after Xu et al., ICME 2023)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pixelseg_agents.learning.distributed import rand, randint
from pixelseg_agents.learning.episodes import tensor
from pixelseg_agents.learning.masking import Boxes, MaskReplay
from pixelseg_agents.learning.task import Draw, attribute, draw_of, fingerprint
from pixelseg_agents.networks.masker import MaskingQNetwork
from pixelseg_agents.supervised import Supervised, SupervisedConfig


@dataclass(frozen=True)
class AMPDRLConfig(SupervisedConfig):
    """Hyperparameters of AMP-DRL. The network that is trained has 31.03 M parameters at `width=1`."""

    agent: ClassVar[str] = "AMP-DRL"
    meanings: ClassVar[dict[str, str]] = SupervisedConfig.meanings | {
        "pretraining_share": "expected a number from 0 to less than 1",
        "boxes": "expected at least 1",
        "grid": "expected at least 1",
        "sizes": "expected at least one number above 0 and at most 1",
        "mask_reward": "expected 'hard' or 'easy'",
        "mask_replay": "expected at least mask_batch",
    }

    network: str | None = "unet-31m"
    """The network that is pre-trained and fine-tuned: a name that `pixelseg networks` lists, or module:name; None: the
    U-Net of 7.77 M parameters."""
    pretraining_share: float = 0.3
    """Share of the updates that pre-train."""
    boxes: int = 3
    """Boxes that are hidden in each image, one after another."""
    grid: int = 8
    """Places for a box along each side."""
    sizes: tuple[float, ...] = (0.125, 0.25, 0.5)
    """Sides of the boxes that can be chosen, as shares of the image's."""
    mask_reward: Literal["hard", "easy"] = "hard"
    """What the masking agent is paid for: boxes that are hard to reconstruct, or easy ones."""
    mask_replay: int = 10_000
    """Sequences of boxes in the replay."""
    mask_batch: int = 8
    """Sequences per gradient step of the masking agent."""
    mask_target_update: int = 50
    """Gradient steps between copies to its target network."""
    exploration_end: float = 0.1
    """Share of random boxes at the end of pre-training; it falls from 1, linearly over the first half."""

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {
            "pretraining_share": 0 <= self.pretraining_share < 1,
            "boxes": self.boxes >= 1,
            "grid": self.grid >= 1,
            "sizes": len(self.sizes) > 0 and all(0 < size <= 1 for size in self.sizes),
            "mask_reward": self.mask_reward in ("hard", "easy"),
            "mask_replay": self.mask_replay >= self.mask_batch,
            "mask_batch": self.mask_batch >= 1,
            "mask_target_update": self.mask_target_update >= 1,
            "exploration_end": 0 <= self.exploration_end <= 1,
        }


class AMPDRL(Supervised):
    """Adaptive masking by reinforcement learning, then supervised fine-tuning, written *after* Xu et al. (ICME 2023).

    Pre-training needs no labels. A dueling DQN looks at an image and hides boxes of it, one after another; the U-Net
    reconstructs what is hidden, and how well it does so is the DQN's reward. Then the U-Net learns to segment from the
    labels, as the supervised agent does. What decides in the end is the U-Net alone.

    Known of the paper: masks for self-supervised pre-training are chosen by reinforcement learning; the agent chooses
    position and size of the masks of each image; its feedback is how well the network reconstructs; the pre-trained
    U-Net (31.03 M) is fine-tuned. Said by others: the agent is a dueling DQN. **Guesses**, each a hyperparameter or
    named here:

    - the state is the image as it is hidden so far, and the plane of what is hidden; hidden pixels are 0;
    - actions are boxes on a `grid`, of `sizes`; an episode hides `boxes` of them, discounted by `gamma`;
    - the reward of a box is the mean squared error of its pixels, those under an earlier box counting 0, by the mean of
      the batch, so that it does not fade while the U-Net learns, less 1; more is better (`mask_reward="hard"`: masks
      become difficult) or less is;
    - the U-Net's loss is the mean squared error of the hidden pixels, from a 1x1 convolution that is dropped after
      pre-training;
    - both parts see the same training images, and have an optimizer and a learning-rate schedule of their own with the
      same settings; `pretraining_share` of the updates is the first, without augmentation;
    - fine-tuning trains all layers by cross-entropy (`loss`).

    Arguments are those of `PixelAgent`; hyperparameters are in `AMPDRLConfig`.
    """

    name = "AMP-DRL"
    formerly: ClassVar[tuple[str, ...]] = ()
    idle: ClassVar[tuple[str, ...]] = ("later_background_weight", "look")
    config_class = AMPDRLConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        config = self.config
        parts = super()._make_parts()
        self._boxes = Boxes(config.grid, config.sizes)
        self._replay = MaskReplay(config.mask_replay, config.boxes, self.device)
        self._mask_steps = self._tuned_from = 0  # the masker's own, known without asking a GPU
        self._remembered: dict[str, Tensor] = {}  # of a checkpoint, until the training goes on
        masker = MaskingQNetwork(
            self.image_channels, config.width, norm=config.norm, grid=config.grid, sizes=len(config.sizes)
        )
        parts["reconstruction"] = nn.Conv2d(int(parts["network"].features), self.image_channels, 1)  # type: ignore[arg-type]
        return parts | {"masker": masker, "masker_target": copy.deepcopy(masker).requires_grad_(False)}

    @property
    def title(self) -> str:
        """Its name: the network is part of the method."""
        return self.name

    @property
    def _masker(self) -> MaskingQNetwork:
        part = self.parts["masker"]
        assert isinstance(part, MaskingQNetwork)
        return part

    @property
    def pretraining_updates(self) -> int:
        """How many updates pre-train: a share of those planned, or as many as it were when fine-tuning began."""
        began = self._tuned_from
        return began - 1 if began else int(self.config.pretraining_share * self.total_updates)

    @property
    def epsilon(self) -> float:
        """The share of boxes that are chosen at random in this update."""
        fall = min(1.0, 2 * self.updates / max(1, self.pretraining_updates))
        return float(1 + (self.config.exploration_end - 1) * fall)

    def passes_per_update(self, horizon: int) -> float:
        """One pass to fine-tune; to pre-train one, one per box, and of the replay one, and mostly one of the next."""
        config = self.config
        batch = self.env.num_envs if self.env is not None else config.mask_batch
        replayed = config.mask_batch / batch * (2 - 1 / config.boxes)
        share = config.pretraining_share
        return float(share * (config.boxes + 1 + replayed) + (1 - share) * horizon)

    def _learning_rate(self, progress: float, epoch: float) -> float:
        first = self.pretraining_updates
        if self.updates < first:
            progress = self.updates / first
        else:
            progress = (self.updates - first) / (self.total_updates - first)
        return super()._learning_rate(progress, epoch)

    def _update(self, horizon: int, weight: Any) -> int:
        if self.updates < self.pretraining_updates:
            return self._pretrain()
        if not self._tuned_from:
            self._tuned_from = self.updates + 1  # a longer plan does not pre-train again
            self._masker.tuned_from.fill_(self._tuned_from)
            self.optimizer.state.clear()  # the moments are those of another loss
        return super()._update(horizon, weight)

    def memory(self) -> dict[str, Tensor]:
        """The boxes that were put on images, while it pre-trains."""
        if self.env is None or not len(self._replay) or self._tuned_from:
            return {}
        return self._replay.contents() | {"dataset": torch.tensor(fingerprint(attribute(self.env, "dataset", None)))}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Takes up what `memory` gave, when the training goes on."""
        self._remembered = memory
        self._mask_steps, self._tuned_from = int(self._masker.steps), int(self._masker.tuned_from)

    # ---------------------------------------------------------------- pre-training

    def _pretrain(self) -> int:
        """Hides boxes of a batch of images, learns to reconstruct them, and what to hide; returns the passes."""
        assert self.logger is not None
        episodes, generator = self._play(1, augmentation=False)
        observation = episodes.observation
        image = observation[:, : self.image_channels]
        chosen, masks = self._hide(image, generator)
        hidden = masks.amax(dim=1)
        error = self._reconstruct(observation, image, hidden)
        # By the mean of the batch: errors fall while the U-Net learns, and what a box is worth should not.
        # What lies under an earlier box is not paid again, or one place would be hidden K times.
        fresh = masks * (masks.cumsum(dim=1) - masks == 0)
        of_box = (error[:, None] * fresh).sum(dim=(-2, -1)) / masks.sum(dim=(-2, -1))
        reward = of_box / self.team.mean(of_box.mean()).clamp_min(1e-8) - 1
        reward = reward if self.config.mask_reward == "hard" else -reward
        draw = draw_of(self.env, episodes.info, self.name)
        memory, self._remembered = self._remembered, {}
        if memory and int(memory["dataset"]) == fingerprint(attribute(self.env, "dataset", None)):
            self._replay.restore(memory)
        gather = self.team.gathered
        self._replay.add(self.team.gathered_array(np.array(episodes.info["index"])), gather(chosen), gather(reward))
        passes: int = len(image) * (self.config.boxes + 1)
        if len(self._replay) >= self.config.mask_batch:
            passes += self._learn_to_hide(draw, self._generator(self._draws()[1]))
        said = {"hidden": hidden.mean(), "box_error": of_box.mean()}
        for name, value in said.items():
            self._notes.add(f"pretrain/{name}", value / self.team.size)
        return passes

    @torch.no_grad()
    def _hide(self, image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Chooses boxes; returns their numbers, int64 (B, K), and masks, float32 (B, K, H, W)."""
        hidden = torch.zeros_like(image[:, 0])
        chosen, masks = [], []
        for _ in range(self.config.boxes):
            best = self._values(image, hidden).argmax(dim=1)
            drawn = randint(0, len(self._boxes), best.shape, generator)
            explore = rand(best.shape, generator) < self.epsilon
            chosen.append(torch.where(explore, drawn, best))
            masks.append(self._boxes.masks(chosen[-1], *image.shape[-2:]))
            hidden = torch.maximum(hidden, masks[-1])
        return torch.stack(chosen, dim=1), torch.stack(masks, dim=1)

    def _reconstruct(self, observation: Tensor, image: Tensor, hidden: Tensor) -> Tensor:
        """One gradient step of the U-Net on what is hidden; returns the squared error of every pixel, (B, H, W)."""
        assert self.logger is not None
        seen = torch.cat([image * (1 - hidden[:, None]), observation[:, self.image_channels :]], dim=1)
        found = self.parts["reconstruction"](self._forward(seen, method="decode"))
        error: Tensor = ((found - image) ** 2).mean(dim=1)
        loss = (error * hidden).sum() / self.team.total(hidden.sum())
        self._note_losses({"loss": loss}, self._descend(loss), "pretrain")
        return error.detach()

    def _learn_to_hide(self, draw: Draw, draws: torch.Generator) -> int:
        """One gradient step on Q(s, a) = r + gamma max Q'(s', a'); returns the passes."""
        assert self.logger is not None
        index, boxes, rewards, chosen = self._replay.sample(self.config.mask_batch, draws)
        image, steps = tensor(draw(index)[0], self.device), tensor(chosen, self.device)
        count = self.config.boxes
        masks = self._boxes.masks(boxes, *image.shape[-2:])
        number = torch.arange(count, device=self.device)[None]
        before, after = (
            (masks * done[:, :, None, None]).amax(dim=1) for done in (number < steps[:, None], number <= steps[:, None])
        )
        rows = torch.arange(len(steps), device=self.device)
        following = np.flatnonzero(chosen < count - 1)
        going_on = tensor(following, self.device)
        value = torch.zeros_like(rewards[:, 0])
        if len(following):
            with torch.no_grad():
                value[going_on] = self._values(image[going_on], after[going_on], "masker_target").amax(dim=1)
        wanted = rewards[rows, steps] + self.config.gamma * value
        q = self._values(image, before)[rows, boxes[rows, steps]]
        loss = ((q - wanted) ** 2).mean() / self.team.size
        self._descend(loss)
        self._mask_steps += 1
        self._masker.steps.fill_(self._mask_steps)
        if self._mask_steps % self.config.mask_target_update == 0:
            self.parts["masker_target"].load_state_dict(self.parts["masker"].state_dict())
        self._notes.add("pretrain/mask_loss", loss)
        return len(image) + len(following)

    def _values(self, image: Tensor, hidden: Tensor, part: str = "masker") -> Tensor:
        """Q-values of every box, of an image that is hidden so far."""
        plane = hidden[:, None]
        found: Tensor = self._forward(torch.cat([image * (1 - plane), plane], dim=1), part)
        return found
