"""What makes a careful first look pay: its care by itself; LOG.md has what came out.

An agent of its own for the grid: `--agents benchmarks.study.careful:CostlyFirst --settings look-closer`. All else is as
in `PA3COnUNet`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmarks.study.crossed import PA3COnUNet

TIMES = 2.0


class CostlyFirst(PA3COnUNet):
    """What the first look removes of the object costs twice; the second look counts as it does."""

    name = "PA3C on AC's network, costly first look"

    def _reward_weights(self, foreground: Tensor, weight: Any) -> tuple[Tensor, Tensor]:
        first, later = super()._reward_weights(foreground, weight)
        return first * (1 + (TIMES - 1) * foreground), later
