"""The supervised twin: PA3C's own network, trained by cross-entropy on the same images.

It answers the question that every reinforcement learner for segmentation must answer: what would the
same network have done with the labels used directly? Same policy network, data, split, augmentation,
optimizer, learning-rate schedule, batch and number of network passes; only the loss differs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.supervised import TargetLearner


@dataclass(frozen=True)
class TwinConfig(PA3CConfig):
    """PA3C's hyperparameters, with one look per image. `foreground_weight=1, final_foreground_weight=1`: unweighted."""

    agent: ClassVar[str] = "PA3C's twin"

    def for_task(self, transition: str, observation: str) -> Self:
        """As PA3C's, with one look per image, and no bias towards keeping."""
        once = dataclasses.replace(self, horizons=(1,), horizon_shares=(), start_bias=0.0)
        return super(TwinConfig, once).for_task(transition, observation)


@dataclass(frozen=True)
class SteppedTwinConfig(PA3CConfig):
    """PA3C's hyperparameters, but for the default horizons, which are 1, 3, 10 whatever the task."""

    agent: ClassVar[str] = "PA3C's twin"

    def for_task(self, transition: str, observation: str) -> Self:
        """As PA3C's, with the twin's horizons."""
        stepped = dataclasses.replace(self, horizons=self.horizons or (1, 3, 10))
        return super(SteppedTwinConfig, stepped).for_task(transition, observation)

    def _weights_for(self, transition: str, steps: int) -> dict[str, Any]:
        """As for an agent of one look: what a reward weighs says nothing of a cross-entropy."""
        return super()._weights_for(transition, 1)


class SteppedTwin(TargetLearner, PA3C):
    """PA3C with as many looks, but the target in place of rewards: it plays episodes, and learns from every step.

    At every step the cross-entropy of the target given the carved image, over the pixels that are still kept. It carves
    with its own decisions, and is judged after the last step as PA3C is. Prediction and parameters are PA3C's.
    """

    name = "PA3C's twin, supervised, ten looks"
    formerly = ("SteppedTwin",)
    config_class: ClassVar[type[PA3CConfig]] = SteppedTwinConfig
    idle: ClassVar[tuple[str, ...]] = (
        *TargetLearner.idle,
        "entropy_coefficient",
        "value_coefficient",
        "reward_map_convolution",
        "reward_map_on",
    )

    def _logits(self, observation: Tensor) -> Tensor:
        logits: Tensor = self._forward(observation)[0]  # as the agent looks, closer too
        return logits


class SupervisedTwin(SteppedTwin):
    """The twin that looks once: PA3C's update replaced by a step of (weighted) cross-entropy on the whole image.

    One update is one network pass of the batch.
    """

    name = "PA3C's twin, supervised"
    formerly = ("SupervisedTwin",)
    looks_once = True
    config_class = TwinConfig
    idle = (*SteppedTwin.idle, "preview_every")
