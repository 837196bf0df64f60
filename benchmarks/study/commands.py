"""The commands of `python -m benchmarks` with the study's learners and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, Suppress, arg

from benchmarks.grid import commands
from benchmarks.study import MODULE, STUDY
from benchmarks.study.learners import CROSSED, LEARNERS, REFERENCES
from benchmarks.study.published import PUBLISHED

NAMES, TRAINED = (tuple(one.name for one in some) for some in ((*REFERENCES, *LEARNERS), LEARNERS))
OTHERS = f"{', '.join(one.name for one in CROSSED)}, any other registered agent"
AGENTS_HELP = f"Learners and references: {', '.join(NAMES)}; also {OTHERS}, or module:name of your own."
SEARCHED_HELP = f"Which learners: {', '.join(TRAINED)}; also {OTHERS}, or module:Class of your own."


@dataclass
class Run(commands.Run):
    """Runs the cells agents x seeds x settings x folds on one data set; finished cells are skipped."""

    agents: Annotated[tuple[str, ...], arg(help=AGENTS_HELP)] = NAMES
    settings: Annotated[tuple[str, ...], arg(help=f"Named settings: {', '.join(STUDY.settings)}.")] = ("default",)
    study: Suppress[str] = MODULE


@dataclass
class Search(commands.Search):
    """Tries a few learning rates and amounts of exploration per agent, and keeps what validation patients prefer.

    The data set's training and validation patients alone are looked at. What other agents have in the file stays there.
    """

    agents: Annotated[tuple[str, ...], arg(help=SEARCHED_HELP)] = TRAINED
    study: Suppress[str] = MODULE


@dataclass
class Report:
    """Turns records into tables and figures."""

    records: Positional[Path] = commands.RECORDS
    """Folder of the records."""
    data: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: none, and no such figures)")] = ()
    """Folders of the data sets, for the figures of examples."""
    out: Path = Path("benchmarks/report")
    """Folder of the tables (Markdown, CSV, LaTeX) and figures."""
    published: Path = PUBLISHED
    """The publication's figures: table, dataset, row, column, value."""

    def main(self) -> int:
        """Writes the report."""
        from benchmarks.study.report import write_report  # here, for it imports Matplotlib

        print(write_report(self.records, self.out, self.data, self.published))
        return 0
