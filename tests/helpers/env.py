"""Small data sets and rollouts for the tests of the environments and the agents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env import SegmentationDataset

REWARDS = ("squared_error", "sign", "balanced", "dice_gain")
TASKS = [(t, o) for t in ("absorbing", "restorable") for o in ("masked", "stacked")]
INFO_KEYS = {"reward_map", "segmentation", "target", "dice", "slice", "index", "step", "horizon"}


def small_set(
    count: int = 6, channels: int = 2, height: int = 12, width: int = 9, dtype: Any = np.uint8
) -> SegmentationDataset:
    """Random images and rectangles, neither square nor of one channel; every case has two slices."""
    rng = np.random.default_rng(7)
    images = rng.integers(1, 256, (count, channels, height, width)).astype(np.uint8)
    masks = np.zeros((count, height, width), np.uint8)
    for i in range(count):
        masks[i, 2 : 5 + i % 4, 1 : 4 + i % 3] = 1
    if dtype == np.float32:
        images = images.astype(np.float32) / 255
    cases = tuple(f"case{i // 2}" for i in range(count))
    return SegmentationDataset("small", images, masks, cases, np.arange(count) % 2 + 5)


def random_actions(shape: tuple[int, ...], steps: int, seed: int = 0, keep: float = 0.7) -> NDArray[np.int8]:
    """`steps` joint actions, mostly keep, so that maps of the absorbing transition last."""
    return (np.random.default_rng(seed).random((steps, *shape)) < keep).astype(np.int8)


def copied(value: Any) -> Any:
    """A deep copy of what reset or step returned."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(copied(item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        result = np.empty_like(value)
        for i in np.ndindex(value.shape):
            result[i] = copied(value[i])
        return result
    return np.array(value) if isinstance(value, np.ndarray) else value


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit: arrays with shape and type, dictionaries with keys."""
    if isinstance(one, dict):
        assert set(one) == set(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key}]")
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(one, np.ndarray) and one.dtype == object:
        assert other.dtype == object, where
        for i in np.ndindex(one.shape):
            assert_same(one[i], other[i], f"{where}{i}")
    elif isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray), where
        assert one.dtype == other.dtype, (where, one.dtype, other.dtype)
        np.testing.assert_array_equal(one, other, err_msg=where)
    else:
        assert type(one) is type(other), (where, type(one), type(other))
        assert one == other, (where, one, other)


def vandalise(value: Any) -> None:
    """Overwrites every array in what an environment handed out, as a careless user may."""
    if isinstance(value, dict):
        for item in value.values():
            vandalise(item)
    elif isinstance(value, tuple | list):
        for item in value:
            vandalise(item)
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            for item in value.flat:
                vandalise(item)
            value[...] = None
        elif value.dtype == np.bool_:
            value ^= True
        else:
            value[...] = 77
