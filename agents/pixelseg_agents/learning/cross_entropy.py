"""Cross-entropy of the target at every look of a batch of episodes: supervised learning in the agents' world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pixelseg_agents.learning.episodes import Episodes, weight_maps


def cross_entropy_of_looks(
    logits_of: Callable[[Tensor], Tensor], episodes: Episodes, horizon: int, weight: Any, *, whole: bool
) -> list[Tensor]:
    """Plays a batch of episodes with the network's own decisions; returns the loss of every look.

    Args:
        logits_of: observation, float32 (B, C, H, W), to the log-odds of "object", float32 (B, [L,] H, W).
        episodes: a batch that has just begun.
        horizon: how many steps are played, or fewer where the episodes end before.
        weight: factor on object pixels, a number or one per label.
        whole: the mean over all pixels, for episodes of one look; otherwise over the pixels that still play.

    Returns:
        A scalar with a gradient for each look.
    """
    target = episodes.foreground
    weights, _ = weight_maps(target, weight, 1.0)
    losses: list[Tensor] = []
    while not episodes.over and episodes.steps < horizon:
        logits = logits_of(episodes.observation)
        losses.append(cross_entropy(logits, target, weights, None if whole else episodes.playing))
        episodes.step(logits.detach() > 0)
    return losses


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor, playing: Tensor | None = None) -> Tensor:
    """The weighted cross-entropy of a target, a scalar; all float32 (B, [L,] H, W).

    Args:
        logits: log-odds of "object".
        target: 1 where the object is.
        weights: factor on each pixel.
        playing: 1 for the pixels whose mean is taken; None: all.
    """
    if playing is None:
        return F.binary_cross_entropy_with_logits(logits, target, weight=weights)
    share = playing / playing.sum().clamp_min(1)
    loss = F.binary_cross_entropy_with_logits(logits, target, weight=weights, reduction="none")
    return (loss * share).sum()
