"""Images scaled by percentiles of their case: what comes out, what it depends on, and that single files agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pixelseg_env import OptionError, load_dataset
from pixelseg_env.datasets import file_reader
from pixelseg_env.datasets.scaling import channel_limits, stretched_page
from tests.helpers.data import blob_mask, write_brain

BY_CASE: dict[str, Any] = {"split": "all", "size": None, "scaling": "percentiles"}
PAGES = st.one_of(
    arrays.arrays(np.uint8, (7, 5, 3)),
    arrays.arrays(np.uint16, (4, 6)),
    arrays.arrays(np.float32, (5, 5), elements=st.floats(0, 1e6, width=32)),
)


@settings(max_examples=40)
@given(PAGES)
def test_order_stays_and_values_lie_in_the_unit_interval(page: NDArray[Any]) -> None:
    out = stretched_page(page, channel_limits([page]))
    assert out.shape == page.shape
    assert out.dtype == (np.uint8 if page.dtype == np.uint8 else np.float32)
    assert out.min() >= 0
    assert out.max() <= (255 if out.dtype == np.uint8 else 1)
    for c in range(np.atleast_3d(page).shape[2]):
        before, after = (np.atleast_3d(one)[..., c].ravel() for one in (page, out))
        assert (np.diff(after[np.argsort(before)].astype(float)) >= 0).all()


@given(st.integers(1, 65535))
def test_a_constant_image_becomes_black(level: int) -> None:
    page = np.full((3, 4), level, np.uint16)
    assert not stretched_page(page, channel_limits([page])).any()


def write_random(root: Path, cases: int = 2, gain: float = 1.0) -> Path:
    """The Kaggle layout, of other brightness by patient and channel; slice 1, with an empty mask, is the brightest."""
    rng = np.random.default_rng(0)
    write_brain(root, cases=cases)
    for c, folder in enumerate(sorted((root / "kaggle_3m").iterdir())):
        for s in (1, 2, 3):
            top = np.array([90, 60, 110]) / (c + 1) / (1 if s == 1 else 2)
            image = np.rint(rng.random((12, 16, 3)) * top * gain).astype(np.uint8)
            tifffile.imwrite(folder / f"{folder.name}_{s}.tif", image)
    return root


def stored(root: Path, case: str) -> NDArray[Any]:
    """A patient's files as they are, (S, C, H, W)."""
    paths = [root / "kaggle_3m" / case / f"{case}_{s}.tif" for s in (1, 2, 3)]
    return np.stack([tifffile.imread(path) for path in paths]).transpose(0, 3, 1, 2)


def test_brain_takes_percentiles_of_a_whole_patient(tmp_path: Path) -> None:
    """Also of slices without tumour, whether they are kept or not: `predict` cannot tell them."""
    data = load_dataset("brain", write_random(tmp_path), **BY_CASE)
    assert data.white is None
    for case in sorted(set(data.cases)):
        pixels = stored(tmp_path, case).astype(float)
        low, high = (np.percentile(pixels, q, axis=(0, 2, 3), keepdims=True) for q in (0.5, 99.5))
        expected = np.clip((pixels - low) / (high - low), 0, 1)[1:] * 255
        found = data.images[np.array(data.cases) == case]
        np.testing.assert_allclose(found, expected, atol=0.51)
        assert found.max() < 200  # per slice it would be 255
    kept = load_dataset("brain", tmp_path, keep_empty=True, **BY_CASE)
    np.testing.assert_array_equal(kept.images[kept.slices > 1], data.images)
    flair = load_dataset("brain", tmp_path, channels="flair", **BY_CASE)
    np.testing.assert_array_equal(flair.images, data.images[:, 1:2])


def test_a_missing_sequence_stays_equal_to_its_stand_in(tmp_path: Path) -> None:
    for path in write_random(tmp_path).rglob("*_?.tif"):
        tifffile.imwrite(path, np.repeat(tifffile.imread(path)[..., 1:2], 3, axis=2))
    images = load_dataset("brain", tmp_path, **BY_CASE).images
    assert images.any()
    np.testing.assert_array_equal(images[:, [0, 2]], images[:, [1, 1]])


def test_how_bright_a_patient_is_makes_no_difference(tmp_path: Path) -> None:
    one, other = (load_dataset("brain", write_random(tmp_path / str(g), gain=g), **BY_CASE) for g in (1.0, 2.0))
    assert np.abs(one.images.astype(int) - other.images).max() <= 6  # files hold whole grey levels


@pytest.mark.parametrize("size", [None, (9, 7)])
def test_single_files_of_a_patient_are_read_as_the_set_reads_them(tmp_path: Path, size: Any) -> None:
    root = write_random(tmp_path)
    data = load_dataset("brain", root, **BY_CASE | {"size": size})
    folder = root / "kaggle_3m" / data.cases[0]
    tifffile.imwrite(folder / "TCGA_YY_0000_19990101_1.tif", np.full((12, 16, 3), 255, np.uint8))  # of another one
    for row, number in enumerate((2, 3)):
        path = folder / f"{data.cases[0]}_{number}.tif"
        file = file_reader("brain").read(path, size, "resize", 3, {"scaling": "percentiles"})
        np.testing.assert_array_equal(file.images[0], data.images[row])
    alone = tmp_path / "alone.tif"
    tifffile.imwrite(alone, stored(root, data.cases[0])[1].transpose(1, 2, 0))
    by_itself = file_reader("brain").read(alone, size, "resize", 3, {"scaling": "percentiles"}).images
    assert by_itself.astype(int).sum() > data.images[0].astype(int).sum()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_folders_by_name_and_stacks(tmp_path: Path, kind: Any) -> None:
    """Slices of a case that names tell, and a stack; of any depth, and none is white."""
    rng = np.random.default_rng(1)
    for name, top, shape in (("p1_1", 90, ()), ("p1_2", 30, ()), ("p2_7", 60, ()), ("stack", 200, (3,))):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", (rng.random((*shape, 12, 16)) * top).astype(kind), photometric="minisblack"
        )
        tifffile.imwrite(
            tmp_path / f"{name}_mask.tif", np.broadcast_to(blob_mask(), (*shape, 12, 16)), photometric="minisblack"
        )
    data = load_dataset("folder", tmp_path, **BY_CASE)
    assert data.cases == ("p1", "p1", "p2", "stack", "stack", "stack")
    images = data.images / (255 if kind == np.uint8 else 1)
    assert images[1].max() < 0.5  # the darker slice of a case stays so
    assert images[[0, 2]].max(axis=(1, 2, 3)) == pytest.approx(1)
    rows = {"p1_1": [0], "p1_2": [1], "p2_7": [2], "stack": [3, 4, 5]}
    for name, own in rows.items():
        read = file_reader("folder").read(tmp_path / f"{name}.tif", None, "resize", 1, {"scaling": "percentiles"})
        np.testing.assert_array_equal(read.images, data.images[own])


def test_one_level_or_percentiles(tmp_path: Path) -> None:
    write_brain(tmp_path)
    for name in ("brain", "folder"):
        with pytest.raises(OptionError, match="white=255 and scaling=percentiles"):
            load_dataset(name, tmp_path, white=255, scaling="percentiles")
        with pytest.raises(OptionError, match="Did you mean 'percentiles'"):
            load_dataset(name, tmp_path, scaling="percentile")
