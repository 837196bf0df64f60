"""Any folder of image and mask files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.brightness import check_white, choose_white, scaled
from pixelseg_env.datasets.files import IMAGE_FOLDERS, IMAGE_SUFFIXES, MASK_FOLDERS
from pixelseg_env.datasets.image_files import page_count, read_pages
from pixelseg_env.datasets.indexed import read_numbers
from pixelseg_env.datasets.labels import check_label_names, stack_values
from pixelseg_env.datasets.left_out import walk, warn_of_left_out
from pixelseg_env.datasets.masks import read_masks
from pixelseg_env.datasets.naming import name_pairs, warn_of_patients
from pixelseg_env.datasets.page_reader import PageReader
from pixelseg_env.datasets.pairs import Pair, load_pairs
from pixelseg_env.datasets.problems import for_each
from pixelseg_env.datasets.scaling import check_scaling, scaled_by_case
from pixelseg_env.datasets.transparency import warn_of_transparency
from pixelseg_env.errors import DataError, OptionError, check_choice

CHANNELS = ("auto", "grey", "rgb", "all")


def load_folder(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    channels: str = "auto",
    mask_suffix: str = "_mask",
    case_pattern: str | None = None,
    threshold: float | None = None,
    invert: bool = False,
    labels: Sequence[int] | Sequence[str] | None = None,
    white: float | None = None,
    scaling: str = "white",
) -> SegmentationDataset:
    """Reads png, jpeg, tiff, bmp, gif, webp, ppm and pgm files that lie side by side or in two folders.

    Side by side: `x.png` and `x_mask.png`. In two folders: `images/x.png` and `masks/x.png` or
    `masks/x_mask.png` (also `image`, `imgs`, `img`; `mask`, `labels`, `label`). The two formats may differ. Both may
    lie in sub-folders, the same for image and mask; these are then the patients (`images/p1/a.png`), except for
    `train`, `val`, `test` and the like. Each patient may also have the two folders: `p1/images/a.png`,
    `p1/masks/a.png`, or `site/p1/images/a.png`. Image files that then lie elsewhere below the data folder are left
    out, and a warning names them. Hidden folders are left alone.

    Images that are transparent in parts give their colours as stored, and a warning names the files; transparency that
    is opaque everywhere counts for nothing.

    All pages of a TIFF stack are slices of one case. What comes out of each kind of file is told at `image_files`,
    what is object in a mask at `read_masks`.

    8-bit images stay uint8; others become float32, 1 being the grey level `white`. By default it is 65535 for 16-bit
    images, or, where no pixel of the whole set is brighter, the smallest of 1023, 4095 and 16383 (10, 12 and 14
    bits), which a warning says. A run keeps what was chosen; a checkpoint without one applies the rule to each file.

    Args:
        data: the folders.
        size: (H, W), or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep images with empty masks.
        channels: "grey" (C = 1), "rgb" (C = 3), "all" (as many as the files have), or "auto": as the first image is,
            where three equal channels count as grey.
        mask_suffix: what a mask's name has after the image's.
        case_pattern: regular expression searched in the image's name without extension. Its group `case`, or
            first group, or else the whole match, is the case; group `slice` the slice's number. Default: a sub-folder
            is a case, and so is a stack; else what stands before the last `_<number>` ("la_003_17" is slice 17 of
            "la_003"), and a name without is a case of its own. A prefix that is a word ("img_017", or two such as
            "COVID-19_1", "Normal_1", or three with many images each) is no case: each image then is one. Slices of one
            patient must share a case, or they leak between the splits. Where names are not clear, as those of a few
            cases that no number tells apart (benign, malignant, normal), a warning says what was taken for a patient.
        threshold: object is what is brighter than this in the mask; colours count by their luminance. Default: jpeg
            masks are cut halfway between their two levels; others must hold black and one other value. In
            masks of floats it may be a fraction, such as 0.5.
        invert: swap object and background, e.g. where the object is dark.
        labels: several labels, so that masks are (N, L, H, W): values of a grey or indexed mask, such as (1, 2); or
            names of folders in the mask folder, such as ("organ", "lesion"), that hold a mask of each label for each
            image, and may overlap.
        white: the grey level that is white, such as 4095 for 12 bits; see above.
        scaling: "white", or "percentiles": each case and channel by itself, so that over all images of the case, those
            with empty masks too, the 0.5th percentile becomes 0 and the 99.5th 1, what volumes get in `nifti`.
            `predict` takes the images beside a file whose names tell the same case; where folders tell the cases, such
            as `images/p1`, it sees the file alone, so use stacks, names or `case_pattern` instead.

    Returns:
        The whole set, images uint8 or float32.

    Raises:
        OptionError: an option's value is not valid.
        DataError: see `load_pairs`; or an image has no mask, or a folder holds no images.

    Warns:
        UnclearPatientsWarning: names tell no clear patient.
        LeftOutWarning: image files lie where the layout has no place for them.
        DimImagesWarning: see above.
        TransparencyWarning: see above.
    """
    wanted = check_options(channels, threshold, invert, labels, white)
    by_case = check_scaling(scaling, white)
    pairs = list_files(data, mask_suffix, case_pattern, labels)
    named = bool(wanted) and isinstance(wanted[0], str)
    warn_of_left_out("folder", data, pairs, lambda root: _find_files(root, mask_suffix), only_labels=named)
    if case_pattern is None:
        warn_of_patients("folder", pairs)
    return load_images("folder", pairs, size, fit, keep_empty, channels, threshold, invert, wanted, white, by_case)


def check_options(
    channels: str, threshold: Any, invert: bool, labels: Any, white: Any = None
) -> tuple[int, ...] | tuple[str, ...]:
    """Checks what `folder` and `table` have in common, and returns the labels, () where there is one only.

    Raises:
        OptionError: a value is not valid.
    """
    check_choice("channels", channels, CHANNELS)
    check_white(white)
    number = isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool)
    if threshold is not None and not (number and np.isfinite(threshold)):
        raise OptionError(f"threshold={threshold!r} is not valid; expected a grey level, whole number or not, or None")
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
    threshold: float | None,
    invert: bool,
    labels: tuple[int, ...] | tuple[str, ...],
    white: float | None = None,
    by_case: bool = False,
) -> SegmentationDataset:
    """Reads pairs of image files with options that are checked; see `load_folder` and `load_pairs`."""
    if channels == "auto":
        channels = _channels_of(pairs[0].image)
    read: Any = partial(read_masks, threshold=threshold, invert=invert)
    if labels and not isinstance(labels[0], str):
        read = partial(_read_labels, labels=labels)
    transparent: list[Path] = []
    image: Any = partial(read_images, channels=channels, transparent=transparent)
    loaded = load_pairs(name, pairs, size, fit, keep_empty, image, read, labels, check_white(white), by_case)
    warn_of_transparency(transparent, name)
    return loaded


def _read_labels(path: Path, labels: Sequence[int]) -> tuple[list[NDArray[np.uint8]], None]:
    """Masks (L, H, W) of each page, and no value, for the values are given."""
    return [stack_values(numbers, labels) for numbers in read_numbers(path)], None


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
    names = [name for name in check_label_names(labels) if isinstance(name, str)]
    found = list(chain.from_iterable(for_each(lambda root: _find_files(root, mask_suffix, names), data)))
    named = name_pairs([(image, folder) for image, folder, _ in found], case_pattern, page_count)
    return [
        replace(pair, mask=masks[0], more_masks=tuple(masks[1:]))
        for pair, (_, _, masks) in zip(named, found, strict=True)
    ]


def _find_files(root: Path, suffix: str, labels: Sequence[str] = ()) -> list[tuple[Path, str, list[Path]]]:
    """Each image, the sub-folder that it lies in, and its mask, or a mask for each label that has a folder."""
    images_at, masks_at = _subfolder(root, IMAGE_FOLDERS), _subfolder(root, MASK_FOLDERS)
    if labels:
        if not (images_at and masks_at):
            raise DataError(
                f"{root}: labels={tuple(labels)} are folders of masks; expected two folders, 'images', and 'masks' "
                f"with {' and '.join(labels)} in it"
            )
        each = for_each(lambda label: _match(images_at, _label_folder(masks_at, label), suffix), labels)
        return [
            (pairs[0][0], _folder_in(images_at, pairs[0][0]), [mask for _, mask in pairs])
            for pairs in zip(*each, strict=True)
        ]
    if not (images_at and masks_at):
        patients = list(_patients(root))
        if patients:  # <patient>/images and <patient>/masks
            inner = for_each(lambda patient: _find_files(patient, suffix), patients)
            return [
                (image, "/".join(filter(None, (_folder_of(root, patient), folder))), masks)
                for patient, items in zip(patients, inner, strict=True)
                for image, folder, masks in items
            ]
    start = images_at if images_at and masks_at else root
    pairs = _match(images_at, masks_at, suffix, root)
    return [(image, _folder_in(start, image), [mask]) for image, mask in pairs]


def _folder_in(root: Path, image: Path) -> str:
    return _folder_of(root, image.parent)


def _folder_of(root: Path, folder: Path) -> str:
    place = folder.relative_to(root).as_posix()
    return "" if place == "." else place


def _patients(root: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The folders below, at any depth, that have folders of images and masks."""
    here = (*above, root.resolve())
    for path in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if _subfolder(path, IMAGE_FOLDERS) and _subfolder(path, MASK_FOLDERS):
            yield path
        elif path.resolve() not in here:
            yield from _patients(path, here)


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

    def pair(stem: str) -> tuple[Path, Path]:
        if stem not in images:
            raise DataError(
                f"{masks[stem]}: this mask has no image; add the image, remove the mask, or set mask_suffix"
            )
        if found[stem] not in masks:
            raise DataError(
                f"{images[stem]}: its mask is missing; expected {found[stem]}<extension> {where}: "
                "add it, remove the image, or set mask_suffix"
            )
        return images[stem], masks[found[stem]]

    orphans = sorted(set(masks) - set(found.values()))
    return for_each(pair, [*images, *orphans])


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    found = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _by_stem(folder: Path) -> dict[str, Path]:
    """The image files in a folder and its sub-folders, by place and name without ending."""
    files: dict[str, Path] = {}
    for path in walk(folder):
        # macOS decomposes accents, other systems do not: both are one name.
        stem = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if stem in files:
            raise DataError(f"{path}: the same name as {files[stem].name} in another format; remove one of them")
        files[stem] = path
    return files


def _channels_of(path: Path) -> str:
    first = read_pages(path)[0]
    if first.ndim == 2 or _is_grey(first):
        return "grey"
    return "rgb" if first.shape[2] == 3 else "all"


def _is_grey(pixels: NDArray[Any]) -> bool:
    return pixels.shape[2] == 3 and bool((pixels == pixels[..., :1]).all())


def read_images(path: Path, channels: str, transparent: list[Path] | None = None) -> list[NDArray[Any]]:
    """Reads the pages of an image: "grey" (H, W), "rgb" (H, W, 3) or "all", of the file's depth.

    `transparent` gets the path, if a pixel is not opaque.

    Raises:
        DataError: see `read_pages`; or the file has channels of which neither grey nor RGB can be made.
    """
    return [_with_channels(path, page, channels) for page in read_pages(path, transparent)]


def _with_channels(path: Path, pixels: NDArray[Any], channels: str) -> NDArray[Any]:
    if pixels.ndim == 3 and pixels.shape[2] != 3 and channels != "all":
        raise DataError(
            f"{path}: channels={channels!r}: expected 1 or 3 channels, got {pixels.shape[2]}; say channels=all"
        )
    if channels == "rgb" and pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if channels == "grey" and pixels.ndim == 3:
        pixels = pixels[..., 0] if _is_grey(pixels) else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(pixels)


def _read_for(
    path: Path,
    planes: int,
    white: float | None = None,
    scaling: str = "white",
    mask_suffix: str = "_mask",
    case_pattern: str | None = None,
) -> list[NDArray[Any]]:
    """The pages of an image for an agent of so many channels."""
    transparent: list[Path] = []
    channels = {1: "grey", 3: "rgb"}.get(planes, "all")
    pages = read_images(path, channels, transparent)
    warn_of_transparency(transparent)
    if check_scaling(scaling, white):
        files = sorted({path, *READER.siblings(path, mask_suffix)})
        named = name_pairs([(one, "") for one in files], case_pattern, page_count)
        case = {one.image: one.case for one in named}
        return scaled_by_case(pages, [one for one in case if case[one] == case[path]], read_images, channels)
    brightest = max(float(page.max(initial=0)) for page in pages)
    level = choose_white(str(path), pages[0].dtype, brightest, check_white(white))
    return [scaled(page, level) for page in pages]


READER = PageReader(pixels=_read_for)
