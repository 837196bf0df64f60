"""Views of the environment for other libraries, which are imported only when a view is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

if TYPE_CHECKING:
    from pixelseg_env.views.pettingzoo import PixelSegParallelEnv


def parallel_env(*args: Any, **options: Any) -> PixelSegParallelEnv:
    """`PixelSegEnv` as a PettingZoo `ParallelEnv`, one agent per pixel.

    Args:
        *args: those of `PixelSegEnv`, in its order.
        **options: those of `PixelSegEnv`, and `view` (default 5), the side of every agent's window; see
            `pixelseg_env.views.pettingzoo.PixelSegParallelEnv`.

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
