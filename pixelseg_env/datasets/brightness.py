"""From a file's grey levels to [0, 1]: which level is white."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.errors import DataError, OptionError

DEPTHS = (1023, 4095, 16383)  # white of 10, 12 and 14 bits
DIM = 16  # 8-bit images whose brightest pixel is below this are black to an eye


class DimImagesWarning(UserWarning):
    """Images are much darker than their type allows; it says what was taken for white, and how to say it better."""


class WhiteIsZeroWarning(UserWarning):
    """In mask files 0 is white; it says what is taken for the object, and how to swap it."""


def check_white(white: Any) -> float | None:
    """Returns the option `white`.

    Raises:
        OptionError: it is not a positive number.
    """
    number = isinstance(white, int | float | np.number) and not isinstance(white, bool)
    if white is not None and not (number and 0 < white < float("inf")):
        raise OptionError(f"white={white!r} is not valid; expected a positive number (a grey level) or None")
    return None if white is None else float(white)


def choose_white(name: str, dtype: Any, brightest: float, white: float | None) -> float:
    """The grey level that becomes 1.

    The rule: what the option says; else 255 for 8 bits, and for 16 bits 65535, or, where no pixel of the whole set
    (in `predict`: of the file) is brighter, the smallest of 1023, 4095 and 16383, white of 10, 12 and 14 bits; 1 for
    floats.

    Args:
        name: of the data set or file, for messages.
        dtype: of the pixels.
        brightest: their largest value.
        white: the option.

    Raises:
        DataError: floats are brighter than 1, and the option does not say what white is.

    Warns:
        DimImagesWarning: 16-bit images were taken for less, or images are black to an eye.
    """
    if white is not None:
        return white
    if dtype == np.uint8:
        if _is_dark(brightest, 255):
            warnings.warn(
                f"{name}: the brightest pixel is {brightest:g} of 255, the images are all but black; say which level "
                f"is white, e.g. white={max(brightest, 1):g}",
                DimImagesWarning,
                stacklevel=2,
            )
        return 255.0
    if dtype == np.uint16:
        found = next((depth for depth in DEPTHS if brightest <= depth), 65535)
        if found < 65535:
            dark = (
                f", and they are all but black: try white={max(brightest, 1):g}" if _is_dark(brightest, found) else ""
            )
            warnings.warn(
                f"{name}: 16-bit images whose brightest pixel is {brightest:g}: {found} is taken for white{dark}; say "
                f"so with white={found}, or white=65535 if they are meant to be dark, so that single files are read "
                "alike",
                DimImagesWarning,
                stacklevel=2,
            )
        return float(found)
    if brightest > 1:
        raise DataError(
            f"{name}: expected float pixels in [0, 1], found {brightest:g}; say which level is white, e.g. white=255"
        )
    if _is_dark(brightest, 1.0):
        level = f"say which level is white, e.g. white={brightest:.3g}" if brightest > 0 else "they hold nothing else"
        warnings.warn(
            f"{name}: float images whose brightest pixel is {brightest:.3g} of 1, all but black; {level}",
            DimImagesWarning,
            stacklevel=2,
        )
    return 1.0


def _is_dark(brightest: float, white: float) -> bool:
    """Whether images are black to an eye."""
    return brightest / white < DIM / 255


def scaled(pixels: NDArray[Any], white: float) -> NDArray[Any]:
    """Pixels of any shape with 1 for white: uint8 stays uint8, with 255 for it; others become float32 in [0, 1].

    An 8-bit file holds no level above 255, so that is white in it, whatever is said of deeper files.
    """
    if pixels.dtype == np.uint8:
        if white >= 255:
            return pixels
        return np.asarray(np.rint(np.minimum(pixels * (255 / white), 255)), np.uint8)
    return np.asarray(np.clip(pixels.astype(np.float32) / np.float32(white), 0, 1), np.float32)
