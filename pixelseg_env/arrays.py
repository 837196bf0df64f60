"""What NumPy and torch arrays do alike (array-api-compat), on maps with any number of leading dimensions.

The functions of `dynamics`, `rewards` and this module take either kind and return the same kind, on the same
device, without a copy to the host. torch is never imported here: who hands in a tensor has it already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array

__all__ = ["Array", "area", "frozen", "mean", "namespace", "placed", "to_numpy"]

Array = Any  # numpy.ndarray or torch.Tensor: one array type for both does not exist

_PIXELS_PER_WORD = 8
_WORDS_PER_SUM = 128  # at most 255, the largest sum that a byte holds


def namespace(*arrays: Array) -> Any:
    """The array API namespace of NumPy or torch, whichever the arrays are of."""
    return array_namespace(*arrays)


def placed(array: Array, device: Any) -> Array:
    """An array of the host on a device, without waiting for what a GPU has still to do; NumPy's stay as they are."""
    if not is_torch_array(array):
        return array
    # Towards the host the copy would be read before it is there.
    return array.to(device, non_blocking=device.type == "cuda")


def area(maps: Array) -> Array:
    """Counts the ones of each map.

    Args:
        maps: uint8 (..., H, W) of 0 and 1; whole numbers of another type take longer.

    Returns:
        int64 (...).
    """
    xp = namespace(maps)
    if maps.dtype != xp.uint8:
        return xp.sum(maps, axis=(-2, -1), dtype=xp.int64)
    *lead, height, width = maps.shape
    words, rest = divmod(height * width, _PIXELS_PER_WORD)
    together = math.gcd(words, _WORDS_PER_SUM)
    if rest or together < _PIXELS_PER_WORD:
        return xp.sum(maps, axis=(-2, -1), dtype=xp.int64)
    # Eight pixels are one int64; its eight bytes add up side by side, and no byte overflows.
    flat = xp.reshape(maps, (*lead, height * width))
    sums = xp.sum(xp.reshape(flat.view(xp.int64), (*lead, words // together, together)), axis=-1, dtype=xp.int64)
    return xp.sum(sums.view(xp.uint8), axis=-1, dtype=xp.int64)


def mean(maps: Array, dimensions: int = 2) -> Array:
    """The mean over the last dimensions, in float64: one number per image.

    Args:
        maps: float32 (..., H, W), or (..., L, H, W).
        dimensions: how many of the last dimensions to average over.

    Returns:
        float64 (...), of the maps' kind.
    """
    xp = namespace(maps)
    size = math.prod(maps.shape[-dimensions:])
    total = xp.sum(maps, axis=-2)  # rows first: fast on both, and the same for one image as for a batch
    for _ in range(dimensions - 1):
        total = xp.sum(total, axis=-1)
    return xp.astype(total, xp.float64) / size


def frozen(*arrays: Array) -> Callable[[], bool]:
    """Guards arrays against being written to.

    NumPy arrays become read-only, so a write raises; a torch tensor counts its writes.

    Returns:
        A function that tells whether they are still what they were.
    """
    versions = []
    for array in arrays:
        if is_torch_array(array):
            versions.append((array, array._version))
        else:
            array.flags.writeable = False
    return lambda: all(array._version == version for array, version in versions)


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """A NumPy array of the same values; a tensor is brought to the host."""
    return np.asarray(array.cpu() if is_torch_array(array) else array)
