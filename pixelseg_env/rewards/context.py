"""What a reward function may know besides the maps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from array_api_compat import device

from pixelseg_env.arrays import Array, namespace, placed


@dataclass(frozen=True)
class RewardContext:
    """The circumstances of one step. A reward function asks for a field by naming it in its signature.

    In a batch the three counts are arrays that broadcast against the maps, (B, 1, 1) or, with labels, (B, 1, 1, 1);
    for one image they are plain numbers. So one formula, such as `earned * step / horizon`, serves both.

    Attributes:
        step: t, from 1: the step that led from the previous map to the current one; int64.
        steps_left: how many steps follow, `horizon - step`: 0 at the last; int64.
        horizon: steps of this episode; int64.
        image: float32 ([B,] C, H, W) in [0, 1]. `image[..., 0, :, :]` is a map of its first channel.
        action: a(t), uint8 `([B,] [L,] H, W)`: 0 = zero, 1 = keep; with the transition `"additive"` 0 to 7.
    """

    step: Any = None
    steps_left: Any = None
    horizon: Any = None
    image: Array = None
    action: Array = None

    @classmethod
    def of(cls, step: Any, horizon: Any, image: Array, action: Array) -> Self:
        """The context of one image, or of a batch.

        Args:
            step: a number, from 1; of a batch int64 (B,), NumPy or of the maps' kind.
            horizon: likewise; of a batch also one number for all.
            image: float32 ([B,] C, H, W).
            action: uint8 `([B,] [L,] H, W)`. Counts of a batch become arrays of its kind, on its device.

        Returns:
            The context.
        """
        if np.ndim(step) == 0:
            return cls(int(step), int(horizon) - int(step), int(horizon), image, action)
        steps = _counts(step, action)
        horizons = _counts(horizon, action) + 0 * steps  # one number for all becomes one per image
        return cls(steps, horizons - steps, horizons, image, action)


CONTEXT = tuple(field.name for field in fields(RewardContext))


def _counts(values: Any, like: Array) -> Array:
    """Numbers, one per image or one for all, as an int64 array that broadcasts against maps of a batch."""
    xp = namespace(like)
    counts = xp.asarray(values, dtype=xp.int64, copy=True)
    return xp.reshape(placed(counts, device(like)), (-1, *(1,) * (like.ndim - 1)))
