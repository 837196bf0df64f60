"""What several seeds say: rliable's formulas (Agarwal et al. 2021, arXiv 2108.13264), computed by SciPy.

Scores are float64 (S, P): one row per seed, one column per task, which here is a test patient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, mannwhitneyu, trim_mean

Scores = NDArray[np.float64]
RESAMPLES = 2000


def interquartile_mean(scores: Scores) -> float:
    """The mean of the middle half of all scores."""
    return float(trim_mean(scores, 0.25, axis=None))


def interval(scores: Scores, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the interquartile mean by the stratified bootstrap over runs.

    A run is one training, judged on all patients, so runs are drawn whole: a good network is good on many patients at
    once. (In rliable a run is of one task, and tasks are the strata; here the data set is the stratum.) The interval
    speaks of the seeds alone, for other patients were not drawn; with three seeds there are ten different draws, so it
    is little more than their range. With one seed there is nothing to draw from, and both ends are NaN.
    """
    if len(scores) < 2:
        return float("nan"), float("nan")

    def statistic(*tasks: Any, axis: int = -1) -> Any:
        together = np.moveaxis(np.stack([np.moveaxis(np.asarray(task), axis, -1) for task in tasks]), 0, -1)
        return trim_mean(together.reshape(*together.shape[:-2], -1), 0.25, axis=-1)

    found = bootstrap(
        tuple(scores.T),
        statistic,
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def difference(scores: Scores, others: Scores, seed: int = 0) -> tuple[float, float, float]:
    """Mean over patients of the difference between two agents, each patient's mean over seeds, and its 95 % interval.

    The interval is the paired percentile bootstrap over patients: it speaks of other patients, not of other seeds.
    With fewer than six patients its ends are NaN.
    """
    apart = scores.mean(axis=0) - others.mean(axis=0)
    if len(apart) < 6:
        return float(apart.mean()), float("nan"), float("nan")
    found = bootstrap(
        (apart,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(apart.mean()), float(found.low), float(found.high)


def crossed_difference(scores: Scores, others: Scores, seed: int = 0) -> tuple[float, float, float]:
    """As `difference`, with an interval over seeds as well: both are drawn, each by itself, and crossed (Owen 2007).

    Row s of both is one seed: they are compared as pairs. With one seed the interval is over patients alone.
    """
    apart = scores - others
    seeds, patients = apart.shape
    mean = float(apart.mean())
    if patients < 6:
        return mean, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    columns = rng.multinomial(patients, np.full(patients, 1 / patients), RESAMPLES) / patients
    low, high = np.quantile(((rows @ apart) * columns).sum(axis=1), (0.025, 0.975))
    return mean, float(low), float(high)


def probability_of_improvement(scores: Scores, others: Scores) -> float:
    """P(X > Y), a seed of one agent against a seed of another on the same task; mean over tasks, ties count half."""
    wins = [
        mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
        for ours, theirs in zip(scores.T, others.T, strict=True)
    ]
    return float(np.mean(wins))


def share_that_gained(after: Scores, before: Scores) -> float:
    """The share of seed and task pairs whose score has grown, ties count half: both are of the same networks."""
    return float(np.mean(np.where(np.isclose(after, before, rtol=0, atol=1e-6), 0.5, after > before)))
