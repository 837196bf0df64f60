"""Asks a predictor for the actions of a batch, and not twice about an image that looks the same."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelseg_env import to_numpy
from pixelseg_env.dynamics import AMOUNTS

# With the transition "additive", the amounts that bring any pixel to 0 and to 1.
ZERO, KEEP = int(np.argmin(AMOUNTS)), int(np.argmax(AMOUNTS))


class Predictor(Protocol):
    """Anything that decides: an agent of ours, of Stable-Baselines3, or a reference."""

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Returns actions (B, H, W), or flat (B, H W), of 0 and 1 for observations (B, C, H, W), and the next state."""
        ...


class Decisions:
    """What a predictor decides in the episodes of one batch; to be called at every step.

    One that says of itself that it `repeats`, about the same image, what it decided when it saw the same, is asked only
    about images that look otherwise than at the step before. All others are asked about the whole batch at every step.

    Args:
        predictor: what decides.
        batch: B.
        count: images of the batch that are wanted; the others are the last of these once more.
        shape: of a map, ([L,] H, W).
        deterministic: whether it takes its most probable action.
        transition: the environment's.
    """

    def __init__(
        self, predictor: Predictor, batch: int, count: int, shape: tuple[int, ...], deterministic: bool, transition: Any
    ) -> None:
        self._predictor, self._batch, self._count, self._shape = predictor, batch, count, shape
        self._deterministic = deterministic
        self._repeats = deterministic and getattr(predictor, "repeats", False)
        self._translated = getattr(predictor, "decides", False) and transition == "additive"
        self._state: Any = None
        self._seen: Any = None
        self._actions: Any = None

    def __call__(self, observation: Any) -> Any:
        """Actions (B, [L,] H, W) for observations (B, C, H, W)."""
        rows = self._due(observation)
        if len(rows) == self._batch:
            self._actions = self._ask(observation, slice(None))
        elif len(rows):
            # torch computes one image alone by other routines, which round otherwise: two at least, so that a mask
            # does not depend on how the images beside it went.
            found = self._ask(observation, rows if len(rows) > 1 else rows.repeat(2))
            fill = np.minimum(np.arange(self._batch), self._count - 1)
            actions = (found if self._actions is None else self._actions)[fill]  # a copy
            actions[rows] = found[: len(rows)]
            self._actions = actions[fill]
        self._seen = observation
        return self._actions

    def _due(self, observation: Any) -> NDArray[np.int64]:
        """The rows that are to be asked about."""
        if not self._repeats:
            return np.arange(self._batch)
        if self._seen is None:
            return np.arange(self._count)
        changed = (observation != self._seen).reshape(self._batch, -1).any(1)
        return np.flatnonzero(to_numpy(changed)[: self._count])

    def _ask(self, observation: Any, rows: Any) -> Any:
        fresh = np.full(self._batch, self._seen is None)
        actions, self._state = self._predictor.predict(
            observation[rows], state=self._state, episode_start=fresh[rows], deterministic=self._deterministic
        )
        actions = _shaped(actions, (len(fresh[rows]), *self._shape))
        return np.where(to_numpy(actions) == 1, KEEP, ZERO) if self._translated else actions


def _shaped(actions: Any, shape: tuple[int, ...]) -> Any:
    """Actions in the environment's shape: flat ones unfolded, one map for all labels repeated."""
    batch, *maps = shape
    if tuple(actions.shape) == (batch, math.prod(maps)):  # an agent trained on flat actions
        flat = np.asarray(actions)
        # Stable-Baselines3's policies draw binary actions as floats.
        return (flat.astype(np.int8) if flat.dtype.kind == "f" and np.isin(flat, (0, 1)).all() else flat).reshape(shape)
    if len(maps) == 3 and tuple(actions.shape) == (batch, *maps[1:]):  # a reference that knows of one object
        return np.repeat(to_numpy(actions)[:, None], maps[0], axis=1)
    return actions
