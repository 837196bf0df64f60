"""Volumes in the layout of a Medical Segmentation Decathlon task, such as Task02_Heart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.fitting import common_size, fit_image, fit_mask
from pixelseg_env.datasets.memory import allocate
from pixelseg_env.datasets.nifti import SUFFIXES, read_volume, volume_name
from pixelseg_env.datasets.pairs import Pair, all_empty, check_one_value, in_threads, sort_unique
from pixelseg_env.errors import DataError, OptionError

PERCENTILES = (0.5, 99.5)


def load_cardiac(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    label: int | None = None,
    labels: Sequence[int] | None = None,
) -> SegmentationDataset:
    """Reads the 2D slices, along the last axis, of `imagesTr/<case>.nii[.gz]` and `labelsTr/<case>.nii[.gz]`.

    Each volume is normalised by itself: its 0.5th percentile becomes 0 and its 99.5th becomes 1, what lies
    outside is cut off (single bright voxels would otherwise squeeze the rest). Slices are then kept as uint8:
    rounding changes a value by 1/510 at most and takes a quarter of the memory of float32.

    A volume without object is not read, unless `keep_empty`; at most a few volumes are in memory at a time.

    Args:
        data: task folders, each with `imagesTr` and `labelsTr`; where a `dataset.json` lists its "training"
            pairs, these are read.
        size: (H, W) of the slices, or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep slices without object.
        label: the value that is the object. Default: the labels must hold 0 and one other value, which is it.
        labels: several values, each a label of its own, such as (1, 2): masks are then (N, L, H, W).

    Returns:
        The whole set, C = 1, uint8.

    Raises:
        OptionError: `label` is not a positive whole number, `labels` not several different ones, or both are given.
        DataError: a file is missing, damaged, not 3-dimensional or not finite; label and image differ in shape;
            labels hold several values; all labels are empty, or one of `labels` is nowhere.
    """
    if label is not None and not _is_label(label):
        raise OptionError(f"label={label!r} is not valid; expected a positive whole number or None")
    wanted = _check_labels(labels, label)
    pairs = sort_unique("cardiac", [pair for root in data for pair in _find_pairs(root)])

    def masks_of(pair: Pair) -> tuple[tuple[int, ...], dict[int, NDArray[np.uint8]], float | None]:
        volume = read_volume(pair.mask)
        if wanted:
            mask, value = np.stack([volume == one for one in wanted]).view(np.uint8), None
        else:
            mask, value = _binary(pair.mask, volume, label)
        occupied = np.asarray(mask.any(axis=tuple(range(mask.ndim - 1))))
        slices = {}
        for z in range(volume.shape[2]):
            if keep_empty or occupied[z]:
                native = np.ascontiguousarray(mask[..., z])
                fitted = _fitted(native, size, fit) if size else native
                if keep_empty or fitted.any():  # an object can vanish when it shrinks, or lie outside the crop
                    slices[z] = fitted
        return volume.shape, slices, value

    read = in_threads(masks_of, pairs)
    check_one_value(pairs, [value for _, _, value in read], "say which one is the object, e.g. label=1")
    kept = [(pair, shape, masks) for pair, (shape, masks, _) in zip(pairs, read, strict=True) if masks]
    del read
    if not any(mask.any() for _, _, masks in kept for mask in masks.values()):
        raise DataError(all_empty("cardiac", len(pairs), pairs[0].mask))
    for k, one in enumerate(wanted):
        if not any(mask[k].any() for _, _, masks in kept for mask in masks.values()):
            raise DataError(
                f"{pairs[0].mask.parent}: labels={wanted}: no label file holds the value {one}; leave it out"
            )
    height, width = size or common_size(
        "cardiac", [(shape[0], shape[1]) for _, shape, _ in kept], [str(pair.image) for pair, _, _ in kept]
    )
    starts = np.cumsum([0, *(len(masks) for _, _, masks in kept)])
    images, all_masks = allocate("cardiac", int(starts[-1]), 1, height, width, np.uint8, len(wanted) or 1)

    def fill(position: int) -> None:
        pair, shape, masks = kept[position]
        volume = read_volume(pair.image)
        if volume.shape != shape:
            raise DataError(
                f"{pair.image}: the image has shape {volume.shape} but its label {pair.mask} has {shape}; "
                "expected the same shape: replace one of them"
            )
        rows = slice(int(starts[position]), int(starts[position + 1]))
        images[rows] = volume_slices(volume, list(masks), (height, width), fit)
        all_masks[rows] = list(masks.values())

    in_threads(fill, range(len(kept)))
    return SegmentationDataset(
        "cardiac",
        images,
        all_masks,
        tuple(pair.case for pair, _, masks in kept for _ in masks),
        np.array([z for _, _, masks in kept for z in masks], np.int64),
        tuple(f"label {one}" for one in wanted),
    )


def _is_label(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _check_labels(labels: Any, label: int | None) -> tuple[int, ...]:
    """The values of several labels, or none."""
    if labels is None:
        return ()
    values = tuple(labels) if isinstance(labels, Sequence | np.ndarray) and not isinstance(labels, str) else ()
    if len(values) < 2 or len(set(values)) < len(values) or not all(map(_is_label, values)):
        raise OptionError(f"labels={labels!r} is not valid; expected two or more different values, such as (1, 2)")
    if label is not None:
        raise OptionError(f"label={label!r} and labels={labels!r}: give one of them")
    return tuple(int(value) for value in values)


def _fitted(mask: NDArray[np.uint8], size: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """A mask (H, W), or (L, H, W), brought to a size."""
    if mask.ndim == 2:
        return fit_mask(mask, size, fit)
    return np.stack([fit_mask(one, size, fit) for one in mask])


def volume_slices(volume: NDArray[Any], numbers: Sequence[int], size: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """Normalises slices of a volume by the whole volume's percentiles and brings them to a size.

    Args:
        volume: (X, Y, Z).
        numbers: which slices along the last axis.
        size: (H, W) of the result.
        fit: "resize" or "crop".

    Returns:
        uint8 (len(numbers), 1, H, W), as the data set holds them.
    """
    low, high = (float(value) for value in np.percentile(volume, PERCENTILES))
    scale = 1.0 / (high - low) if high > low else 0.0  # a constant volume becomes 0
    images = np.empty((len(numbers), 1, *size), np.uint8)
    for row, z in enumerate(numbers):
        plane = np.clip((volume[..., z].astype(np.float32) - low) * scale, 0.0, 1.0).astype(np.float32)
        images[row] = np.rint(fit_image(plane, size, fit) * 255)
    return images


def _find_pairs(root: Path) -> list[Pair]:
    listing = root / "dataset.json"
    listed = _listed_pairs(root, listing) if listing.is_file() else []
    return listed or _paired_files(root)


def _listed_pairs(root: Path, listing: Path) -> list[Pair]:
    try:
        entries = json.loads(listing.read_text(encoding="utf-8")).get("training") or []
        files = [(root / entry["image"], root / entry["label"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{listing}: expected "training": [{{"image": ..., "label": ...}}, ...] ({error!r}); '
            "correct it or remove it"
        ) from error
    for pair in files:
        for path in pair:
            if not path.is_file():
                raise DataError(f"{path}: is missing, but {listing} lists it; add the file or remove it from the list")
    return [Pair(image, label, volume_name(image), 0) for image, label in files]


def _paired_files(root: Path) -> list[Pair]:
    folders = root / "imagesTr", root / "labelsTr"
    for folder in folders:
        if not folder.is_dir():
            raise DataError(
                f"{folder}: is missing; expected a Decathlon task folder with imagesTr and labelsTr: point data= at it"
            )
    images, labels = (_volumes(folder) for folder in folders)
    if not images:
        raise DataError(f"{folders[0]}: no .nii or .nii.gz file found; point data= at a Decathlon task folder")
    for case, path in images.items():
        if case not in labels:
            raise DataError(f"{path}: its label {folders[1] / case}.nii.gz is missing; add it or remove the image")
    return [Pair(path, labels[case], case, 0) for case, path in images.items()]


def _volumes(folder: Path) -> dict[str, Path]:
    volumes: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # macOS leaves ._ files in the archives
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith("."):
            case = volume_name(path)
            if case in volumes:
                raise DataError(
                    f"{path}: case {case!r} is there twice, also as {volumes[case].name}; remove one of them"
                )
            volumes[case] = path
    return volumes


def _binary(path: Path, volume: NDArray[Any], label: int | None) -> tuple[NDArray[np.uint8], float | None]:
    """The mask, uint8 0 and 1, and the value that stood for the object (None if there is none, or `label` says)."""
    if label is not None:
        return np.asarray(volume == label).view(np.uint8), None
    mask = np.asarray(volume != 0)
    value = volume.max(initial=0)
    if mask.any() and not np.array_equal(volume == value, mask):
        values = np.unique(volume)
        listed = ", ".join(f"{v:g}" for v in values[:6]) + (", ..." if len(values) > 6 else "")
        raise DataError(
            f"{path}: expected a label of two values, 0 and one other, got {len(values)} values ({listed}); "
            "say which one is the object, e.g. label=1"
        )
    return mask.view(np.uint8), float(value) if mask.any() else None
