"""The grey level that is white in deep files belongs to a run."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pixelseg_agents.cli import main
from pixelseg_agents.cli.predict import FilePredictor
from pixelseg_agents.cli.runs import open_run
from pixelseg_env import load_dataset
from pixelseg_env.datasets import DimImagesWarning
from tests.helpers.cli import config_of, train_tiny

WORDS = ["--dataset", "folder", "--data"]


def write(folder: Path, top: int, kind: type = np.uint16, count: int = 10) -> None:
    """Images whose brightest pixels lie between half of `top` and `top`, with masks."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        grey = rng.integers(0, top // 2, (16, 16))
        grey[4:10, 4:12] = top if k == 0 else top // 2 + k
        tifffile.imwrite(folder / f"p{k}_1.tif", grey.astype(kind))
        tifffile.imwrite(folder / f"p{k}_1_mask.tif", (grey >= top // 2).astype(np.uint8) * 255)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("white")
    write(folder / "deep", 3000)
    with pytest.warns(DimImagesWarning, match="white=4095"):
        assert train_tiny(folder / "run", "--tensorboard", "off", data=[*WORDS, str(folder / "deep")], updates=1) == 0
    return folder / "run"


def test_the_scale_is_kept_and_used_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of(run)["arguments"]["task"]["dataset_option"] == ["white=4095"]
    assert not (run / "tensorboard").exists()
    write(tmp_path / "dark", 800)  # by itself it would be taken for 10 bits
    seen = []
    monkeypatch.setattr(FilePredictor, "segment", lambda _, images: seen.append(images) or images[:, 0] > 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DimImagesWarning)
        assert main(["predict", str(run), str(tmp_path / "dark" / "p0_1.tif"), "-o", str(tmp_path / "mask.png")]) == 0
        assert main(["evaluate", str(run), "--data", str(tmp_path / "dark"), "--split", "all"]) == 0
    assert seen[0].max() == pytest.approx(800 / 4095, rel=1e-5)
    task = open_run(run).task
    assert task is not None
    assert task.load("all")["all"].images.max() == pytest.approx(3000 / 4095, rel=1e-5)


def test_a_level_that_is_said_gives_the_numbers_of_one_that_was_found(run: Path) -> None:
    data = run.parent / "deep"
    with pytest.warns(DimImagesWarning):
        found = load_dataset("folder", data, split="all", size=11)
    said = load_dataset("folder", data, split="all", size=11, white=4095)
    assert found.white == said.white == said.subset([0, 1]).white == 4095
    np.testing.assert_array_equal(found.images, said.images)


def test_white_is_what_eight_bits_can_hold(tmp_path: Path) -> None:
    write(tmp_path / "eight", 200, np.uint8)
    assert load_dataset("folder", tmp_path / "eight", split="all", size=None, white=4095).images.max() == 200
