"""Training by cross-entropy: what the labels are worth when used directly, and PixelRL's coarse maps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.learning.cross_entropy import cross_entropy_of_looks
from pixelseg_agents.learning.episodes import tensor
from pixelseg_agents.networks.unet import UNet


class TargetLearner(PixelAgent):
    """An agent that learns the target itself, by cross-entropy, from what the steps of an episode show.

    It plays with its own decisions, and learns at every step from the pixels that still play. A subclass that
    `looks_once` has episodes of one step alone (see its config's `for_task`), and learns the whole image. Mixed into
    another agent it replaces that agent's learning and leaves it its network: `class Twin(TargetLearner, PA3C)`.

    A subclass says with `_logits` what its network makes of an observation.
    """

    family = "supervised"
    supervised = True
    idle: ClassVar[tuple[str, ...]] = ("gamma", "later_background_weight")

    def _logits(self, observation: Tensor) -> Tensor:
        """The log-odds of every pixel to be object, float32 (B, [L,] H, W)."""
        raise NotImplementedError

    def passes_per_update(self, horizon: int) -> float:
        """One pass per look."""
        return horizon

    def _update(self, horizon: int, weight: Any) -> int:
        assert self.logger is not None
        episodes, _ = self._play(horizon)
        losses = cross_entropy_of_looks(self._logits, episodes, horizon, weight, whole=self.looks_once)
        loss = torch.stack(losses).mean()
        norm = self._descend(loss)
        self.logger.record_mean("train/loss", float(loss.detach()))
        self.logger.record_mean("train/gradient_norm", norm)
        self._record_episodes(episodes, horizon)
        return len(losses) * len(episodes.foreground)


@dataclass(frozen=True)
class SupervisedConfig(AgentConfig):
    """Hyperparameters of the U-Net; those about rewards do not apply. At `width=1` it has 7.77 M parameters."""

    agent: ClassVar[str] = "U-Net"

    foreground_weight: float | None = 1.0
    """Factor on object pixels' cross-entropy at the start; None: background per foreground pixel of the set."""

    def for_task(self, transition: str, observation: str) -> Self:
        """As `AgentConfig`'s, with one look per image."""
        return dataclasses.replace(super().for_task(transition, observation), horizons=(1,), horizon_shares=())


class Supervised(TargetLearner):
    """A supervised U-Net with an agent's face: it learns what the first observation of an episode shows.

    It knows no later ones: played for several steps it decides anew at each, so judge it with `horizon=1`. One update
    is one step of binary cross-entropy on a batch of images. Arguments are those of `PixelAgent`; hyperparameters are
    in `SupervisedConfig`.
    """

    name = "U-Net, supervised"
    formerly = ("U-Net",)
    looks_once = True
    config_class = SupervisedConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": UNet(self.channels, self.config.width, norm=self.config.norm, labels=self.labels)}

    def _logits(self, observation: Tensor) -> Tensor:
        logits: Tensor = self.network(observation)
        return logits

    @torch.no_grad()
    def probability(self, images: NDArray[Any] | Tensor) -> NDArray[Any]:
        """The probability of every pixel to be object.

        Args:
            images: float32 (B, C, H, W) in [0, 1].

        Returns:
            float32 (B, [L,] H, W), NumPy; for `start` of the transition `"additive"`.
        """
        self.network.eval()
        found: NDArray[Any] = self.network(tensor(images, self.device)).sigmoid().cpu().numpy()
        return found

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        logits = self._logits(observation)
        if deterministic:
            return logits > 0
        return torch.rand(logits.shape, generator=self._predict_generator, device=self.device) < logits.sigmoid()
