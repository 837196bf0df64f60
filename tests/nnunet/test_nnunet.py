"""The real nnU-Net, end to end; run by `make test-nnunet`, for it has an environment of its own."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.grid.cells import Protocol
from benchmarks.nnunet.commands import NnUNet
from benchmarks.nnunet.running import FOLDERS, Budget, run_nnunet
from benchmarks.study.report import all_tables
from pixelseg_agents.nnunet import export_nnunet, read_nnunet
from pixelseg_env import load_dataset
from pixelseg_env.metrics import compute_metrics

PYTHON = os.environ.get("NNUNET_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="nnU-Net has an environment of its own: run `make test-nnunet`")
SIDE = 32


def test_it_plans_trains_predicts_and_is_judged(tmp_path: Path) -> None:
    phantoms = load_dataset("phantom", split="all", size=SIDE, count=30)
    images = tmp_path / "images"
    images.mkdir()
    for image, mask, case in zip(phantoms.images, phantoms.masks, phantoms.cases, strict=True):
        cv2.imwrite(str(images / f"{case}.png"), image[0])
        cv2.imwrite(str(images / f"{case}_mask.png"), mask * 255)
    work, out = tmp_path / "work", tmp_path / "records"
    protocol = Protocol(size=SIDE, passes=240)
    command = NnUNet(
        "folder", (str(images),), budget=Budget(epochs=4), protocol=protocol, python=Path(PYTHON), out=out, work=work
    )
    assert command.main() == 0
    (cell,) = command.cells()
    made = json.loads((out / f"{cell.name}.json").read_text())

    spent = made["budget"]
    assert spent["passes"] == pytest.approx(240, rel=0.1)
    assert made["image_passes"] == spent["updates"] * spent["batch"] == 4 * spent["iterations"] * spent["batch"]
    assert len(made["nnunet_log"]["train_losses"]) == 4
    assert made["nnunet_log"]["train_losses"][-1] < made["nnunet_log"]["train_losses"][0]
    assert made["parameters"] > 1e6

    # The same masks judged by hand, with the truth that was exported.
    data = read_nnunet(work / cell.name / FOLDERS[0] / "Dataset501_PixelSeg")
    for part, labels in (("val", "labelsTr"), ("test", "labelsTs")):
        truth = data.masks(part, data.folder / labels)
        predicted = data.masks(part, work / cell.name / "masks" / part)
        assert made[part]["images"]["case"] == list(cell.parts[part].cases)
        for name, values in compute_metrics(predicted, truth).items():
            assert made[part]["images"][name] == pytest.approx(values.tolist(), abs=1e-5), name
        assert 0 < predicted.mean() < 0.9
    split = json.loads((work / cell.name / FOLDERS[1] / data.folder.name / "splits_final.json").read_text())[0]
    assert sorted(split["train"]) == sorted(data.images["train"])  # nnU-Net had our patients

    label = made["facts"]["label"]
    assert label == f"nnU-Net (real), {spent['updates']} updates of {spent['batch']} images"
    assert label in all_tables(out)["folder"]["table-2"].rows
    assert command.main() == 0  # finished


def test_overlapping_labels_as_nifti(tmp_path: Path) -> None:
    phantoms = load_dataset("phantom", split="all", size=SIDE, count=20, labels=2)
    parts = {part: load_dataset(phantoms, split=part) for part in ("train", "val", "test")}
    data = export_nnunet(parts, tmp_path / FOLDERS[0], files="nifti")
    request = dataclasses.asdict(Budget(epochs=1, iterations=2, validation_iterations=1)) | {
        "number": 501,
        "dataset": data.folder.name,
        "passes": 0,
        "seed": 0,
        "device": "cpu",
        "predict": {"test": data.images["test"]},
        "masks": str(tmp_path / "masks"),
    }
    answer = run_nnunet(request, Path(PYTHON), tmp_path)
    assert answer["budget"]["updates"] == 2
    masks = data.masks("test", tmp_path / "masks/test")
    assert masks.shape == parts["test"].masks.shape
    organ, lesion = np.moveaxis(masks, 1, 0)
    assert not (lesion & (1 - organ)).any()  # the classes are "organ" and "organ + lesion"
