"""What is object in a mask file: a mask means what a person sees who opens it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.blurred import cut_blurred
from pixelseg_env.datasets.brightness import WhiteIsZeroWarning
from pixelseg_env.datasets.image_files import open_image
from pixelseg_env.datasets.labels import Value, listed, luminance, mask_advice, rounded, shown
from pixelseg_env.datasets.pages import ImageFile, Page
from pixelseg_env.errors import DataError

Mask = NDArray[np.uint8]

PICTURE = 64  # more colours than this are those of a picture, not of labels


def read_masks(path: Path, threshold: float | None = None, invert: bool = False) -> tuple[list[Mask], Value | None]:
    """Reads a mask file, or the pages of a stack, as 0 and 1.

    Args:
        path: the file. Everything but black is object, and there may be one such grey level or colour only. What is
            transparent is black; where all that is seen has one colour, or is a picture, the mask is the transparency
            itself: what is seen is object. In a jpeg, whose compression blurs values, there may be two grey levels or
            colours; it is cut halfway between them.
        threshold: object is what is brighter than this, instead of the above: of colours, their luminance counts.
        invert: swap object and background afterwards.

    Returns:
        A mask uint8 (H, W) of 0 and 1 for each page, and the value that stood for the object in the file (None where
        there was none, or it was cut at a grey level).

    Raises:
        DataError: the file cannot be read, or holds more than two values.

    Warns:
        WhiteIsZeroWarning: 0 is white in the file.
    """
    file = open_image(path)
    masks: list[Mask] = []
    values: list[Value] = []
    if file.pages[0].white_is_zero and not invert:
        # Without the file's name: it is told once for a set.
        warnings.warn(
            "mask files note that 0 is white (TIFF's MINISWHITE), as viewers show it, so what is 0 in them is the "
            "object; tifffile writes boolean arrays so: if the object is what is 1, say invert=true, or save "
            "them as uint8",
            WhiteIsZeroWarning,
            stacklevel=2,
        )
    for page in file.pages:
        mask, value = _read_page(path, file, page, threshold)
        masks.append(1 - mask if invert else mask)
        values += [] if value is None or value in values else [value]
    if len(values) > 1:
        raise DataError(
            f"{path}: the object is {shown(values[0])} in one page and {shown(values[1])} in another; expected one "
            f"value: {mask_advice()}"
        )
    return masks, values[0] if values else None


def _read_page(path: Path, file: ImageFile, page: Page, threshold: float | None) -> tuple[Mask, Value | None]:
    pixels = _visible(path, page)
    if threshold is not None:
        return np.asarray(luminance(pixels) > threshold).view(np.uint8), None
    if file.lossy:
        return cut_blurred(path, pixels), None
    if pixels.ndim == 3:
        return _one_colour(path, pixels)
    if not np.isfinite(pixels).all():
        raise DataError(
            f"{path}: expected a mask of two values, 0 and one other, found {listed(pixels)}; write 0 in place of what "
            "is no number"
        )
    pixels = rounded(pixels)
    mask = np.asarray(pixels != 0)
    value = pixels.max(initial=0)
    # Cheaper than np.unique: two values means that every pixel is 0 or the largest.
    if mask.any() and np.count_nonzero(pixels == value) != np.count_nonzero(mask):
        raise DataError(
            f"{path}: expected a mask of two values, 0 and one other, got {len(np.unique(pixels))} values "
            f"({listed(pixels)}); {mask_advice(np.unique(pixels))}"
        )
    return mask.view(np.uint8), float(value) if mask.any() else None


def _visible(path: Path, page: Page) -> NDArray[Any]:
    """The grey levels (H, W), or colours (H, W, 3), that make the mask."""
    pixels = page.pixels
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise DataError(
            f"{path}: expected a mask in grey or colours, got {pixels.shape[2]} channels; save the one that is the mask"
        )
    if page.alpha is not None and not np.all(page.alpha == page.white):
        pixels = _seen(pixels, page.alpha)
    if pixels.ndim == 3 and np.array_equal(pixels[..., 0], pixels[..., 1]):
        return pixels[..., 0] if np.array_equal(pixels[..., 0], pixels[..., 2]) else pixels
    return pixels


def _seen(pixels: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """What makes the mask of pixels that are not all opaque: their transparency, or what is to be seen of them."""
    there = alpha > 0
    if not np.ptp(pixels, axis=(0, 1)).any():
        return alpha
    if there.all() or not there.any():  # in the second case it was lost, or is not meant
        return pixels
    colours = len(np.unique(pixels[there] if pixels.ndim == 2 else _codes(pixels)[there]))
    if colours == 1 or colours > PICTURE:
        return alpha
    return np.where(there if pixels.ndim == 2 else there[..., None], pixels, pixels.dtype.type(0))


def _codes(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """A number (H, W) for each colour (H, W, 3), 0 for black."""
    wide = pixels.astype(np.int64)
    return np.asarray(wide[..., 0] + (wide[..., 1] << 16) + (wide[..., 2] << 32))


def _one_colour(path: Path, pixels: NDArray[Any]) -> tuple[Mask, Value | None]:
    """A mask of black and one colour."""
    codes = _codes(pixels)
    found, first = np.unique(codes, return_index=True)
    colours = [tuple(int(part) for part in pixels.reshape(-1, 3)[k]) for k in first]
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        colours.sort(key=lambda colour: float(luminance(np.array([[colour]]))[0, 0]))
        named = ", ".join(map(shown, colours[:6])) + (", ..." if len(colours) > 6 else "")
        levels = np.unique(luminance(np.array(colours)[None]))
        raise DataError(
            f"{path}: expected a mask of two values, black and one other, got {len(found)} colours ({named}); "
            f"{mask_advice(levels)}"
        )
    return np.asarray(codes != 0).view(np.uint8), colours[-1] if found[-1] else None
