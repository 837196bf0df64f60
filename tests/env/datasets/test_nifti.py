"""The generic NIfTI set: layouts, channels, label names, and labels that lie differently than their images."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.helpers.data as files
from pixelseg_env.datasets import SegmentationDataset, file_reader, load_dataset
from pixelseg_env.datasets.left_out import LeftOutWarning
from pixelseg_env.datasets.nifti_files import Geometry, on_grid, open_image, read_geometry, read_volume
from pixelseg_env.errors import DataError, OptionError


def load(root: Path, name: str = "nifti", **options: object) -> SegmentationDataset:
    return load_dataset(name, root, **{"split": "all", "size": None, **options})  # type: ignore[arg-type]


def test_cardiac_is_a_preset(tmp_path: Path) -> None:
    root = files.write_cardiac(tmp_path)
    one, two = load(root), load(root, "cardiac")
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.masks, two.masks)
    assert one.cases == two.cases
    assert (one.name, two.name) == ("nifti", "cardiac")


def test_nnunet_layout_has_channels_and_label_names(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    data = load(root, labels=(1, 2))
    assert data.image_shape == (2, 12, 10)
    assert data.label_names == ("oedema", "core")
    assert data.cases == tuple(f"bts_{c:03d}" for c in range(4) for _ in range(2))
    for k in range(2):
        volume = np.asarray(nib.load(root / "imagesTr" / f"bts_001_{k:04d}.nii.gz").dataobj)
        low, high = np.percentile(volume, (0.5, 99.5))
        expected = np.clip((volume[..., 2] - low) / (high - low), 0, 1)
        assert np.abs(data.batch([3])[0][0, k] - expected).max() <= 1 / 510 + 1e-5
        assert np.array_equal(load(root, labels=(1, 2), channels=k).images[:, 0], data.images[:, k])
    assert np.array_equal(load(root, label=1, channels=[1, 0]).images, data.images[:, ::-1])
    with pytest.raises(DataError, match=r"channels=\[2\], but there are 2"):
        load(root, label=1, channels=2)
    for bad in (-1, True, "FLAIR", [], [0, 0], 1.5):
        with pytest.raises(OptionError, match="counted from 0"):
            load(root, label=1, channels=bad)


def test_a_missing_channel_is_no_other_channel(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    (root / "imagesTr/bts_002_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"images of case 'bts_002' are bts_002_0001; expected"):
        load(root, label=1)
    files.write_nnunet(tmp_path)
    (root / "imagesTr/bts_002_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"bts_002_0000.*1 channel.*has 2"):
        load(root, label=1)


def test_first_version_of_nnunet_lists_names_without_channels(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    entries = [{"image": f"./imagesTr/bts_{c:03d}.nii.gz", "label": f"./labelsTr/bts_{c:03d}.nii.gz"} for c in (0, 3)]
    (root / "dataset.json").write_text(json.dumps({"training": entries, "labels": {"0": "none", "2": "core"}}))
    data = load(root, labels=(1, 2))
    assert set(data.cases) == {"bts_000", "bts_003"}
    assert data.image_shape[0] == 2
    assert data.label_names == ("label 1", "core")
    (root / "dataset.json").write_text(json.dumps({"file_ending": ".png"}))
    with pytest.raises(DataError, match=r"file_ending is '\.png'; expected .*\.nii"):
        load(root)


def test_fourth_axis_holds_channels(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    apart = load(root, label=1)
    for c in range(4):
        parts = [root / f"imagesTr/bts_{c:03d}_{k:04d}.nii.gz" for k in range(2)]
        voxels = np.stack([np.asarray(nib.load(path).dataobj) for path in parts], axis=-1)
        files.write_nifti(root / f"imagesTr/bts_{c:03d}.nii.gz", voxels)
        for path in parts:
            path.unlink()
    assert np.array_equal(load(root, label=1).images, apart.images)
    assert np.array_equal(load(root, label=1, channels=1).images, apart.images[:, 1:])
    with pytest.raises(DataError, match="3-dimensional"):
        load(root, "cardiac", label=1)


def test_labels_spoilt_by_rounding(tmp_path: Path) -> None:
    root = files.write_cardiac(tmp_path)
    whole = load(root)
    path = root / "labelsTr/la_001.nii.gz"
    label = np.asarray(nib.load(path).dataobj).astype(np.float64)
    label[3:5][label[3:5] > 0] = 0.9999999
    files.write_nifti(path, label)
    assert np.array_equal(load(root).masks, whole.masks)
    assert np.array_equal(load(root, label=1).masks, whole.masks)
    label[3, 2, 1] = 0.75
    files.write_nifti(path, label)
    with pytest.raises(DataError, match=r"la_001.*3 values \(0, 0\.75, 1\)"):
        load(root)


def test_two_dimensional_files_are_volumes_of_one_slice(tmp_path: Path) -> None:
    root = files.write_cardiac(tmp_path)
    expected = load(root).masks[::2]
    for path in root.rglob("*.nii.gz"):
        files.write_nifti(path, np.asarray(nib.load(path).dataobj)[..., 1])
    data = load(root)
    assert data.slices.tolist() == [0, 0, 0]
    assert np.array_equal(data.masks, expected)
    files.write_nifti(root / "imagesTr/la_001.nii.gz", np.arange(7, dtype=np.int16))
    with pytest.raises(DataError, match=r"la_001.*or a 2-dimensional image, got shape \(7,") as caught:
        file_reader("nifti").read(root / "imagesTr/la_001.nii.gz", None, "resize", 1, {})
    assert "slicer" not in str(caught.value)


def write_quaternion(path: Path, *bcd: float) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<hh", raw, 252, 1, 0)  # qform_code, sform_code
    struct.pack_into("<fff", raw, 256, *bcd)
    path.write_bytes(gzip.compress(bytes(raw)))


def test_rounding_errors_of_a_rotation_are_forgiven_and_wrong_ones_named(tmp_path: Path) -> None:
    root = files.write_cardiac(tmp_path)
    before = load(root)
    for path in root.rglob("la_001.nii.gz"):
        write_quaternion(path, 0.8, 0.6, 0.002)
    assert np.array_equal(load(root).images, before.images)
    for path in root.rglob("la_001.nii.gz"):
        write_quaternion(path, 0.8, 0.8, 0.0)
    with pytest.raises(DataError, match=r"la_001\.nii\.gz: its orientation .*1\.28") as caught:
        load(root)
    assert "damaged" not in str(caught.value)
    assert str(caught.value).count("la_001") == 1


# ---------------------------------------------------------------- where labels lie


def move(label: np.ndarray, affine: np.ndarray, axes: tuple[int, ...], flips: tuple[bool, ...]):
    """The same label, stored with other axes: array and affine change together."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, list(axes)]  # old index = matrix @ new index
    stored = label.transpose(axes)
    for k, flip in enumerate(flips):
        if flip:
            stored = np.flip(stored, k)
            turn = np.eye(4)
            turn[k, k], turn[k, 3] = -1, stored.shape[k] - 1
            matrix = matrix @ turn
    return np.ascontiguousarray(stored), affine @ matrix


@settings(max_examples=40, deadline=None)
@given(
    axes=st.permutations(range(3)),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 1000),
    shift=st.sampled_from([0.0, 1e-4, 0.3]),
)
def test_flips_and_swaps_are_undone(axes: list[int], flips: tuple[bool, ...], seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, (4, 5, 6))
    turn = np.linalg.qr(np.eye(3) + 0.2 * rng.standard_normal((3, 3)))[0]  # oblique
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 1.1, 2.5), rng.uniform(-50, 50, 3)
    stored, place = move(label, affine, tuple(axes), flips)
    place[:3, 3] += shift * affine[:3, 0]  # in voxels
    found = on_grid(stored, Geometry(stored.shape, place), Geometry(label.shape, affine), Path("l"), Path("i"))
    assert np.array_equal(found, label)
    place[:3, 3] += 2 * affine[:3, 1]
    with pytest.raises(DataError, match=r"elsewhere|shape"):
        on_grid(stored, Geometry(stored.shape, place), Geometry(label.shape, affine), Path("l"), Path("i"))


def test_labels_that_lie_differently(tmp_path: Path) -> None:
    root = files.write_cardiac(tmp_path)
    before = load(root)
    path = root / "labelsTr/la_001.nii.gz"
    label = np.asarray(nib.load(path).dataobj)
    stored, affine = move(label, np.eye(4), (0, 1, 2), (True, False, True))
    nib.save(nib.Nifti1Image(stored, affine), path)
    assert np.array_equal(load(root).masks, before.masks)
    assert not np.array_equal(load(root, align=False).masks, before.masks)
    affine[0, 3] += 3
    nib.save(nib.Nifti1Image(stored, affine), path)
    with pytest.raises(DataError, match=r"labelsTr.la_001.*lies elsewhere than its image .*imagesTr.la_001.*align"):
        load(root)
    unknown = nib.Nifti1Image(label, None)  # no code says where it lies
    nib.save(unknown, path)
    assert np.array_equal(load(root).masks, before.masks)
    with pytest.raises(OptionError, match="align"):
        load(root, align="maybe")


# ---------------------------------------------------------------- one file


def test_reader_sees_what_the_data_set_holds(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    reader = file_reader("nifti")
    data = load(root, size=8, label=1, keep_empty=True)
    inputs = reader.find(root, 2, {})
    assert [path.name for path in inputs] == [f"bts_{c:03d}_0000.nii.gz" for c in range(4)]
    assert [reader.mask_name(path, 2, {}) for path in inputs] == [f"bts_{c:03d}.nii.gz" for c in range(4)]
    seen = np.concatenate([reader.read(path, (8, 8), "resize", 2, {}).images for path in inputs])
    assert np.array_equal(seen, data.images)
    one = {"channels": 1}
    alone = np.concatenate([reader.read(p, (8, 8), "resize", 1, one).images for p in reader.find(root, 1, one)])
    assert np.array_equal(alone, data.images[:, 1:])
    assert len(reader.find(root, 1, {})) == 8, "an agent of one channel reads every file"


def test_what_is_written_beside_a_spoilt_rotation_is_read_by_every_program(tmp_path: Path) -> None:
    path = files.write_nifti(tmp_path / "a.nii", np.arange(24, dtype=np.int16).reshape(4, 3, 2))
    content = bytearray(path.read_bytes())
    struct.pack_into("<hh", content, 252, 1, 0)  # the qform counts, the sform does not
    struct.pack_into("<fff", content, 256, 0.8, 0.6, 0.002)
    path.write_bytes(content)
    file = file_reader("nifti").read(path, None, "resize", 1, {})
    written = tmp_path / "m.nii.gz"
    written.write_bytes(file.encode(np.ones((2, 4, 3), np.uint8), written.name))
    np.testing.assert_allclose(nib.load(written).affine, open_image(path)[0].affine, atol=2e-3)
    assert on_grid(read_volume(written), read_geometry(written), read_geometry(path), written, path).all()


def test_slice_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(DataError, match="slice numbers must fit 64 bits"):
        SegmentationDataset.from_arrays(np.zeros((1, 4, 4), np.uint8), np.ones((1, 4, 4), bool), slices=[2**64])


def test_a_label_without_its_image_is_named(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    files.write_nifti(root / "labelsTr" / "lonely.nii.gz", np.ones((4, 4, 2), np.uint8))
    with pytest.warns(LeftOutWarning, match=r"labelsTr.lonely\.nii\.gz: not read, for their images are missing"):
        assert "lonely" not in load(root, label=1).cases


def test_labels_that_are_not_there_or_not_whole(tmp_path: Path) -> None:
    root = files.write_nnunet(tmp_path)
    for wanted, message in (
        ({"label": 3}, r"all 4 masks are empty .*none holds 3 \(found 0, 1, 2\)"),
        ({"labels": (7, 8)}, r"none holds 7 or 8 \(found 0, 1, 2\)"),
        ({"labels": (1, 7)}, r"no label file holds the value 7 \(found 0, 1, 2\)"),
    ):
        with pytest.raises(DataError, match=message):
            load(root, **wanted)
    path = root / "labelsTr" / "bts_002.nii.gz"
    voxels = np.asarray(nib.load(path).dataobj).astype(np.float32)
    voxels[3] *= np.float32(0.97)  # as after resampling
    files.write_nifti(path, voxels)
    for wanted in ({"label": 1}, {"labels": (1, 2)}):
        with pytest.raises(DataError, match=r"bts_002\.nii\.gz: expected whole numbers as labels, got 0\.97.*nearest"):
            load(root, **wanted)


def test_what_a_header_promises_and_no_file_can_hold_is_not_unpacked(tmp_path: Path) -> None:
    """Zeros are packed a thousandfold: a small file of them would fill the memory before it is found too short."""
    path = tmp_path / "a.nii.gz"
    files.write_nifti(path, np.zeros((4, 4, 2), np.float32))
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<8h", content, 40, 3, 32000, 32000, 32000, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(content) + bytes(200 << 20), 9))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.nii\.gz: .*its header promises 131,072,000,000,\d+ bytes"):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("units", "expected"), [(1, 2000), (2, 2), (3, 0.002), (0, 2), (8 + 1, 2000), (128 + 2, 2)])
def test_units_of_space_count_and_those_of_time_do_not(tmp_path: Path, units: int, expected: float) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([2, 2, 2, 1]))
    image.header["xyzt_units"] = units  # 128 is no unit of time; found by fuzzing
    nib.save(image, tmp_path / "a.nii")
    assert read_geometry(tmp_path / "a.nii").spacing == pytest.approx((expected,) * 3)
