"""The figure of what an agent that looks closer does, from a record of `benchmarks.study.seeing`."""

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

from pixelseg_agents.evaluation.figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    STYLE,
    VERMILLION,
    hex_code,
    save_figure,
)
from pixelseg_env.rendering import CHANGED, TARGET

LOOKS = (PURPLE, GREEN, "#E69F00", "#000000")
FEW = 30  # pixels of a bin that says nothing
REST = "#d9d9d9"  # background that is kept
SIZE = (11.0, 3.9)  # inches
SPREAD = 0.13  # from a group's middle to each of its scores
SCORES = {"dice": ("Dice", BLUE, "o", -SPREAD), "biou": ("BIoU", VERMILLION, "s", SPREAD)}


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draws calibration, what is kept by look, and what the second look gains.

    Args:
        record: of `seeing`.
        path: the figure; its ending chooses the format.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, wspace=0.04)  # type: ignore[union-attr,call-arg]
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.0, 0.9, 1.5))
        _calibration(left, record["looks"])
        _kept(middle, record)
        _gains(right, record)
        save_figure(figure, path)


def _calibration(axes: Axes, looks: list[dict[str, Any]]) -> None:
    """The share of object among pixels, by the probability with which they are kept."""
    axes.axvspan(0.5, 1, color="#f4f4f4", zorder=0)
    axes.text(0.985, 0.02, "kept", ha="right", color=MUTED, fontsize=8.0)
    axes.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1.0, linestyle=(0, (4, 3)))
    for t, look in enumerate(looks):
        pixels, chance, right = np.array(look["bins"]).T
        there = pixels >= FEW
        axes.plot(
            chance[there] / pixels[there], right[there] / pixels[there], color=LOOKS[t % len(LOOKS)], linewidth=1.6,
            marker="o", markersize=3.8, label=f"look {t + 1}, calibration error {look['error_of_kept']:.2f}",
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of keeping a pixel", ylabel="share that is object")
    axes.set_title("Is it as sure as it is right?")
    axes.legend(loc="upper left", fontsize=7.5, handlelength=1.4)


def _kept(axes: Axes, record: Mapping[str, Any]) -> None:
    """How much of the images is left after each look, and what of the object is lost, of all pixels together."""
    images, looks = record["images"], range(len(record["looks"]))
    size = np.array(images["size"])
    kept, found = (100 * np.array(one) for one in (images["kept"], np.array(images["found"]) * size[:, None]))
    lost = 100 * np.cumsum(np.array(images["lost"]) * size[:, None], axis=1)
    whole, right, away = kept.mean(0), found.mean(0), lost.mean(0)
    axes.bar(looks, right, 0.6, color=hex_code(TARGET))
    axes.bar(looks, whole - right, 0.6, bottom=right, color=REST)
    axes.bar(looks, -away, 0.6, color=hex_code(CHANGED))
    axes.axhline(0, color=INK, linewidth=0.8)
    room = 0.02 * (whole.max() + away.max())
    for t in looks:
        axes.text(t, whole[t] + room, f"{whole[t]:.1f} %", ha="center", fontsize=8.0)
        part = f"{100 * right[t] / whole[t]:.0f} % of it\nobject" if whole[t] else ""
        axes.text(t, right[t] / 2, part, ha="center", va="center", fontsize=7.5)
        gone = f"{away[t] / max(1e-9, size.mean()):.0f} % of the object"
        axes.text(t, -away[t] - room, gone, ha="center", va="top", fontsize=7.5)
    axes.set(
        ylim=(-away.max() - 6 * room, 1.5 * whole.max()),
        xlim=(-0.6, len(looks) - 0.4),
        xticks=list(looks),
        ylabel="% of the image",
    )
    axes.set_xticklabels([f"look {t + 1}" for t in looks])
    axes.set_title("What is left after a look")
    final = all(run["transition"] == "absorbing" for run in record["runs"])
    colours = {"object": hex_code(TARGET), "background": REST}
    colours["lost for good" if final else "lost so far"] = hex_code(CHANGED)
    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    axes.legend(handles=handles, loc="upper right", fontsize=7.5, handlelength=1.0, labelspacing=0.3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")


def _gains(axes: Axes, record: Mapping[str, Any]) -> None:
    """What the second look gains over the first, by number of lesions and by size, over images and on the mean."""
    groups, images = record["gain"], record["images"]
    draws = np.random.default_rng(0)
    gained = {key: np.diff(np.array(images[key])[:, :2], axis=1)[:, 0] for key in SCORES}
    for x, name in enumerate(groups):
        chosen = members(record, name)
        for key, (_, colour, marker, beside) in SCORES.items():
            values = gained[key][chosen]
            places = x + beside + draws.uniform(-0.07, 0.07, len(values))
            axes.scatter(places, values, s=5, color=colour, alpha=0.22, linewidth=0, zorder=2)
            mean, low, high = groups[name][key]
            if low is not None:
                axes.plot([x + beside] * 2, [low, high], color=colour, linewidth=2.2, zorder=3, solid_capstyle="butt")
            axes.plot(x + beside, mean, marker, color=colour, markeredgecolor="white", markersize=7, zorder=4)
    axes.axhline(0, color=INK, linewidth=0.8)
    for edge in (0.5, 0.5 + sum("lesion" in name or "more" in name for name in groups)):
        axes.axvline(edge, color="#dddddd", linewidth=0.8)
    spread = np.concatenate(list(gained.values()))
    low, high = np.quantile(spread, (0.01, 0.99))
    axes.set(ylim=(min(-0.05, 1.15 * low), max(0.05, 1.15 * high)), xlim=(-0.5, len(groups) - 0.5), ylabel="gain")
    axes.set_xticks(range(len(groups)))
    axes.set_xticklabels([f"{name}\n{group['images']}" for name, group in groups.items()], fontsize=7.8)
    axes.grid(visible=False, axis="x")
    axes.set_title("What the second look gains")
    axes.set_xlabel("by pieces and size of the object; number of images")
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=2.2, markersize=6, label=f"{name}, with 95 % interval")
        for name, colour, marker, _ in SCORES.values()
    ]
    axes.legend(handles=handles, loc="upper right", ncols=2, fontsize=7.5, handlelength=1.4)


def members(record: Mapping[str, Any], name: str) -> Any:
    """The images of a group of `gain`, bool (N,)."""
    count, size = (np.array(record["images"][key]) for key in ("lesions", "size"))
    if name in ("1 lesion", "2 lesions"):
        return count == int(name[0])
    if name == "3 or more":
        return count > 2
    if name == "all":
        return count >= 0
    ends = [0.0, *(record["gain"][one]["largest"] for one in ("small", "middle", "large") if one in record["gain"])]
    names = [one for one in ("small", "middle", "large") if one in record["gain"]]
    k = names.index(name)
    return (count > 0) & (size > ends[k]) & (size <= ends[k + 1])
