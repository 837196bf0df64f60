"""Tiny files in every layout that the loaders know, and the real data where a checkout has it beside it."""

from __future__ import annotations

import json
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


def write_institutions(root: Path, names: tuple[str, ...] = ("XX_A", "XX_B"), cases: int = 4) -> Path:
    """Patients of several institutions, two images each, in the layout of `folder`."""
    rng = np.random.default_rng(0)
    stems = [f"{name}_{c}_{s}" for name in names for c in range(cases) for s in (1, 2)]
    for stem in stems:
        mask = blob_mask(16, 16, *rng.integers(1, 10, 2))
        write(root / f"{stem}.png", np.where(mask > 0, 200, 40).astype(np.uint8))
        write(root / f"{stem}_mask.png", mask)
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


def write_nnunet(root: Path, cases: int = 4, channels: int = 2) -> Path:
    """The layout of nnU-Net's second version: a file a channel, numbered; no list of cases."""
    rng = np.random.default_rng(1)
    for c in range(cases):
        label = np.zeros((12, 10, 4), np.uint8)
        label[3:8, 2:6, 1:3] = 1
        label[4:6, 3:5, 2] = 2
        for k in range(channels):
            image = rng.uniform(0, 500, label.shape).astype(np.float32)
            write_nifti(root / "imagesTr" / f"bts_{c:03d}_{k:04d}.nii.gz", image)
        write_nifti(root / "labelsTr" / f"bts_{c:03d}.nii.gz", label)
    names = {"background": 0, "oedema": 1, "core": 2}
    listing = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": names, "numTraining": cases}
    (root / "dataset.json").write_text(json.dumps(listing | {"file_ending": ".nii.gz"}))
    return root


DICOM_SPACING, DICOM_ORIGIN, DICOM_STEP = (0.5, 2.0), (10.0, -20.0, 30.0), 3.0  # rows, columns; x, y, z; slices


def write_dicom(folder: Path, volume: NDArray, series: str = "1.2.3", **more: object) -> Path:
    """One file a slice of an axial series, uint16 (rows, columns, slices), under names that tell no order."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    for z in range(volume.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{series}.{z + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, f"{series}.{z + 1}"
        item.SeriesInstanceUID, item.Modality, item.InstanceNumber = series, "CT", z + 1
        item.Rows, item.Columns = volume.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.PixelSpacing = list(DICOM_SPACING)
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        x, y, bottom = DICOM_ORIGIN
        item.ImagePositionPatient = [x, y, bottom + DICOM_STEP * z]
        item.RescaleSlope, item.RescaleIntercept = 2, -100
        item.PixelData = np.ascontiguousarray(volume[..., z], "<u2").tobytes()
        for name, value in more.items():
            setattr(item, name, value)
        item.save_as(folder / f"IM{(z * 7) % 11:04d}", enforce_file_format=True)
    return folder


def cut(path: Path, share: float = 0.6) -> Path:
    """Cuts a file off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
