"""Which image an episode shows, and how long it lasts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError, shown

# Steps of an episode; several, of which each episode draws one; or a function of the episode's number, from 0.
Horizon = int | Sequence[int] | Callable[[int], int]

ORDERS = ("random", "shuffled", "sequential")
LONGEST = 2**31 - 1  # steps of an episode: what counts them must not overflow


class Order:
    """The order in which the images of a data set come, for one environment or a batch that shares it.

    Args:
        name: `"random"` draws each image by itself; `"shuffled"` shows every image once before any twice, in an order
            that is drawn anew for each epoch; `"sequential"` shows them as they lie in the data set, again and again.
        count: N, the number of images.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._waiting = np.zeros(0, np.int64)  # the rest of this epoch

    def restart(self) -> None:
        """Begins a new epoch with the next draw."""
        self._waiting = self._waiting[:0]

    def draw(self, generators: Sequence[np.random.Generator], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Draws an image for each episode that begins.

        Args:
            generators: one for each of B episodes; an epoch's order comes from the first.
            mask: bool (B,), which episodes begin.

        Returns:
            int64 (B,), 0 where none begins.
        """
        drawn = np.zeros(len(generators), np.int64)
        for i in np.flatnonzero(mask).tolist():
            drawn[i] = generators[i].integers(self._count) if self._name == "random" else self._next(generators[0])
        return drawn

    def _next(self, generator: np.random.Generator) -> int:
        if not len(self._waiting):
            everyone = np.arange(self._count)
            self._waiting = generator.permutation(self._count) if self._name == "shuffled" else everyone
        first, self._waiting = self._waiting[0], self._waiting[1:]
        return int(first)


def check_horizon(horizon: Any) -> int:
    """Returns a horizon as an int.

    Raises:
        OptionError: it is not a whole number of at least 1.
    """
    try:
        value = operator.index(horizon)
    except TypeError:
        value = 0
    if not 1 <= value <= LONGEST or isinstance(horizon, bool):
        most = f" and at most {LONGEST:,}" if value > LONGEST else ""
        raise OptionError(f"horizon={shown(horizon)}: expected a whole number of steps, at least 1{most}")
    return value


def check_horizons(horizon: Any) -> Horizon:
    """Returns what an episode's steps are taken from: an int, a tuple of ints, or the function as it came.

    Raises:
        OptionError: it is neither a whole number of at least 1, nor several of them, nor a function.
    """
    if callable(horizon):
        return horizon  # type: ignore[no-any-return]  # what it returns is checked when it is called
    if isinstance(horizon, Sequence | np.ndarray) and not isinstance(horizon, str) and np.ndim(horizon) == 1:
        if not len(horizon):
            raise OptionError("horizon: expected at least one number of steps, got none")
        return tuple(check_horizon(steps) for steps in horizon)
    return check_horizon(horizon)


def longest(horizon: Horizon) -> int | None:
    """The steps of the longest episode; None where a function decides."""
    if callable(horizon):
        return None
    return max(horizon) if isinstance(horizon, Sequence) else horizon


def draw_horizon(horizon: Horizon, generator: np.random.Generator, episode: int) -> int:
    """The steps of one episode.

    Args:
        horizon: as `check_horizons` returned it.
        generator: draws from several; not touched otherwise.
        episode: the number of the episode, from 0, for a function.

    Raises:
        OptionError: the function returned no whole number of at least 1.
    """
    if callable(horizon):
        return check_horizon(horizon(episode))
    return horizon[int(generator.integers(len(horizon)))] if isinstance(horizon, Sequence) else horizon
