"""Tianshou view: every pixel a sub-environment for its collectors. Needs no Tianshou itself."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.errors import ActionError
from pixelseg_env.views.pixel_vector import Floats, PixelVectorEnv

Stepped = tuple[Floats, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], NDArray[Any]]


class PixelTianshouEnv:
    """Every pixel of every image as a sub-environment, with the methods of Tianshou's vector environments.

    A collector of Tianshou steps all cells together and then resets those whose episodes ended, by their numbers.
    Cells, windows, actions and rewards are those of `PixelVectorEnv`. All pixels of an image end together; their new
    episodes begin within that step and are what `reset(env_id)` hands out, so each is to be reset once.

    Args:
        num_images: images at once, B. `len(env)` is B H W (B L H W with L labels).
        view: side of the windows in pixels, odd.
        **options: see `PixelVectorEnv`.

    Attributes:
        observation_space: a cell's window, Box(0, 1, (C', view, view), float32), for each cell (a list).
        action_space: a cell's actions, likewise.

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """

    is_async: ClassVar[bool] = False

    def __init__(self, num_images: int = 1, view: int = 5, **options: Any) -> None:
        self._env = PixelVectorEnv(num_images, view, **options)
        self.env_num = self._env.num_envs
        self.observation_space = [self._env.single_observation_space] * self.env_num
        self.action_space = [self._env.single_action_space] * self.env_num
        self._fresh: Floats | None = None  # the windows that the next decision is about
        self._dice: NDArray[Any]
        self._seed: int | None = None

    def __len__(self) -> int:
        return self.env_num

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self._env.dataset

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seeds the next whole reset; returns the seed, once for each cell."""
        self._seed = seed
        return [seed] * self.env_num

    def reset(self, env_id: Any = None, *, seed: int | None = None, **options: Any) -> tuple[Floats, NDArray[Any]]:
        """Starts an episode in every image, or hands out the new ones of cells that have ended.

        Args:
            env_id: numbers of cells, or one; None: all.
            seed: of a whole reset.
            **options: `options=...` of `PixelSegVectorEnv.reset`, for a whole reset.

        Returns:
            Windows float32 (cells, C', view, view), and a dictionary for each, with `dice` of the cell's image.
        """
        if env_id is None or self._fresh is None:
            chosen, self._seed = self._seed if seed is None else seed, None
            self._fresh, infos = self._env.reset(seed=chosen, **options)
            self._dice = infos["dice"]
        which = np.arange(self.env_num) if env_id is None else np.atleast_1d(env_id)
        return self._fresh[which], self._told(self._dice)[which]

    def step(self, action: NDArray[Any], id: Any = None) -> Stepped:
        """Applies one action per cell, whole numbers (cells,).

        Args:
            action: of every cell.
            id: the cells' numbers, all of them in order, or None: the pixels of an image are stepped together.

        Returns:
            Windows (of an episode that ended: its last), rewards, terminated, truncated, and a dictionary for each,
            with `dice` of the cell's image.

        Raises:
            ActionError: cells are missing; or the action has the wrong shape, type or values.
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        if self._fresh is None:
            raise gym.error.ResetNeeded("step() before reset(): call reset() first")
        if id is not None and not np.array_equal(np.atleast_1d(id), np.arange(self.env_num)):
            raise ActionError(
                f"step: expected all {self.env_num} cells in order, got {len(np.atleast_1d(id))}: the pixels of an "
                "image are stepped together. Collect by steps (n_step), or a multiple of len(env) episodes"
            )
        self._fresh, rewards, terminated, truncated, infos = self._env.step(action)
        seen = self._fresh
        if terminated.any():
            seen = seen.copy()
            seen[terminated] = np.stack(infos["final_obs"][terminated])
        return seen, rewards, terminated, truncated, self._told(infos["dice"])

    def close(self) -> None:
        """Closes the batch of images."""
        self._env.close()

    def _told(self, dice: NDArray[Any]) -> NDArray[Any]:
        """A dictionary for each cell, with the Dice of its image."""
        told = np.empty(self.env_num, object)
        told[:] = [{"dice": one} for one in np.repeat(dice, self.env_num // len(dice)).tolist()]
        return told
