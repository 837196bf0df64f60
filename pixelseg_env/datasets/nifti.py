"""NIfTI volumes in the layouts of the Medical Segmentation Decathlon and of nnU-Net; `cardiac` is a preset of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.files import FileImages, FileReader, below, without_masks
from pixelseg_env.datasets.labels import check_label, check_labels
from pixelseg_env.datasets.left_out import warn_of_unpaired
from pixelseg_env.datasets.nifti_files import (
    SUFFIXES,
    encode_like,
    on_grid,
    read_channels,
    read_geometry,
    read_volume,
    volume_name,
)
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.problems import SHOWN, for_each
from pixelseg_env.datasets.volumes import Source, channel_slices, check_axis, load_volumes
from pixelseg_env.errors import DataError, OptionError

LISTING = "dataset.json"
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def load_nifti(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    label: int | None = None,
    labels: Sequence[int] | None = None,
    channels: int | Sequence[int] | None = None,
    align: bool = True,
    axis: int = 2,
) -> SegmentationDataset:
    """Reads the 2D slices, along one axis, of `imagesTr/<case>.nii[.gz]` and `labelsTr/<case>.nii[.gz]`.

    An image of several channels is one file with a fourth axis, as in the Decathlon, or a file for each channel,
    `<case>_0000.nii.gz`, `<case>_0001.nii.gz`, ..., as nnU-Net has them. How slices are normalised and kept is told
    at `load_volumes`.

    Args:
        data: folders, each with `imagesTr` and `labelsTr`; where a `dataset.json` lists its "training" pairs, these
            are read, and where it names "labels", these are the names of `labels`.
        size: (H, W) of the slices, or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep slices without object.
        label: the value that is the object. Default: the labels must hold 0 and one other value, which is it.
        labels: several values, each a label of its own, such as (1, 2): masks are then (N, L, H, W).
        channels: which channels, counted from 0: a number or several; None: all.
        align: bring a label that lies differently than its image (their affines tell) to the image's grid by flips
            and swaps of axes, and refuse what needs more; False: take the voxels as they are stored.
        axis: along which the slices lie, as the files are stored: 0, 1 or 2. A slice's rows and columns are the other
            two, in order.

    Returns:
        The whole set, uint8.

    Raises:
        OptionError: `label` is not a positive whole number, `labels` not several different ones, or both are given;
            `channels` are no such numbers.
        DataError: a file is missing, damaged, has more dimensions or is not finite; label and image differ in shape
            or place; labels hold several values; all labels are empty, or one of `labels` is nowhere.
    """
    value, wanted = check_label(label), check_labels(labels, label)
    source = Source(
        partial(_read_image, chosen=_check_channels(channels)),
        partial(read_label, align=_check_align(align)),
        _spacing_of,
        check_axis(axis),
    )
    return load_volumes(
        "nifti", list_files(data), source, size, fit, keep_empty, value, wanted, _label_names(data, wanted)
    )


def load_cardiac(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    label: int | None = None,
    labels: Sequence[int] | None = None,
    align: bool = True,
    axis: int = 2,
) -> SegmentationDataset:
    """Reads a task of one channel in the Decathlon's layout, such as Task02_Heart.

    It is `nifti` with 3-dimensional volumes only.

    Args:
        data: task folders; see `load_nifti`.
        size: (H, W) of the slices, or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep slices without object.
        label: see `load_nifti`.
        labels: see `load_nifti`; they are called "label 1", "label 2", ...
        align: see `load_nifti`.
        axis: see `load_nifti`.

    Returns:
        The whole set, C = 1, uint8.

    Raises:
        OptionError: see `load_nifti`.
        DataError: see `load_nifti`.
    """
    value, wanted = check_label(label), check_labels(labels, label)
    read = partial(read_label, align=_check_align(align))
    source = Source(lambda pair: [read_volume(pair.image)], read, _spacing_of, check_axis(axis))
    names = [f"label {one}" for one in wanted]
    return load_volumes("cardiac", list_files(data), source, size, fit, keep_empty, value, wanted, names)


def read_label(pair: Pair, align: bool = True) -> NDArray[Any]:
    """A label (X, Y, Z) on its image's grid."""
    label = read_volume(pair.mask)
    return on_grid(label, read_geometry(pair.mask), read_geometry(pair.image), pair.mask, pair.image, align)


def _spacing_of(pair: Pair) -> tuple[float, float, float]:
    return read_geometry(pair.image).spacing


def _read_image(pair: Pair, chosen: tuple[int, ...] | None) -> list[NDArray[Any]]:
    return _choose(pair.images, chosen)


def _choose(files: Sequence[Path], chosen: tuple[int, ...] | None) -> list[NDArray[Any]]:
    """The chosen channels of an image, volumes (X, Y, Z) of equal shape."""
    if len(files) > 1:
        numbers = range(len(files)) if chosen is None else _within(files[0], chosen, len(files))
        channels = [read_volume(files[k]) for k in numbers]
    else:
        every = read_channels(files[0])
        channels = every if chosen is None else [every[k] for k in _within(files[0], chosen, len(every))]
    for volume in channels:
        if volume.shape != channels[0].shape:
            raise DataError(
                f"{files[0]}: its channels have the shapes {channels[0].shape} and {volume.shape}; expected one shape"
            )
    return channels


def _within(path: Path, chosen: tuple[int, ...], count: int) -> tuple[int, ...]:
    if max(chosen) >= count:
        raise DataError(f"{path}: channels={list(chosen)}, but there are {count}, counted from 0")
    return chosen


def _check_channels(channels: Any) -> tuple[int, ...] | None:
    if channels is None or channels == "all":
        return None
    if isinstance(channels, str):
        channels = [int(part) if part.strip().isdecimal() else part for part in channels.split(",")]
    values = (channels,) if isinstance(channels, int) else tuple(channels) if isinstance(channels, Sequence) else ()
    whole = all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)
    if not values or not whole or len(set(values)) < len(values):
        raise OptionError(
            f"channels={channels!r} is not valid; expected a number counted from 0, several different ones, or None"
        )
    return values


def _check_align(align: Any) -> bool:
    if not isinstance(align, bool):
        raise OptionError(f"align={align!r} is not valid; expected true or false")
    return align


# ---------------------------------------------------------------- which files


def list_files(data: list[Path]) -> list[Pair]:
    """Finds the images, with all their channels, and labels of folders."""
    return list(chain.from_iterable(for_each(_find_pairs, data)))


def _find_pairs(root: Path) -> list[Pair]:
    listing = root / LISTING
    listed = _listed_pairs(root, listing) if listing.is_file() else []
    return listed or _paired_files(root)


LONGEST = 1000  # of a path
LONGEST_NAME = 255  # bytes of a file's name, on most systems


def _listing(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:SHOWN]
        raise DataError(f"{path}: expected a JSON object ({reason}); correct it or remove it") from error


def _listed_pairs(root: Path, listing: Path) -> list[Pair]:
    content = _listing(listing)
    ending = content.get("file_ending", SUFFIXES[0])
    if not str(ending).lower().endswith(SUFFIXES):
        raise DataError(
            f"{listing}: file_ending is {repr(ending)[:SHOWN]}; expected {' or '.join(SUFFIXES)}: convert the "
            "files, or use the data set 'folder' or 'table' for images"
        )
    try:
        files = [(root / entry["image"], root / entry["label"]) for entry in content.get("training") or []]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{listing}: expected "training": [{{"image": ..., "label": ...}}, ...] ({repr(error)[:SHOWN]}); '
            "correct it or remove it"
        ) from error

    def pair(entry: tuple[Path, Path]) -> Pair:
        image, label = entry
        longest = max(len(part.encode(errors="replace")) for path in (image, label) for part in path.parts)
        if longest > LONGEST_NAME or max(len(str(path)) for path in (image, label)) > LONGEST:
            # The system would refuse to look for it.
            shown = max(str(image), str(label), key=len)[:SHOWN]
            raise DataError(f"{listing}: lists a name that is too long ({shown}...); correct it or remove it")
        # nnU-Net's first version lists <case>.nii.gz and has <case>_0000.nii.gz, ...
        images = [image] if image.is_file() else _channel_files(image.parent, volume_name(image))
        for path, there in ((image, bool(images)), (label, label.is_file())):
            if not there:
                raise DataError(f"{path}: is missing, but {listing} lists it; add the file or remove it from the list")
        return Pair(images[0], label, volume_name(image), 0, tuple(images[1:]))

    return for_each(pair, files)


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
    cases: dict[str, list[Path]] = {}

    def assign(name: str) -> None:
        case = name if name in labels else _case_of(name)
        if case not in labels:
            raise DataError(
                f"{images[name]}: its label {folders[1] / case}.nii.gz is missing; add it or remove the image"
            )
        cases.setdefault(case, []).append(images[name])

    for_each(assign, images)
    lonely = [path for case, path in labels.items() if case not in cases]
    warn_of_unpaired("nifti", root, lonely, "their images are missing: add those or remove these")
    pairs = [Pair(paths[0], labels[case], case, 0, tuple(paths[1:])) for case, paths in cases.items()]
    return for_each(_check_numbering, pairs)


def _case_of(name: str) -> str:
    match = _CHANNEL.fullmatch(name)
    return match["case"] if match else name


def _check_numbering(pair: Pair) -> Pair:
    """Refuses channels that are not numbered 0, 1, 2, ...: they would be taken for others."""
    names = [volume_name(path) for path in pair.images]
    expected = [f"{pair.case}_{k:04d}" for k in range(len(names))]
    if names not in ([pair.case], expected):
        raise DataError(
            f"{pair.image}: the images of case {pair.case!r} are {', '.join(names)}; expected either {pair.case} or "
            f"its channels {pair.case}_0000, {pair.case}_0001, ...: rename or add files"
        )
    return pair


def _channel_files(folder: Path, case: str) -> list[Path]:
    """`<case>_0000`, `<case>_0001`, ... as far as there are any."""
    found: list[Path] = []
    while True:
        paths = [folder / f"{case}_{len(found):04d}{suffix}" for suffix in SUFFIXES]
        here = [path for path in paths if path.is_file()]
        if not here:
            return found
        found.append(here[0])


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


def _label_names(data: list[Path], wanted: Sequence[int]) -> list[str]:
    """What `dataset.json` calls the values: {"1": "tumour"} in the Decathlon, {"tumour": 1} in nnU-Net."""
    names: dict[int, str] = {}
    for listing in (root / LISTING for root in data):
        labels = _listing(listing).get("labels") if listing.is_file() else None
        for key, value in labels.items() if isinstance(labels, dict) else ():
            if str(key).isdecimal():
                names.setdefault(int(key), str(value))
            elif isinstance(value, int):
                names.setdefault(value, str(key))
    called = [names.get(value, f"label {value}") for value in wanted]
    return called if len(set(called)) == len(called) else [f"label {value}" for value in wanted]


# ---------------------------------------------------------------- one file, for predict


@dataclass(frozen=True)
class VolumeReader(FileReader):
    """Reads volumes; an agent of several channels gets those beside `<case>_0000`, or those of a fourth axis."""

    endings: tuple[str, ...] = SUFFIXES
    mask_endings: tuple[str, ...] = SUFFIXES

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """See `FileReader.read`."""
        chosen, axis = _check_channels(options.get("channels")), check_axis(options.get("axis", 2))
        if planes == 1 and chosen is None:
            channels = [read_volume(path)]
        else:
            together = _channel_files(path.parent, _case_of(volume_name(path)))
            channels = _choose(together if path in together else [path], chosen)
        channels = [np.moveaxis(volume, axis, -1) for volume in channels]
        native = channels[0].shape[0], channels[0].shape[1]
        images = channel_slices(channels, range(channels[0].shape[2]), size or native, fit)

        def encode(masks: NDArray[Any], name: str) -> bytes:
            return encode_like(path, np.moveaxis(masks, 0, axis), name)

        return FileImages(images, native, fit, encode, encode)

    def find(self, folder: Path, planes: int, options: Mapping[str, Any]) -> list[Path]:
        """See `FileReader.find`; of channels that belong together, the first."""
        found = [path for path in below(folder) if self.is_input(path)]
        found = [path for path in found if not (path.parent.name == "labelsTr" and _images_beside(path.parent))]
        found = without_masks(folder, found, "_mask", self.stem)
        return [path for path in found if not self._together(planes, options) or _is_first(path)]

    def mask_name(self, path: Path, planes: int, options: Mapping[str, Any]) -> str:
        """The case's name, as nnU-Net calls its labels."""
        if not self._together(planes, options):
            return path.name
        return _case_of(self.stem(path)) + path.name[len(self.stem(path)) :]

    @staticmethod
    def _together(planes: int, options: Mapping[str, Any]) -> bool:
        """Whether files with channel numbers are one image."""
        return planes > 1 or _check_channels(options.get("channels")) is not None


def _images_beside(folder: Path) -> bool:
    return (folder.parent / "imagesTr").is_dir()


def _is_first(path: Path) -> bool:
    """Whether a file is the first channel of its image, or no channel of one."""
    match = _CHANNEL.fullmatch(volume_name(path))
    return match is None or int(match["channel"]) == 0 or not _channel_files(path.parent, match["case"])


READER = VolumeReader()
