"""What TorchRL's `GymEnv` and `GymWrapper` have to know of an action that is a map."""

from __future__ import annotations

import sys
from typing import Any

from gymnasium import spaces


def announce(space: spaces.Space[Any]) -> None:
    """Tells TorchRL, where it is loaded, how a `MultiBinary` of several dimensions becomes a `Binary` spec.

    Its own conversion takes `MultiBinary((H, W))` to be of one dimension and fails. Nothing is imported here that is
    not loaded already, and without TorchRL nothing happens.
    """
    torchrl = sys.modules.get("torchrl.envs.libs.gym")
    if torchrl is not None and isinstance(space, spaces.MultiBinary):
        torchrl.register_gym_spec_conversion(type(space))(_binary)


def _binary(space: spaces.MultiBinary, device: Any = None, **others: Any) -> Any:
    from torchrl.data import Binary
    from torchrl.data.utils import numpy_to_torch_dtype_dict

    return Binary(space.shape[-1], shape=space.shape, device=device, dtype=numpy_to_torch_dtype_dict[space.dtype])
