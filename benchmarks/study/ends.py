r"""Where learners end, on test patients: six metrics by image and by patient, with intervals over patients and seeds.

    python -m benchmarks.study.ends benchmarks/records/looking --dataset brain \
        --learners pa3c-on-unet:closer-careful-2-heavier unet:once-90

Scores are those after the last step. By image: the mean over all images and seeds. By patient: the mean over patients,
each the mean of its images, with a 95 % interval over patients and seeds (`statistics.crossed_difference`); without one
where there are fewer than six patients.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.failures import exit_code
from benchmarks.grid.statistics import crossed_difference
from benchmarks.records import read_records
from benchmarks.study.reading import one_protocol, rows_of
from benchmarks.study.steps import patients_of
from benchmarks.study.summaries import METRICS
from pixelseg_env import DataError

NARROW = "BIoU-2px"  # newer records have it
SHOWN = (*METRICS[:5], NARROW, METRICS[5])
Record = Mapping[str, Any]


def read(folders: Sequence[Path], dataset: str, learners: Sequence[str], part: str = "test") -> dict[str, list[Record]]:
    """The records of each learner, `agent:setting`, that were judged on a part of the patients.

    Folds, institutions that were left out and the usual split test on the same patients: of a learner with several of
    them each is a row of its own.

    Raises:
        DataError: a learner has none; the message names those that have. Or its records are of several protocols.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    for one in (one for folder in folders for one in read_records(folder)):
        if "cell" in one and one["cell"].get("dataset") == dataset and "images" in one.get(part, {}):
            found[f"{one['cell']['agent']}:{one['cell']['setting']}"].append(one)
    if lacking := [name for name in learners if name not in found]:
        known = ", ".join(sorted(found)) or "none"
        raise DataError(f"{', '.join(lacking)}: no record of {dataset} with scores of {part}; there are {known}")
    rows: dict[str, list[Record]] = {}
    for name in learners:
        one_protocol(found[name], name)
        rows |= rows_of(name, found[name])
    return rows


def last(record: Record, part: str, metric: str) -> Sequence[float] | None:
    """Scores of all images after the last step; None if the record does not have them."""
    images = record[part]["images"]
    if metric in images:
        return list(images[metric])
    steps = record[part].get("by_step", {}).get(metric)
    return None if steps is None else list(steps[-1])


def scores(records: Sequence[Record], part: str, metric: str) -> tuple[float, NDArray[np.float64]] | None:
    """The mean over images, and scores by seed and patient, (S, P); None if a record does not have them."""
    found = [values for one in records if (values := last(one, part, metric)) is not None]
    if len(found) < len(records):
        return None
    return float(np.mean([value for values in found for value in values])), patients_of(records, part, found)


def table(found: Mapping[str, Sequence[Record]], part: str = "test") -> str:
    """The table, in Markdown: two lines a learner."""
    lines = [
        f"| {' | '.join(('learner', 'mean over', *SHOWN, 'seeds'))} |",
        f"| --- | --- |{' ---: |' * (len(SHOWN) + 1)}",
    ]
    for name, records in found.items():
        cells: dict[str, list[str]] = {"images": [], "patients": []}
        for metric in SHOWN:
            digits, told = 1 if metric == "HD95" else 3, scores(records, part, metric)
            if told is None:
                for row in cells.values():
                    row.append("")
                continue
            by_image, by_patient = told
            mean, low, high = crossed_difference(by_patient, np.zeros_like(by_patient))
            cells["images"].append(f"{by_image:.{digits}f}")
            within = "" if np.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
            cells["patients"].append(f"{mean:.{digits}f}{within}")
        seeds = str(len({one["cell"]["seed"] for one in records}))
        lines += [f"| {' | '.join((name, over, *row, seeds))} |" for over, row in cells.items()]
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--dataset", default="brain")
    parser.add_argument("--learners", required=True, nargs="+", metavar="AGENT:SETTING")
    parser.add_argument("--part", choices=("test", "val"), default="test")
    asked = parser.parse_args()
    print(table(read(asked.folders, asked.dataset, asked.learners, asked.part), asked.part))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
