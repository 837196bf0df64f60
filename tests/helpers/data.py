"""Tiny files in every layout that the loaders know, and the real data where a checkout has it beside it."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="no shared/data folder beside the checkout")


def blob_mask(height: int = 12, width: int = 16, top: int = 3, left: int = 4, side: int = 5) -> NDArray[np.uint8]:
    """A mask of 0 and 255 with one square."""
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def write(path: Path, pixels: NDArray, **options: int) -> Path:
    """Writes pixels (grey or RGB) in the format of the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    assert cv2.imwrite(os.fspath(path), np.ascontiguousarray(stored))
    return path


def write_brain(root: Path, cases: int = 4, slices: int = 3, first_empty: bool = True) -> Path:
    """The Kaggle layout; slice 1 of each case has an empty mask. Pixels tell case, slice and channel."""
    for c in range(cases):
        case = f"TCGA_XX_{c:04d}_19990101"
        for s in range(1, slices + 1):
            image = np.empty((12, 16, 3), np.uint8)
            image[:] = np.array([10, 100, 200]) + 10 * c + s
            mask = blob_mask() if s > 1 or not first_empty else np.zeros((12, 16), np.uint8)
            write(root / "kaggle_3m" / case / f"{case}_{s}.tif", image)
            write(root / "kaggle_3m" / case / f"{case}_{s}_mask.tif", mask)
    return root


def write_folder(root: Path, names: tuple[str, ...] = ("a", "b", "c"), suffix: str = ".png") -> Path:
    """Grey images and masks side by side."""
    for i, name in enumerate(names):
        write(root / f"{name}{suffix}", np.full((12, 16), 20 + i, np.uint8))
        write(root / f"{name}_mask{suffix}", blob_mask())
    return root


def write_nifti(path: Path, voxels: NDArray) -> Path:
    """A NIfTI volume of the array's own type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path


def write_cardiac(root: Path, cases: int = 3, ending: str = ".nii.gz", dtype: type = np.int16) -> Path:
    """The Decathlon layout: 5 slices of 12x10 a case, an object in the slices 1 and 2."""
    rng = np.random.default_rng(0)
    for c in range(cases):
        label = np.zeros((12, 10, 5), np.uint8)
        label[3:8, 2:6, 1:3] = 1
        image = (rng.uniform(0, 500, (12, 10, 5)) * (c + 1)).astype(dtype)
        write_nifti(root / "imagesTr" / f"la_{c:03d}{ending}", image)
        write_nifti(root / "labelsTr" / f"la_{c:03d}{ending}", label)
    return root


def cut(path: Path, share: float = 0.6) -> Path:
    """Cuts a file off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
