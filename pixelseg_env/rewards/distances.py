"""Weights that fall with the distance to the outline of the truth."""

from __future__ import annotations

import functools
import math
from typing import Any

import cv2
import numpy as np
from array_api_compat import device
from numpy.typing import NDArray

from pixelseg_env.arrays import Array, namespace

WIDEST = 100  # pixels


def boundary_weights(target: Array, weight: float, width: float) -> Array:
    """1 + weight exp(-d^2 / (2 width^2)), d the distance to the nearest pixel of the other kind.

    Args:
        target: maps of 0 and 1, (..., H, W).
        weight: >= 0.
        width: in pixels, > 0.

    Returns:
        float32 (..., H, W), of the target's kind and on its device.
    """
    table, reach = _table(float(weight), float(width), namespace(target), device(target))
    return table[squared_distances(target, reach)]


@functools.lru_cache(maxsize=32)  # a step must not copy it to the device
def _table(weight: float, width: float, xp: Any, device: Any) -> tuple[Array, int]:
    """The weights at d^2 = 0, 1, 2, ... up to where they are 1 to the last digit of float32, and d there."""
    least = float(np.finfo(np.float32).eps) / 2
    reach = max(2, math.ceil(width * math.sqrt(2 * math.log(max(weight, least) / least))))
    weights = 1 + weight * np.exp(-np.arange(reach**2 + 1) / (2 * width**2))
    weights[-1] = 1  # and whatever is farther
    return xp.asarray(weights.astype(np.float32), device=device), reach


def squared_distances(target: Array, reach: int) -> Array:
    """Of every pixel the squared Euclidean distance to the nearest pixel of the other kind, in pixels.

    That is 1 on both sides of the outline. Squared distances are whole numbers, so NumPy and torch agree exactly.

    Args:
        target: maps of 0 and 1, (..., H, W).
        reach: from which distance on, at least 1, all count alike: `reach` squared. So do all pixels of a map that is
            empty or full, and has no outline.

    Returns:
        int64 (..., H, W), of the target's kind and on its device.
    """
    if getattr(device(target), "type", "cpu") != "cpu":
        return tensor_distances(target, reach)  # copied to the host, a step would wait for it
    return namespace(target).asarray(opencv_distances(np.asarray(target), reach))


def opencv_distances(target: NDArray[Any], reach: int) -> NDArray[np.int64]:
    """The maps one by one: each kind's distances are 0 on the other, so that their sum is both."""
    found = np.full(target.shape, reach**2, np.int64)
    height, width = target.shape[-2:]
    for mask, squares in zip(target.reshape(-1, height, width), found.reshape(-1, height, width), strict=True):
        if mask.min() != mask.max():
            kinds = (np.ascontiguousarray(mask == kind, np.uint8) for kind in (0, 1))
            distances = [cv2.distanceTransform(kind, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for kind in kinds]
            np.minimum(np.rint((distances[0] + distances[1]) ** 2), reach**2, out=squares, casting="unsafe")
    return found


def tensor_distances(target: Array, reach: int) -> Array:
    """The whole batch on its device, without a copy to the host: along the rows first, then from row to row."""
    xp = namespace(target)
    height, width = target.shape[-2:]
    along = xp.full(target.shape, reach, dtype=xp.int64, device=target.device)  # to the nearest in the same row
    for k in range(min(reach, width) - 1, 0, -1):
        differs = target[..., k:] != target[..., :-k]
        for side in (along[..., k:], along[..., :-k]):
            side[differs] = k
    squares = along**2
    found = xp.asarray(squares, copy=True)
    for k in range(1, min(reach, height)):
        for here, there in ((slice(k, None), slice(None, -k)), (slice(None, -k), slice(k, None))):
            same = target[..., here, :] == target[..., there, :]
            found[..., here, :] = xp.minimum(found[..., here, :], squares[..., there, :] * same + k**2)
    return found
