"""Masks whose pixels are numbers of labels: grey images, and files with a palette."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.image_files import open_image
from pixelseg_env.datasets.labels import check_whole, rounded
from pixelseg_env.datasets.pages import Page
from pixelseg_env.errors import DataError


def read_numbers(path: Path) -> list[NDArray[Any]]:
    """Reads the numbers in a mask file.

    Args:
        path: a grey image, or a file with a palette, whose entries' positions are the numbers; or a stack.

    Returns:
        (H, W) for each page.

    Raises:
        DataError: the file cannot be read, or holds colours or blurred values instead of numbers.
    """
    file = open_image(path)
    if file.lossy:
        raise DataError(
            f"{path}: jpeg blurs the numbers of labels, as all lossy compression does; expected png, tiff or bmp: save "
            "the masks anew"
        )
    return [_numbers(path, page) for page in file.pages]


def _numbers(path: Path, page: Page) -> NDArray[Any]:
    if page.numbers is not None:
        return page.numbers
    pixels = page.pixels
    if pixels.ndim == 2:
        return check_whole(path, rounded(pixels))
    if all(np.array_equal(pixels[..., 0], pixels[..., k]) for k in range(1, pixels.shape[2])):
        return np.ascontiguousarray(pixels[..., 0])
    raise DataError(
        f"{path}: expected numbers of labels, 0, 1, 2, ..., in a grey or indexed image, got colours; save the masks "
        "as numbers, or as one folder of masks for each label: masks/organ, masks/lesion and labels=(organ, lesion)"
    )
