"""Stable-Baselines3 view: every pixel a sub-environment.

`pixelseg_env.FlatActions` is the other way: one action for a whole small image.

Needs the extra `sb3` (`pip install "pixelseg-env[sb3]"`).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.errors import ActionError, OptionError
from pixelseg_env.vector_env import PixelSegVectorEnv
from pixelseg_env.views.pixel_policy import PixelPolicy
from pixelseg_env.views.windows import check_view, label_windows, window_channels

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
except ImportError as missing:  # pragma: no cover
    raise gym.error.DependencyNotInstalled(
        'pixelseg_env.views.sb3 needs Stable-Baselines3: pip install "pixelseg-env[sb3]"'
    ) from missing

__all__ = ["CellInfo", "PixelPolicy", "PixelVecEnv"]

Floats = NDArray[np.float32]
Info = dict[str, Any]
IMAGE_KEYS = ("dice", "label_dice", "slice", "index", "step", "horizon")
OWN = ("view", "num_images", "observation_space", "action_space", "num_envs", "action_masks")


class CellInfo(dict[str, Any]):
    """The info of a cell whose episode has ended: `episode` stays that of its images.

    `VecMonitor` would put the cell's own return in its place, of which SB3 keeps the last hundred: the bottom rows of
    the last image.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "episode" and key in self:
            value = value | self[key]
        super().__setitem__(key, value)

    def copy(self) -> CellInfo:
        """A copy that keeps `episode` likewise."""
        return CellInfo(self)


class PixelVecEnv(VecEnv):
    """Every pixel of every image as a sub-environment of a Stable-Baselines3 `VecEnv`.

    SB3's DQN, PPO and A2C train on it unmodified; all pixels share one policy:

    ```python
    env = PixelVecEnv(4, view=9, dataset="phantom", size=32, horizon=1)
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=1024)
    ```

    Sub-environment `k` is the cell `np.unravel_index(k, (images, [L,] H, W))`: images one after the other, each
    row by row. It observes the `view` x `view` window of its image's observation around its pixel, float32
    (C', view, view), zero beyond the border (with L > 1 labels L channels more, ones in that of the cell's own
    label); acts with `Discrete(2)`, 0 = zero and 1 = keep, or with the transition "additive" with `Discrete(8)`, the
    amounts; and earns its own entry of the reward map. Where a whole image's mean reward is wanted, average over its
    cells. `action_masks()` is what `MaskablePPO` asks for. `VecFrameStack` needs `channels_order="first"`.

    SB3 counts every cell's episode by itself, and its statistics look at a few cells only: the last hundred
    (`ep_rew_mean`) or the last five (`EvalCallback`, `evaluate_policy`). So the infos of ended cells hold an `episode`
    of their own, whose return `r` is the mean over all cells of the images that ended at that step; SB3 reports it,
    with `VecMonitor` and without. `ImageEvalCallback` scores whole images.

    Its info holds `dice`, `slice`, `index`, `step` and `horizon` of its image (and `label_dice` with labels),
    as in `PixelSegEnv`, not the maps, of which a cell's reward is its own entry: all cells of an image are handed the
    same dictionary. At the end of an episode, when the images start anew by themselves, each
    has one of its own, with `terminal_observation`, the last window of the old episode, and `TimeLimit.truncated`,
    always False: the horizon is part of the task, so its last step ends the episode and nothing is bootstrapped.

    Args:
        num_images: images at once, B. `num_envs` is B H W (B L H W with L labels).
        view: side of the windows in pixels, odd.
        **options: of `PixelSegVectorEnv`, except `num_envs`, `autoreset_mode`, `backend` and `device`.

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """

    def __init__(self, num_images: int = 1, view: int = 5, **options: Any) -> None:
        self.view = check_view(view)
        for name in ("num_envs", "autoreset_mode", "backend", "device", "actions", "reward_output"):
            if name in options:
                raise OptionError(f"PixelVecEnv: {name}={options[name]!r} cannot be chosen here; leave it out")
        if isinstance(num_images, bool) or not isinstance(num_images, (int, np.integer)) or num_images < 1:
            raise OptionError(f"num_images={num_images!r}: expected a whole number of at least 1")
        self.env = PixelSegVectorEnv(num_images, autoreset_mode="SameStep", **options)
        self.num_images = num_images
        self._shape = (num_images, *self.env.task.map_shape)
        channels = window_channels(self.env.task.observation_shape[0], self.env.dataset.labels)
        self.render_mode = self.env.render_mode
        self._actions: NDArray[np.int64] | None = None
        cells = int(np.prod(self._shape))
        seen = spaces.Box(0.0, 1.0, (channels, self.view, self.view), np.float32)
        super().__init__(cells, seen, spaces.Discrete(self.env.task.choices))

    def reset(self) -> Floats:
        """Starts an episode in every image; `seed()` and `set_options()` before it are used once.

        Returns:
            Windows, float32 (num_envs, C', view, view).

        Raises:
            OptionError: a `VecFrameStack` around the view stacks columns instead of frames.
        """
        check_stacking(sys._getframe(1))
        seed = None if self._seeds[0] is None else self._seeds[0]
        options = self._options[0] or None
        observation, infos = self.env.reset(seed=seed, options=options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = self._spread(self._image_infos(infos))
        self._kept = infos["segmentation"]
        self._returns = np.zeros(self.num_images)
        return self._cells(observation)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seeds the next `reset`: image i of the batch with `seed + i`, whatever its number of pixels."""
        self._seeds = [seed] * self.num_envs
        return self._seeds

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes one action per cell, whole numbers (num_envs,).

        Raises:
            ActionError: another number of actions.
        """
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,):
            raise ActionError(f"action: expected shape ({self.num_envs},), one decision a cell, got {chosen.shape}")
        self._actions = chosen.reshape(self._shape)

    def step_wait(self) -> tuple[Floats, Floats, NDArray[np.bool_], list[Info]]:
        """Windows, rewards float32 (num_envs,), dones bool (num_envs,) and one info per cell.

        Raises:
            gymnasium.error.ResetNeeded: before `step_async`.
        """
        if self._actions is None:
            raise gym.error.ResetNeeded("step_wait() before step_async(): call step(actions)")
        observation, _, terminated, _, infos = self.env.step(self._actions)
        self._actions = None
        ended = infos.get("final_info")
        reward_map = np.asarray(infos["reward_map"])
        of_step = self._image_infos(infos)
        if ended is not None:
            flags = terminated.reshape(-1, *(1,) * (reward_map.ndim - 1))
            reward_map = np.where(flags, ended["reward_map"], reward_map)
            self.reset_infos = self._spread(of_step)
            last = self._image_infos(ended)
            of_step = [last[i] if terminated[i] else of_step[i] for i in range(self.num_images)]
        of_cells = self._spread(of_step)
        self._kept = infos["segmentation"]
        self._returns += reward_map.reshape(self.num_images, -1).mean(axis=1, dtype=np.float64)
        if ended is not None:
            self._add_terminal(of_cells, infos["final_obs"], terminated)
            self._returns[terminated] = 0
        dones = np.repeat(terminated, self.num_envs // self.num_images)
        return self._cells(observation), reward_map.reshape(-1).astype(np.float32), dones, of_cells

    def _add_terminal(self, infos: list[Info], final: NDArray[Any], terminated: NDArray[np.bool_]) -> None:
        """Gives every cell of an ended image a dictionary of its own with its last window."""
        mean_return = round(
            float(self._returns[terminated].mean()), 6
        )  # of all that ended, whichever cells SB3 looks at
        each = self.num_envs // self.num_images
        for i in np.flatnonzero(terminated):
            cells = self._cells(final[i][None])
            for k in range(each):
                at = int(i) * each + k
                episode = {"r": mean_return, "l": int(infos[at]["step"])}
                infos[at] = CellInfo(
                    infos[at] | {"terminal_observation": cells[k], "TimeLimit.truncated": False, "episode": episode}
                )

    def _cells(self, observation: Floats) -> Floats:
        """Windows of a batch (B, C', H, W), one per cell, contiguous: (B [L] H W, C', view, view)."""
        around = np.stack(label_windows(observation, self.view, self.env.dataset.labels), axis=1)
        return around.reshape(-1, *around.shape[-3:])

    def _image_infos(self, infos: Info) -> list[Info]:
        return [{key: infos[key][i] for key in IMAGE_KEYS if key in infos} for i in range(self.num_images)]

    def _spread(self, of_images: list[Info]) -> list[Info]:
        """One entry per cell; the cells of an image share its dictionary."""
        each = self.num_envs // self.num_images
        return [info for info in of_images for _ in range(each)]

    # ------------------------------------------------------------ the rest of SB3's interface

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self.env.dataset

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def get_images(self) -> list[NDArray[np.uint8] | None]:
        """One frame per image of the batch."""
        return list(self.env.render() or ())

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute, once per chosen cell: this view's own, such as `view` or the spaces, or the batch's."""
        holder = self if attr_name in OWN else self.env
        return [getattr(holder, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute of the batch; it cannot differ between cells.

        Args:
            attr_name: of the attribute.
            value: for all.
            indices: None, or all cells.

        Raises:
            OptionError: `indices` are not all cells.
        """
        if indices is not None and len(list(self._get_indices(indices))) != self.num_envs:
            raise OptionError(f"set_attr({attr_name!r}): the cells share one environment; leave indices out")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Calls a method of the batch once and returns its result per chosen cell."""
        chosen = list(self._get_indices(indices))
        if method_name == "action_masks":
            return list(self.action_masks()[chosen])
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result] * len(chosen)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make a difference now, bool (num_envs, choices): where zero is final, a zeroed cell's is zero.

        Raises:
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        if not hasattr(self, "_kept"):
            raise gym.error.ResetNeeded("action_masks() before reset(): call reset() first")
        masks = np.ones((self.num_envs, self.env.task.choices), np.bool_)
        if self.env.task.transition == "absorbing":
            masks[:, 1] = self._kept.reshape(-1) != 0
        return masks

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """False: a cell has no wrappers of its own. Only `Monitor`'s work is done, by the view itself.

        Whoever asks for `Monitor` is about to count episodes (`VecMonitor`, `evaluate_policy`, `EvalCallback`), and
        is warned that they are pixels.

        Args:
            wrapper_class: which wrapper is asked for.
            indices: which cells; None: all.

        Returns:
            One for each cell that was asked for.
        """
        if wrapper_class is Monitor:
            warnings.warn(
                f"PixelVecEnv: an episode is one pixel's, {self.num_envs // self.num_images} an image, so "
                "n_eval_episodes and the last 100 episodes are a few pixels; their returns are given as the mean over "
                "the images that ended together. To score whole images use pixelseg_env.views.ImageEvalCallback, or "
                "pixelseg_agents.evaluation.evaluate with PixelPolicy",
                stacklevel=3,
            )
            return [True] * len(list(self._get_indices(indices)))
        return [False] * len(list(self._get_indices(indices)))


def check_stacking(frame: Any) -> None:
    """Refuses a `VecFrameStack` that stacks columns, among the wrappers whose `reset` is being called.

    Windows are float32, so SB3 does not take them for images and stacks their last axis if nothing is said.

    Raises:
        OptionError: there is one.
    """
    while frame is not None and frame.f_code.co_name == "reset":
        caller = frame.f_locals.get("self")
        if isinstance(caller, VecFrameStack) and not caller.stacked_obs.channels_first:
            raise OptionError(
                "VecFrameStack: windows are channels first (C, view, view), and it stacks their columns; "
                'expected VecFrameStack(env, n, channels_order="first")'
            )
        frame = frame.f_back
