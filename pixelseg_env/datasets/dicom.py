"""DICOM series with labels; needs `pydicom`, which `pip install pixelseg-env[dicom]` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.files import IMAGE_FOLDERS, MASK_FOLDERS, FileImages, FileReader, below
from pixelseg_env.datasets.labels import check_label, check_labels
from pixelseg_env.datasets.nifti_files import SUFFIXES, Geometry, encode_at, on_grid, read_geometry, read_volume
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.problems import SHOWN, for_each
from pixelseg_env.datasets.volumes import Source, channel_slices, load_volumes
from pixelseg_env.errors import DataError, OptionError, PixelSegError, shown

ENDING = ".dcm"
_SPREAD = 0.01  # of a slice's distance: by so much distances may differ in one series
_TURN = 1e-3  # of a pixel: by so much their directions may
_MAGIC = b"DICM"


def load_dicom(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    label: int | None = None,
    labels: Sequence[int] | None = None,
    align: bool = True,
) -> SegmentationDataset:
    """Reads `images/<case>/` with the files of one series, and its label `masks/<case>.nii[.gz]` or `masks/<case>/`.

    A label folder holds one DICOM file for each slice. The slices of a series are sorted by their places; they are
    numbered from 0. How they are normalised and kept is told at `load_volumes`. Colour images, files of several
    frames and segmentation objects (SEG, RTSTRUCT) are refused: convert them to NIfTI.

    Args:
        data: folders, each with `images` and `masks`.
        size: (H, W) of the slices, or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep slices without object.
        label: the value that is the object. Default: the labels must hold 0 and one other value, which is it.
        labels: several values, each a label of its own, such as (1, 2): masks are then (N, L, H, W).
        align: see `load_nifti`.

    Returns:
        The whole set, C = 1, uint8.

    Raises:
        OptionError: an option is not valid, or pydicom is missing.
        DataError: a file is missing, damaged or of a kind that is not read; a folder holds several series; slices
            are missing; label and image differ in shape or place; see `load_volumes` for the rest.
    """
    value, wanted = check_label(label), check_labels(labels, label)
    source = Source(lambda pair: [read_series(pair.image)[0]], partial(_read_label, align=align), _spacing_of)
    names = [f"label {one}" for one in wanted]
    return load_volumes("dicom", list_files(data), source, size, fit, keep_empty, value, wanted, names)


def list_files(data: list[Path]) -> list[Pair]:
    """Finds the series and labels of folders."""
    return list(chain.from_iterable(for_each(_find_pairs, data)))


def _find_pairs(root: Path) -> list[Pair]:
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    masks = next((folders[name] for name in MASK_FOLDERS if name in folders), None)
    cases = sorted(path for path in images.iterdir() if series_files(path)) if images else []
    if masks is None or not cases:
        raise DataError(
            f"{root}: expected images/<case>/ with the DICOM files of a series, and masks/<case>.nii.gz or "
            f"masks/<case>/ with those of its label; found {', '.join(sorted(folders)) or 'no folder'}"
        )

    def pair(case: Path) -> Pair:
        choices = [masks / case.name, *(masks / f"{case.name}{suffix}" for suffix in SUFFIXES)]
        there = [path for path in choices if path.exists()]
        if len(there) != 1:
            found = "found none" if not there else f"found {' and '.join(path.name for path in there)}"
            raise DataError(
                f"{case}: expected one label, {masks.name}/{case.name}.nii.gz or folder {masks.name}/{case.name}; "
                f"{found}"
            )
        return Pair(case, there[0], case.name, 0)

    return for_each(pair, cases)


def series_files(folder: Path) -> list[Path]:
    """The DICOM files that lie in a folder, whatever their names."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ENDING:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == _MAGIC


def _read_label(pair: Pair, align: bool) -> NDArray[Any]:
    _, own = read_series(pair.image, pixels=False)
    if pair.mask.is_dir():
        label, geometry = read_series(pair.mask)
    else:
        label, geometry = read_volume(pair.mask), read_geometry(pair.mask)
    return on_grid(label, geometry, own, pair.mask, pair.image, align)


def _spacing_of(pair: Pair) -> tuple[float, float, float]:
    affine = read_series(pair.image, pixels=False)[1].affine
    if affine is None:
        return 1.0, 1.0, 1.0
    x, y, z = (float(width) for width in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def read_series(path: Path, pixels: bool = True) -> tuple[NDArray[Any], Geometry]:
    """Reads a series as a volume.

    Args:
        path: a folder that holds the files of one series, or one file.
        pixels: decode them; without, the volume is empty.

    Returns:
        The volume (rows, columns, slices), float32, after the slope and intercept of each file; dark is low, also
        where the file says otherwise (MONOCHROME1). And its geometry, in the directions of NIfTI.

    Raises:
        OptionError: pydicom is missing.
        DataError: see `load_dicom`.
    """
    files = series_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no DICOM file found; expected the files of one series")
    try:
        return _assembled(path, files, pixels)
    except PixelSegError:
        raise
    except Exception as error:  # pydicom reads an element when it is asked for, and raises what it likes
        raise DataError(
            f"{path}: expected whole DICOM files of one series, but one is damaged ({type(error).__name__}: "
            f"{str(error)[:200]}); export the series again"
        ) from error


def _assembled(path: Path, files: Sequence[Path], pixels: bool) -> tuple[NDArray[Any], Geometry]:
    slices = [_check(file, _read_file(file, pixels)) for file in files]
    series = sorted({str(item.get("SeriesInstanceUID", "")) for item in slices})
    if len(series) > 1:
        raise DataError(
            f"{path}: the files of {len(series)} series ({series[0]}, {series[1]}, ...); expected one: give each a "
            "folder of its own"
        )
    places = [_place(item) for item in slices]
    if any(place is None for place in places):
        order = sorted(range(len(slices)), key=lambda k: (int(slices[k].get("InstanceNumber") or 0), files[k].name))
        affine = None
    else:
        order, affine = _sorted_by_place(path, files, slices, [place for place in places if place is not None])
    shape = (int(slices[0].Rows), int(slices[0].Columns), len(slices))
    for file, item in zip(files, slices, strict=True):
        if (item.Rows, item.Columns) != shape[:2]:
            raise DataError(
                f"{file}: {shown(item.Rows)}x{shown(item.Columns)}, but {files[0].name} is {shape[0]}x{shape[1]}; "
                "expected one size in a series: move the odd files (often a localiser) out of the folder"
            )
    if not pixels:
        return np.empty((0, 0, 0), np.float32), Geometry(shape, affine)
    first = _pixels(files[order[0]], slices[order[0]])  # before room is made for all: a damaged size has no pixels
    volume = np.empty(shape, np.float32)
    for z, k in enumerate(order):
        volume[..., z] = _pixels(files[k], slices[k]) if z else first
    return volume, Geometry(shape, affine)


def _read_file(path: Path, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise OptionError('DICOM files need pydicom: pip install "pixelseg-env[dicom]"') from error
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (OSError, EOFError, ValueError, KeyError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        raise DataError(
            f"{path}: expected a whole DICOM file, but it is damaged or none ({error}); copy or export it again"
        ) from error


def _check(path: Path, item: Any) -> Any:
    """Refuses what is no single grey image."""
    advice = "convert the series to NIfTI, e.g. with dcm2niix or 3D Slicer, and use the data set 'nifti'"
    if str(item.get("Modality", "")) in ("SEG", "RTSTRUCT") or "Rows" not in item:
        kind = str(item.get("Modality", "a file without pixels"))[:SHOWN]
        raise DataError(f"{path}: expected an image, got {kind}; {advice}")
    if int(item.get("NumberOfFrames") or 1) > 1:
        raise DataError(f"{path}: expected one image a file, got {item.NumberOfFrames} frames; {advice}")
    if int(item.get("SamplesPerPixel") or 1) > 1:
        raise DataError(f"{path}: expected a grey image, got {item.SamplesPerPixel} colours; {advice}")
    return item


def _pixels(path: Path, item: Any) -> NDArray[np.float32]:
    try:
        stored = np.asarray(item.pixel_array, np.float32)
    except Exception as error:  # pydicom's decoders raise what they like
        raise DataError(
            f"{path}: its pixels cannot be decoded ({error}); the file is cut off, or compressed in a way that needs "
            "another package, e.g. pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    values = stored * float(item.get("RescaleSlope") or 1) + float(item.get("RescaleIntercept") or 0)
    return np.asarray(-values if item.get("PhotometricInterpretation") == "MONOCHROME1" else values, np.float32)


def _place(item: Any) -> NDArray[np.float64] | None:
    """Directions and position of a slice, float64 (3, 3): along its columns' rows, along its rows, its first pixel."""
    turn, position = item.get("ImageOrientationPatient"), item.get("ImagePositionPatient")
    if turn is None or position is None or item.get("PixelSpacing") is None:
        return None
    between_rows, between_columns = (float(value) for value in item.PixelSpacing)
    along_row, down = np.array(turn[:3], np.float64), np.array(turn[3:], np.float64)
    return np.stack([down * between_rows, along_row * between_columns, np.array(position, np.float64)])


def _sorted_by_place(
    path: Path, files: Sequence[Path], slices: Sequence[Any], places: Sequence[NDArray[np.float64]]
) -> tuple[list[int], NDArray[np.float64]]:
    """The order of slices along their normal, and the affine of the sorted volume in NIfTI's directions."""
    for file, place in zip(files, places, strict=True):
        if np.abs(place[:2] - places[0][:2]).max() > _TURN * np.abs(places[0][:2]).max():
            raise DataError(
                f"{file}: its rows and columns lie in other directions, or are spaced otherwise, than those of "
                f"{files[0].name}; expected one orientation in a series: move the odd files (often a localiser) out of "
                "the folder"
            )
    normal = np.cross(places[0][1], places[0][0])
    normal /= np.linalg.norm(normal)
    depths = np.array([place[2] @ normal for place in places])
    order = [int(k) for k in np.argsort(depths, kind="stable")]
    gaps = np.diff(depths[order])
    step = float(np.median(gaps)) if len(gaps) else float(slices[0].get("SliceThickness") or 1)
    if len(gaps) and (step <= 0 or np.abs(gaps - step).max() > max(_SPREAD * step, 1e-3)):
        odd = int(np.argmax(np.abs(gaps - step))) if step > 0 else int(np.argmin(gaps))
        raise DataError(
            f"{path}: the slices are not evenly spaced: {gaps[odd]:.4g} mm between slices {odd} and {odd + 1}, "
            f"{step:.4g} mm elsewhere; a slice is missing or there twice: export the series again"
        )
    first, last = places[order[0]], places[order[-1]]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = first
    affine[:3, 2] = (last[2] - first[2]) / (len(order) - 1) if len(order) > 1 else normal * step
    affine[:2] *= -1  # DICOM counts to the patient's left and back, NIfTI to the right and front
    return order, affine


@dataclass(frozen=True)
class SeriesReader(FileReader):
    """Reads a folder with the files of a series, or a single file; masks are NIfTI volumes in its place."""

    endings: tuple[str, ...] = (ENDING,)
    mask_endings: tuple[str, ...] = SUFFIXES

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """See `FileReader.read`."""
        volume, geometry = read_series(path)
        native = geometry.shape[0], geometry.shape[1]
        images = channel_slices([volume], range(volume.shape[2]), size or native, fit)

        def encode(masks: NDArray[Any], name: str) -> bytes:
            place = np.eye(4) if geometry.affine is None else geometry.affine
            return encode_at(place, np.moveaxis(masks, 0, -1), name)

        return FileImages(images, native, fit, encode, encode)

    def is_input(self, path: Path) -> bool:
        """Whether a path is a DICOM file, or a folder that such files lie in."""
        return bool(series_files(path)) if path.is_dir() else path.is_file() and _is_dicom(path)

    def find(self, folder: Path, planes: int, options: Mapping[str, Any]) -> list[Path]:
        """Lists the folders of series, at or below a folder, without those in a folder of masks."""
        found = [path for path in (folder, *below(folder)) if path.is_dir() and series_files(path)]
        return [path for path in found if not set(MASK_FOLDERS) & {part.lower() for part in _inner(path, folder)}]

    def mask_name(self, path: Path, planes: int, options: Mapping[str, Any]) -> str:
        """The folder's name, as a NIfTI file."""
        name = path.resolve().name
        return (name if path.is_dir() else self.stem(Path(name))) + SUFFIXES[0]


def _inner(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).parts


READER = SeriesReader()
