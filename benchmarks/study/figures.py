"""The publication's figures from the grid's records."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.study.learners import SUBJECT
from benchmarks.study.reading import Records
from pixelseg_agents.evaluation.figures import right_and_wrong, right_and_wrong_legend, save_figure
from pixelseg_env import SegmentationDataset
from pixelseg_env.rendering import to_rgb

Drawn = list[tuple[Path, str]]
# Okabe and Ito's colours, told apart by colour-blind readers too, then darker ones of Paul Tol's; supervised learners
# are dashed.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"),
    *("#882255", "#332288", "#661100", "#999933", "#44AA99", "#DDCC77", "#AA4466", "#6699CC"),
)


def draw_all(
    records: Records,
    dataset: str,
    out: Path,
    horizons: Sequence[str],
    test: SegmentationDataset | None = None,
) -> Drawn:
    """Draws what the records allow.

    Args:
        records: of one data set.
        dataset: its name.
        out: the folder.
        horizons: settings of Fig. 7; agents that have the last alone are not in it.
        test: the test images, for Fig. 3; None: without it.

    Returns:
        Path and caption of each figure.
    """
    agents = [agent for agent in records.agents() if not records.facts(agent).reference]
    drawn: Drawn = []
    if agents:
        drawn.append(_steps(records, agents, out / f"{dataset}-steps.png"))
        drawn.append(_learning(records, agents, out / f"{dataset}-learning.png"))
    judged = [agent for agent in records.agents(None) if any(records.get(agent, one) for one in horizons[:-1])]
    if judged:
        drawn.append(_horizons(records, judged, horizons, out / f"{dataset}-t_max.png"))
    first = records.get(agents[0])[0] if agents else None
    if test is not None and first is not None and "examples" in first:
        drawn.append(_examples(records, agents, test, out / f"{dataset}-examples.png"))
    compared = [one for one in agents if one == SUBJECT.name or records.facts(one).family == "refinement"]
    if len(compared) > 1:
        drawn.append(_bars(records, compared, out / f"{dataset}-pixelrl.png"))
    return drawn


def draw(
    name: str,
    records: Records,
    agents: Sequence[str],
    path: Path,
    horizons: Sequence[str],
    test: SegmentationDataset | None = None,
) -> tuple[Path, str] | None:
    """Draws one of the publication's figures.

    Args:
        name: "examples", "carving", "bars", "learning" or "horizons".
        records: of one data set.
        agents: who is to be in it; those without records, and references, are not.
        path: where it is written.
        horizons: settings of Fig. 7.
        test: the test images, where some are shown.

    Returns:
        Path and caption; None: the records allow none.
    """
    settings = horizons if name == "horizons" else ("default",)
    present = [a for a in agents if not records.facts(a).reference and any(records.get(a, one) for one in settings)]
    if not present:
        return None
    if name == "horizons":
        return _horizons(records, present, horizons, path)
    if name in ("bars", "learning"):
        return {"bars": _bars, "learning": _learning}[name](records, present, path)
    assert test is not None
    if name == "carving":
        return _carving(records, present[0], test, path)
    return _examples(records, present, test, path)


def _steps(records: Records, agents: Sequence[str], path: Path) -> tuple[Path, str]:
    """Dice and BIoU after every step: do later steps improve the map?"""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("dice_by_step", "biou_by_step"), ("Dice", "BIoU"), strict=True):
        for agent, look in zip(agents, _looks(records, agents), strict=True):
            curves = np.array([r["test"]["summary"][key] for r in records.get(agent)])
            _curve(axes, np.arange(1, curves.shape[1] + 1), curves, records.label(agent), *look, band=False)
        axes.set(xlabel="step", ylabel=f"{label}, mean over test images")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    save_figure(figure, path)
    return path, (
        "Dice and BIoU after every step of the test episodes, means over seeds; a point is a learner that looks once. "
        "The axes do not start at 0."
    )


def _learning(records: Records, agents: Sequence[str], path: Path) -> tuple[Path, str]:
    """Fig. 6: validation Dice over the network passes."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = zip(figure.subplots(1, 2, sharey=True), ("first", "dice"), ("first", "last"), strict=True)
    for axes, key, step in panels:
        for agent, look in zip(agents, _looks(records, agents), strict=True):
            found = [r["curve"] for r in records.get(agent) if r["curve"]]
            if not found:  # one of the reader's own
                continue
            passes = np.array([point["passes"] for point in found[0]])  # seeds may be looked at a few passes apart
            curves = np.array([np.interp(passes, [p["passes"] for p in c], [p[key] for p in c]) for c in found])
            _curve(axes, passes / 1000, curves, records.label(agent), *look)
        axes.set(xlabel="network passes, thousands", title=f"after the {step} step")
    figure.axes[0].set(ylabel="Dice, validation images")
    _legend(figure)
    save_figure(figure, path)
    return path, (
        "Learning curves (the publication's Fig. 6 shows those of PA3C and PixelRL). Bands are the range of "
        "the seeds. While training plays episodes of one step, later steps have not been learnt. PixelRL's curves "
        "begin where the U-Net of its coarse maps has had its passes."
    )


def _horizons(records: Records, agents: Sequence[str], settings: Sequence[str], path: Path) -> tuple[Path, str]:
    """Fig. 7: trained with one t_max, judged after 1 to 15 steps."""
    figure = Figure(figsize=(4 * len(agents), 3.6), layout="constrained")
    for axes, agent in zip(np.atleast_1d(np.array(figure.subplots(1, len(agents), sharey=True))), agents, strict=True):
        for setting, colour in zip(settings, cycle(COLOURS), strict=False):
            if found := records.get(agent, setting):
                curves = np.array([r["test"].get("longer", r["test"]["summary"])["dice_by_step"] for r in found])
                label = f"trained at t_max {setting.removeprefix('t_max-')}"
                label = "growing t_max, the default" if setting == "default" else label
                _curve(axes, np.arange(1, curves.shape[1] + 1), curves, label, colour)
        axes.set(title=records.label(agent), xlabel="steps of the test episode", xticks=(1, 5, 10, 15))
    figure.axes[0].set(ylabel="Dice, test images")
    _legend(figure)
    save_figure(figure, path)
    caption = "Trained with one t_max, judged after 1 to 15 steps (the publication's Fig. 7)."
    return path, f"{caption} Bands are the range of the seeds."


def _bars(records: Records, agents: Sequence[str], path: Path) -> tuple[Path, str]:
    """Fig. 5: PA3C beside PixelRL."""
    metrics = ("DICE", "PPV", "SEN", "IoU", "BIoU")
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, (agent, colour) in enumerate(zip(agents, cycle(COLOURS), strict=False)):
        values = np.array([[r["test"]["summary"]["metrics"][m]["mean"] for m in metrics] for r in records.get(agent)])
        where = np.arange(len(metrics)) + (i - (len(agents) - 1) / 2) * 0.8 / len(agents)
        label, width = records.label(agent), 0.8 / len(agents)
        axes.bar(where, values.mean(0), width, yerr=_spread(values), color=colour, label=label)
    axes.set_xticks(range(len(metrics)), metrics)
    axes.set(ylabel="mean over test images")
    _legend(figure)
    save_figure(figure, path)
    return path, "PA3C beside PixelRL (the publication's Fig. 5); whiskers are standard deviations over seeds."


def _spread(values: Any) -> Any:
    """The standard deviation over seeds (n - 1)."""
    return values.std(0, ddof=1) if len(values) > 1 else None


def _examples(records: Records, agents: Sequence[str], test: SegmentationDataset, path: Path) -> tuple[Path, str]:
    """Fig. 3: what each agent makes of the same images."""
    shown = {agent: records.get(agent)[0]["examples"] for agent in agents}
    first = next(iter(shown.values()))
    figure = Figure(figsize=(1.5 * (len(agents) + 1), 1.6 * len(first) + 0.4), layout="constrained")
    grid = figure.subplots(len(first), len(agents) + 1, squeeze=False)
    for row, example in zip(grid, first, strict=True):
        images, targets = test.batch([example["index"]])
        row[0].imshow(to_rgb(images[0]))
        row[0].contour(targets[0], [0.5], colors=["#00c8ff"], linewidths=1.0)
        for axes, agent in zip(row[1:], agents, strict=True):
            same = next(one for one in shown[agent] if one["index"] == example["index"])
            axes.imshow(right_and_wrong(images[0], targets[0], _unpacked(same["map"], targets[0].shape)))
        for axes in row:
            axes.set(xticks=[], yticks=[])
    grid[0][0].set_title("image, target", fontsize="small")
    for axes, agent in zip(grid[0][1:], agents, strict=True):
        axes.set_title(records.label(agent).replace(", ", ",\n"), fontsize="small")
    marks = right_and_wrong_legend()
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize="small")
    save_figure(figure, path)
    return path, (
        "Test images (the publication's Fig. 3), seed 0, last step: of every few patients the slice with the largest "
        "object."
    )


def _carving(records: Records, agent: str, test: SegmentationDataset, path: Path) -> tuple[Path, str] | None:
    """Fig. 4: one agent's map after every step, from the whole image to the object."""
    shown = [one for one in records.get(agent)[0]["examples"] if "steps" in one]
    if not shown:
        return None
    count = len(shown[0]["steps"])
    figure = Figure(figsize=(1.5 * (count + 1), 1.6 * len(shown) + 0.4), layout="constrained")
    for row, example in zip(figure.subplots(len(shown), count + 1, squeeze=False), shown, strict=True):
        images, targets = test.batch([example["index"]])
        row[0].imshow(to_rgb(images[0]))
        row[0].contour(targets[0], [0.5], colors=["#00c8ff"], linewidths=1.0)
        for step, (axes, packed) in enumerate(zip(row[1:], example["steps"], strict=True), start=1):
            axes.imshow(right_and_wrong(images[0], targets[0], _unpacked(packed, targets[0].shape)))
            axes.set_title(f"step {step}" if row[0].get_subplotspec().is_first_row() else "", fontsize="small")
        for axes in row:
            axes.set(xticks=[], yticks=[])
    marks = right_and_wrong_legend()
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize="small")
    save_figure(figure, path)
    return path, f"{records.label(agent)}'s map after every step (the publication's Fig. 4), seed 0."


def _unpacked(packed: str, shape: tuple[int, ...]) -> Any:
    """A map from the packed bits of a record."""
    bits = np.frombuffer(base64.b64decode(packed), np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)


def _looks(records: Records, agents: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and line of each agent."""
    others, facts = cycle(COLOURS), map(records.facts, agents)
    return [(one.colour or next(others), "--" if one.supervised else "-") for one in facts]


def _curve(axes: Axes, x: Any, curves: Any, label: str, colour: str, line: str = "-", band: bool = True) -> None:
    """The mean over seeds, with the span of the seeds behind it if `band`."""
    marker, line = ("o", "") if curves.shape[1] == 1 else (None, line)
    axes.plot(x, curves.mean(0), color=colour, label=label, marker=marker, linestyle=line, linewidth=1.8)
    if band and len(curves) > 1:
        axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)


def _legend(figure: Figure) -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize="small")
