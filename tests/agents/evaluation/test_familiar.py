"""Patients who look unlike those that an agent was trained on are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pixelseg_agents.cli import main
from pixelseg_agents.evaluation.familiar import looks_of, unfamiliar, warning_of
from pixelseg_env import SegmentationDataset
from tests.helpers.cli import PHANTOM, config_of, train_tiny
from tests.helpers.figures import undrawn


def patients(brightness: list[float], repeated: bool = False) -> SegmentationDataset:
    """Two slices of 8x8 pixels in two channels for each patient."""
    rng = np.random.default_rng(0)
    images = np.stack([np.clip(value + rng.normal(0, 0.02, (2, 2, 8, 8)), 0, 1) for value in brightness])
    images = images.reshape(-1, 2, 8, 8).astype(np.float32)
    if repeated:
        images[-2:, 1] = images[-2:, 0]
    cases = [f"p{k}" for k in range(len(brightness)) for _ in range(2)]
    return SegmentationDataset.from_arrays(images, rng.integers(0, 2, (len(images), 8, 8)), cases=cases)


def test_only_those_outside_of_the_range_are_named() -> None:
    looks = looks_of(patients([0.2, 0.3, 0.4]))
    assert json.loads(json.dumps(looks)) == looks
    assert unfamiliar(patients([0.2, 0.3, 0.4]), looks) == {}
    found = unfamiliar(patients([0.45, 0.05, 0.3, 0.9]), looks)
    assert found.keys() == {"p1", "p3"}
    assert "channel 1 is 0.90 bright in the mean, trained on 0.20 to 0.40" in found["p3"]
    assert "2 of 4 patients" in warning_of(found, 4)
    assert warning_of({}, 4) == ""


def test_channels_that_are_the_same_are_named_where_training_had_none() -> None:
    with_them, without = patients([0.2, 0.3], repeated=True), patients([0.2, 0.3])
    assert unfamiliar(with_them, looks_of(without)).keys() == {"p1"}
    assert unfamiliar(with_them, looks_of(with_them)) == {}


def test_two_of_three_channels_may_be_the_same() -> None:
    images = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    plain = SegmentationDataset.from_arrays(images, np.ones((2, 8, 8)), cases=["a", "b"])
    images = images.copy()
    images[1, 2] = images[1, 0]
    changed = SegmentationDataset.from_arrays(images, np.ones((2, 8, 8)), cases=["a", "b"])
    assert unfamiliar(changed, looks_of(plain)).keys() == {"b"}


def test_evaluate_warns_of_another_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with undrawn():
        assert train_tiny(tmp_path / "run", updates=2) == 0
        assert len(config_of(tmp_path / "run")["looks"]["means"]) == 1
        capsys.readouterr()
        assert main(["evaluate", str(tmp_path / "run")]) == 0
        assert "unlike" not in capsys.readouterr().err
        config = config_of(tmp_path / "run")
        config["looks"]["means"] = [[0.9, 0.95]]
        (tmp_path / "run/config.json").write_text(json.dumps(config))
        assert main(["evaluate", str(tmp_path / "run"), *PHANTOM, "--size", "24", "--out", str(tmp_path / "a")]) == 0
        said = capsys.readouterr().err
        assert "patients look unlike those that the run was trained on" in said
        assert "images are decided at 24, and were at 16 in training" in said
        del config["looks"]  # of a run that an older version made
        (tmp_path / "run/config.json").write_text(json.dumps(config))
        assert main(["evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "b")]) == 0
        assert "unlike" not in capsys.readouterr().err
