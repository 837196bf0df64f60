"""Accuracy for compute: Dice, BIoU and HD95 over GFLOP per image at inference, and over those of the training.

    python -m benchmarks.study.compute benchmarks/records/looking --out compute.json --figure compute.png

prints a table for each set of images that was judged alike; `benchmarks.study.accuracy` says what is in it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from benchmarks.failures import exit_code
from benchmarks.records import write_record
from benchmarks.study.accuracy import by_judged, read, series, table
from benchmarks.study.compute_figure import draw
from pixelseg_agents.evaluation.figures.style import figure_format
from pixelseg_env import OptionError


@dataclass
class Compute:
    """What is drawn, and from what."""

    folders: Positional[Annotated[tuple[Path, ...], arg(metavar="FOLDER [FOLDER ...]")]]
    """Of records."""
    part: Literal["test", "val"] = "test"
    """Whose scores: of test or of validation patients; never of both."""
    out: Path | None = None
    """All numbers, as JSON."""
    figure: Path | None = None
    """A picture."""
    undrawn: tuple[str, ...] = ()
    """Settings that the picture leaves out, and the table has, such as those of a first form."""

    def main(self) -> int:
        """Prints the tables; writes numbers and picture if asked to."""
        if self.figure is not None:
            figure_format(self.figure)
        found = series(read(self.folders, self.part), self.part)
        drawn = [one for one in found if one.setting not in self.undrawn]
        if unknown := set(self.undrawn) - {one.setting for one in found}:
            raise OptionError(f"--undrawn: there are no records of {', '.join(sorted(unknown))}")
        if not drawn:
            raise OptionError("--undrawn: leaves nothing to draw")
        print(table(found))
        if self.out is not None:
            told = [dataclasses.asdict(one) for group in by_judged(found).values() for one in group]
            write_record(self.out, {"part": self.part, "cost": "GFLOP", "series": told})
        if self.figure is not None:
            draw(drawn, self.figure)
        return 0


if __name__ == "__main__":
    raise SystemExit(exit_code(lambda: tyro.cli(Compute, description=__doc__).main()))
