"""Views of the environment for other libraries; a library is imported only when its view is asked for.

| view | for | what an agent is |
| --- | --- | --- |
| `PixelSegParallelEnv`, `parallel_env` | PettingZoo | a pixel |
| `PixelVecEnv`, and `PixelPolicy` and `ImageEvalCallback` for its models | Stable-Baselines3 | a pixel |
| `PixelVectorEnv` | Gymnasium's vector environments: skrl, CleanRL | a pixel |
| `PixelTianshouEnv` | Tianshou's collectors | a pixel |
| `PixelSegTorchRLEnv` | TorchRL, and BenchMARL (`view=`) | a batch of images, or a pixel |
| `FlatActions` | libraries that take flat actions only | a whole image |

Names: of `PixelSeg...` an environment is a whole image, of `Pixel...` each pixel is one; the rest is the library's own
word for what it is (`ParallelEnv`, `VecEnv`, `VectorEnv`, ...).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

if TYPE_CHECKING:
    from pixelseg_env.views.flat_actions import FlatActions
    from pixelseg_env.views.image_eval import ImageEvalCallback
    from pixelseg_env.views.pettingzoo import PixelSegParallelEnv
    from pixelseg_env.views.pixel_policy import PixelPolicy
    from pixelseg_env.views.pixel_vector import PixelVectorEnv
    from pixelseg_env.views.sb3 import PixelVecEnv
    from pixelseg_env.views.tianshou import PixelTianshouEnv
    from pixelseg_env.views.torchrl import PixelSegTorchRLEnv

__all__ = [
    "FlatActions",
    "ImageEvalCallback",
    "PixelPolicy",
    "PixelSegParallelEnv",
    "PixelSegTorchRLEnv",
    "PixelTianshouEnv",
    "PixelVecEnv",
    "PixelVectorEnv",
    "parallel_env",
]

_HOMES = {
    "FlatActions": "flat_actions",
    "ImageEvalCallback": "image_eval",
    "PixelPolicy": "pixel_policy",
    "PixelSegParallelEnv": "pettingzoo",
    "PixelSegTorchRLEnv": "torchrl",
    "PixelTianshouEnv": "tianshou",
    "PixelVecEnv": "sb3",
    "PixelVectorEnv": "pixel_vector",
}


def __getattr__(name: str) -> Any:
    """Imports a view, and with it its library (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def parallel_env(*args: Any, **options: Any) -> PixelSegParallelEnv:
    """`PixelSegEnv` as a PettingZoo `ParallelEnv`, one agent per pixel.

    Args:
        *args: those of `PixelSegEnv`, in its order.
        **options: those of `PixelSegEnv`, and `view` (default 5), the side of every agent's window; see
            `PixelSegParallelEnv`.

    Returns:
        The environment.

    Raises:
        DependencyNotInstalled: PettingZoo is missing.
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """
    try:
        from pixelseg_env.views.pettingzoo import PixelSegParallelEnv
    except ModuleNotFoundError as error:
        if error.name != "pettingzoo":
            raise
        raise DependencyNotInstalled('parallel_env needs PettingZoo: pip install "pixelseg-env[pettingzoo]"') from error
    return PixelSegParallelEnv(*args, **options)


def register_with_pettingzoo() -> None:
    """Makes `pettingzoo.make("parallel", "PixelSegEnv-v0", ...)` work.

    Without PettingZoo nothing happens, nor with one older than 1.27, which has no registry.
    """
    try:
        from pettingzoo import parallel_registry, register
    except ImportError:
        return
    if "PixelSegEnv-v0" not in parallel_registry:
        register("parallel", "PixelSegEnv-v0", "pixelseg_env.views.pettingzoo:PixelSegParallelEnv")
