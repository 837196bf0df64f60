"""PixelSeg: image segmentation as a pixel-level reinforcement-learning environment.

Importing this package registers `PixelSegEnv-v0` with Gymnasium and, where it is installed, PettingZoo.
"""

import gymnasium as gym

from pixelseg_env.datasets import SegmentationDataset, load_dataset, register_dataset, registered_datasets
from pixelseg_env.env import PixelSegEnv
from pixelseg_env.errors import ActionError, DataError, OptionError, PixelSegError
from pixelseg_env.metrics import METRICS, compute_metrics
from pixelseg_env.rewards import balanced, register_reward, registered_rewards
from pixelseg_env.vector_env import PixelSegVectorEnv
from pixelseg_env.views import parallel_env, register_with_pettingzoo
from pixelseg_env.views.flat_actions import FlatActions

__version__ = "0.1.0"

__all__ = [
    "METRICS",
    "ActionError",
    "DataError",
    "FlatActions",
    "OptionError",
    "PixelSegEnv",
    "PixelSegError",
    "PixelSegVectorEnv",
    "SegmentationDataset",
    "balanced",
    "compute_metrics",
    "load_dataset",
    "parallel_env",
    "register_dataset",
    "register_reward",
    "registered_datasets",
    "registered_rewards",
]

gym.register(
    id="PixelSegEnv-v0",
    entry_point="pixelseg_env.env:PixelSegEnv",
    vector_entry_point="pixelseg_env.vector_env:PixelSegVectorEnv",
)

register_with_pettingzoo()
