"""Masks that compression has blurred, as jpeg does: which two values they had before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.labels import luminance, mask_advice
from pixelseg_env.errors import DataError

Grey = NDArray[np.float32]

# A pixel whose neighbours differ by more than FLAT lies on an edge, and levels are less than APART from each other
# only by noise. Fewer pixels than FEW of a level are noise.
FLAT, APART, FEW = 24, 24, 6
WIDE = 80  # a level that spreads over more grey levels than this is none, but a gradient
HUES = 64  # colours are less than this from each other, in every channel, only by noise
ALIKE = 8  # colours whose luminances differ by less are equally bright: nothing tells which is the object
BETWEEN = (0.25, 0.75)  # of the way from dark to bright lies what is neither
EVEN = 0.06  # of the way: so little the top of a ridge varies
STRAY, SHARE = 8, 5e-4  # so many such pixels, or such a share of all, are noise

_SQUARE, _WIDER = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


def cut_blurred(path: Path, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Cuts a mask (H, W) or (H, W, 3), upright, halfway between its two levels or colours.

    Raises:
        DataError: it has other than two; they are equally bright, or so dark or alike that blur may have made them.
    """
    grey = np.asarray(luminance(pixels), np.float32)
    colours = _colours(pixels, grey)
    if len(colours) > 2:
        named = ", ".join(f"({', '.join(f'{part:.0f}' for part in colour)})" for colour in colours[:6])
        raise DataError(
            f"{path}: expected a mask of two colours, black and one other, got {len(colours)} ({named}), blurred by "
            f"jpeg; save the masks as png, or {mask_advice(np.sort(luminance(colours[None])[0]))}"
        )
    if len(colours) == 2:
        dark, bright = sorted(colours, key=lambda colour: float(luminance(colour[None, None])[0, 0]))
        step = float(luminance((bright - dark)[None, None])[0, 0])
        if step < ALIKE:
            raise DataError(
                f"{path}: its two colours are equally bright, so that nothing tells which is the object; save the "
                "masks as png, with the background black"
            )
        if step <= 2 * APART:  # such as blue on black: the blur of the luminance hides it, the colour does not
            along = (pixels - dark) @ (bright - dark) / float((bright - dark) @ (bright - dark))
            return np.asarray(along > 0.5).view(np.uint8)
    levels = _levels(path, grey)
    if len(levels) == 2:
        levels += _thin_level(grey, *levels)
    if len(levels) > 2:
        named = ", ".join(f"{level:.0f}" for level in sorted(levels)[:6])
        raise DataError(
            f"{path}: expected a mask of two grey levels, got {len(levels)} ({named}), blurred by jpeg; save the masks "
            f"as png, or {mask_advice(sorted(levels))}"
        )
    if len(levels) == 1:  # nothing but object, or nothing but background
        _check_even(path, grey, levels[0])
        return np.full(grey.shape, levels[0] > APART, np.uint8)
    return np.asarray(grey > (levels[0] + levels[1]) / 2).view(np.uint8)


def _colours(pixels: NDArray[Any], grey: Grey) -> NDArray[np.float64]:
    """The colours (n, 3) of the flat parts of an image, float64; none where it is grey."""
    if pixels.ndim == 2 or np.abs(pixels - grey[..., None]).max(initial=0) <= APART:
        return np.empty((0, 3))
    flat = (cv2.dilate(pixels, _SQUARE) - cv2.erode(pixels, _SQUARE)).max(axis=2) <= FLAT
    left, found = pixels[flat].astype(np.float64), []
    while len(left) >= FEW:
        coarse = (left // 32) @ (64, 8, 1)
        centre = np.median(left[coarse == np.bincount(coarse.astype(np.int64)).argmax()], axis=0)
        near = np.abs(left - centre).max(axis=1) <= HUES
        if np.count_nonzero(near) >= FEW:
            found.append(centre)
        left = left[~near]
    return np.array(found).reshape(-1, 3)


def _check_even(path: Path, grey: Grey, level: float) -> None:
    """Refuses a mask of one level with pixels that stand out: they may be an object, saved as 1 or 20 of 255."""
    high, low = float(grey.max()), float(grey.min())
    odd = np.abs(grey - level) > max(high - level, level - low) / 2
    if np.count_nonzero(odd) >= FEW or 0 < level <= APART:
        raise DataError(
            f"{path}: expected a mask of two grey levels, got {low:.0f} to {high:.0f} of 255, too much alike to tell "
            "an object from the blur of jpeg; save the masks as png with 255 for the object, or "
            f"{mask_advice((low, high))}"
        )


def _thin_level(grey: Grey, dark: float, bright: float) -> list[float]:
    """A third level that is nowhere flat, as of thin lines: ridges and grooves that end between the two levels."""
    low, high = (dark + share * (bright - dark) for share in BETWEEN)
    top, bottom = cv2.dilate(grey, _WIDER), cv2.erode(grey, _WIDER)
    even = (bright - dark) * EVEN
    ridge, groove = (top < high) & (top - grey <= even), (bottom > low) & (grey - bottom <= even)
    lone = (grey > low) & (grey < high) & (ridge | groove)
    return [float(np.median(grey[lone]))] if np.count_nonzero(lone) > max(STRAY, SHARE * grey.size) else []


def _levels(path: Path, grey: Grey) -> list[float]:
    """The grey levels, dark to bright, that a blurred mask had before, where it is flat."""
    flat = np.sort(grey[(cv2.dilate(grey, _SQUARE) - cv2.erode(grey, _SQUARE)) <= FLAT])
    groups: Sequence[Grey] = np.split(flat, np.flatnonzero(np.diff(flat) > APART) + 1) if len(flat) else []
    groups = [group for group in groups if len(group) >= FEW]
    for group in groups:
        if np.subtract(*np.percentile(group, (99, 1))) > WIDE:
            raise DataError(
                f"{path}: expected a mask of two grey levels, got a gradient from {group[0]:.0f} to {group[-1]:.0f}; "
                f"{mask_advice(group)}"
            )
    levels = [float(np.median(group)) for group in groups]
    low, high = float(grey.min()), float(grey.max())
    if not levels:  # small, and edges all over
        return [low, high] if high - low > 2 * APART else [low]
    # An object that is thinner than three pixels is nowhere flat.
    if len(levels) == 1 and max(high - levels[0], levels[0] - low) > 2 * APART:
        levels.append(high if high - levels[0] > levels[0] - low else low)
    return sorted(levels)
