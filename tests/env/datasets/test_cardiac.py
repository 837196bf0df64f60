"""The Decathlon layout: slices, normalisation, and each way in which volumes can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env.datasets import SegmentationDataset, load_dataset
from pixelseg_env.errors import DataError, OptionError


def load(root: Path, **options: object) -> SegmentationDataset:
    return load_dataset("cardiac", root, **{"split": "all", "size": None, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_slices_along_the_last_axis_normalised_per_volume(tmp_path: Path, ending: str, dtype: type) -> None:
    data = load(files.write_cardiac(tmp_path, ending=ending, dtype=dtype))
    assert data.image_shape == (1, 12, 10)
    assert data.images.dtype == np.uint8
    assert data.cases == ("la_000",) * 2 + ("la_001",) * 2 + ("la_002",) * 2
    assert list(data.slices) == [1, 2] * 3
    assert data.masks[0].sum() == 20
    assert data.masks[0, 3:8, 2:6].all()
    volume = np.asarray(nib.load(tmp_path / "imagesTr" / f"la_001{ending}").dataobj, np.float64)
    low, high = np.percentile(volume, (0.5, 99.5))
    expected = np.clip((volume[..., 2] - low) / (high - low), 0, 1)
    assert np.abs(data.batch([3])[0][0, 0] - expected).max() <= 1 / 510 + 1e-5
    assert list(load(tmp_path, keep_empty=True).slices) == [0, 1, 2, 3, 4] * 3


def test_dataset_json_names_the_pairs(tmp_path: Path) -> None:
    files.write_cardiac(tmp_path)
    (tmp_path / "imagesTr" / "._la_000.nii.gz").write_text("macOS leaves these")
    assert len(set(load(tmp_path).cases)) == 3
    entry = {"image": "./imagesTr/la_002.nii.gz", "label": "./labelsTr/la_002.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [entry]}))
    assert set(load(tmp_path).cases) == {"la_002"}
    entry["label"] = "./labelsTr/la_009.nii.gz"
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [entry]}))
    with pytest.raises(DataError, match=r"la_009\.nii\.gz: is missing, but .*dataset\.json lists it"):
        load(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: expected"):
        load(tmp_path)


def test_layout_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"imagesTr: is missing"):
        load(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    with pytest.raises(DataError, match=r"no \.nii or \.nii\.gz file"):
        load(tmp_path)
    files.write_cardiac(tmp_path)
    (tmp_path / "labelsTr" / "la_001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"la_001\.nii\.gz: its label .* is missing"):
        load(tmp_path)


@pytest.mark.parametrize("which", ["imagesTr", "labelsTr"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_truncated_volume(tmp_path: Path, which: str, ending: str, share: float) -> None:
    files.write_cardiac(tmp_path, ending=ending)
    files.cut(tmp_path / which / f"la_001{ending}", share)
    with pytest.raises(DataError, match=rf"{which}.la_001\{ending}: expected a whole NIfTI"):
        load(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["imagesTr", "labelsTr"])
def test_voxels_that_are_not_finite(tmp_path: Path, which: str, bad: float) -> None:
    files.write_cardiac(tmp_path)
    voxels = np.zeros((12, 10, 5), np.float32)
    voxels[4, 4, 1], voxels[0, 0, 0] = 1, bad
    files.write_nifti(tmp_path / which / "la_001.nii.gz", voxels)
    with pytest.raises(DataError, match=r"la_001\.nii\.gz: 1 of 600 voxels are NaN or infinite"):
        load(tmp_path)


def test_four_dimensions(tmp_path: Path) -> None:
    files.write_cardiac(tmp_path)
    path = tmp_path / "imagesTr" / "la_001.nii.gz"
    volume = np.asarray(nib.load(path).dataobj)
    before = load(tmp_path)
    files.write_nifti(path, volume[..., None])
    assert np.array_equal(load(tmp_path).images, before.images)
    files.write_nifti(path, np.stack([volume, volume], -1))
    with pytest.raises(DataError, match=r"la_001\.nii\.gz: expected a 3-dim.*\(12, 10, 5, 2\); save one channel"):
        load(tmp_path)


def test_label_of_another_shape(tmp_path: Path) -> None:
    files.write_cardiac(tmp_path)
    label = np.zeros((12, 10, 6), np.uint8)
    label[2:5, 2:5, 2] = 1
    files.write_nifti(tmp_path / "labelsTr" / "la_001.nii.gz", label)
    with pytest.raises(DataError, match=r"la_001.*\(12, 10, 5\) but its label .*la_001.*\(12, 10, 6\)"):
        load(tmp_path, size=8)


def test_label_values(tmp_path: Path) -> None:
    files.write_cardiac(tmp_path)
    path = tmp_path / "labelsTr" / "la_001.nii.gz"
    label = np.asarray(nib.load(path).dataobj).copy()
    files.write_nifti(path, label * 2)
    with pytest.raises(DataError, match=r"la_001\.nii\.gz: its object has the value 2, but 1 in .*la_000"):
        load(tmp_path)
    label[3, 2:6, 1] = 2
    files.write_nifti(path, label)
    with pytest.raises(DataError, match=r"la_001\.nii\.gz: .*two values.*\(0, 1, 2\).*label=1"):
        load(tmp_path)
    assert load(tmp_path, label=1).masks.sum() == 6 * 20 - 4
    assert load(tmp_path, label=2).masks.sum() == 4
    with pytest.raises(OptionError, match="positive whole number"):
        load(tmp_path, label=0)


def test_all_labels_empty(tmp_path: Path) -> None:
    files.write_cardiac(tmp_path)
    for path in (tmp_path / "labelsTr").iterdir():
        files.write_nifti(path, np.zeros((12, 10, 5), np.uint8))
    with pytest.raises(DataError, match="all 3 masks are empty"):
        load(tmp_path)


def test_native_size_needs_one_size(tmp_path: Path) -> None:
    files.write_cardiac(tmp_path)
    for which in ("imagesTr", "labelsTr"):
        voxels = np.zeros((9, 7, 5), np.uint8)
        voxels[2:4, 2:4, 2] = 1
        files.write_nifti(tmp_path / which / "la_001.nii.gz", voxels)
    with pytest.raises(DataError, match=r"la_001\.nii\.gz is 9x7"):
        load(tmp_path)
    assert len(load(tmp_path, size=8)) == 5


@files.needs_real_data
def test_real_volumes() -> None:
    data = load(files.REAL_DATA / "la_mri_2018", size=32)
    assert len(data) == 796
    assert len(set(data.cases)) == 13
    assert data.images.max() == 255
    assert 4 < data.class_ratio < 10
