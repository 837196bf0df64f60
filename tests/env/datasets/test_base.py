"""Data sets made of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_env import PixelSegEnv
from pixelseg_env.datasets import SegmentationDataset, load_dataset
from pixelseg_env.errors import DataError

made = SegmentationDataset.from_arrays
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 3, 8, 6)).astype(np.uint8)
MASKS = (RNG.random((12, 8, 6)) < 0.4).astype(np.uint8)


def test_defaults_split_by_image() -> None:
    data = made(IMAGES, MASKS)
    assert data.cases == tuple(f"{k:02d}" for k in range(12))
    assert data.slices.tolist() == [0] * 12
    assert [len(load_dataset(data, split=split)) for split in ("train", "val", "test")] == [8, 1, 3]
    env = PixelSegEnv(data, split="train")
    assert env.reset(seed=0)[0].shape == (3, 8, 6)


def test_slices_are_counted_within_cases() -> None:
    data = made(IMAGES[:5], MASKS[:5], cases=["a", "b", "a", 3, "b"], name="mine", label_names=["cell"])  # type: ignore[list-item]
    assert data.cases == ("a", "b", "a", "3", "b")
    assert data.slices.tolist() == [0, 0, 1, 0, 1]
    assert (data.name, data.label_names) == ("mine", ("cell",))
    assert made(IMAGES[:2], MASKS[:2], slices=[4, 9]).slices.tolist() == [4, 9]


FORMS: dict[str, tuple[Any, Any]] = {
    "booleans": (IMAGES, MASKS > 0),
    "0 and 255": (IMAGES, MASKS * 255),
    "floats": (IMAGES, MASKS.astype(np.float64)),
    "one label": (IMAGES, MASKS[:, None]),
    "channels last": (IMAGES.transpose(0, 2, 3, 1), MASKS),
    "whole numbers": (IMAGES.astype(np.int64), MASKS),
    "lists": (IMAGES.tolist(), MASKS.tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_data(form: str) -> None:
    data = made(*FORMS[form])
    assert np.array_equal(data.images, IMAGES)
    assert data.images.dtype == np.uint8
    assert np.array_equal(data.masks, MASKS)


def test_floats_and_sixteen_bits() -> None:
    exact = IMAGES.astype(np.float64) / 255
    data = made(exact[:, 0], MASKS)
    assert data.images.dtype == np.float32
    assert np.array_equal(data.images[:, 0], exact[:, 0].astype(np.float32))
    deep = made(IMAGES.astype(np.uint16) * 257, MASKS)
    assert np.allclose(deep.images, exact, atol=1e-7)


def test_torch_arrays() -> None:
    torch = pytest.importorskip("torch")
    data = made(torch.tensor(IMAGES), torch.tensor(MASKS > 0))
    assert np.array_equal(data.images, IMAGES)
    assert np.array_equal(data.masks, MASKS)


@settings(max_examples=30, deadline=None)
@given(labels=st.integers(2, 4), height=st.integers(2, 6), width=st.integers(2, 6), value=st.sampled_from([1, 7, 255]))
def test_labels_keep_their_places(labels: int, height: int, width: int, value: int) -> None:
    masks = np.random.default_rng(height * width).integers(0, 2, (3, labels, height, width)).astype(np.uint8)
    data = made(np.zeros((3, height, width), np.uint8), masks * value)
    assert np.array_equal(data.masks, masks)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (IMAGES.astype(np.float32), MASKS, "divide them by 255"),
        (IMAGES.astype(np.float32) - 9, MASKS, r"found -9 to"),
        (IMAGES.astype(np.int32) * 9, MASKS, "from 0 to 255"),
        (np.full((12, 8, 6), np.nan), MASKS, r"\[0, 1\]"),
        (IMAGES, MASKS * np.arange(12, dtype=np.uint8)[:, None, None], "two values, 0 and one other"),
        (IMAGES, MASKS[0], r"masks of shape \(N, H, W\)"),
        (IMAGES[..., :5], MASKS, r"\(H, W\) = \(8, 6\), got \(12, 3, 8, 5\)"),
        (IMAGES[:7], MASKS, "masks of shape"),
        ([[1, 2], [3]], MASKS, "images are no array"),
        (IMAGES, [["a"]], "masks of numbers"),
    ],
)
def test_what_cannot_be_read_is_named(images: Any, masks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(images, masks)


def test_the_plain_constructor_points_to_from_arrays() -> None:
    cases, slices = tuple("abcdefghijkl"), np.zeros(12, np.int64)
    for wrong in ((IMAGES.tolist(), MASKS, cases, slices), (IMAGES, MASKS, cases, None), (IMAGES, MASKS, None, slices)):
        with pytest.raises(DataError, match="from_arrays"):
            SegmentationDataset("x", *wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "expected images as a NumPy array, got NoneType"),
        ({"images": [[1]]}, "expected images as a NumPy array, got list"),
        ({"masks": [[1]]}, "expected masks as a NumPy array, got list"),
        ({"cases": None}, "got None"),
        ({"cases": "ab"}, "expected a list of case names, got 'ab'"),
        ({"cases": 2}, "expected a list of case names, got 2"),
        ({"slices": None}, "got None"),
        ({"slices": ["a", "b"]}, "expected slices as whole numbers"),
        ({"slices": np.zeros((2, 1), int)}, "expected slices as whole numbers"),
        ({"slices": 3}, "expected slices as whole numbers"),
        ({"label_names": "object"}, "expected a list of label names"),
    ],
)
def test_what_is_no_array_or_list_is_named(changes: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "name": "own",
        "images": np.zeros((2, 1, 4, 4), np.uint8),
        "masks": np.zeros((2, 4, 4), np.uint8),
        "cases": ["a", "b"],
        "slices": [0, 1],
    }
    data = SegmentationDataset(**right)
    assert data.cases == ("a", "b"), "a list will do, and is not kept"
    assert data.slices.tolist() == [0, 1]
    with pytest.raises(DataError, match=message):
        SegmentationDataset(**right | changes)


def test_channels_last_masks_booleans_and_missing_names() -> None:
    masks = np.zeros((3, 8, 10), np.uint8)
    masks[:, 2:5, 3:6] = 1
    images = (masks * 200).astype(np.uint8)
    plain = SegmentationDataset.from_arrays(images, masks)
    keras = SegmentationDataset.from_arrays(images[..., None], masks[..., None])
    np.testing.assert_array_equal(keras.masks, plain.masks)
    np.testing.assert_array_equal(keras.images, plain.images)
    assert keras.labels == 1
    seen = SegmentationDataset.from_arrays(masks.astype(bool), masks)
    assert seen.batch([0])[0].max() == 1
    with pytest.raises(DataError, match="a case is None"):
        SegmentationDataset.from_arrays(images, masks, cases=[None] * 3)  # type: ignore[list-item]
