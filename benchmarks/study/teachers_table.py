"""What moves the policy: a table of ways to teach it, beside the published one on the same folds and seeds.

    python -m benchmarks.study.teachers_table benchmarks/records/teachers

There is a table for each protocol, and within it for each set of folds and seeds that some row was run on; all rows of
a table are of the same trainings but for their setting. Scores are means over folds of the means over validation images
(and over seeds); differences to the reference are means over patients, each the mean of its images, with a 95 %
interval over patients and seeds (`statistics.crossed_difference`); with one seed they say nothing about other seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.failures import exit_code
from benchmarks.grid.statistics import crossed_difference
from benchmarks.records import read_records
from benchmarks.study.learners import PA3C_ON_UNET, SUBJECT
from benchmarks.study.reading import patient_means
from pixelseg_env import DataError

METRICS = {"DICE": 3, "BIoU": 3, "HD95": 1}  # and their digits
COLUMNS = ("", "Dice ↑", "BIoU ↑", "HD95 ↓", "Dice by fold", "difference in Dice", "in BIoU")
REFERENCE = (SUBJECT.name, "gradient-vanilla")
TWO_STEPS = (SUBJECT.name, "reading-two-steps")  # what is compared where episodes have two
ON_UNET = (PA3C_ON_UNET.name, "gradient-vanilla")  # and where the network is AC's
# In the order of the table; others follow by their names.
LABELS: dict[tuple[str, str], str] = {
    REFERENCE: "likelihood ratio, as published",
    TWO_STEPS: "likelihood ratio, two steps",
    (SUBJECT.name, "gradient-vanilla-explores"): "... with 10 % uniform actions",
    (SUBJECT.name, "gradient-vanilla-limit"): "... with a limit of 4 on the logit",
    (SUBJECT.name, "gradient-vanilla-no-entropy"): "... without an entropy bonus",
    (SUBJECT.name, "gradient-vanilla-faster"): "... with twice the learning rate",
    (SUBJECT.name, "gradient-natural"): "natural",
    (SUBJECT.name, "gradient-natural-slower"): "... with half the learning rate",
    (SUBJECT.name, "gradient-natural-explores-less"): "... with 2 % uniform actions",
    (SUBJECT.name, "gradient-natural-entropy"): "... with an entropy bonus",
    ("benchmarks.study.teachers:Unweighted", "gradient-natural"): "... without importance weights",
    (SUBJECT.name, "gradient-natural-no-limit"): "... without the limit",
    ("benchmarks.study.teachers:Clipped", REFERENCE[1]): "clipped ratio (PPO), three steps a batch",
    ("benchmarks.study.teachers:OwnTrunk", REFERENCE[1]): "critic with a trunk of its own",
    ("benchmarks.study.teachers:AllActions", REFERENCE[1]): "critic of both actions, gradient over both",
    ("benchmarks.study.teachers:Regression", REFERENCE[1]): "advantage-weighted regression",
}
Record = Mapping[str, Any]
Run = tuple[int, int | None]  # seed and fold; None: the usual split
Rows = dict[tuple[str, str], dict[Run, Record]]  # by agent and setting


def read(folders: Iterable[Path]) -> dict[str, Rows]:
    """The records in folders that were judged on validation patients, by protocol.

    Raises:
        DataError: there are none, or two are of the same training.
    """
    found: dict[str, Rows] = defaultdict(lambda: defaultdict(dict))
    for one in (one for folder in folders for one in read_records(folder)):
        if "cell" not in one or "images" not in one.get("val", {}) or one["cell"].get("left_out"):
            continue  # `institutions` makes a table of those
        cell = one["cell"]
        same = json.dumps({"data": cell["dataset"]} | cell["protocol"], sort_keys=True)
        row = found[same][cell["agent"], cell["setting"]]
        if (run := (cell["seed"], cell["fold"])) in row:
            raise DataError(f"two records of {one['name']}; remove the copy")
        row[run] = one
    if not found:
        raise DataError(f"{', '.join(map(str, folders))}: no record was judged on validation patients")
    return found


def tables(rows: Rows) -> dict[tuple[tuple[int, ...], tuple[Any, ...]], str]:
    """The tables of one protocol in Markdown, by seeds and folds; that with most rows first."""
    made: dict[tuple[tuple[int, ...], tuple[Any, ...]], Rows] = {}
    for seeds, folds in {grid for row in rows.values() for grid in _grids(row)}:
        runs = [(seed, fold) for seed in seeds for fold in folds]
        made[seeds, folds] = {
            who: {run: row[run] for run in runs} for who, row in rows.items() if row.keys() >= set(runs)
        }
    ordered = sorted(made.items(), key=lambda item: (-len(item[1]), str(item[0])))
    return {grid: table(found) for grid, found in ordered}


def table(rows: Rows) -> str:
    """One table in Markdown; every row has the same runs."""
    order = {who: place for place, who in enumerate(LABELS)}
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    reference = next((who for who in (REFERENCE, TWO_STEPS, ON_UNET) if who in rows), None)
    for who in sorted(rows, key=lambda who: (order.get(who, len(order)), who)):
        ours = list(rows[who].values())
        means = [f"{_mean(ours, metric):.{digits}f}" for metric, digits in METRICS.items()]
        folds = sorted({fold for _, fold in rows[who]}, key=str)
        each = [_mean([one for (_, at), one in rows[who].items() if at == fold], "DICE") for fold in folds]
        apart = ["", ""]
        if reference is not None and who != reference:
            apart = [_apart(ours, list(rows[reference].values()), metric) for metric in ("DICE", "BIoU")]
        name = LABELS.get(who) or " ".join([*who[0].rpartition(":")[2:], who[1]])
        lines.append(f"| {' | '.join([name, *means, ', '.join(f'{one:.3f}' for one in each), *apart])} |")
    return "\n".join(lines)


def by_patient(records: Sequence[Record], metric: str) -> NDArray[np.float64]:
    """Scores (S, P), seed by patient: the mean of each patient's images, of all folds.

    Raises:
        DataError: a patient is judged in two folds, or seeds were judged on other patients.
    """
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for one in records:
        means = patient_means(one["val"]["images"]["case"], one["val"]["images"][metric])
        seen = found[one["cell"]["seed"]]
        if twice := seen.keys() & means.keys():
            raise DataError(f"{one['name']}: patient {min(twice)} is in another fold too; expected folds of patients")
        seen.update(means)
    patients = sorted(set().union(*found.values()))
    if any(len(row) < len(patients) for row in found.values()):
        raise DataError("seeds were judged on other patients; expected the same patients for every seed")
    return np.array([[row[one] for one in patients] for _, row in sorted(found.items())])


def _grids(row: Mapping[Run, Record]) -> set[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """Seeds and folds such that a row has every fold of every seed: for each seed's folds, all seeds that have them."""
    folds: dict[int, set[Any]] = defaultdict(set)
    for seed, fold in row:
        folds[seed].add(fold)
    return {
        (tuple(sorted(seed for seed, others in folds.items() if others >= mine)), tuple(sorted(mine, key=str)))
        for mine in folds.values()
    }


def _mean(records: Sequence[Record], metric: str) -> float:
    """Of runs that are as many in every fold, so that their mean is that of the folds."""
    return float(np.mean([np.mean(one["val"]["images"][metric]) for one in records]))


def _apart(ours: Sequence[Record], theirs: Sequence[Record], metric: str) -> str:
    mean, low, high = crossed_difference(by_patient(ours, metric), by_patient(theirs, metric))
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Prints the tables, each below its protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    for protocol, rows in read(parser.parse_args().folders).items():
        said = json.loads(protocol)
        print(f"**{said['data']}, {said['size']} pixels, t_max {said['horizon']}, {said['passes']} passes**\n")
        for (seeds, folds), text in tables(rows).items():
            where = "usual split" if folds == (None,) else _named("fold", folds)
            print(f"Validation patients, {where}, {_named('seed', seeds)}:\n\n{text}\n")


def _named(what: str, numbers: Sequence[Any]) -> str:
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
