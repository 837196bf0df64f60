r"""One learner beside others, on the same patients, seeds and folds: a table of differences with their intervals.

    python -m benchmarks.study.beside benchmarks/records/looking --dataset brain \
        --one pa3c-on-unet:closer --others unet:once-90 pa3c-on-unet:no-window

A learner is an agent and a setting, or several settings whose trainings count alike
(`unet:once-90-wide+once-90-wide-bf16`). A cell is what the first one has more than the other one after the last step:
the mean over patients, each the mean of its images, of the trainings that both have, with a 95 % interval over patients
and seeds (`statistics.crossed_difference`). *Missed*: patients a training with a Dice below 0.2, the first one's and
the other one's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.failures import exit_code
from benchmarks.grid.statistics import crossed_difference
from benchmarks.study.patients import MISSED
from benchmarks.study.reading import held_out, one_protocol, rows_of
from benchmarks.study.steps import METRICS, by_patient, read, with_interval
from pixelseg_env import DataError

COLUMNS = ("less", "trainings", "patients", "Dice ↑", "BIoU ↑", "HD95 ↓", "missed")
Trainings = dict[tuple[int, Any], Mapping[str, Any]]  # seed and fold -> record


def trainings(records: Sequence[Mapping[str, Any]], dataset: str, learner: str, part: str) -> Trainings:
    """The records of a learner, `agent:setting` or `agent:setting+setting`, that have scores of a part.

    Raises:
        DataError: there are none, several of one seed and fold, or they are of several protocols.
    """
    agent, _, settings = learner.rpartition(":")  # an agent may be module:name
    wanted = {"dataset": dataset, "agent": agent}.items()
    found: Trainings = {}
    for one in records:
        cell = one["cell"]
        if "by_step" in one.get(part, {}) and wanted <= cell.items() and cell["setting"] in settings.split("+"):
            if (cell["seed"], held_out(one)) in found:
                raise DataError(f"{learner}: two records of seed {cell['seed']}, fold {held_out(one)}; expected one")
            found[cell["seed"], held_out(one)] = one
    if not found:
        cells = [one["cell"] for one in records if "by_step" in one.get(part, {}) and one["cell"]["dataset"] == dataset]
        known = ", ".join(sorted({f"{cell['agent']}:{cell['setting']}" for cell in cells}))
        raise DataError(f"{learner}: no record of {dataset} with scores of {part}; there are {known or 'none'}")
    one_protocol(list(found.values()), learner)
    return found


def table(records: Sequence[Mapping[str, Any]], dataset: str, one: str, others: Sequence[str], part: str) -> str:
    """The table, in Markdown.

    Raises:
        DataError: see `trainings`; or the two have no training in common, or were judged on other images.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * (len(COLUMNS) - 1)}"]
    mine = trainings(records, dataset, one, part)
    for other in others:
        theirs = trainings(records, dataset, other, part)
        common = sorted(mine.keys() & theirs.keys(), key=str)
        if not common:
            raise DataError(f"{one} and {other}: no training of the same seed and fold; expected some")
        if any(mine[key][part]["images"]["case"] != theirs[key][part]["images"]["case"] for key in common):
            raise DataError(f"{one} and {other}: were judged on other images; expected records of the same data")
        for name, own in rows_of(other, [mine[key] for key in common]).items():
            lines.append(_line(name, [own, [theirs[record["cell"]["seed"], held_out(record)] for record in own]], part))
    return "\n".join(lines)


def _line(name: str, pair: Sequence[Sequence[Mapping[str, Any]]], part: str) -> str:
    """A row: the first's records less the second's, which are of the same seeds and patients."""
    scores = {metric: [by_patient(group, part, metric, -1) for group in pair] for metric in METRICS}
    cells = [
        with_interval(*crossed_difference(first, second), 1 if metric == "HD95" else 3)
        for metric, (first, second) in scores.items()
    ]
    dice = scores["DICE"]
    missed = " and ".join(f"{np.mean(np.sum(one < MISSED, axis=1)):.1f}" for one in dice)
    return f"| {' | '.join([name, str(len(pair[0])), str(dice[0].shape[1]), *cells, missed])} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--dataset", default="brain")
    parser.add_argument("--one", required=True, metavar="AGENT:SETTING")
    parser.add_argument("--others", required=True, nargs="+", metavar="AGENT:SETTING")
    parser.add_argument("--part", choices=("test", "val"), default="test")
    asked = parser.parse_args()
    print(f"**{asked.one}, {asked.dataset}, {asked.part}**\n")
    print(table(read(asked.folders), asked.dataset, asked.one, asked.others, asked.part))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
