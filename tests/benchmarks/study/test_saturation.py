"""How the published settings end is told as it happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.study.saturation import CHANGES, saturated_at, told, watching
from benchmarks.study.saturation_figure import draw
from pixelseg_agents import PA3CConfig
from pixelseg_env import load_dataset


class Known:
    """Keeps what is bright with one probability and what is dark with another."""

    updates = 0

    def __init__(self, bright: float, dark: float) -> None:
        self.bright, self.dark = bright, dark

    def keep_probability(self, observation: Any) -> Any:
        return np.where(np.asarray(observation)[:, 0] > 0.5, self.bright, self.dark).astype(np.float32)


def test_what_is_noted_is_what_the_policy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.study.saturation.evaluate", lambda *_: pytest.fail("not at this update"))
    dataset = load_dataset("phantom", split="all", count=40, size=16)
    curves: dict[str, list[Any]] = {"undecided": [], "keep_object": [], "keep_background": [], "dice": []}
    note, agent = watching(dataset, 10, curves), Known(1.0, 0.3)
    agent.updates = 1
    note(agent)
    chosen = np.linspace(0, 39, 16).round().astype(int)
    images, targets = dataset.batch(chosen)
    bright, masks = images[:, 0] > 0.5, targets.astype(bool).reshape(16, 16, 16)
    assert curves["undecided"] == [pytest.approx((~bright).mean())], "a probability of 1 cannot be learnt from"
    keep = np.where(bright, 1.0, 0.3)
    assert curves["keep_object"] == [pytest.approx(keep[masks].mean(), abs=1e-6)]
    assert curves["keep_background"] == [pytest.approx(keep[~masks].mean(), abs=1e-6)]


@pytest.mark.parametrize(
    ("undecided", "at"), [((1.0, 0.5, 0.01, 0.0), 2), ((1.0, 0.0, 0.5), 1), ((1.0, 0.5, 0.02), None), ((0.0,), 0)]
)
def test_when_it_saturated(undecided: tuple[float, ...], at: int | None) -> None:
    row = {"undecided": undecided, "setting": "published", "seed": 0, "validation_dice": 0.5}
    assert saturated_at(row) == at
    assert ("never" in told(row)) == (at is None)


def test_every_change_is_one_of_the_published_settings(tmp_path: Path) -> None:
    published = PA3CConfig.published()
    for change in CHANGES.values():
        assert published.replace(**change) != published or not change
    length = {"undecided": 21, "keep_object": 21, "keep_background": 21, "dice": 3}
    rows = [
        {"setting": name, "seed": seed, "every": 10, "validation_dice": 0.5} | {k: [0.5] * n for k, n in length.items()}
        for name in list(CHANGES)[:4]
        for seed in (0, 1)
    ]
    draw({"rows": rows}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
