"""The table of where learners end says what their records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import write_record
from benchmarks.study.ends import SHOWN, read, table
from benchmarks.study.summaries import METRICS
from pixelseg_env import DataError


def a_record(seed: int, fold: int, score: float, narrow: bool) -> dict[str, Any]:
    """Three patients, of whom the last has two images; of another fold other ones."""
    cases = [f"p{fold}{case}" for case in "abcc"]
    values = [score, score, score + 0.2, score + 0.4]
    images = {"case": cases} | dict.fromkeys(METRICS, values)
    by_step = {"DICE": [values]} | ({"BIoU-2px": [[0.9] * 4, [value / 2 for value in values]]} if narrow else {})
    cell = {"dataset": "brain", "agent": "pa3c", "setting": "closer" if narrow else "once", "seed": seed, "fold": fold}
    return {"cell": cell, "test": {"images": images, "by_step": by_step}}


def test_the_table_has_every_metric_by_image_and_by_patient(tmp_path: Path) -> None:
    for seed in (0, 1):
        for fold in (0, 1):
            write_record(tmp_path / f"{seed}{fold}.json", a_record(seed, fold, 0.2 + 0.2 * seed, True))
    write_record(tmp_path / "other.json", a_record(0, 0, 0.1, False))
    write_record(tmp_path / "speed.json", {"rows": []})
    head, _, images, patients, *others = table(read([tmp_path], "brain", ["pa3c:closer", "pa3c:once"])).splitlines()
    names = [name.strip() for name in head.strip("|").split("|")]
    assert names == ["learner", "mean over", *SHOWN, "seeds"]
    told = dict(zip(names, (cell.strip() for cell in images.strip("|").split("|")), strict=True))
    assert [told[name] for name in METRICS] == ["0.450"] * 5 + ["0.5"]
    assert told["BIoU-2px"] == "0.225"  # after the last step
    assert told["seeds"] == "2"
    told = dict(zip(names, (cell.strip() for cell in patients.strip("|").split("|")), strict=True))
    assert told["DICE"].startswith("0.400 (0.2")  # two of 0.3, one of 0.6
    low, high = (float(one) for one in told["DICE"][7:-1].split(" to "))
    assert 0.2 <= low < 0.3 < 0.5 < high <= 0.7, "over seeds too"
    assert [line.count("|  |") for line in others] == [1, 1], "an older record has no narrow band"
    assert "0.200 |" in others[1], "too few patients for an interval"


@pytest.mark.parametrize("dataset", ["brain", "cardiac"])
def test_the_table_of_the_results_is_that_of_the_records(dataset: str) -> None:
    told = Path("benchmarks/LOOKING.md").read_text(encoding="utf-8")
    commands = [" ".join(part.split("`")[0].split()) for part in told.split("python -m benchmarks.study.ends")[1:]]
    (command,) = (one for one in commands if ("--dataset cardiac" in one) == (dataset == "cardiac"))
    learners = command.split(" --learners ")[1].split()
    assert table(read([Path("benchmarks/records/looking")], dataset, learners)) in told


def test_folds_and_the_usual_split_are_rows_of_their_own(tmp_path: Path) -> None:
    """Both test on the same patients, who would count twice."""
    for fold in (0, 1):
        write_record(tmp_path / f"f{fold}.json", a_record(0, fold, 0.2, True))
    split = a_record(0, 0, 0.6, True)
    split["cell"]["fold"] = None
    write_record(tmp_path / "split.json", split)
    rows = table(read([tmp_path], "brain", ["pa3c:closer"])).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows[::2]] == ["pa3c:closer, by fold", "pa3c:closer, by split"]
    assert ["| 0.350 |" in rows[0], "| 0.750 |" in rows[2]] == [True, True]
    split["cell"]["protocol"] = {"passes": 100}
    write_record(tmp_path / "split.json", split)
    with pytest.raises(DataError, match=r"pa3c:closer: records with passes .*100.* cannot stand in one row"):
        read([tmp_path], "brain", ["pa3c:closer"])


def test_a_learner_without_records_is_named(tmp_path: Path) -> None:
    write_record(tmp_path / "one.json", a_record(0, 0, 0.1, False))
    with pytest.raises(DataError, match=r"pa3c:closer: no record of brain .* there are pa3c:once"):
        read([tmp_path], "brain", ["pa3c:closer"])
