"""Commands say in a sentence what a reader can put right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.failures import exit_code
from pixelseg_env import DataError

ROOT = Path(__file__).parents[2]


def raises(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("no such learner"), 2, "benchmarks: error: no such learner"),
        (FileNotFoundError(2, "No such file", "here.json"), 2, "benchmarks: error: here.json: No such file"),
        (OSError("no room"), 2, "benchmarks: error: no room\n"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
)
def test_what_a_reader_can_mend_is_a_sentence(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raises(error)) == code
    assert said in capsys.readouterr().err


def test_other_errors_stay_what_they_are_and_codes_too() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)
    assert [exit_code(lambda: None), exit_code(lambda: 3)] == [0, 3]


def test_a_table_of_the_study_says_it_too() -> None:
    command = [sys.executable, "-m", "benchmarks.study.beside", "benchmarks/records/looking"]
    found = subprocess.run([*command, "--one", "a:b", "--others", "c:d"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("benchmarks: error: a:b: no record of brain")
    steps = f"{sys.executable} -m benchmarks.study.steps benchmarks/records/looking-narrow"
    cut = subprocess.run(f"{steps} | head -c 1", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert cut.stdout == "*"
    assert cut.stderr == ""
