"""From arrays as people have them to the arrays that a data set holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.arrays import to_numpy
from pixelseg_env.datasets.brightness import check_white, choose_white, scaled
from pixelseg_env.errors import DataError


def as_images(
    name: str, images: Any, sides: tuple[int, ...], white: float | None = None
) -> tuple[NDArray[Any], float | None]:
    """Returns images (N, C, H, W), uint8 or float32 in [0, 1], and the level that is 1 in them.

    See `SegmentationDataset.from_arrays`.

    Args:
        name: the data set's name, for messages.
        images: (N, H, W), (N, C, H, W) or (N, H, W, C).
        sides: (H, W).
        white: the grey level that becomes 1; None: by the rule of `choose_white`.

    Raises:
        OptionError: `white` is not valid.
        DataError: shape or values cannot be read so.
    """
    pixels = _array(name, "images", images)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim == 4 and pixels.shape[2:] != sides and pixels.shape[1:3] == sides:
        pixels = np.moveaxis(pixels, -1, 1)
    if pixels.ndim != 4 or pixels.shape[2:] != sides:
        raise DataError(
            f"data set {name!r}: expected images of shape (N, H, W), (N, C, H, W) or (N, H, W, C) with the masks' "
            f"(H, W) = {sides}, got {np.shape(images)}"
        )
    level = check_white(white)
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255), None
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if pixels.dtype.kind in "iu" and pixels.dtype not in (np.uint8, np.uint16):
        if not (low >= 0 and (high <= 255 or level)):
            raise DataError(
                f"data set {name!r}: expected images of whole numbers from 0 to 255, found {low:g} to {high:g}; "
                "scale them to floats in [0, 1]"
                + (", or say which level is white, e.g. white=4095" if low >= 0 else "")
            )
        pixels = pixels.astype(np.uint8 if high <= 255 else np.float32)
    if pixels.dtype.kind == "f" and not (low >= 0 and (high <= 1 or (level and high < np.inf))):  # also false for NaN
        hint = "divide them by 255" if low >= 0 and 1 < high <= 255 else "scale them"
        raise DataError(f"data set {name!r}: float images must lie in [0, 1], found {low:g} to {high:g}; {hint}")
    level = choose_white(f"data set {name!r}", pixels.dtype, high, level) if pixels.size else level or 255.0
    return np.ascontiguousarray(scaled(pixels, level)), level


def as_masks(name: str, masks: Any) -> NDArray[np.uint8]:
    """Returns masks uint8 (N, H, W), or (N, L, H, W), of 0 and 1; see `SegmentationDataset.from_arrays`.

    Raises:
        DataError: shape or values cannot be read so.
    """
    values = _array(name, "masks", masks)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 4 and values.shape[-1] == 1:  # channels last, as Keras has them
        values = values[..., 0]
    if values.ndim not in (3, 4):
        raise DataError(
            f"data set {name!r}: expected masks of shape (N, H, W), or (N, L, H, W) with L labels, "
            f"got {np.shape(masks)}"
        )
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0) or not np.isfinite(found.astype(np.float64)).all():
        listed = ", ".join(f"{value:g}" for value in found[:6].astype(float)) + (", ..." if len(found) > 6 else "")
        raise DataError(
            f"data set {name!r}: expected masks of two values, 0 and one other, got {len(found)} values ({listed}); "
            "give each label a mask of its own, masks (N, L, H, W), or threshold them"
        )
    return np.ascontiguousarray(values != 0).view(np.uint8)


def running_numbers(cases: Sequence[str]) -> NDArray[np.int64]:
    """Counts 0, 1, 2, ... within each case, in the order that the items have."""
    seen: Counter[str] = Counter()
    numbers = []
    for case in cases:
        numbers.append(seen[case])
        seen[case] += 1
    return np.array(numbers, np.int64)


def _array(name: str, what: str, values: Any) -> NDArray[Any]:
    try:
        array = to_numpy(values) if hasattr(values, "__array__") else np.asarray(values)
    except (TypeError, ValueError) as error:  # such as lists of different lengths
        raise DataError(f"data set {name!r}: {what} are no array ({error}); expected equal shapes") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"data set {name!r}: expected {what} of numbers, got an array of {array.dtype}")
    return np.asarray(array)
