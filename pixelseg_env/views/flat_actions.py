"""One flat action for a whole image, for libraries that take no `MultiBinary((H, W))`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pixelseg_env.env import PixelSegEnv
from pixelseg_env.errors import ActionError, OptionError

Floats = NDArray[np.float32]


class FlatActions(gym.ActionWrapper[Floats, NDArray[np.int8], NDArray[np.int8]]):
    """`PixelSegEnv` with the action `MultiBinary(H W)`, row by row.

    Stable-Baselines3's PPO and A2C, RLlib and TorchRL's `GymWrapper` take no `MultiBinary((H, W))`; with this they
    decide over a whole small image at once. Stable-Baselines3's models take part in
    `pixelseg_agents.evaluation.evaluate` as they are, for it accepts flat actions.

    Args:
        env: a `PixelSegEnv`, wrapped or not.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, PixelSegEnv):
            raise OptionError(f"FlatActions: expected a PixelSegEnv, got {type(env.unwrapped).__name__}")
        env.unwrapped.task.check_binary("FlatActions")
        self._map_shape = env.unwrapped.task.map_shape
        self.action_space = spaces.MultiBinary(int(np.prod(self._map_shape)))

    def action(self, action: NDArray[np.int8]) -> NDArray[np.int8]:
        """Folds a flat action into (H, W), or (L, H, W).

        Raises:
            ActionError: it has another length.
        """
        flat = np.asarray(action)
        if flat.shape != self.action_space.shape:
            raise ActionError(f"action: expected shape {self.action_space.shape}, got {flat.shape}")
        if flat.dtype.kind == "f" and np.isin(flat, (0, 1)).all():  # SB3's policies draw them as floats
            flat = flat.astype(np.int8)
        return flat.reshape(self._map_shape)
