"""Plans of a grid and of a search, with the face of commands; a study gives them its names and defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Suppress, arg

from benchmarks.grid.catalogue import load_study
from benchmarks.grid.cells import EARLIER, Cell, Protocol, record_path
from benchmarks.grid.engine import run_grid
from benchmarks.records import read_record, write_record
from pixelseg_agents.references import REFERENCES
from pixelseg_agents.registry import registered_agents
from pixelseg_env import DataError, OptionError, registered_datasets

TUNED = Path("benchmarks/records/grid/tuned.json")
RECORDS = Path("benchmarks/records/grid")
Dataset = Annotated[str, arg(help=f"One of {', '.join(registered_datasets())}.")]


@dataclass
class Run:
    """Runs the cells agents x seeds x settings x folds on one data set; finished cells are skipped."""

    dataset: Dataset = "phantom"
    data: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: $PIXELSEG_DATA)")] = ()
    """Its folders."""
    agents: tuple[str, ...] = (*REFERENCES, *registered_agents())
    """Learners and references."""
    settings: tuple[str, ...] = ("default",)
    """Named settings."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training; references run once."""
    folds: Annotated[tuple[int, ...], arg(help_behavior_hint="(default: no folds)")] = ()
    """Fifths of the patients to test on, 0 to 4; none: the split 70/10/20."""
    leave_out: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: nobody)")] = ()
    """Test on the patients whose names begin so, such as TCGA_CS, in place of folds: on each, trained on all others."""
    jobs: int = 1
    """Cells at once, each on one core."""
    ray: bool = False
    """Run on a Ray cluster instead (RAY_ADDRESS)."""
    out: Path = RECORDS
    """Folder of the records."""
    tuned: Path = TUNED
    """What `search` has found; none, or without the file: every agent has its defaults."""
    protocol: OmitArgPrefixes[Protocol] = dataclasses.field(default_factory=Protocol)
    study: Suppress[str] = ""
    """The module whose `STUDY` knows learners and settings, see `load_study`."""

    def cells(self) -> list[Cell]:
        """The grid, seeds outermost: after an interruption every agent has as many."""
        _refuse_empty(agents=self.agents, settings=self.settings, seeds=self.seeds)
        study = load_study(self.study)
        settings = {name: study.setting(name) for name in self.settings}
        learners = [study.learner(name) for name in self.agents]
        tuned = read_tuned(self.tuned)
        if self.folds and self.leave_out:
            raise OptionError("--folds and --leave-out: each says who is tested on; give one of them")
        tested: list[tuple[int | None, str]] = [(fold, "") for fold in self.folds]
        tested = tested or [(None, name) for name in self.leave_out] or [(None, "")]
        cells = []
        for seed in self.seeds:
            for setting, rules in settings.items():
                for learner in learners:
                    for fold, left_out in tested:
                        if learner.reference and (seed, setting) != (self.seeds[0], "default"):
                            continue
                        # The search's validation patients are tested on in some fold: there, everybody has defaults.
                        known = rules.tuned and fold is None and not left_out
                        found = tuned.get(learner.tuned_as or learner.name, {}) if known else {}
                        where = (self.dataset, self.data, learner.name, setting, seed, fold)
                        cells.append(Cell(*where, self.protocol, found, self.study, left_out))
        idle = sorted({f"{cell.agent} {cell.setting}" for cell in cells if not cell.applies})
        if idle:
            raise OptionError(f"these settings change nothing about these agents: {', '.join(idle)}; leave them out")
        return cells

    def main(self) -> int:
        """Runs the grid; the exit code is 1 if a cell failed."""
        failed = run_grid(self.cells(), self.out, self.jobs, self.ray)
        print(f"{len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
        return 1 if failed else 0


@dataclass
class Search:
    """Tries a few settings per agent, such as learning rates, and keeps what validation patients prefer.

    The data set's training and validation patients alone are looked at. What other agents have in the file stays there.
    """

    dataset: Dataset = "brain"
    data: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: $PIXELSEG_DATA)")] = ()
    """Its folders."""
    agents: tuple[str, ...] = registered_agents()
    """Which learners."""
    jobs: int = 1
    """Cells at once."""
    ray: bool = False
    """Run on a Ray cluster instead."""
    out: Path = RECORDS / "search"
    """Folder of the records."""
    tuned: Path = TUNED
    """What is written."""
    protocol: OmitArgPrefixes[Protocol] = dataclasses.field(default_factory=Protocol)
    study: Suppress[str] = ""
    """The module whose `STUDY` knows learners and settings, see `load_study`."""

    def cells(self) -> list[Cell]:
        """What is tried, for every agent what changes something."""
        study = load_study(self.study)
        _refuse_empty(agents=self.agents)
        learners = [study.learner(name) for name in self.agents]
        for learner in learners:
            if learner.reference or learner.factory:
                raise OptionError(f"--agents {learner.name}: has no hyperparameters to search for; leave it out")
        tried = (
            Cell(self.dataset, self.data, learner.name, setting, 0, None, self.protocol, study=self.study)
            for setting in study.search
            for learner in learners
        )
        return [cell for cell in tried if cell.applies]

    def main(self) -> int:
        """Runs the search and writes the best of every agent."""
        cells = self.cells()
        about = {"dataset": self.dataset, "protocol": dataclasses.asdict(self.protocol)}
        known: dict[str, Any] = (
            read_record(self.tuned) if self.tuned.exists() and read_tuned(self.tuned) else dict(about)
        )
        if isinstance(known.get("protocol"), dict):
            known["protocol"] = EARLIER | known["protocol"]
        other = [name for name, value in about.items() if known.get(name) != value]
        if other:
            raise OptionError(
                f"--tuned {self.tuned}: that search had another {other[0]} ({known.get(other[0])}, not "
                f"{about[other[0]]}); give this one a file of its own"
            )
        failed = run_grid(cells, self.out, self.jobs, self.ray)
        best: dict[str, Any] = known.get("agents", {})
        scores: dict[str, dict[str, float]] = known.get("validation_dice", {})
        settings = load_study(self.study).settings
        for agent in dict.fromkeys(cell.agent for cell in cells):
            found = {
                cell.setting: read_record(record_path(self.out, cell))
                for cell in cells
                if cell.agent == agent and cell.name not in failed
            }
            if not found:
                continue
            scores[agent] = {name: float(r["val"]["summary"]["metrics"]["DICE"]["mean"]) for name, r in found.items()}
            winner = max(scores[agent], key=lambda setting: scores[agent][setting])
            config = found[winner]["config"]
            best[agent] = {name: config[name] for name in settings[winner].hyper if name in config}
            print(f"{agent}: {winner} ({', '.join(f'{name} {value:.3f}' for name, value in scores[agent].items())})")
        write_record(self.tuned, {"agents": best, "validation_dice": scores} | about)
        return 1 if failed else 0


def _refuse_empty(**options: tuple[Any, ...]) -> None:
    for name, values in options.items():
        if not values:
            raise OptionError(f"--{name}: expected at least one")


def read_tuned(path: Path) -> dict[str, dict[str, Any]]:
    """Agent to hyperparameters that the search has found; nothing where the default file is not there yet.

    Raises:
        OptionError: another file is not there, or it is not what the search writes.
    """
    if not path.exists():
        if path in (TUNED, Path("none")):
            return {}
        raise OptionError(f"--tuned {path}: no such file; `python -m benchmarks search` writes one")
    try:
        agents = read_record(path)["agents"]
        return {agent: dict(values) for agent, values in agents.items()}
    except (AttributeError, DataError, KeyError, TypeError, ValueError) as error:
        raise OptionError(f"--tuned {path}: not what `python -m benchmarks search` writes ({error!r})") from error
