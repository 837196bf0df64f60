"""`boundary_weighted`, held against SciPy's distances."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pixelseg_env import OptionError
from pixelseg_env.rewards import boundary_weighted, resolve_reward, squared_error
from pixelseg_env.rewards.distances import opencv_distances, tensor_distances

MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=4, max_side=9), elements=st.integers(0, 1))
BIG = arrays(np.uint8, st.tuples(st.integers(20, 50), st.integers(20, 50)), elements=st.integers(0, 1), fill=st.just(0))


def weights(target: NDArray[Any], weight: float, width: float) -> NDArray[np.float32]:
    """What Eq. 12 is multiplied by: all pixels are wrong, and put right."""
    return np.asarray(boundary_weighted(weight, width)(1 - target, target, target))


def expected(mask: NDArray[Any], weight: float, width: float) -> NDArray[np.float64]:
    if mask.min() == mask.max():
        return np.ones(mask.shape)
    distance = distance_transform_edt(mask) + distance_transform_edt(1 - mask)
    return np.asarray(1 + weight * np.exp(-(distance**2) / (2 * width**2)))


@settings(max_examples=150, deadline=None)
@given(target=MASKS | BIG, weight=st.floats(0, 50), width=st.floats(0.1, 20))
def test_the_weights_are_those_of_scipys_distances(target: Any, weight: float, width: float) -> None:
    """Of each map of a batch by itself; torch has the same to the last bit."""
    found = weights(target, weight, width)
    assert (found.dtype, found.shape) == (np.float32, target.shape)
    for at in np.ndindex(target.shape[:-2]):
        np.testing.assert_allclose(found[at], expected(target[at], weight, width), rtol=1e-6)
    tensor = torch.from_numpy(target)
    np.testing.assert_array_equal(boundary_weighted(weight, width)(1 - tensor, tensor, tensor).numpy(), found)


@settings(max_examples=60, deadline=None)
@given(target=MASKS | BIG, reach=st.integers(1, 40))
def test_on_a_gpu_the_distances_are_the_same(target: Any, reach: int) -> None:
    """Whose way of computing them needs none."""
    found = tensor_distances(torch.from_numpy(target), reach)
    np.testing.assert_array_equal(found.numpy(), opencv_distances(target, reach))


@settings(max_examples=30, deadline=None)
@given(target=MASKS)
def test_both_kinds_and_all_directions_are_alike(target: Any) -> None:
    found = weights(target, 10, 5)
    np.testing.assert_array_equal(weights(1 - target, 10, 5), found)
    np.testing.assert_array_equal(weights(np.ascontiguousarray(target[..., ::-1, :]), 10, 5), found[..., ::-1, :])
    turned = np.swapaxes(target, -1, -2)  # a view whose rows lie apart
    np.testing.assert_array_equal(weights(turned, 10, 5), np.swapaxes(found, -1, -2))


@settings(max_examples=30, deadline=None)
@given(target=MASKS, seed=st.integers(0, 1000))
def test_an_episode_adds_up_to_the_weighted_error_that_is_gone(target: Any, seed: int) -> None:
    maps = np.random.default_rng(seed).integers(0, 2, (4, *target.shape), np.uint8)
    total = sum(boundary_weighted()(before, after, target) for before, after in itertools.pairwise(maps))
    gone = squared_error(maps[0], maps[-1], target)
    np.testing.assert_allclose(total, gone * weights(target, 10, 5), atol=1e-5)
    back = boundary_weighted()(maps[1], maps[0], target)
    np.testing.assert_array_equal(back, -boundary_weighted()(maps[0], maps[1], target))


@pytest.mark.parametrize("value", [0, 1])
def test_without_an_outline_it_is_equation_12(value: int) -> None:
    target = np.full((2, 6, 7), value, np.uint8)
    target[1, 2, 3] = 1 - value  # the other image of the batch has one
    found = weights(target, 10, 5)
    assert (found[0] == 1).all()
    assert found[1].min() > 1
    assert found[1, 2, 3] == pytest.approx(1 + 10 * np.exp(-1 / 50))


def test_no_weight_is_equation_12_and_text_makes_it() -> None:
    target = np.eye(5, dtype=np.uint8)
    assert (weights(target, 0, 5) == 1).all()
    reward = resolve_reward("boundary_weighted(4, 1.5)")
    assert reward == boundary_weighted(4, 1.5)
    assert str(reward) == "boundary_weighted(4, 1.5)"
    assert str(resolve_reward("boundary_weighted")) == "boundary_weighted(10, 5)"


@pytest.mark.parametrize(
    "options", [{"weight": -1}, {"weight": "x"}, {"weight": np.inf}, {"width": 0}, {"width": 101}, {"width": np.nan}]
)
def test_what_it_does_not_take(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(options))}=.*expected"):
        boundary_weighted(**options)
    assert str(boundary_weighted(1, 100)) == "boundary_weighted(1, 100)"  # the widest
