"""What makes a careful first look pay, and what a third look may do: LOG.md has what came out.

Agents of their own for the grid: `--agents benchmarks.study.careful:CostlyFirst --settings look-closer`, and
`benchmarks.study.careful:SureThird --settings look-thrice-careful --horizon 3`. All else is as in `PA3COnUNet`.
`HeavierLabels` and `WaitingLabels`, with `--settings look-by-labels`, are the controls without rewards: as
`SteppedUNet`, with a first look that waits because its cross-entropy says so.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any, ClassVar

from torch import Tensor

from benchmarks.study.crossed import PA3COnUNet, SteppedUNet
from pixelseg_agents.learning.losses import Loss, cross_entropy

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


class HeavierLabels(SteppedUNet):
    """Cross-entropy at every look, in which the object weighs what it weighs in the careful rewards.

    The config's own weights are factors too, so they have to be 1, as in the settings `...-by-labels`.
    """

    name = "U-Net, supervised at every look, careful weights"
    factors: ClassVar[tuple[float, ...]] = (3.0, 1.5)
    """On object pixels at the first look, the second and so on; the last is that of all later ones."""

    @property
    def _loss(self) -> Loss:
        # Asked for once an update and called once a look, for the network has one head.
        factors = chain(self.factors, repeat(self.factors[-1]))

        def loss(logits: Tensor, target: Tensor, weights: Tensor, *rest: Any, **more: Any) -> Tensor:
            return cross_entropy(logits, target, weights * (1 + (next(factors) - 1) * target), *rest, **more)

        return loss


class WaitingLabels(HeavierLabels):
    """Cross-entropy at every look, whose first one keeps every pixel that is object in more than 1 of 21 cases.

    So do the careful rewards: to remove it at once earns a background pixel 1 instead of 0.95 times the chance that the
    second look removes it, of 0.9 say, and costs an object's pixel 3: it pays where p < 0.145 / 3.145, 1 of 22.
    """

    name = "U-Net, supervised at every look, first one waiting"
    factors = (20.0, 1.5)
