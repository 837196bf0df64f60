"""Boxes on a grid that hide parts of an image, and the replay of where they were put: pre-training by masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_agents.learning.device import moved
from pixelseg_agents.learning.distributed import randint


class Boxes:
    """The boxes that can be chosen: each size at each place of a grid.

    Number `size * grid**2 + row * grid + column` is the box whose centre is that of the grid's cell. Parts that would
    lie outside the image are cut off.

    Args:
        grid: places along each side.
        sizes: sides as shares of the image's, each in (0, 1].
    """

    def __init__(self, grid: int, sizes: Sequence[float]) -> None:
        self.grid, self.sizes = grid, tuple(sizes)

    def __len__(self) -> int:
        return len(self.sizes) * self.grid**2

    def masks(self, chosen: Tensor, height: int, width: int) -> Tensor:
        """1 inside of the chosen boxes, float32 (..., H, W).

        Args:
            chosen: numbers of boxes, int64 (...).
            height: H.
            width: W.
        """
        size, place = chosen // self.grid**2, chosen % self.grid**2
        shares = moved(np.array(self.sizes, np.float32), chosen.device)[size]
        inside = []
        for cell, side in ((place // self.grid, height), (place % self.grid, width)):
            centre = (cell + 0.5) / self.grid * side
            pixel = torch.arange(side, dtype=torch.float32, device=chosen.device) + 0.5
            # At least one pixel: the one whose centre is nearest.
            reach = (shares * side / 2).clamp_min(0.5)
            inside.append((pixel - centre[..., None]).abs() <= reach[..., None])
        return (inside[0][..., :, None] & inside[1][..., None, :]).float()


class MaskReplay:
    """Sequences of boxes that were put on images, and what each earned; images by their number in the data set.

    Args:
        size: sequences kept; the oldest give way.
        boxes: K, boxes per sequence.
        device: where boxes and rewards are; a GPU is not waited for.
    """

    def __init__(self, size: int, boxes: int, device: torch.device | str = "cpu") -> None:
        self._index = np.zeros(size, np.int64)
        self._chosen = torch.zeros((size, boxes), dtype=torch.int64, device=device)
        self._reward = torch.zeros((size, boxes), device=device)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, len(self._index))

    def add(self, index: NDArray[np.int64], chosen: Tensor, reward: Tensor) -> None:
        """Keeps a batch: numbers of images (B,), of boxes (B, K), and rewards, float32 (B, K)."""
        where = (self._added + np.arange(len(index))) % len(self._index)
        self._index[where] = index
        rows = moved(where, self._chosen.device)
        self._chosen[rows], self._reward[rows] = chosen, reward
        self._added += len(index)

    def contents(self) -> dict[str, Tensor]:
        """All that is in it: what `restore` takes."""
        size = len(self)
        return {
            "index": torch.from_numpy(self._index[:size].copy()),
            "chosen": self._chosen[:size].cpu().clone(),
            "reward": self._reward[:size].cpu().clone(),
            "added": torch.tensor(self._added),
        }

    def restore(self, contents: dict[str, Tensor]) -> None:
        """Puts back what `contents` gave, each sequence in its place.

        Raises:
            ValueError: it does not fit in.
        """
        self._added = int(contents["added"])
        size = len(self)
        self._index[:size] = contents["index"].numpy()
        self._chosen[:size] = contents["chosen"].to(self._chosen.device)
        self._reward[:size] = contents["reward"].to(self._reward.device)

    def sample(self, count: int, draws: torch.Generator) -> tuple[NDArray[np.int64], Tensor, Tensor, NDArray[np.int64]]:
        """Draws sequences, and a step of each.

        Returns:
            Numbers of images, int64 (N,); boxes, int64 (N, K); rewards, float32 (N, K); the step of each, int64 (N,);
            numbers of images and steps on the host.
        """
        drawn = randint(0, len(self), (count,), draws).numpy()
        step = randint(0, self._chosen.shape[1], (count,), draws).numpy()
        rows = moved(drawn, self._chosen.device)
        return self._index[drawn], self._chosen[rows], self._reward[rows], step
