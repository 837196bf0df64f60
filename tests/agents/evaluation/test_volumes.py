"""Volumes: slices along any axis, and a report of whole volumes in millimetres."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelseg_agents.cli import main
from pixelseg_agents.evaluation import EvaluationResult, evaluate
from pixelseg_agents.evaluation.report import volumes_text
from pixelseg_agents.evaluation.volumes import judge_volumes
from pixelseg_agents.references import KeepAll
from pixelseg_env import DataError, PixelSegVectorEnv, SegmentationDataset, load_dataset
from pixelseg_env.metrics import volume_dice, volume_hd95
from tests.helpers.cli import train_tiny
from tests.helpers.figures import undrawn

SPACING = (0.5, 1.5, 4.0)


def write_volumes(root: Path, cases: int = 4) -> Path:
    """Volumes of odd shapes and voxels, in an oblique place, with an object in the middle of each axis."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(np.eye(3) + 0.1 * rng.standard_normal((3, 3)))[0]
    for c in range(cases):
        shape = (18 + c, 14, 9)
        label = np.zeros(shape, np.uint8)
        label[5 : 12 + c, 4:11, 2:6] = 1
        affine = np.eye(4)
        affine[:3, :3] = turn * np.array(SPACING)
        image = (label * 300.0 + rng.uniform(0, 200, shape)).astype(np.int16)
        for folder, voxels in (("imagesTr", image), ("labelsTr", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, affine), root / folder / f"v{c}.nii.gz")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("volumes"))


def voxels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(nib.load(path).dataobj, np.uint8)


@pytest.mark.parametrize("name", ["nifti", "cardiac"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_any_axis(name: str, axis: int, data: Path) -> None:
    found = load_dataset(name, data, split="all", size=8, keep_empty=True, axis=axis)
    label = voxels(data / "labelsTr/v1.nii.gz")
    rows = [k for k, case in enumerate(found.cases) if case == "v1"]
    assert found.slices[rows].tolist() == list(range(label.shape[axis]))
    for k, z in zip(rows, found.slices[rows], strict=True):
        assert np.array_equal(found.native_mask(k), label.take(z, axis))
    assert found.volumes is not None
    facts = found.volumes["v1"]
    others = [width for k, width in enumerate(SPACING) if k != axis]
    assert facts.spacing == pytest.approx((SPACING[axis], *others))
    assert facts.slices == label.shape[axis]


@undrawn()
def test_evaluate_reports_the_volumes_that_predict_writes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axis = 1
    options = ["--dataset", "nifti", "--data", str(data), "--dataset-option", f"axis={axis}"]
    assert train_tiny(tmp_path / "run", data=options, updates=2) == 0
    trained = capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "run"), "--split", "test"]) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "run/evaluation-test/evaluation.json").read_text())
    assert json.loads((tmp_path / "run/evaluation.json").read_text())["volumes"] == report["volumes"], "training's own"
    for text in (
        trained,
        said,
        *((tmp_path / f"run/{at}evaluation.md").read_text() for at in ("", "evaluation-test/")),
    ):
        assert "whole volumes" in text
        assert "| Otsu: mean |" in text
    rows = report["volumes"]["per_volume"]
    assert {row["case"] for row in rows} == {row["case"] for row in report["per_case"]}
    assert main(["predict", str(tmp_path / "run"), str(data / "imagesTr"), "-o", str(tmp_path / "masks")]) == 0
    for row in rows:
        source = nib.load(data / f"imagesTr/{row['case']}.nii.gz")
        mask, label = (voxels(folder / f"{row['case']}.nii.gz") for folder in (tmp_path / "masks", data / "labelsTr"))
        assert np.array_equal(nib.load(tmp_path / f"masks/{row['case']}.nii.gz").affine, source.affine)
        assert row["slices"] == label.shape[axis] > sum(one["case"] == row["case"] for one in report["per_case"])
        assert row["DICE"] == pytest.approx(volume_dice(mask, label))
        assert row["HD95 mm"] == pytest.approx(volume_hd95(mask, label, SPACING), rel=1e-5)
        assert f"| {row['case']} | {row['slices']} |" in said
    everything = [
        volume_dice(np.ones_like(v), v) for v in (voxels(data / f"labelsTr/{r['case']}.nii.gz") for r in rows)
    ]
    assert report["volumes"]["references"]["keep everything"]["DICE"]["mean"] == pytest.approx(np.mean(everything))
    assert "HD95 in millimetres" in said
    assert "HD95 in millimetres" in (tmp_path / "run/evaluation-test/evaluation.md").read_text()


@undrawn()
def test_volumes_whose_slices_were_dealt_out_are_not_judged_and_it_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--dataset", "nifti", "--data", str(data), "--split-by", "slice"]
    assert train_tiny(tmp_path / "run", data=options, updates=1) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.count("Volumes: not judged whole, for --split-by slice") == 2
    for folder in (tmp_path / "run", tmp_path / "run/evaluation-test"):
        assert "- volumes: not judged whole" in (folder / "evaluation.md").read_text()
        assert "volumes" not in json.loads((folder / "evaluation.json").read_text())
    assert main(["evaluate", str(tmp_path / "run"), "--split", "all"]) == 0
    assert "whole volumes" in capsys.readouterr().out


def test_empty_slices_count_against_an_agent_that_sees_objects_there(data: Path) -> None:
    part, whole = (load_dataset("nifti", data, split="all", size=8, keep_empty=empty) for empty in (False, True))

    def environment(dataset: SegmentationDataset) -> PixelSegVectorEnv:
        return PixelSegVectorEnv(5, dataset, split="all", horizon=1)

    result = evaluate(KeepAll(), environment(part))
    scores = judge_volumes(KeepAll(), result, part, whole, environment)
    assert scores.cases == ("v0", "v1", "v2", "v3")
    for n, case in enumerate(scores.cases):
        label = voxels(data / f"labelsTr/{case}.nii.gz")
        assert scores.metrics["DICE"][n] == pytest.approx(volume_dice(np.ones_like(label), label))
        assert scores.metrics["HD95 mm"][n] == pytest.approx(volume_hd95(np.ones_like(label), label, SPACING), rel=1e-5)
    some = part.subset([k for k, case in enumerate(part.cases) if case == "v2"])
    alone = judge_volumes(KeepAll(), evaluate(KeepAll(), environment(some)), some, whole, environment)
    assert alone.cases == ("v2",)
    assert alone.metrics["DICE"][0] == scores.metrics["DICE"][2]
    with pytest.raises(DataError, match="4 of 9 slices of 'v0'"):
        judge_volumes(KeepAll(), result, part, part, environment)
    phantoms = load_dataset("phantom", split="all", size=16, count=3)
    with pytest.raises(DataError, match="no slices of volumes"):
        judge_volumes(KeepAll(), evaluate(KeepAll(), environment(phantoms)), phantoms, phantoms, environment)


@pytest.mark.parametrize("size", [8, None])
def test_pixels_that_are_not_the_files_are_not_called_theirs(size: int | None, tmp_path: Path) -> None:
    """As of what HECKTOR's boxes cut out, which scores and volumes are of, whatever `predict` brings back."""
    place = "the pixels that were cut out"
    part = load_dataset("nifti", write_volumes(tmp_path, 1), split="all", size=size, keep_empty=True)
    assert part.volumes is not None
    facts = {case: dataclasses.replace(one, pixels=place) for case, one in part.volumes.items()}
    cut = dataclasses.replace(part, volumes=facts)
    result = evaluate(KeepAll(), PixelSegVectorEnv(5, cut, split="all", horizon=1))
    assert f"at 18x14, {place}" in result.judged
    assert ("decided at 8x8" in result.judged) == (size == 8)
    result.save(tmp_path / "r.json")
    assert EvaluationResult.load(tmp_path / "r.json").judged == result.judged
    scores = judge_volumes(KeepAll(), result, cut, cut, lambda one: None)
    assert f"on {place}; HD95" in volumes_text({"keep everything": scores})
    assert "own" not in evaluate(KeepAll(), PixelSegVectorEnv(5, cut, horizon=1, split="all"), judge_at="size").judged


def test_labels_of_volumes_are_scored_each(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, cases=2)
    for path in (root / "labelsTr").iterdir():
        image = nib.load(path)
        label = voxels(path)
        label[7:9, 5:8, 3:5] = 2
        nib.save(nib.Nifti1Image(label, image.affine), path)
    part, whole = (
        load_dataset("nifti", root, split="all", size=9, labels=(1, 2), keep_empty=empty) for empty in (False, True)
    )

    def environment(dataset: SegmentationDataset) -> PixelSegVectorEnv:
        return PixelSegVectorEnv(5, dataset, split="all", horizon=1)

    scores = judge_volumes(KeepAll(), evaluate(KeepAll(), environment(part)), part, whole, environment)
    assert list(scores.labels) == ["label 1", "label 2"]
    for value, found in zip((1, 2), scores.labels.values(), strict=True):
        for n, case in enumerate(found.cases):
            label = np.asarray(voxels(root / f"labelsTr/{case}.nii.gz") == value, np.uint8)
            assert found.metrics["DICE"][n] == pytest.approx(volume_dice(np.ones_like(label), label))
    parts = [one.metrics["DICE"] for one in scores.labels.values()]
    assert scores.metrics["DICE"].tolist() == pytest.approx(np.mean(parts, axis=0).tolist())
    assert "label 2: mean" in scores.text()
