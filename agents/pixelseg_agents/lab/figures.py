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
INK, MUTED, GRID = "#1F2933", "#52606D", "#E4E7EB"
EARNS = [[0.0, "#B34700"], [0.25, "#F0A872"], [0.5, "#FFFFFF"], [0.75, "#7DB8DE"], [1.0, "#00507D"]]
SURE = [[0.0, "#FFFFFF"], [1.0, "#6A3D9A"]]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
PANEL = 290  # pixels of height

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


def _panel(values: Pixels, hover: str, *, colours: Any, low: float, high: float, bar: bool = True, **more: Any) -> Any:
    """One map with a title above it."""
    heat = go.Heatmap(
        z=np.asarray(values, np.float32),
        colorscale=colours,
        zmin=low,
        zmax=high,
        showscale=bar,
        colorbar={
            "orientation": "h",
            "thickness": 7,
            "len": 0.9,
            "outlinewidth": 0,
            "tickfont": {"size": 10},
            "nticks": 5,
            "x": 0.5,
            "y": -0.02,
            "yanchor": "top",
            "ypad": 0,
        },
        hovertemplate="row %{y}, column %{x}<br>" + hover + "<extra></extra>",
        **more,
    )
    figure = go.Figure(heat)
    _style(figure, PANEL)
    hidden = {"visible": False, "fixedrange": True}
    height, width = values.shape
    figure.update_xaxes(**hidden, range=[-0.5, width - 0.5], constrain="domain")
    figure.update_yaxes(**hidden, range=[height - 0.5, -0.5], scaleanchor="x", constrain="domain")
    figure.update_layout(margin={"l": 2, "r": 2, "t": 2, "b": 30}, dragmode=False)
    return figure


def _style(figure: Any, height: int) -> None:
    figure.update_layout(
        height=height,
        autosize=True,
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"bgcolor": "#FFFFFF", "bordercolor": GRID, "font": {"family": FONT, "size": 12, "color": INK}},
        showlegend=False,
    )


def _line(figure: Any, mask: NDArray[Any], colour: str) -> None:
    x, y = outline(mask)
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": colour, "width": 2}, hoverinfo="skip")


def picture(episode: Episode, at: int, thoughts: Thoughts) -> Any:
    """The image with the outlines of map and truth, and all numbers of a pixel under the pointer."""
    grey = episode.image.mean(axis=0)
    columns = [episode.target, episode.maps[at], *_numbers(episode, at)]
    hover = (
        "brightness %{z:.2f}<br>truth %{customdata[0]:.0f}, map %{customdata[1]:.0f}"
        "<br>reward of this step %{customdata[2]:.3f}<br>return %{customdata[3]:.3f}"
    )
    for name, field in (("value", thoughts.value), ("probability of keep", thoughts.keep)):
        if field is not None:
            hover += f"<br>{name} %{{customdata[{len(columns)}]:.3f}}"
            columns.append(field)
    data = np.stack(columns, axis=-1).astype(np.float32)
    figure = _panel(grey, hover, colours="gray", low=0, high=1, bar=False, customdata=data)
    _line(figure, episode.maps[at], FOUND)
    _line(figure, episode.target, TRUTH)
    for row, column, side in () if thoughts.windows is None else thoughts.windows.tolist():
        figure.add_shape(
            type="rect",
            x0=column - 0.5,
            y0=row - 0.5,
            x1=column + side - 0.5,
            y1=row + side - 0.5,
            line={"color": "#CC79A7", "width": 2, "dash": "dot"},
        )
    return figure


def _numbers(episode: Episode, at: int) -> tuple[Pixels, Pixels]:
    """The reward of the step that led here, and the return from it on (before the first step: of all)."""
    nothing = np.zeros(episode.target.shape, np.float32)
    reward = episode.rewards[at - 1] if at else nothing
    returns = episode.returns()[max(0, at - 1)] if episode.steps else nothing
    return reward, returns


def map_figure(episode: Episode, at: int) -> Any:
    """The map, with what the last step changed in red."""
    shown = np.where(episode.changed(at), 2, episode.maps[at])
    colours = [[0, GONE], [1 / 3, GONE], [1 / 3, KEPT], [2 / 3, KEPT], [2 / 3, CHANGED], [1, CHANGED]]
    data = episode.maps[at].astype(np.float32)[..., None]
    figure = _panel(shown, "map %{customdata[0]:.0f}", colours=colours, low=-0.5, high=2.5, bar=False, customdata=data)
    _line(figure, episode.target, TRUTH)
    return figure


def reward_figure(episode: Episode, at: int) -> Any:
    """What every pixel earned by the last step."""
    return _signed(_numbers(episode, at)[0], "reward %{z:.3f}")


def return_figure(episode: Episode, at: int) -> Any:
    """What every pixel earns from the last step to the end of what was played."""
    return _signed(_numbers(episode, at)[1], "return %{z:.3f}")


def value_figure(value: Pixels) -> Any:
    """What the agent expects."""
    return _signed(value, "value %{z:.3f}")


def entropy_figure(entropy: Pixels) -> Any:
    """How unsure the agent is."""
    return _panel(entropy, "%{z:.3f} bits", colours=SURE, low=0, high=1)


def seen_figure(seen: Pixels) -> Any:
    """What the agent's network is shown."""
    return _panel(seen.mean(axis=0), "brightness %{z:.2f}", colours="gray", low=0, high=1, bar=False)


def _signed(values: Pixels, hover: str) -> Any:
    reach = float(np.abs(values).max()) or 1.0
    return _panel(values, hover, colours=EARNS, low=-reach, high=reach)


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
    for before, after in pairwise(looks):
        if before.reward != after.reward:
            figure.add_vline(
                x=after.updates,
                line={"color": MUTED, "width": 1, "dash": "dot"},
                annotation={"text": "reward changed", "font": {"size": 11, "color": MUTED}},
            )
    figure.update_xaxes(range=[0, max(10, updates[-1] if updates else 0)])
    return figure


def _two_axes(x: Any, earned: Any, dice: Any, across: str, left: str, mode: str = "lines") -> Any:
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=earned, mode=mode, name=left, line={"color": "#B34700", "width": 2.5, "dash": "solid"},
        hovertemplate=f"{across} %{{x}}<br>{left} %{{y:.3f}}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=dice, mode=mode, name="Dice", yaxis="y2", line={"color": "#00507D", "width": 2.5, "dash": "dash"},
        hovertemplate=f"{across} %{{x}}<br>Dice %{{y:.3f}}<extra></extra>",
    )  # fmt: skip
    _style(figure, 280)
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "tickfont": {"size": 11}}
    figure.update_layout(
        margin={"l": 56, "r": 52, "t": 34, "b": 42},
        dragmode=False,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.16},
        xaxis=axis | {"title": {"text": across, "font": {"size": 12}}},
        yaxis=axis | {"title": {"text": left, "font": {"size": 12, "color": "#B34700"}}},
        yaxis2={
            **axis, "title": {"text": "Dice", "font": {"size": 12, "color": "#00507D"}}, "overlaying": "y",
            "side": "right", "range": [-0.02, 1.02], "showgrid": False,
        },
    )  # fmt: skip
    return figure


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
