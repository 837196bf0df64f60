"""From a case's grey levels to [0, 1] by percentiles: of each channel of a volume, or of all images of a patient.

Magnetic resonance has no unit: what is bright in one patient's images may be grey in another's. Percentiles of the
whole case bring them together; those of a single slice would change with what lies in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError, check_choice

PERCENTILES = (0.5, 99.5)
SCALINGS = ("white", "percentiles")
Limits = tuple[float, float]


def check_scaling(scaling: Any, white: Any) -> bool:
    """Returns whether the option `scaling` asks for percentiles.

    Raises:
        OptionError: it is not known, or `white` is given beside percentiles.
    """
    wanted = check_choice("scaling", scaling, SCALINGS) == "percentiles"
    if wanted and white is not None:
        raise OptionError(f"white={white!r} and scaling=percentiles: each says which level becomes 1; leave one out")
    return wanted


def limits_of(values: NDArray[Any]) -> Limits:
    """The levels that become 0 and 1: the 0.5th and the 99.5th percentile, so that single pixels count little."""
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    return low, high


def stretched(values: NDArray[Any], limits: Limits) -> NDArray[np.float32]:
    """Values with 0 and 1 at the limits, what lies outside cut off; a constant volume or case becomes 0."""
    low, high = limits
    scale = 1.0 / (high - low) if high > low else 0.0
    return np.asarray(np.clip((values.astype(np.float32) - low) * scale, 0.0, 1.0), np.float32)


def channel_limits(pages: Iterable[NDArray[Any]]) -> tuple[Limits, ...]:
    """The limits of each channel over all images of a case, (H, W) or (H, W, C) each, of any sizes."""
    flat = np.concatenate([np.atleast_3d(page).reshape(-1, np.atleast_3d(page).shape[2]) for page in pages])
    return tuple(limits_of(flat[:, c]) for c in range(flat.shape[1]))


def stretched_page(page: NDArray[Any], limits: Sequence[Limits]) -> NDArray[Any]:
    """An image, (H, W) or (H, W, C), each channel stretched: uint8 stays uint8, others become float32 in [0, 1]."""
    channels = [stretched(one, own) for one, own in zip(np.moveaxis(np.atleast_3d(page), 2, 0), limits, strict=True)]
    values = np.stack(channels, axis=2).reshape(page.shape)
    return np.rint(values * 255).astype(np.uint8) if page.dtype == np.uint8 else values


def scaled_by_case(
    pages: Sequence[NDArray[Any]], files: Iterable[Path], read: Callable[..., list[NDArray[Any]]], channels: str
) -> list[NDArray[Any]]:
    """Pages of one file of a case, stretched by the limits of the case, for `predict`.

    Args:
        pages: what `read` gives of the file.
        files: all files of its case, the file itself among them.
        read: (file, channels) -> its pages.
        channels: which, see `read`.

    Raises:
        DataError: a file cannot be read.
    """
    limits = _limits_of_files(tuple((one, one.stat().st_mtime_ns) for one in files), read, channels)
    return [stretched_page(page, limits) for page in pages]


@lru_cache(maxsize=4)
def _limits_of_files(
    files: tuple[tuple[Path, int], ...], read: Callable[..., list[NDArray[Any]]], channels: str
) -> tuple[Limits, ...]:
    """The limits of a case, found once for all of its files that are predicted one after another."""
    return channel_limits(page for path, _ in files for page in read(path, channels))
