"""Spaces of joint actions that draw random bytes instead of a number per pixel.

Gymnasium draws every entry of a `MultiBinary` on its own, and the `Box` that it batches one into with 64-bit
arithmetic: several times what a step of the environment costs. Values, checks and equality are Gymnasium's.
"""

from __future__ import annotations

import math
import sys
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

_BITS = 8


class BinaryMap(spaces.MultiBinary):
    """`MultiBinary` whose samples are random bits."""

    def __init__(self, n: Any, seed: Any = None) -> None:
        super().__init__(n, seed)
        _tell_torchrl()

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[np.int8]:
        """A draw; `mask` and `probability` as Gymnasium has them."""
        if mask is not None or probability is not None:
            return super().sample(mask=mask, probability=probability)
        return _drawn(self.np_random, self.shape, 2, self.dtype)


class ChoiceMap(spaces.MultiDiscrete):
    """`MultiDiscrete` with the same number of choices everywhere, a power of two up to 256, from 0 on."""

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[Any]:
        """A draw; `mask` and `probability` as Gymnasium has them."""
        if mask is not None or probability is not None:
            return super().sample(mask=mask, probability=probability)
        return _drawn(self.np_random, self.shape, int(self.nvec.flat[0]), self.dtype)


class MapBatch(spaces.Box):
    """The `Box` that Gymnasium batches either of them into: whole numbers from 0 to the last choice."""

    def sample(self, mask: None = None, probability: None = None) -> NDArray[Any]:
        """A draw; a `Box` takes neither mask nor probability."""
        if mask is not None or probability is not None:
            return super().sample(mask=mask, probability=probability)
        return _drawn(self.np_random, self.shape, int(self.high.flat[0]) + 1, self.dtype)


@batch_space.register(BinaryMap)
@batch_space.register(ChoiceMap)
def _batched(space: BinaryMap | ChoiceMap, n: int = 1) -> MapBatch:
    choices = int(space.nvec.flat[0]) if isinstance(space, ChoiceMap) else 2
    kind: Any = space.dtype
    return MapBatch(0, choices - 1, (n, *space.shape), kind, seed=deepcopy(space.np_random))


def _drawn(generator: np.random.Generator, shape: tuple[int, ...], choices: int, dtype: Any) -> NDArray[Any]:
    """Uniform draws from 0 to `choices` - 1: the bits of random bytes, or their remainder."""
    count = math.prod(shape)
    if choices == 2:
        values = np.unpackbits(np.frombuffer(generator.bytes(-(-count // _BITS)), np.uint8), count=count)
    else:
        values = np.frombuffer(generator.bytes(count), np.uint8) & np.uint8(choices - 1)
    drawn = values.reshape(shape)
    return drawn.view(dtype) if np.dtype(dtype).itemsize == 1 else drawn.astype(dtype)


def _tell_torchrl() -> None:
    """Where TorchRL is in use, tells it what a map of bits is: by itself it reads a `MultiBinary` of one row only."""
    libraries = sys.modules.get("torchrl.envs.libs.gym")
    if libraries is not None:
        libraries.register_gym_spec_conversion(BinaryMap)(_torchrl_spec)


def _torchrl_spec(spec: BinaryMap, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    torch, data = sys.modules["torch"], sys.modules["torchrl.data"]
    return data.Binary(n=spec.shape[-1], shape=spec.shape, device=device, dtype=dtype or torch.int8)
