"""What changes while training goes on: the horizon and the foreground weight.

Progress is the share of the planned steps that are done. One update at horizon h plays h steps, so stages are shared
out by steps, not by updates. A step is one pass of the batch through PA3C's network; AC and the DQNs pass more often.

An agent that meets carved images for the first time when t_max grows may call them empty with such confidence that it
never learns otherwise (benchmarks/LOG.md); previews, some updates of a stage at the next stage's t_max, are one remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

WEIGHT_FALLS_UNTIL = 0.8


def stage_lengths(total_updates: int, costs: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Updates per stage, adding up to `total_updates`, so that each gets its share of the steps.

    Args:
        total_updates: of all stages.
        costs: steps of an update, by stage.
        shares: of the steps, by stage.
    """
    wanted = [share / cost for share, cost in zip(shares, costs, strict=True)]
    total = sum(wanted)
    edges = [round(total_updates * sum(wanted[: i + 1]) / total) for i in range(len(wanted))]
    return [edge - before for edge, before in zip(edges, [0, *edges[:-1]], strict=True)]


class TrainingSchedule:
    """The plan of a training of `total_updates` updates.

    Args:
        total_updates: updates planned.
        horizons: t_max of each stage.
        shares: the share of the steps of each stage.
        preview_every: every so many updates of a stage, one has the next stage's t_max; 0: none.

    Attributes:
        mixes: of each stage, t_max to its share of the updates.
        steps: of an update, the mean by stage.
        lengths: updates of each stage.
        total_steps: of the batch.
    """

    def __init__(
        self, total_updates: int, horizons: Sequence[int], shares: Sequence[float], preview_every: int = 0
    ) -> None:
        self._horizons = list(horizons)
        self._next = [*self._horizons[1:], self._horizons[-1]]
        self._every = preview_every
        self.mixes = [self._mix(stage) for stage in range(len(horizons))]
        self.steps = [sum(horizon * part for horizon, part in mix.items()) for mix in self.mixes]
        self.lengths = stage_lengths(total_updates, self.steps, shares)
        self.total_steps = sum(self._steps(stage, length) for stage, length in enumerate(self.lengths))

    def horizon(self, update: int) -> int:
        """t_max of update number `update` (from 0); beyond the plan, the last stage's."""
        for stage, length in enumerate(self.lengths):
            if update < length:
                preview = self._every and update % self._every == self._every - 1
                return self._next[stage] if preview else self._horizons[stage]
            update -= length
        return self._horizons[-1]

    def progress(self, update: int) -> float:
        """The share in [0, 1] of the steps that are done before update number `update`."""
        done = 0
        for stage, length in enumerate(self.lengths):
            done += self._steps(stage, min(update, length))
            update = max(0, update - length)
        return min(1.0, done / max(1, self.total_steps))

    def _steps(self, stage: int, updates: int) -> int:
        previews = updates // self._every if self._every else 0
        return updates * self._horizons[stage] + previews * (self._next[stage] - self._horizons[stage])

    def _mix(self, stage: int) -> dict[int, float]:
        own, following = self._horizons[stage], self._next[stage]
        if not self._every or own == following:
            return {own: 1.0}
        return {own: 1 - 1 / self._every, following: 1 / self._every}


WeightT = TypeVar("WeightT", float, NDArray[np.float64])


def falling_weight(progress: float, start: WeightT, final: float) -> WeightT:
    """Falls geometrically from `start` (one, or one per label) to `final` at 80 % of the steps, then stays."""
    share = min(1.0, progress / WEIGHT_FALLS_UNTIL)
    weight: WeightT = start * (final / start) ** share
    return weight
