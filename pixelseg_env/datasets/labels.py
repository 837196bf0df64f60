"""Which values of a mask or label file are objects: the options `label` and `labels`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.errors import DataError, OptionError

Value = float | tuple[int, ...]  # what stands for the object in a mask: a number, or a colour
_LUMINANCE = np.array([0.299, 0.587, 0.114])
NEARLY = 1e-3  # a label further than this from a whole number is not one that rounding has spoilt


def check_label(label: Any) -> int | None:
    """Returns the value that is the object, or None.

    Raises:
        OptionError: it is not a positive whole number.
    """
    if label is not None and not _is_value(label):
        raise OptionError(f"label={label!r} is not valid; expected a positive whole number or None")
    return None if label is None else int(label)


def check_labels(labels: Any, label: int | None = None) -> tuple[int, ...]:
    """Returns the values of several labels, or ().

    Args:
        labels: a sequence, or text such as "1,2", as a command line has it.
        label: the option for a single one, which excludes it.

    Raises:
        OptionError: they are not two or more different positive whole numbers, or `label` is given too.
    """
    if labels is None:
        return ()
    values = _listed(labels)
    if len(values) < 2 or len(set(values)) < len(values) or not all(map(_is_value, values)):
        raise OptionError(f"labels={labels!r} is not valid; expected two or more different values, such as (1, 2)")
    if label is not None:
        raise OptionError(f"label={label!r} and labels={labels!r}: give one of them")
    return tuple(int(value) for value in values)


def check_label_names(labels: Any) -> tuple[int, ...] | tuple[str, ...]:
    """Returns several labels that are either values of one mask, or names of masks of their own; or ().

    Raises:
        OptionError: they are neither, or mixed.
    """
    values = () if labels is None else _listed(labels)
    names = [value for value in values if isinstance(value, str) and value]
    if not names:
        return check_labels(labels)
    if len(names) < max(2, len(values)) or len(set(names)) < len(names):
        raise OptionError(
            f"labels={labels!r} is not valid; expected two or more different values, such as (1, 2), "
            "or two or more different names, such as ('organ', 'lesion')"
        )
    return tuple(names)


def _listed(labels: Any) -> tuple[Any, ...]:
    if isinstance(labels, str):
        parts = [part.strip() for part in labels.split(",")] if "," in labels else []
        return tuple(int(part) if part.isdecimal() else part for part in parts)
    return tuple(labels) if isinstance(labels, Sequence | np.ndarray) else ()


def _is_value(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def rounded(values: NDArray[Any]) -> NDArray[Any]:
    """Labels that went through floating point, such as 0.9999999, as the whole numbers that they were."""
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    return np.where(np.abs(values - whole) <= NEARLY, whole, values)


def listed(values: NDArray[Any]) -> str:
    """The different values of an array for a message, as they are: 0.9999999 is not written 1."""
    found = np.unique(values)
    return ", ".join(f"{value:.9g}" for value in found[:6]) + (", ..." if len(found) > 6 else "")


def shown(value: Value) -> str:
    """A grey level or colour, for a message."""
    return f"{value:.9g}" if isinstance(value, int | float) else f"({', '.join(map(str, value))})"


def luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """How bright pixels (H, W) or (H, W, 3) look, on the scale of their channels; whole numbers stay whole."""
    if pixels.ndim == 2:
        return pixels
    grey = pixels @ _LUMINANCE
    return np.asarray(np.rint(grey) if pixels.dtype.kind in "iu" else grey)


def mask_advice(levels: Sequence[float] | NDArray[Any] = ()) -> str:
    """What a person can do whose mask has several values, which are sorted."""
    level = "<grey level>"
    if len(levels) > 1:
        low, high = float(levels[0]), float(levels[-1])
        middle = (low + high) / 2
        # Between 0 and 1, whole numbers would tell nothing.
        level = f"{middle:.0f}" if high - low > 2 and middle > 0 else f"{middle:.3g}"
        # What is darker than black can be the object only where the two are swapped.
        level += " or another grey level" + (", with invert=true," if high == 0 else "")
    return (
        f"make it binary, or with the data set 'folder' say threshold={level} (object is what is brighter), or "
        "labels=... if each value is an object of its own (values of a grey or indexed mask, or folders of masks)"
    )


def found_values(there: Iterable[float]) -> str:
    """The values that files hold, for a message that one is not among them."""
    values = sorted(there)
    return f" (found {listed(np.array(values))})" if values else ""


def check_whole(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Returns values of labels, of which whole ones can be told apart.

    Raises:
        DataError: some are not whole, as where a label was resampled by interpolation.
    """
    if values.dtype.kind == "f":
        odd = values[values != np.rint(values)]  # true for NaN
        if odd.size:
            raise DataError(
                f"{path}: expected whole numbers as labels, got {listed(odd)}, {odd.size} times; where it was "
                "resampled, do so again with the nearest neighbour"
            )
    return values


def stack_values(values: NDArray[Any], wanted: Sequence[int]) -> NDArray[np.uint8]:
    """One mask a value: uint8 (L, *shape) of 0 and 1."""
    return np.stack([values == one for one in wanted]).view(np.uint8)


def check_present(
    masks: Sequence[NDArray[np.uint8]], wanted: Sequence[Any], where: Path | str, there: Iterable[float] = ()
) -> None:
    """Refuses a label that no mask of (L, ...) has.

    Args:
        masks: of all images.
        wanted: the labels.
        where: their folder.
        there: values that the files hold, for the message.

    Raises:
        DataError: there is one.
    """
    for k, one in enumerate(wanted):
        if not any(mask[k].any() for mask in masks):
            what = (
                f"no mask of {one!r} holds an object"
                if isinstance(one, str)
                else f"no label file holds the value {one}{found_values(there)}"
            )
            raise DataError(f"{where}: labels={tuple(wanted)}: {what}; leave it out")
