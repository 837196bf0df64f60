"""Dice and HD95 of volumes: closed cases, and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_env.errors import DataError, OptionError
from pixelseg_env.metrics import hd95, volume_dice, volume_hd95


def cube(*corner: int, side: int = 4, shape: tuple[int, int, int] = (14, 15, 16)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    z, y, x = corner
    mask[z : z + side, y : y + side, x : x + side] = 1
    return mask


@pytest.mark.parametrize(("axis", "spacing"), [(0, (3.0, 1.0, 1.0)), (1, (1.0, 0.5, 2.0)), (2, (1.0, 1.0, 0.7))])
@pytest.mark.parametrize("by", [1, 3])
def test_a_thin_plate_that_is_shifted_is_as_far_as_it_was_shifted(axis: int, spacing: tuple, by: int) -> None:
    first, second = (np.zeros((12, 12, 12), np.uint8) for _ in range(2))
    for mask, at in ((first, 2), (second, 2 + by)):
        mask[tuple(slice(at, at + 1) if k == axis else slice(1, 11) for k in range(3))] = 1
    assert volume_hd95(first, second, spacing) == pytest.approx(by * spacing[axis])
    assert volume_dice(first, second) == pytest.approx(0, abs=1e-4)


def test_cubes_that_are_shifted() -> None:
    one = cube(3, 3, 3)
    assert volume_hd95(one, one, (2, 2, 2)) == 0
    assert volume_dice(one, one) == 1
    assert volume_dice(one, cube(5, 3, 3)) == pytest.approx(0.5, abs=1e-4)
    # 8 voxels apart: a third of the surface lies on the far side, so the percentile does too.
    assert volume_hd95(cube(0, 3, 3), cube(8, 3, 3), (2, 1, 1)) == pytest.approx(16)


def test_empty_volumes() -> None:
    nothing = np.zeros((10, 20, 30), np.uint8)
    full = nothing.copy()
    full[4, 5, 6] = 1
    assert volume_hd95(nothing, nothing, (1, 2, 3)) == 0
    expected = float(np.linalg.norm([10 * 3, 20 * 0.5, 30 * 2]))
    assert volume_hd95(nothing, full, (3, 0.5, 2)) == volume_hd95(full, nothing, (3, 0.5, 2)) == pytest.approx(expected)
    assert volume_dice(nothing, nothing) == 1
    assert volume_dice(nothing, full) < 1e-3


def test_one_slice_is_as_in_the_plane() -> None:
    rng = np.random.default_rng(0)
    one, other = (np.zeros((1, 20, 24), np.uint8) for _ in range(2))
    one[0, 4:15, 5:14], other[0, 6:18, 3:15] = 1, rng.integers(0, 2, (12, 12))
    shells = [np.zeros((3, 20, 24), np.uint8) for _ in range(2)]
    for shell, mask in zip(shells, (one, other), strict=True):
        shell[1] = mask[0]
    # In a volume of one slice every voxel touches the border; in the plane the outline counts alone.
    assert volume_hd95(one, other) <= hd95(one[0], other[0]) + 1e-9
    assert volume_hd95(*shells) == pytest.approx(volume_hd95(one, other))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
)
def test_against_monai(seed: int, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(seed)
    one, other = ((rng.random(shape) < density).astype(np.uint8) for density in rng.uniform(0.1, 0.9, 2))
    if not (one.any() and other.any()):
        return
    first, second = (torch.from_numpy(mask)[None, None] for mask in (one, other))
    theirs = metrics.compute_hausdorff_distance(
        first, second, include_background=True, percentile=95, spacing=list(spacing)
    )
    assert volume_hd95(one, other, spacing) == pytest.approx(float(theirs), abs=1e-4)
    assert volume_hd95(other, one, spacing) == pytest.approx(float(theirs), abs=1e-4)
    dice = metrics.compute_dice(first, second, include_background=True)
    assert volume_dice(one, other) == pytest.approx(float(dice), abs=1e-3)


def test_what_is_no_volume_is_refused() -> None:
    for shape in ((4, 4), (2, 4, 4, 4)):
        with pytest.raises(DataError, match=r"\(Z, H, W\)"):
            volume_hd95(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="one shape"):
        volume_dice(np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 5), np.uint8))
    for spacing in ((0.0, 1.0, 1.0), (1.0, float("nan"), 1.0), (1.0, float("inf"), 1.0), (1.0,) * 2, (1.0,) * 4):
        with pytest.raises(OptionError, match="three distances"):
            volume_hd95(cube(1, 1, 1), cube(1, 1, 1), spacing)  # type: ignore[arg-type]
