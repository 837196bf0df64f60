"""The layout of HECKTOR 2020: labels on the CT's grid, PET on its own, boxes in a table."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelseg_env.datasets import SegmentationDataset, file_reader, guess_dataset, load_dataset
from pixelseg_env.datasets.nifti_files import read_geometry, read_volume
from pixelseg_env.errors import DataError, OptionError

CASES = ("CHGJ007", "CHUM012", "CHUS101")
CT, PET = (1.0, 1.0, 2.0), (3.0, 3.0, 2.0)  # millimetres
ORIGIN = (-30.0, -50.0, 100.0)  # of both, in NIfTI's directions, at their first voxels' corners
SIDES = (63.0, 57.0, 24.0)
LOW, HIGH = np.array([-8.0, -30.0, 106.0]), np.array([8.0, -14.0, 114.0])  # the tumour, in NIfTI's directions


def place(spacing: tuple[float, float, float]) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """An affine like those of scanners, whose x and y run to the left and back, and a shape."""
    shape = tuple(int(side / width) for side, width in zip(SIDES, spacing, strict=True))
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    far = np.array(ORIGIN) + np.array(SIDES)
    affine[:3, 3] = far[0] - spacing[0] / 2, far[1] - spacing[1] / 2, ORIGIN[2] + spacing[2] / 2
    return affine, shape


def inside(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which voxels have their centre in the tumour."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    return np.asarray(((grid > LOW) & (grid < HIGH)).all(axis=-1))


def write(root: Path, flat: bool = False, boxes: str = "") -> Path:
    """Cases whose PET is bright where the tumour is."""
    rng = np.random.default_rng(0)
    for case in CASES:
        folder = root if flat else root / case
        folder.mkdir(parents=True, exist_ok=True)
        for name, spacing in (("ct", CT), ("pt", PET)):
            affine, shape = place(spacing)
            tumour = inside(affine, shape)
            image = (tumour * 9 + rng.uniform(0, 1, shape)).astype(np.float32)
            nib.save(nib.Nifti1Image(image, affine), folder / f"{case}_{name}.nii.gz")
            if name == "ct":
                nib.save(nib.Nifti1Image(tumour.astype(np.uint8), affine), folder / f"{case}_ct_gtvt.nii.gz")
    if boxes:  # in ITK's directions, whose x and y run against NIfTI's
        rows = "".join(f"{case},-12.5,11.5,12.5,36.5,102.4,118.4\n" for case in CASES)
        (root / boxes).write_text("PatientID,x1,x2,y1,y2,z1,z2\n" + rows)
    return root


def load(root: Path, **options: object) -> SegmentationDataset:
    return load_dataset("hecktor", root, **{"split": "all", "size": None, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("flat", [True, False])
def test_without_boxes_the_label_comes_to_the_grid_of_the_pet(flat: bool, tmp_path: Path) -> None:
    data = load(write(tmp_path, flat))
    assert data.cases == tuple(case for case in CASES for _ in range(4))
    assert data.image_shape == (1, 21, 19)
    assert data.slices.tolist() == [3, 4, 5, 6] * 3
    assert data.volumes is not None
    assert data.volumes["CHGJ007"].spacing == (2.0, 3.0, 3.0)
    expected = inside(*place(PET))
    for k, z in enumerate(data.slices[:4]):
        assert np.array_equal(data.masks[k], expected[..., z])
        assert data.images[k, 0][expected[..., z]].min() > data.images[k, 0][~expected[..., z]].max()
    ct = load(tmp_path, modality="ct")
    assert ct.image_shape == (1, 63, 57)
    assert np.array_equal(ct.masks[0], inside(*place(CT))[..., ct.slices[0]])
    assert guess_dataset([tmp_path])[0] == "hecktor"


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_boxes_are_cut_out_at_one_millimetre(where: str, tmp_path: Path) -> None:
    root = write(tmp_path / "hecktor_nii", boxes="hecktor2020_bbox_training.csv")
    if where == "beside":
        (root / "hecktor2020_bbox_training.csv").rename(tmp_path / "hecktor2020_bbox_training.csv")
    data = load(root, keep_empty=True)
    assert data.image_shape == (1, 24, 24)
    assert len(data) == 3 * 16
    assert data.volumes is not None
    assert data.volumes["CHUM012"].spacing == (1.0, 1.0, 1.0)
    assert "cut out of the files' boxes at 1 mm" in data.native_pixels
    assert data.subset([0]).native_pixels == data.native_pixels
    assert load(root, boxes=False).native_pixels == "the files' own pixels"
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = 12.5, -12.5, 102.4
    expected = inside(affine, (24, 24, 16))
    assert np.array_equal(np.moveaxis(data.masks[:16], 0, -1), expected)
    core = np.moveaxis(data.images[:16, 0], 0, -1)
    assert core[expected].mean() > 4 * core[~expected].mean()
    assert load(root, boxes=False).image_shape == (1, 21, 19)


def test_files_that_are_cut_out_already_stay_as_they_are(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", boxes="bbox.csv")
    data, cut = load(root, keep_empty=True), tmp_path / "data/resampled"
    cut.mkdir(parents=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = 12.5, -12.5, 102.4
    rng = np.random.default_rng(1)
    for case in CASES:
        rows = [k for k, one in enumerate(data.cases) if one == case]
        mask = np.moveaxis(data.masks[rows], 0, -1)
        nib.save(nib.Nifti1Image(mask, affine), cut / f"{case}_ct_gtvt.nii.gz")
        image = rng.uniform(0, 9, mask.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image, affine), cut / f"{case}_pt.nii.gz")
    (tmp_path / "data/bbox.csv").write_text((root / "bbox.csv").read_text())
    with_boxes, without = load(cut, keep_empty=True), load(cut, keep_empty=True, boxes=False)
    assert np.array_equal(with_boxes.masks, data.masks)
    assert with_boxes.native_pixels == "the files' own pixels"
    assert np.array_equal(with_boxes.images, without.images)


def test_one_file_is_read_as_in_training_and_its_mask_lies_on_it(tmp_path: Path) -> None:
    root = write(tmp_path / "hecktor_nii", boxes="bbox.csv")
    reader = file_reader("hecktor")
    found = reader.find(root, 1, {})
    assert [path.name for path in found] == [f"{case}_pt.nii.gz" for case in CASES]
    data = load(root, size=12, keep_empty=True, axis=0)
    file = reader.read(found[0], (12, 12), "resize", 1, {"axis": 0})
    assert np.array_equal(file.images, data.images[: len(file.images)])
    (tmp_path / "m.nii.gz").write_bytes(file.encode(file.restore(data.masks[: len(file.images)]), "m.nii.gz"))
    assert np.array_equal(nib.load(tmp_path / "m.nii.gz").affine, nib.load(found[0]).affine)
    written, expected = read_volume(tmp_path / "m.nii.gz").astype(bool), inside(*place(PET))
    assert read_geometry(tmp_path / "m.nii.gz").shape == read_geometry(found[0]).shape
    assert 2 * np.count_nonzero(written & expected) / (written.sum() + expected.sum()) > 0.7


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "a", boxes="bbox.csv")
    for options, message in (
        ({"modality": "mr"}, "modality"),
        ({"boxes": "yes"}, "boxes='yes'"),
        ({"axis": 3}, "axis=3"),
    ):
        with pytest.raises(OptionError, match=message):
            load(root, **options)
    table = root / "bbox.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError, match="no box of case 'CHUS101'"):
        load(root)
    for wrong in ("CHUS101,1,0,0,1,0,1", "CHUS101,a,0,0,1,0,1", "CHUS101,0,1"):
        table.write_text("\n".join([*rows[:-1], wrong]))
        with pytest.raises(DataError, match=r"bbox\.csv: expected a table with the columns PatientID, x1"):
            load(root)
    table.unlink()
    with pytest.raises(DataError, match="no table of bounding boxes"):
        load(root, boxes=True)
    (root / "CHUM012/CHUM012_pt.nii.gz").unlink()
    with pytest.raises(DataError, match=r"CHUM012_pt\.nii\.gz: is missing"):
        load(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no <case>_ct_gtvt"):
        load(tmp_path / "empty")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path, ending: str) -> None:
    """The label would be brought to the grid that the image's header tells of, before the image is read."""
    write(tmp_path)
    path = tmp_path / CASES[0] / f"{CASES[0]}_pt.nii.gz"
    header = bytearray(gzip.decompress(path.read_bytes()))
    path.unlink()
    struct.pack_into("<3h", header, 42, 30000, 30000, 30000)  # dim[1] to dim[3]
    lie = path.with_name(f"{CASES[0]}_pt{ending}")
    lie.write_bytes(gzip.compress(bytes(header)) if ending == ".nii.gz" else bytes(header))
    with pytest.raises(DataError, match=rf"{lie.name}: .*promises 108,000,000,000,352 bytes"):
        load(tmp_path)
