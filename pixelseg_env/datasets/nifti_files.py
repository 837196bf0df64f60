"""Reading one NIfTI volume, whole or not at all, and where it lies in space."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nibabel.orientations
import nibabel.quaternions
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import OrientationError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from pixelseg_env.errors import DataError

# Most of nibabel's functions have no types.
nib: Any = nibabel
orientations: Any = nibabel.orientations
fillpositive: Any = nibabel.quaternions.fillpositive

SUFFIXES = (".nii.gz", ".nii")
ROUNDING = 1e-3  # a squared norm of a rotation's quaternion up to 1 + this is one that rounding has spoilt
SHIFT = 0.5  # voxels: with less, the nearest voxel of a label is still the one at the same place in its array

PIECE = 1 << 20  # bytes that are unpacked at once
DENSEST = 1040  # bytes that one of gzip's can stand for, a little more than deflate's 1032

_DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    ImageFileError,
    HeaderDataError,
    OrientationError,
    WrapStructError,
)


class _Forgiving:
    """Reads rotations whose rounding errors nibabel refuses."""

    def get_qform_quaternion(self: Any) -> Any:
        """The rotation as (w, x, y, z).

        Raises:
            DataError: it is none, by more than rounding errors.
        """
        parts = np.array([self["quatern_b"], self["quatern_c"], self["quatern_d"]], np.float64)
        square = float(parts @ parts)
        if 1.0 < square <= 1.0 + ROUNDING:
            parts /= math.sqrt(square)
        if square > 1.0 + ROUNDING:
            raise DataError(
                f"its orientation (qform quaternion) is none: b^2 + c^2 + d^2 = {square:.6g}, expected 1 at most; the "
                "voxels are whole: correct the header, e.g. image.set_qform(affine, code=1), and save it again"
            )
        return fillpositive(parts, self.quaternion_threshold)


class _Header1(_Forgiving, nibabel.Nifti1Header):  # type: ignore[misc]  # nibabel is not typed here
    pass


class _Header2(_Forgiving, nibabel.Nifti2Header):  # type: ignore[misc]
    pass


class _Image1(nibabel.Nifti1Image):  # type: ignore[misc]
    header_class = _Header1


class _Image2(nibabel.Nifti2Image):  # type: ignore[misc]
    header_class = _Header2


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume.

    Attributes:
        shape: (X, Y, Z).
        affine: (4, 4), from voxels to millimetres; None where the header does not tell.
        spacing: millimetres between voxels along each axis; 1 where the header does not tell.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


def volume_name(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def open_image(path: Path) -> tuple[Any, int]:
    """Opens a file as a nibabel image, its voxels not yet decoded, and returns how many bytes it has unpacked.

    Raises:
        DataError: its orientation is none.
        OSError, ValueError and others: see `_DAMAGED`.
    """
    try:
        if path.name.lower().endswith(".gz"):
            content = _unpacked(path)
            kind: Any = _Image2 if _is_nifti2(content) else _Image1
            return kind.from_bytes(content), len(content)
        with path.open("rb") as file:
            kind = _Image2 if _is_nifti2(file.read(4)) else _Image1
        return kind.from_filename(path), path.stat().st_size
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _unpacked(path: Path) -> bytes:
    """A compressed file's header and voxels; what follows them is read for the checksum, but takes no memory.

    Raises:
        EOFError: there cannot be as many as the header promises.
    """
    pieces: list[bytes] = []
    with gzip.open(path) as file:
        kind: Any = _Header2 if _is_nifti2(file.read(4)) else _Header1
        file.seek(0)
        header = kind.from_fileobj(file)
        left = _promised(header, path)
        file.seek(0)
        while left > 0 and (piece := file.read(min(left, PIECE))):
            pieces.append(piece)
            left -= len(piece)
        while file.read(PIECE):
            pass
    return b"".join(pieces)


def _promised(header: Any, path: Path) -> int:
    """How many bytes a file holds once it is unpacked, by its header.

    Raises:
        EOFError: there cannot be as many.
    """
    shape = (int(n) for n in header.get_data_shape())
    promised = int(header.get_data_offset()) + math.prod(shape) * int(header.get_data_dtype().itemsize)
    if promised > (DENSEST if path.name.lower().endswith(".gz") else 1) * path.stat().st_size:
        raise EOFError(f"its header promises {promised:,} bytes, more than a file of its size can hold")
    return promised


def read_geometry(path: Path) -> Geometry:
    """Reads the header alone.

    Raises:
        DataError: the header cannot be read.
    """
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            kind: Any = _Header2 if _is_nifti2(file.read(4)) else _Header1
            file.seek(0)
            header = kind.from_fileobj(file)
        _promised(header, path)  # before a label takes the memory of a grid that is a lie
        shape = tuple(int(n) for n in header.get_data_shape())
        if min(shape, default=1) < 0:
            raise EOFError(f"its shape is {shape}")
        affine = np.asarray(header.get_best_affine(), np.float64)
        known = bool(header["qform_code"] or header["sform_code"])
        spacing = _spacing(header)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    usable = known and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12
    return Geometry((*shape[:3], *(1,) * (3 - len(shape))), affine if usable else None, spacing)


_METRE, _MICRON = 1, 3  # codes in the lowest 3 bits of a header's units; those of time, which may be none, are above
_MILLIMETRES = {_METRE: 1000.0, _MICRON: 0.001}


def _spacing(header: Any) -> tuple[float, float, float]:
    """Millimetres between voxels; a width that is none, and an axis that is not there, count as 1."""
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    widths = [abs(float(width)) for width in header["pixdim"][1:4]]
    x, y, z = (width * unit if 0 < width < float("inf") else 1.0 for width in widths)
    return x, y, z


def on_grid(
    label: NDArray[Any], own: Geometry, image: Geometry, label_path: Path, image_path: Path, align: bool = True
) -> NDArray[Any]:
    """Brings a label to the grid of its image, by flips and swaps of axes.

    Args:
        label: (X, Y, Z).
        own: the label's geometry.
        image: the image's.
        label_path: for messages.
        image_path: for messages.
        align: compare the places of the voxels, where both headers tell them.

    Returns:
        The label, of the image's shape.

    Raises:
        DataError: the two lie differently, in a way that flips and swaps do not mend.
    """
    if align and own.affine is not None and image.affine is not None:
        if own.shape == image.shape and _near(own.affine, image.affine, image.shape):
            return label
        turned = _turned(label, own, image)
        if turned is not None:
            return turned
    if own.shape != image.shape:
        raise DataError(
            f"{image_path}: the image has shape {image.shape} but its label {label_path} has {own.shape}; "
            "expected the same shape: replace one of them"
        )
    if align and own.affine is not None and image.affine is not None:
        raise DataError(
            f"{label_path}: this label lies elsewhere than its image {image_path} (their affines differ by more than "
            f"half a voxel); expected one geometry: resample the label to the image, or, if only the headers are "
            "wrong, take the voxels as they are with align=false"
        )
    return label


def _turned(label: NDArray[Any], own: Geometry, image: Geometry) -> NDArray[Any] | None:
    """The label after the flips and swaps of axes that bring it to its image's grid; None where none do."""
    try:
        turn = orientations.ornt_transform(
            orientations.io_orientation(own.affine), orientations.io_orientation(image.affine)
        )
        turned = orientations.apply_orientation(label, turn)
        affine = own.affine @ orientations.inv_ornt_aff(turn, own.shape)
    except (ValueError, OrientationError):  # of a damaged header: its axes are not three different ones
        return None
    assert image.affine is not None
    fits = turned.shape == image.shape and _near(affine, image.affine, image.shape)
    return np.asarray(turned) if fits else None


def same_grid(one: Geometry, other: Geometry) -> bool:
    """Whether two grids are one: of equal shape, in the same place to half a voxel."""
    if one.affine is None or other.affine is None or one.shape != other.shape:
        return one is other
    return _near(one.affine, other.affine, one.shape)


def sampled(volume: NDArray[Any], own: Geometry, grid: Geometry, order: int, path: Path) -> NDArray[Any]:
    """Samples a volume at the voxels of another grid.

    Args:
        volume: (X, Y, Z).
        own: its geometry.
        grid: the other.
        order: of the splines: 0 takes the nearest voxel and keeps the type, 1 is linear, 3 cubic, float32.
        path: for messages.

    Returns:
        Of the grid's shape; outside of the volume 0, of an image the nearest voxel of its border.

    Raises:
        DataError: a header does not say where its volume lies.
    """
    from scipy.ndimage import affine_transform

    if own.affine is None or grid.affine is None:
        raise DataError(
            f"{path}: its header does not say where the volume lies, and its image's grid is another; expected an "
            "affine (sform or qform): set it and save the file again"
        )
    step = np.linalg.solve(own.affine, grid.affine)
    kind = volume.dtype if order == 0 else np.float32
    return np.asarray(
        affine_transform(
            volume.astype(kind, copy=False), step[:3, :3], step[:3, 3], grid.shape, kind, order,
            mode="nearest" if order == 3 else "constant",
        )
    )  # fmt: skip


def _near(one: NDArray[np.float64], other: NDArray[np.float64], shape: Sequence[int]) -> bool:
    """Whether no corner of the grid is off by half a voxel."""
    ends = [(0.0, n - 1.0) for n in shape[:3]]
    corners = np.array([[x, y, z, 1.0] for x in ends[0] for y in ends[1] for z in ends[2]])
    offset = np.linalg.solve(other, ((one - other) @ corners.T))[:3]
    return bool(np.abs(offset).max() < SHIFT)


def read_volume(path: Path) -> NDArray[Any]:
    """Reads a volume of one channel.

    Uncompressed volumes are mapped, not read: slices come from the disk when touched. Compressed ones are
    unpacked whole, which also verifies the checksum that a partial read would skip.

    Args:
        path: .nii or .nii.gz; a 2-dimensional image is a volume of one slice.

    Returns:
        (X, Y, Z), of the stored type (float64 where the header asks for scaling).

    Raises:
        DataError: the file cannot be read, is cut off, is no NIfTI file, or is not 3-dimensional; it holds NaN or
            infinite voxels.
    """
    (volume,) = read_channels(path, one=True)
    return volume


def _check_numbers(path: Path, dtype: Any) -> None:
    """Refuses colours and complex numbers, which cannot be scaled either."""
    if np.dtype(dtype).kind not in "biuf":
        raise DataError(f"{path}: expected real numbers, got voxels of type {np.dtype(dtype)}; convert the file")


def read_channels(path: Path, one: bool = False) -> list[NDArray[Any]]:
    """Reads the volumes (X, Y, Z) that a file holds: one, or one for each entry of a fourth axis.

    Args:
        path: .nii or .nii.gz.
        one: refuse several.

    Raises:
        DataError: see `read_volume`.
    """
    try:
        image, available = open_image(path)
        shape = tuple(int(n) for n in image.shape)
        needed = int(image.dataobj.offset) + math.prod(shape) * image.get_data_dtype().itemsize
        if min(shape, default=0) < 1:
            raise EOFError(f"it holds no voxels, its shape is {shape}")
        if needed > available:
            raise EOFError(f"it needs {needed} bytes and has {available}")
        _check_numbers(path, image.get_data_dtype())
        # What is refused below may be too large to be read for that.
        wrong = not 2 <= len(shape) <= 4 or (one and math.prod(shape[3:]) != 1)
        voxels: NDArray[Any] = np.empty(()) if wrong else np.asanyarray(image.dataobj)
    except DataError:
        raise
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if wrong:
        raise DataError(
            f"{path}: expected a 3-dimensional volume, got shape {shape}; save one channel or time point as "
            "a volume of its own, e.g. nibabel.save(image.slicer[..., 0], 'new.nii.gz')"
            if len(shape) > 3
            else f"{path}: expected a 3-dimensional volume, or a 2-dimensional image, got shape {shape}"
        )
    if voxels.ndim == 2:
        voxels = voxels[..., None]
    _check_numbers(path, voxels.dtype)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        raise DataError(
            f"{path}: {bad} of {voxels.size} voxels are NaN or infinite; expected finite values: "
            "replace them, e.g. with numpy.nan_to_num, and save the file again"
        )
    if voxels.ndim == 4:
        return [np.asarray(voxels[..., k]) for k in range(voxels.shape[3])]
    return [np.asarray(voxels)]


def encode_like(source: Path, mask: NDArray[Any], name: str) -> bytes:
    """A mask (X, Y, Z) of 0 and 1, or a float32 map in [0, 1], as a NIfTI file with the geometry of `source`."""
    image, _ = open_image(source)
    header = image.header.copy()
    header.set_data_dtype(mask.dtype)
    header["cal_min"], header["cal_max"] = 0, 1
    header["descrip"] = b"PixelSeg mask" if mask.dtype == np.uint8 else b"PixelSeg probability"
    _mend_rotation(header)
    header.extensions.clear()  # they describe the image's voxels
    shape = image.shape if math.prod(image.shape) == mask.size else mask.shape
    try:
        return packed(type(image)(mask.reshape(shape), image.affine, header), name)
    except _DAMAGED as error:
        raise DataError(
            f"{source}: a mask cannot be put in its place ({error}); correct the header's affine and save it again"
        ) from error


def _mend_rotation(header: Any) -> None:
    """Brings a rotation that is none back to one, so that every program reads what is written."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    parts = np.array([header[name] for name in names], np.float64)
    square = float(parts @ parts)
    if square > 1 + 3 * float(np.finfo(np.float32).eps):  # less is rounding, which every program takes
        for name, value in zip(names, parts / math.sqrt(square) * (1 - 1e-7), strict=True):
            header[name] = value


def encode_at(affine: NDArray[np.float64], mask: NDArray[Any], name: str) -> bytes:
    """A mask (X, Y, Z) of 0 and 1 as a NIfTI file at a place."""
    return packed(nib.Nifti1Image(mask, affine), name)


def packed(image: Any, name: str) -> bytes:
    """The bytes of a file of that name."""
    content: bytes = image.to_bytes()
    return gzip.compress(content, mtime=0) if name.lower().endswith(".gz") else content


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: expected a whole NIfTI file (.nii or .nii.gz), but it is cut off or damaged ({error}); "
        "copy or download the file again"
    )


def _is_nifti2(content: bytes) -> bool:
    """The first number of the header is its size: 348 in NIfTI-1, 540 in NIfTI-2."""
    return 540 in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
