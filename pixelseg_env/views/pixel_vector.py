"""Gymnasium view: every pixel a sub-environment of a `VectorEnv`, for learners of few discrete actions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.errors import ActionError, OptionError
from pixelseg_env.vector_env import PixelSegVectorEnv
from pixelseg_env.views.windows import check_view, label_windows, window_channels

Floats = NDArray[np.float32]
Infos = dict[str, Any]


class PixelVectorEnv(VectorEnv[Floats, NDArray[np.int64], NDArray[Any]]):
    """Every pixel of every image as a sub-environment of a Gymnasium `VectorEnv`: skrl, CleanRL and others train on it.

    Cells, windows, actions and rewards are those of `PixelVecEnv`, the view of Stable-Baselines3. Episodes that end
    start anew within the step (`SameStep`), and `final_obs` holds the last windows. The infos hold `dice`, one number
    per image of the batch.

    Args:
        num_images: images at once, B. `num_envs` is B H W (B L H W with L labels).
        view: side of the windows in pixels, odd.
        **options: of `PixelSegVectorEnv`, except `num_envs`, `autoreset_mode`, `backend` and `device`.

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # type: ignore[misc]

    def __init__(self, num_images: int = 1, view: int = 5, **options: Any) -> None:
        self.view = check_view(view)
        for name in ("num_envs", "autoreset_mode", "backend", "device", "actions", "reward_output"):
            if name in options:
                raise OptionError(f"PixelVectorEnv: {name}={options[name]!r} cannot be chosen here; leave it out")
        self.env = PixelSegVectorEnv(num_images, autoreset_mode="SameStep", **options)
        self.num_images = num_images
        self._maps = (num_images, *self.env.task.map_shape)
        self.num_envs = int(np.prod(self._maps))
        channels = window_channels(self.env.task.observation_shape[0], self.dataset.labels)
        self.single_observation_space = spaces.Box(0.0, 1.0, (channels, self.view, self.view), np.float32)
        self.single_action_space = spaces.Discrete(self.env.task.choices)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self.env.dataset

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Floats, Infos]:
        """Starts an episode in every image; seed and options are those of `PixelSegVectorEnv`.

        Returns:
            Windows float32 (num_envs, C', view, view), and infos.
        """
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._cells(observation), {"dice": infos["dice"]}

    def step(self, actions: NDArray[Any]) -> tuple[Floats, NDArray[Any], NDArray[Any], NDArray[Any], Infos]:
        """Applies one action per cell, whole numbers (num_envs,).

        Returns:
            Windows, rewards float32, terminated and truncated bool, each of num_envs, and infos.

        Raises:
            ActionError: wrong shape, type or value.
        """
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,):
            raise ActionError(f"action: expected shape ({self.num_envs},), one decision a cell, got {chosen.shape}")
        observation, _, terminated, truncated, infos = self.env.step(chosen.reshape(self._maps))
        each = self.num_envs // self.num_images
        rewards, said = np.asarray(infos["reward_map"]), {"dice": infos["dice"]}
        if "final_info" in infos:
            flags = terminated.reshape(-1, *(1,) * (rewards.ndim - 1))
            rewards = np.where(flags, infos["final_info"]["reward_map"], rewards)
            last = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(terminated):
                windows = self._cells(infos["final_obs"][i][None])
                for k in range(each):
                    last[i * each + k] = windows[k]
            said = {"dice": np.where(terminated, infos["final_info"]["dice"], infos["dice"])}
            said |= {"final_obs": last, "_final_obs": np.repeat(terminated, each)}
        flat = rewards.reshape(-1).astype(np.float32)
        return self._cells(observation), flat, np.repeat(terminated, each), np.repeat(truncated, each), said

    def _cells(self, observation: Floats) -> Floats:
        around = np.stack(label_windows(observation, self.view, self.dataset.labels), axis=1)
        return around.reshape(-1, *around.shape[-3:])

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the batch of images."""
        self.env.close()
