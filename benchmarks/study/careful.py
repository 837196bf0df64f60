"""What makes a careful first look pay: each half of it by itself, tried beside both; LOG.md has what came out.

Agents of their own for the grid, such as `--agents benchmarks.study.careful:CostlyFirst --settings look-closer` and
`--agents benchmarks.study.careful:CountedTwice --settings look-half-discount`. All else is as in `PA3COnUNet`.
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


class CountedTwice(PA3COnUNet):
    """The second look counts twice in learning; with half of the discount the first one is paid as it was."""

    name = "PA3C on AC's network, second look counted twice"

    def _reward_weights(self, foreground: Tensor, weight: Any) -> tuple[Tensor, Tensor]:
        first, later = super()._reward_weights(foreground, weight)
        return first, later * TIMES
