"""Training on the labels themselves: what they are worth when used directly, and PixelRL's coarse maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents.agent import PixelAgent
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.learning.episodes import tensor
from pixelseg_agents.learning.losses import LOSSES, Loss, cross_entropy, losses_of_looks
from pixelseg_agents.networks import build_network, check_shape, network_class
from pixelseg_env import OptionError


class TargetLearner(PixelAgent):
    """An agent that learns the target itself, by a loss of its own, from what the steps of an episode show.

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

    @torch.no_grad()
    def keep_probability(self, observation: NDArray[Any] | Tensor) -> NDArray[np.float32]:
        """The probability of every pixel to be object, by which it is kept.

        Args:
            observation: float32 (B, C, H, W).

        Returns:
            float32 (B, [L,] H, W), NumPy.
        """
        found: NDArray[np.float32] = self._probability(tensor(observation, self.device)).cpu().numpy()
        return found

    def _probability(self, observation: Tensor) -> Tensor:
        self.network.eval()
        return self._logits(observation).float().sigmoid()

    @property
    def _loss(self) -> Loss:
        """What is minimised."""
        return cross_entropy

    @property
    def _output_weights(self) -> Sequence[float]:
        """Of `_outputs`, in the loss."""
        return (1.0,)

    def _outputs(self, observation: Tensor) -> list[Tensor]:
        """The log-odds of every head that is trained; by the first one the episodes are played."""
        return [self._logits(observation)]

    def passes_per_update(self, horizon: int) -> float:
        """One pass per look."""
        return horizon

    def _update(self, horizon: int, weight: Any) -> int:
        assert self.logger is not None
        episodes, _ = self._play(horizon)
        losses = losses_of_looks(
            self._outputs,
            episodes,
            horizon,
            weight,
            whole=self.looks_once,
            loss=self._loss,
            output_weights=self._output_weights,
            team=self.team,
        )
        loss = torch.stack(losses).mean()
        norm = self._descend(loss)
        self._note_losses({"loss": loss}, norm)
        self._record_episodes(episodes, horizon)
        return len(losses) * len(episodes.foreground)


@dataclass(frozen=True)
class SupervisedConfig(AgentConfig):
    """Hyperparameters of the supervised agent; those about rewards do not apply.

    Without `network` it is a U-Net, at `width=1` of 7.77 M parameters.
    """

    agent: ClassVar[str] = "U-Net"
    meanings: ClassVar[dict[str, str]] = AgentConfig.meanings | {
        "loss": f"expected {', '.join(map(repr, LOSSES))}",
    }

    loss: Literal["cross-entropy", "dice", "both"] = "cross-entropy"
    """What is minimised: cross-entropy, 1 - Dice of the probabilities, or their sum."""
    foreground_weight: float | None = 1.0
    """Factor on object pixels' cross-entropy at the start; None: background per foreground pixel of the set. Dice
    needs none."""
    final_foreground_weight: float | None = 1.0
    """What that factor falls to, geometrically, at 80 % of the steps."""

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"loss": self.loss in LOSSES}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("foreground_weight", "final_foreground_weight"):
            if self.loss == "dice" and getattr(self, name) != 1:
                raise OptionError(
                    f"{name}={getattr(self, name)!r}: is a factor in cross-entropy, which loss='dice' has not (Dice "
                    "weighs the object as the background by itself); leave it out, or choose loss='both'"
                )

    def for_task(self, transition: str, observation: str) -> Self:
        """As `AgentConfig`'s, with one look per image."""
        once = dataclasses.replace(self, horizons=(1,), horizon_shares=())
        return dataclasses.replace(super(SupervisedConfig, once).for_task(transition, observation), horizon_shares=())


class Supervised(TargetLearner):
    """A segmentation network with an agent's face: it learns what the first observation of an episode shows.

    It knows no later ones: played for several steps it decides anew at each, so judge it with `horizon=1`. One update
    is one gradient step on a batch of images. `network` says which, a U-Net by default; one with several heads (deep
    supervision) learns from the weighted mean of their losses, and decides with what its `forward` returns. Arguments
    are those of `PixelAgent`; hyperparameters are in `SupervisedConfig`.
    """

    name = "U-Net, supervised"
    formerly: ClassVar[tuple[str, ...]] = ("U-Net",)
    looks_once = True
    config_class = SupervisedConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        config = self.config
        network = build_network(
            config.network or "unet", self.inputs, config.width, norm=config.norm, labels=self.labels
        )
        return {"network": network}

    @property
    def title(self) -> str:
        """The network's label, and how it was trained."""
        network = self.config.network
        return self.name if network is None else f"{network_class(network).label}, supervised"

    @property
    def _loss(self) -> Loss:
        return LOSSES[self.config.loss]

    @property
    def _output_weights(self) -> Sequence[float]:
        weights: Sequence[float] = self.network.output_weights
        return weights

    def _outputs(self, observation: Tensor) -> list[Tensor]:
        if len(self._output_weights) == 1:
            return super()._outputs(observation)
        outputs: list[Tensor] = self._forward(observation, method="outputs")
        for one in outputs:
            check_shape(self.network, "outputs", one, (len(one), self.labels, *observation.shape[-2:]))
        return outputs if self.labels > 1 else [one[:, 0] for one in outputs]

    def _logits(self, observation: Tensor) -> Tensor:
        logits: Tensor = self._forward(observation)
        labels = (self.labels,) if self.labels > 1 else ()
        check_shape(self.network, "forward", logits, (len(observation), *labels, *observation.shape[-2:]))
        return logits

    @torch.no_grad()
    def probability(self, images: NDArray[Any] | Tensor) -> NDArray[Any]:
        """The probability of every pixel to be object.

        Args:
            images: float32 (B, C, H, W) in [0, 1].

        Returns:
            float32 (B, [L,] H, W), NumPy; for `start` of the transition `"additive"`.
        """
        return self.keep_probability(images)

    @torch.no_grad()
    def probability_map(self, images: Tensor) -> Tensor:
        """What `probability` tells, of a tensor and as one, on the agent's device."""
        return self._probability(images)

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        logits = self._logits(observation)
        if deterministic:
            return logits > 0
        return torch.rand(logits.shape, generator=self._predict_generator, device=self.device) < logits.sigmoid()
