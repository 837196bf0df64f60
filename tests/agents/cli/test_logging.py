"""Where a training's rows go besides progress.csv: TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pixelseg_agents.cli import main
from tests.helpers.cli import PHANTOM, TINY, config_of, rows_of, train_tiny


class FakeRun:
    def __init__(self, said: dict[str, Any]) -> None:
        self.said, self.rows, self.finished = said, [], False

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """What a training tells Weights & Biases, a session each."""
    runs: list[FakeRun] = []
    module = ModuleType("wandb")
    module.init = lambda **said: runs.append(FakeRun(said)) or runs[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_event_files_and_wandb_hold_the_rows_of_progress_csv(tmp_path: Path, wandb: list[FakeRun]) -> None:
    run = tmp_path / "run"
    assert train_tiny(run, "--tensorboard", "on", "--wandb", "phantoms") == 0
    time.sleep(1.1)  # event files of one process and second are not in their order
    assert main(["train", "--resume", str(run), "--updates", "10"]) == 0
    rows = rows_of(run)
    assert [float(row["time/updates"]) for row in rows] == [4, 6, 8, 10]
    for tag in ("train/reward", "train/dice", "eval/dice", "train/foreground_weight"):
        expected = [(int(float(row["time/updates"])), float(row[tag])) for row in rows if row[tag]]
        assert len(expected) >= 2, tag
        assert scalars(run, tag) == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
        logged = [(step, values[tag]) for one in wandb for step, values in one.rows if tag in values]
        assert logged == [(step, pytest.approx(value)) for step, value in expected]
    assert len(wandb) == 2, "a session each"
    assert all(one.finished for one in wandb)
    assert {(one.said["project"], one.said["id"], one.said["resume"]) for one in wandb} == {
        ("phantoms", "run", "allow")
    }
    assert wandb[0].said["config"] == json.loads(json.dumps(config_of(run)["arguments"])) | {"updates": 6}


@pytest.mark.parametrize(
    ("package", "words"), [("wandb", ["--wandb", "phantoms"]), ("tensorboard", ["--tensorboard", "on"])]
)
def test_a_missing_package_is_said_before_anything_is_done(
    package: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code = main(["train", *TINY, *PHANTOM, "--updates", "2", "--out", str(tmp_path / "run"), *words])
    assert code == 2
    assert f"--{package}: {package} is not installed; pip install {package}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
