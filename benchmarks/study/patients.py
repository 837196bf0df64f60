r"""Who is missed: a figure of the Dice of every test patient, from records of the grid.

    python -m benchmarks.study.patients benchmarks/records/looking --out patients.png \
        --data ../shared/data/lgg_kaggle_3m ../shared/data/lgg_tumour_slices ../shared/data/lgg_tumour_slices_2

A row is a patient, the worst on top by the mean over all that is shown; a dot is a training, and the mean of the
patient's images. Records of folds, and of institutions that were left out, stand together: each patient is tested on in
one of them. With `--data`, patients are marked two of whose channels are the same in all images, as where a sequence is
missing and another one stands in.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.failures import exit_code
from benchmarks.records import read_records
from benchmarks.study.figures import COLOURS
from benchmarks.study.reading import facts_of, patient_means
from pixelseg_agents.evaluation.familiar import looks_of
from pixelseg_agents.evaluation.figures import save_figure
from pixelseg_agents.evaluation.figures.style import INK, MUTED, STYLE, WIDTH, figure_format, legend, legend_columns
from pixelseg_env import DataError, load_dataset

MISSED = 0.2  # Dice, below which a patient counts as missed
ROW, AROUND = 0.24, 1.0  # inches
SPREAD = 0.5  # of a row, over which its learners lie
Scores = dict[str, dict[str, list[float]]]  # learner -> patient -> one a training


def read(folders: Iterable[Path], settings: Collection[str] = (), dataset: str | None = None) -> list[dict[str, Any]]:
    """The records in folders that have scores of test patients, of one data set.

    Args:
        folders: of records.
        settings: those that are wanted; none: all.
        dataset: the one that is wanted; None: the only one.

    Raises:
        DataError: there are none, or they are of several data sets.
    """
    every = (one for folder in folders for one in read_records(folder) if "cell" in one)
    every = (one for one in every if dataset in (None, one["cell"]["dataset"]))
    wanted = [one for one in every if "test" in one and (not settings or one["cell"]["setting"] in settings)]
    kinds = sorted({one["cell"]["dataset"] for one in wanted})
    if len(kinds) != 1:
        found = f"records of {' and '.join(kinds)}" if kinds else "none"
        raise DataError(
            f"{', '.join(map(str, folders))}: expected records of test patients of one data set"
            f"{' under ' + ', '.join(settings) if settings else ''}, found {found}; --dataset says which"
        )
    return wanted


def scores_of(records: Sequence[Mapping[str, Any]]) -> Scores:
    """The Dice of every patient after every training, by agent, setting and, where they differ, passes."""
    found: Scores = defaultdict(lambda: defaultdict(list))
    budgets = {one["cell"]["protocol"]["passes"] for one in records}
    for one in records:
        cell, images = one["cell"], one["test"]["images"]
        name = f"{facts_of(cell['agent'], dict(one)).label}, {cell['setting']}"
        name += f", {cell['protocol']['passes']} passes" if len(budgets) > 1 else ""
        for case, score in patient_means(images["case"], images["DICE"]).items():
            found[name][case].append(score)
    return found


def equal_channels(dataset: str, data: Sequence[Path]) -> set[str]:
    """The patients of a data set two of whose channels are the same in all their images."""
    whole = load_dataset(dataset, data=list(data), split="all", size=64)
    cases = np.array(whole.cases)
    return {case for case in set(whole.cases) if looks_of(whole.subset(np.flatnonzero(cases == case)))["repeated"]}


def draw(scores: Scores, path: Path, marked: Collection[str] | None = None) -> list[str]:
    """Draws the figure.

    Args:
        scores: of `scores_of`.
        path: the image file.
        marked: the patients to mark, None: it is not known who they are.

    Returns:
        The patients, from top to bottom.
    """
    every = sorted({case for own in scores.values() for case in own})
    means = {case: np.mean([np.mean(own[case]) for own in scores.values() if case in own]) for case in every}
    order = sorted(every, key=lambda case: (means[case], case))
    with mpl.rc_context(STYLE):
        longest, entries = max(map(len, scores)), len(scores) + (marked is not None)
        lines = -(-entries // legend_columns(WIDTH, entries, longest))
        height = AROUND + 0.18 * lines + ROW * len(order)
        figure = Figure(figsize=(WIDTH, height))
        figure.subplots_adjust(left=0.24, right=0.97, top=1 - 0.4 / height, bottom=(0.55 + 0.18 * lines) / height)
        axes = figure.subplots()
        for row in range(0, len(order), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f7f7f7", lw=0, zorder=0)
        axes.axvspan(0, MISSED, color="#f6e3da", lw=0, zorder=0.5)
        top = axes.get_xaxis_transform()
        axes.text(MISSED / 2, 1.0, "missed", transform=top, ha="center", va="bottom", fontsize=8, color=MUTED)
        offsets = (np.arange(len(scores)) - (len(scores) - 1) / 2) * SPREAD / max(1, len(scores) - 1)
        for k, own in enumerate(scores.values()):
            colour = COLOURS[k % len(COLOURS)]
            for row, case in enumerate(order):
                values = own.get(case, [])
                if values:
                    at = row + offsets[k]
                    axes.plot([min(values), max(values)], [at, at], color=colour, lw=1.2, alpha=0.5, zorder=2)
                    axes.plot(values, [at] * len(values), "o", color=colour, ms=4.2, mew=0, alpha=0.85, zorder=3)
        axes.set(xlim=(-0.01, 1), ylim=(len(order) - 0.5, -0.5), xlabel="Dice, mean of the patient's images")
        axes.set_yticks(range(len(order)), [f"{case}  ◆" if case in (marked or ()) else case for case in order])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=False, axis="y")
        handles: list[Line2D | Patch] = [
            Line2D([], [], marker="o", ls="", color=COLOURS[k % len(COLOURS)], label=name)
            for k, name in enumerate(scores)
        ]
        if marked is not None:
            handles.append(Line2D([], [], marker="D", ls="", ms=4, color=INK, label="two channels are the same"))
        legend(figure, handles, longest=longest)
        save_figure(figure, path)
    return order


def _span(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{one:.2f}" for one in (min(values), max(values))))


def main() -> None:
    """Draws the figure and says who is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", nargs="*", default=())
    parser.add_argument("--dataset")
    parser.add_argument("--data", nargs="*", type=Path, default=())
    options = parser.parse_args()
    figure_format(options.out)
    records = read(options.folders, options.settings, options.dataset)
    scores = scores_of(records)
    marked = equal_channels(records[0]["cell"]["dataset"], options.data) if options.data else None
    order = draw(scores, options.out, marked)
    print(f"{options.out}: {len(order)} patients, {len(records)} trainings")
    for name, own in scores.items():
        low = [case for case in order if case in own and np.mean(own[case]) < MISSED]
        told = "" if marked is None else f", {len(marked.intersection(low))} of them with two equal channels"
        print(f"{name}: {len(low)} of {len(own)} have a Dice below {MISSED}{told}")
    for case in (one for one in order if any(min(own.get(one, [1.0])) < MISSED for own in scores.values())):
        each = (f"{name} {_span(own[case])}" for name, own in scores.items() if case in own)
        print(f"{case}, missed in some trainings: {'; '.join(each)}")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
