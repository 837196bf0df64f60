"""`pixelseg check`: what it prints, the picture, and its exit code."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_agents.cli import main as pixelseg
from pixelseg_agents.cli.check import COLUMNS, GAP, main
from pixelseg_env.rendering import SEGMENTATION


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shown(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(words) == code
    return capsys.readouterr().out


def test_a_folder_is_recognised_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_folder(tmp_path / "mine", tuple(f"p{k}_{z}" for k in range(5) for z in range(2)))
    files.write(tmp_path / "mine/p1_0_mask.png", np.zeros((12, 16), np.uint8))
    out = shown(["mine", "--size", "8"], capsys)
    for text in (
        "folder (for images lie in mine",
        "10 images or volumes; 12x16 (10)",
        "1 x uint8 (10); values from 20 to 29",
        "p0_0.png is read as patient 'p0', slice 0",
        "0 (88.28%), 255 (11.72%); 1 of 10 masks hold one value only",
        "10 images of 1x8x8 (uint8), 5 patient(s); labels: object",
        "1 of 10 images have no object",
        "val       1 patient(s), ",
    ):
        assert text in out, (text, out)


def test_the_picture_outlines_the_masks_and_replaces_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_folder(tmp_path / "mine", tuple("abcdef"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/check-folder.png").write_text("mine")
    out = shown(["mine", "--size", "none", "--out", "out"], capsys)
    assert (tmp_path / "out/check-folder.png").read_text() == "mine"
    assert "out/check-folder-2.png: a 0, b 0, c 0" in out
    picture = cv2.imread("out/check-folder-2.png")[..., ::-1]
    factor = 14  # 12 rows become at least 160
    assert picture.shape == (2 * 12 * factor + GAP, COLUMNS * 16 * factor + (COLUMNS - 1) * GAP, 3)
    rows, columns = np.nonzero((picture[: 12 * factor, : 16 * factor] == SEGMENTATION).all(axis=-1))
    assert (rows.min(), rows.max() + 1) == (3 * factor, 8 * factor)  # the square of `blob_mask`
    assert (columns.min(), columns.max() + 1) == (4 * factor, 9 * factor)


@pytest.mark.parametrize("words", [["phantom"], ["--dataset", "phantom"]])
def test_phantoms(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = shown([*words, "--size", "16", "--dataset-option", "count=20", "labels=2"], capsys)
    assert "train     14 patient(s), 14 image(s)" in out
    assert "labels: organ, lesion" in out
    assert "phantom_0000 0 organ, phantom_0000 0 lesion" in out
    assert (tmp_path / "check-phantom.png").is_file()


def test_options_and_the_deal_are_those_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_nnunet(tmp_path / "task")
    words = ["task", "--size", "8x6", "--split-by", "slice", "--dataset-option", "labels=1,2", "fractions=[0.5,0.5,0]"]
    out = shown(words, capsys)
    assert "nifti (for task holds imagesTr" in out
    assert "16 images of 2x8x6 (uint8), 4 patient(s); labels: oedema, core" in out
    assert "read as patient 'bts_000', all its slices" in out
    assert "4 image(s)" in out
    assert "\ntest" not in out


def test_damaged_data_give_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_folder(tmp_path / "mine", tuple("abcdefgh"))
    for name in "abcdefg":
        files.cut(tmp_path / f"mine/{name}.png")
    out = shown(["mine"], capsys, code=2)
    assert out.count("problem ") == 7, "every one"
    assert "error     mine/" in out
    assert not list(tmp_path.glob("*.png"))


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    from pixelseg_agents.cli import main as pixelseg

    assert pixelseg(["check", *words]) == 2
    return capsys.readouterr().err


def test_all_missing_masks_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_folder(tmp_path / "mine", tuple(f"p{k:02d}" for k in range(26)))
    for k in range(3):
        (tmp_path / f"mine/p{k:02d}_mask.png").unlink()
    (tmp_path / "mine/p25.png").unlink()
    error = said(["mine"], capsys)
    assert "4 problems" in error
    assert [f"mine/p{k:02d}.png: its mask is missing" in error for k in range(4)] == [True] * 3 + [False]
    assert "p25_mask.png: this mask has no image" in error
    for k in range(3, 25):
        (tmp_path / f"mine/p{k:02d}_mask.png").unlink()
    error = said(["mine"], capsys)
    assert "26 problems" in error
    assert error.count("is missing") == 20, "as many as one reads"
    assert "and 6 more" in error


def test_all_bad_rows_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_folder(tmp_path, tuple("abcd"))
    table = tmp_path / "pairs.csv"
    rows = ["image,mask,patient,slice", "a.png,a_mask.png,p,1", "b.png,nowhere.png,p,2", "c.png,c_mask.png,p,x"]
    table.write_text("\n".join([*rows, "d.png,d_mask.png,,4", "a.png,a_mask.png,p,5", "gone.png,lost.png,p,6"]))
    error = said(["pairs.csv"], capsys)
    assert "6 problems" in error
    for text in ("line 3: nowhere.png", "line 4: the slice", "line 5: the patient", "line 6: a.png is in"):
        assert text in error
    assert "line 7: gone.png" in error
    assert "line 7: lost.png" in error
    table.write_text("\n".join([rows[0], "a.png", "b.png,b_mask.png", rows[1]]))
    assert "2 problems" in said(["pairs.csv"], capsys)


def test_all_missing_labels_of_volumes_and_brains_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "task" / folder).mkdir(parents=True)
    for case in "abc":
        (tmp_path / f"task/imagesTr/{case}.nii.gz").touch()
    error = said(["task"], capsys)
    assert "3 problems" in error
    assert "its label task/labelsTr/c.nii.gz is missing" in error
    for case in "ab":
        (tmp_path / "brains" / case).mkdir(parents=True)
        (tmp_path / f"brains/{case}/{case}_1.tif").touch()
        (tmp_path / f"brains/{case}/{case}_2_mask.tif").touch()
    assert "4 problems" in said(["brains"], capsys)


def test_nothing_to_look_at_is_an_error() -> None:
    from pixelseg_agents.cli import main as pixelseg

    assert pixelseg(["check"]) == 2
    assert pixelseg(["check", "nowhere"]) == 2
    assert pixelseg(["check", "--dataset", "phantim"]) == 2


def test_a_console_that_shows_ascii_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_folder(tmp_path / "b\u00e4ume", tuple(f"\u5fc3{k}_0" for k in range(5)))
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    assert pixelseg(["check", "b\u00e4ume", "--size", "8"]) == 0
    sys.stdout.flush()
    assert rb"\u5fc30_0.png is read as patient" in buffer.getvalue()
