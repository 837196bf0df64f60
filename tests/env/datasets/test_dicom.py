"""DICOM series: order and place of slices, labels beside them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env.datasets import SegmentationDataset, file_reader, load_dataset
from pixelseg_env.errors import DataError

pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")


def series(seed: int = 0) -> np.ndarray:
    """An image uint16 (rows, columns, slices)."""
    return np.random.default_rng(seed).integers(0, 900, (12, 10, 5)).astype(np.uint16)


def label() -> np.ndarray:
    voxels = np.zeros((12, 10, 5), np.uint16)
    voxels[2:7, 5:9, 1:3] = 1
    return voxels


def write(root: Path, cases: int = 3) -> Path:
    for c in range(cases):
        files.write_dicom(root / f"images/p{c}", series(c), f"1.2.{c + 1}")
        files.write_dicom(root / f"masks/p{c}", label(), f"1.3.{c + 1}", RescaleSlope=1, RescaleIntercept=0)
    return root


def load(root: Path, **options: Any) -> SegmentationDataset:
    return load_dataset("dicom", root, **{"split": "all", "size": None, **options})


def test_slices_are_sorted_by_place_and_normalised(tmp_path: Path) -> None:
    data = load(write(tmp_path))
    assert data.cases == ("p0", "p0", "p1", "p1", "p2", "p2")
    assert data.slices.tolist() == [1, 2] * 3
    assert np.array_equal(data.masks[2], label()[..., 1])
    volume = series(1).astype(np.float64) * 2 - 100
    low, high = np.percentile(volume, (0.5, 99.5))
    assert np.abs(data.batch([3])[0][0, 0] - np.clip((volume[..., 2] - low) / (high - low), 0, 1)).max() <= 1 / 255


def affine_of_series() -> np.ndarray:
    """By hand: axes are rows (patient's y), columns (x) and slices (z); NIfTI counts x and y the other way."""
    rows, columns = files.DICOM_SPACING
    x, y, z = files.DICOM_ORIGIN
    return np.array([[0, -columns, 0, -x], [-rows, 0, 0, -y], [0, 0, files.DICOM_STEP, z], [0, 0, 0, 1]], float)


def test_nifti_label_is_brought_to_the_series(tmp_path: Path) -> None:
    """As other programs store it: columns first, and towards the patient's right."""
    expected = load(write(tmp_path)).masks
    turned = np.ascontiguousarray(label().transpose(1, 0, 2)[::-1]).astype(np.uint8)
    affine = affine_of_series()[:, [1, 0, 2, 3]]
    affine[:, 3] += affine[:, 0] * (10 - 1)
    affine[:, 0] *= -1
    for c in range(3):
        for path in (tmp_path / f"masks/p{c}").iterdir():
            path.unlink()
        (tmp_path / f"masks/p{c}").rmdir()
        nib.save(nib.Nifti1Image(turned, affine), tmp_path / f"masks/p{c}.nii.gz")
    assert np.array_equal(load(tmp_path).masks, expected)


def test_reader_gives_masks_the_place_of_the_series(tmp_path: Path) -> None:
    root, reader = write(tmp_path), file_reader("dicom")
    found = reader.find(root, 1, {})
    assert [path.name for path in found] == ["p0", "p1", "p2"]
    file = reader.read(found[1], (8, 8), "resize", 1, {})
    assert np.array_equal(file.images, load(root, size=8, keep_empty=True).images[5:10])
    masks = np.ascontiguousarray(np.moveaxis(label(), -1, 0)).astype(np.uint8)
    (tmp_path / "m.nii").write_bytes(file.encode(masks, "m.nii"))
    mask = nib.load(tmp_path / "m.nii")
    np.testing.assert_allclose(mask.affine, affine_of_series())
    assert np.array_equal(np.asarray(mask.dataobj), label())
    assert file.restore(np.ones((5, 8, 8), np.uint8)).shape == (5, 12, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"NumberOfFrames": 3}, "one image a file, got 3 frames.*NIfTI"),
        ({"SamplesPerPixel": 3}, "a grey image, got 3 colours"),
        ({"Modality": "SEG"}, "expected an image, got SEG"),
        ({"Rows": 13}, "pixels cannot be decoded"),
    ],
)
def test_what_is_no_grey_image_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path)
    files.write_dicom(tmp_path / "images/p1", series(1), "1.2.2", **change)
    with pytest.raises(DataError, match=message):
        file_reader("dicom").read(tmp_path / "images/p1", None, "resize", 1, {})


def test_damage_gaps_and_mixed_series_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    paths = sorted((tmp_path / "images/p1").iterdir(), key=lambda path: int(pydicom.dcmread(path).InstanceNumber))
    paths[2].rename(tmp_path / "aside")
    with pytest.raises(DataError, match=r"p1: the slices are not evenly spaced: 6 mm between slices 1 and 2"):
        load(tmp_path)
    (tmp_path / "aside").rename(paths[2])
    files.cut(paths[2], 0.5)
    with pytest.raises(DataError, match=paths[2].name):
        load(tmp_path)
    files.write_dicom(tmp_path / "images/p1", series(1), "1.2.2")
    for change in ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, {"PixelSpacing": [0.5, 2.1]}):
        turned = pydicom.dcmread(paths[1])
        for name, value in change.items():
            setattr(turned, name, value)
        turned.save_as(paths[1])
        with pytest.raises(
            DataError, match=rf"{paths[1].name}: its rows and columns lie in other directions.*localiser"
        ):
            load(tmp_path)
        files.write_dicom(tmp_path / "images/p1", series(1), "1.2.2")
    many = pydicom.dcmread(paths[1])
    many.Rows = [12] * 1000
    many.save_as(paths[1])
    with pytest.raises(DataError, match=rf"{paths[1].name}: .*expected one size in a series") as caught:
        load(tmp_path)
    assert len(str(caught.value)) < 500
    files.write_dicom(tmp_path / "images/p1", series(1), "1.2.2")
    (tmp_path / "images/p1/other").write_bytes((tmp_path / "images/p0/IM0000").read_bytes())
    with pytest.raises(DataError, match=r"p1: the files of 2 series"):
        load(tmp_path)


def test_inverted_greys(tmp_path: Path) -> None:
    write(tmp_path)
    before = load(tmp_path)
    files.write_dicom(tmp_path / "images/p1", series(1), "1.2.2", PhotometricInterpretation="MONOCHROME1")
    after = load(tmp_path)
    assert np.abs(after.images[2:4].astype(int) + before.images[2:4] - 255).max() <= 1
    assert np.array_equal(after.images[:2], before.images[:2])


def test_layout_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images/<case>/"):
        load(tmp_path)
    write(tmp_path)
    (tmp_path / "masks/p1").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"p1: expected one label, .*found none"):
        load(tmp_path)
