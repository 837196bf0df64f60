"""The look of all figures, and how they are written.

matplotlib without pyplot, so nothing here opens a window or touches a caller's figures. Every file is
written under a temporary name and renamed. Colours are Okabe and Ito's, safe for colour-blind readers,
and those of the environment's own frames: segmentation orange, ground truth blue, changed pixels red.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pixelseg_agents.files import write_atomically
from pixelseg_env import OptionError

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


def legend(figure: Figure, handles: Sequence[Patch | Line2D], longest: int = 0) -> None:
    """Puts a legend below a figure; `longest`: letters of its longest entry, where they are many."""
    figure.legend(
        handles=list(handles), loc="lower center", ncols=legend_columns(figure.get_figwidth(), len(handles), longest),
        handlelength=1.2, handleheight=0.9, columnspacing=1.8, borderaxespad=0.25,
    )  # fmt: skip


def legend_columns(width: float, entries: int, longest: int = 0) -> int:
    """As few rows as `width` inches allow, evenly filled, with entries of `longest` letters at most."""
    rows = -(-entries // max(1, int(width / max(1.5, 0.5 + 0.07 * longest))))
    return -(-entries // rows)


def shortened(text: str, most: int) -> str:
    """The end of a text that is longer than `most`."""
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def hex_code(colour: Sequence[int] | NDArray[np.uint8]) -> str:
    """A colour of three bytes as matplotlib writes it."""
    return "#" + "".join(f"{int(part):02x}" for part in colour)


def figure_format(path: str | Path) -> str:
    """The kind of picture that a file's name asks for.

    Raises:
        OptionError: there is no such kind. A command asks before its work, not after it.
    """
    ending = Path(path).suffix.lstrip(".").lower() or "png"
    known = FigureCanvasAgg.get_supported_filetypes()
    if ending not in known:
        raise OptionError(f"{path}: no picture ends in .{ending}; expected one of {', '.join(sorted(known))}")
    return ending


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure, whole or not at all.

    Raises:
        OptionError: see `figure_format`.
    """
    kind = figure_format(path)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white")
    write_atomically(path, buffer.getvalue())
