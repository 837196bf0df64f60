"""What comes out of an image file, whatever its kind: pages of pixels, upright."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Page:
    """One picture of a file, as a viewer shows it.

    Attributes:
        pixels: (H, W), or (H, W, C); three channels are red, green and blue where the file is in colours. Of the
            file's own depth: uint8, uint16, or another type of numbers, which is for masks only.
        white: the largest value that a pixel of this depth can have.
        alpha: (H, W), its transparency, if it has any; else None.
        numbers: (H, W), the values as they are stored: of a file with a palette the positions in it, and of grey levels
            that were stretched to 8 or 16 bits; else None.
        white_is_zero: the file notes so; `pixels` are turned around already.
    """

    pixels: Pixels
    white: float
    alpha: Pixels | None = None
    numbers: Pixels | None = None
    white_is_zero: bool = False


@dataclass(frozen=True)
class ImageFile:
    """A decoded file.

    Attributes:
        pages: one, or those of a stack, of one size.
        orientation: how a viewer turns the pixels as they are stored, 1 (not at all) to 8, as EXIF counts; the pages
            are turned already.
        lossy: values were blurred when it was saved, as by jpeg.
    """

    pages: tuple[Page, ...]
    orientation: int = 1
    lossy: bool = False


def upright(pixels: Pixels, orientation: int, axes: tuple[int, int] = (0, 1)) -> Pixels:
    """Turns pixels as they are stored to what a viewer shows.

    Args:
        pixels: of any shape.
        orientation: as EXIF counts, 1 to 8; any other is 1.
        axes: of the rows and of the columns.
    """
    down, across = axes
    if 5 <= orientation <= 8:
        pixels = np.swapaxes(pixels, down, across)
    flips = {2: (across,), 3: (down, across), 4: (down,), 6: (across,), 7: (down, across), 8: (down,)}
    return np.flip(pixels, flips.get(orientation, ()))


def as_stored(pixels: Pixels, orientation: int, axes: tuple[int, int] = (0, 1)) -> Pixels:
    """Undoes `upright`."""
    return upright(pixels, {6: 8, 8: 6}.get(orientation, orientation), axes)


def turned(page: Page, orientation: int) -> Page:
    """A page with all its arrays upright."""
    if not 2 <= orientation <= 8:
        return page
    arrays = (None if a is None else upright(a, orientation) for a in (page.pixels, page.alpha, page.numbers))
    pixels, alpha, numbers = arrays
    assert pixels is not None
    return replace(page, pixels=np.ascontiguousarray(pixels), alpha=alpha, numbers=numbers)
