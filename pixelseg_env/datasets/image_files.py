"""Reading one image or mask file, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.files import IMAGE_SUFFIXES
from pixelseg_env.datasets.integrity import find_damage
from pixelseg_env.errors import DataError

JPEG_SUFFIXES = (".jpg", ".jpeg")


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image file (hidden files, such as macOS's `._x.png`, are not)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_pixels(path: Path) -> NDArray[Any]:
    """Decodes an image file.

    Args:
        path: png, jpeg, tiff or bmp.

    Returns:
        (H, W) or (H, W, 3) in RGB order, uint8 or uint16; an alpha channel is dropped.

    Raises:
        DataError: the file cannot be read, is cut off, is no image, or has another pixel type.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check that the file exists and its rights"
        ) from error
    damage = find_damage(content)
    if damage:
        raise DataError(f"{path}: expected a whole image file, but {damage}; copy or download the file again")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(
            f"{path}: expected an image (png, jpeg, tiff or bmp), but it could not be decoded ({len(content)} bytes); "
            "the file is damaged or is not an image: replace or remove it"
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: expected 8-bit or 16-bit pixels, got {pixels.dtype}; convert the file")
    if pixels.ndim == 3:
        if pixels.shape[2] == 1:
            return pixels[..., 0]
        if pixels.shape[2] not in (3, 4):
            raise DataError(f"{path}: expected 1, 3 or 4 channels, got {pixels.shape[2]}; convert the file")
        return np.ascontiguousarray(pixels[..., 2::-1])
    return pixels


def read_mask(path: Path, threshold: int | None = None, invert: bool = False) -> tuple[NDArray[np.uint8], int | None]:
    """Reads a mask file as 0 and 1.

    Args:
        path: the file. A jpeg is cut at 127 (compression blurs its two values); in other formats
            everything but 0 is object, and there may be one such value only.
        threshold: object is what lies above it, instead of the above.
        invert: swap object and background afterwards.

    Returns:
        The mask, uint8 (H, W) of 0 and 1, and the value that stood for the object in the file (None where
        there was none, or a threshold was used).

    Raises:
        DataError: the file cannot be read, or holds more than two values.
    """
    pixels = read_pixels(path)
    if pixels.ndim == 3:
        pixels = _merge_channels(pixels)
    value: int | None = None
    if threshold is None and path.suffix.lower() in JPEG_SUFFIXES:
        threshold = 127
    if threshold is not None:
        mask = (pixels > threshold).astype(np.uint8)
    else:
        mask = (pixels != 0).astype(np.uint8)
        value = int(pixels.max(initial=0))
        # Cheaper than np.unique: two values means that every pixel is 0 or the largest.
        if value and np.count_nonzero(pixels == value) != np.count_nonzero(mask):
            values = [int(v) for v in np.unique(pixels)]
            listed = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
            raise DataError(
                f"{path}: expected a mask of two values, 0 and one other, got {len(values)} values ({listed}); "
                "make it binary, or use the data set 'folder' with threshold=<grey level> (object above it)"
            )
        value = value or None
    return (1 - mask if invert else mask), value


def _merge_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """One number per colour: the grey level if the channels are equal, else a code that keeps colours apart."""
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return np.asarray(first)
    wide: NDArray[np.int64] = pixels.astype(np.int64)
    return np.asarray(wide[..., 0] + (wide[..., 1] << 16) + (wide[..., 2] << 32))
