"""What changes while training goes on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_agents import PA3CConfig, PixelRLConfig
from pixelseg_agents.learning.schedule import WEIGHT_FALLS_UNTIL, TrainingSchedule, falling_weight, stage_lengths
from pixelseg_env.dynamics import AMOUNTS

STAGES = st.lists(st.tuples(st.integers(1, 20), st.floats(0.05, 5)), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(total=st.integers(1, 3000), stages=STAGES)
def test_lengths_add_up_and_progress_rises_from_0_to_1(total: int, stages: list[tuple[int, float]]) -> None:
    horizons, shares = zip(*stages, strict=True)
    lengths = stage_lengths(total, horizons, shares)
    assert sum(lengths) == total
    assert min(lengths) >= 0
    schedule = TrainingSchedule(total, horizons, shares)
    used = [schedule.horizon(u) for u in range(total)]
    assert used == [h for h, n in zip(horizons, lengths, strict=True) for _ in range(n)]
    done = 0
    for update in range(total + 1):
        assert schedule.progress(update) == pytest.approx(done / sum(used))
        done += used[update] if update < total else 0
    assert schedule.progress(0) == 0
    assert schedule.progress(total) == schedule.progress(total + 9) == 1
    assert schedule.horizon(total + 9) == horizons[-1]


def test_each_stage_gets_its_share_of_the_steps() -> None:
    horizons, shares = (1, 3, 10), (0.6, 0.2, 0.2)
    lengths = stage_lengths(20_000, horizons, shares)
    passes = [h * n for h, n in zip(horizons, lengths, strict=True)]
    assert [p / sum(passes) for p in passes] == pytest.approx(shares, abs=1e-3)
    assert stage_lengths(20_000, horizons, [10 * s for s in shares]) == lengths, "only their ratio counts"


def test_falling_weight() -> None:
    assert falling_weight(0, 20, 2) == 20
    assert falling_weight(WEIGHT_FALLS_UNTIL / 2, 20, 2) == pytest.approx(40**0.5)
    assert falling_weight(0.6, 16, 1) == pytest.approx(2), "it falls until 80 % of the steps"
    for progress in (0.8, 0.9, 1):
        assert falling_weight(progress, 20, 2) == pytest.approx(2)
    assert falling_weight(0.4, 1, 1) == 1
    values = [falling_weight(p / 50, 30, 1) for p in range(51)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("config", "expected"), [(PA3CConfig, (0.6, 0.2, 0.2)), (PixelRLConfig, (0.3, 0.35, 0.35))])
def test_shares_of_the_horizons(config: type[PA3CConfig], expected: tuple[float, ...]) -> None:
    assert config(horizons=(1, 3, 10)).shares == pytest.approx(expected)
    assert config(horizons=(10,)).shares == (1.0,)
    assert config(horizons=(1, 10), horizon_shares=(0.5, 0.5)).shares == (0.5, 0.5)


def test_standing_still_is_worth_more_than_pixelrls_entropy() -> None:
    """A tenth off a right 1 costs 0.01 by Eq. 12; an entropy coefficient above that would pay for it."""
    smallest = min(abs(amount) for amount in AMOUNTS)
    assert PixelRLConfig().entropy_coefficient <= smallest**2 / 5
    assert PixelRLConfig.published().entropy_coefficient == PixelRLConfig().entropy_coefficient
    assert PixelRLConfig.published().horizons == PA3CConfig.published().horizons


@settings(max_examples=100, deadline=None)
@given(total=st.integers(50, 3000), every=st.integers(2, 12))
def test_previews_are_counted_and_leave_every_stage_its_share(total: int, every: int) -> None:
    plan = TrainingSchedule(total, (1, 3, 10), (0.6, 0.2, 0.2), every)
    used = [plan.horizon(u) for u in range(total)]
    assert plan.total_steps == sum(used)
    first, second, _ = plan.lengths
    assert set(used[:first]) <= {1, 3}
    assert used[:first].count(3) == first // every
    assert used[first : first + second].count(10) == second // every
    assert set(used[first + second :]) <= {10}
    assert sum(used[:first]) == pytest.approx(0.6 * plan.total_steps, abs=30)
    assert [plan.progress(u) for u in (0, first, total)] == pytest.approx([0, sum(used[:first]) / sum(used), 1])
