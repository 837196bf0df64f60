"""Local windows: what the agent of one pixel sees of the observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]


def check_view(view: Any) -> int:
    """Returns the side of a window as an int.

    Raises:
        OptionError: it is not an odd whole number.
    """
    if isinstance(view, bool) or not isinstance(view, int | np.integer) or view < 1 or view % 2 == 0:
        raise OptionError(f"view={view!r}: expected an odd number of pixels, so that the window has a middle")
    return int(view)


def windows(observation: Floats, view: int) -> Floats:
    """The `view` x `view` window around every pixel, zero beyond the border.

    Args:
        observation: float32 (..., C, H, W).
        view: side of the windows, odd.

    Returns:
        A read-only view (..., H, W, C, view, view) of one padded copy.
    """
    margin = view // 2
    padding = [(0, 0)] * (observation.ndim - 2) + [(margin, margin)] * 2
    around = sliding_window_view(np.pad(observation, padding), (view, view), axis=(-2, -1))  # (..., C, H, W, v, v)
    return np.moveaxis(around, -5, -3)


def label_windows(observation: Floats, view: int, labels: int) -> list[Floats]:
    """The windows that the agents of each label see.

    With several labels, L planes are added behind the observation's channels: ones for the agent's own label, zeros
    for the others. Agents that share one policy can tell by them what they decide about.

    Args:
        observation: float32 (..., C, H, W).
        view: side of the windows, odd.
        labels: L.

    Returns:
        L arrays as `windows` returns them, (..., H, W, C, view, view); with L > 1 of C + L channels.
    """
    if labels == 1:
        return [windows(observation, view)]
    *lead, _, height, width = observation.shape
    own = np.eye(labels, dtype=np.float32)[:, :, None, None]
    planes = [np.broadcast_to(plane, (*lead, labels, height, width)) for plane in own]
    return [windows(np.concatenate([observation, plane], axis=-3), view) for plane in planes]


def tensor_windows(observation: Tensor, view: int, labels: int) -> Tensor:
    """`label_windows` of tensors, on their device.

    Args:
        observation: float32 (B, C, H, W).
        view: side of the windows, odd.
        labels: L.

    Returns:
        (B, L, H, W, C', view, view), of C channels, with L > 1 of C + L.
    """
    import torch
    from torch.nn.functional import pad

    batch, _, height, width = observation.shape
    around = pad(observation, [view // 2] * 4).unfold(-2, view, 1).unfold(-2, view, 1)  # (B, C, H, W, view, view)
    if labels == 1:
        return around.permute(0, 2, 3, 1, 4, 5)[:, None]
    # The plane of the agent's own label: ones inside the image, zeros beyond its border.
    ones = pad(observation.new_ones(height, width), [view // 2] * 4).unfold(-2, view, 1).unfold(-2, view, 1)
    own = torch.eye(labels, device=observation.device)[..., None, None, None, None] * ones  # (L, L, H, W, view, view)
    parts = [torch.cat([around, plane.expand(batch, *plane.shape)], 1).permute(0, 2, 3, 1, 4, 5) for plane in own]
    return torch.stack(parts, 1)


def agent_names(map_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The agents of a map, in the order of its entries: `"pixel_y_x"`, after the label's number if there is one."""
    return tuple("pixel_" + "_".join(map(str, index)) for index in np.ndindex(map_shape))


def window_channels(channels: int, labels: int) -> int:
    """Channels of a window: those of the observation, and L more with several labels."""
    return channels + labels * (labels > 1)
