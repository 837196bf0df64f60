"""Accuracy for compute, from records: what each look of an agent costs and is worth, and who is on the upper edge.

A point is a look of an agent under a setting, with what it had cost by then. GFLOP are counted on the networks that the
records describe (`benchmarks.study.operations`); scores are means over images, and over seeds with their range.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.grid.cells import EARLIER
from benchmarks.records import read_records
from benchmarks.study import STUDY
from benchmarks.study.operations import count
from benchmarks.study.reading import facts_of
from pixelseg_env import DataError

METRICS = {"DICE": 1, "BIoU": 1, "HD95": -1}  # whether more is better
IMAGE = ("case", "slice")  # by which an image is known
DIGITS = {"DICE": 3, "BIoU": 3, "HD95": 1}  # that are printed; what they do not tell apart is equal
AXES = {"inference": ("GFLOP per image, all looks so far", 1), "training": ("TFLOP of the training", 1000)}
Judged = tuple[str, str, int]  # data set; which of its images were judged, where, in words; and a digest of them
Mean = tuple[float, float, float]  # mean over seeds, and the lowest and the highest


@dataclass(frozen=True)
class Point:
    """A look of a series.

    Attributes:
        look: its number, from 1.
        cost: GFLOP by the names of `AXES`.
        scores: by the names of `METRICS`; a record of many steps has no HD95 but of the last.
    """

    look: int
    cost: dict[str, float]
    scores: dict[str, Mean]


@dataclass(frozen=True)
class Series:
    """An agent under a setting, by looks.

    Attributes:
        judged: those with the same can be compared.
        agent: its name in records.
        label: its name for readers.
        setting: the setting's name.
        supervised: whether it learnt from the target.
        passes: of the training, through its networks.
        parameters: of the network that decides.
        seen: height and width of what a look shows it.
        seeds: trainings (of all folds, where there are some).
        points: in the order of its looks.
    """

    judged: Judged
    agent: str
    label: str
    setting: str
    supervised: bool
    passes: int
    parameters: int
    seen: tuple[int, int]
    seeds: int
    points: list[Point]

    @property
    def name(self) -> str:
        """In a legend."""
        return f"{self.label}: {self.setting}, {self.passes:,} passes, sees {self.seen[0]}x{self.seen[1]}"


def read(folders: Iterable[Path], part: str) -> list[dict[str, Any]]:
    """The records in folders of agents that were trained on the grid and judged on a part of the data.

    What cannot be built again, such as the real nnU-Net, is not among them.

    Raises:
        DataError: there are none.
    """
    found = [one for folder in folders for one in read_records(folder)]
    trained = [one for one in found if {"cell", "config", part} <= one.keys()]
    trained = [one for one in trained if not one["cell"].get("left_out")]  # `institutions` makes a table of those
    kept = [one for one in trained if STUDY.lists(name := one["cell"]["agent"]) or ":" in name]
    if not kept:
        raise DataError(
            f"{', '.join(map(str, folders))}: no record of a training that was judged on --part {part}; expected those "
            "of `python -m benchmarks run`"
        )
    return kept


def series(records: Sequence[Mapping[str, Any]], part: str) -> list[Series]:
    """What was trained alike and judged on the same images becomes one series."""
    trainings: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in records:  # the folds of a seed belong together
        trainings[_told(one, "seed")].append(one)
    alike: dict[tuple[str, Judged], list[list[Mapping[str, Any]]]] = defaultdict(list)
    for folds in trainings.values():
        alike[_told(folds[0]), _judged(folds, part)].append(folds)
    return [_one(judged, seeds, part) for (_, judged), seeds in alike.items()]


def _told(record: Mapping[str, Any], *more: str) -> str:
    """What makes trainings alike, as text."""
    cell = record["cell"]
    names = ("dataset", "data", "agent", "setting", "tuned", *more)
    said = [{name: cell[name] for name in names}, EARLIER | cell["protocol"], cell["fold"] is None]
    return json.dumps(said, sort_keys=True)


def _judged(folds: Sequence[Mapping[str, Any]], part: str) -> Judged:
    """The data set, and which of its images were judged, where."""
    numbers = [one["cell"]["fold"] for one in folds]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"two records of {folds[0]['name']}, or of another fold of it; give each folder once")
    images = sorted(one for fold in folds for one in zip(*(fold[part]["images"][k] for k in IMAGE), strict=True))
    cases = {case for case, _ in images}
    protocol = EARLIER | folds[0]["cell"]["protocol"]
    place = "native pixels" if protocol["judge_at"] == "native" else "{0}x{0}".format(protocol["size"])
    which = "" if numbers == [None] else f", folds {', '.join(map(str, sorted(numbers)))}"
    said = f"{part}: {len(images)} images of {len(cases)} patients{which}, at {place}"
    return folds[0]["cell"]["dataset"], said, zlib.crc32(json.dumps(images).encode())


def _one(judged: Judged, seeds: Sequence[Sequence[Mapping[str, Any]]], part: str) -> Series:
    first = dict(seeds[0][0])
    cell, facts, cost = first["cell"], facts_of(first["cell"]["agent"], first), count(first, part)
    spent = np.cumsum(cost.looks)
    curves = {metric: np.array([_curve(folds, part, metric) for folds in seeds]) for metric in METRICS}
    points = []
    for look, inference in enumerate(spent):
        values = {m: curve[:, look] for m, curve in curves.items() if not np.isnan(curve[:, look]).any()}
        scores = {m: (float(v.mean()), float(v.min()), float(v.max())) for m, v in values.items()}
        points.append(Point(look + 1, {"inference": float(inference), "training": cost.training}, scores))
    told = (facts.label, cell["setting"], facts.supervised, first["image_passes"], first["parameters"])
    return Series(judged, cell["agent"], *told, cost.seen, len(seeds), points)


def _curve(folds: Sequence[Mapping[str, Any]], part: str, metric: str) -> NDArray[np.float64]:
    """The mean over the images of all folds after every look; NaN where a record does not say it."""
    images, curves = [], []
    for one in folds:
        summary = one[part]["summary"]
        by_step = {"DICE": summary["dice_by_step"], "BIoU": summary["biou_by_step"]} | summary.get("more_by_step", {})
        if metric not in by_step:  # of a record of many steps the last alone is known
            unknown = [np.nan] * (len(summary["dice_by_step"]) - 1)
            by_step[metric] = [*unknown, summary["metrics"][metric]["mean"]]
        curves.append(by_step[metric])
        images.append(summary["images"])
    return np.average(curves, axis=0, weights=images)


# ---------------------------------------------------------------- the edge


def edge(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Those to which no other is equal or better in both, cheapest first: each has a better score than all before.

    Args:
        costs: less is better.
        scores: more is better.
    """
    found: list[int] = []
    for number in sorted(range(len(costs)), key=lambda one: (costs[one], -scores[one])):
        if not found or scores[number] > scores[found[-1]]:
            found.append(number)
    return found


def on_the_edge(found: Sequence[Series], axis: str, metric: str) -> list[tuple[Series, Point]]:
    """The looks of some series, judged alike, to which none is equal or better in cost and score, as printed."""
    looks = [(one, point) for one in found for point in one.points if metric in point.scores]
    scores = [METRICS[metric] * round(point.scores[metric][0], DIGITS[metric]) for _, point in looks]
    return [looks[i] for i in edge([point.cost[axis] for _, point in looks], scores)]


def by_judged(found: Sequence[Series]) -> dict[Judged, list[Series]]:
    """Series that can be compared, together; within, the cheapest first."""
    together: dict[Judged, list[Series]] = defaultdict(list)
    for one in sorted(found, key=lambda one: (one.judged, one.points[-1].cost["inference"], one.name)):
        together[one.judged].append(one)
    return dict(together)


# ---------------------------------------------------------------- what is told

NOTE = (
    "GFLOP: two a multiplication and addition, of matrix products and convolutions, counted on the networks that the "
    "records describe; a look's resampling is in it. Per image: of all looks so far. Training: of all its passes, with "
    "and without a gradient. Means over seeds, in brackets their range. Bold: on the upper edge by GFLOP per image, "
    "underlined: by those of the training; nothing here that costs as little scores as well."
)


def table(found: Sequence[Series]) -> str:
    """Markdown: one table for what can be compared."""
    columns = ("agent", "setting", "passes", "sees", "look", "GFLOP per image", "training, TFLOP", *METRICS, "seeds")
    texts = []
    for (dataset, said, _), group in by_judged(found).items():
        edges = {axis: {m: on_the_edge(group, axis, m) for m in METRICS} for axis in AXES}
        lines = [
            f"| {' | '.join(columns)} |",
            "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for one in group:
            for point in one.points:
                scores = [_cell(one, point, metric, edges) for metric in METRICS]
                about = [one.label, one.setting, f"{one.passes:,}", f"{one.seen[0]}x{one.seen[1]}", str(point.look)]
                cost = [f"{point.cost['inference']:.3f}", f"{point.cost['training'] / 1000:.1f}"]
                lines.append(f"| {' | '.join([*about, *cost, *scores, str(one.seeds)])} |")
        texts.append(f"**Accuracy for compute, {dataset}, {said}**\n\n" + "\n".join(lines))
    return "\n\n".join([*texts, NOTE])


def _cell(one: Series, point: Point, metric: str, edges: Mapping[str, Mapping[str, Any]]) -> str:
    if metric not in point.scores:
        return ""
    mean, low, high = (f"{value:.{DIGITS[metric]}f}" for value in point.scores[metric])
    if (one, point) in edges["training"][metric]:
        mean = f"<u>{mean}</u>"
    if (one, point) in edges["inference"][metric]:
        mean = f"**{mean}**"
    return mean if one.seeds == 1 else f"{mean} ({low} to {high})"
