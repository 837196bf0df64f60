"""Images that are transparent in parts: their colours are taken as stored, which is said."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from pixelseg_env.datasets.problems import first_of

SHOWN = 3  # files that a message names


class TransparencyWarning(UserWarning):
    """Image files are transparent in parts, which is not looked at; it names them, and says what to do."""


def warn_of_transparency(found: Iterable[Path], name: str = "") -> None:
    """Says which images are transparent in parts, once for a whole set.

    Args:
        found: the images' files; none: nothing is said.
        name: the data set's name; empty: of a single file.

    Warns:
        TransparencyWarning: there are such files.
    """
    files = sorted(set(found))
    if not files:
        return
    whose = f"data set {name!r}: " if name else ""
    warnings.warn(
        f"{whose}{first_of(files, SHOWN)}: transparent in parts; the colours are taken as stored, also where a viewer "
        "shows none of them. If what lies there is not meant to be seen, save the images without transparency on a "
        "background of your choice",
        TransparencyWarning,
        stacklevel=2,
    )
