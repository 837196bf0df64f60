"""The lab's pictures, in Plotly: pixel maps whose numbers show under the pointer, and curves."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pixelseg_agents.lab.acting import Thoughts
from pixelseg_agents.lab.episode import Episode
from pixelseg_agents.lab.training import Look

# As everywhere in PixelSeg: segmentation orange, truth blue, changed red; what earns is blue, what costs vermillion.
TRUTH, FOUND, CHANGED, KEPT, GONE = "#0072B2", "#E69F00", "#D62728", "#F7F7F7", "#282C34"
WINDOW = "#CC79A7"
LOOKS = {"color": WINDOW, "width": 2, "dash": "dot"}
FRAME = {"color": "#CBD2D9", "width": 1}  # of a map that may be as white as the page
PAID, SCORE = "#B34700", "#00507D"
INK, MUTED, GRID = "#1F2933", "#52606D", "#E4E7EB"
EARNS = [[0.0, "#B34700"], [0.25, "#F0A872"], [0.5, "#FFFFFF"], [0.75, "#7DB8DE"], [1.0, "#00507D"]]
SURE = [[0.0, "#FFFFFF"], [1.0, "#6A3D9A"]]
NOTE = {"size": 12, "color": MUTED}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
CURVES = 276  # pixels of height

Pixels = NDArray[Any]


def outline(mask: NDArray[Any]) -> tuple[list[float | None], list[float | None]]:
    """The border of a mask (H, W) along the edges of its pixels, as x and y of a line with gaps."""
    padded = np.pad(mask.astype(np.int8), 1)
    x: list[float | None] = []
    y: list[float | None] = []
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # edges that run along a row
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        x += [column - 0.5, column + 0.5, None]
        y += [row - 0.5, row - 0.5, None]
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        x += [column - 0.5, column - 0.5, None]
        y += [row - 0.5, row + 0.5, None]
    return x, y


def _panel(
    values: Pixels,
    hover: str,
    *,
    colours: Any,
    low: float,
    high: float,
    bar: bool = True,
    lines: Sequence[Any] = (),
    shapes: Sequence[Any] = (),
    note: str = "",
    **more: Any,
) -> Any:
    """One map, with lines, shapes and a note upon it; its height is the page's to choose, see `style.css`."""
    height, width = values.shape
    heat = {
        "type": "heatmap",
        "z": np.asarray(values, np.float32),
        "colorscale": colours,
        "zmin": low,
        "zmax": high,
        "showscale": bar,
        "colorbar": BAR,
        "hovertemplate": "row %{y}, column %{x}<br>" + hover + "<extra></extra>",
        **more,
    }
    hidden = {"visible": False, "fixedrange": True, "constrain": "domain"}
    layout = {
        **STYLE,
        "margin": {"l": 1, "r": 1, "t": 1, "b": 26 if bar else 1},
        "dragmode": False,
        "xaxis": {**hidden, "range": [-0.5, width - 0.5]},
        "yaxis": {**hidden, "range": [height - 0.5, -0.5], "scaleanchor": "x"},
        "shapes": list(shapes),
        "annotations": [{"text": note, "showarrow": False, "font": NOTE, **MIDDLE}] if note else [],
    }
    # All of it at once: Plotly checks the whole figure at every change, which takes longer than all else here.
    return go.Figure([heat, *lines], layout)


BAR = {
    "orientation": "h",
    "thickness": 7,
    "len": 0.96,
    "outlinewidth": 0,
    "tickfont": {"size": 10},
    "nticks": 5,
    "x": 0.5,
    "y": -0.02,
    "yanchor": "top",
    "ypad": 0,
}


MIDDLE = {"x": 0.5, "y": 0.1, "xref": "paper", "yref": "paper"}
STYLE: dict[str, Any] = {  # of all figures
    "autosize": True,
    "font": {"family": FONT, "size": 12, "color": INK},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hoverlabel": {"bgcolor": "#FFFFFF", "bordercolor": GRID, "font": {"family": FONT, "size": 12, "color": INK}},
    "showlegend": False,
}


def _square(row: float, column: float, height: float, width: float, line: dict[str, Any]) -> dict[str, Any]:
    """A line around pixels."""
    left, top = column - 0.5, row - 0.5
    return {"type": "rect", "x0": left, "x1": left + width, "y0": top, "y1": top + height, "line": line}


def _line(mask: NDArray[Any], colour: str, width: float = 2) -> dict[str, Any]:
    x, y = outline(mask)
    return {
        "type": "scatter", "x": x, "y": y, "mode": "lines", "line": {"color": colour, "width": width},
        "hoverinfo": "skip",
    }  # fmt: skip


def picture(episode: Episode, at: int, thoughts: Thoughts) -> Any:
    """The image with the outlines of map and truth, and all numbers of a pixel under the pointer."""
    grey = episode.image.mean(axis=0)
    columns = [episode.target, episode.maps[at], *_numbers(episode, at)]
    hover = (
        "brightness %{z:.2f}<br>truth %{customdata[0]:.0f}, map %{customdata[1]:.0f}"
        "<br>reward of this step %{customdata[2]:.3f}<br>return %{customdata[3]:.3f}"
    )
    level = episode.levels[at] if episode.levels.dtype.kind == "f" else None
    more = (("probability", level), ("value", thoughts.value), ("probability of keep", thoughts.keep))
    for name, field in more:
        if field is not None:
            hover += f"<br>{name} %{{customdata[{len(columns)}]:.3f}}"
            columns.append(field)
    data = np.stack(columns, axis=-1).astype(np.float32)
    squares = () if thoughts.windows is None else thoughts.windows.tolist()
    return _panel(
        grey,
        hover,
        colours="gray",
        low=0,
        high=1,
        bar=False,
        lines=[_line(episode.maps[at], FOUND), _line(episode.target, TRUTH)],
        shapes=[_square(r, c, side, side, LOOKS) for r, c, side in squares],
        customdata=data,
    )


def _numbers(episode: Episode, at: int) -> tuple[Pixels, Pixels]:
    """The reward of the step that led here, and the return from it on (before the first step: of all)."""
    nothing = np.zeros(episode.target.shape, np.float32)
    reward = episode.rewards[at - 1] if at else nothing
    returns = episode.returns()[max(0, at - 1)] if episode.steps else nothing
    return reward, returns


def map_figure(episode: Episode, at: int) -> Any:
    """The map, with what the last step changed in red."""
    level = episode.levels[at].astype(np.float32)
    shown = np.where(episode.changed(at), 2, level)
    colours = [[0, GONE], [0.5, KEPT], [0.51, CHANGED], [1, CHANGED]]  # up to 1 as it is kept, 2 where it changed
    what = "probability %{customdata[0]:.2f}" if episode.levels.dtype.kind == "f" else "map %{customdata[0]:.0f}"
    truth = _line(episode.target, TRUTH)
    data = level[..., None]
    return _panel(shown, what, colours=colours, low=0, high=2, bar=False, lines=[truth], customdata=data)


def reward_figure(episode: Episode, at: int) -> Any:
    """What every pixel earned by the last step."""
    return _paid(_numbers(episode, at)[0], episode, at, "reward")


def return_figure(episode: Episode, at: int) -> Any:
    """What every pixel earns from the last step to the end of what was played."""
    return _paid(_numbers(episode, at)[1], episode, at, "return")


def _paid(values: Pixels, episode: Episode, at: int, name: str) -> Any:
    """What every pixel is paid, with the truth's outline; where nobody is paid anything it says so."""
    truth = _line(episode.target, TRUTH, 1.2)
    taken = episode.steps > 0 and (at > 0 or name == "return")
    note = "" if values.any() else "nobody is paid anything" if taken else "no step was taken yet"
    return _signed(values, f"{name} %{{z:.3f}}", lines=[truth], note=note)


def value_figure(value: Pixels) -> Any:
    """What the agent expects."""
    return _signed(value, "value %{z:.3f}")


def entropy_figure(entropy: Pixels) -> Any:
    """How unsure the agent is."""
    height, width = entropy.shape
    frame = _square(0, 0, height, width, FRAME)
    return _panel(entropy, "%{z:.3f} bits", colours=SURE, low=0, high=1, shapes=[frame])


def seen_figure(seen: Pixels) -> Any:
    """What the agent's network is shown."""
    return _panel(seen.mean(axis=0), "brightness %{z:.2f}", colours="gray", low=0, high=1, bar=False)


def _signed(values: Pixels, hover: str, **more: Any) -> Any:
    reach = float(np.abs(values).max()) or 1.0
    height, width = values.shape
    frame = _square(0, 0, height, width, FRAME)
    return _panel(values, hover, colours=EARNS, low=-reach, high=reach, shapes=[frame], **more)


def curves(episode: Episode, at: int) -> Any:
    """Dice and the discounted sum of rewards, step by step."""
    steps = np.arange(episode.steps + 1)
    figure = _two_axes(steps, episode.totals(), episode.scores()["DICE"], "step", "reward so far", mode="lines+markers")
    figure.add_vline(x=at, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.update_xaxes(dtick=1, range=[-0.2, max(1, episode.steps) + 0.2])
    return figure


def learning_curves(looks: Sequence[Look]) -> Any:
    """Return and Dice of a training; where its reward was changed there is a line."""
    updates = [look.updates for look in looks]
    figure = _two_axes(
        updates, [look.earned for look in looks], [look.dice for look in looks], "updates", "return of an episode"
    )
    changes = [after.updates for before, after in pairwise(looks) if before.reward != after.reward]
    for update in changes:
        figure.add_vline(x=update, line={"color": MUTED, "width": 1, "dash": "dot"})
    if changes:  # a word for the last one: a slider that moves makes many
        note = {"text": "reward changed", "font": {"size": 11, "color": MUTED}, "showarrow": False}
        figure.add_annotation(x=changes[-1], y=1, yref="paper", yanchor="bottom", **note)
    figure.update_xaxes(range=[0, max(10, updates[-1] if updates else 0)])
    return figure


def _two_axes(x: Any, earned: Any, dice: Any, across: str, left: str, mode: str = "lines") -> Any:
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "tickfont": {"size": 11}}
    lines = [
        {
            "type": "scatter", "x": x, "y": y, "mode": mode, "name": name, "yaxis": side,
            "line": {"color": colour, "width": 2.5, "dash": dash},
            "hovertemplate": f"{across} %{{x}}<br>{name} %{{y:.3f}}<extra></extra>",
        }
        for y, name, side, colour, dash in ((earned, left, "y", PAID, "solid"), (dice, "Dice", "y2", SCORE, "dash"))
    ]  # fmt: skip
    layout = {
        **STYLE,
        "showlegend": True,
        "height": CURVES,
        "margin": {"l": 56, "r": 52, "t": 50, "b": 42},
        "dragmode": False,
        "legend": {"orientation": "h", "x": 0, "y": 1.12, "yanchor": "bottom"},
        "xaxis": axis | {"title": {"text": across, "font": {"size": 12}}},
        "yaxis": axis | {"title": {"text": left, "font": {"size": 12, "color": PAID}}},
        "yaxis2": {
            **axis, "title": {"text": "Dice", "font": {"size": 12, "color": SCORE}}, "overlaying": "y",
            "side": "right", "range": [-0.02, 1.02], "showgrid": False,
        },
    }  # fmt: skip
    return go.Figure(lines, layout)


def thumbnail(mask: Pixels, before: Pixels | None = None) -> str:
    """A map as the address of a tiny picture, changed pixels in red."""
    rgb = np.where(mask[..., None] > 0, np.uint8(247), np.array([40, 44, 52], np.uint8)).astype(np.uint8)
    if before is not None:
        rgb[mask != before] = (214, 39, 40)
    return png(rgb)


def png(pixels: NDArray[np.uint8]) -> str:
    """A picture (H, W) or (H, W, 3) as an address that holds it."""
    shown = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    content = cv2.imencode(".png", shown)[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(content).decode()
