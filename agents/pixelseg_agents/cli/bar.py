"""The progress bar of the commands, on stderr."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

PARTS = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} {unit}s [{elapsed}<{remaining}]"  # of what is done in parts


class Delayed(tqdm):  # type: ignore[misc, type-arg]
    """A bar that `say`, too, does not bring out before its time."""

    def refresh(self, *words: Any, **more: Any) -> Any:
        """Draws it, if it is due."""
        return self._due and super().refresh(*words, **more)

    def clear(self, *words: Any, **more: Any) -> None:
        """Takes it away, if it is there."""
        if self._due:
            super().clear(*words, **more)

    @property
    def _due(self) -> bool:
        return bool(self._time() >= self.start_t + self.delay)


def progress_bar(total: int, unit: str, shown: bool = True, kind: Any = tqdm, **more: Any) -> tqdm[Any]:
    """A bar that moves five times a second on a terminal; elsewhere, in a log, it is a line every half minute.

    Args:
        total: how much there is to do.
        unit: what is counted.
        shown: whether it is.
        kind: tqdm, or a class that extends it.
        **more: of tqdm.
    """
    interval = 0.2 if sys.stderr.isatty() else 30
    bar: tqdm[Any] = kind(total=total, unit=unit, disable=not shown, mininterval=interval, dynamic_ncols=True, **more)
    return bar


def brief_bar(total: int, unit: str, name: str, shown: bool = True) -> tqdm[Any]:
    """A bar that comes only when the work has taken a second, counts parts, and goes when it is done."""
    return progress_bar(total, unit, shown, Delayed, desc=name, delay=1, leave=False, bar_format=PARTS)


def say(text: str, where: TextIO | None = None) -> None:
    """Prints a line, on a terminal above the bars, in whose middle it would begin otherwise."""
    if sys.stderr.isatty():
        tqdm.write(text, file=where)
    else:
        print(text, file=where)
