"""The masks as the files have them, kept beside those of the size that agents decide at."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.fitting import brought_back

OWN_PIXELS = "the files' own pixels"


@dataclass(frozen=True, eq=False)
class NativeMasks:
    """The masks of N images, each on its own file's pixels, and the way there.

    They are kept as compressed bits: those of 745 slices of 256x256 take about 0.2 MiB.

    Attributes:
        packed: of each image, the bits of its mask, compressed.
        shapes: of each image, (H, W), or (L, H, W) with L > 1 labels.
        fit: "resize" or "crop", how the images were brought to the size that agents decide at.
        only: of several labels, the one that counts; None: all.
    """

    packed: tuple[bytes, ...]
    shapes: tuple[tuple[int, ...], ...]
    fit: str
    only: int | None = None

    @classmethod
    def of(cls, masks: Iterable[NDArray[np.uint8]], fit: str = "resize") -> NativeMasks:
        """Packs masks uint8 (H, W), or (L, H, W), of 0 and 1; their sizes may differ."""
        packed, shapes = [], []
        for mask in masks:
            packed.append(pack(mask))
            shapes.append(tuple(mask.shape))
        return cls(tuple(packed), tuple(shapes), fit)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of each image."""
        return tuple((shape[-2], shape[-1]) for shape in self.shapes)

    @property
    def labels(self) -> int:
        """L, the number of labels."""
        return self.shapes[0][0] if self.shapes and len(self.shapes[0]) == 3 and self.only is None else 1

    def mask(self, index: int) -> NDArray[np.uint8]:
        """The mask of an image, a new array uint8 (H, W), or (L, H, W)."""
        shape = self.shapes[index]
        bits = np.frombuffer(zlib.decompress(self.packed[index]), np.uint8)
        mask = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)
        return mask if self.only is None else np.ascontiguousarray(mask[self.only])

    def restore(self, index: int, maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Brings maps uint8 (..., H, W), decided on an image, to its file's pixels, as `predict` does."""
        return brought_back(maps, self.sizes[index], self.fit)

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> NativeMasks:
        """Those of some images."""
        chosen = [int(i) for i in indices]
        return replace(self, packed=tuple(self.packed[i] for i in chosen), shapes=tuple(self.shapes[i] for i in chosen))

    def label(self, number: int) -> NativeMasks:
        """Those of one label alone."""
        return self if self.labels == 1 else replace(self, only=number)


def pack(mask: NDArray[np.uint8]) -> bytes:
    """The bits of a mask, compressed: a few hundred bytes for most."""
    return zlib.compress(np.packbits(mask.reshape(-1)).tobytes(), 1)


@dataclass(frozen=True)
class VolumeFacts:
    """What slices cannot tell of the volume that they were cut from.

    Attributes:
        slices: how many there are, those that a data set leaves out too.
        spacing: millimetres between slices, between rows and between columns.
        pixels: what they are the pixels of, for reports: where they were sampled anew, not of the files.
    """

    slices: int
    spacing: tuple[float, float, float]
    pixels: str = OWN_PIXELS
