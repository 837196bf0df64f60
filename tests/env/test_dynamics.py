"""One step of the process, on arrays with any number of leading dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from pixelseg_env import dynamics

PREVIOUS = np.array([[0, 0, 1, 1]], np.uint8)
ACTION = np.array([[0, 1, 0, 1]], np.uint8)


@pytest.mark.parametrize(("name", "expected"), [("absorbing", [[0, 0, 0, 1]]), ("restorable", [[0, 1, 0, 1]])])
def test_truth_table(name: str, expected: list[list[int]]) -> None:
    result = dynamics.TRANSITIONS[name](PREVIOUS, ACTION)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)
    assert not np.shares_memory(result, PREVIOUS)
    assert not np.shares_memory(result, ACTION)


def test_masked_is_the_product_and_stacked_has_the_map_last() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((3, 2, 5, 4), dtype=np.float32)
    maps = rng.integers(0, 2, (3, 5, 4)).astype(np.uint8)
    masked, stacked = dynamics.masked(images, maps), dynamics.stacked(images, maps)
    for b in range(3):
        for c in range(2):
            np.testing.assert_array_equal(masked[b, c], np.where(maps[b] == 1, images[b, c], 0))
    np.testing.assert_array_equal(stacked[:, :2], images)
    np.testing.assert_array_equal(stacked[:, 2], maps)
    for result in (masked, stacked):
        assert result.dtype == np.float32
        assert not np.shares_memory(result, images)
        single = dynamics.OBSERVATIONS["masked" if result is masked else "stacked"](images[1], maps[1])
        np.testing.assert_array_equal(single, result[1])


def test_channels_of_the_observation() -> None:
    for name, observe in dynamics.OBSERVATIONS.items():
        shown = observe(np.zeros((3, 4, 4), np.float32), np.ones((4, 4), np.uint8))
        assert len(shown) == dynamics.observation_channels(3, name)
        assert dynamics.image_channels(len(shown), name) == 3
