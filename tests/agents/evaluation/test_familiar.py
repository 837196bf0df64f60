"""Patients who look unlike those that an agent was trained on are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelseg_agents.cli import main
from pixelseg_agents.evaluation.familiar import looks_of, unfamiliar, warning_of
from pixelseg_env import SegmentationDataset, load_dataset
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
    assert unfamiliar(with_them, looks_of(without, replaced=True)) == {}, "the training made some"


def test_two_of_three_channels_may_be_the_same() -> None:
    images = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    plain = SegmentationDataset.from_arrays(images, np.ones((2, 8, 8)), cases=["a", "b"])
    images = images.copy()
    images[1, 2] = images[1, 0]
    changed = SegmentationDataset.from_arrays(images, np.ones((2, 8, 8)), cases=["a", "b"])
    assert unfamiliar(changed, looks_of(plain)).keys() == {"b"}


def of_size(height: int, width: int) -> SegmentationDataset:
    images = np.random.default_rng(0).random((2, 1, height, width)).astype(np.float32)
    return SegmentationDataset.from_arrays(images, np.ones((2, height, width)), cases=["a", "b"])


def test_files_of_another_size_or_shape_are_named() -> None:
    looks = looks_of(of_size(40, 30))
    assert unfamiliar(of_size(40, 30), looks) == unfamiliar(of_size(70, 55), looks) == {}
    for other in ((90, 70), (18, 14), (40, 39), (17, 30)):  # larger, smaller, wider, flatter
        found = unfamiliar(of_size(*other), looks)
        assert found.keys() == {"a", "b"}, other
        assert f"its files have {other[0]}x{other[1]} pixels, trained on 40x30" in found["a"]
    del looks["sizes"]  # of a run that an older version made
    assert unfamiliar(of_size(90, 70), looks) == {}


def test_it_is_the_size_of_the_files_that_counts(tmp_path: Path) -> None:
    """All are brought to one size; what an image looked like before is told all the same."""
    for name, size in (("like", (24, 24)), ("flat", (17, 60))):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.fromarray(np.full(size, 90 + k, np.uint8)).save(tmp_path / name / f"p{k}.png")
            mask = np.zeros(size, np.uint8)
            mask[4:9, 4:9] = 255
            Image.fromarray(mask).save(tmp_path / name / f"p{k}_mask.png")
    like, flat = (
        load_dataset("folder", tmp_path / name, split="all", size=16, case_pattern="(.+)") for name in ("like", "flat")
    )
    assert unfamiliar(like, looks_of(like)) == {}
    assert "its files have 17x60 pixels, trained on 24x24" in unfamiliar(flat, looks_of(like))["p0"]


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
