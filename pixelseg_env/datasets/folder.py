"""Any folder of image and mask files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.files import IMAGE_FOLDERS, IMAGE_SUFFIXES, MASK_FOLDERS, ImageReader
from pixelseg_env.datasets.image_files import is_image_file, read_mask, read_pixels
from pixelseg_env.datasets.indexed import read_numbers
from pixelseg_env.datasets.labels import check_label_names, stack_values
from pixelseg_env.datasets.pairs import Pair, load_pairs
from pixelseg_env.errors import DataError, OptionError, check_choice

DEFAULT_CASE = r"(?P<case>.+)_(?P<slice>\d+)"


def load_folder(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    channels: str = "auto",
    mask_suffix: str = "_mask",
    case_pattern: str | None = None,
    threshold: int | None = None,
    invert: bool = False,
    labels: Sequence[int] | Sequence[str] | None = None,
) -> SegmentationDataset:
    """Reads png, jpeg, tiff and bmp files (8 or 16 bits) that lie side by side or in two folders.

    Side by side: `x.png` and `x_mask.png`. In two folders: `images/x.png` and `masks/x.png` or
    `masks/x_mask.png` (also `image`, `imgs`, `img`; `mask`, `labels`, `label`). The two formats may differ.
    16-bit images are scaled by 1/65535 and kept as float32, 8-bit ones stay uint8.

    Args:
        data: the folders.
        size: (H, W), or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep images with empty masks.
        channels: "grey" (C = 1), "rgb" (C = 3), or "auto": as the first image is, where three equal channels
            count as grey.
        mask_suffix: what a mask's name has after the image's.
        case_pattern: regular expression searched in the image's name without extension. Its group `case`, or
            first group, or else the whole match, is the case; group `slice` the slice's number. Default: what
            stands before the last `_<number>` is the case ("la_003_17" is slice 17 of "la_003"), and a name without is
            a case of its own. Slices of one patient must share a case, or they leak between the splits.
        threshold: object is what is brighter than this in the mask. Default: jpeg masks at 127; others
            must hold 0 and one other value.
        invert: swap object and background, e.g. where the object is dark.
        labels: several labels, so that masks are (N, L, H, W): values of a grey or indexed mask, such as (1, 2); or
            names of folders in the mask folder, such as ("organ", "lesion"), that hold a mask of each label for each
            image, and may overlap.

    Returns:
        The whole set, images uint8 or float32.

    Raises:
        OptionError: an option's value is not valid.
        DataError: see `load_pairs`; or an image has no mask, or a folder holds no images.
    """
    wanted = check_options(channels, threshold, invert, labels)
    pairs = list_files(data, mask_suffix, case_pattern, labels)
    return load_images("folder", pairs, size, fit, keep_empty, channels, threshold, invert, wanted)


def check_options(channels: str, threshold: Any, invert: bool, labels: Any) -> tuple[int, ...] | tuple[str, ...]:
    """Checks what `folder` and `table` have in common, and returns the labels, () where there is one only.

    Raises:
        OptionError: a value is not valid.
    """
    check_choice("channels", channels, ("auto", "grey", "rgb"))
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | np.integer)):
        raise OptionError(f"threshold={threshold!r} is not valid; expected a whole number (a grey level) or None")
    wanted = check_label_names(labels)
    if wanted and not isinstance(wanted[0], str) and (threshold is not None or invert):
        raise OptionError(f"labels={labels!r}: the values name the objects; leave threshold and invert out")
    return wanted


def load_images(
    name: str,
    pairs: list[Pair],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    channels: str,
    threshold: int | None,
    invert: bool,
    labels: tuple[int, ...] | tuple[str, ...],
) -> SegmentationDataset:
    """Reads pairs of image files with options that are checked; see `load_folder` and `load_pairs`."""
    if channels == "auto":
        channels = _channels_of(pairs[0].image)
    read: Any = partial(read_mask, threshold=threshold, invert=invert)
    if labels and not isinstance(labels[0], str):
        read = partial(_read_labels, labels=labels)
    return load_pairs(name, pairs, size, fit, keep_empty, partial(read_image, channels=channels), read, labels)


def _read_labels(path: Path, labels: Sequence[int]) -> tuple[NDArray[np.uint8], None]:
    """Masks (L, H, W), and no value, for the values are given."""
    return stack_values(read_numbers(path), labels), None


def list_files(
    data: list[Path], mask_suffix: str = "_mask", case_pattern: str | None = None, labels: Any = None
) -> list[Pair]:
    """Finds the images and masks of folders, and reads case and slice in their names.

    Raises:
        OptionError: `mask_suffix` or `case_pattern` is not valid.
        DataError: see `load_folder`.
    """
    if not isinstance(mask_suffix, str):
        raise OptionError(f"mask_suffix={mask_suffix!r} is not valid; expected text such as '_mask'")
    name_case = case_namer(case_pattern)
    names = [name for name in check_label_names(labels) if isinstance(name, str)]
    found = [item for root in data for item in _find_files(root, mask_suffix, names)]
    return [Pair(image, masks[0], *name_case(image), more_masks=tuple(masks[1:])) for image, masks in found]


def case_namer(case_pattern: str | None) -> Callable[[Path], tuple[str, int]]:
    """Returns what reads case and slice in a file's name; see `load_folder`.

    Raises:
        OptionError: the pattern is no regular expression.
    """
    try:
        pattern = re.compile(DEFAULT_CASE + "$" if case_pattern is None else case_pattern)
    except (re.error, TypeError) as error:
        raise OptionError(f"case_pattern={case_pattern!r} is not a regular expression: {error}") from error
    return partial(_name_case, pattern=pattern, default=case_pattern is None)


def _find_files(root: Path, suffix: str, labels: Sequence[str] = ()) -> list[tuple[Path, list[Path]]]:
    """Each image with its mask, or with a mask for each of the labels that have folders of their own."""
    images_at, masks_at = _subfolder(root, IMAGE_FOLDERS), _subfolder(root, MASK_FOLDERS)
    if labels:
        if not (images_at and masks_at):
            raise DataError(
                f"{root}: labels={tuple(labels)} are folders of masks; expected two folders, 'images', and 'masks' "
                f"with {' and '.join(labels)} in it"
            )
        each = [_match(images_at, _label_folder(masks_at, label), suffix) for label in labels]
        return [(pairs[0][0], [mask for _, mask in pairs]) for pairs in zip(*each, strict=True)]
    return [(image, [mask]) for image, mask in _match(images_at, masks_at, suffix, root)]


def _label_folder(masks_at: Path, label: str) -> Path:
    folder = masks_at / label
    if not folder.is_dir():
        there = sorted(path.name for path in masks_at.iterdir() if path.is_dir())
        raise DataError(f"{folder}: no such folder, for label {label!r}; found {', '.join(there) or 'no folder'}")
    return folder


def _match(
    images_at: Path | None, masks_at: Path | None, suffix: str, root: Path | None = None
) -> list[tuple[Path, Path]]:
    """Pairs of image and mask, of two folders or, without them, side by side in `root`."""
    if images_at and masks_at:
        images = _by_stem(images_at)
        masks = _by_stem(masks_at)
        found = {stem: stem if stem in masks else stem + suffix for stem in images}
        where = str(masks_at)
    else:
        root = root or Path()
        files = _by_stem(root)
        if not suffix:
            raise OptionError(
                "mask_suffix='' is not valid where images and masks share a folder: nothing tells them apart"
            )
        masks = {stem: path for stem, path in files.items() if stem.endswith(suffix)}
        images = {stem: path for stem, path in files.items() if stem not in masks}
        found = {stem: stem + suffix for stem in images}
        where = "beside the image"
    if not images and not masks:
        raise DataError(
            f"{root or images_at}: no image found; expected {', '.join(IMAGE_SUFFIXES)} files in it with "
            f"<name>{suffix} beside each, or two folders 'images' and 'masks'"
        )
    for stem, path in images.items():
        if found[stem] not in masks:
            raise DataError(
                f"{path}: its mask is missing; expected {found[stem]}<extension> {where}: "
                "add it, remove the image, or set mask_suffix"
            )
    orphans = sorted(set(masks) - set(found.values()))
    if orphans:
        raise DataError(
            f"{masks[orphans[0]]}: this mask has no image; add the image, remove the mask, or set mask_suffix"
        )
    return [(path, masks[found[stem]]) for stem, path in images.items()]


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    found = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_image_file(path):
            if path.stem in files:
                raise DataError(
                    f"{path}: the same name as {files[path.stem].name} in another format; remove one of them"
                )
            files[path.stem] = path
    return files


def _name_case(image: Path, *, pattern: re.Pattern[str], default: bool) -> tuple[str, int]:
    match = pattern.search(image.stem)
    digits = re.search(r"(\d+)$", image.stem)
    number = _number(digits[1]) if digits else 0
    if match is None:
        if default:
            return image.stem, number
        raise DataError(f"{image}: case_pattern={pattern.pattern!r} does not match the name {image.stem!r}; correct it")
    groups = match.groupdict()
    case = groups.get("case") or (match[1] if pattern.groups else None) or match[0]
    if groups.get("slice"):
        try:
            number = _number(groups["slice"])
        except ValueError:
            raise DataError(
                f"{image}: case_pattern={pattern.pattern!r} finds the slice {groups['slice']!r}; expected a number"
            ) from None
    return case, number


def _number(digits: str) -> int:
    """A slice's number; of the long numbers in series UIDs, which are names and not counts, the last digits."""
    return int(digits[-18:])


def _channels_of(path: Path) -> str:
    pixels = read_pixels(path)
    return "grey" if pixels.ndim == 2 or _is_grey(pixels) else "rgb"


def _is_grey(pixels: NDArray[Any]) -> bool:
    return np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])


def read_image(path: Path, channels: str) -> NDArray[Any]:
    """Reads one image as the data set holds it, "grey" (H, W) or "rgb" (H, W, 3), uint8 or float32."""
    pixels = read_pixels(path)
    if channels == "rgb" and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    elif channels == "grey" and pixels.ndim == 3:
        pixels = pixels[..., 0] if _is_grey(pixels) else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if pixels.dtype == np.uint16:
        return (pixels.astype(np.float32) / np.float32(65535)).astype(np.float32)
    return np.ascontiguousarray(pixels)


def _read_for(path: Path, planes: int) -> NDArray[Any]:
    """An image for an agent of one channel or three."""
    return read_image(path, "grey" if planes == 1 else "rgb")


READER = ImageReader(pixels=_read_for)
