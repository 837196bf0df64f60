"""A loophole beside the episode that a reward should pay best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pixelseg_agents.evaluation.figures.pictures import RIGHT, right_and_wrong_legend
from pixelseg_agents.evaluation.figures.style import INK, MUTED, STYLE, WIDTH, hex_code, legend, save_figure
from pixelseg_env.dynamics import decided
from pixelseg_env.rendering import SEGMENTATION, TARGET
from pixelseg_env.rewards import Loophole, Played

COLOURS = "PRGn"  # green is earned, purple is lost; blue and orange are taken
NOTHING = (40, 44, 52)
PALETTE = np.array([NOTHING, SEGMENTATION, TARGET, RIGHT], np.uint8)  # by 2 target + map
CELL = 0.86  # inches; at most, so that short episodes do not make a huge picture


def loophole_figure(loophole: Loophole, title: str, out_path: str | Path) -> None:
    """Draws the maps of both episodes step by step, and below each what its pixels earned.

    Args:
        loophole: the two.
        title: what earns.
        out_path: the figure; its ending chooses the format.
    """
    steps = len(loophole.played.rewards)
    largest = max(float(np.abs(one.rewards).max()) for one in (loophole.played, loophole.honest)) or 1.0
    parts = (
        ("The loophole", loophole.played, loophole.earned),
        ("Segmenting at once", loophole.honest, loophole.deserved),
    )
    width = min(WIDTH, 1.9 + CELL * (steps + 1))
    cell = (width - 0.9) / (steps + 1)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(max(width, 5.2), 4 * cell + 2.15), layout="constrained")
        figure.get_layout_engine().set(rect=(0, 0.07, 1, 0.93), h_pad=0.03, w_pad=0.03)  # type: ignore[union-attr,call-arg]
        figure.suptitle(title, x=0.02, ha="left", fontsize=10.5, fontweight="bold", color=INK)
        bands: Any = figure.subfigures(2, 1, hspace=0.04)
        for band, (name, played, earned) in zip(bands, parts, strict=True):
            dice = float(played.dice[0])
            band.suptitle(
                f"{name}: {earned:.3g} a pixel, Dice {dice:.2f} in the end", x=0.02, ha="left", fontsize=9.5, color=INK
            )
            axes = band.subplots(2, steps + 1, squeeze=False)
            shades = _episode(axes, played, largest)
            bar = band.colorbar(shades, ax=axes[1].tolist(), fraction=0.04, pad=0.01, aspect=12)
            bar.outline.set_visible(False)  # type: ignore[operator]
            bar.ax.tick_params(labelsize=7)
        about = Patch(facecolor=hex_code(NOTHING), edgecolor="#999999", label="background")
        legend(figure, [*right_and_wrong_legend(), about])
        save_figure(figure, out_path)


def _episode(axes: Any, played: Played, largest: float) -> Any:
    """Two rows: maps, and rewards; returns what the colour bar belongs to."""
    target, shades = played.target[0], None
    for t, maps in enumerate(played.maps[:, 0]):
        _bare(axes[0, t]).imshow(PALETTE[2 * target + decided(maps)])
        axes[0, t].set_title("start" if t == 0 else f"t = {t}", fontsize=8, loc="center", color=MUTED, pad=3)
        _bare(axes[1, t])
        if t:
            rewards = played.rewards[t - 1, 0]
            shades = axes[1, t].imshow(rewards, cmap=COLOURS, vmin=-largest, vmax=largest)
            axes[1, t].set_xlabel(f"{rewards.mean():+.2f}", fontsize=8, color=MUTED, labelpad=2)
    axes[1, 0].text(
        0.5, 0.5, "earned", ha="center", va="center", fontsize=8, color=MUTED, transform=axes[1, 0].transAxes
    )
    axes[1, 0].set_frame_on(False)
    return shades


def _bare(axis: Axes) -> Axes:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color="#dddddd")
    return axis
