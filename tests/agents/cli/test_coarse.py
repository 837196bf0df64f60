"""`--coarse`: PixelRL begins with the maps of another run, which must have learnt from the same patients."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelseg_agents.cli import main
from pixelseg_agents.cli.coarse import check_coarse
from pixelseg_agents.cli.task import TaskArguments


def test_pixelrl_refines_the_maps_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "--size 16 --updates 6 --batch 4 --width 0.125 --log none --device cpu --eval-every 3"
    words += " --dataset-option count=20"
    unet, run = tmp_path / "unet", tmp_path / "run"
    assert main(["train", "--agent", "unet", *words.split(), "--out", str(unet)]) == 0
    more = ["--transition", "additive", "--observation", "stacked", "--coarse", "unet", "--out", str(run)]
    assert main(["train", "--agent", "pixelrl", *words.split(), *more]) == 0
    assert json.loads((run / "evaluation.json").read_text())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # a relative --coarse is found from anywhere
    assert main(["evaluate", str(run), "--split", "val", "--device", "cpu"]) == 0
    image = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "scan.png"), image)
    assert main(["predict", str(run), str(tmp_path / "scan.png"), "-o", str(tmp_path / "mask.png")]) == 0
    assert set(np.unique(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED))) <= {0, 255}
    assert main(["train", "--agent", "pixelrl", *words.split(), "--coarse", str(run), *more[:4]]) == 2

    refused = tmp_path / "refused"
    begin = ["train", "--agent", "pixelrl", "--out", str(refused), *words.split()[:-1]]
    learnt_elsewhere = ["count=20", "--coarse", str(unet), *more[:4]]
    for wrong, said in (
        ([*learnt_elsewhere, "--split-seed", "3"], "--split-seed 0 there, 3 here"),
        ([*learnt_elsewhere, "--split-by", "slice"], "--split-by patient there, slice here"),
        (["count=21", *learnt_elsewhere[1:]], "--dataset-option count=20 there, 21 here"),
        (["fractions=[0.6,0.2,0.2]", *learnt_elsewhere, "--size", "24"], "fractions=default there"),
        (["count=20", "--coarse", str(unet)], "give --transition additive"),
        (["count=20", "--coarse", str(tmp_path / "nope"), *more[:4]], f"{tmp_path / 'nope'}: no such run"),
    ):
        capsys.readouterr()
        assert main([*begin, *wrong]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "coarse" in error or "no such run" in error
        assert not refused.exists()
    stored = unet / "config.json"  # as of a folder that holds other patients now
    stored.write_text(stored.read_text().replace('"patients": ', '"patients": 9'))
    assert main([*begin, *learnt_elsewhere]) == 2
    assert "patients of the training set: 9" in capsys.readouterr().err
    lone = (unet / "checkpoint.safetensors").rename(tmp_path / "lone.safetensors")
    task = TaskArguments(size=16, dataset_option=("count=20",), transition="additive", coarse=lone)
    check_coarse(task, task.load("train")["train"])
    assert "which patients it learnt from" in capsys.readouterr().err
