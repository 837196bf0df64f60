"""What changes while training goes on: the horizon and the foreground weight.

Progress is the share of the planned network passes that are done. One update at horizon h passes its
batch through the network h times, so stages are shared out by passes, not by updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

WEIGHT_FALLS_UNTIL = 0.8


def stage_lengths(total_updates: int, horizons: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Updates per stage, adding up to `total_updates`, so that each gets its share of the network passes."""
    wanted = [share / horizon for share, horizon in zip(shares, horizons, strict=True)]
    total = sum(wanted)
    edges = [round(total_updates * sum(wanted[: i + 1]) / total) for i in range(len(wanted))]
    return [edge - before for edge, before in zip(edges, [0, *edges[:-1]], strict=True)]


class TrainingSchedule:
    """The plan of a training of `total_updates` updates.

    Args:
        total_updates: updates planned.
        horizons: t_max of each stage.
        shares: the share of the network passes of each stage.
    """

    def __init__(self, total_updates: int, horizons: Sequence[int], shares: Sequence[float]) -> None:
        self.horizons = list(horizons)
        self.lengths = stage_lengths(total_updates, horizons, shares)
        self.total_passes = sum(h * n for h, n in zip(self.horizons, self.lengths, strict=True))

    def horizon(self, update: int) -> int:
        """t_max of update number `update` (from 0); beyond the plan, the last stage's."""
        for horizon, length in zip(self.horizons, self.lengths, strict=True):
            if update < length:
                return horizon
            update -= length
        return self.horizons[-1]

    def progress(self, update: int) -> float:
        """The share in [0, 1] of the network passes that are done before update number `update`."""
        passes = 0
        for horizon, length in zip(self.horizons, self.lengths, strict=True):
            passes += horizon * min(update, length)
            update = max(0, update - length)
        return min(1.0, passes / max(1, self.total_passes))


WeightT = TypeVar("WeightT", float, NDArray[np.float64])


def falling_weight(progress: float, start: WeightT, final: float) -> WeightT:
    """Falls geometrically from `start` (one, or one per label) to `final` at 80 % of the passes, then stays."""
    share = min(1.0, progress / WEIGHT_FALLS_UNTIL)
    weight: WeightT = start * (final / start) ** share
    return weight
