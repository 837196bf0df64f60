"""What a run's config.json says is in force is what the agent uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixelseg_agents.cli import main
from pixelseg_agents.learning.precision import Mode
from pixelseg_env import load_dataset
from tests.helpers.cli import PHANTOM, TINY


@pytest.mark.parametrize(("agent", "used"), [("amp-drl", False), ("pa3c", True)])
def test_hyperparameters_that_an_agent_does_not_use_are_not_in_force(
    agent: str, used: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--dataset",
        "phantom",
        "--size",
        "16",
        "--dataset-option",
        "count=10",
        "--updates",
        "1",
        "--width",
        "0.03",
    ]
    assert (
        main(["train", "--agent", agent, *words, "--preset", "whole", "--horizon", "1", "--out", str(tmp_path / "run")])
        == 0
    )
    in_force = json.loads((tmp_path / "run" / "config.json").read_text())["in_force"]
    assert ("later_background_weight" in in_force) == used
    ratio = load_dataset("phantom", split="train", size=16, count=10).class_ratio
    falls = f"{ratio:.3g}, falling to 1; of background pixels after the first step: 0.25"
    weight, said = (ratio, falls) if used else (1.0, "1")  # AMP-DRL begins with 1
    assert in_force["start_foreground_weight"] == pytest.approx([weight])
    assert f"reward squared_error; weight of object pixels: {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize(("asked", "told"), [("auto", True), ("fp32", False)])
def test_what_was_measured_is_told_whatever_it_is(
    asked: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pixelseg_agents.learner.fastest_mode", lambda *_: Mode())
    words = [*TINY, *PHANTOM, "--log", "bar", "--eval-every", "0", "--updates", "1", "--precision", asked]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    assert ("; passes in fp32\n" in capsys.readouterr().out) == told
    assert json.loads((tmp_path / "run" / "config.json").read_text())["in_force"]["passes"] == "fp32"
