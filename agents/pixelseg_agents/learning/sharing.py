"""Tensors and data sets in memory that several processes see."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_env import OptionError

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it
LARGE = 1 << 20  # bytes; smaller arrays are handed over as they are


def check_room(needed: int, what: str) -> None:
    """Refuses more shared memory than there is: writing beyond it ends a process without a word (SIGBUS).

    Raises:
        OptionError: it does not fit.
    """
    there = _room()
    if needed > there:
        raise OptionError(
            f"{what} needs {needed / 2**20:.0f} MiB of shared memory, {SHARED_MEMORY} has {there / 2**20:.0f} MiB; "
            "enlarge it (docker run --shm-size), or train with workers=0"
        )


def _room() -> int:
    if not SHARED_MEMORY.is_dir():
        return 1 << 62  # not Linux: no fixed size
    facts = os.statvfs(SHARED_MEMORY)
    return facts.f_bavail * facts.f_frsize


def shared(tensor: Tensor) -> Tensor:
    """Moves a tensor into shared memory, and returns it."""
    return tensor.share_memory_()  # type: ignore[no-untyped-call, no-any-return]


class SharedTensors:
    """Copies of some tensors, in one block of shared memory for each dtype.

    One block each, for every shared tensor costs an open file, and a large network would use up what a process may
    have. Handed to another process it is the same memory.

    Args:
        tensors: what is copied.

    Raises:
        OptionError: there is not enough shared memory.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        check_room(sum(tensor.nbytes for tensor in tensors), "asynchronous training")
        self._layout = [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]
        sizes: dict[torch.dtype, int] = {}
        for tensor in tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
        self._blocks = {dtype: shared(torch.zeros(size, dtype=dtype)) for dtype, size in sizes.items()}
        copy(self.views(), tensors)

    def views(self) -> list[Tensor]:
        """The shared tensors, in their order."""
        used = dict.fromkeys(self._blocks, 0)
        found = []
        for dtype, shape in self._layout:
            first, size = used[dtype], prod(shape)
            found.append(self._blocks[dtype][first : first + size].view(shape))
            used[dtype] = first + size
        return found


@torch.no_grad()
def copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Writes each of some tensors into its target."""
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


class Parcel:
    """An object for several processes; its large arrays are shared between them, not copied to each.

    Args:
        content: what `open` gives back in another process.
        what: it is, for messages.

    Raises:
        OptionError: it cannot be handed to another process.
    """

    def __init__(self, content: Any, what: str) -> None:
        self._arrays: list[Tensor] = []
        file = io.BytesIO()
        try:
            _Pickler(file, self._arrays).dump(content)
        except Exception as error:  # pickling raises what it likes
            raise OptionError(
                f"{what} cannot be handed to another process ({error!r}); train with workers=0, or make it picklable"
            ) from error
        self._bytes = file.getvalue()

    def open(self) -> Any:
        """The object."""
        return _Unpickler(io.BytesIO(self._bytes), self._arrays).load()


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, arrays: list[Tensor]) -> None:
        super().__init__(file)
        self._arrays = arrays
        self._seen: dict[int, tuple[NDArray[Any], int]] = {}  # the array too: its id is its own while it lives

    def persistent_id(self, value: Any) -> Any:
        if type(value) is not np.ndarray or value.nbytes < LARGE or value.dtype.hasobject:
            return None
        if id(value) not in self._seen:
            if value.nbytes > _room() // 2:
                return None
            plain = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            block = shared(torch.empty(plain.size, dtype=torch.uint8))
            block.numpy()[:] = plain
            self._arrays.append(block)
            self._seen[id(value)] = (value, len(self._arrays) - 1)
        return self._seen[id(value)][1], value.dtype, value.shape


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: list[Tensor]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, key: tuple[int, np.dtype[Any], tuple[int, ...]]) -> NDArray[Any]:
        number, dtype, shape = key
        return self._arrays[number].numpy().view(dtype).reshape(shape)
