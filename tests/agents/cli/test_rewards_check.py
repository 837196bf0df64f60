"""`pixelseg rewards list` and `pixelseg rewards check`: what they print, the picture, the exit code."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from pixelseg_agents.cli import main
from tests.helpers.figures import drawn

OWN = """
def bonus(previous, current, target):
    return 1.0 * current


def draws(previous, current, target):
    import random
    return current * random.random()
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert main(["rewards", *words]) == code
    shown = capsys.readouterr()
    return " ".join((shown.out + shown.err).split())


def test_the_list_is_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| `squared_error` |") for line in lines) == 1
    assert all(line.startswith("| ") for line in lines)


def test_a_sound_reward(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(["check", "squared_error", "--horizon", "5"], capsys, 0)
    for text in (
        "squared_error: (f(t-1) - G)^2 - (f(t) - G)^2 (Liu et al. 2025, Eq. 12)",
        "a pixel earned -1 to 1 in a step",
        "telescopes yes",
        "weighs in the first step, losing an object pixel costs 1.00, removing a false one earns 1.00; in the end, a "
        "missed pixel costs 1.00, a false one costs 1.00",
        " ms a step for an image of 64x64",
        "all that it can do was tried",
        "SOUND no episode earns more than segmenting at once does without segmenting",
    ):
        assert text in out, (text, out)
    assert "LOOPHOLE" not in out


def test_the_loophole_in_words_letters_and_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "gain_only", "--transition", "restorable"]
    with drawn():
        assert main(["rewards", *words, "--picture", "hole.png"]) == 1
    out = capsys.readouterr().out
    assert "earn 2 a pixel in 4 steps, where segmenting at once" in out
    assert "loophole   start   t = 1   t = 2   t = 3   t = 4\n           ++++++  ......  ++++++  ......  ++++++" in out
    assert "\n           +####+  .oooo.  +####+  .oooo.  +####+\n" in out
    assert "earned             +0.67   +0.33   +0.67   +0.33\n" in out
    picture = cv2.imread("hole.png")
    assert min(picture.shape[:2]) > 400
    assert picture.std() > 20
    assert "exists" in said([*words, "--picture", "hole.png"], capsys, 2)
    assert "ends in .png" in said([*words, "--picture", "hole.txt"], capsys, 2)
    assert said([*words, "--picture", "hole.png", "--overwrite"], capsys, 1)


def test_expressions_and_functions_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine_too.py").write_text(OWN)
    out = said(["check", "0.7*squared_error + 0.3*dice_gain", "--horizon", "4"], capsys, 0)
    assert "no episode was found that earns more" in out
    assert "object of 6%: in the first step" in out
    out = said(["check", "squared_error + mine_too:bonus", "--horizon", "3"], capsys, 1)
    assert "LOOPHOLE keeping everything, that is doing nothing, earns 3 a pixel in 3 steps" in out
    assert "mine_too:draws breaks the rules: - it is not the same twice" in said(["check", "mine_too:draws"], capsys, 2)
    assert "Did you mean 'gain_only'" in said(["check", "gain_olny"], capsys, 2)
    assert "Did you mean 'check'" in said(["chek"], capsys, 2)
    assert "takes no arguments" in said(["list", "all"], capsys, 2)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "pixelseg rewards check" in said(["--help"], capsys, 0)
    assert said([], capsys, 2)
    with pytest.raises(SystemExit) as stop:
        main(["rewards", "check", "--help"])
    assert stop.value.code == 0
    assert "Exit code: 0, no loophole was found; 1, there is one" in capsys.readouterr().out
