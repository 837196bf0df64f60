"""From volumes and their labels to a data set of slices; shared by the layouts that consist of such volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.fitting import common_size, fit_image, fit_masks
from pixelseg_env.datasets.labels import check_present, check_whole, listed, rounded, stack_values
from pixelseg_env.datasets.memory import allocate
from pixelseg_env.datasets.native import OWN_PIXELS, VolumeFacts, pack
from pixelseg_env.datasets.pairs import Pair, all_empty, check_one_value, in_threads, native_masks, sort_unique
from pixelseg_env.datasets.scaling import limits_of, stretched
from pixelseg_env.errors import DataError, OptionError

HINT = "say which one is the object, e.g. label=1"

Volume = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """How the volumes of a layout are read.

    Attributes:
        image: pair -> volumes (X, Y, Z) of equal shape, one a channel.
        label: pair -> the label's volume, on the image's grid.
        spacing: pair -> millimetres between voxels along X, Y and Z.
        axis: along which slices lie: 0, 1 or 2 for X, Y or Z.
        pixels: pair -> what its voxels are, see `VolumeFacts`.
    """

    image: Callable[[Pair], list[Volume]]
    label: Callable[[Pair], Volume]
    spacing: Callable[[Pair], tuple[float, float, float]]
    axis: int = 2
    pixels: Callable[[Pair], str] = lambda pair: OWN_PIXELS

    def turned(self, volume: Volume) -> Volume:
        """A volume (X, Y, Z) with the axis of the slices as its last, a view."""
        return np.moveaxis(volume, self.axis, -1)

    def facts(self, pair: Pair, slices: int) -> VolumeFacts:
        """What is to be known of a volume."""
        spacing = self.spacing(pair)
        rows, columns = (one for k, one in enumerate(spacing) if k != self.axis)
        return VolumeFacts(slices, (spacing[self.axis], rows, columns), self.pixels(pair))


def check_axis(axis: Any) -> int:
    """Returns the axis that slices lie along.

    Raises:
        OptionError: it is none of a volume's.
    """
    if isinstance(axis, bool) or axis not in (0, 1, 2):
        raise OptionError(f"axis={axis!r} is not valid; expected 0, 1 or 2: the axis that the slices lie along")
    return int(axis)


def load_volumes(
    name: str,
    pairs: Sequence[Pair],
    source: Source,
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    label: int | None = None,
    labels: Sequence[int] = (),
    label_names: Sequence[str] = (),
) -> SegmentationDataset:
    """Reads the 2D slices of volumes, along the source's axis.

    Each channel of a volume is normalised by itself: its 0.5th percentile becomes 0 and its 99.5th becomes 1, what
    lies outside is cut off (single bright voxels would otherwise squeeze the rest). Slices are then kept as uint8:
    rounding changes a value by 1/510 at most and takes a quarter of the memory of float32.

    A volume without object is not read, unless `keep_empty`; at most a few volumes are in memory at a time.

    Args:
        name: the data set's name.
        pairs: the volumes; the result is sorted by case.
        source: how they are read.
        size: (H, W) of the slices, or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep slices without object.
        label: the value that is the object. Default: the labels must hold 0 and one other value, which is it.
        labels: several values, each a label of its own: masks are then (N, L, H, W).
        label_names: their names.

    Returns:
        The whole set, uint8.

    Raises:
        DataError: a file cannot be read; label and image differ in shape; labels hold several values; all labels
            are empty, or one of `labels` is nowhere; volumes have different numbers of channels.
    """
    pairs = sort_unique(name, pairs)
    there: set[float] = set()

    def masks_of(pair: Pair) -> tuple[tuple[int, ...], dict[int, NDArray[np.uint8]], float | None, list[Any]]:
        volume = rounded(source.turned(source.label(pair)))
        if labels or label is not None:
            check_whole(pair.mask, volume)
        if labels:
            mask, value = stack_values(volume, labels), None
        else:
            mask, value = _binary(pair, volume, label)
        if not all(one.any() for one in (mask if labels else [mask])):
            there.update(np.unique(volume).tolist())  # for the message, if a label is nowhere
        occupied = np.asarray(mask.any(axis=tuple(range(mask.ndim - 1))))
        slices, own = {}, []
        for z in range(volume.shape[2]):
            if keep_empty or occupied[z]:
                native = np.ascontiguousarray(mask[..., z])
                fitted = fit_masks(native, size, fit) if size else native
                if keep_empty or fitted.any():  # an object can vanish when it shrinks, or lie outside the crop
                    slices[z] = fitted
                    own += [(pack(native), native.shape)] if size else []
        return volume.shape, slices, value, own

    read = in_threads(masks_of, pairs)
    check_one_value(pairs, [value for _, _, value, _ in read], HINT)
    kept = [(pair, shape, masks) for pair, (shape, masks, _, _) in zip(pairs, read, strict=True) if masks]
    own = [one for *_, found in read for one in found]
    del read
    every = [mask for _, _, masks in kept for mask in masks.values()]
    if not any(mask.any() for mask in every):
        wanted = labels or (() if label is None else (label,))
        raise DataError(all_empty(name, len(pairs), pairs[0].mask, wanted, there))
    check_present(every, labels, pairs[0].mask.parent, there)
    height, width = size or common_size(
        name, [(shape[0], shape[1]) for _, shape, _ in kept], [str(pair.image) for pair, _, _ in kept]
    )
    starts = np.cumsum([0, *(len(masks) for _, _, masks in kept)])
    first = source.image(kept[0][0])
    count = int(starts[-1])
    images, all_masks = allocate(name, count, len(first), height, width, np.uint8, len(labels) or 1)

    def fill(position: int) -> None:
        pair, shape, masks = kept[position]
        channels = [source.turned(channel) for channel in (source.image(pair) if position else first)]
        if channels[0].shape != shape:
            raise DataError(
                f"{pair.image}: the image has shape {channels[0].shape} but its label {pair.mask} has {shape}; "
                "expected the same shape: replace one of them"
            )
        if len(channels) != len(first):
            raise DataError(
                f"{pair.image}: {len(channels)} channel(s), but {kept[0][0].image} has {len(first)}; expected all "
                "images of one kind: add the missing channels, or choose some with channels="
            )
        rows = slice(int(starts[position]), int(starts[position + 1]))
        images[rows] = channel_slices(channels, list(masks), (height, width), fit)
        all_masks[rows] = list(masks.values())

    in_threads(fill, range(len(kept)))
    return SegmentationDataset(
        name,
        images,
        all_masks,
        tuple(pair.case for pair, _, masks in kept for _ in masks),
        np.array([z for _, _, masks in kept for z in masks], np.int64),
        tuple(label_names) if labels else (),
        native_masks(own, (height, width), fit),
        {pair.case: source.facts(pair, shape[2]) for pair, shape, _ in kept},
    )


def channel_slices(
    channels: Sequence[Volume], numbers: Sequence[int], size: tuple[int, int], fit: str
) -> NDArray[np.uint8]:
    """Normalises slices by each whole volume's percentiles and brings them to a size.

    Args:
        channels: C volumes (X, Y, Z).
        numbers: which slices along the last axis.
        size: (H, W) of the result.
        fit: "resize" or "crop".

    Returns:
        uint8 (len(numbers), C, H, W), as the data set holds them.
    """
    images = np.empty((len(numbers), len(channels), *size), np.uint8)
    for c, volume in enumerate(channels):
        limits = limits_of(volume)
        for row, z in enumerate(numbers):
            plane = stretched(volume[..., z], limits)
            images[row, c] = np.rint(fit_image(plane, size, fit)[0] * 255)
    return images


def _binary(pair: Pair, volume: Volume, label: int | None) -> tuple[NDArray[np.uint8], float | None]:
    """The mask, uint8 0 and 1, and the value that stood for the object (None if there is none, or `label` says)."""
    if label is not None:
        return np.asarray(volume == label).view(np.uint8), None
    mask = np.asarray(volume != 0)
    value = volume.max(initial=0)
    if mask.any() and not np.array_equal(volume == value, mask):
        raise DataError(
            f"{pair.mask}: expected a label of two values, 0 and one other, got {len(np.unique(volume))} values "
            f"({listed(volume)}); {HINT}"
        )
    return mask.view(np.uint8), float(value) if mask.any() else None
