"""Local windows: what the agent of one pixel sees of the observation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError

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
