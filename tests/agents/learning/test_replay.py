"""The replay: what comes out is what went in, it is small, and it is never the slow part."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_agents.learning.replay import ReplayBuffer
from pixelseg_agents.networks.unet import QNetwork
from pixelseg_env import OptionError, load_dataset


def batch(rng: np.random.Generator, count: int, shape: tuple[int, ...], first: int) -> dict[str, Any]:
    maps = [torch.from_numpy(rng.integers(0, 2, (count, *shape)).astype(np.uint8)) for _ in range(3)]
    return {
        "index": np.arange(first, first + count),
        "step": int(rng.integers(1000)),
        "before": maps[0],
        "action": maps[1].bool(),
        "after": maps[2],
        "terminal": rng.random(count) < 0.5,
    }


@given(
    st.sampled_from([(1, 1), (3, 5), (8, 8), (7, 9), (2, 4, 5)]),
    st.integers(1, 20),
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_what_comes_out_is_what_went_in(shape: tuple[int, ...], capacity: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    replay, stored = ReplayBuffer(capacity, shape), []
    for count in counts:
        one = batch(rng, count, shape, first=len(stored))
        replay.add(**one)
        for i in range(count):
            stored.append([one["step"], *(one[key][i] for key in ("before", "action", "after", "terminal"))])
    kept = range(max(0, len(stored) - capacity), len(stored))
    assert len(replay) == len(kept)
    drawn = replay.sample(200, torch.Generator().manual_seed(seed % 1000))
    assert set(drawn.index) <= set(kept), "the oldest make room"
    for i, number in enumerate(drawn.index):
        step, before, action, after, terminal = stored[number]
        assert int(drawn.step[i]) == step
        assert bool(drawn.terminal[i]) == terminal
        for name, value in (("before", before), ("action", action), ("after", after)):
            found = getattr(drawn, name)[i]
            assert found.dtype == torch.uint8
            assert torch.equal(found, value.to(torch.uint8)), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_replay_on_cuda_draws_what_one_on_the_cpu_draws() -> None:
    drawn = []
    for device in ("cpu", "cuda"):
        replay = ReplayBuffer(16, (5, 9), device)
        maps = torch.rand((3, 10, 5, 9), generator=torch.Generator().manual_seed(0)) < 0.5
        replay.add(np.arange(10), 1, *maps, np.arange(10) > 5)
        drawn.append(replay.sample(20, torch.Generator().manual_seed(1)))
    for one, other in zip(*(vars(batch).values() for batch in drawn), strict=True):
        np.testing.assert_array_equal(np.asarray(one), other.cpu().numpy() if torch.is_tensor(other) else other)


def test_draws_are_uniform_and_repeatable() -> None:
    replay, rng = ReplayBuffer(10, (2, 2)), np.random.default_rng(0)
    for first in range(10):
        replay.add(**batch(rng, 1, (2, 2), first))
    drawn = replay.sample(20_000, torch.Generator().manual_seed(0)).index
    assert np.bincount(drawn, minlength=10) == pytest.approx(2000, rel=0.1)
    assert np.array_equal(drawn, replay.sample(20_000, torch.Generator().manual_seed(0)).index)


def test_a_hundred_thousand_transitions_of_256_fit_into_three_gigabytes() -> None:
    few = ReplayBuffer(100, (256, 256))
    assert few.nbytes * 1000 <= 3e9
    assert few.nbytes / 100 == 3 * 256 * 256 / 8 + 8 + 4 + 1


def test_sampling_is_faster_than_the_network() -> None:
    torch.set_num_threads(1)
    replay, rng = ReplayBuffer(64, (64, 64)), np.random.default_rng(0)
    for first in range(0, 64, 8):
        replay.add(**batch(rng, 8, (64, 64), first))
    dataset = load_dataset("phantom", size=64, count=64, split="all")
    network = QNetwork(1, 0.25)
    draws = torch.Generator().manual_seed(0)
    ratios = []
    for _ in range(10):  # in turns, so that other work on the machine slows both
        begun = time.perf_counter()
        images, _ = map(torch.from_numpy, dataset.batch(replay.sample(8, draws).index))
        sampled = time.perf_counter()
        with torch.no_grad():
            network(images)
        ratios.append((sampled - begun) / (time.perf_counter() - sampled))
    assert np.median(ratios) < 1


@pytest.mark.parametrize("count", [3, 5, 7])  # of 5: with room, just full, and the oldest overwritten
def test_what_is_put_back_goes_on_as_the_first_would(count: int) -> None:
    replay, other = ReplayBuffer(5, (3, 5)), ReplayBuffer(5, (3, 5))
    for first in range(count):
        replay.add(**batch(np.random.default_rng(first), 1, (3, 5), first))
    kept = replay.contents()
    other.add(**batch(np.random.default_rng(9), 2, (3, 5), 9))
    other.restore(kept)
    for again in range(2):
        drawn = [one.sample(50, torch.Generator().manual_seed(again)) for one in (replay, other)]
        for name, value in vars(drawn[0]).items():
            np.testing.assert_array_equal(value, getattr(drawn[1], name), err_msg=name)
        for one in (replay, other):
            one.add(**batch(np.random.default_rng(20), 3, (3, 5), 20))
        assert len(replay) == len(other) == 5
    other.clear()
    assert len(other) == 0


def test_what_does_not_fit_is_not_put_back() -> None:
    small, others = ReplayBuffer(2, (3, 5)), [ReplayBuffer(5, shape) for shape in ((3, 6), (2, 4))]
    replay = ReplayBuffer(5, (3, 5))
    replay.add(**batch(np.random.default_rng(0), 3, (3, 5), 0))
    sound = replay.contents()
    with pytest.raises(ValueError, match="3 transitions, the next at 3, in a replay of 2"):
        small.restore(sound)
    for other in others:
        with pytest.raises(ValueError, match="expected uint8"):
            other.restore(sound)
    with pytest.raises(ValueError, match="expected uint8"):
        replay.restore(sound | {"maps": sound["maps"].int()})
    for following in (-1, 0, 2, 4):
        with pytest.raises(ValueError, match=f"the next at {following}"):
            replay.restore(sound | {"next": torch.tensor(following)})
    for name in ("step", "terminal", "index"):
        for wrong in (sound[name][1:], sound[name].repeat(2)):
            with pytest.raises(ValueError, match="not as many"):
                replay.restore(sound | {name: wrong})
    replay.add(**batch(np.random.default_rng(1), 2, (3, 5), 3))
    full = replay.contents()
    for following in (-1, 5):
        with pytest.raises(ValueError, match=f"the next at {following}"):
            replay.restore(full | {"next": torch.tensor(following)})
    replay.restore(full | {"next": torch.tensor(4)})


def test_a_replay_of_one_transition_holds_the_last() -> None:
    replay = ReplayBuffer(1, (2, 2))
    for first in range(3):
        replay.add(**batch(np.random.default_rng(first), 1, (2, 2), first))
    assert replay.sample(4, torch.Generator()).index.tolist() == [2] * 4


def test_a_replay_that_does_not_fit_or_is_empty_is_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        ReplayBuffer(0, (8, 8))
    with pytest.raises(OptionError, match=r"choose a smaller replay_size"):
        ReplayBuffer(10**12, (512, 512))
