"""Masks whose pixels are numbers of labels: grey images, and PNG files with a palette."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.image_files import JPEG_SUFFIXES, read_pixels
from pixelseg_env.errors import DataError


def read_numbers(path: Path) -> NDArray[Any]:
    """Reads the numbers in a mask file.

    Args:
        path: a grey image, or a PNG file with a palette, whose entries' positions are the numbers.

    Returns:
        (H, W), uint8 or uint16.

    Raises:
        DataError: the file cannot be read, or holds colours or blurred values instead of numbers.
    """
    if path.suffix.lower() in JPEG_SUFFIXES:
        raise DataError(f"{path}: jpeg blurs the numbers of labels; expected png, tiff or bmp: save the masks anew")
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        return pixels
    palette = _palette(path.read_bytes())
    if palette is not None:
        return _positions(pixels, palette)
    first = pixels[..., 0]
    if all(np.array_equal(first, pixels[..., k]) for k in (1, 2)):
        return np.ascontiguousarray(first)
    raise DataError(
        f"{path}: expected numbers of labels, 0, 1, 2, ..., in a grey or indexed image, got colours; save the masks "
        "as numbers, or as one folder of masks for each label: masks/organ, masks/lesion and labels=(organ, lesion)"
    )


def _palette(content: bytes) -> NDArray[np.uint8] | None:
    """The colours (K, 3) of an indexed PNG file, or None where it is another."""
    if not content.startswith(b"\x89PNG") or content[25:26] != b"\x03":  # the colour type in the header
        return None
    at = 8
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 8] == b"PLTE":
            return np.frombuffer(content, np.uint8, length, at + 8).reshape(-1, 3)
        at += length + 12
    return None


def _positions(pixels: NDArray[Any], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The decoder gives colours; each stands for its first place in the palette."""
    codes = _codes(palette)
    order = np.argsort(codes, kind="stable")
    return order[np.searchsorted(codes[order], _codes(pixels))].astype(np.uint8)


def _codes(colours: NDArray[Any]) -> NDArray[np.int64]:
    wide = colours.astype(np.int64)
    return np.asarray(wide[..., 0] + (wide[..., 1] << 8) + (wide[..., 2] << 16))
