"""The log of a run: Stable-Baselines3's logger, with a CSV file that survives a resume."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    filter_excluded_keys,
)

from pixelseg_agents.files import write_atomically
from pixelseg_env import OptionError

UPDATES = "time/updates"
Rows = list[dict[str, str]]
BeforeRow = Callable[[Logger, int], None]


class ProgressCSV(CSVOutputFormat):
    """Stable-Baselines3's CSV writer, but it keeps what an earlier session wrote.

    Theirs empties the file when it is opened and rewrites it in place when a column is added.

    Args:
        path: the file.
        up_to: rows of later updates are dropped: training goes on from here and writes them again.
    """

    def __init__(self, path: Path, up_to: int) -> None:
        self.separator, self.quotechar = ",", '"'
        self._path = path
        self.keys, rows = _read_rows(path)
        self._replace(self.keys, [row for row in rows if float(row[UPDATES]) <= up_to])

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Adds a row."""
        named = filter_excluded_keys(key_values, key_excluded, "csv")
        added = sorted(named.keys() - set(self.keys))
        if added:
            self.file.close()
            self._replace([*self.keys, *added], _read_rows(self._path)[1])
        super().write(key_values, key_excluded, step)

    def _replace(self, keys: list[str], rows: Rows) -> None:
        text = io.StringIO()
        if keys:
            writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_atomically(self._path, text.getvalue())
        self.keys = list(keys)
        self.file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (close() closes it)


def _read_rows(path: Path) -> tuple[list[str], Rows]:
    """Column names and whole rows; a row that a crash cut off is left out."""
    if not path.exists():
        return [], []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row and None not in row.values() and _is_number(row.get(UPDATES))]
        return list(reader.fieldnames or ()), rows


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


class RunLogger(Logger):
    """Stable-Baselines3's logger of one run folder.

    Args:
        folder: the run's.
        updates: done before this session.
        tables: also print Stable-Baselines3's tables.
        before_row: called with the logger and the number of updates before a row is written; it may record more.
        wandb: a project of Weights & Biases that rows go to as well.
        tensorboard: also write TensorBoard's event files, where it is installed.
        writes: whether it writes at all; of several processes that train together one does.

    Attributes:
        last_row: the values of the last row.
    """

    def __init__(
        self,
        folder: Path,
        updates: int,
        tables: bool = False,
        before_row: BeforeRow | None = None,
        wandb: str | None = None,
        tensorboard: bool = True,
        writes: bool = True,
    ) -> None:
        formats: list[KVWriter] = []
        if writes:
            formats.append(ProgressCSV(folder / "progress.csv", updates))
            formats += _tensorboard(folder, updates) if tensorboard else []
            formats += [] if wandb is None else [WandbFormat(wandb, folder)]
            formats += [HumanOutputFormat(sys.stdout)] if tables else []
        super().__init__(str(folder), formats)
        self._writes = writes
        self.last_row: dict[str, float] = {}
        self._before_row = before_row
        self._unlogged = folder / "unlogged.json"
        self._restore(updates)

    def dump(self, step: int = 0) -> None:
        """Writes a row."""
        if self._before_row is not None:
            self._before_row(self, step)
        self.last_row = dict(self.name_to_value)
        super().dump(step)

    def save(self, updates: int) -> None:
        """Keeps the means of the row that is begun, for a session that resumes at `updates`."""
        if not self._writes:
            return
        state = {"updates": updates, "values": self.name_to_value, "counts": self.name_to_count}
        write_atomically(self._unlogged, json.dumps(state) + "\n")

    def finish(self, done: bool) -> None:
        """Closes the files; once the training is done, no row is left to be completed."""
        if done and self._writes:
            self._unlogged.unlink(missing_ok=True)
        self.close()

    def _restore(self, updates: int) -> None:
        try:
            state = json.loads(self._unlogged.read_text(encoding="utf-8"))
            if state["updates"] == updates:
                self.name_to_value.update(state["values"])
                self.name_to_count.update(state["counts"])
                self.name_to_excluded.update(dict.fromkeys(state["values"], ("",)))
        except (OSError, ValueError, KeyError, TypeError):
            return  # the row then is the mean of fewer updates


class WandbFormat(KVWriter):
    """Rows to Weights & Biases.

    Args:
        project: where to.
        folder: the run's, whose name is the run's there too; a session that resumes goes on in the same.

    Raises:
        OptionError: wandb is not installed.
    """

    def __init__(self, project: str, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise OptionError("--wandb: Weights & Biases is not installed; pip install wandb") from error
        name = folder.resolve().name
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("arguments", {})
        self._run = wandb.init(project=project, name=name, id=name, resume="allow", config=settings)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """One row."""
        self._run.log({key: value for key, value in key_values.items() if isinstance(value, int | float)}, step=step)

    def close(self) -> None:
        """Ends the run there."""
        self._run.finish()


class ResumedTensorBoard(TensorBoardOutputFormat):
    """Stable-Baselines3's TensorBoard format around a writer that is made already."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self._is_closed = False


def _tensorboard(folder: Path, updates: int) -> list[KVWriter]:
    """TensorBoard's writer if it is installed; of an earlier session it hides what will be written again."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return []
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=updates + 1)  # type: ignore[no-untyped-call]
    return [ResumedTensorBoard(writer)]
