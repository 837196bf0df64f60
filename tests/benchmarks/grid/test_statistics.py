"""What is said over seeds is what the cited formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.grid.statistics import (
    crossed_difference,
    difference,
    interquartile_mean,
    interval,
    probability_of_improvement,
    share_that_gained,
)


def test_statistics_are_the_cited_ones() -> None:
    rng = np.random.default_rng(0)
    scores, others = rng.random((4, 6)), rng.random((5, 6))
    ordered = np.sort(scores.reshape(-1))
    assert interquartile_mean(scores) == pytest.approx(ordered[6:18].mean())
    wins = np.mean([(a > b) + 0.5 * (a == b) for k in range(6) for a in scores[:, k] for b in others[:, k]])
    assert probability_of_improvement(scores, others) == pytest.approx(wins)
    low, high = interval(scores)
    resampled = []
    for _ in range(2000):  # rliable's with the data set as the stratum: a run is drawn with all its patients
        drawn = scores[rng.integers(0, 4, 4)]
        resampled.append(np.sort(drawn.reshape(-1))[6:18].mean())
    assert [low, high] == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.02)
    assert np.isnan(interval(scores[:1])).all()


@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_statistics_keep_their_bounds(seeds: int, tasks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((seeds, tasks))
    low, high = interval(scores)
    assert scores.min() - 1e-9 <= low <= high <= scores.max() + 1e-9
    assert probability_of_improvement(scores, scores) == pytest.approx(0.5)
    assert probability_of_improvement(scores + 2, scores) == 1
    assert interquartile_mean(scores + 1) == pytest.approx(interquartile_mean(scores) + 1)


def test_intervals_draw_whole_runs() -> None:
    """A good network is good on many patients at once: with seeds 0.1 apart on every patient, the mean is not sure."""
    scores = np.linspace(0.4, 0.6, 13) + np.array([[-0.1], [0.0], [0.1]])
    low, high = interval(scores)
    assert high - low > 0.15


def test_a_difference_is_of_patients() -> None:
    rng = np.random.default_rng(1)
    scores, others = rng.random((3, 12)), rng.random((2, 12))
    apart = scores.mean(0) - others.mean(0)
    mean, low, high = difference(scores, others)
    assert mean == pytest.approx(apart.mean())
    resampled = apart[rng.integers(0, 12, (4000, 12))].mean(1)
    assert [low, high] == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.02)
    paired = difference(scores + 0.1, scores)
    assert paired == pytest.approx([0.1] * 3), "patients are far apart, but every one gains the same"
    mean, low, high = difference(scores[:, :5], others[:, :5])
    assert mean == pytest.approx(apart[:5].mean())
    assert np.isnan([low, high]).all()


def test_a_gain_is_that_of_the_same_network() -> None:
    before = np.array([[0.1, 0.5], [0.8, 0.5]])
    assert share_that_gained(before + 0.01, before) == 1, "though seeds differ by far more"
    assert share_that_gained(before, before) == 0.5
    assert share_that_gained(before + np.array([[0.1, 0], [-0.1, 1e-9]]), before) == 0.5


def test_an_interval_over_seeds_too_is_the_bootstrap_that_crosses_both() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((3, 8)) + np.array([[0.0], [0.5], [1.0]])
    others = rng.random((3, 8))
    mean, low, high = crossed_difference(scores, others)
    apart = scores - others
    drawn = [apart[np.ix_(rng.integers(0, 3, 3), rng.integers(0, 8, 8))].mean() for _ in range(4000)]
    assert mean == pytest.approx(apart.mean())
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.04)
    assert high - low > 1.5 * np.ptp(difference(scores, others)[1:]), "seeds that differ make it wider"
    one = crossed_difference(scores[:1], others[:1])
    assert one == pytest.approx(difference(scores[:1], others[:1]), abs=0.03)
    assert np.isnan(crossed_difference(scores[:, :5], others[:, :5])[1:]).all()
