"""What is object in a mask file: a mask means what a person sees who opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.image_files import open_image
from pixelseg_env.datasets.labels import Value, listed, rounded, shown
from pixelseg_env.datasets.pages import ImageFile, Page
from pixelseg_env.errors import DataError

Mask = NDArray[np.uint8]

_LUMINANCE = np.array([0.299, 0.587, 0.114])
# Levels of a blurred mask: a pixel whose neighbours differ by more than FLAT lies on an edge, and levels are less than
# APART from each other only by noise. Fewer pixels than FEW of a level are noise.
FLAT, APART, FEW = 24, 24, 6
WIDE = 80  # a level that spreads over more grey levels than this is none, but a gradient


def read_masks(path: Path, threshold: float | None = None, invert: bool = False) -> tuple[list[Mask], Value | None]:
    """Reads a mask file, or the pages of a stack, as 0 and 1.

    Args:
        path: the file. Everything but black is object, and there may be one such grey level or colour only. Where the
            colours are constant and the transparency is not, the mask is read from that: what is opaque is object. In
            a jpeg, whose compression blurs values, there may be two grey levels; it is cut halfway between them.
        threshold: object is what is brighter than this, instead of the above: of colours, their luminance counts.
        invert: swap object and background afterwards.

    Returns:
        A mask uint8 (H, W) of 0 and 1 for each page, and the value that stood for the object in the file (None where
        there was none, or it was cut at a grey level).

    Raises:
        DataError: the file cannot be read, or holds more than two values.
    """
    file = open_image(path)
    masks: list[Mask] = []
    values: list[Value] = []
    for page in file.pages:
        mask, value = _read_page(path, file, page, threshold)
        masks.append(1 - mask if invert else mask)
        values += [] if value is None or value in values else [value]
    if len(values) > 1:
        raise DataError(
            f"{path}: the object is {shown(values[0])} in one page and {shown(values[1])} in another; expected one "
            f"value: {_advice()}"
        )
    return masks, values[0] if values else None


def _read_page(path: Path, file: ImageFile, page: Page, threshold: float | None) -> tuple[Mask, Value | None]:
    pixels = _visible(path, page)
    if threshold is not None:
        return np.asarray(luminance(pixels) > threshold).view(np.uint8), None
    if file.lossy:
        return _cut(path, np.asarray(luminance(pixels), np.float32)), None
    if pixels.ndim == 3:
        return _one_colour(path, pixels)
    pixels = rounded(pixels)
    mask = np.asarray(pixels != 0)
    value = pixels.max(initial=0)
    # Cheaper than np.unique: two values means that every pixel is 0 or the largest.
    if mask.any() and np.count_nonzero(pixels == value) != np.count_nonzero(mask):
        raise DataError(
            f"{path}: expected a mask of two values, 0 and one other, got {len(np.unique(pixels))} values "
            f"({listed(pixels)}); {_advice(np.unique(pixels))}"
        )
    return mask.view(np.uint8), float(value) if mask.any() else None


def _visible(path: Path, page: Page) -> NDArray[Any]:
    """The grey levels (H, W), or colours (H, W, 3), that make the mask."""
    pixels = page.pixels
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise DataError(
            f"{path}: expected a mask in grey or colours, got {pixels.shape[2]} channels; save the one that is the mask"
        )
    if page.alpha is not None and not np.all(page.alpha == page.white) and not np.ptp(pixels, axis=(0, 1)).any():
        return page.alpha
    if pixels.ndim == 3 and np.array_equal(pixels[..., 0], pixels[..., 1]):
        return pixels[..., 0] if np.array_equal(pixels[..., 0], pixels[..., 2]) else pixels
    return pixels


def luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """How bright pixels (H, W) or (H, W, 3) look, on the scale of their channels; whole numbers stay whole."""
    if pixels.ndim == 2:
        return pixels
    grey = pixels @ _LUMINANCE
    return np.asarray(np.rint(grey) if pixels.dtype.kind in "iu" else grey)


def _one_colour(path: Path, pixels: NDArray[Any]) -> tuple[Mask, Value | None]:
    """A mask of black and one colour."""
    wide = pixels.astype(np.int64)
    codes = wide[..., 0] + (wide[..., 1] << 16) + (wide[..., 2] << 32)
    found, first = np.unique(codes, return_index=True)
    colours = [tuple(int(part) for part in pixels.reshape(-1, 3)[k]) for k in first]
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        colours.sort(key=lambda colour: float(luminance(np.array([[colour]]))[0, 0]))
        named = ", ".join(map(shown, colours[:6])) + (", ..." if len(colours) > 6 else "")
        levels = np.unique(luminance(np.array(colours)[None]))
        raise DataError(
            f"{path}: expected a mask of two values, black and one other, got {len(found)} colours ({named}); "
            f"{_advice(levels)}"
        )
    return np.asarray(codes != 0).view(np.uint8), colours[-1] if found[-1] else None


def _advice(levels: Sequence[float] | NDArray[Any] = ()) -> str:
    """What a person can do whose mask has several values."""
    level = "<grey level>"
    if len(levels) > 1:
        level = f"{(float(levels[0]) + float(levels[-1])) / 2:.0f} or another grey level"
    return (
        f"make it binary, or with the data set 'folder' say threshold={level} (object is what is brighter), or "
        "labels=... if each value is an object of its own (values of a grey or indexed mask, or folders of masks)"
    )


# ---------------------------------------------------------------- blurred masks


def _cut(path: Path, grey: NDArray[np.float32]) -> Mask:
    """Cuts a mask that compression has blurred halfway between its two levels."""
    levels = _levels(path, grey)
    if len(levels) > 2:
        named = ", ".join(f"{level:.0f}" for level in levels[:6])
        raise DataError(
            f"{path}: expected a mask of two grey levels, got {len(levels)} ({named}), blurred by jpeg; save the masks "
            f"as png, or {_advice(levels)}"
        )
    if len(levels) == 1:  # nothing but object, or nothing but background
        return np.full(grey.shape, levels[0] > APART, np.uint8)
    return np.asarray(grey > (levels[0] + levels[1]) / 2).view(np.uint8)


def _levels(path: Path, grey: NDArray[np.float32]) -> list[float]:
    """The grey levels, dark to bright, that a blurred mask had before."""
    import cv2

    square = np.ones((3, 3), np.uint8)
    flat = np.sort(grey[(cv2.dilate(grey, square) - cv2.erode(grey, square)) <= FLAT])
    groups = np.split(flat, np.flatnonzero(np.diff(flat) > APART) + 1) if len(flat) else []
    groups = [group for group in groups if len(group) >= FEW]
    for group in groups:
        if np.subtract(*np.percentile(group, (99, 1))) > WIDE:
            raise DataError(
                f"{path}: expected a mask of two grey levels, got a gradient from {group[0]:.0f} to {group[-1]:.0f}; "
                f"{_advice(group)}"
            )
    levels = [float(np.median(group)) for group in groups]
    low, high = float(grey.min()), float(grey.max())
    if not levels:  # small, and edges all over
        return [low, high] if high - low > 2 * APART else [low]
    # An object that is thinner than three pixels is nowhere flat.
    if len(levels) == 1 and max(high - levels[0], levels[0] - low) > 2 * APART:
        levels.append(high if high - levels[0] > levels[0] - low else low)
    return sorted(levels)
