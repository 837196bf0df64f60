"""`python -m benchmarks nnunet`."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.commands import Dataset
from benchmarks.nnunet import MODULE, NAME
from benchmarks.nnunet.running import (
    LOG,
    PYTHON,
    Budget,
    check_environment,
    is_finished,
    run_training,
    shown_command,
)
from pixelseg_env import DataError, OptionError

RECORDS = Path("benchmarks/records/nnunet")


@dataclass
class NnUNet:
    """Plans, trains and judges the real nnU-Net, in an environment of its own; what is finished is skipped.

    Its records have the same form as those of `run`, and stand in the same tables where they lie in one folder and have
    the same protocol; `table 2` gives the command for its row. Width and batch are planned by nnU-Net itself.
    """

    dataset: Dataset = "phantom"
    data: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: $PIXELSEG_DATA)")] = ()
    """Its folders."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of training."""
    folds: Annotated[tuple[int, ...], arg(help_behavior_hint="(default: no folds)")] = ()
    """Fifths of the patients to test on, 0 to 4; none: the split 70/10/20."""
    budget: OmitArgPrefixes[Budget] = dataclasses.field(default_factory=Budget)
    protocol: OmitArgPrefixes[Protocol] = dataclasses.field(default_factory=Protocol)
    python: Path = PYTHON
    """Of nnU-Net's environment; `make .venv-nnunet/installed` makes it."""
    out: Path = RECORDS
    """Folder of the records."""
    work: Annotated[Path | None, arg(help_behavior_hint="(default: a temporary one)")] = None
    """Folder that keeps nnU-Net's data, log, checkpoints and masks."""

    def cells(self) -> list[Cell]:
        """What is trained, seeds outermost."""
        return [
            Cell(self.dataset, self.data, NAME, "default", seed, fold, self.protocol, study=MODULE)
            for seed in self.seeds
            for fold in self.folds or (None,)
        ]

    def main(self) -> int:
        """Runs all that is not finished."""
        cells = self.cells()
        waiting = [cell for cell in cells if not is_finished(self.out, cell, self.budget)]
        print(f"{len(cells)} trainings, {len(cells) - len(waiting)} done before, {len(waiting)} to run", flush=True)
        if not waiting:
            return 0
        version = check_environment(self.python)
        for cell in waiting:
            with tempfile.TemporaryDirectory(prefix="nnunet-") as temporary:
                work = self._work(cell) if self.work else Path(temporary)
                print(f"{cell.name}: nnunetv2 {version}; what it says goes to {work / LOG}", flush=True)
                path = run_training(cell, self.budget, self.python, self.out, work.resolve(), shown_command())
            print(f"{cell.name}: {path}", flush=True)
        return 0

    def _work(self, cell: Cell) -> Path:
        """A folder for one training below the one that was named."""
        assert self.work is not None
        if self.work.exists() and not self.work.is_dir():
            raise OptionError(f"--work {self.work}: is a file; expected a folder")
        folder = self.work / cell.name
        if folder.exists():
            raise DataError(f"{folder}: exists; choose another --work, or remove it")
        folder.mkdir(parents=True)
        return folder
