"""From pairs of image and mask files to a data set; shared by the layouts that consist of such pairs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.fitting import common_size, fit_image, fit_masks
from pixelseg_env.datasets.labels import check_present
from pixelseg_env.datasets.memory import allocate
from pixelseg_env.errors import DataError

ReadMask = Callable[[Path], tuple[NDArray[np.uint8], int | None]]
ReadImage = Callable[[Path], NDArray[Any]]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pair:
    """An image or volume and its mask.

    Attributes:
        image: its file, or folder of files.
        mask: the mask's.
        case: the case (patient) name.
        number: the slice's number within its case.
        more_images: the files of further channels.
        more_masks: the masks of further labels.
    """

    image: Path
    mask: Path
    case: str
    number: int
    more_images: tuple[Path, ...] = ()
    more_masks: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """The files of all channels."""
        return (self.image, *self.more_images)

    @property
    def masks(self) -> tuple[Path, ...]:
        """The masks of all labels."""
        return (self.mask, *self.more_masks)


def load_pairs(
    name: str,
    pairs: Sequence[Pair],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    read_image: ReadImage,
    read_mask: ReadMask,
    labels: Sequence[int | str] = (),
) -> SegmentationDataset:
    """Reads pairs of files: the masks first, then only those images that stay.

    Args:
        name: the data set's name.
        pairs: the files; the result is sorted by case and number.
        size: (H, W) of the result, or None for the native size.
        fit: see `fitting`.
        keep_empty: keep images whose mask is empty.
        read_image: path -> (H, W) or (H, W, C), uint8 or float32 in [0, 1].
        read_mask: path -> the mask and the file value that stood for the object; see `read_mask`. With `labels` of
            one mask file, masks are (L, H, W); a pair with several mask files has one for each label.
        labels: names or values of L > 1 labels.

    Returns:
        The whole set.

    Raises:
        DataError: a file cannot be read; a mask differs in size from its image; masks use different values;
            all masks are empty; the same slice comes twice.
    """
    pairs = sort_unique(name, pairs)

    def mask_of(pair: Pair) -> tuple[tuple[int, int], NDArray[np.uint8] | None, int | None]:
        mask, value = _masks_of(pair, read_mask)
        shape = (mask.shape[-2], mask.shape[-1])
        if not mask.any() and not keep_empty:
            return shape, None, value
        return shape, fit_masks(mask, size, fit) if size else mask, value

    read = in_threads(mask_of, pairs)
    hint = "keep one class, or use the data set 'folder' with threshold=0 to take all"
    check_one_value(pairs, [value for _, _, value in read], hint)
    kept = [(pair, shape, mask) for pair, (shape, mask, _) in zip(pairs, read, strict=True) if mask is not None]
    del read
    # A small object can vanish when the mask shrinks, or lie outside the crop.
    kept = [item for item in kept if keep_empty or item[2].any()]
    if not any(mask.any() for _, _, mask in kept):
        raise DataError(all_empty(name, len(pairs), pairs[0].mask))
    check_present([mask for _, _, mask in kept], labels, pairs[0].mask.parent)
    height, width = size or common_size(name, [shape for _, shape, _ in kept], [str(p.image) for p, _, _ in kept])

    first = read_image(kept[0][0].image)
    channels = 1 if first.ndim == 2 else first.shape[2]
    images, masks = allocate(name, len(kept), channels, height, width, first.dtype, len(labels) or 1)

    def fill(position: int) -> None:
        pair, shape, mask = kept[position]
        image = read_image(pair.image) if position else first
        if image.shape[:2] != shape:
            raise DataError(
                f"{pair.image}: the image is {image.shape[0]}x{image.shape[1]} but its mask {pair.mask} is "
                f"{shape[0]}x{shape[1]}; expected the same height and width: replace one of them"
            )
        got = 1 if image.ndim == 2 else image.shape[2]
        if got != channels or image.dtype != first.dtype:
            raise DataError(
                f"{pair.image}: {got} channel(s) of {image.dtype}, but {kept[0][0].image} has {channels} of "
                f"{first.dtype}; expected all images of one kind: convert the files"
            )
        images[position] = fit_image(image, (height, width), fit)
        masks[position] = mask

    in_threads(fill, range(len(kept)))
    return SegmentationDataset(
        name,
        images,
        masks,
        tuple(pair.case for pair, _, _ in kept),
        np.array([pair.number for pair, _, _ in kept], np.int64),
        tuple(one if isinstance(one, str) else f"label {one}" for one in labels),
    )


def _masks_of(pair: Pair, read_mask: ReadMask) -> tuple[NDArray[np.uint8], int | None]:
    """The mask (H, W), or (L, H, W), and the value that stood for the object in its first file that has one."""
    if not pair.more_masks:
        return read_mask(pair.mask)
    read = [read_mask(path) for path in pair.masks]
    for path, (mask, _) in zip(pair.masks, read, strict=True):
        if mask.shape != read[0][0].shape:
            (h, w), (first_h, first_w) = mask.shape, read[0][0].shape
            raise DataError(
                f"{path}: this mask is {h}x{w} but {pair.mask}, of the same image, is {first_h}x{first_w}; "
                "expected one size: replace one of them"
            )
    return np.stack([mask for mask, _ in read]), next((value for _, value in read if value is not None), None)


def sort_unique(name: str, pairs: Iterable[Pair]) -> list[Pair]:
    """Sorts by case and number.

    Raises:
        DataError: there is no pair, or two claim to be the same slice of the same case.
    """
    ordered = sorted(pairs, key=lambda pair: (pair.case, pair.number, str(pair.image)))
    for one, other in itertools.pairwise(ordered):
        if (one.case, one.number) == (other.case, other.number):
            raise DataError(
                f"data set {name!r}: {one.image} and {other.image} are both slice {one.number} of case {one.case!r}; "
                "expected each slice once: remove or rename one, or give one data path only"
            )
    return ordered


def all_empty(name: str, count: int, example: Path) -> str:
    """The message for a set without any object."""
    return (
        f"data set {name!r}: all {count} masks are empty (e.g. {example}); expected at least one with an object: "
        "check that these are the right mask files, and the size, fit and mask options"
    )


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Maps in a few threads (decoding releases the interpreter lock); the first error ends it."""
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)


def check_one_value(pairs: Sequence[Pair], values: Sequence[float | None], hint: str) -> None:
    """Refuses a set whose masks use different values for the object: they may be different organs.

    Args:
        pairs: the files.
        values: the object's value in each mask, None where there is none.
        hint: what the user can do.

    Raises:
        DataError: two masks differ; the message names both.
    """
    seen: dict[float, Path] = {}
    for pair, value in zip(pairs, values, strict=True):
        if value is not None:
            seen.setdefault(value, pair.mask)
        if len(seen) > 1:
            (one, first), (two, second) = seen.items()
            raise DataError(
                f"{second}: its object has the value {two:g}, but {one:g} in {first}; "
                f"expected one value for the object in all masks: {hint}"
            )
