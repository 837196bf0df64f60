"""How a third party's reward function is called: it cannot write to what it judges, and what it returns is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import is_numpy_array, is_torch_array

from pixelseg_env.arrays import Array, frozen, namespace
from pixelseg_env.errors import OptionError


def guarded(function: Callable[..., Any], maps: tuple[Array, Array, Array], asked: dict[str, Any]) -> Array:
    """Calls a reward function with signed, read-only maps.

    Differences of uint8 wrap: 0 - 1 is 255, and a mistake would earn what it should cost. Products of int8 wrap: -200
    is 56. So maps of 0 and 1 are handed over as int32.

    Args:
        function: `(previous, current, target, **asked) -> map`.
        maps: previous, current and target, uint8 or float32 (..., H, W).
        asked: what it wants of the context.

    Returns:
        A new float32 array (..., H, W).

    Raises:
        OptionError: the function wrote to its arguments, or what it returned cannot be used.
        ValueError: it tried to write to a NumPy array.
    """
    views = [_view(array) for array in maps]
    named = {name: _view(value) for name, value in asked.items()}
    untouched = frozen(*(one for one in (*views, *named.values()) if is_numpy_array(one) or is_torch_array(one)))
    reward_map = function(*views, **named)
    if not untouched():
        raise OptionError("reward: expected a function that leaves its arguments alone, it wrote to them")
    return checked(reward_map, maps[2])


def _view(value: Any) -> Any:
    """A view of an array, or where it was uint8 its values as int32; anything else as it is."""
    if is_numpy_array(value) or is_torch_array(value):
        xp = namespace(value)
        kind: Any = value.dtype
        return xp.astype(value, xp.int32) if kind == xp.uint8 else value.view(kind)
    return value


def checked(reward_map: Any, target: Array) -> Array:
    """What a third party's function returned, as a new float32 array.

    Raises:
        OptionError: it cannot be used.
    """
    xp = namespace(target)
    try:
        reward_map = xp.asarray(reward_map)
        number = xp.isdtype(reward_map.dtype, ("bool", "real floating", "integral"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"reward: expected a map of numbers, the function returned {reward_map!r}") from error
    if not number:
        raise OptionError(f"reward: expected a map of numbers, the function returned type {reward_map.dtype}")
    if reward_map.shape != target.shape:
        raise OptionError(
            f"reward: expected a map of shape {tuple(target.shape)}, the function returned {tuple(reward_map.shape)}"
        )
    if getattr(reward_map, "requires_grad", False):
        raise OptionError(
            "reward: expected plain numbers, the function returned a tensor that keeps an autograd graph, which would "
            "grow from step to step; compute it under torch.no_grad(), or return reward_map.detach()"
        )
    reward_map = xp.astype(reward_map, xp.float32, copy=True)
    if not bool(xp.all(xp.isfinite(reward_map))):
        raise OptionError("reward: expected finite numbers, the function returned NaN or infinite ones")
    return reward_map
