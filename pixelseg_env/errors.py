"""Errors that tell a user what was expected, what came, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_FEW = 8  # items of a list that a message shows


class PixelSegError(ValueError):
    """Base of every error that a user can mend: bad data, a bad option, a bad file.

    The command line prints its message without a traceback.
    """


class DataError(PixelSegError):
    """An image, mask or volume that cannot be used; the message names the file."""


class OptionError(PixelSegError):
    """An option whose name or value is not one that the library knows."""


class UnknownOptionError(OptionError, TypeError):
    """An option that does not exist. Also a `TypeError`, as Python's own for an argument that is not known."""


class ActionError(PixelSegError):
    """An action of the wrong shape, type or value."""


def shown(value: object, limit: int = 80) -> str:
    """A value for a message: of an array its shape and type, of anything else at most `limit` characters."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        if not shape:
            return str(value)
        return f"<{type(value).__name__} of shape {tuple(shape)}, {dtype}>"
    if isinstance(value, list | tuple) and len(value) > _FEW:
        return f"<{type(value).__name__} of {len(value)}: {shown(value[0], limit // 2)}, ...>"
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Returns `" Did you mean 'x'?"` for the nearest known name, or an empty string."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(option: str, value: object, known: Iterable[str]) -> str:
    """Returns `value` if it is one of `known`.

    Args:
        option: the option's name, for the message.
        value: what the user gave.
        known: the names that are valid.

    Returns:
        `value`.

    Raises:
        OptionError: the value is not known; the message lists the valid names and the nearest.
    """
    names = sorted(known)
    if isinstance(value, str) and value in names:
        return value
    listed = ", ".join(repr(name) for name in names)
    raise OptionError(f"{option}={shown(value)} is not known; expected one of {listed}.{did_you_mean(value, names)}")
