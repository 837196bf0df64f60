"""Maps judged on each file's own pixels: what `evaluate` scores is what `predict` writes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelseg_agents.cli import main
from pixelseg_agents.evaluation import EvaluationResult, ceiling, evaluate, table
from pixelseg_agents.evaluation.judging import as_judged
from pixelseg_agents.references import Oracle
from pixelseg_env import METRICS, PixelSegVectorEnv, SegmentationDataset, compute_metrics, load_dataset
from pixelseg_env.datasets import file_reader
from pixelseg_env.datasets.fitting import fit_mask
from pixelseg_env.datasets.masks import read_masks
from pixelseg_env.errors import OptionError
from tests.helpers.cli import train_tiny
from tests.helpers.data import REAL_DATA, needs_real_data, write

SIZES = [(21, 30), (40, 24), (16, 16), (33, 33), (12, 50), (50, 12)]


def native_phantom(height: int, width: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    drawn = load_dataset("phantom", split="all", size=(height, width), count=1, seed=seed)
    return drawn.images[0, 0], drawn.masks[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes."""
    root = tmp_path_factory.mktemp("native")
    for k, (height, width) in enumerate(SIZES):
        image, mask = native_phantom(max(height, 16), max(width, 16), k)
        write(root / f"images/p{k}.png", image[:height, :width])
        write(root / f"masks/p{k}.png", mask[:height, :width] * 255)
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train_tiny(folder, data=["--dataset", "folder", "--data", str(data), "--observe-time"], updates=2) == 0
    return folder


def report(run: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(["evaluate", str(run), "--split", "all", "--out", str(out), *more]) == 0
    content: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return content


def test_scores_are_those_of_the_masks_that_predict_writes(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = report(run, tmp_path / "native")
    said = capsys.readouterr().out
    assert main(["predict", str(run), str(data / "images"), "-o", str(tmp_path / "masks")]) == 0
    rows = content["per_case"]
    assert len(rows) == len(SIZES)
    for row in rows:
        written, _ = read_masks(tmp_path / f"masks/{row['case']}.png")
        true, _ = read_masks(data / f"masks/{row['case']}.png")
        assert written[0].shape == SIZES[int(row["case"][1:])]
        expected = compute_metrics(written[0], true[0])
        assert {name: row[name] for name in expected} == pytest.approx(expected)
    summary = content["summary"]
    assert (summary["judged_at"], summary["size"]) == ("native", [16, 16])
    assert [tuple(size) for size in summary["judged_sizes"]] == sorted(SIZES)
    assert "judged at 6 sizes, 12x50 to 50x12, the files' own pixels, decided at 16x16" in said
    assert "| perfect at 16x16" in said
    best = content["references"]["perfect at 16x16"]["metrics"]["DICE"]["mean"]
    assert max(0.5, summary["metrics"]["DICE"]["mean"]) < best < 1


def test_judging_at_size_is_another_report(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--split", "all", "--judge-at", "size"]) == 0
    assert "judged at 16x16:" in capsys.readouterr().out
    result = EvaluationResult.load(run / "evaluation-all-at-size/evaluation.json")
    assert (result.judged_at, result.place) == ("size", "16x16")
    about = json.loads((run / "evaluation-all-at-size/evaluation.json").read_text())
    assert about["about"]["judged"] == "at 16x16"
    assert "perfect at 16x16" not in about["references"]


def test_compare_says_where_runs_were_judged(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "other"):
        shutil.copytree(run, tmp_path / name)
    words = ["compare", str(tmp_path / "one"), str(tmp_path / "other")]
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr()
    assert re.search(r"\(HD95 in pixels\), judged at (\d sizes, )?\d+x\d+", said.out)
    assert said.err == ""
    report = tmp_path / "other/evaluation.json"
    content = json.loads(report.read_text())
    content["summary"] |= {"judged_at": "size", "judged_sizes": [[16, 16]]}
    report.write_text(json.dumps(content))
    assert main(words) == 0
    said = capsys.readouterr()
    assert "not all were judged at the same size" in said.err
    assert "judged at |" in said.out
    assert "16x16 |" in said.out


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_the_way_back_is_that_of_predict(fit: str, data: Path) -> None:
    dataset = load_dataset("folder", data, split="all", size=(20, 24), fit=fit)
    for k, case in enumerate(dataset.cases):
        file = file_reader("folder").read(data / f"images/{case}.png", (20, 24), fit, 1, {})
        maps = np.random.default_rng(k).integers(0, 2, (3, 20, 24)).astype(np.uint8)
        assert np.array_equal(dataset.to_native(k, maps), file.restore(maps))
        true, _ = read_masks(data / f"masks/{case}.png")
        assert np.array_equal(dataset.native_mask(k), true[0])


class Whole:
    """Keeps the left half."""

    def predict(self, observation: Any, state: Any = None, **_: Any) -> tuple[Any, Any]:
        actions = np.zeros((len(observation), *observation.shape[2:]), np.int8)
        actions[:, :, : actions.shape[2] // 2] = 1
        return actions, state


@pytest.mark.parametrize("batch", [1, 4])
def test_each_image_by_its_own_mask_at_every_step(data: Path, batch: int) -> None:
    dataset = load_dataset("folder", data, split="all", size=(8, 10))
    env = PixelSegVectorEnv(batch, dataset, split="all", horizon=2)
    result = evaluate(Whole(), env)
    half = np.zeros((8, 10), np.uint8)
    half[:, :5] = 1
    for k, case in enumerate(dataset.cases):
        true, _ = read_masks(data / f"masks/{case}.png")
        expected = compute_metrics(fit_mask(half, true[0].shape, "resize"), true[0])
        assert {name: result.metrics[name][k] for name in METRICS} == pytest.approx(expected)
        assert result.dice_by_step[k].tolist() == pytest.approx([expected["DICE"]] * 2)
        assert result.biou_by_step[k].tolist() == pytest.approx([expected["BIoU"]] * 2)
        assert np.array_equal(result.maps(k)[-1], half)
    at_size = evaluate(Whole(), env, judge_at="size")
    assert at_size.metrics["DICE"].tolist() == pytest.approx(
        [float(compute_metrics(half, mask, ["DICE"])["DICE"]) for mask in dataset.masks]
    )
    with pytest.raises(OptionError, match="judge_at"):
        evaluate(Whole(), env, judge_at="natve")  # type: ignore[arg-type]


def test_the_ceiling_is_the_oracle_judged_natively(data: Path) -> None:
    dataset = load_dataset("folder", data, split="all", size=16)
    env = PixelSegVectorEnv(3, dataset, split="all", horizon=2)
    oracle, best = evaluate(Oracle(env), env), ceiling(dataset, 2)
    for name in METRICS:
        assert best.metrics[name].tolist() == pytest.approx(oracle.metrics[name].tolist())
    assert np.array_equal(best.dice_by_step, oracle.dice_by_step)
    assert best.metrics["DICE"].min() < 1
    assert ceiling(dataset, 1, "size").metrics["DICE"].tolist() == [1.0] * len(dataset)
    assert evaluate(Oracle(env), env, judge_at="size").metrics["DICE"].min() == 1


def test_several_labels_are_judged_natively_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(3):
        numbers = np.zeros((20, 26), np.uint8)
        numbers[3:17, 4:20], numbers[6 + k : 10 + k, 8:13] = 1, 2
        write(tmp_path / f"images/p{k}.png", rng.integers(0, 255, (20, 26), np.uint8))
        write(tmp_path / f"masks/p{k}.png", numbers)
    dataset = load_dataset("folder", tmp_path, split="all", size=8, labels=(1, 2))
    best = ceiling(dataset, 1)
    for number, (name, part) in enumerate(best.labels.items()):
        one = dataset.label(number)
        assert one.label_names == (name,)
        for k in range(3):
            true = one.native_mask(k)
            assert true.shape == (20, 26)
            expected = compute_metrics(fit_mask(dataset.masks[k, number], (20, 26), "resize"), true)
            assert {metric: part.metrics[metric][k] for metric in METRICS} == pytest.approx(expected)
    assert best.metrics["DICE"] == pytest.approx(np.mean([p.metrics["DICE"] for p in best.labels.values()], axis=0))
    part = dataset.subset([2, 0])
    assert np.array_equal(part.native_mask(0), dataset.native_mask(2))


def test_generated_images_and_native_sizes_have_no_other_masks(data: Path) -> None:
    phantoms = load_dataset("phantom", split="all", size=16, count=4)
    assert phantoms.native is None
    env = PixelSegVectorEnv(2, phantoms, split="all", horizon=1)
    one, other = (evaluate(Whole(), env, judge_at=at) for at in ("native", "size"))
    assert one.metrics["DICE"].tolist() == other.metrics["DICE"].tolist()
    assert one.place == other.place == "16x16"
    alike = SegmentationDataset.from_arrays(phantoms.images, phantoms.masks)
    assert alike.native_sizes == ((16, 16),)


def test_tables_say_where_rows_were_judged_that_cannot_be_compared(data: Path) -> None:
    env = PixelSegVectorEnv(4, load_dataset("folder", data, split="all", size=16), split="all", horizon=1)
    native, at_size = evaluate(Whole(), env), evaluate(Whole(), env, judge_at="size")
    assert "judged at" not in table({"a": native, "b": native})
    mixed = table({"a": native, "b": at_size}).splitlines()
    assert mixed[0].split("|")[-2].strip() == "judged at"
    assert [line.split("|")[-2].strip() for line in mixed[2:]] == ["6 sizes, 12x50 to 50x12", "16x16"]


def test_results_of_earlier_versions_were_judged_at_size(data: Path, tmp_path: Path) -> None:
    env = PixelSegVectorEnv(4, load_dataset("folder", data, split="all", size=16), split="all", horizon=1)
    result = evaluate(Whole(), env)
    result.save(tmp_path / "new.json")
    assert EvaluationResult.load(tmp_path / "new.json").place == result.place
    content = json.loads((tmp_path / "new.json").read_text())
    for key in ("judged_at", "judged_sizes"):
        del content["summary"][key]
    (tmp_path / "old.json").write_text(json.dumps(content))
    old = EvaluationResult.load(tmp_path / "old.json")
    assert (old.judged_at, old.place) == ("size", "16x16")


def test_figures_show_what_was_judged(data: Path) -> None:
    dataset = load_dataset("folder", data, split="all", size=16)
    result = evaluate(Whole(), PixelSegVectorEnv(4, dataset, split="all", horizon=2))
    images, masks, maps = as_judged(result, dataset, [1])
    assert images.shape == (1, 1, 40, 24)
    assert np.array_equal(masks[0], dataset.native_mask(1))
    assert np.array_equal(maps[0], dataset.to_native(1, result.maps(1)))
    images, masks, maps = as_judged(result, dataset, [1, 4])
    assert images.shape == (2, 1, 40, 50)
    assert masks[1].sum() == dataset.native_mask(4).sum()
    assert [one.shape for one in maps] == [(2, 40, 50)] * 2


@pytest.mark.slow
@needs_real_data
def test_a_perfect_mask_of_48_pixels_at_256() -> None:
    """What the documentation says of it, on the test patients of the committed records."""
    data = [REAL_DATA / "lgg_kaggle_3m", REAL_DATA / "lgg_tumour_slices"]
    best = ceiling(load_dataset("brain", data, split="test", size=48), 1).metrics
    assert [round(float(best[name].mean()), 3) for name in ("DICE", "BIoU")] == [0.903, 0.716]
    assert float(best["HD95"].mean()) == pytest.approx(3.13, abs=0.01)
