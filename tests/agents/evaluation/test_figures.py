"""Figures are written whole, hold what they show, and leave pyplot alone."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("matplotlib")

from pixelseg_agents.evaluation import EvaluationResult
from pixelseg_agents.evaluation.figures import case_figure, dice_by_step, learning_curve, step_figure
from pixelseg_agents.evaluation.figures.curves import _running_mean, _spread
from pixelseg_env import SegmentationDataset
from pixelseg_env.errors import DataError, OptionError
from pixelseg_env.metrics import biou, compute_metrics, dice
from pixelseg_env.rendering import CHANGED, SEGMENTATION, TARGET

Picture = NDArray[np.uint8]


def read(path: Path) -> Picture:
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.ndim == 3
    return picture[..., ::-1]


def share(picture: Picture, colour: tuple[int, int, int]) -> float:
    near = np.abs(picture.astype(int) - colour).max(axis=-1) <= 6
    return float(near.mean())


def run(count: int = 5, steps: int = 3, side: int = 24, channels: int = 1) -> tuple[SegmentationDataset, Picture]:
    """A data set, and maps (N, T, H, W) that close in on each mask but stay one pixel too wide."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, side, side), np.uint8)
    maps = np.zeros((count, steps, side, side), np.uint8)
    for i in range(count):
        masks[i, 8 : 14 + i % 3, 8 : 12 + i % 5] = 1
        for t in range(steps):
            maps[i, t] = cv2.dilate(masks[i], np.ones((3, 3), np.uint8), iterations=steps - t)
    images = (masks[:, None] * 0.4 + rng.random((count, channels, side, side)) * 0.3).astype(np.float32)
    cases = tuple(f"patient-{i // 2}" for i in range(count))
    return SegmentationDataset("tiny", images, masks, cases, np.arange(count)), maps


def scored(dataset: SegmentationDataset, maps: Picture) -> EvaluationResult:
    count, steps, height, width = maps.shape
    curves = [np.stack([f(maps[:, t], dataset.masks) for t in range(steps)], axis=1) for f in (dice, biou)]
    return EvaluationResult(
        "tiny", dataset.cases, dataset.slices, compute_metrics(maps[:, -1], dataset.masks), *curves,
        np.zeros(count), (height, width), np.packbits(maps.reshape(count, steps, -1), axis=-1),
    )  # fmt: skip


def test_step_figure(tmp_path: Path) -> None:
    dataset, maps = run(channels=3)
    path = tmp_path / "steps.png"
    step_figure(dataset.images[:4], dataset.masks[:4], maps[:4], path, titles=["a", "b\nslice 2", "c" * 60, "d"])
    picture = read(path)
    assert [file.name for file in tmp_path.iterdir()] == ["steps.png"]
    for colour in (CHANGED, SEGMENTATION, TARGET):
        assert share(picture, colour) > 1e-4
    step_figure(dataset.images[:1], dataset.masks[:1], np.ones_like(maps[:1]), path)
    assert share(read(path), CHANGED) < share(picture, CHANGED) / 10  # nothing changed: the legend's patch is left


def test_step_figure_chooses_steps(tmp_path: Path) -> None:
    dataset, maps = run(count=1, steps=3)
    long = np.repeat(maps, 10, axis=1)
    step_figure(dataset.images, dataset.masks, long, tmp_path / "thirty.png")
    step_figure(dataset.images, dataset.masks, long, tmp_path / "two.png", steps=[1, 30])
    assert read(tmp_path / "thirty.png").shape[1] == 1800  # 900 pixels at twice the resolution
    assert read(tmp_path / "two.png").shape[1] < 1000
    for steps in ([0], [31], []):
        with pytest.raises(DataError, match="1 to 30"):
            step_figure(dataset.images, dataset.masks, long, tmp_path / "x.png", steps=steps)


@pytest.mark.parametrize("count", [0, 5])
def test_step_figure_takes_one_to_four_images(tmp_path: Path, count: int) -> None:
    dataset, maps = run()
    with pytest.raises(DataError, match="1 to 4 images"):
        step_figure(dataset.images[:count], dataset.masks[:count], maps[:count], tmp_path / "x.png")


def test_case_figure(tmp_path: Path) -> None:
    dataset, maps = run()
    maps = np.roll(maps, 3, axis=-1)  # some too much, some missed
    case_figure(scored(dataset, maps), dataset, tmp_path / "cases.png")
    assert read(tmp_path / "cases.png").shape[1] == 1320
    with pytest.raises(DataError, match="does not belong"):
        case_figure(scored(dataset, maps), dataset.subset([0, 1]), tmp_path / "x.png")
    result = scored(dataset, maps)
    result.save(tmp_path / "result.json")
    with pytest.raises(OptionError, match="holds no maps"):
        case_figure(EvaluationResult.load(tmp_path / "result.json"), dataset, tmp_path / "x.png")


def test_case_figure_does_not_boast_of_empty_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, maps = run()
    masks = dataset.masks.copy()
    masks[4] = maps[4] = 0
    dataset = dataclasses.replace(dataset, masks=masks)
    shown: list[int] = []
    original = EvaluationResult.maps
    monkeypatch.setattr(EvaluationResult, "maps", lambda self, index: shown.append(index) or original(self, index))
    case_figure(scored(dataset, maps), dataset, tmp_path / "cases.png")
    assert len(shown) == 3
    assert 4 not in shown


def test_dice_by_step(tmp_path: Path) -> None:
    dataset, maps = run()
    rows = {"one": scored(dataset, maps), "two": scored(dataset, maps[:, :2]), "three": scored(dataset, maps)}
    for metric in ("DICE", "BIoU"):
        dice_by_step(rows, tmp_path / f"{metric}.png", metric)
        read(tmp_path / f"{metric}.png")
    single, few = run(count=1, steps=1)
    dice_by_step({"single": scored(single, few)}, tmp_path / "single.png")
    with pytest.raises(DataError, match="at least one result"):
        dice_by_step({}, tmp_path / "x.png")


PROGRESS = """time/updates,train/dice,train/reward,train/entropy,train/value_loss,eval/dice,note
1,0.1,0.01,0.69,0.5,,a
2,0.2,,nan,0.4,0.15,b
3,0.3,0.03,0.6,inf,,c
4,,0.04,0.5,0.2,0.35,d
"""


@pytest.mark.parametrize(
    "columns",
    [slice(None), [0, 1], [5], [0, 3], [2, 4]],
)
def test_learning_curve_draws_what_there_is(tmp_path: Path, columns: slice | list[int]) -> None:
    table = np.array([line.split(",") for line in PROGRESS.splitlines()])[:, columns]
    source, path = tmp_path / "progress.csv", tmp_path / "curve.png"
    source.write_text("\n".join(",".join(row) for row in table))
    learning_curve(source, path)
    assert read(path).shape[1] == 1800


def test_learning_curve_reads_stable_baselines3(tmp_path: Path) -> None:
    """The columns that SB3's own PPO and A2C write."""
    source = tmp_path / "progress.csv"
    source.write_text(
        "rollout/ep_rew_mean,time/total_timesteps,train/entropy_loss,train/value_loss\n0.1,8,,\n0.2,16,-0.6,0.3\n"
    )
    learning_curve(source, tmp_path / "curve.png")
    read(tmp_path / "curve.png")


@pytest.mark.parametrize(
    "content", ["", "time/updates\n1\n", "time/updates,train/dice\n1,\n", "train/dice\n", "time/updates\n1,2\n"]
)
def test_learning_curve_with_nothing_to_draw(tmp_path: Path, content: str) -> None:
    source = tmp_path / "progress.csv"
    source.write_text(content)
    with pytest.raises(DataError, match=r"progress\.csv: nothing to draw"):
        learning_curve(source, tmp_path / "x.png")
    with pytest.raises(DataError, match=r"missing\.csv: cannot be read"):
        learning_curve(tmp_path / "missing.csv", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_other_formats(tmp_path: Path) -> None:
    dataset, maps = run()
    dice_by_step({"one": scored(dataset, maps)}, tmp_path / "new" / "curve.svg")
    assert "<svg" in (tmp_path / "new" / "curve.svg").read_text()


def test_running_mean_of_a_constant_is_the_constant() -> None:
    for length in (1, 2, 5, 100):
        for window in (1, 2, 3, 10):
            smoothed = _running_mean(np.full(length, 3.0), window)
            assert smoothed.shape == (length,)
            np.testing.assert_allclose(smoothed, 3.0)


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    moved = _spread([0.5, 0.5, 0.9, 0.51], 0.06)
    assert np.diff(sorted(moved)).min() > 0.059
    assert list(np.argsort(moved)) == [0, 1, 3, 2]
    assert _spread([0.7], 0.06) == [0.7]


def test_pyplot_is_never_imported() -> None:
    code = "import sys, pixelseg_agents.evaluation.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
