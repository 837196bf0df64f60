"""Turns the records of `benchmarks.compare` into Markdown tables.

python -m benchmarks.report benchmarks/records
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.records import read_records

NAMES = {
    "keep-all": "keep everything",
    "otsu": "Otsu's threshold",
    "twin-plain": "twin, cross-entropy",
    "twin-weighted": "twin, cross-entropy, falling weight",
    "pa3c": "PA3C, step 10",
}
METRICS = ("DICE", "PPV", "SEN", "IoU", "BIoU", "HD95")
Record = dict[str, Any]


def comparison(records: list[Record]) -> str:
    """One table: a row per learner, values of the seeds side by side, mean over the test images."""
    header = ["", "seed", *METRICS, "DICE by patient", "DICE step 1", "passes", "CPU minutes"]
    rows = []
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record["learner"]].append(record)
    for learner, name in NAMES.items():
        members = sorted(groups[learner], key=lambda record: int(record["seed"]))
        trained = [record for record in members if record["parameters"]]
        for record in trained or members[:1]:  # references do not depend on the seed
            rows.append([name, str(record["seed"]) if trained else "-", *_cells(record)])
        if len(trained) > 1:
            cells = [_values(record) for record in trained]
            rows.append([f"**{name}**", "mean", *_formatted(list(np.mean(cells, axis=0)), trained[0])])
    return markdown([header, *rows])


def _values(record: Record) -> list[float]:
    summary = record["evaluation"]["summary"]
    metrics = summary["metrics"]
    return [
        *(metrics[name]["mean"] for name in METRICS),
        metrics["DICE"]["patient_mean"],
        summary["dice_by_step"][0],
        record["cpu_seconds"] / 60,
    ]


def _cells(record: Record) -> list[str]:
    return _formatted(_values(record), record)


def _formatted(values: list[float], record: Record) -> list[str]:
    *scores, first, minutes = values
    cells = [
        f"{value:.1f}" if name == "HD95" else f"{value:.3f}"
        for name, value in zip((*METRICS, "DICE by patient"), scores, strict=True)
    ]
    trained = bool(record["parameters"])
    return [
        *cells,
        f"{first:.3f}" if record["learner"] == "pa3c" else "",
        f"{record['image_passes']:,}" if trained else "",
        f"{minutes:.1f}" if trained else "",
    ]


def markdown(rows: list[list[str]]) -> str:
    """A table; the first row is the header, columns after the first are right-aligned."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def main(folder: Annotated[Path, tyro.conf.Positional] = Path("benchmarks/records")) -> None:
    """Prints the tables of all records in a folder, one per data set, size and split."""
    groups: dict[tuple[str, int, str], list[Record]] = defaultdict(list)
    for record in read_records(folder):
        options = record["options"]
        groups[options["dataset"], options["size"], options["split"]].append(record)
    for (dataset, size, split), records in sorted(groups.items()):
        summary = records[0]["evaluation"]["summary"]
        print(f"### {dataset}, {size}x{size}, {split}: {summary['images']} images of {summary['patients']} patients\n")
        print(comparison(records), "\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
