"""How well an agent does where it has not learnt: a table from records of `run --leave-out`, one institution at a time.

    python -m benchmarks.study.institutions benchmarks/records/institutions

A row is an institution, whose patients were tested on by agents that had learnt from all others'. The last rows are the
mean over institutions, which count alike however few patients they have, and over all their images or patients. A cell
is a mean over seeds: of all images, or of patients, each the mean of its images.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.failures import exit_code
from benchmarks.records import read_records
from pixelseg_env import DataError

SCORES = (
    ("Dice ↑", "DICE", "mean"),
    ("Dice by patient ↑", "DICE", "patient_mean"),
    ("BIoU ↑", "BIoU", "mean"),
    ("HD95 ↓", "HD95", "mean"),
)
Record = Mapping[str, Any]


def read(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The records in folders whose patients were left out of training by name.

    Raises:
        DataError: there are none; they are of several data sets, or judged in different places; one institution was
            judged on other images than before.
    """
    found = [one for folder in folders for one in read_records(folder) if one.get("cell", {}).get("left_out")]
    if not found:
        raise DataError(
            f"{', '.join(map(str, folders))}: no record of `python -m benchmarks run --leave-out`; expected some"
        )
    images: dict[str, Any] = {}
    for one in found:
        if _judged(one) != _judged(found[0]):
            raise DataError(
                f"{found[0]['name']} and {one['name']}: {_judged(found[0])} and {_judged(one)} cannot stand in one "
                "table; give each a folder of its own"
            )
        where, seen = one["cell"]["left_out"], [one["test"]["images"][key] for key in ("case", "slice")]
        if images.setdefault(where, seen) != seen:
            raise DataError(f"{one['name']}: was judged on other images of {where} than others; run it again")
    return found


def _judged(record: Record) -> str:
    """What was judged and where, which is one in a table; budgets and steps may differ."""
    cell = record["cell"]
    return f"{cell['dataset']}, decided at {cell['protocol']['size']}, judged at {cell['protocol']['judge_at']}"


def table(records: Sequence[Record]) -> str:
    """The table, in Markdown. Columns are named by agent, setting and passes, or by what differs of them.

    Where an agent lacks an institution, its cells there and its means stay empty.
    """
    places = sorted({one["cell"]["left_out"] for one in records})
    groups: dict[tuple[str, str, int], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for one in records:
        cell = one["cell"]
        groups[cell["agent"], cell["setting"], cell["protocol"]["passes"]][cell["left_out"]].append(one)
    varied = [k for k in range(3) if len({key[k] for key in groups}) > 1] or range(3)
    names = [" ".join(str(key[k]) for k in varied) for key in groups]
    columns = ["left out", "patients", "images", *(f"{name}: {title}" for name in names for title, *_ in SCORES)]
    lines = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    rows = np.array(
        [[_score(own.get(place, ()), *what) for own in groups.values() for _, *what in SCORES] for place in places]
    )
    counts = []
    for place, scores in zip(places, rows, strict=True):
        cases = next(one for one in records if one["cell"]["left_out"] == place)["test"]["images"]["case"]
        counts.append((len(set(cases)), len(cases)))
        lines.append(_line(place, *counts[-1], scores))
    patients, images = np.array(counts).T
    weights = np.array([patients if kind == "patient_mean" else images for *_, kind in SCORES] * len(groups)).T
    lines.append(_line("mean of institutions", "", "", rows.mean(axis=0)))
    return "\n".join([*lines, _line("all", patients.sum(), images.sum(), np.average(rows, axis=0, weights=weights))])


def _score(records: Sequence[Record], metric: str, kind: str) -> float:
    """The mean over seeds; NaN where there are none."""
    found = [one["test"]["summary"]["metrics"][metric][kind] for one in records]
    return float(np.mean(found)) if found else float("nan")


def _line(place: str, patients: object, images: object, scores: Iterable[float]) -> str:
    digits = [1 if title.startswith("HD95") else 3 for title, *_ in SCORES]
    cells = ["" if np.isnan(score) else f"{score:.{digits[k % len(SCORES)]}f}" for k, score in enumerate(scores)]
    return f"| {' | '.join([place, str(patients), str(images), *cells])} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    print(table(read(parser.parse_args().folders)))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
