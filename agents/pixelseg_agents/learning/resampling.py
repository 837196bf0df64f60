"""Squares of images, each in another place and size, brought to one resolution and back."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_out(images: Tensor, windows: Tensor, side: int) -> Tensor:
    """Resamples a window of every image, bilinearly and without aliasing; outside of an image is 0.

    Args:
        images: float32 (B, C, H, W).
        windows: a square of each, float32 (B, 3): row and column of its first pixel's edge, and its side, in pixels.
        side: S.

    Returns:
        float32 (B, C, S, S), with a gradient to the images.
    """
    step = (windows[:, 2] / side)[:, None]
    places = (torch.arange(side, device=images.device) + 0.5) * step - 0.5
    rows, columns = (
        _weights(windows[:, axis, None] + places, step, images.shape[-2 + axis], outside=0.0) for axis in (0, 1)
    )
    return rows[:, None] @ (images @ columns[:, None].transpose(-1, -2))


def spread_back(found: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Undoes `cut_out` for what a network found: every pixel of the image gets a value.

    Args:
        found: float32 (B, ..., S, S).
        windows: see `cut_out`.
        size: (H, W).

    Returns:
        float32 (B, ..., H, W), with a gradient to `found`; beyond a window, the value at its nearest edge.
    """
    side = found.shape[-1]
    step = (side / windows[:, 2])[:, None]
    rows, columns = (
        _weights(
            (torch.arange(length, device=found.device) + 0.5 - windows[:, axis, None]) * step - 0.5, step, side, None
        )
        for axis, length in enumerate(size)
    )
    flat = found.flatten(1, -3) if found.ndim > 3 else found[:, None]
    spread = (rows[:, None] @ flat) @ columns[:, None].transpose(-1, -2)
    return spread.reshape(*found.shape[:-2], *size)


def _weights(places: Tensor, step: Tensor, count: int, outside: float | None) -> Tensor:
    """The share of each of `count` samples in values at other places, float32 (B, places, count).

    Args:
        places: (B, N), 0 is the middle of the first sample.
        step: between two places, (B, 1): where it is above 1, a place takes in all samples up to the next.
        count: of samples.
        outside: the factor on places that lie beyond the samples; None: they are worth what the nearest sample is.
    """
    inside = (places >= -0.5) & (places <= count - 0.5)
    places = places.clamp(0, count - 1)[:, :, None]
    shares = (1 - (torch.arange(count, device=places.device) - places).abs() / step[:, :, None].clamp_min(1)).relu()
    shares = shares / shares.sum(-1, keepdim=True)
    return shares if outside is None else torch.where(inside[:, :, None], shares, shares * outside)
