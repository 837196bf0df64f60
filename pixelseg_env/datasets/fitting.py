"""Bringing images and masks to one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.problems import first_of
from pixelseg_env.errors import DataError, OptionError, shown

FITS = ("resize", "crop")
Size = int | tuple[int, int] | None


LONGEST_SIDE = 1 << 15  # pixels, which OpenCV resizes to


def check_size(size: object) -> tuple[int, int] | None:
    """Returns `size` as (H, W); None stays None (native size).

    Raises:
        OptionError: it is neither a positive whole number, nor two of them, nor None, or beyond `LONGEST_SIDE`.
    """
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int | np.integer) else size
    if isinstance(pair, tuple | list) and len(pair) == 2:
        height, width = pair
        if all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in (height, width)):
            if max(height, width) > LONGEST_SIDE:
                raise OptionError(f"size={shown(size)}: expected at most {LONGEST_SIDE} pixels on a side")
            return int(height), int(width)
    raise OptionError(f"size={size!r} is not valid; expected a positive whole number, (height, width), or None")


class SizesDifferError(DataError):
    """Images of several sizes where one was expected.

    Attributes:
        largest: the (H, W) that all of them fit into.
    """

    def __init__(self, message: str, largest: tuple[int, int]) -> None:
        super().__init__(message)
        self.largest = largest


def common_size(name: str, shapes: Sequence[tuple[int, int]], sources: Sequence[str]) -> tuple[int, int]:
    """Returns the one (H, W) that all images share.

    Args:
        name: the data set's name, for the message.
        shapes: (H, W) of each image.
        sources: where each comes from.

    Raises:
        SizesDifferError: they differ; the message names the files that differ from the most frequent size.
    """
    (usual, votes), *others = Counter(shapes).most_common()
    if others:
        odd = [f"{source} is {h}x{w}" for (h, w), source in zip(shapes, sources, strict=True) if (h, w) != usual]
        raise SizesDifferError(
            f"data set {name!r}: size=None needs images of one size, but {votes} are {usual[0]}x{usual[1]} and "
            f"{first_of(odd, 5, '; ')}. Give size=, e.g. size={usual[0]}, or leave those files out.",
            (max(h for h, _ in shapes), max(w for _, w in shapes)),
        )
    return usual


def fit_image(image: NDArray[Any], size: tuple[int, int], fit: str) -> NDArray[Any]:
    """Brings an image to a size.

    Args:
        image: (H, W) or (H, W, C), uint8 or float32.
        size: the new (H, W).
        fit: "resize" (area average; linear if either side grows) or "crop" (centre crop, zero pad).

    Returns:
        (C, H, W) of the same type.
    """
    if image.shape[:2] != size:
        if fit == "crop":
            image = _centre(image, size)
        else:
            import cv2

            shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
            image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def fit_mask(mask: NDArray[np.uint8], size: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """Brings a mask uint8 (H, W) to a size; nearest neighbour, so no new values.

    The sample is taken at the pixel's centre (INTER_NEAREST_EXACT): OpenCV's plain nearest takes the corner,
    which shifts the mask against the area-averaged image. An object so small that it falls between the samples
    keeps the one pixel that holds most of it: otherwise the items of a set, and with them the patients of
    a split, would depend on the size. (A crop may still leave the object outside.)
    """
    if mask.shape == size:
        return mask
    if fit == "crop":
        return _centre(mask, size)
    import cv2

    fitted = np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    if not fitted.any() and mask.any():
        cover = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        fitted[np.unravel_index(np.argmax(cover), size)] = 1
    return fitted


def fit_masks(masks: NDArray[np.uint8], size: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """`fit_mask` for a mask (H, W), or for each of (..., H, W)."""
    if masks.ndim == 2:
        return fit_mask(masks, size, fit)
    return np.stack([fit_masks(mask, size, fit) for mask in masks])


def brought_back(maps: NDArray[np.uint8], size: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """Brings maps (..., H, W) of 0 and 1 that were decided on fitted images back to a file's own pixels.

    By nearest neighbour, or with 0 around a crop. It is the only way back: `predict` writes, `evaluate` judges and
    figures show what comes out here.

    Args:
        maps: uint8 (..., H, W).
        size: (H, W) of the file's image.
        fit: how that image was brought to the size of the maps.
    """
    return fit_masks(maps, size, fit)


def _centre(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    result = np.zeros((*size, *array.shape[2:]), array.dtype)
    source, target = [], []
    for old, new in zip(array.shape, size, strict=False):
        length = min(old, new)
        source.append(slice((old - length) // 2, (old - length) // 2 + length))
        target.append(slice((new - length) // 2, (new - length) // 2 + length))
    result[tuple(target)] = array[tuple(source)]
    return result
