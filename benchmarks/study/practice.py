"""More practice with windows at the same cost: episodes that begin at the second look; LOG.md has what came out.

An agent of its own for the grid: `--agents benchmarks.study.practice:WindowsFirst --settings look-careful-2-heavier`.
All else is as in `PA3COnUNet`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.study.crossed import PA3COnUNet
from pixelseg_agents.learning.episodes import Episodes
from pixelseg_agents.pa3c import Rollout

MARGIN, PIXELS = 0.5, 16.0  # at most, on every side: of the object's extent, and on top of it


class WindowsFirst(PA3COnUNet):
    """While episodes have one look, every other batch begins at the second one, with a box of each image left.

    The box is drawn around the target, which a training knows: exploring starts. It costs no pass of the network, so
    windows are practised at half the cost of those that the policy itself leads to.
    """

    name = "PA3C on AC's network, practises windows first"
    _begins_late = False

    def _update(self, horizon: int, weight: Any) -> int:
        self._begins_late = horizon == 1 and self.updates % 2 == 1
        return super()._update(2 if self._begins_late else horizon, weight)

    def _reward_weights(self, foreground: Tensor, weight: Any) -> tuple[Tensor, ...]:
        found = super()._reward_weights(foreground, weight)
        return found[1:] if self._begins_late else found

    def _rollout(self, episodes: Episodes, sampling: torch.Generator, horizon: int, weight: Any) -> Rollout:
        if self._begins_late:
            episodes.step(boxes(episodes.foreground, sampling))
            horizon -= 1
        return super()._rollout(episodes, sampling, horizon, weight)


def boxes(foreground: Tensor, generator: torch.Generator) -> Tensor:
    """A box around each object, with a margin of its own on every side.

    Args:
        foreground: float32 (B, H, W); of an empty map, the box is around its middle half.
        generator: where margins are drawn from.

    Returns:
        1 within the box, float32 (B, H, W).
    """
    spans = []
    for axis in (2, 1):
        there = foreground.amax(axis) > 0  # (B, H), then (B, W)
        length = there.shape[1]
        places = torch.arange(length, device=there.device).expand_as(there)
        low = places.masked_fill(~there, length).amin(1)
        high = places.masked_fill(~there, -1).amax(1)
        low, high = low.where(high >= 0, length // 4), high.where(high >= 0, 3 * length // 4)
        extent = (high - low + 1)[:, None]
        draw = torch.rand(4, *extent.shape, generator=generator, device=there.device)
        before, after = (MARGIN * extent * draw[i] + PIXELS * draw[i + 1] for i in (0, 2))
        spans.append((places >= low[:, None] - before) & (places <= high[:, None] + after))
    return (spans[0][:, :, None] & spans[1][:, None, :]).float()
