"""Reading one NIfTI volume, whole or not at all."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from pixelseg_env.errors import DataError

SUFFIXES = (".nii.gz", ".nii")

_DAMAGED = (OSError, EOFError, zlib.error, ValueError, ImageFileError, HeaderDataError, WrapStructError)


def volume_name(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def read_volume(path: Path) -> NDArray[Any]:
    """Reads a volume.

    Uncompressed volumes are mapped, not read: slices come from the disk when touched. Compressed ones are
    unpacked whole, which also verifies the checksum that a partial read would skip.

    Args:
        path: .nii or .nii.gz.

    Returns:
        (X, Y, Z), of the stored type (float64 where the header asks for scaling).

    Raises:
        DataError: the file cannot be read, is cut off, is no NIfTI file, or is not 3-dimensional; it holds NaN or
            infinite voxels.
    """
    image: Any  # nibabel's types do not know that a NIfTI image's data object has an offset
    try:
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(path.read_bytes())
            image = (nib.Nifti2Image if _is_nifti2(content) else nib.Nifti1Image).from_bytes(content)
            available = len(content)
        else:
            image = nib.load(path)
            available = path.stat().st_size
        shape = tuple(int(n) for n in image.shape)
        needed = int(image.dataobj.offset) + math.prod(shape) * image.get_data_dtype().itemsize
        if needed > available:
            raise EOFError(f"it needs {needed} bytes and has {available}")
        # A real 4-dimensional volume is refused below; it may be too large to be read for that.
        voxels = np.asanyarray(image.dataobj) if math.prod(shape[3:]) == 1 else np.empty(shape[:0])
    except _DAMAGED as error:
        raise DataError(
            f"{path}: expected a whole NIfTI file (.nii or .nii.gz), but it is cut off or damaged ({error}); "
            "copy or download the file again"
        ) from error
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3:
        raise DataError(
            f"{path}: expected a 3-dimensional volume, got shape {shape}; save one channel or time point as "
            "a volume of its own, e.g. nibabel.save(image.slicer[..., 0], 'new.nii.gz')"
        )
    if voxels.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected real numbers, got voxels of type {voxels.dtype}; convert the file")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        raise DataError(
            f"{path}: {bad} of {voxels.size} voxels are NaN or infinite; expected finite values: "
            "replace them, e.g. with numpy.nan_to_num, and save the file again"
        )
    return np.asarray(voxels)


def _is_nifti2(content: bytes) -> bool:
    """The first number of the header is its size: 348 in NIfTI-1, 540 in NIfTI-2."""
    return 540 in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
