"""The table of what moves the policy says what its records say, and so does LOOKING.md."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.records import write_record
from benchmarks.study.settings import SETTINGS
from benchmarks.study.teachers_table import LABELS, by_patient, read, tables
from pixelseg_env import DataError

HERE = Path(__file__).parents[3] / "benchmarks"


def a_record(setting: str, seed: int, fold: int, dice: float) -> dict[str, Any]:
    """Three patients, one with two images; of another fold other ones."""
    cell = {"dataset": "brain", "agent": "pa3c", "setting": setting, "seed": seed, "fold": fold}
    images = {"case": [f"p{fold}{one}" for one in "aabc"]} | {
        name: [dice - 0.1, dice + 0.1, dice, dice] for name in ("DICE", "BIoU", "HD95")
    }
    return {
        "name": f"{setting}-s{seed}-f{fold}",
        "cell": cell | {"protocol": {"size": 48, "horizon": 1, "passes": 100}},
        "val": {"images": images},
    }


def write(folder: Path, setting: str, seeds: tuple[int, ...], folds: tuple[int, ...], dice: float) -> None:
    for seed in seeds:
        for fold in folds:
            record = a_record(setting, seed, fold, dice + 0.1 * seed + 0.01 * fold)
            write_record(folder / f"{record['name']}.json", record)


def test_rows_of_one_table_have_the_same_seeds_and_folds(tmp_path: Path) -> None:
    write(tmp_path, "gradient-vanilla", (0, 1), (0, 1, 2), 0.5)
    write(tmp_path, "gradient-natural", (0, 1), (0, 1), 0.6)
    write(tmp_path, "own", (0,), (0, 1), 0.4)
    write_record(tmp_path / "other.json", {"speed": 1})
    (rows,) = read([tmp_path]).values()
    found = tables(rows)
    assert list(found) == [((0,), (0, 1)), ((0, 1), (0, 1)), ((0, 1), (0, 1, 2))]
    both, one, alone = found[(0, 1), (0, 1)], found[(0,), (0, 1)], found[(0, 1), (0, 1, 2)]
    assert [len(text.splitlines()) for text in (both, one, alone)] == [4, 5, 3]
    assert "| natural | 0.655 | 0.655 | 0.7 | 0.650, 0.660 | +0.100 (+0.100 to +0.100)" in both
    assert "| likelihood ratio, as published | 0.505 | 0.505 | 0.5 | 0.500, 0.510 |  |  |" in one
    assert one.splitlines()[-1].startswith("| pa3c own | 0.405 |")
    ours = list(rows["pa3c", "gradient-vanilla"].values())
    np.testing.assert_allclose(by_patient(ours, "DICE")[0], [0.5] * 3 + [0.51] * 3 + [0.52] * 3)
    assert by_patient(ours, "DICE").shape == (2, 9)


def test_two_steps_are_compared_with_two_steps(tmp_path: Path) -> None:
    write(tmp_path, "reading-two-steps", (0,), (0, 1), 0.5)
    write(tmp_path, "reading-convolution", (0,), (0, 1), 0.6)
    (rows,) = read([tmp_path]).values()
    first, second = tables(rows)[(0,), (0, 1)].splitlines()[2:]
    assert first.startswith("| likelihood ratio, two steps | 0.505 |")
    assert first.endswith("|  |  |")
    assert "| +0.100 (+0.100 to +0.100)" in second


def test_what_cannot_stand_in_one_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record was judged on validation"):
        read([tmp_path])
    record = a_record("own", 0, 0, 0.5)
    for name in ("a", "b"):
        write_record(tmp_path / f"{name}.json", record)
    with pytest.raises(DataError, match=r"two records of own-s0-f0; remove"):
        read([tmp_path])
    with pytest.raises(DataError, match=r"patient p0a is in another fold"):
        by_patient([record, record], "DICE")
    other = copy.deepcopy(record)
    other["cell"]["seed"], other["val"]["images"]["case"] = 1, ["p0a", "p0a", "p0b", "p0b"]
    with pytest.raises(DataError, match=r"same patients for every seed"):
        by_patient([record, other], "DICE")


def test_results_have_the_numbers_of_the_records() -> None:
    """Every row of LOOKING.md that the command's table names begins as it does there."""
    (rows, *others) = read([HERE / "records/teachers"]).values()
    made = [text.splitlines() for part in (rows, *others) for text in list(tables(part).values())[:1]]
    known = {who for part in (rows, *others) for who in part}
    lines = (HERE / "LOOKING.md").read_text().replace("**", "").splitlines()
    for label in LABELS.values():
        row = next(line for text in made for line in text if line.startswith(f"| {label} |"))
        told = next(line for line in lines if line.startswith(f"| {label} |"))
        assert told.split("|")[:5] == row.split("|")[:5]
    assert LABELS.keys() <= known
    whole = {who[1]: row[0, 0] for part in others for who, row in part.items() if who[1].startswith("try-published")}
    dice = [f"{np.mean(whole[name]['val']['images']['DICE']):.3f}" for name in ("try-published-norm", "try-published")]
    assert f"{dice[0]} Dice instead of {dice[1]} on the validation" in (HERE.parent / "README.md").read_text()
    assert {setting for _, setting in LABELS} <= SETTINGS.keys()
