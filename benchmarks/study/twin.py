"""The supervised twin: PA3C's own network, trained by cross-entropy on the same images.

It answers the question that every reinforcement learner for segmentation must answer: what would the
same network have done with the labels used directly? Same policy network, data, split, augmentation,
optimizer, learning-rate schedule, batch and number of network passes; only the loss differs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from gymnasium.vector import VectorEnv

from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.learning.episodes import weight_maps


class SupervisedTwin(PA3C):
    """PA3C with its update replaced by one step of (weighted) binary cross-entropy on the whole image.

    Prediction, checkpoints and parameters are PA3C's. One update is one network pass of the batch.

    Args:
        env: a vector environment; only images and targets of its `reset` are used.
        config: PA3C's hyperparameters. `foreground_weight=1, final_foreground_weight=1` is the plain twin.
        seed: as PA3C's.
        device: as PA3C's.
        **changes: as PA3C's.
    """

    name = "SupervisedTwin"

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        config: PA3CConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **changes: Any,
    ) -> None:
        changes |= {"horizons": (1,), "start_bias": 0.0}
        super().__init__(env, config, seed=seed, device=device, **changes)

    def passes_per_update(self, horizon: int) -> float:
        """One look at the batch."""
        return 1

    def _update(self, horizon: int, weight: float) -> int:
        assert self.logger is not None
        episodes, _ = self._play(1)
        target = episodes.foreground
        logits, _ = self.network(episodes.observation)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight=weight_maps(target, weight, 1.0)[0])
        norm = self._descend(loss)
        self.logger.record_mean("train/loss", float(loss.detach()))
        self.logger.record_mean("train/gradient_norm", norm)
        return len(target)


class SteppedTwin(SupervisedTwin):
    """The twin with as many looks as PA3C: it plays episodes, and learns the target from every observation.

    Horizons 1, 3, 10, same passes; at every step the cross-entropy of the target given the carved image, over
    the pixels that are still kept. It carves with its own decisions, and is judged after the last step as PA3C is.
    """

    name = "SteppedTwin"

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        config: PA3CConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **changes: Any,
    ) -> None:
        if not (config or PA3CConfig()).horizons:
            changes = {"horizons": (1, 3, 10)} | changes
        PA3C.__init__(self, env, config, seed=seed, device=device, **changes)

    def passes_per_update(self, horizon: int) -> float:
        """One look per step."""
        return horizon

    def _update(self, horizon: int, weight: float) -> int:
        assert self.logger is not None
        episodes, _ = self._play(horizon)
        target = episodes.foreground
        weights, _ = weight_maps(target, weight, 1.0)
        losses = []
        while not episodes.over and episodes.steps < horizon:
            logits, _ = self.network(episodes.observation)
            share = episodes.playing / episodes.playing.sum().clamp_min(1)
            loss = F.binary_cross_entropy_with_logits(logits, target, weight=weights, reduction="none")
            losses.append((loss * share).sum())
            episodes.step(logits.detach() > 0)
        norm = self._descend(torch.stack(losses).mean())
        self.logger.record_mean("train/gradient_norm", norm)
        self._record_episodes(episodes, horizon)
        return len(losses) * len(target)
