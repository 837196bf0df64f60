"""What each step is worth: a table from records of few steps, means over images, gains over patients.

    python -m benchmarks.study.steps benchmarks/records/looking

A row is an agent under a setting with a number of passes, on folds or on the usual split. Scores after every step are
means over all images of the folds, or of the part; the gain of the last step over the first is the mean over patients,
each the mean of its images and of the seeds, with a 95 % interval over patients and seeds
(`statistics.crossed_difference`). `--folds 0 1` compares what was run on a few folds with others on the same: rows are
of those that were run on each of them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.failures import exit_code
from benchmarks.grid.statistics import crossed_difference
from benchmarks.records import read_records
from benchmarks.study.reading import held_out, one_protocol, parted
from pixelseg_env import DataError

METRICS = {"DICE": "Dice", "BIoU": "BIoU", "HD95": "HD95"}
GAINS = ("gain in Dice", "in BIoU", "in HD95")
Group = tuple[str, str, str, int, str]  # data set, agent, setting, passes, what is tested on


def read(folders: Iterable[Path], folds: Iterable[int] = ()) -> list[dict[str, Any]]:
    """The records in folders that hold scores after every step.

    Args:
        folders: of records.
        folds: their records alone, of the learners and settings that were run on all of these.

    Raises:
        DataError: there are none.
    """
    found, asked = [one for folder in folders for one in read_records(folder)], set(folds)
    kept = [one for one in found if "cell" in one and any("by_step" in one.get(part, {}) for part in ("test", "val"))]
    where = ", ".join(map(str, folders))
    if not kept:
        raise DataError(f"{where}: no record has scores after every step")
    if not asked:
        return kept
    run: dict[Any, set[Any]] = defaultdict(set)
    for one in kept:
        run[*_who(one), one["cell"]["seed"]].add(one["cell"]["fold"])
    kept = [one for one in kept if one["cell"]["fold"] in asked <= run[*_who(one), one["cell"]["seed"]]]
    if not kept:
        raise DataError(f"{where}: nothing was run on each of the folds {', '.join(map(str, sorted(asked)))}")
    return kept


def _who(record: Mapping[str, Any]) -> tuple[str, str, str, int]:
    """Data set, agent, setting and passes."""
    cell = record["cell"]
    return cell["dataset"], cell["agent"], cell["setting"], int(cell["protocol"]["passes"])


def by_patient(records: Sequence[Mapping[str, Any]], part: str, metric: str, step: int) -> NDArray[np.float64]:
    """Scores after a step, (S, P): one row per seed, and the patients of all its folds, each the mean of its images."""
    return patients_of(records, part, [one[part]["by_step"][metric][step] for one in records])


def patients_of(
    records: Sequence[Mapping[str, Any]], part: str, scores: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """Scores of every record's images by seed and patient, see `by_patient`."""
    rows: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one, values in zip(records, scores, strict=True):
        for case, score in zip(one[part]["images"]["case"], values, strict=True):
            rows[one["cell"]["seed"]][case].append(score)
    cases = sorted(set.intersection(*(set(row) for row in rows.values())))
    return np.array([[np.mean(row[case]) for case in cases] for row in rows.values()])


def table(records: Sequence[Mapping[str, Any]], part: str) -> str:
    """The table, in Markdown."""
    groups: dict[Group, list[Mapping[str, Any]]] = defaultdict(list)
    for one in records:
        if part in one and "by_step" in one[part]:
            groups[*_who(one), parted(one)].append(one)
    columns = ("data", "agent", "setting", "passes", "step", "Dice ↑", "BIoU ↑", "HD95 ↓", *GAINS, "runs")
    head = [f"| {' | '.join(columns)} |", f"| {' | '.join(['---'] * 3 + ['---:'] * (len(columns) - 3))} |"]
    return "\n".join(head + [line for key, group in sorted(groups.items()) for line in _lines(key, group, part)])


def _lines(key: Group, group: Sequence[Mapping[str, Any]], part: str) -> list[str]:
    """A line for each step; the last has what was gained since the first."""
    one_protocol(group, f"{key[1]} {key[2]}")
    steps = len(group[0][part]["by_step"]["DICE"])
    lines = []
    for step in range(steps):
        means = {m: np.mean([v for one in group for v in one[part]["by_step"][m][step]]) for m in METRICS}
        cells = [f"{means['DICE']:.3f}", f"{means['BIoU']:.3f}", f"{means['HD95']:.1f}"]
        gains = ["", "", ""]
        if step and step == steps - 1:
            gains = [_gain(group, part, metric, step) for metric in METRICS]
        runs = _runs(group)
        lines.append(f"| {' | '.join([*map(str, key[:-1]), str(step + 1), *cells, *gains, runs])} |")
    return lines


def _runs(group: Sequence[Mapping[str, Any]]) -> str:
    """Folds or institutions, and seeds where there are several of them, or seeds alone."""
    part, seeds = parted(group[0]), len({one["cell"]["seed"] for one in group})
    counts = {} if part == "split" else {part: len({held_out(one) for one in group})}
    counts |= {"seed": seeds} if part == "split" or seeds > 1 else {}
    return " of ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items())


def _gain(group: Sequence[Mapping[str, Any]], part: str, metric: str, step: int) -> str:
    gained = crossed_difference(by_patient(group, part, metric, step), by_patient(group, part, metric, 0))
    return with_interval(*gained, 1 if metric == "HD95" else 3)


def with_interval(mean: float, low: float, high: float, digits: int) -> str:
    """A difference, in brackets its interval; without, where there were too few patients for one."""
    if np.isnan(low):
        return f"{mean:+.{digits}f}"
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def main() -> None:
    """Prints the tables of validation and of test patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--folds", nargs="+", type=int, default=(), help="what was run on each of these, there")
    asked = parser.parse_args()
    records = read(asked.folders, asked.folds)
    for part, told in (("val", "validation"), ("test", "test")):
        if any("by_step" in one.get(part, {}) for one in records):
            print(f"**{told.capitalize()} patients**\n\n{table(records, part)}\n")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
