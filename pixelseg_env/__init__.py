"""PixelSeg: image segmentation as a pixel-level reinforcement-learning environment.

Importing this package registers `PixelSegEnv-v0` with Gymnasium and, where it is installed, PettingZoo. All that it
exports is imported when it is first used, so that the import itself costs little more than Gymnasium's.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from pixelseg_env.moved import install as find_moved_modules
from pixelseg_env.views import register_with_pettingzoo

if TYPE_CHECKING:
    from pixelseg_env import arrays, datasets, dynamics, metrics, rendering, rewards, views
    from pixelseg_env.arrays import to_numpy
    from pixelseg_env.datasets import SegmentationDataset, load_dataset, register_dataset, registered_datasets
    from pixelseg_env.draws import check_horizon
    from pixelseg_env.env import PixelSegEnv
    from pixelseg_env.errors import ActionError, DataError, OptionError, PixelSegError, check_choice, did_you_mean
    from pixelseg_env.metrics import METRICS, compute_metrics, register_metric
    from pixelseg_env.plugins import is_plugin, resolve
    from pixelseg_env.rewards import balanced, check_reward, register_reward, registered_rewards
    from pixelseg_env.vector_env import PixelSegVectorEnv
    from pixelseg_env.views import FlatActions, parallel_env

__version__ = "0.1.0"  # of both distributions; their builds read this line

_MODULES = (
    "arrays",
    "datasets",
    "dynamics",
    "metrics",
    "rendering",
    "rewards",
    "views",
)  # public, each with its own __all__
_HOMES = {
    "arrays": ("to_numpy",),
    "datasets": ("SegmentationDataset", "load_dataset", "register_dataset", "registered_datasets"),
    "draws": ("check_horizon",),
    "env": ("PixelSegEnv",),
    "errors": ("ActionError", "DataError", "OptionError", "PixelSegError", "check_choice", "did_you_mean"),
    "metrics": ("METRICS", "compute_metrics", "register_metric"),
    "plugins": ("is_plugin", "resolve"),
    "rewards": ("balanced", "check_reward", "register_reward", "registered_rewards"),
    "vector_env": ("PixelSegVectorEnv",),
    "views": ("FlatActions", "parallel_env"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

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
    "__version__",
    "arrays",
    "balanced",
    "check_choice",
    "check_horizon",
    "check_reward",
    "compute_metrics",
    "datasets",
    "did_you_mean",
    "dynamics",
    "is_plugin",
    "load_dataset",
    "metrics",
    "parallel_env",
    "register_dataset",
    "register_metric",
    "register_reward",
    "registered_datasets",
    "registered_rewards",
    "rendering",
    "resolve",
    "rewards",
    "to_numpy",
    "views",
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, once (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


gym.register(
    id="PixelSegEnv-v0",
    entry_point="pixelseg_env.env:PixelSegEnv",
    vector_entry_point="pixelseg_env.vector_env:PixelSegVectorEnv",
)

register_with_pettingzoo()
find_moved_modules()
