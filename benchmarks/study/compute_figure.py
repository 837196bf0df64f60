"""The picture of accuracy for compute: scores over GFLOP, with the upper edge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from benchmarks.study.accuracy import AXES, METRICS, Series, by_judged, on_the_edge
from benchmarks.study.figures import COLOURS
from pixelseg_agents.evaluation.figures import save_figure

MARKERS = "osD^vPX*<>"
EDGE: dict[str, Any] = {"color": "#a8a8a8", "linewidth": 3, "alpha": 0.7}
WIDTH, HEIGHT, LINE = 4.0, 2.7, 0.19  # of a panel, and of a line of the legend, inches
LABELS = {"DICE": "Dice", "BIoU": "BIoU", "HD95": "HD95, pixels (axis turned)"}
LEAST = 10.0  # between the ends of an axis of costs
APART = 7.0  # points between what cost the same
TALLER, FAINT = 2.0, 0.2  # panels of many series, and their earlier looks
MANY = 8  # series
FEW = 4  # looks, up to which every one has its number; of more, the first and the last
Style = dict[str, Any]


def draw(found: Sequence[Series], path: Path) -> None:
    """Draws a row of panels for each kind of cost, a column for each metric; a block of rows for what was judged alike.

    Colours are agents (of few series, these), markers settings; networks that learnt from labels are hollow. Looks of
    one training are joined, and numbered; whiskers are the range of the seeds. What cost the same stands side by side.
    Of many series the earlier looks are faint, and have no numbers: they would hide the last ones.

    Args:
        found: the series.
        path: of the picture.
    """
    judged = by_judged(found)  # one series by itself is above and below nothing
    groups = {key: group for key, group in judged.items() if len(group) > 1} or judged
    heights = [
        HEIGHT * len(AXES) * (TALLER if _many(group) else 1) + LINE * (2 + (len(group) + 2) // 2)
        for group in groups.values()
    ]
    figure = Figure(figsize=(WIDTH * len(METRICS), sum(heights)), layout="constrained")
    blocks = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for block, ((dataset, said, _), group) in zip(blocks, groups.items(), strict=True):
        block.suptitle(f"{dataset}, {said}", fontsize="medium", fontweight="bold")
        styles = _styles(group)
        panels = block.subplots(len(AXES), len(METRICS), squeeze=False)
        for row, axis in zip(panels, AXES, strict=True):
            for axes, metric in zip(row, METRICS, strict=True):
                _panel(axes, group, styles, axis, metric)
        handles = [Line2D([], [], label=one.name, **style) for one, style in zip(group, styles, strict=True)]
        if _many(group):  # an agent's together, the cheapest first
            handles.sort(key=lambda handle: str(handle.get_label()).partition(":")[0])
        handles.append(Line2D([], [], label="upper edge: nothing as cheap is as good", **EDGE))
        if _many(group):
            handles.append(Line2D([], [], label="faint: earlier looks", color="black", alpha=FAINT, linewidth=1.2))
        block.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    save_figure(figure, path)


def _many(group: Sequence[Series]) -> bool:
    """Whether a colour each would tell them apart no more; an agent has one then."""
    return len(group) >= MANY


def _styles(group: Sequence[Series]) -> list[Style]:
    agents, used = list(dict.fromkeys(one.agent for one in group)), Counter[str]()
    styles = []
    for number, one in enumerate(group):
        colour = COLOURS[(agents.index(one.agent) if _many(group) else number) % len(COLOURS)]
        marker = MARKERS[used[colour] % len(MARKERS)]
        used[colour] += 1
        face = "white" if one.supervised else colour
        styles.append({"color": colour, "marker": marker, "markerfacecolor": face, "markersize": 6, "linewidth": 1.2})
    return styles


def _panel(axes: Axes, group: Sequence[Series], styles: Sequence[Style], axis: str, metric: str) -> None:
    """One score over one cost."""
    best = on_the_edge(group, axis, metric)
    costs = [point.cost[axis] for one in group for point in one.points]
    margin = max(1.4, (LEAST * min(costs) / max(costs)) ** 0.5)
    left, right = min(costs) / margin, max(costs) * margin
    x = [point.cost[axis] for _, point in best]
    y = [point.scores[metric][0] for _, point in best]
    axes.step([*x, right], [*y, *y[-1:]], where="post", zorder=1, **EDGE)
    for one, style, aside in zip(group, styles, _aside(group), strict=True):
        _series(axes, one, style, axis, metric, aside, _many(group))
    axes.set_xscale("log")
    axes.set(xlim=(left, right), ylim=_ends(group, metric), xlabel=AXES[axis][0], ylabel=LABELS[metric])
    wide = right / left > 100  # two decades need no more than their powers of ten
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / AXES[axis][1]:,.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _series(axes: Axes, one: Series, style: Style, axis: str, metric: str, aside: float, many: bool) -> None:
    """The looks of one training, moved aside by some points where another one cost the same."""
    points = [point for point in one.points if metric in point.scores]
    shown = [i for i in range(len(points)) if len(points) <= FEW or i in (0, len(points) - 1)]
    x = [point.cost[axis] for point in points]
    y, low, high = (list(values) for values in zip(*(point.scores[metric] for point in points), strict=True))
    moved = axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
    if many:
        axes.plot(x, y, zorder=2, transform=moved, markevery=shown, **style | {"alpha": FAINT, "markersize": 4})
        shown = shown[-1:]
        axes.plot(x[-1:], y[-1:], zorder=3, transform=moved, **style)
    else:
        axes.plot(x, y, zorder=3, transform=moved, markevery=shown, **style)
    for i in shown:
        if one.seeds > 1:
            axes.vlines(x[i], low[i], high[i], color=style["color"], linewidth=0.8, alpha=0.6, transform=moved)
        if len(one.points) > 1 and not many:
            place, text = (aside + (-9 if aside < 0 else 5), 3), str(points[i].look)
            axes.annotate(text, (x[i], y[i]), place, textcoords="offset points", fontsize=7, color=style["color"])


def _ends(group: Sequence[Series], metric: str) -> tuple[float, float]:
    """Of the axis of a score, so that up is better; marks that are moved aside do not stretch it by themselves."""
    scores = [point.scores[metric] for one in group for point in one.points if metric in point.scores]
    least, most = min(low for _, low, _ in scores), max(high for *_, high in scores)
    margin = 0.06 * (most - least) or 0.01
    ends = least - margin, most + margin
    return ends if METRICS[metric] > 0 else (ends[1], ends[0])


def _aside(group: Sequence[Series]) -> list[float]:
    """How far each series is moved, in points: those that cost the same stand side by side."""
    costs = [tuple(round(value, 3) for value in one.points[0].cost.values()) for one in group]
    seen = Counter[tuple[float, ...]]()
    found = []
    for cost in costs:
        found.append(APART * (seen[cost] - (costs.count(cost) - 1) / 2))
        seen[cost] += 1
    return found
