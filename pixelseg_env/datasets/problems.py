"""All that is wrong with a set's files at once, so that nobody mends them one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pixelseg_env.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST, LONGEST = 20, 4000  # problems that a message lists, and characters of them in all
SHOWN = 200  # characters of somebody else's text in a message


def first_of(names: Sequence[object], most: int, between: str = ", ") -> str:
    """The first of some names, and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(map(str, names[:most])) + more


class FilesError(DataError):
    """Several files that cannot be used.

    Args:
        problems: a line for each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        ends = itertools.accumulate(len(line) for line in self.problems[:MOST])
        listed = max(1, sum(end <= LONGEST for end in ends))
        more = len(self.problems) - listed
        lines = [
            f"{len(self.problems)} problems:",
            *self.problems[:listed],
            *([f"and {more} more"] if more > 0 else []),
        ]
        super().__init__("\n  ".join(lines))


def for_each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Calls a function with every item, those after one that fails, too.

    Raises:
        DataError: what the function raised, if once.
        FilesError: it raised several.
    """
    found: list[Result] = []
    errors: list[DataError] = []
    for item in items:
        try:
            found.append(function(item))
        except DataError as error:
            errors.append(error)
    problems = [line for error in errors for line in getattr(error, "problems", (str(error),))]
    if len(problems) > 1:
        raise FilesError(problems) from errors[0]
    if errors:
        raise errors[0]
    return found
