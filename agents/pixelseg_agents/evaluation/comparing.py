"""The same agent trained under several rewards: what each earned, and what it was worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOM = 0.01  # of Dice: a few pixels more or less are no difference
COLUMNS = ("reward", "return", "of a perfect one", "Dice", "of keeping everything", "collapsed")


@dataclass(frozen=True)
class TrainedUnder:
    """One training.

    Attributes:
        seed: of the agent.
        updates: after which the curves were taken, (K,).
        returns: of training episodes, as they were sampled, since the update before, (K,).
        dice: of their last maps, (K,).
        final_return: mean over test images, actions being the likeliest.
        final_dice: likewise, after the last step.
        maps: of some test images after each step, uint8 (N, T, H, W).
    """

    seed: int
    updates: list[int]
    returns: list[float]
    dice: list[float]
    final_return: float
    final_dice: float
    maps: NDArray[np.uint8]


@dataclass(frozen=True)
class RewardResult:
    """All trainings under one reward.

    Attributes:
        reward: its text.
        runs: one a seed.
        perfect_return: what right maps from the first step on earn on the test images.
        kept_dice: Dice of keeping everything on the test images.
    """

    reward: str
    runs: tuple[TrainedUnder, ...]
    perfect_return: float
    kept_dice: float

    @property
    def collapsed(self) -> list[bool]:
        """Which runs ended no better than keeping everything, by 0.01 of Dice."""
        return [run.final_dice <= self.kept_dice + ROOM for run in self.runs]

    @property
    def paid_better_than_perfect(self) -> list[bool]:
        """Which runs earn more than a perfect segmentation does, without being one: they found a loophole."""
        least = self.perfect_return + ROOM * max(1.0, abs(self.perfect_return))
        return [run.final_return > least and run.final_dice < 1 - ROOM for run in self.runs]

    def to_json(self) -> dict[str, Any]:
        """All numbers, without the maps."""
        runs = [
            {
                "seed": run.seed,
                "return": run.final_return,
                "dice": run.final_dice,
                "collapsed": collapsed,
                "loophole": loophole,
                "curve": {"updates": run.updates, "return": run.returns, "dice": run.dice},
            }
            for run, collapsed, loophole in zip(self.runs, self.collapsed, self.paid_better_than_perfect, strict=True)
        ]
        return {
            "reward": self.reward,
            "perfect_return": self.perfect_return,
            "keep_everything_dice": self.kept_dice,
            "collapse_rate": float(np.mean(self.collapsed)),
            "runs": runs,
        }


def comparison_table(results: list[RewardResult]) -> str:
    """Markdown, a row for each reward; means over seeds, and standard deviations where there are several."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for one in results:
        count = len(one.runs)
        cheats = " (loophole)" if any(one.paid_better_than_perfect) else ""
        rows.append((
            f"`{one.reward}`",
            _spread([run.final_return for run in one.runs]) + cheats,
            f"{one.perfect_return:.3f}",
            _spread([run.final_dice for run in one.runs]),
            f"{one.kept_dice:.3f}",
            f"{sum(one.collapsed)} of {count}",
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values):.3f}"
