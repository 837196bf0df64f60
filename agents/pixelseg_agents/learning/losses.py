"""Losses of the target at every look of a batch of episodes: supervised learning in the agents' world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelseg_agents.learning.episodes import Episodes, weight_maps
from pixelseg_agents.team import ALONE, Team

# Of log-odds, target, a factor on each pixel, and 1 for the pixels that count (None: all); a scalar. Several processes
# hand over their `team=` too: the losses that they find then add up to that of all their images.
Loss: TypeAlias = Callable[..., Tensor]

SMOOTH = 1e-5  # MONAI's: an empty mask that is left empty has no loss


def losses_of_looks(
    outputs_of: Callable[[Tensor], Sequence[Tensor]],
    episodes: Episodes,
    horizon: int,
    weight: Any,
    *,
    whole: bool,
    loss: Loss,
    output_weights: Sequence[float] = (1.0,),
    team: Team = ALONE,
) -> list[Tensor]:
    """Plays a batch of episodes with the network's own decisions; returns the loss of every look.

    Args:
        outputs_of: observation, float32 (B, C, H, W), to the log-odds of "object", float32 (B, [L,] H, W): one for
            each head that is trained. The first one decides in the episode.
        episodes: a batch that has just begun.
        horizon: how many steps are played, or fewer where the episodes end before.
        weight: factor on object pixels, a number or one per label.
        whole: the mean over all pixels, for episodes of one look; otherwise over the pixels that still play.
        loss: one of `LOSSES`, or alike.
        output_weights: of the heads in their mean.
        team: the processes that share the batch.

    Returns:
        A scalar with a gradient for each look.
    """
    target = episodes.foreground
    weights, _ = weight_maps(target, weight, 1.0)
    shared: dict[str, Any] = {} if team == ALONE else {"team": team}  # a loss of somebody's own need not know of it
    losses: list[Tensor] = []
    while not episodes.over and episodes.steps < horizon:
        outputs = outputs_of(episodes.observation)
        playing = None if whole else episodes.playing
        losses.append(weighted_mean([loss(one, target, weights, playing, **shared) for one in outputs], output_weights))
        episodes.step(outputs[0].detach() > 0)
    return losses


def weighted_mean(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of some scalars, each with a weight of its own; of one it is that one, to the bit."""
    if len(values) == 1:
        return values[0]
    return torch.stack([weight * value for value, weight in zip(values, weights, strict=True)]).sum() / sum(weights)


def cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, playing: Tensor | None = None, team: Team = ALONE
) -> Tensor:
    """The weighted cross-entropy of a target, a scalar; all float32 (B, [L,] H, W).

    Args:
        logits: log-odds of "object".
        target: 1 where the object is.
        weights: factor on each pixel.
        playing: 1 for the pixels whose mean is taken; None: all.
        team: the processes that share the batch.
    """
    if playing is None:
        return F.binary_cross_entropy_with_logits(logits, target, weight=weights) / team.size
    share = playing / team.total(playing.sum()).clamp_min(1)
    loss = F.binary_cross_entropy_with_logits(logits, target, weight=weights, reduction="none")
    return (loss * share).sum()


def dice_loss(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    playing: Tensor | None = None,
    team: Team = ALONE,
) -> Tensor:
    """1 - Dice of the probabilities, the mean over images and labels; all float32 (B, [L,] H, W).

    Args:
        logits: log-odds of "object".
        target: 1 where the object is.
        weights: not used: Dice weighs an object as its background, however small it is.
        playing: 1 for the pixels that count; None: all.
        team: the processes that share the batch.
    """
    probability = logits.sigmoid()
    if playing is not None:
        probability, target = probability * playing, target * playing
    common, both = ((one).sum(dim=(-2, -1)) for one in (probability * target, probability + target))
    return (1 - (2 * common + SMOOTH) / (both + SMOOTH)).mean() / team.size


def cross_entropy_and_dice(
    logits: Tensor, target: Tensor, weights: Tensor, playing: Tensor | None = None, team: Team = ALONE
) -> Tensor:
    """The sum of both losses, as nnU-Net has it."""
    return cross_entropy(logits, target, weights, playing, team) + dice_loss(logits, target, weights, playing, team)


LOSSES: Mapping[str, Loss] = {"cross-entropy": cross_entropy, "dice": dice_loss, "both": cross_entropy_and_dice}
