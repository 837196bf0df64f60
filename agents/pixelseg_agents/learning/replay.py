"""Replay: transitions as what they really are, an image's number and three bit maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_agents.learning.device import moved
from pixelseg_agents.learning.distributed import randint
from pixelseg_env import OptionError

BITS = 8


@dataclass(frozen=True)
class Transitions:
    """A batch of N transitions.

    Attributes:
        index: position of the image in the data set, int64 (N,), on the host.
        step: number of the step, from 0, int64 (N,), on the host.
        before: f(t-1), uint8 (N, [L,] H, W) of 0 and 1.
        action: a(t), likewise.
        after: f(t), likewise.
        terminal: whether the step ended the episode, bool (N,), on the host.
    """

    index: NDArray[np.int64]
    step: NDArray[np.int64]
    before: Tensor
    action: Tensor
    after: Tensor
    terminal: NDArray[np.bool_]


class ReplayBuffer:
    """The last `capacity` transitions, one bit per pixel and map; the oldest make room for the newest.

    A transition of 256x256 pixels takes 24,597 bytes, so 100,000 of them 2.46 GB. Observations and rewards are
    not stored: they are functions of image and maps.

    Args:
        capacity: transitions.
        map_shape: (H, W) or (L, H, W).
        device: where the maps are stored, "cpu" or "cuda".

    Raises:
        OptionError: `capacity` is not at least 1, or the memory is not there.
    """

    def __init__(self, capacity: int, map_shape: tuple[int, ...], device: str | torch.device = "cpu") -> None:
        if capacity < 1:
            raise OptionError(f"capacity={capacity!r}: expected a whole number of transitions, at least 1")
        self.capacity, self.map_shape = capacity, tuple(map_shape)
        self.device = torch.device(device)
        self._pixels = math.prod(map_shape)
        row = -(-self._pixels // BITS)
        try:
            self._maps = torch.empty((capacity, 3, row), dtype=torch.uint8, device=self.device)
        except RuntimeError as error:
            raise OptionError(
                f"replay: {capacity:,} transitions of {'x'.join(map(str, map_shape))} pixels take "
                f"{capacity * 3 * row / 1e9:.1f} GB, which {self.device} does not have; choose a smaller replay_size"
            ) from error
        # On the host, which has to know them: a GPU that was asked would have to be waited for.
        self._step = np.empty(capacity, np.int32)
        self._terminal = np.empty(capacity, np.bool_)
        self._index = np.empty(capacity, np.int64)
        self._powers = 2 ** torch.arange(BITS - 1, -1, -1, dtype=torch.uint8, device=self.device)
        self._next = self._size = 0

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        """Forgets all transitions."""
        self._next = self._size = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (self._maps, self._step, self._terminal, self._index))

    def add(
        self,
        index: NDArray[np.int64],
        step: int,
        before: Tensor,
        action: Tensor,
        after: Tensor,
        terminal: NDArray[np.bool_],
    ) -> None:
        """Stores a batch of B transitions, the last ones if there is not room for all.

        Maps are (B, [L,] H, W) of 0 and 1, of any type.
        """
        if len(index) > self.capacity:  # a row written twice would keep parts of both
            index, terminal = index[-self.capacity :], terminal[-self.capacity :]
            before, action, after = (maps[-self.capacity :] for maps in (before, action, after))
        count = len(index)
        host = (self._next + np.arange(count)) % self.capacity
        rows = moved(host, self.device)
        maps = torch.stack([moved(m.reshape(count, self._pixels), self.device) for m in (before, action, after)], dim=1)
        self._maps[rows] = self._packed(maps != 0)
        self._index[host] = index
        self._step[host] = step
        self._terminal[host] = terminal
        self._next = int((self._next + count) % self.capacity)
        self._size = min(self.capacity, self._size + count)

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """Draws transitions uniformly, with replacement.

        Args:
            count: N.
            generator: of the CPU.
        """
        host = randint(0, self._size, (count,), generator).numpy()
        rows = moved(host, self.device)
        before, action, after = self._unpacked(self._maps[rows]).reshape(count, 3, *self.map_shape).unbind(1)
        step = self._step[host].astype(np.int64)
        return Transitions(self._index[host], step, before, action, after, self._terminal[host])

    def contents(self) -> dict[str, Tensor]:
        """All that is in it, on the host, packed as it is: what `restore` takes."""
        size = self._size
        return {
            "maps": self._maps[:size].cpu().clone(),  # what is added later is not in it
            "step": torch.from_numpy(self._step[:size].copy()),
            "terminal": torch.from_numpy(self._terminal[:size].copy()),
            "index": torch.from_numpy(self._index[:size].copy()),
            "next": torch.tensor(self._next),
        }

    def restore(self, contents: dict[str, Tensor]) -> None:
        """Puts back what `contents` gave, each transition in its place.

        Raises:
            ValueError: it is of maps of another size, or does not fit in.
        """
        maps, following = contents["maps"], int(contents["next"])
        size = len(maps)
        if maps.shape[1:] != self._maps.shape[1:] or maps.dtype != torch.uint8:
            raise ValueError(f"maps are {maps.dtype} {tuple(maps.shape)}, expected uint8 (N, {self._maps.shape[1:]})")
        if size > self.capacity or following != (size if size < self.capacity else following % self.capacity):
            raise ValueError(f"{size} transitions, the next at {following}, in a replay of {self.capacity}")
        if any(contents[name].shape != (size,) for name in ("step", "terminal", "index")):
            raise ValueError("not as many steps, ends and images as maps")
        self._maps[:size] = maps.to(self.device)
        self._step[:size] = contents["step"].numpy()
        self._terminal[:size] = contents["terminal"].numpy()
        self._index[:size] = contents["index"].numpy()
        self._next, self._size = following, size

    def _packed(self, bits: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -self._pixels % BITS))
        packed: Tensor = (padded.reshape(*padded.shape[:-1], -1, BITS) * self._powers).sum(-1, dtype=torch.uint8)
        return packed

    def _unpacked(self, rows: Tensor) -> Tensor:
        bits = (rows[..., None] & self._powers) != 0
        return bits.flatten(-2)[..., : self._pixels].to(torch.uint8)
