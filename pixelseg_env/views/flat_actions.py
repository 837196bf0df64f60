"""One flat action for a whole image, for libraries that take no `MultiBinary((H, W))`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.env import PixelSegEnv
from pixelseg_env.errors import ActionError, OptionError

Floats = NDArray[np.float32]


class FlatActions(
    gym.ActionWrapper[Floats, NDArray[np.int8], NDArray[np.int8]],
    gym.utils.RecordConstructorArgs,
):
    """`PixelSegEnv` with the action `MultiBinary(H W)`, row by row; `MultiDiscrete` where a pixel has eight.

    `PixelSegEnv(actions="flat")` has them by itself; this is for an environment that was made already.

    Stable-Baselines3's PPO and A2C, RLlib and TorchRL's `GymWrapper` take no `MultiBinary((H, W))`; with this they
    decide over a whole small image at once. Stable-Baselines3's models take part in
    `pixelseg_agents.evaluation.evaluate` as they are, for it accepts flat actions.

    Args:
        env: a `PixelSegEnv`, wrapped or not.

    Raises:
        OptionError: it is another environment, or has flat actions already.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if not isinstance(env.unwrapped, PixelSegEnv):
            raise OptionError(f"FlatActions: expected a PixelSegEnv, got {type(env.unwrapped).__name__}")
        task = env.unwrapped.task
        if task.actions != "map":
            raise OptionError(f"FlatActions: the environment has flat actions already, actions={task.actions!r}")
        self._map_shape, self._choices = task.map_shape, task.choices
        self.action_space = replace(task, actions="flat").action_space

    def action(self, action: NDArray[np.int8]) -> NDArray[np.int8]:
        """Folds a flat action into (H, W), or (L, H, W).

        Raises:
            ActionError: it has another length.
        """
        flat = np.asarray(action)
        if flat.shape != self.action_space.shape:
            raise ActionError(f"action: expected shape {self.action_space.shape}, got {flat.shape}")
        if flat.dtype.kind == "f" and np.isin(flat, np.arange(self._choices)).all():  # SB3's policies draw floats
            flat = flat.astype(np.int8)
        return flat.reshape(self._map_shape)
