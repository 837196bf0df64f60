"""Metrics against MONAI, SciPy and the formulas written out."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from pixelseg_env import metrics
from pixelseg_env.errors import DataError, OptionError
from pixelseg_env.metrics import HIGHER_IS_BETTER, METRICS, biou, compute_metrics, dice, hd95, map_dice, register_metric

Mask = NDArray[np.uint8]


def blob(rng: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """A random smooth shape; now and then it is cut by the border."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), rng.uniform(1.0, 4.0))
    return (noise > np.quantile(noise, rng.uniform(0.4, 0.95))).astype(np.uint8)


def pairs(count: int, seed: int = 0) -> list[tuple[Mask, Mask]]:
    """Blobs, noise, near copies, single pixels, full masks and border strips, of several sizes."""
    rng = np.random.default_rng(seed)
    result = []
    for number in range(count):
        shape = (int(rng.integers(8, 48)), int(rng.integers(8, 48)))
        first = blob(rng, shape)
        kind = number % 6
        if kind == 0:
            second = blob(rng, shape)
        elif kind == 1:
            second = (rng.random(shape) < rng.uniform(0.02, 0.9)).astype(np.uint8)
        elif kind == 2:
            second = first ^ (rng.random(shape) < 0.05).astype(np.uint8)
        elif kind == 3:
            second = np.zeros(shape, np.uint8)
            second[rng.integers(shape[0]), rng.integers(shape[1])] = 1
        elif kind == 4:
            second = np.ones(shape, np.uint8)
        else:
            second = np.zeros(shape, np.uint8)
            second[: int(rng.integers(1, 4))] = 1
        result.append((first, second) if number % 2 else (second, first))
    return result


PAIRS = [(p, t) for p, t in pairs(240) if p.any() and t.any()]


def as_torch(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


@pytest.fixture(autouse=True)
def _quiet_monai() -> None:
    warnings.filterwarnings("ignore", module="monai")


def test_overlap_metrics_agree_with_monai() -> None:
    from monai.metrics import compute_confusion_matrix_metric, compute_dice, compute_iou, get_confusion_matrix

    for prediction, target in PAIRS:
        p, t = as_torch(prediction), as_torch(target)
        counts = get_confusion_matrix(p, t)
        ours = compute_metrics(prediction, target)
        assert ours["DICE"] == pytest.approx(compute_dice(p, t).item(), abs=2e-4)
        assert ours["IoU"] == pytest.approx(compute_iou(p, t).item(), abs=2e-4)
        assert ours["PPV"] == pytest.approx(compute_confusion_matrix_metric("ppv", counts).item(), abs=2e-4)
        assert ours["SEN"] == pytest.approx(compute_confusion_matrix_metric("tpr", counts).item(), abs=2e-4)


def test_overlap_metrics_are_the_formulas_with_epsilon() -> None:
    e = 1e-4
    for prediction, target in pairs(40, seed=1):
        tp = int(((prediction == 1) & (target == 1)).sum())
        fp = int(((prediction == 1) & (target == 0)).sum())
        fn = int(((prediction == 0) & (target == 1)).sum())
        ours = compute_metrics(prediction, target)
        assert ours["DICE"] == pytest.approx((2 * tp + e) / (2 * tp + fp + fn + e), rel=1e-12)
        assert ours["PPV"] == pytest.approx((tp + e) / (tp + fp + e), rel=1e-12)
        assert ours["SEN"] == pytest.approx((tp + e) / (tp + fn + e), rel=1e-12)
        assert ours["IoU"] == pytest.approx((tp + e) / (tp + fp + fn + e), rel=1e-12)


def test_hd95_agrees_with_monai() -> None:
    from monai.metrics import compute_hausdorff_distance

    for prediction, target in PAIRS:
        theirs = compute_hausdorff_distance(
            as_torch(prediction), as_torch(target), include_background=True, percentile=95
        ).item()
        assert hd95(prediction, target) == pytest.approx(theirs, abs=1e-4)


def test_hd95_agrees_with_scipy() -> None:
    def surface(mask: Mask) -> NDArray[np.bool_]:
        return mask.astype(bool) & ~ndimage.binary_erosion(mask)

    for prediction, target in PAIRS:
        first, second = surface(prediction), surface(target)
        there = np.percentile(ndimage.distance_transform_edt(~second)[first], 95)
        back = np.percentile(ndimage.distance_transform_edt(~first)[second], 95)
        assert hd95(prediction, target) == pytest.approx(max(there, back), abs=1e-4)


def test_biou_agrees_with_the_reference_code() -> None:
    """`mask_to_boundary` as Cheng et al. published it: pad by one, erode, cut the pad off."""

    def boundary(mask: Mask, dilation: int = 0) -> Mask:
        height, width = mask.shape
        dilation = dilation or max(1, round(0.02 * np.sqrt(height**2 + width**2)))
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0.0,))
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=dilation)
        return mask - eroded[1:-1, 1:-1]

    rng = np.random.default_rng(3)
    large = [(blob(rng, (180, 230)), blob(rng, (180, 230))) for _ in range(5)]  # eroded five times
    for prediction, target in PAIRS + large:
        for name, dilation in (("BIoU", 0), ("BIoU-2px", 2)):
            first, second = boundary(prediction, dilation), boundary(target, dilation)
            expected = ((first & second).sum() + 1e-4) / ((first | second).sum() + 1e-4)
            assert compute_metrics(prediction, target, [name])[name] == pytest.approx(expected, rel=1e-12)


def test_biou_sees_what_iou_hides() -> None:
    """A large object one pixel too wide: IoU forgives it, Boundary IoU does not."""
    target = np.zeros((64, 64), np.uint8)
    target[8:56, 8:56] = 1
    wider = cv2.dilate(target, np.ones((3, 3), np.uint8))
    assert METRICS["IoU"](wider, target) > 0.9
    assert biou(wider, target) < 0.4


@pytest.mark.parametrize("shape", [(20, 30), (1, 7), (5, 1), (1, 1)])
def test_empty_masks(shape: tuple[int, int]) -> None:
    empty, full = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    both = compute_metrics(empty, empty)
    assert {name: float(value) for name, value in both.items()} == {
        "DICE": 1, "PPV": 1, "SEN": 1, "IoU": 1, "BIoU": 1, "HD95": 0,
    }  # fmt: skip
    diagonal = np.hypot(*shape)
    for prediction, target in ((empty, full), (full, empty)):
        missed = compute_metrics(prediction, target)
        assert missed["HD95"] == pytest.approx(diagonal)
        assert missed["DICE"] < 1e-3
        assert missed["IoU"] < 1e-3
        assert missed["BIoU"] < 1e-3
    assert compute_metrics(empty, full)["PPV"] == 1  # claims nothing wrong
    assert compute_metrics(full, empty)["SEN"] == 1  # misses nothing


def test_a_miss_never_scores_better_than_a_hit() -> None:
    """MONAI's NaN drops out of the mean; our diagonal does not."""
    target = np.zeros((32, 32), np.uint8)
    target[10:20, 10:20] = 1
    hit = np.roll(target, 3, axis=0)
    batch = np.stack([target, target])
    with_miss = hd95(np.stack([hit, np.zeros_like(hit)]), batch).mean()
    assert with_miss > hd95(np.stack([hit, hit]), batch).mean()


def test_hd95_known_distances() -> None:
    first, second = np.zeros((2, 40, 40), np.uint8)
    first[5, 5], second[8, 9] = 1, 1
    assert hd95(first, second) == pytest.approx(5.0)
    second[5, 5] = 1  # one way 0, the other way the 95th percentile of (0, 5)
    assert hd95(first, second) == pytest.approx(4.75)


masks = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))] * 2)
)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_properties(pair: tuple[Mask, Mask]) -> None:
    prediction, target = pair
    scores = compute_metrics(prediction, target)
    swapped = compute_metrics(target, prediction)
    for name, value in scores.items():
        assert np.isfinite(value)
        assert 0 <= value <= (1 if HIGHER_IS_BETTER[name] else np.hypot(*target.shape))
    for name in ("DICE", "IoU", "BIoU", "HD95"):
        assert swapped[name] == scores[name]
    assert swapped["PPV"] == scores["SEN"]
    assert swapped["SEN"] == scores["PPV"]
    for axis in (0, 1):
        flipped = compute_metrics(np.flip(prediction, axis), np.flip(target, axis))
        turned = compute_metrics(prediction.T, target.T)
        for name, value in scores.items():
            assert flipped[name] == pytest.approx(value, abs=1e-6)
            assert turned[name] == pytest.approx(value, abs=1e-6)
    perfect = compute_metrics(target, target)
    assert all(perfect[name] == (1 if HIGHER_IS_BETTER[name] else 0) for name in METRICS)
    assert scores["IoU"] <= scores["DICE"]


@settings(max_examples=40, deadline=None)
@given(masks, st.data())
def test_one_more_right_pixel_improves_overlap(pair: tuple[Mask, Mask], data: st.DataObject) -> None:
    """A planted fault: put one wrong pixel right, and no overlap metric may fall."""
    prediction, target = pair
    wrong = np.argwhere(prediction != target)
    if not len(wrong):
        return
    row, column = wrong[data.draw(st.integers(0, len(wrong) - 1))]
    better = prediction.copy()
    better[row, column] = target[row, column]
    assert dice(better, target) >= dice(prediction, target) - 1e-3  # the epsilon may tip the last pixel
    assert METRICS["IoU"](better, target) >= METRICS["IoU"](prediction, target) - 1e-3


@pytest.mark.parametrize("shape", [(5, 16, 16), (2, 3, 16, 16), (3, 150, 140), (0, 8, 8)])
def test_batch_is_the_pairs_one_by_one(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    prediction, target = (rng.random((2, *shape)) < 0.4).astype(np.uint8)
    for name, scores in compute_metrics(prediction, target).items():
        assert scores.shape == shape[:-2]
        assert scores.dtype == np.float64
        for at in np.ndindex(scores.shape):
            assert scores[at] == METRICS[name](prediction[at], target[at])


def test_a_pair_gives_a_float() -> None:
    mask = np.eye(6, dtype=np.uint8)
    for function in METRICS.values():
        assert isinstance(function(mask, mask), float)


@pytest.mark.parametrize("kind", [bool, np.int8, np.int64, np.float32])
def test_any_type_of_zeros_and_ones(kind: type) -> None:
    prediction, target = np.eye(9, dtype=np.uint8), np.tri(9, dtype=np.uint8)
    assert compute_metrics(prediction.astype(kind), target) == compute_metrics(prediction, target)


def test_arrays_that_are_not_contiguous() -> None:
    prediction, target = (np.random.default_rng(0).random((2, 4, 20, 20)) < 0.5).astype(np.uint8)
    view = prediction[:, ::2, ::-2]
    copied = compute_metrics(view.copy(), target[:, :10, :10].copy())
    for name, scores in compute_metrics(view, target[:, :10, :10]).items():
        np.testing.assert_array_equal(scores, copied[name])


def test_inputs_are_left_alone() -> None:
    prediction, target = np.eye(9, dtype=np.uint8), np.tri(9, dtype=np.uint8)
    prediction.flags.writeable = target.flags.writeable = False
    compute_metrics(prediction, target)


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.zeros((4, 4)), np.zeros((4, 5)), r"one shape.*\(4, 4\).*\(4, 5\)"),
        (np.zeros(4), np.zeros(4), r"\(H, W\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "at least one pixel"),
        (np.full((4, 4), 0.5), np.zeros((4, 4)), "prediction must hold 0 and 1 only, found 0.5"),
        (np.zeros((4, 4)), np.full((4, 4), 255, np.uint8), "target must hold 0 and 1 only, found 255"),
        (np.full((4, 4), 2, np.uint8), np.zeros((4, 4)), "found 2"),
        (np.full((4, 4), -1, np.int8), np.zeros((4, 4)), "found -1"),
        (np.full((4, 4), np.nan), np.zeros((4, 4)), "found nan"),
        (np.full((4, 4), "a"), np.zeros((4, 4)), "numbers or bool"),
    ],
)
def test_wrong_input_is_named(prediction: NDArray, target: NDArray, message: str) -> None:
    for function in METRICS.values():
        with pytest.raises(DataError, match=message):
            function(prediction, target)


@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 5), (2, 3, 6, 5)])
def test_dice_of_an_environments_maps_is_dice(shape: tuple[int, ...]) -> None:
    prediction, target = (np.random.default_rng(0).random((2, *shape)) < 0.4).astype(np.uint8)
    prediction.reshape(-1, 6, 5)[-1] = target.reshape(-1, 6, 5)[-1] = 0
    found = map_dice(prediction, target)
    np.testing.assert_array_equal(found, dice(prediction, target))
    tensor = map_dice(torch.from_numpy(prediction), torch.from_numpy(target))
    assert tensor.dtype == torch.float64
    np.testing.assert_array_equal(tensor.numpy(), found)


def test_a_metric_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("METRICS", "HIGHER_IS_BETTER"):
        monkeypatch.setattr(metrics, table, dict(getattr(metrics, table)))
    mask = np.eye(4, dtype=np.uint8)
    register_metric("OWN", lambda p, t: np.float64(7))
    assert compute_metrics(mask, mask, ["OWN"]) == {"OWN": 7}
    assert metrics.HIGHER_IS_BETTER["OWN"] is True
    with pytest.raises(OptionError, match="registered already"):
        register_metric("OWN", hd95)
    register_metric("OWN", hd95, higher_is_better=False, overwrite=True)
    assert metrics.METRICS["OWN"] is hd95
    assert metrics.HIGHER_IS_BETTER["OWN"] is False
    for name in ("", 3):
        with pytest.raises(OptionError, match="non-empty string"):
            register_metric(name, hd95)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="expected a function"):
        register_metric("OTHER", 3)  # type: ignore[arg-type]


def test_names() -> None:
    mask = np.eye(4, dtype=np.uint8)
    assert list(METRICS) == list(HIGHER_IS_BETTER) == ["DICE", "PPV", "SEN", "IoU", "BIoU", "HD95"]
    assert list(compute_metrics(mask, mask, ["HD95", "DICE"])) == ["HD95", "DICE"]
    assert "BIoU-2px" not in compute_metrics(mask, mask)
    with pytest.raises(OptionError, match="registered already"):
        register_metric("BIoU-2px", hd95)
    with pytest.raises(OptionError, match="metric='Dice' is not known"):
        compute_metrics(mask, mask, ["Dice"])
