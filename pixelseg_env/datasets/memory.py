"""Room for the pixels, and a word of warning before a lot of it is taken."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE_BYTES = 1 << 30


class LargeDatasetWarning(UserWarning):
    """The data set about to be read takes more than 1 GiB of memory."""


def allocate(
    name: str, count: int, channels: int, height: int, width: int, dtype: DTypeLike, labels: int = 1
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Makes the arrays of a data set, not yet filled, and announces them if they are large.

    Call it before the image pixels are read: the warning then comes while there is still time to stop.

    Args:
        name: the data set's name, for the message.
        count: N, the number of images.
        channels: C.
        height: H.
        width: W.
        dtype: of the images, uint8 or float32.
        labels: L.

    Returns:
        Images (N, C, H, W) of `dtype` and masks uint8 (N, H, W), or (N, L, H, W) with L > 1 labels.
    """
    pixels = count * height * width
    total = pixels * (channels * np.dtype(dtype).itemsize + labels)
    if total > LARGE_BYTES:
        warnings.warn(
            f"data set {name!r}: {count} images of {channels}x{height}x{width} need {total / 2**30:.1f} GiB of memory; "
            "a smaller size= or fewer data paths need less",
            LargeDatasetWarning,
            stacklevel=2,
        )
    several = (labels,) if labels > 1 else ()
    return np.empty((count, channels, height, width), dtype), np.empty((count, *several, height, width), np.uint8)
