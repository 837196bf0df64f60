"""What makes a careful first look pay, and what a third look may do: LOG.md has what came out.

Agents of their own for the grid: `--agents benchmarks.study.careful:CostlyFirst --settings look-closer`, and
`benchmarks.study.careful:SureThird --settings look-thrice-careful --horizon 3`. All else is as in `PA3COnUNet`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmarks.study.crossed import PA3COnUNet

TIMES = 2.0
SURE = 0.25  # of what the background earns at the second look


class CostlyFirst(PA3COnUNet):
    """What the first look removes of the object costs twice; the second look counts as it does."""

    name = "PA3C on AC's network, costly first look"

    def _reward_weights(self, foreground: Tensor, weight: Any) -> tuple[Tensor, ...]:
        first, later = super()._reward_weights(foreground, weight)
        return first * (1 + (TIMES - 1) * foreground), later


class SureThird(PA3COnUNet):
    """From the third look on background earns so little that only what is surely background goes."""

    name = "PA3C on AC's network, sure third look"

    def _reward_weights(self, foreground: Tensor, weight: Any) -> tuple[Tensor, ...]:
        first, second = super()._reward_weights(foreground, weight)
        return first, second, second * (foreground + (1 - foreground) * SURE)
