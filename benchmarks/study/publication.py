"""`python -m benchmarks table N` and `figure N`: the publication's tables and figures, or what is missing for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import OmitArgPrefixes, Positional, arg

from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.estimate import training_seconds
from benchmarks.study.asked import Asked
from benchmarks.study.plans import FIGURES, NNUNET, TABLES, Plan, missing
from benchmarks.study.published import PUBLISHED
from benchmarks.study.reading import Record, Records, read_grid
from pixelseg_env import OptionError


@dataclass
class _Made:
    """What table and figure have in common."""

    number: Positional[int]
    """As the publication counts."""
    dataset: Annotated[str, arg(help_behavior_hint="(default: the publication's)")] = ""
    """One data set alone, any."""
    data: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: $PIXELSEG_DATA)")] = ()
    """Folders of the data set, for what is missing and for figures that show images."""
    records: Annotated[str, arg(help_behavior_hint="(default: where this one's are kept)")] = ""
    """Folder of the records."""
    seeds: tuple[int, ...] = (0,)
    """Seeds that are wanted."""
    out: Path = Path("benchmarks/report")
    """Folder of figures."""
    time: bool = True
    """Say how long what is missing would take here, which takes some seconds for each agent."""
    protocol: OmitArgPrefixes[Asked] = field(default_factory=Asked)

    kind: ClassVar[str]
    plans: ClassVar[Mapping[int, Plan]]

    def main(self) -> int:
        """Makes it; the exit code is 1 if a cell is missing."""
        if self.number not in self.plans:
            known = ", ".join(map(str, self.plans))
            raise OptionError(f"{self.kind} {self.number}: the publication's that are made from records are {known}")
        if not self.seeds:
            raise OptionError("--seeds: expected at least one")
        plan = self.plans[self.number]
        folder = Path(self.records) if self.records else plan.records
        by_dataset = read_grid(folder) if list(folder.glob("*.json")) else {}
        first = next((records[0]["cell"]["protocol"] for records in by_dataset.values()), None)
        protocol = self.protocol.protocol(first, folder)
        return max(self._one(plan, name, by_dataset.get(name, []), folder, protocol) for name in self._datasets(plan))

    def _datasets(self, plan: Plan) -> Sequence[str]:
        return (self.dataset,) if self.dataset else plan.datasets

    def _one(self, plan: Plan, dataset: str, found: list[Record], folder: Path, protocol: Protocol) -> int:
        records = Records(found)
        cells = list(plan.cells(dataset, self.data, self.seeds, protocol))
        lacking = missing(cells, records)
        made = self._make(plan, dataset, records) if len(lacking) < len(cells) else self._without(plan, dataset)
        if made:
            print(made)
        if lacking:
            print(self._lacking(dataset, cells, lacking, folder, protocol))
        return 1 if lacking else 0

    def _make(self, plan: Plan, dataset: str, records: Records) -> str:
        raise NotImplementedError

    def _without(self, plan: Plan, dataset: str) -> str:
        """What there is without any training."""
        return ""

    def _lacking(
        self, dataset: str, cells: Sequence[Cell], lacking: Sequence[Cell], folder: Path, protocol: Protocol
    ) -> str:
        """What is missing, how long it would take, and the command that makes it."""
        lines = [f"{self.kind} {self.number}, {dataset}: {len(lacking)} of {len(cells)} trainings are missing"]
        times: dict[str, float | None] = {}
        for cell in lacking if self.time else ():
            if cell.agent not in times:
                times[cell.agent] = training_seconds(cell)
        for cell in lacking:
            seconds = times.get(cell.agent)
            lines.append(f"  {cell.name}" + (f": about {seconds / 60:.1f} min here" if seconds is not None else ""))
        known = [times.get(cell.agent) for cell in lacking]
        if self.time:
            total = sum(seconds or 0.0 for seconds in known)
            lines.append(f"  together about {total / 60:.0f} min on one core, judging apart")
        # The real nnU-Net has a command of its own.
        ours, others = ([cell for cell in lacking if (cell.agent == NNUNET) == real] for real in (False, True))
        commands = [self._command(dataset, some, folder, protocol) for some in (ours, others) if some]
        return "\n".join([*lines, *(f"make them: {command}" for command in commands)])

    def _command(self, dataset: str, lacking: Sequence[Cell], folder: Path, protocol: Protocol) -> str:
        agents, settings, seeds = (
            list(dict.fromkeys(getattr(cell, name) for cell in lacking)) for name in ("agent", "setting", "seed")
        )
        folds = sorted({cell.fold for cell in lacking if cell.fold is not None})
        real = agents == [NNUNET]
        words = [
            f"python -m benchmarks {'nnunet' if real else 'run'} --dataset",
            dataset,
            "--data",
            " ".join(self.data) or "FOLDER",
        ]
        if dataset == "phantom":
            words = words[:2]
        plain, default = vars(protocol), vars(Protocol())
        words += [f"--{name.replace('_', '-')} {value}" for name, value in plain.items() if value != default[name]]
        words += [] if real else ["--agents", *agents]
        words += ["--seeds", *map(str, seeds)]
        words += ["--settings", *settings] if settings != ["default"] else []
        words += ["--folds", *map(str, folds)] if folds else []
        words += [] if real else ["--tuned none --jobs 2"]
        return " ".join([*words, "--out", str(folder)])


@dataclass
class Table(_Made):
    """Makes one of the publication's tables, 2 to 6, from the records, or says what is missing for it."""

    published: Path = PUBLISHED
    """The publication's figures: table, dataset, row, column, value."""

    kind: ClassVar[str] = "table"
    plans: ClassVar[Mapping[int, Plan]] = TABLES

    def _make(self, plan: Plan, dataset: str, records: Records) -> str:
        from benchmarks.study.report import tables

        made = tables(records, dataset, self.published, wanted=plan.name, whole=True)
        if plan.name not in made:
            return f"{self.kind} {self.number}, {dataset}: one row alone makes no table"
        return made[plan.name].markdown()

    def _without(self, plan: Plan, dataset: str) -> str:
        from benchmarks.study.report import tables

        made = tables(Records([]), dataset, self.published, wanted=plan.name, whole=True)
        return made[plan.name].markdown() if plan.name in made else ""


@dataclass
class Figure(_Made):
    """Draws one of the publication's figures, 3 to 7, from the records, or says what is missing for it."""

    kind: ClassVar[str] = "figure"
    plans: ClassVar[Mapping[int, Plan]] = FIGURES

    def _make(self, plan: Plan, dataset: str, records: Records) -> str:
        from benchmarks.study import figures  # here, for it imports Matplotlib
        from benchmarks.study.report import HORIZONS, test_images

        found: list[dict[str, Any]] = records.all()
        test = test_images(found, self.data) if plan.data else None
        if plan.data and test is None:
            names: list[str] = next((r["cell"]["data"] for r in found if r["cell"]["fold"] is None), [])
            got = f" (got {', '.join(self.data)})" if self.data else ""
            return (
                f"{self.kind} {self.number}, {dataset}: shows images; give the folders of the data set with --data, by "
                f"the names that the records have: {', '.join(names)}{got}"
            )
        path = self.out / f"{dataset}-figure-{self.number}.png"
        drawn = figures.draw(plan.name, records, plan.agents, path, HORIZONS, test)
        return f"{drawn[0]}: {drawn[1]}" if drawn else f"{self.kind} {self.number}, {dataset}: nothing to draw yet"
