"""Pictures of single images: the steps of an episode, best to worst case, right and wrong pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from pixelseg_agents.evaluation import EvaluationResult
from pixelseg_agents.evaluation.figures.style import (
    DPI,
    MUTED,
    RGB,
    STYLE,
    WIDTH,
    hex_code,
    legend,
    legend_columns,
    save_figure,
    shortened,
)
from pixelseg_agents.evaluation.judging import as_judged
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

RIGHT = (240, 240, 240)
LOOKED = "#F0E442"  # Okabe and Ito's yellow, which nothing else has


def step_figure(
    images: NDArray[np.float32],
    targets: NDArray[np.uint8],
    segmentations_by_step: NDArray[np.uint8],
    out_path: str | Path,
    titles: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    windows: NDArray[np.float32] | None = None,
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
        windows: float32 (N, T, K, 3), what the agent looked at in each step, see `Look.squares`; None: whole images.

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
    rows = _step_panels(images, targets, segmentations_by_step, shown, factor)
    canvas, lefts, tops, gap = _mosaic(rows)
    cell_h, cell_w = height * factor, width * factor

    with matplotlib.rc_context(STYLE):
        figure, axis = _picture(canvas, margin + cell * (len(shown) + 1), left=margin, top=0.26, entries=5)
        above = -0.35 * gap
        for column, left in enumerate(lefts):
            label = "image" if column == 0 else f"t = {shown[column - 1]}"
            axis.text(left + cell_w / 2, above, label, ha="center", va="bottom", fontsize=8.5)
        for i, looks in enumerate(windows if windows is not None else ()):
            for column, step in enumerate(shown):
                place = lefts[column + 1], tops[2 * i + 1], cell_w, cell_h
                for window in looks[step - 1]:
                    axis.add_patch(window_frame(window, factor, place))
        for i, title in enumerate(titles or ()):
            middle = tops[2 * i] + cell_h + gap / 2
            label = "\n".join(shortened(line, 24) for line in title.split("\n"))
            axis.text(
                -0.8 * gap, middle, label, ha="right", va="center", rotation=90, fontsize=8.0, color=MUTED,
                multialignment="center",
            )  # fmt: skip
        legend(
            figure,
            [
                Patch(facecolor="white", edgecolor="#999999", label="kept"),
                Patch(facecolor=hex_code(map_panel(np.zeros((1, 1), np.uint8))[0, 0]), label="zeroed"),
                Patch(facecolor=hex_code(CHANGED), label="changed in this step"),
                Line2D([], [], color=hex_code(SEGMENTATION), linewidth=2, label="segmentation"),
                Line2D([], [], color=hex_code(TARGET), linewidth=2, label="ground truth"),
                *([] if windows is None else [Line2D([], [], color=LOOKED, linewidth=1.4, label="looked at")]),
            ],
        )
        save_figure(figure, out_path)


def window_frame(window: NDArray[np.float32], factor: int, place: tuple[float, float, int, int]) -> Rectangle:
    """The part of a window that lies in a panel, as a frame just inside of it."""
    left, top, width, height = place
    first, start, side = (float(value) * factor for value in window)
    inset = width / 100
    begin = max(start, inset), max(first, inset)
    end = min(start + side, width - inset), min(first + side, height - inset)
    corner = left + begin[0], top + begin[1]
    return Rectangle(corner, end[0] - begin[0], end[1] - begin[1], fill=False, edgecolor=LOOKED, linewidth=1.4)


def _step_panels(images: Any, targets: Any, maps_by_step: Any, shown: Sequence[int], factor: int) -> list[list[RGB]]:
    """Two rows per image: it and its maps with what changed, and below them the contours."""
    rows: list[list[RGB]] = []
    for image, target, later in zip(images, targets, maps_by_step, strict=True):
        maps = np.concatenate([np.ones((1, *target.shape), np.uint8), later])
        nothing = np.zeros_like(target)
        changes = (enlarge(map_panel(maps[t], maps[t - 1]), factor) for t in shown)
        outlines = (contour_panel(image, maps[t], target, factor) for t in shown)
        rows.append([enlarge(to_rgb(image), factor), *changes])
        rows.append([contour_panel(image, nothing, target, factor), *outlines])
    return rows


def _mosaic(rows: Sequence[Sequence[RGB]]) -> tuple[RGB, list[int], list[int], int]:
    """Panels of one size on a white canvas, rows in pairs.

    Returns:
        The canvas; the left edge of each column and the top edge of each row; and the gap between columns, in pixels.
    """
    cell_h, cell_w = rows[0][0].shape[:2]
    gap = cell_w // 20
    lefts = [column * (cell_w + gap) for column in range(len(rows[0]))]
    tops = [row * (cell_h + gap) + (row // 2) * 2 * gap for row in range(len(rows))]
    canvas = np.full((tops[-1] + cell_h, lefts[-1] + cell_w, 3), 255, np.uint8)
    for panels, top in zip(rows, tops, strict=True):
        for panel, left in zip(panels, lefts, strict=True):
            canvas[top : top + cell_h, left : left + cell_w] = panel
    return canvas, lefts, tops, gap


def case_figure(result: EvaluationResult, dataset: SegmentationDataset, out_path: str | Path) -> None:
    """Draws the best, the median and the worst image by Dice after the last step, on the pixels they were judged on.

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

    images, masks, maps = as_judged(result, dataset, [int(index) for index in chosen.values()])
    height, width = masks.shape[1:]
    factor = enlargement(height, width, least=320)
    cell_h, cell_w = height * factor, width * factor
    gap = cell_w // 24
    canvas = np.full((3 * cell_h + 2 * gap, 3 * cell_w + 2 * gap, 3), 255, np.uint8)
    for column, (image, mask, steps) in enumerate(zip(images, masks, maps, strict=True)):
        panels = (
            enlarge(to_rgb(image), factor),
            contour_panel(image, np.zeros_like(mask), mask, factor),
            enlarge(right_and_wrong(image, mask, steps[-1]), factor),
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
                shortened(where, 32), (middle, 0), (0, 4), textcoords="offset points", ha="center",
                fontsize=7.5, color=MUTED,
            )  # fmt: skip
        for row, name in enumerate(("image", "ground truth", "prediction")):
            middle = row * (cell_h + gap) + cell_h / 2
            axis.text(-gap / 2, middle, name, ha="right", va="center", rotation=90, fontsize=8.5, color=MUTED)
        legend(figure, right_and_wrong_legend())
        save_figure(figure, out_path)


def right_and_wrong_legend() -> list[Patch]:
    """The colours of `right_and_wrong` for a legend; white has an outline, for it stands on white."""
    marks = {"found": RIGHT, "too much": SEGMENTATION, "missed": TARGET}
    return [Patch(facecolor=hex_code(colour), edgecolor="#999999", label=label) for label, colour in marks.items()]


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
    bottom = 0.2 + 0.22 * -(-entries // legend_columns(width, entries))
    inner = width - left - 0.06
    tall = inner * canvas.shape[0] / canvas.shape[1]
    height = tall + top + bottom
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((left / width, bottom / height, inner / width, tall / height))
    axis.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0), interpolation="antialiased", aspect="auto")
    axis.set_axis_off()
    return figure, axis
