"""The commands of `python -m benchmarks`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import OmitArgPrefixes

from benchmarks.grid.cells import Cell, Protocol, record_path
from benchmarks.grid.engine import run_grid
from benchmarks.grid.settings import LEARNERS, REFERENCES, SEARCH, SETTINGS
from benchmarks.records import write_record

TUNED = Path("benchmarks/records/grid/tuned.json")
RECORDS = Path("benchmarks/records/grid")


@dataclass
class Run:
    """Runs the cells agents x seeds x settings x folds on one data set; finished cells are skipped."""

    dataset: str = "phantom"
    """phantom, brain, cardiac or folder."""
    data: tuple[str, ...] = ()
    """Its folders."""
    agents: tuple[str, ...] = (*REFERENCES, *LEARNERS)
    """Learners and references."""
    settings: tuple[str, ...] = ("default",)
    """Named settings, see benchmarks/grid/settings.py."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training; references run once."""
    folds: tuple[int, ...] = ()
    """Fifths of the patients to test on, 0 to 4; none: the split 70/10/20."""
    jobs: int = 1
    """Cells at once, each on one core."""
    ray: bool = False
    """Run on a Ray cluster instead (RAY_ADDRESS)."""
    out: Path = RECORDS
    """Folder of the records."""
    tuned: Path = TUNED
    """What `search` has found; without the file every agent has its defaults."""
    protocol: OmitArgPrefixes[Protocol] = dataclasses.field(default_factory=Protocol)

    def cells(self) -> list[Cell]:
        """The grid, seeds outermost: after an interruption every agent has as many."""
        tuned = json.loads(self.tuned.read_text())["agents"] if self.tuned.exists() else {}
        cells = []
        for seed in self.seeds:
            for setting in self.settings:
                for agent in self.agents:
                    for fold in self.folds or (None,):
                        if agent in REFERENCES and (seed, setting) != (self.seeds[0], "default"):
                            continue
                        found = tuned.get(agent, {}) if SETTINGS[setting].tuned else {}
                        cells.append(Cell(self.dataset, self.data, agent, setting, seed, fold, self.protocol, found))
        return cells

    def main(self) -> int:
        """Runs the grid; the exit code is 1 if a cell failed."""
        failed = run_grid(self.cells(), self.out, self.jobs, self.ray)
        print(f"{len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
        return 1 if failed else 0


@dataclass
class Search:
    """Tries a few learning rates and amounts of exploration per agent, and keeps what validation patients prefer."""

    dataset: str = "brain"
    """The data set; its training and validation patients alone are looked at."""
    data: tuple[str, ...] = ()
    """Its folders."""
    agents: tuple[str, ...] = tuple(LEARNERS)
    """Which agents."""
    jobs: int = 1
    """Cells at once."""
    ray: bool = False
    """Run on a Ray cluster instead."""
    out: Path = RECORDS / "search"
    """Folder of the records."""
    tuned: Path = TUNED
    """What is written."""
    protocol: OmitArgPrefixes[Protocol] = dataclasses.field(default_factory=Protocol)

    def main(self) -> int:
        """Runs the search and writes the best of every agent."""
        cells = [
            Cell(self.dataset, self.data, agent, setting, 0, None, self.protocol)
            for setting in SEARCH
            for agent in self.agents
        ]
        cells = [cell for cell in cells if cell.applies]
        failed = run_grid(cells, self.out, self.jobs, self.ray)
        best: dict[str, Any] = {}
        scores: dict[str, dict[str, float]] = {}
        for agent in self.agents:
            of_agent = {cell.setting: cell for cell in cells if cell.agent == agent and cell.name not in failed}
            scores[agent] = {
                setting: float(
                    json.loads(record_path(self.out, cell).read_text())["val"]["summary"]["metrics"]["DICE"]["mean"]
                )
                for setting, cell in of_agent.items()
            }
            if scores[agent]:
                winner = max(scores[agent], key=lambda setting: scores[agent][setting])
                config = _record(self.out, of_agent[winner])["config"]
                best[agent] = {name: config[name] for name in SETTINGS[winner].hyper if name in config}
                print(
                    f"{agent}: {winner} ({', '.join(f'{name} {value:.3f}' for name, value in scores[agent].items())})"
                )
        write_record(self.tuned, {"agents": best, "validation_dice": scores, "dataset": self.dataset})
        return 1 if failed else 0


def _record(folder: Path, cell: Cell) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(record_path(folder, cell).read_text())
    return content


@dataclass
class Report:
    """Turns records into tables and figures."""

    records: tyro.conf.Positional[Path] = RECORDS
    """Folder of the records."""
    data: tuple[str, ...] = ()
    """Folders of the data set, for the figure of examples."""
    out: Path = Path("benchmarks/report")
    """Folder of the tables (Markdown, CSV, LaTeX) and figures."""
    published: Path = Path("benchmarks/grid/published.csv")
    """The publication's figures: table, dataset, row, column, value."""

    def main(self) -> int:
        """Writes the report."""
        from benchmarks.grid.report import write_report

        print(write_report(self.records, self.out, self.data, self.published))
        return 0
