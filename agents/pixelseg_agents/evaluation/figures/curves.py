"""Curves: how a training went, and what each step of an episode gained."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pixelseg_agents.evaluation import EvaluationResult
from pixelseg_agents.evaluation.figures.style import (
    BLUE,
    LINES,
    MUTED,
    STYLE,
    VERMILLION,
    WIDTH,
    Floats,
    save_figure,
)
from pixelseg_env import DataError

X_COLUMNS = ("time/updates", "train/n_updates", "time/iterations", "time/total_timesteps")


def learning_curve(progress_csv_path: str | Path, out_path: str | Path) -> None:
    """Draws Dice and reward against updates, and entropy and value loss small beside them.

    Columns, each optional: `time/updates` (or `train/n_updates`, `time/iterations`,
    `time/total_timesteps`; else the row's number), `train/dice`, `eval/dice`, `train/reward` (or
    `rollout/ep_rew_mean`), `train/entropy` (or minus `train/entropy_loss`), `train/value_loss`. Empty
    and non-finite cells are left out. Training curves are drawn pale, with a running mean on top.

    Args:
        progress_csv_path: `progress.csv` as Stable-Baselines3's logger writes it.
        out_path: the figure; its ending chooses the format (png, svg, pdf).

    Raises:
        DataError: the file is missing, or has none of the columns.
    """
    columns = _read_columns(progress_csv_path)
    x_name = next((name for name in X_COLUMNS if name in columns), None)
    rows = len(next(iter(columns.values()))) if columns else 0
    x = columns[x_name] if x_name else np.arange(1.0, rows + 1)
    if "train/entropy" not in columns and "train/entropy_loss" in columns:
        columns["train/entropy"] = -columns["train/entropy_loss"]
    if "train/reward" not in columns and "rollout/ep_rew_mean" in columns:
        columns["train/reward"] = columns["rollout/ep_rew_mean"]
    large = [
        ("Dice", [("train/dice", "training", BLUE), ("eval/dice", "evaluation", VERMILLION)]),
        ("Reward", [("train/reward", "training", BLUE)]),
    ]
    small = [
        ("Entropy", [("train/entropy", "", MUTED)]),
        ("Value loss", [("train/value_loss", "", MUTED)]),
    ]
    large, small = (
        [panel for panel in group if any(name in columns for name, _, _ in panel[1])] for group in (large, small)
    )
    if not large and not small:
        raise DataError(
            f"{progress_csv_path}: nothing to draw; expected at least one of the columns train/dice, eval/dice, "
            f"train/reward, train/entropy, train/value_loss, found {', '.join(columns) or 'none'}"
        )

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        # Room at the right: the constrained layout does not count the half of the last number that sticks out.
        figure.get_layout_engine().set(rect=(0, 0, 0.985, 1))  # type: ignore[union-attr,call-arg]
        widths = [2.0] * len(large) + [1.15] * bool(small)
        grid = figure.add_gridspec(1, len(widths), width_ratios=widths, wspace=0.04)
        axes = [figure.add_subplot(grid[0, column]) for column in range(len(large))]
        if small:
            inner = grid[0, len(large)].subgridspec(len(small), 1)
            axes += [figure.add_subplot(inner[row, 0]) for row in range(len(small))]
        for panel, (axis, (title, curves)) in enumerate(zip(axes, large + small, strict=True)):
            axis.set_title(title, fontsize=10.0 if panel < len(large) else 9.0)
            for name, label, colour in curves:
                if name in columns:
                    _curve(axis, x, columns[name], label, colour, marked=name.startswith("eval/"))
            if title == "Dice":
                axis.set_ylim(0.0, 1.0)
                if len(axis.get_legend_handles_labels()[0]) > 1:
                    axis.legend(loc="lower right")
            if panel < len(large) or panel == len(axes) - 1:
                axis.set_xlabel((x_name or "row").rpartition("/")[2].replace("n_", "").replace("_", " "))
            else:
                axis.tick_params(labelbottom=False)
            axis.margins(x=0.02)
            axis.xaxis.set_major_locator(MaxNLocator(6 if panel < len(large) else 3, steps=[1, 2, 5, 10], integer=True))
            if panel >= len(large):
                axis.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        save_figure(figure, out_path)


def dice_by_step(results: Mapping[str, EvaluationResult], out_path: str | Path, metric: str = "DICE") -> None:
    """Draws the mean over images after each step, one line per result, labelled at its end.

    The band is the standard error over patients (each patient the mean of its images).

    Args:
        results: name to result.
        out_path: the figure; its ending chooses the format.
        metric: `"DICE"` or `"BIoU"`.

    Raises:
        DataError: there is no result to draw.
    """
    if not results:
        raise DataError("dice_by_step: expected at least one result, got none")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.7, 3.4), layout="constrained")
        axis = figure.add_subplot()
        ends: list[tuple[float, float, str, str]] = []
        for number, (name, result) in enumerate(results.items()):
            values = result.biou_by_step if metric == "BIoU" else result.dice_by_step
            colour = LINES[number % len(LINES)]
            t = np.arange(1, result.horizon + 1)
            mean, error = values.mean(axis=0), _standard_error(values, result.cases)
            axis.fill_between(t, mean - error, mean + error, color=colour, alpha=0.13, linewidth=0)
            axis.plot(t, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5)
            ends.append((float(t[-1]), float(mean[-1]), name, colour))
        axis.set_ylim(0.0, 1.0)
        axis.set_xlabel("step t")
        axis.set_title("Dice after each step" if metric == "DICE" else "Boundary IoU after each step")
        longest = max(result.horizon for result in results.values())
        axis.set_xticks(np.arange(1, longest + 1, max(1, longest // 10)))
        axis.set_xlim(0.8, longest + 0.2)
        for (end, value, name, colour), at in zip(ends, _spread([e[1] for e in ends], 0.06), strict=True):
            axis.annotate(
                f"{name}  {value:.2f}", (end, at), (8, 0), textcoords="offset points",
                va="center", color=colour, fontsize=8.5, annotation_clip=False,
            )  # fmt: skip
        save_figure(figure, out_path)


def compared_curves(logs: Mapping[str, str | Path], out_path: str | Path) -> None:
    """Draws the Dice of several trainings against their updates: on validation patients, and while training.

    Args:
        logs: name to `progress.csv`.
        out_path: the figure; its ending chooses the format.

    Raises:
        DataError: a file is missing, or has no Dice.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for number, (name, path) in enumerate(logs.items()):
            columns = _read_columns(path)
            x_name = next((column for column in X_COLUMNS if column in columns), None)
            if x_name is None or not {"eval/dice", "train/dice"} & columns.keys():
                raise DataError(f"{path}: has no updates with a Dice; expected the progress.csv of a run")
            for axis, column, marked in ((axes[0], "eval/dice", True), (axes[1], "train/dice", False)):
                if column in columns:
                    _curve(axis, columns[x_name], columns[column], name, LINES[number % len(LINES)], marked)
        for axis, title in zip(axes, ("Dice on validation patients", "Dice of training episodes"), strict=True):
            axis.set(title=title, xlabel="updates", ylim=(0, 1), xlim=(0, None))
        axes[0].legend(loc="lower right")
        save_figure(figure, out_path)


def _read_columns(path: str | Path) -> dict[str, Floats]:
    """Reads the numeric columns that hold at least one finite value; other cells become NaN."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a progress file ({error})") from error
    columns = {}
    for name in filter(None, rows[0] if rows else ()):  # cells beyond the header are a list, under None
        values = np.array([_number(row.get(name)) for row in rows])
        if np.isfinite(values).any():
            columns[name] = values
    return columns


def _number(cell: str | None) -> float:
    try:
        value = float(cell or "nan")
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def _curve(axis: Axes, x: Floats, y: Floats, label: str, colour: str, marked: bool) -> None:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not len(y):
        return
    if marked:  # evaluations are few and already means
        axis.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=label)
        return
    window = max(1, len(y) // 40)
    if window > 1:
        axis.plot(x, y, color=colour, linewidth=0.6, alpha=0.3)
    axis.plot(x, _running_mean(y, window), color=colour, linewidth=1.6, label=label)


def _running_mean(values: Floats, window: int) -> Floats:
    """Centred mean over up to 2 `window` - 1 values; fewer at the ends, so that they are not bent."""
    kernel = np.ones(2 * window - 1)
    weight = np.convolve(np.ones_like(values), kernel, mode="same")
    return np.convolve(values, kernel, mode="same")[: len(values)] / weight[: len(values)]


def _standard_error(values: Floats, cases: Sequence[str]) -> Floats:
    """Standard error over patients of (N, T), as (T,); zero for a single patient."""
    patients, member = np.unique(np.asarray(cases, dtype=np.str_), return_inverse=True)
    if len(patients) < 2:
        return np.zeros(values.shape[1])
    means = np.stack([values[member == patient].mean(axis=0) for patient in range(len(patients))])
    return np.asarray(means.std(axis=0, ddof=1) / np.sqrt(len(patients)))


def _spread(positions: Sequence[float], least: float) -> list[float]:
    """Moves labels apart vertically until neighbours are `least` apart, keeping their order."""
    order = np.argsort(positions, kind="stable")
    moved = np.array(positions, np.float64)[order]
    for _ in range(200):
        short = least - np.diff(moved)
        if not (short > 1e-9).any():
            break
        push = np.clip(short, 0, None) / 2
        moved[:-1] -= push
        moved[1:] += push
    result = np.empty_like(moved)
    result[order] = moved
    return [float(position) for position in result]
