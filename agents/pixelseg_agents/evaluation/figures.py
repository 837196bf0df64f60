"""The figures of a run: learning curve, the steps of single images, best to worst case, Dice by step.

matplotlib without pyplot, so nothing here opens a window or touches a caller's figures. Every file is
written under a temporary name and renamed. Colours are Okabe and Ito's, safe for colour-blind readers,
and those of the environment's own frames: segmentation orange, ground truth blue, changed pixels red.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pixelseg_agents.evaluation import EvaluationResult
from pixelseg_agents.files import write_atomically
from pixelseg_env import DataError, SegmentationDataset
from pixelseg_env.rendering import (
    CHANGED,
    SEGMENTATION,
    TARGET,
    contour_panel,
    enlarge,
    enlargement,
    map_panel,
    to_rgb,
)

RGB = NDArray[np.uint8]
Floats = NDArray[np.float64]

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
LINES = (BLUE, VERMILLION, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")
INK, MUTED = "#222222", "#6b6b6b"
WIDTH = 9.0  # inches: text of 8 points stays legible in a README of 900 pixels
DPI = 200
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: one look on every machine
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#bbbbbb",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}

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


def step_figure(
    images: NDArray[np.float32],
    targets: NDArray[np.uint8],
    segmentations_by_step: NDArray[np.uint8],
    out_path: str | Path,
    titles: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
) -> None:
    """Draws how up to four images are segmented step by step, after the publication's Fig. 4.

    Two rows an image. Above: the image, then the map after each step, with the pixels changed in that
    step in red. Below: the ground truth's contour, then the segmentation's contour after each step.

    Args:
        images: float32 (N, C, H, W) in [0, 1], N of 1 to 4.
        targets: uint8 (N, H, W) of 0 and 1.
        segmentations_by_step: uint8 (N, T, H, W), f(1) to f(T); f(0) is 1 everywhere.
        out_path: the figure; its ending chooses the format.
        titles: N labels for the rows, of one or more lines; of a long line the end is shown.
        steps: the steps to show, from 1 to T; all by default, or ten spread evenly if there are more.

    Raises:
        DataError: the arrays do not fit together, or a step is out of range.
    """
    count, horizon = segmentations_by_step.shape[:2]
    if not (1 <= count <= 4 and images.shape[0] == count and targets.shape == (count, *images.shape[2:])):
        raise DataError(
            f"step_figure: expected 1 to 4 images (N, C, H, W), targets (N, H, W) and segmentations (N, T, H, W), "
            f"got {images.shape}, {targets.shape} and {segmentations_by_step.shape}"
        )
    shown = list(steps) if steps is not None else [int(t) for t in np.unique(np.linspace(1, horizon, 10).round())]
    if not shown or min(shown) < 1 or max(shown) > horizon:
        raise DataError(f"step_figure: steps must lie in 1 to {horizon}, got {shown}")

    height, width = targets.shape[1:]
    margin = 0.1 + 0.16 * max((title.count("\n") + 1 for title in titles or ()), default=0)
    cell = min(1.5, (WIDTH - margin) / (len(shown) + 1))  # inches; few steps make a narrow figure, not a huge one
    factor = enlargement(height, width, least=int(cell * DPI))
    rows: list[list[RGB]] = []
    for i in range(count):
        maps = np.concatenate([np.ones((1, height, width), np.uint8), segmentations_by_step[i]])
        rows.append(
            [
                enlarge(to_rgb(images[i]), factor),
                *(enlarge(map_panel(maps[t], maps[t - 1]), factor) for t in shown),
            ]
        )
        rows.append(
            [
                contour_panel(images[i], np.zeros_like(targets[i]), targets[i], factor),
                *(contour_panel(images[i], maps[t], targets[i], factor) for t in shown),
            ]
        )

    cell_h, cell_w = height * factor, width * factor
    gap = cell_w // 20
    lefts = [column * (cell_w + gap) for column in range(len(shown) + 1)]
    tops = [row * (cell_h + gap) + (row // 2) * 2 * gap for row in range(2 * count)]
    canvas = np.full((tops[-1] + cell_h, lefts[-1] + cell_w, 3), 255, np.uint8)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            canvas[top : top + cell_h, left : left + cell_w] = rows[row][column]

    with matplotlib.rc_context(STYLE):
        figure, axis = _picture(canvas, margin + cell * (len(shown) + 1), left=margin, top=0.26, entries=5)
        above = -0.35 * gap
        for column, left in enumerate(lefts):
            label = "image" if column == 0 else f"t = {shown[column - 1]}"
            axis.text(left + cell_w / 2, above, label, ha="center", va="bottom", fontsize=8.5)
        for i, title in enumerate(titles or ()):
            middle = tops[2 * i] + cell_h + gap / 2
            label = "\n".join(_shortened(line, 24) for line in title.split("\n"))
            axis.text(
                -0.8 * gap, middle, label, ha="right", va="center", rotation=90, fontsize=8.0, color=MUTED,
                multialignment="center",
            )  # fmt: skip
        _legend(
            figure,
            [
                Patch(facecolor="white", edgecolor="#999999", label="kept"),
                Patch(facecolor=_hex(map_panel(np.zeros((1, 1), np.uint8))[0, 0]), label="zeroed"),
                Patch(facecolor=_hex(CHANGED), label="changed in this step"),
                Line2D([], [], color=_hex(SEGMENTATION), linewidth=2, label="segmentation"),
                Line2D([], [], color=_hex(TARGET), linewidth=2, label="ground truth"),
            ],
        )
        save_figure(figure, out_path)


def case_figure(result: EvaluationResult, dataset: SegmentationDataset, out_path: str | Path) -> None:
    """Draws the best, the median and the worst image by Dice after the last step.

    Rows: the image; the ground truth's contour; right and wrong pixels of the prediction. Images without
    any object are left out of the choice, unless there are no others: an empty mask is no feat.

    Args:
        result: an evaluation that kept its maps.
        dataset: the data set that it ran on.
        out_path: the figure; its ending chooses the format.

    Raises:
        DataError: the result belongs to another data set.
        OptionError: the result holds no maps.
    """
    if tuple(dataset.cases) != result.cases or dataset.image_shape[1:] != result.shape:
        raise DataError(f"case_figure: the result on {result.dataset!r} does not belong to data set {dataset.name!r}")
    scores = result.metrics["DICE"]
    candidates = np.flatnonzero(dataset.masks.any(axis=(1, 2)))
    if not len(candidates):
        candidates = np.arange(len(dataset))
    ordered = candidates[np.argsort(scores[candidates], kind="stable")]
    chosen = {"best": ordered[-1], "median": ordered[len(ordered) // 2], "worst": ordered[0]}

    height, width = result.shape
    factor = enlargement(height, width, least=320)
    cell_h, cell_w = height * factor, width * factor
    gap = cell_w // 24
    canvas = np.full((3 * cell_h + 2 * gap, 3 * cell_w + 2 * gap, 3), 255, np.uint8)
    for column, index in enumerate(chosen.values()):
        images, masks = dataset.batch([int(index)])
        panels = (
            enlarge(to_rgb(images[0]), factor),
            contour_panel(images[0], np.zeros_like(masks[0]), masks[0], factor),
            enlarge(right_and_wrong(images[0], masks[0], result.maps(int(index))[-1]), factor),
        )
        for row, panel in enumerate(panels):
            top, left = row * (cell_h + gap), column * (cell_w + gap)
            canvas[top : top + cell_h, left : left + cell_w] = panel

    with matplotlib.rc_context(STYLE):
        figure, axis = _picture(canvas, 6.6, left=0.28, top=0.46, entries=3)
        for column, (name, index) in enumerate(chosen.items()):
            middle = column * (cell_w + gap) + cell_w / 2
            where = f"{result.cases[index]}, slice {result.slices[index]}"
            axis.annotate(
                f"{name}: Dice {scores[index]:.3f}", (middle, 0), (0, 15), textcoords="offset points", ha="center"
            )
            axis.annotate(
                _shortened(where, 32), (middle, 0), (0, 4), textcoords="offset points", ha="center",
                fontsize=7.5, color=MUTED,
            )  # fmt: skip
        for row, name in enumerate(("image", "ground truth", "prediction")):
            middle = row * (cell_h + gap) + cell_h / 2
            axis.text(-gap / 2, middle, name, ha="right", va="center", rotation=90, fontsize=8.5, color=MUTED)
        _legend(figure, right_and_wrong_legend())
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


RIGHT = (240, 240, 240)


def right_and_wrong_legend() -> list[Patch]:
    """The colours of `right_and_wrong` for a legend; white has an outline, for it stands on white."""
    marks = {"found": RIGHT, "too much": SEGMENTATION, "missed": TARGET}
    return [Patch(facecolor=_hex(colour), edgecolor="#999999", label=label) for label, colour in marks.items()]


def right_and_wrong(image: NDArray[np.float32], target: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> RGB:
    """Lays white over what was found, orange over what is too much, blue over what was missed: (H, W, 3)."""
    shown = to_rgb(image).astype(np.float64) * 0.75
    for where, colour in (
        (target & prediction, RIGHT),
        (prediction & (1 - target), SEGMENTATION),
        (target & (1 - prediction), TARGET),
    ):
        flags = where.astype(bool)
        shown[flags] = 0.15 * shown[flags] + 0.85 * np.array(colour)
    return shown.astype(np.uint8)


def _read_columns(path: str | Path) -> dict[str, Floats]:
    """Reads the numeric columns that hold at least one finite value; other cells become NaN."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a progress file ({error})") from error
    columns = {}
    for name in rows[0] if rows else ():
        values = np.array([_number(row.get(name)) for row in rows])
        if name and np.isfinite(values).any():
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


def _picture(canvas: RGB, width: float, left: float, top: float, entries: int) -> tuple[Figure, Axes]:
    """A figure `width` inches wide that is one picture, with axes in its pixels.

    Args:
        canvas: uint8 (H, W, 3).
        width: of the figure, in inches.
        left: margin for text, in inches.
        top: margin for text, in inches.
        entries: of the legend; there is room for it below.

    Returns:
        The figure and its axes.
    """
    bottom = 0.2 + 0.22 * -(-entries // _legend_columns(width, entries))
    inner = width - left - 0.06
    tall = inner * canvas.shape[0] / canvas.shape[1]
    height = tall + top + bottom
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((left / width, bottom / height, inner / width, tall / height))
    axis.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0), interpolation="antialiased", aspect="auto")
    axis.set_axis_off()
    return figure, axis


def _legend(figure: Figure, handles: Sequence[Patch | Line2D]) -> None:
    figure.legend(
        handles=list(handles), loc="lower center", ncols=_legend_columns(figure.get_figwidth(), len(handles)),
        handlelength=1.2, handleheight=0.9, columnspacing=1.8, borderaxespad=0.25,
    )  # fmt: skip


def _legend_columns(width: float, entries: int) -> int:
    """As few rows as `width` inches allow, evenly filled."""
    rows = -(-entries // max(1, int(width / 1.5)))
    return -(-entries // rows)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def _hex(colour: Sequence[int] | NDArray[np.uint8]) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure, whole or not at all."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=DPI, facecolor="white")
    write_atomically(path, buffer.getvalue())
