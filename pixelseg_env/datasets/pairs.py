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
from pixelseg_env.datasets.brightness import choose_white, scaled
from pixelseg_env.datasets.fitting import common_size, fit_image, fit_masks
from pixelseg_env.datasets.indexed import read_numbers
from pixelseg_env.datasets.labels import Value, check_present, found_values, shown
from pixelseg_env.datasets.memory import allocate
from pixelseg_env.datasets.native import NativeMasks, pack
from pixelseg_env.datasets.scaling import Limits, channel_limits, stretched_page
from pixelseg_env.errors import DataError

ReadMask = Callable[[Path], tuple[list[NDArray[np.uint8]], Value | None]]
ReadImage = Callable[[Path], list[NDArray[Any]]]
Item = TypeVar("Item")
Result = TypeVar("Result")
LOOKED_AT = 20  # masks, for the values that a message names


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
        stack: the file holds several slices of the case, which are numbered by themselves.
    """

    image: Path
    mask: Path
    case: str
    number: int
    more_images: tuple[Path, ...] = ()
    more_masks: tuple[Path, ...] = ()
    stack: bool = False

    @property
    def images(self) -> tuple[Path, ...]:
        """The files of all channels."""
        return (self.image, *self.more_images)

    @property
    def masks(self) -> tuple[Path, ...]:
        """The masks of all labels."""
        return (self.mask, *self.more_masks)


@dataclass(frozen=True)
class _Item:
    """A pair whose mask file is read: the size of its pages, how many there are, and the masks that stay, by page.

    Of masks that are fitted to another size, `native` has the bits of the file's own.
    """

    pair: Pair
    shape: tuple[int, int]
    pages: int
    masks: dict[int, NDArray[np.uint8]]
    value: Value | None
    native: list[tuple[bytes, tuple[int, ...]]]


def load_pairs(
    name: str,
    pairs: Sequence[Pair],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    read_image: ReadImage,
    read_mask: ReadMask,
    labels: Sequence[int | str] = (),
    white: float | None = None,
    by_case: bool = False,
) -> SegmentationDataset:
    """Reads pairs of files: the masks first, then only those images that stay.

    A file of several pages gives a slice each. Slices are numbered as their pairs are; where a case has a file of
    several pages, through all its files from 0.

    Args:
        name: the data set's name.
        pairs: the files; the result is sorted by case and number.
        size: (H, W) of the result, or None for the native size.
        fit: see `fitting`.
        keep_empty: keep images whose mask is empty.
        read_image: path -> its pages, (H, W) or (H, W, C) each, uint8, uint16 or float32.
        read_mask: path -> the mask of each page and the file value that stood for the object; see `read_masks`. With
            `labels` of one mask file, masks are (L, H, W); a pair with several mask files has one for each label.
        labels: names or values of L > 1 labels.
        white: the grey level that becomes 1; None: by the rule of `choose_white`, for the whole set.
        by_case: scale each case by its own percentiles instead, see `scaling`: those of all its images, also of those
            whose mask is empty, which are then read too. So `predict` finds the same, which knows no masks.

    Returns:
        The whole set.

    Raises:
        DataError: a file cannot be read; a mask differs in size or pages from its image; masks use different values;
            all masks are empty; the same slice comes twice.
    """
    pairs = sort_unique(name, pairs)

    def masks_of(pair: Pair) -> _Item:
        masks, value = _masks_of(pair, read_mask)
        shape = (masks[0].shape[-2], masks[0].shape[-1])
        kept, native = {}, []
        for page, mask in enumerate(masks):
            if keep_empty or mask.any():
                fitted = fit_masks(mask, size, fit) if size else mask
                # A small object can vanish when the mask shrinks, or lie outside the crop.
                if keep_empty or fitted.any():
                    kept[page] = fitted
                    native += [(pack(mask), mask.shape)] if size else []
        return _Item(pair, shape, len(masks), kept, value, native)

    items = in_threads(masks_of, pairs)
    hint = "keep one class, or use the data set 'folder' with threshold=0 to take all"
    check_one_value(pairs, [item.value for item in items], hint)
    numbers = _numbers(items)
    values = [one for one in labels if not isinstance(one, str)]
    items = [item for item in items if item.masks]
    every = [mask for item in items for mask in item.masks.values()]
    if not any(mask.any() for mask in every):
        raise DataError(all_empty(name, len(pairs), pairs[0].mask, values, _values_of(pairs) if values else ()))
    check_present(every, labels, pairs[0].mask.parent)
    height, width = size or common_size(name, [item.shape for item in items], [str(item.pair.image) for item in items])

    first = read_image(items[0].pair.image)
    channels = 1 if first[0].ndim == 2 else first[0].shape[2]
    kind = first[0].dtype
    depth = np.uint8 if kind == np.uint8 else np.float32
    images, all_masks = allocate(name, len(every), channels, height, width, depth, len(labels) or 1)
    starts = np.cumsum([0, *(len(item.masks) for item in items)])

    def pages_of(path: Path) -> list[NDArray[Any]]:
        pages = read_image(path) if path != items[0].pair.image else first
        odd = next((p for p in pages if (1 if p.ndim == 2 else p.shape[2]) != channels or p.dtype != kind), None)
        if odd is not None:
            got = 1 if odd.ndim == 2 else odd.shape[2]
            raise DataError(
                f"{path}: {got} channel(s) of {odd.dtype}, but {items[0].pair.image} has {channels} of "
                f"{kind}; expected all images of one kind: convert the files"
            )
        return pages

    limits = _limits(pairs, {item.pair.case for item in items}, pages_of) if by_case else {}

    def fill(position: int) -> float:
        item = items[position]
        pages = pages_of(item.pair.image)
        _check_fit(item, pages)
        for row, (page, mask) in enumerate(item.masks.items(), int(starts[position])):
            pixels = pages[page]
            if by_case:
                pixels = stretched_page(pixels, limits[item.pair.case])
            elif kind == np.uint8:
                pixels = scaled(pixels, white or 255)
            else:  # divided at the end, so that a level that is said gives the same numbers as one that was found
                pixels = np.minimum(pixels, white or np.inf).astype(np.float32)
            images[row] = fit_image(pixels, (height, width), fit)
            all_masks[row] = mask
        return max(float(pages[page].max(initial=0)) for page in item.masks)

    brightest = max(in_threads(fill, range(len(items))))
    level = None if by_case else choose_white(f"data set {name!r}", kind, brightest, white)
    if level and depth == np.float32:
        np.clip(np.divide(images, np.float32(level), out=images), 0, 1, out=images)
    return SegmentationDataset(
        name,
        images,
        all_masks,
        tuple(item.pair.case for item in items for _ in item.masks),
        np.array([numbers[item.pair.image] + page for item in items for page in item.masks], np.int64),
        tuple(one if isinstance(one, str) else f"label {one}" for one in labels),
        native_masks([one for item in items for one in item.native], (height, width), fit),
        white=level,
    )


def _limits(pairs: Sequence[Pair], cases: set[str], read: ReadImage) -> dict[str, tuple[Limits, ...]]:
    """What becomes 0 and 1 in each channel of the cases, over all images of each."""
    files: dict[str, list[Path]] = {case: [] for case in sorted(cases)}
    for pair in pairs:
        if pair.case in files:
            files[pair.case].append(pair.image)
    found = in_threads(lambda paths: channel_limits(page for path in paths for page in read(path)), files.values())
    return dict(zip(files, found, strict=True))


def native_masks(found: Sequence[tuple[bytes, tuple[int, ...]]], size: tuple[int, int], fit: str) -> NativeMasks | None:
    """The files' own masks, packed, with their shapes; None where all have the size of the data set anyway."""
    if all(shape[-2:] == size for _, shape in found):
        return None
    return NativeMasks(tuple(bits for bits, _ in found), tuple(shape for _, shape in found), fit)


def _numbers(items: Sequence[_Item]) -> dict[Path, int]:
    """The slice number of each file's first page."""
    stacked = {item.pair.case for item in items if item.pages > 1}
    numbers: dict[Path, int] = {}
    counted: dict[str, int] = {}
    for item in items:
        case = item.pair.case
        numbers[item.pair.image] = counted.get(case, 0) if case in stacked else item.pair.number
        counted[case] = counted.get(case, 0) + item.pages
    return numbers


def _check_fit(item: _Item, pages: Sequence[NDArray[Any]]) -> None:
    pair, (height, width) = item.pair, pages[0].shape[:2]
    if len(pages) != item.pages:
        raise DataError(
            f"{pair.image}: the image has {len(pages)} page(s) but its mask {pair.mask} has {item.pages}; expected as "
            "many: replace one of them"
        )
    if (height, width) != item.shape:
        hint = " (the orientation that a file notes, EXIF, is applied)" if (width, height) == item.shape else ""
        raise DataError(
            f"{pair.image}: the image is {height}x{width} but its mask {pair.mask} is "
            f"{item.shape[0]}x{item.shape[1]}{hint}; expected the same height and width: replace one of them"
        )


def _masks_of(pair: Pair, read_mask: ReadMask) -> tuple[list[NDArray[np.uint8]], Value | None]:
    """The mask (H, W), or (L, H, W), of each page, and the object's value in its first file that has one."""
    if not pair.more_masks:
        return read_mask(pair.mask)
    read = [read_mask(path) for path in pair.masks]
    for path, (masks, _) in zip(pair.masks, read, strict=True):
        (h, w), (first_h, first_w) = masks[0].shape, read[0][0][0].shape
        count, first_count = len(masks), len(read[0][0])
        if (h, w) != (first_h, first_w) or count != first_count:
            own, other = (f"{h}x{w}", f"{first_h}x{first_w}") if count == first_count else (count, first_count)
            raise DataError(
                f"{path}: this mask is {own} but {pair.mask}, of the same image, is {other}; expected one size and as "
                "many pages: replace one of them"
            )
    together = [np.stack(layers) for layers in zip(*(masks for masks, _ in read), strict=True)]
    return together, next((value for _, value in read if value is not None), None)


def sort_unique(name: str, pairs: Iterable[Pair]) -> list[Pair]:
    """Sorts by case and number.

    Raises:
        DataError: there is no pair, or two claim to be the same slice of the same case.
    """
    ordered = sorted(pairs, key=lambda pair: (pair.case, pair.number, str(pair.image)))
    stacks = {pair.case for pair in ordered if pair.stack}
    for one, other in itertools.pairwise(ordered):
        if (one.case, one.number) == (other.case, other.number) and one.case not in stacks:
            raise DataError(
                f"data set {name!r}: {one.image} and {other.image} are both slice {one.number} of case {one.case!r}; "
                "expected each slice once: remove or rename one, or give one data path only"
            )
    return ordered


def _values_of(pairs: Sequence[Pair]) -> set[float]:
    """The values in the first masks."""
    masks = [mask for pair in pairs[:LOOKED_AT] for mask in read_numbers(pair.mask)]
    return {float(value) for mask in masks for value in np.unique(mask)}


def all_empty(name: str, count: int, example: Path, wanted: Sequence[object] = (), there: Iterable[float] = ()) -> str:
    """The message for a set without any object; where values were asked for, with those that there are."""
    if wanted:
        return (
            f"data set {name!r}: all {count} masks are empty (e.g. {example}): none holds "
            f"{' or '.join(map(str, wanted))}{found_values(there)}, or the size and fit leave nothing of it; say "
            "label= or labels= with values that are there"
        )
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


def check_one_value(pairs: Sequence[Pair], values: Sequence[Value | None], hint: str) -> None:
    """Refuses a set whose masks use different values for the object: they may be different organs.

    Args:
        pairs: the files.
        values: the object's value in each mask, None where there is none.
        hint: what the user can do.

    Raises:
        DataError: two masks differ; the message names both.
    """
    seen: dict[Value, Path] = {}
    for pair, value in zip(pairs, values, strict=True):
        if value is not None:
            seen.setdefault(value, pair.mask)
        if len(seen) > 1:
            (one, first), (two, second) = seen.items()
            raise DataError(
                f"{second}: its object has the value {shown(two)}, but {shown(one)} in {first}; "
                f"expected one value for the object in all masks: {hint}"
            )
