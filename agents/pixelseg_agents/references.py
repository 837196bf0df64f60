"""Predictors that learn nothing: what any trained agent has to beat.

Each has Stable-Baselines3's `predict(observation, state, episode_start, deterministic)`: observation
float32 (B, C, H, W), actions int8 (B, H, W) with 0 = zero (background) and 1 = keep.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelseg_env import to_numpy

Actions = NDArray[np.int8]


class Reference:
    """What the references have in common: facts as agents have them, and one way to be made.

    A subclass has Stable-Baselines3's `predict`.
    """

    name: ClassVar[str]  # in tables
    family: ClassVar[str] = "reference"
    supervised: ClassVar[bool] = False
    looks_once: ClassVar[bool] = False
    decides: ClassVar[bool] = (
        True  # its actions are zero and keep, whatever the transition's are; `evaluate` translates
    )

    @classmethod
    def playing(cls, env: Any, seed: int = 0) -> Self:
        """The reference for an environment that is played.

        Args:
            env: the vector environment; only the oracle looks at it.
            seed: of the draws, where there are any.
        """
        return cls()

    def moved_to(self, env: Any) -> Self:
        """The same reference, in the same state, for another environment."""
        return self


class KeepAll(Reference):
    """Keeps every pixel: under `"absorbing"` the whole image stays segmented."""

    name = "keep everything"

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Actions, Any]:
        """Returns ones, int8 (B, H, W), and the state as it came."""
        batch, _, height, width = observation.shape
        return np.ones((batch, height, width), np.int8), state


class Random(Reference):
    """Keeps each pixel with a given probability, independently, at every step."""

    name = "random"

    def __init__(self, seed: int | None = None, keep: float = 0.5) -> None:
        """Seeds the generator.

        Args:
            seed: None draws a fresh seed.
            keep: the probability of keeping a pixel.
        """
        self._generator = np.random.default_rng(seed)
        self._keep = keep

    @classmethod
    def playing(cls, env: Any, seed: int = 0) -> Self:
        """See `Reference.playing`."""
        return cls(seed)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Actions, Any]:
        """Returns drawn actions, int8 (B, H, W), and the state as it came; never deterministic."""
        batch, _, height, width = observation.shape
        return (self._generator.random((batch, height, width)) < self._keep).astype(np.int8), state


class Otsu(Reference):
    """Otsu's threshold per image; the brighter side is the object.

    The threshold is taken at the first step of an episode, when the masked observation still is the
    whole image, and the decision is repeated at every later step: Otsu on a carved image would split
    the object itself. The decision travels in `state`, so the predictor has no memory of its own.

    An image of one intensity has no brighter side, and nothing of it is kept.
    """

    name = "Otsu's threshold"

    def __init__(self, channel: int | None = None) -> None:
        """Chooses what is thresholded.

        Args:
            channel: the channel's number, or None for the mean of all. (The map that `"stacked"` adds
                as the last channel is 1 everywhere at the first step and shifts no threshold.)
        """
        self._channel = channel

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Actions, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Actions, tuple[Actions, ...]]:
        """Thresholds the images whose episode starts and repeats itself on the others.

        Args:
            observation: float32 (B, C, H, W).
            state: what the last call returned; None makes every image a new episode.
            episode_start: bool (B,), True where a new episode starts; None means only where `state` is None.
            deterministic: without effect.

        Returns:
            Actions int8 (B, H, W) and the state, a tuple that holds them.
        """
        batch, _, height, width = observation.shape
        if state is None:
            actions = np.empty((batch, height, width), np.int8)
            fresh = np.ones(batch, np.bool_)
        else:
            actions = state[0].copy()
            fresh = np.zeros(batch, np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
        for i in np.flatnonzero(fresh):
            image = to_numpy(observation[i])
            shown = image.mean(axis=0) if self._channel is None else image[self._channel]
            actions[i] = _brighter_side(shown)
        return actions, (actions,)


def _brighter_side(image: NDArray[np.float32]) -> Actions:
    """Thresholds (H, W) by Otsu on 256 levels between its own least and greatest value."""
    low, high = float(image.min()), float(image.max())
    if high - low < 1e-6:
        return np.zeros(image.shape, np.int8)
    levels = np.rint((image - low) * (255 / (high - low))).astype(np.uint8)
    _, above = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(above, np.int8)


class Oracle(Reference):
    """Keeps what the target has: the most that any agent can reach, which shows that the scale is right.

    Args:
        env: the `PixelSegVectorEnv` that is played; its data set's masks are looked up.
    """

    name = "oracle"

    def __init__(self, env: Any) -> None:
        self._env = env

    @classmethod
    def playing(cls, env: Any, seed: int = 0) -> Self:
        """See `Reference.playing`."""
        return cls(env)

    def moved_to(self, env: Any) -> Self:
        """The oracle of another environment."""
        return type(self)(env)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Actions, Any]:
        """Returns the targets of the images that are played, int8 (B, [L,] H, W), and the state as it came."""
        return self._env.dataset.masks[self._env.index].astype(np.int8), state


REFERENCES: dict[str, type[Reference]] = {"random": Random, "keep-all": KeepAll, "otsu": Otsu, "oracle": Oracle}
