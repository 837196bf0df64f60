"""Episodes as animations and sheets: what was looked at, how sure the agent was, and what it removed."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from pixelseg_agents.evaluation.figures.pictures import LOOKED, window_frame
from pixelseg_agents.evaluation.figures.style import (
    MUTED,
    RGB,
    STYLE,
    hex_code,
    legend,
    legend_columns,
    save_figure,
    shortened,
)
from pixelseg_agents.evaluation.watching import WatchedEpisode, WatchedStep
from pixelseg_agents.files import write_atomically
from pixelseg_env import DataError
from pixelseg_env.rendering import CHANGED, SEGMENTATION, TARGET, map_panel, to_rgb

ANIMATIONS = (".gif", ".mp4")
SHEETS = (".png", ".svg", ".pdf")
COLUMNS = ("image and window", "what it sees", "probability of keeping", "map")
CELL = 1.75  # inches of a panel's side
FRAME_DPI = 100
PROBABILITY = "magma"
ZOOM = 6  # frames from one window to the next
LONG, SHORT, LAST = 1100, 70, 2200  # milliseconds of a frame to read, of one that moves, and of an episode's end
FPS = 20


def episode_animation(episodes: Mapping[str, Sequence[WatchedEpisode]], out_path: str | Path) -> None:
    """Writes the episodes of one or more agents on the same images, a row for each agent, image after image.

    Args:
        episodes: of each agent, by its name; of the same images in the same order.
        out_path: the file, which ends in .gif or .mp4.

    Raises:
        DataError: there is nothing to show, the agents' images differ, or the file's ending is another one.
    """
    path = Path(out_path)
    _check(episodes, path, ANIMATIONS)
    frames, times = [], []
    for group in zip(*episodes.values(), strict=True):
        for frame, time in _frames(dict(zip(episodes, group, strict=True))):
            frames.append(frame)
            times.append(time)
    write_atomically(path, _gif(frames, times) if path.suffix.lower() == ".gif" else _mp4(frames, times))


def episode_sheet(episodes: Sequence[WatchedEpisode], out_path: str | Path) -> None:
    """Draws one agent's episodes, a row for each step, image below image.

    Args:
        episodes: at least one.
        out_path: the figure; its ending chooses the format (png, svg, pdf).

    Raises:
        DataError: there is nothing to show, or the file's ending is another one.
    """
    path = Path(out_path)
    _check({"": episodes}, path, SHEETS)
    rows = [(episode, t) for episode in episodes for t in range(len(episode.steps))]
    columns = _columns([episode.steps[0] for episode in episodes])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CELL * len(columns) + 0.5, CELL * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False)
        for row, (episode, t) in zip(axes, rows, strict=True):
            step = episode.steps[t]
            _row(row, columns, episode, step, step.windows, decided=True)
            title = f"{shortened(episode.title, 22)}\n" if t == 0 else ""
            row[0].set_ylabel(f"{title}step {t + 1}, Dice {step.dice:.2f}", fontsize=8.0, color=MUTED)
        _head(axes[0], columns)
        _scale(axes[-1], columns)
        _legend_below(figure, _meanings([step for episode in episodes for step in episode.steps]))
        save_figure(figure, path)


# ---------------------------------------------------------------- frames


def _frames(episodes: dict[str, WatchedEpisode]) -> Iterator[tuple[RGB, int]]:
    """The frames of one image, and how many milliseconds each is shown."""
    steps = max(len(episode.steps) for episode in episodes.values())
    for t in range(steps):
        for part in range(1, ZOOM):
            if t and any(_moves(episode, t) for episode in episodes.values()):
                yield _frame(episodes, t, part / ZOOM, decided=False), SHORT
        yield _frame(episodes, t, 1.0, decided=False), LONG
        yield _frame(episodes, t, 1.0, decided=True), LAST if t == steps - 1 else LONG


def _moves(episode: WatchedEpisode, t: int) -> bool:
    return t < len(episode.steps) and not np.array_equal(_squares(episode, t), _squares(episode, t - 1))


def _squares(episode: WatchedEpisode, t: int) -> NDArray[np.float32]:
    """The windows of a step, (K, 3); the whole image, as a square around it, where there is none."""
    windows = episode.steps[t].windows
    if windows is not None:
        return windows
    height, width = episode.target.shape
    side = max(height, width)
    return np.array([[(height - side) / 2, (width - side) / 2, side]], np.float32)


def _frame(episodes: dict[str, WatchedEpisode], t: int, part: float, decided: bool) -> RGB:
    """One picture: every agent at step t, its windows the `part` of their way from the step before."""
    every = [step for episode in episodes.values() for step in episode.steps]
    columns = _columns(every)
    first = next(iter(episodes.values()))
    with matplotlib.rc_context(STYLE):
        size = (CELL * len(columns) + 0.4, CELL * len(episodes) + 0.95)
        figure = Figure(figsize=size, dpi=FRAME_DPI, layout="constrained")
        axes = figure.subplots(len(episodes), len(columns), squeeze=False)
        for row, (name, episode) in zip(axes, episodes.items(), strict=True):
            now = min(t, len(episode.steps) - 1)
            windows = _squares(episode, now)
            if part < 1:
                windows = _squares(episode, now - 1) + part * (windows - _squares(episode, now - 1))
            step = episode.steps[now]
            _row(row, columns, episode, step, None if step.windows is None else windows, decided)
            scored = step.dice if decided else (episode.steps[now - 1].dice if now else None)
            row[0].set_ylabel(name + (f"\nDice {scored:.2f}" if scored is not None else "\n"), fontsize=9.0)
        _head(axes[0], columns)
        _scale(axes[-1], columns)
        doing = "decides" if decided else "looks"
        figure.suptitle(f"{shortened(first.title, 40)}  ·  step {t + 1} {doing}", fontsize=9.0, color=MUTED)
        _legend_below(figure, _meanings(every))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend, and room for its rows, which the constrained layout does not count."""
    legend(figure, handles)
    rows = -(-len(handles) // legend_columns(figure.get_figwidth(), len(handles)))
    share = (0.08 + 0.2 * rows) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))  # type: ignore[union-attr,call-arg]


def _columns(steps: Sequence[WatchedStep]) -> list[str]:
    """What there is to show of these steps."""
    there = (True, any(s.seen is not None for s in steps), any(s.probability is not None for s in steps), True)
    return [name for name, shown in zip(COLUMNS, there, strict=True) if shown]


def _head(axes: Any, columns: Sequence[str]) -> None:
    for axis, name in zip(axes, columns, strict=True):
        axis.set_title(name, fontsize=8.5, loc="center", color=MUTED)


def _scale(axes: Any, columns: Sequence[str]) -> None:
    """What the colours of probabilities mean, below the last of their panels."""
    if COLUMNS[2] not in columns:
        return
    axis = axes[columns.index(COLUMNS[2])]
    strip = axis.inset_axes((0, -0.1, 1, 0.05))
    strip.imshow(np.linspace(0, 1, 256)[None], cmap=PROBABILITY, aspect="auto", extent=(0, 1, 0, 1))
    strip.set(yticks=[], xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    strip.grid(visible=False)
    strip.tick_params(labelsize=6.5, length=2, pad=1, colors=MUTED)


def _row(
    axes: Any, columns: Sequence[str], episode: WatchedEpisode, step: WatchedStep, windows: Any, decided: bool
) -> None:
    """The panels of one step, before or after its decision."""
    shown = step.after if decided else step.before
    for axis, name in zip(axes, columns, strict=True):
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        for spine in axis.spines.values():  # a map of ones is as white as the page
            spine.set(visible=True, linewidth=0.5)
        if name == COLUMNS[0]:
            axis.imshow(to_rgb(episode.image), interpolation="nearest")
            _outline(axis, episode.target, TARGET)
            _outline(axis, shown, SEGMENTATION)
            for window in () if windows is None else windows:
                height, width = episode.target.shape
                axis.add_patch(window_frame(window, 1, (-0.5, -0.5, width, height)))
        elif name == COLUMNS[1] and step.seen is not None:
            axis.imshow(_views(step.seen), interpolation="nearest")
        elif name == COLUMNS[2] and step.probability is not None:
            chance = step.probability if decided else np.full_like(step.probability, np.nan)  # nothing yet
            axis.imshow(chance, cmap=PROBABILITY, vmin=0, vmax=1, interpolation="nearest")
        elif name == COLUMNS[3]:
            axis.imshow(map_panel(shown, step.before if decided else None), interpolation="nearest")


def _views(seen: NDArray[np.float32]) -> RGB:
    """What was seen of an image, each of its windows once, in rows of two with a white line between them."""
    different = [one for k, one in enumerate(seen) if not any(np.array_equal(one, before) for before in seen[:k])]
    views = [to_rgb(np.clip(one, 0, 1)) for one in different]
    height, width = views[0].shape[:2]
    gap, across = max(1, height // 32) if len(views) > 1 else 0, min(2, len(views))
    down = -(-len(views) // across)
    page = np.full((down * (height + gap) - gap, across * (width + gap) - gap, 3), 255, np.uint8)
    for k, view in enumerate(views):
        top, left = k // across * (height + gap), k % across * (width + gap)
        page[top : top + height, left : left + width] = view
    return page


def _outline(axis: Axes, mask: NDArray[np.uint8], colour: Sequence[int]) -> None:
    if 0 < mask.sum() < mask.size:
        axis.contour(mask, levels=[0.5], colors=[hex_code(colour)], linewidths=1.1)


def _meanings(steps: Sequence[WatchedStep]) -> list[Any]:
    found: list[Any] = [
        Line2D([], [], color=hex_code(TARGET), linewidth=2, label="ground truth"),
        Line2D([], [], color=hex_code(SEGMENTATION), linewidth=2, label="segmentation"),
        Patch(facecolor="white", edgecolor="#999999", label="kept"),
        Patch(facecolor=hex_code(CHANGED), label="changed now"),
    ]
    if any(step.windows is not None for step in steps):
        found.append(Line2D([], [], color=LOOKED, linewidth=2, label="looked at"))
    return found


# ---------------------------------------------------------------- files


def _check(episodes: Mapping[str, Sequence[WatchedEpisode]], path: Path, endings: Sequence[str]) -> None:
    counts = {len(found) for found in episodes.values()}
    if not counts or counts == {0} or len(counts) > 1:
        raise DataError(f"expected the same images, at least one, of every agent; got {sorted(counts)}")
    if path.suffix.lower() not in endings:
        raise DataError(f"{path}: expected a file that ends in {', '.join(endings)}")


def _gif(frames: Sequence[RGB], times: Sequence[int]) -> bytes:
    """With one palette for all frames, so that nothing flickers."""
    step = max(1, len(frames) // 12)
    sample = Image.fromarray(np.concatenate(frames[::step]))
    palette = sample.quantize(colors=256, dither=Image.Dither.NONE)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=list(times), loop=0, optimize=False)
    return buffer.getvalue()


def _mp4(frames: Sequence[RGB], times: Sequence[int]) -> bytes:
    height, width = (side - side % 2 for side in frames[0].shape[:2])  # even, as codecs want them
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "episode.mp4"
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (width, height))
        if not writer.isOpened():
            raise DataError("this build of OpenCV writes no .mp4; expected a file that ends in .gif")
        for frame, time in zip(frames, times, strict=True):
            for _ in range(max(1, round(time * FPS / 1000))):
                writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        writer.release()
        return file.read_bytes()
