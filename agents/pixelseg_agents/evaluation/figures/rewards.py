"""What rewards do to an agent: return beside Dice, and its masks, a row for each reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pixelseg_agents.evaluation.comparing import RewardResult
from pixelseg_agents.evaluation.figures.pictures import right_and_wrong, right_and_wrong_legend
from pixelseg_agents.evaluation.figures.style import BLUE, INK, MUTED, STYLE, VERMILLION, WIDTH, legend, save_figure

MOST_STEPS = 4
RETURN, DICE = VERMILLION, BLUE
ROW, TOP, LEGEND = 1.5, 0.25, 0.56  # inches


def rewards_figure(
    results: Sequence[RewardResult], images: NDArray[np.float32], targets: NDArray[np.uint8], out_path: str | Path
) -> None:
    """Draws, for each reward, how return and Dice went and how the first seed's agent segments.

    A thin line is a seed, the thick one their mean. The masks are the steps of the first image, and then the last step
    of the others.

    Args:
        results: one for each reward, with maps of the same N images.
        images: float32 (N, C, H, W).
        targets: uint8 (N, H, W).
        out_path: the figure; its ending chooses the format.
    """
    horizon = results[0].runs[0].maps.shape[1]
    steps = [int(t) for t in np.unique(np.linspace(1, horizon, MOST_STEPS).round())]
    shown = [(0, t) for t in steps] + [(k, horizon) for k in range(1, len(images))]
    with matplotlib.rc_context(STYLE):
        height = ROW * len(results) + TOP + LEGEND
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        place = (0, LEGEND / height, 1, 1 - (LEGEND + TOP) / height)
        figure.get_layout_engine().set(rect=place, w_pad=0.03, hspace=TOP / ROW)  # type: ignore[union-attr,call-arg]
        rows = figure.subplots(len(results), 2 + len(shown), squeeze=False, width_ratios=[2.2, 2.2, *[1] * len(shown)])
        for number, (axes, result) in enumerate(zip(rows, results, strict=True)):
            last = number == len(results) - 1
            _curves(axes[0], result, "returns", RETURN, result.perfect_return, last)
            _curves(axes[1], result, "dice", DICE, result.kept_dice, last)
            axes[1].set_ylim(0, 1)
            for axis, name in ((axes[0], "return"), (axes[1], "Dice")):
                axis.set_title(name, fontsize=8, color=MUTED, pad=3)
            # Not a title of the row's own: subfigures would not keep their panels in line.
            above = {"textcoords": "offset points", "xycoords": "axes fraction", "fontweight": "bold", "fontsize": 9.5}
            axes[0].annotate(_title(result), (0, 1), (0, 17), color=INK, **above).set_in_layout(False)
            for axis, (k, t) in zip(axes[2:], shown, strict=True):
                axis.imshow(right_and_wrong(images[k], targets[k], result.runs[0].maps[k, t - 1]))
                axis.set_axis_off()
                name = f"t = {t}" if k == 0 else f"image {k + 1}"
                axis.set_title(name, fontsize=8, loc="center", color=MUTED, pad=3)
        lines = [
            Line2D([], [], color=RETURN, linewidth=1.8, label="return"),
            Line2D([], [], color=RETURN, linewidth=1, linestyle="--", label="of a perfect one"),
            Line2D([], [], color=DICE, linewidth=1.8, label="Dice"),
            Line2D([], [], color=DICE, linewidth=1, linestyle="--", label="keep everything"),
        ]
        legend(figure, [*lines, *right_and_wrong_legend()])
        save_figure(figure, out_path)


def _title(result: RewardResult) -> str:
    count, collapsed = len(result.runs), sum(result.collapsed)
    parts = [result.reward]
    if collapsed:
        parts.append(f"{collapsed} of {count} collapsed")
    if any(result.paid_better_than_perfect):
        parts.append("earns more than a perfect segmentation")
    return "   ·   ".join(parts)


def _curves(axis: Axes, result: RewardResult, what: str, colour: str, level: float, labelled: bool) -> None:
    """Thin lines of seeds, their mean, and a level to compare with."""
    curves = np.array([getattr(run, what) for run in result.runs])
    updates = result.runs[0].updates
    axis.axhline(level, color=colour, linewidth=1, linestyle="--", alpha=0.8)
    if len(curves) > 1:
        axis.plot(updates, curves.T, color=colour, linewidth=0.6, alpha=0.4)
    axis.plot(updates, curves.mean(axis=0), color=colour, linewidth=1.8)
    axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axis.margins(x=0.02)
    if labelled:
        axis.set_xlabel("updates", fontsize=8)
    else:
        axis.tick_params(labelbottom=False)
