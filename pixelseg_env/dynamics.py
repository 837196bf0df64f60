"""What one step does: pure functions on arrays with any number of leading batch dimensions.

Symbols are those of the publication: image `I` float32 (..., C, H, W) in [0, 1], segmentation map
`f(t)` uint8 (..., H, W) of 0 and 1 with `f(0) = 1` everywhere, joint action `a(t)` (..., H, W) with
0 = zero (background) and 1 = keep. With L labels, maps and actions are (..., L, H, W).

With the transition `additive` the map holds probabilities instead, float32 in [0, 1], and an action is one of eight
amounts to add.

Arrays are NumPy's or torch's (CPU or CUDA); results are of the same kind, on the same device, and equal
to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import device

from pixelseg_env.arrays import Array, namespace, placed

__all__ = [
    "AMOUNTS",
    "GRADED",
    "OBSERVATIONS",
    "THRESHOLD",
    "TRANSITIONS",
    "absorbing",
    "additive",
    "decided",
    "image_channels",
    "masked",
    "observation_channels",
    "observe",
    "restorable",
    "stacked",
    "time_plane",
    "with_intensity",
]

AMOUNTS = (-1.0, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 1.0)
THRESHOLD = 0.5

Transition = Callable[[Array, Array], Array]
Observe = Callable[[Array, Array], Array]


def absorbing(previous: Array, action: Array) -> Array:
    """f(t) = f(t-1) a(t): zero is final, keep does nothing.

    Args:
        previous: f(t-1), uint8 (..., H, W).
        action: a(t), uint8 (..., H, W).

    Returns:
        f(t), a new uint8 array (..., H, W).
    """
    return previous & action


def restorable(previous: Array, action: Array) -> Array:
    """f(t) = a(t): every step decides every pixel anew, and keep brings a zeroed pixel back."""
    return namespace(action).asarray(action, copy=True)


def additive(previous: Array, action: Array) -> Array:
    """f(t) = min(1, max(0, f(t-1) + AMOUNTS[a(t)])): PixelRL's transition, as the publication's ablation has it.

    Args:
        previous: f(t-1), float32 (..., H, W) in [0, 1].
        action: a(t), uint8 (..., H, W) of 0 to 7.

    Returns:
        f(t), a new float32 array (..., H, W).
    """
    xp = namespace(previous)
    amounts = _amounts(xp, device(previous))
    added = xp.reshape(xp.take(amounts, xp.astype(xp.reshape(action, (-1,)), xp.int64)), action.shape)
    return xp.clip(previous + added, 0.0, 1.0)


@functools.lru_cache(maxsize=16)
def _amounts(xp: Any, place: Any) -> Array:
    return placed(xp.asarray(np.array(AMOUNTS, np.float32)), place)


def decided(maps: Array) -> Array:
    """The segmentation that a map stands for, uint8: a map of probabilities is cut at 0.5, any other is one already."""
    xp = namespace(maps)
    return xp.astype(maps >= THRESHOLD, xp.uint8) if maps.dtype == xp.float32 else maps


def with_intensity(images: Array, labels: int) -> Array:
    """f(0) of `start="image"`: 1 where a channel of the image is not 0.

    Args:
        images: (B, C, H, W).
        labels: L.

    Returns:
        uint8 (B, H, W), or (B, L, H, W) with L > 1 labels.
    """
    xp = namespace(images)
    there = xp.astype(xp.any(images != 0, axis=1), xp.uint8)
    return there if labels == 1 else xp.stack([there] * labels, axis=1)


def masked(image: Array, segmentation: Array) -> Array:
    """X(t) = I f(t): the image where the map is 1, zero elsewhere.

    Args:
        image: float32 (..., C, H, W).
        segmentation: uint8 (..., H, W), or (..., L, H, W) with L labels.

    Returns:
        A new float32 array (..., C, H, W); with labels (..., L C, H, W), the image under each label's map.
    """
    if segmentation.ndim < image.ndim:
        return image * segmentation[..., None, :, :]
    *lead, labels, height, width = segmentation.shape
    cut = image[..., None, :, :, :] * segmentation[..., :, None, :, :]
    return namespace(image).reshape(cut, (*lead, labels * image.shape[-3], height, width))


def stacked(image: Array, segmentation: Array) -> Array:
    """I with f(t) as one channel more, or L more: float32 (..., C + L, H, W), fully observed."""
    xp = namespace(image)
    maps = segmentation if segmentation.ndim == image.ndim else segmentation[..., None, :, :]
    return xp.concat([image, xp.astype(maps, image.dtype)], axis=-3)


TRANSITIONS: dict[str, Transition] = {"absorbing": absorbing, "restorable": restorable}
GRADED: dict[str, Transition] = {"additive": additive}  # on maps of probabilities
OBSERVATIONS: dict[str, Observe] = {"masked": masked, "stacked": stacked}


def time_plane(image: Array, steps_left: Any) -> Array:
    """1 / steps left, everywhere: 1 before the last decision, and 0 where none is left.

    Args:
        image: float32 (..., C, H, W), for shape, kind and device.
        steps_left: decisions that are still to be made, the coming one among them; a number, or integers of the
            image's leading dimensions, NumPy's or of the image's own kind.

    Returns:
        A new float32 array (..., 1, H, W).
    """
    xp = namespace(image)
    left = xp.asarray(steps_left, device=device(image))
    some = xp.astype(left, xp.float64)
    # Divided in float64, so that NumPy and torch agree to the last bit.
    share = xp.where(left > 0, 1.0 / xp.where(left > 0, some, xp.ones_like(some)), xp.zeros_like(some))
    *lead, _, height, width = image.shape
    plane = xp.broadcast_to(xp.astype(share, xp.float32)[..., None, None, None], (*lead, 1, height, width))
    return xp.asarray(plane, copy=True)


def observe(image: Array, segmentation: Array, observation: str = "masked", steps_left: Any = None) -> Array:
    """What an agent sees: image and map as `observation` has them, and with `steps_left` the time as the last plane.

    Args:
        image: float32 (..., C, H, W).
        segmentation: uint8 (..., [L,] H, W), or float32 where maps hold probabilities.
        observation: a name in `OBSERVATIONS`.
        steps_left: see `time_plane`; None: time is not observed.

    Returns:
        A new float32 array (..., C', H, W).
    """
    seen = OBSERVATIONS[observation](image, segmentation)
    if steps_left is None:
        return seen
    return namespace(image).concat([seen, time_plane(image, steps_left)], axis=-3)


def observation_channels(image_channels: int, observation: str, labels: int = 1, observe_time: bool = False) -> int:
    """Channels of the observation: C L when masked, C + L when stacked, and one more where time is observed."""
    channels = image_channels * labels if observation == "masked" else image_channels + labels
    return channels + observe_time


def image_channels(observation_channels: int, observation: str, labels: int = 1, observe_time: bool = False) -> int:
    """C of the images of which an observation has that many channels: the inverse of `observation_channels`."""
    channels = observation_channels - observe_time
    return channels // labels if observation == "masked" else channels - labels
