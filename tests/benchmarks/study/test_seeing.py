"""What an agent does at each look is told as it was done."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.study.seeing import BINS, BY_LOOK, Seeing, _look, binned, error, gains, harmed, inside, lesions, seeing
from benchmarks.study.seeing_figure import members
from benchmarks.study.trained import open_run
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.learning.looking import make_look
from pixelseg_env import DataError, OptionError
from tests.helpers.cli import train_tiny
from tests.helpers.figures import undrawn


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeing") / "run"
    look = "closer(side=16, smallest=6, border=1, windows=2)"
    words = ("--look", look, "--observation", "stacked", "--observe-time")
    with undrawn():
        assert train_tiny(folder, *words, data=["--dataset", "phantom", "--dataset-option", "count=20"], updates=2) == 0
    return folder


def test_the_record_says_what_was_played(run: Path, tmp_path: Path) -> None:
    record, opened = seeing([run], "test", batch=3), open_run(run, "test")
    result = evaluate(opened.agent, opened.environment(2))
    images, count = record["images"], len(opened.dataset)
    assert record["about"]["images"] == count == len(images["case"])
    np.testing.assert_allclose(images["dice"], result.dice_by_step)
    np.testing.assert_allclose(images["biou"], result.biou_by_step)
    maps = np.stack([result.maps(k) for k in range(count)]).astype(bool)
    masks = opened.dataset.masks.astype(bool)
    kept = maps.sum((2, 3))
    np.testing.assert_allclose(images["kept"], kept / masks[0].size)
    np.testing.assert_allclose(np.array(images["found"])[:, 1] + np.sum(images["lost"], axis=1), 1)
    bins = np.array([look["bins"] for look in record["looks"]])
    assert bins.shape == (2, BINS, 3)
    assert bins[0, :, 0].sum() == masks.size, "the first look decides all pixels"
    assert bins[1, :, 0].sum() == kept[:, 0].sum(), "the second those that the first has kept"
    assert bins[1, :, 2].sum() == (maps[:, 0] & masks).sum()
    for t in range(2):
        assert bins[t, BINS // 2 :, 0].sum() == kept[:, t].sum()
        assert bins[t, BINS // 2 :, 2].sum() == (maps[:, t] & masks).sum()
        np.testing.assert_allclose(record["looks"][t]["dice"], result.dice_by_step[:, t].mean())
    with pytest.raises(OptionError, match="the same run; expected each training once"):
        seeing([run, run / "checkpoint.safetensors"], "test")
    twice = seeing([run, shutil.copytree(run, tmp_path / "copy")], "test")
    assert len(twice["images"]["case"]) == 2 * count
    assert twice["gain"]["all"]["dice"] == pytest.approx(record["gain"]["all"]["dice"])
    assert len(json.dumps(record)) < 100_000


def test_the_command_writes_a_record_and_a_figure(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Seeing((run,), tmp_path / "a.json", part="val").main() == 0
    assert "look 2  kept" in capsys.readouterr().out
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["versions"]["pixelseg-agents"]
    assert str(run.parent) not in json.dumps(record), "no paths"
    assert len(np.unique(np.asarray(Image.open(tmp_path / "a.png").convert("L")))) > 50


def test_calibration() -> None:
    chance = np.repeat(np.linspace(0.025, 0.975, 20, dtype=np.float32), 40)
    target = (np.tile(np.arange(40), 20) < 40 * chance).astype(np.uint8)
    assert error(binned(chance, target)) < 1e-6
    assert error(binned(np.minimum(chance + 0.2, 1), target)) > 0.15
    counts = binned(np.array([0.0, 0.5, 1.0], np.float32), np.array([0, 1, 1], np.uint8))
    np.testing.assert_array_equal(counts[[0, 10, 19], 0], 1)
    np.testing.assert_array_equal(counts[:, 2].nonzero()[0], [10, 19])


def test_pieces_of_an_object_are_counted() -> None:
    target = np.zeros((128, 128), np.uint8)
    assert lesions(target) == 0
    target[5, 5] = 1
    assert lesions(target) == 1, "a speck that is all there is"
    target[40:50, 40:50] = target[50:60, 50:60] = target[100:104, :9] = 1
    assert lesions(target) == 2, "corners touch, and specks do not count"


def test_what_lies_in_windows() -> None:
    assert inside(None, (4, 6)).all()
    seen = inside(np.array([[-1.0, -1.0, 3.0], [1.5, 3.0, 2.0]], np.float32), (4, 6))
    assert seen.sum() == 4 + 4
    assert seen[:2, :2].all()
    assert seen[1:3, 3:5].sum() == 4


def test_groups_and_who_is_harmed() -> None:
    count = 24
    images: dict[str, Any] = {key: [[0.5, 0.5]] * count for key in BY_LOOK}
    images |= {"case": [f"p{k // 2}" for k in range(count)], "slice": list(range(count))}
    images |= {"lesions": [1 + k % 3 for k in range(count)], "size": [(k + 1) / 100 for k in range(count)]}
    images["dice"] = [[0.5, 0.6 - 0.2 * (k in (4, 5)) - 0.3 * (k == 20)] for k in range(count)]
    gain = gains(images)
    assert [gain[name]["images"] for name in ("all", "1 lesion", "2 lesions", "3 or more")] == [24, 8, 8, 8]
    assert [gain[name]["images"] for name in ("small", "middle", "large")] == [8, 8, 8]
    mean, low, high = gain["all"]["dice"]
    assert mean == pytest.approx(0.1 - (0.2 + 0.15) / 12)
    assert low < mean < high
    assert gain["large"]["dice"][1] is None, "too few patients for an interval"
    worst = harmed(images)
    assert [one["name"] for one in worst["patients"]] == ["p2", "p10"]
    assert [one["name"] for one in worst["images"]] == ["p10, slice 20", "p2, slice 4", "p2, slice 5"]
    for name, group in gain.items():
        assert members({"images": images, "gain": gain}, name).sum() == group["images"]


def test_somebody_s_own_look_is_opened_and_amounts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_looks.py").write_text(
        "from pixelseg_agents.learning.looking import Look\n\n"
        "class Same(Look):\n    def __call__(self, network, observation, kept):\n        return network(observation)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--observation", "stacked", "--horizon", "2"]
    with undrawn():
        assert train_tiny(tmp_path / "own", "--look", "own_looks:Same", *words, updates=1) == 0
        additive = ["--agent", "pixelrl", "--transition", "additive", *words]
        assert train_tiny(tmp_path / "additive", *additive, updates=1) == 0
    del sys.modules["own_looks"]  # as in another process
    make_look.cache_clear()
    assert open_run(tmp_path / "own", "test").agent.config.look == "own_looks:Same"
    with pytest.raises(OptionError, match=r"keeps or zeroes pixels by a policy, .*, got PixelRL"):
        seeing([tmp_path / "additive"], "test")


def test_what_is_no_run_of_two_looks_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a run"):
        seeing([tmp_path], "test")
    config = json.loads((run / "config.json").read_text())
    config["arguments"]["task"]["horizon"] = 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    with pytest.raises(OptionError, match="two looks or more"):
        seeing([tmp_path], "test")
    config["arguments"]["task"] |= {"horizon": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(OptionError, match="other images or looks"):
        seeing([run, tmp_path], "test")
    with pytest.raises(OptionError, match="at least one run"):
        seeing([], "test")


def test_the_error_of_kept_pixels_counts_those_above_a_half() -> None:
    bins = np.zeros((1, BINS, 3))
    bins[0, 2], bins[0, 15] = (30, 3, 3), (10, 7.5, 5)  # removed as surely as they ought to be, kept too surely
    images = {key: [[0.5]] for key in BY_LOOK} | {"size": [0.1]}
    said = _look(images, bins, 0)
    assert said["error_of_kept"] == pytest.approx(0.25)
    assert said["error_of_decided"] == pytest.approx(2.5 / 40)
