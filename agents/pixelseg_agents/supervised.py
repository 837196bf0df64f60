"""A U-Net trained by cross-entropy: what the labels are worth when used directly, and PixelRL's coarse maps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.learning.episodes import tensor, weight_maps
from pixelseg_agents.networks.unet import UNet


@dataclass(frozen=True)
class SupervisedConfig(AgentConfig):
    """Hyperparameters of the U-Net; those about rewards do not apply. At `width=1` it has 7.77 M parameters."""

    agent: ClassVar[str] = "U-Net"

    foreground_weight: float | None = 1.0
    """Factor on object pixels' cross-entropy at the start; None: background per foreground pixel of the set."""

    def for_task(self, transition: str, observation: str) -> Self:
        """As `AgentConfig`'s, with one look per image."""
        return dataclasses.replace(super().for_task(transition, observation), horizons=(1,), horizon_shares=())


class Supervised(PixelAgent):
    """A supervised U-Net with an agent's face: it learns what the first observation of an episode shows.

    It knows no later ones: played for several steps it decides anew at each, so judge it with `horizon=1`. One update
    is one step of binary cross-entropy on a batch of images. Arguments are those of `PixelAgent`; hyperparameters are
    in `SupervisedConfig`.
    """

    name = "U-Net, supervised"
    formerly = ("U-Net",)
    family = "supervised"
    supervised = looks_once = True
    config_class = SupervisedConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": UNet(self.channels, self.config.width, norm=self.config.norm, labels=self.labels)}

    def passes_per_update(self, horizon: int) -> float:
        """One look at the batch."""
        return 1

    def _update(self, horizon: int, weight: Any) -> int:
        assert self.logger is not None
        episodes, _ = self._play(1)
        target = episodes.foreground
        logits = self.network(episodes.observation)
        weights, _ = weight_maps(target, weight, 1.0)
        norm = self._descend(F.binary_cross_entropy_with_logits(logits, target, weight=weights))
        self.logger.record_mean("train/gradient_norm", norm)
        episodes.step(logits.detach() > 0)
        self._record_episodes(episodes, 1)
        return len(target)

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
        logits: Tensor = self.network(observation)
        if deterministic:
            return logits > 0
        return torch.rand(logits.shape, generator=self._predict_generator, device=self.device) < logits.sigmoid()
