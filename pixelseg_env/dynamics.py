"""What one step does: pure functions on arrays with any number of leading batch dimensions.

Symbols are those of the publication: image `I` float32 (..., C, H, W) in [0, 1], segmentation map
`f(t)` uint8 (..., H, W) of 0 and 1 with `f(0) = 1` everywhere, joint action `a(t)` (..., H, W) with
0 = zero (background) and 1 = keep.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.uint8]
Transition = Callable[[Map, Map], Map]
Observe = Callable[[NDArray[np.float32], Map], NDArray[np.float32]]


def absorbing(previous: Map, action: Map) -> Map:
    """f(t) = f(t-1) a(t): zero is final, keep does nothing.

    Args:
        previous: f(t-1), uint8 (..., H, W).
        action: a(t), uint8 (..., H, W).

    Returns:
        f(t), a new uint8 array (..., H, W).
    """
    return previous & action


def restorable(previous: Map, action: Map) -> Map:
    """f(t) = a(t): every step decides every pixel anew, and keep brings a zeroed pixel back."""
    return action.copy()


def masked(image: NDArray[np.float32], segmentation: Map) -> NDArray[np.float32]:
    """X(t) = I f(t): the image where the map is 1, zero elsewhere.

    Args:
        image: float32 (..., C, H, W).
        segmentation: uint8 (..., H, W).

    Returns:
        A new float32 array (..., C, H, W).
    """
    return image * segmentation[..., None, :, :]


def stacked(image: NDArray[np.float32], segmentation: Map) -> NDArray[np.float32]:
    """I with f(t) as one channel more: float32 (..., C + 1, H, W), fully observed."""
    return np.concatenate([image, segmentation[..., None, :, :].astype(np.float32)], axis=-3)


TRANSITIONS: dict[str, Transition] = {"absorbing": absorbing, "restorable": restorable}
OBSERVATIONS: dict[str, Observe] = {"masked": masked, "stacked": stacked}


def observation_channels(image_channels: int, observation: str) -> int:
    """Channels of the observation: C when masked, C + 1 when stacked."""
    return image_channels + (observation == "stacked")
