"""Frames to look at: arrays for `render_mode="rgb_array"`, and a window for `"human"`.

One look for frames and figures: white is kept, black is zeroed, red changed in the last step; the
segmentation's contour is orange and the ground truth's blue (Okabe and Ito's colour-blind-safe set).
"""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError
from pixelseg_env.metrics import dice

__all__ = [
    "CHANGED",
    "SEGMENTATION",
    "TARGET",
    "Viewer",
    "contour_panel",
    "enlarge",
    "enlargement",
    "map_panel",
    "render_frame",
    "to_rgb",
]

RGB = NDArray[np.uint8]
Map = NDArray[np.uint8]
Colour = tuple[int, int, int]

SEGMENTATION: Colour = (230, 159, 0)
TARGET: Colour = (86, 180, 233)
CHANGED: Colour = (214, 39, 40)

PANEL = 192  # least side of a panel in pixels
_GAP = 8
_HEADER = 26
_FOOTER = 30
_BACKGROUND: Colour = (24, 26, 30)
_TEXT: Colour = (235, 235, 235)
_MUTED: Colour = (150, 154, 160)
_ABSENT: Colour = (40, 44, 52)  # a zeroed pixel: not quite the frame's own black


def render_frame(
    image: NDArray[np.float32],
    segmentation: Map,
    target: Map,
    previous: Map | None = None,
    *,
    step: int | None = None,
    horizon: int | None = None,
) -> RGB:
    """Draws one step: the image, the segmentation map with what changed, and both contours.

    Args:
        image: float32 (C, H, W) in [0, 1], the whole image, not the masked observation.
        segmentation: f(t), uint8 (H, W) of 0 and 1, or (L, H, W): one row of panels per label.
        target: the ground truth, uint8 (H, W) of 0 and 1.
        previous: f(t-1); without it nothing is marked as changed.
        step: t, for the line of text.
        horizon: the last t, for the line of text.

    Returns:
        uint8 (H', W', 3), RGB. H' and W' are even, as video codecs want, and depend on (H, W) only, so
        that every frame of an episode has one size.
    """
    if segmentation.ndim == 3:
        befores = [None] * len(segmentation) if previous is None else list(previous)
        rows_of_labels = zip(segmentation, target, befores, strict=True)
        frames = [render_frame(image, s, t, before, step=step, horizon=horizon) for s, t, before in rows_of_labels]
        return np.concatenate(frames)
    factor = enlargement(segmentation.shape[0], segmentation.shape[1])
    panels = (
        ("image", _TEXT, enlarge(to_rgb(image), factor)),
        ("segmentation map", _TEXT, enlarge(map_panel(segmentation, previous), factor)),
        ("segmentation", SEGMENTATION, contour_panel(image, segmentation, target, factor)),
    )
    height, width = panels[0][2].shape[:2]
    total = 3 * width + 4 * _GAP
    rows = _HEADER + height + _FOOTER
    frame = np.empty((rows + rows % 2, total + total % 2, 3), np.uint8)
    frame[:] = _BACKGROUND
    for number, (caption, colour, panel) in enumerate(panels):
        left = _GAP + number * (width + _GAP)
        frame[_HEADER : _HEADER + height, left : left + width] = panel
        end = _text(frame, caption, left, _HEADER - 8, colour)
        if number == 1 and previous is not None:
            _text(frame, "changed", end + 8, _HEADER - 8, (255, 99, 90))
        if number == 2:
            _text(frame, "ground truth", end + 8, _HEADER - 8, TARGET)

    bottom = _HEADER + height + 20
    at = _GAP
    if step is not None:
        at = _text(frame, f"step {step}" + ("" if horizon is None else f" of {horizon}"), at, bottom, _TEXT) + 20
    at = _text(frame, f"Dice {float(dice(segmentation, target)):.3f}", at, bottom, _TEXT) + 20
    if previous is not None:
        changed = int(np.count_nonzero(segmentation != previous))
        _text(frame, f"{changed} px changed", at, bottom, _MUTED)
    return frame


def enlargement(height: int, width: int, least: int = PANEL) -> int:
    """The smallest whole factor that makes the shorter side of (height, width) at least `least`."""
    return max(1, -(-least // min(height, width)))


def enlarge(panel: RGB, factor: int) -> RGB:
    """Repeats every pixel of (H, W, 3) `factor` times each way: pixels are the agents, so no blur."""
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def to_rgb(image: NDArray[np.float32]) -> RGB:
    """Shows an image (C, H, W) in [0, 1] as uint8 (H, W, 3).

    Three channels are red, green and blue; any other number is shown as the grey mean of all.
    """
    shown = image if len(image) == 3 else np.broadcast_to(image.mean(axis=0), (3, *image.shape[1:]))
    scaled = np.rint(np.clip(shown, 0.0, 1.0) * 255)
    return np.ascontiguousarray(np.moveaxis(scaled, 0, -1).astype(np.uint8))


def map_panel(segmentation: Map, previous: Map | None = None) -> RGB:
    """Shows f(t) (H, W) in white on dark, and the pixels that differ from f(t-1) in red, as (H, W, 3)."""
    panel = np.where(segmentation[..., None] > 0, np.uint8(255), np.array(_ABSENT, np.uint8))
    if previous is not None:
        panel[segmentation != previous] = CHANGED
    return panel


def contour_panel(image: NDArray[np.float32], segmentation: Map, target: Map | None = None, factor: int = 1) -> RGB:
    """Draws the contour of the segmentation, and of the target, over the enlarged image.

    Args:
        image: float32 (C, H, W) in [0, 1].
        segmentation: uint8 (H, W) of 0 and 1.
        target: uint8 (H, W) of 0 and 1, or None to leave it out.
        factor: whole enlargement; a contour runs along the border of the enlarged pixels.

    Returns:
        uint8 (H * factor, W * factor, 3).
    """
    panel = enlarge(to_rgb(image), factor)
    thickness = max(1, round(min(panel.shape[:2]) / 120))
    if target is not None:
        _outline(panel, target, factor, TARGET, thickness)
    _outline(panel, segmentation, factor, SEGMENTATION, thickness)
    return panel


def _outline(panel: RGB, mask: Map, factor: int, colour: Colour, thickness: int) -> None:
    """Colours the inner rim of a mask; rim rather than polygon, for it is exact and never leaves the object."""
    large = np.ascontiguousarray(mask).repeat(factor, axis=0).repeat(factor, axis=1)
    inside = cv2.erode(
        large, np.ones((3, 3), np.uint8), iterations=thickness, borderType=cv2.BORDER_CONSTANT, borderValue=(0.0,)
    )
    panel[large > inside] = colour


def _text(frame: RGB, text: str, left: int, baseline: int, colour: Colour) -> int:
    """Writes `text` in place and returns where it ends."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    cv2.putText(frame, text, (left, baseline), font, scale, colour, 1, cv2.LINE_AA)
    return left + int(cv2.getTextSize(text, font, scale, 1)[0][0])


class Viewer:
    """A window for `render_mode="human"`.

    It is pygame's, as in Gymnasium's own environments, and not `cv2.imshow`: without a display the Qt
    in OpenCV's wheels aborts the whole process instead of raising, and the headless wheels lack it.
    pygame is imported here only, so that nobody needs it who does not open a window; it comes with
    `pip install pixelseg-env[human]`.
    """

    def __init__(self, title: str = "PixelSegEnv-v0", frames_per_second: int = 5) -> None:
        """Remembers the options; the window opens with the first frame.

        Args:
            title: the window's title.
            frames_per_second: the pace that `show` keeps by waiting.
        """
        self._title = title
        self._pace = frames_per_second
        self._pygame: Any = None
        self._window: Any = None
        self._clock: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A window cannot be copied or sent to another process: the copy opens its own with its first frame.
        return self.__dict__ | {"_pygame": None, "_window": None, "_clock": None}

    def show(self, frame: RGB) -> None:
        """Shows a frame uint8 (H, W, 3) and waits for the pace.

        Raises:
            OptionError: there is no display to open a window on.
            DependencyNotInstalled: pygame is missing.
        """
        size = (frame.shape[1], frame.shape[0])
        if self._window is None or self._taken or self._window.get_size() != size:
            self._open(size)
        surface = self._pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._window.blit(surface, (0, 0))
        self._pygame.event.pump()  # else the desktop takes the window for a hung one
        self._pygame.display.flip()
        self._clock.tick(self._pace)

    def close(self) -> None:
        """Closes the window; closing twice, or before the first frame, does nothing."""
        if self._window is not None:
            if not self._taken:
                self._pygame.display.quit()
            self._window = None

    @property
    def _taken(self) -> bool:
        """Whether another viewer has opened or closed the process's one window since."""
        return self._pygame.display.get_surface() is not self._window

    def _open(self, size: tuple[int, int]) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError as error:
            raise DependencyNotInstalled(
                'render_mode="human" needs pygame: pip install "pixelseg-env[human]", or use render_mode="rgb_array"'
            ) from error
        try:
            pygame.display.init()
            # Without a display SDL falls back to a driver that draws nowhere, which would look like a hang.
            asked = os.environ.get("SDL_VIDEODRIVER")
            if not asked and pygame.display.get_driver() in ("offscreen", "dummy"):
                pygame.display.quit()
                raise pygame.error("no display is available")
            self._window = pygame.display.set_mode(size)
        except pygame.error as error:
            raise OptionError(
                f'render_mode="human" could not open a window: {error}. Use render_mode="rgb_array", '
                "which needs no display, or run with a desktop (DISPLAY set)"
            ) from error
        pygame.display.set_caption(self._title)
        self._pygame, self._clock = pygame, pygame.time.Clock()
