"""Maps that are signed, and `check_reward`: every fault that it is to find, planted."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch

from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv, balanced, register_reward, registered_rewards
from pixelseg_env.rewards import as_reward, check_reward, registry, resolve_reward, squared_error
from tests.helpers.env import random_actions, small_set


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REWARDS", dict(registry._REWARDS))


def textbook(previous: Any, current: Any, target: Any) -> Any:
    return (previous - target) ** 2 - (current - target) ** 2


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_eq12_as_a_textbook_has_it_costs_what_it_should(backend: str) -> None:
    """Differences of uint8 wrap: a mistake would earn +255."""
    ours, theirs = (
        PixelSegVectorEnv(2, small_set(), reward=reward, backend=backend, transition="restorable")
        for reward in (textbook, "squared_error")
    )
    for env in (ours, theirs):
        env.reset(seed=0)
    for action in random_actions((2, 12, 9), 3):
        found, expected = (np.asarray(env.step(action)[4]["reward_map"]) for env in (ours, theirs))
        np.testing.assert_array_equal(found, expected)
        assert found.min() == -1
    check_reward(textbook, graded=True)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(
    "function",
    [
        lambda p, c, t: 100 * ((p - t) ** 2 - (c - t) ** 2) * (1 + t),
        lambda p, c, t: (p - c) * 200 * -1,
        lambda p, c, t: (p - c) * 100 + (p - c) * 100,
        lambda p, c, t: (1000 * t - 500) * (c - p) ** 3,
    ],
)
def test_whole_numbers_of_any_size_are_what_they_are(function: Any, backend: str) -> None:
    """An object pixel that is lost costs 200, and does not earn 56."""
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 2, (3, 8, 9)).astype(np.uint8) for _ in range(3)]
    wide = function(*(one.astype(np.float64) for one in maps))
    given = maps if backend == "numpy" else [torch.from_numpy(one) for one in maps]
    np.testing.assert_array_equal(np.asarray(as_reward(function)(*given)), wide)


def test_maps_come_as_signed_numbers() -> None:
    seen: list[Any] = []

    def watching(previous: Any, current: Any, target: Any) -> Any:
        seen.extend((previous, current, target))
        return 0 * target

    for convert in (np.asarray, torch.from_numpy):
        arrays = [convert(np.ones((2, 3), np.uint8)) for _ in range(3)]
        seen.clear()
        as_reward(watching)(*arrays)
        for array, view in zip(arrays, seen, strict=True):
            assert str(view.dtype).removeprefix("torch.") == "int32"
            assert (view == 1).all()
            if convert is np.asarray:
                assert array.flags.writeable, "the caller's own arrays stay as they were"


def mixes(p: Any, c: Any, t: Any) -> Any:
    return squared_error(p, c, t) - squared_error(p, c, t).mean()


def mixes_neighbours(p: Any, c: Any, t: Any) -> Any:
    return c[::-1] * 1.0 if isinstance(c, np.ndarray) and c.ndim == 3 else c * 1.0


def draws(p: Any, c: Any, t: Any) -> Any:
    return squared_error(p, c, t) * np.random.default_rng().random()


class Remembers:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, p: Any, c: Any, t: Any) -> Any:
        self.calls += 1
        return squared_error(p, c, t) / self.calls


def writes(p: Any, c: Any, t: Any) -> Any:
    c[...] = 0
    return squared_error(p, c, t)


def writes_by_the_back_door(p: Any, c: Any, t: Any) -> Any:
    if isinstance(c, torch.Tensor):
        c.data.zero_()
    return squared_error(p, c, t)


class Learns(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, p: Any, c: Any, t: Any) -> Any:
        return self.weight * c if isinstance(c, torch.Tensor) else c * 1.0


def differs(p: Any, c: Any, t: Any) -> Any:
    return (c * 2.0) if isinstance(c, np.ndarray) else c * 1.0


def differs_by_little(p: Any, c: Any, t: Any) -> Any:
    return c * 1.0 if isinstance(c, np.ndarray) else c * 1.5 - 0.5


def unsigned(p: Any, c: Any, t: Any) -> Any:
    """Wraps by its own doing, and in NumPy alone."""
    return (c.astype(np.uint8) - t.astype(np.uint8)) if isinstance(c, np.ndarray) else c - t


def divides(p: Any, c: Any, t: Any) -> Any:
    return squared_error(p, c, t) / squared_error(p, c, t).sum((-1, -2))[..., None, None]


def shrinks(p: Any, c: Any, t: Any) -> Any:
    return c[..., 1:]


def mixes_steps(p: Any, c: Any, t: Any, step: Any) -> Any:
    return c * (step if isinstance(step, int) else step.max())


FAULTS = [
    (mixes, "mixes the images of a batch"),
    (mixes_neighbours, "mixes the images of a batch"),
    (mixes_steps, "mixes the images of a batch"),
    (draws, "not the same twice"),
    (Remembers(), "not the same twice"),
    (writes, "changes its inputs"),
    (writes_by_the_back_door, "NumPy and torch differ"),  # maps of 0 and 1 are copies, which it may spoil
    (Learns(), "keeps an autograd graph"),
    (differs, "NumPy and torch differ (2 and 1 at one pixel)"),
    (differs_by_little, "NumPy and torch differ (0 and -0.5 at one pixel)"),
    (unsigned, "NumPy and torch differ (255 and -1 at one pixel)"),
    (divides, "NaN or infinite"),
    (shrinks, "expected a map of shape"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("function", "words"), FAULTS, ids=lambda one: getattr(one, "__name__", None))
def test_faults_are_found_and_not_registered(function: Any, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_reward(function)
    assert words in str(caught.value)
    with pytest.raises(OptionError, match="'mine' cannot be registered") as caught:
        register_reward("mine", function)
    assert words in str(caught.value)
    assert "mine" not in registered_rewards()
    with pytest.raises(OptionError):  # as a part of another
        check_reward(0.5 * as_reward(function) + squared_error)


def fills_by_the_back_door(p: Any, c: Any, t: Any) -> Any:
    if isinstance(c, torch.Tensor):
        c.data.fill_(1)
    return squared_error(p, c, t)


@pytest.mark.parametrize("function", [writes_by_the_back_door, fills_by_the_back_door])
def test_a_write_to_maps_of_probabilities_is_found(function: Any) -> None:
    with pytest.raises(OptionError, match="changes its inputs"):
        check_reward(function, graded=True)


def test_what_functions_are_tried_on() -> None:
    """Maps of 0 and 1, of every kind that makes a difference, at every step of an episode."""
    seen: list[Any] = []

    def watching(p: Any, c: Any, t: Any, step: Any, horizon: Any, image: Any, action: Any) -> Any:
        if isinstance(t, np.ndarray) and t.ndim == 2:  # one image
            seen.append((p, c, t, step, horizon, image, action))
        return 0 * t

    check_reward(watching)
    thorough = len(seen)
    register_reward("watching", watching)
    quick, seen = seen[thorough:], seen[:thorough]
    assert 0 < len(quick) < thorough / 2
    for some in (quick, seen):
        previous, current, target, step, horizon, image, action = map(np.array, zip(*some, strict=True))
        assert all(set(np.unique(one)) == {0, 1} for one in (previous, current, target, action))
        assert 0.3 < action.mean() < 0.7
        assert image.shape[1] > 1
        assert ((step >= 1) & (step <= horizon)).all()
        share = target.mean(axis=(1, 2))
        mixed = (share > 0.2) & (share < 0.8)
        right, wrong = ((one == target).all(axis=(1, 2)) for one in (previous, 1 - previous))
        assert (right & mixed).any()
        assert (wrong & mixed).any()
        assert (mixed & ~right & ~wrong & (previous != previous[:, :1, :1]).any(axis=(1, 2))).any(), "at random"
    assert (horizon.min(), horizon.max()) == (1, 10)
    assert {0, 1, target[0].size} <= set(target[right].sum(axis=(1, 2)).tolist()), "nothing, one pixel, everything"


@pytest.mark.parametrize("found", ["much", None, [[1.0], [1.0, 2.0]]])
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_what_is_no_map_is_refused(found: Any, convert: Any) -> None:
    maps = [convert(np.ones((2, 3), np.uint8)) for _ in range(3)]
    with pytest.raises(OptionError, match="map of numbers"):
        as_reward(lambda p, c, t: found)(*maps)


def test_what_is_right_passes() -> None:
    for name in registered_rewards():
        check_reward(resolve_reward(name), graded=True)
        check_reward(resolve_reward(name), labels=2)
    check_reward(balanced)
    check_reward((0.7 * squared_error - 0.1 * as_reward(textbook)).clip(-0.5, 0.5))
    check_reward(lambda p, c, t, step, horizon, image, action: c * image[..., 0, :, :] * (step / horizon) - action)


def test_labels_are_tried_where_there_are() -> None:
    def of_one_label(p: Any, c: Any, t: Any, image: Any) -> Any:
        return c * image[..., 0, :, :]

    def each_label(p: Any, c: Any, t: Any, image: Any) -> Any:
        return c * (image[..., :1, :, :] if c.ndim == image.ndim else image[..., 0, :, :])

    check_reward(of_one_label)
    check_reward(each_label, labels=3)
    with pytest.raises(OptionError, match="broadcast"):
        check_reward(of_one_label, labels=3)


def test_functions_for_one_kind_or_size() -> None:
    def numpy_alone(p: Any, c: Any, t: Any) -> Any:
        return c.astype(np.float32)

    def torch_alone(p: Any, c: Any, t: Any) -> Any:
        return c.float()

    def one_size(p: Any, c: Any, t: Any) -> Any:
        return c * np.ones((12, 9), np.float32) if isinstance(c, np.ndarray) else c * torch.ones(12, 9)

    for function, backend, kind in ((numpy_alone, "numpy", "torch tensors"), (torch_alone, "torch", "NumPy arrays")):
        with pytest.raises(OptionError, match=f"fails on {kind}"):
            check_reward(function)
        check_reward(function, backends=(backend,))
        register_reward(f"for_{backend}", function)
    with pytest.raises(OptionError, match=r"shape=\(H, W\)"):
        check_reward(one_size)
    check_reward(one_size, shape=(12, 9))
    register_reward("one_size", one_size)
    with pytest.raises(OptionError, match="backends='jax'"):
        check_reward(one_size, backends=("jax",))
    with pytest.raises(OptionError, match="fails on NumPy arrays"):
        check_reward(lambda p, c, t: p ^ t, graded=True, backends=("numpy",))


def test_registering_is_quick_and_leaves_torch_alone() -> None:
    start = time.perf_counter()
    for i in range(10):
        register_reward(f"quick{i}", textbook)
    assert time.perf_counter() - start < 2
    code = (
        "import sys, pixelseg_env as p; p.register_reward('mine', lambda a, b, c: a - b);"
        "p.rewards.resolve_reward('0.5*mine + sign'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_numpy_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    check_reward(lambda p, c, t: c * 1.0)
    with pytest.raises(OptionError, match="map of shape"):
        check_reward(shrinks)


def test_a_graph_is_refused_in_a_step_too() -> None:
    env = PixelSegVectorEnv(2, small_set(), backend="torch", reward=Learns())
    env.reset(seed=0)
    with pytest.raises(OptionError, match="no_grad"):
        env.step(np.ones((2, 12, 9), np.int8))
    single = PixelSegEnv(small_set(), reward=Learns())
    single.reset(seed=0)
    single.step(np.ones((12, 9), np.int8))
