"""The comparison with the supervised twin: fair, repeatable, and the same agent that `pixelseg train` makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.cli import main as pixelseg
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.schedule import TrainingSchedule

from benchmarks.ablations import CHANGES, updates_for
from benchmarks.compare import Compare
from benchmarks.records import read_records, write_record
from benchmarks.report import comparison
from benchmarks.speed import Speed, measure
from benchmarks.twin import SupervisedTwin

TINY: dict[str, Any] = {"splits": ("test",), "size": 16, "updates": 6, "batch": 4, "hyper": PA3CConfig(width=0.125)}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("records")
    compare = Compare(out=out, **TINY)
    for learner in compare.learners:
        compare.cell(learner, 0)
    return out


def by_learner(folder: Path) -> dict[str, dict[str, Any]]:
    return {record["learner"]: record for record in read_records(folder)}


def test_learners_get_equal_passes_data_and_network(records: Path) -> None:
    rows = by_learner(records)
    trained = [rows[name] for name in ("pa3c", "twin-plain", "twin-weighted")]
    assert len({row["image_passes"] for row in trained}) == 1
    assert len({row["parameters"] for row in trained}) == 1
    cases = [[image["case"] for image in row["evaluation"]["per_case"]] for row in rows.values()]
    assert all(case == cases[0] for case in cases)
    assert [row["evaluation"]["summary"]["horizon"] for row in trained] == [10, 1, 1]
    assert rows["twin-plain"]["config"]["foreground_weight"] == 1.0
    assert rows["twin-weighted"]["config"]["foreground_weight"] is None


def test_the_row_of_pa3c_is_what_pixelseg_train_makes(records: Path, tmp_path: Path) -> None:
    words = "train --size 16 --updates 6 --batch 4 --width 0.125 --seed 0 --log none --device cpu"
    assert pixelseg([*words.split(), "--out", str(tmp_path / "run")]) == 0
    by_cli = json.loads((tmp_path / "run/evaluation.json").read_text())
    by_script = by_learner(records)["pa3c"]["evaluation"]
    assert by_script["summary"]["dice_by_step"] == pytest.approx(by_cli["summary"]["dice_by_step"], abs=1e-5)


def test_finished_cells_are_skipped(records: Path) -> None:
    path = next(records.glob("*otsu*"))
    marked = json.loads(path.read_text()) | {"name": "untouched"}
    write_record(path, marked)
    Compare(out=records, **TINY).cell("otsu", 0)
    assert json.loads(path.read_text())["name"] == "untouched"
    with pytest.raises(SystemExit, match="was made with"):
        Compare(out=records, **(TINY | {"updates": 7})).cell("otsu", 0)


def test_report_has_a_row_per_learner_and_the_mean_over_seeds() -> None:
    def record(learner: str, seed: int, dice: float) -> dict[str, Any]:
        metrics = {name: {"mean": dice, "patient_mean": dice} for name in ("DICE", "PPV", "SEN", "IoU", "BIoU", "HD95")}
        summary = {"metrics": metrics, "dice_by_step": [dice]}
        about = {"learner": learner, "seed": seed, "parameters": 1, "image_passes": 1000, "cpu_seconds": 60}
        return about | {"evaluation": {"summary": summary}}

    lines = comparison([record("pa3c", 0, 0.5), record("pa3c", 1, 0.7)]).splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["0.500", "0.700", "0.600"]


def test_the_twin_learns_and_does_not_look_at_rewards() -> None:
    def env(split: str) -> Any:
        return gym.make_vec("PixelSegEnv-v0", num_envs=8, split=split, size=32, count=150, horizon=1)

    torch.set_num_threads(1)
    twin = SupervisedTwin(env("train"), width=0.125, learning_rate=3e-3, foreground_weight=1.0, device="cpu")
    before = float(evaluate(twin, env("test")).metrics["DICE"].mean())
    twin.learn(150)
    after = float(evaluate(twin, env("test")).metrics["DICE"].mean())
    assert after > 0.6 > before
    assert twin.passes == 150 * 8


@pytest.mark.parametrize("name", CHANGES)
def test_ablations_get_equal_passes(name: str) -> None:
    config = PA3CConfig(**CHANGES[name]).for_task("absorbing", "masked")
    plan = TrainingSchedule(updates_for(config, 12_000, 8), config.horizons, config.shares)
    assert plan.total_passes * 8 == pytest.approx(12_000, rel=0.01)


def test_speed_counts_pixel_steps() -> None:
    row = measure(Speed(device="cpu", updates=2, batch=2), size=16, width=0.125, head_stride=4, horizon=2)
    assert row["pixel_steps_per_second"] == pytest.approx(16 * 16 * 2 * 2 / row["seconds_per_update"])
    assert np.isfinite(row["milliseconds_per_image_pass"])


def test_start_from_published_settings() -> None:
    agent = PA3C(gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=20), PA3CConfig.published(width=0.125))
    assert agent.config.horizons == (10,)
    assert agent.config.norm == "none"
    agent.learn(2)
    assert agent.passes == 2 * 2 * 10
