"""The figure of how the published settings end, from a record of `benchmarks.study.saturation`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pixelseg_agents.evaluation.figures.style import BLUE, INK, STYLE, VERMILLION, save_figure

ACROSS = 3
PANEL = (3.0, 1.9)  # inches
UNDECIDED = "#dcdcdc"
CURVES = {"keep_object": BLUE, "keep_background": VERMILLION}


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draws a panel for every setting: what can still be learnt from, what is kept, and the Dice.

    Args:
        record: of `saturation`; of several seeds their means are drawn.
        path: the figure; its ending chooses the format.
    """
    settings = list(dict.fromkeys(row["setting"] for row in record["rows"]))
    down = -(-len(settings) // ACROSS)
    with matplotlib.rc_context(STYLE):
        size = (PANEL[0] * ACROSS, PANEL[1] * down + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(down, ACROSS, squeeze=False, sharex=True, sharey=True)
        for axes, setting in zip(panels.flat, settings, strict=False):
            _panel(axes, setting, [row for row in record["rows"] if row["setting"] == setting])
        for axes in panels.flat[len(settings) :]:
            axes.set_visible(False)
        for axes in panels[-1]:
            axes.set_xlabel("update")
        figure.legend(handles=_meanings(), loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
        save_figure(figure, path)


def _panel(axes: Axes, setting: str, rows: list[dict[str, Any]]) -> None:
    """One setting; updates are counted from 1, the start stands at 1 too."""
    mean = {key: np.mean([row[key] for row in rows], axis=0) for key in ("undecided", "dice", *CURVES)}
    updates = np.arange(len(mean["undecided"])) + 1
    axes.fill_between(updates, 0, mean["undecided"], color=UNDECIDED, linewidth=0)
    for key, colour in CURVES.items():
        axes.plot(updates, mean[key], color=colour, linewidth=1.4)
    played = np.arange(len(mean["dice"])) * rows[0]["every"] + 1
    axes.plot(played, mean["dice"], color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.set(xscale="log", xlim=(1, updates[-1]), ylim=(0, 1.02), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(setting, fontsize=9.0)
    scored = np.mean([row["validation_dice"] for row in rows])
    axes.set_title(f"Dice {scored:.2f}", fontsize=9.0, loc="right")


def _meanings() -> list[Any]:
    return [
        Patch(facecolor=UNDECIDED, label="pixels that can still be learnt from"),
        Line2D([], [], color=BLUE, label="probability of keeping the object"),
        Line2D([], [], color=VERMILLION, label="of keeping the background"),
        Line2D([], [], color=INK, linestyle=(0, (3, 2)), label="Dice after ten steps"),
    ]
