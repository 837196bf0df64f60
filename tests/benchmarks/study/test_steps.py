"""The table of what each step is worth says what its records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.records import write_record
from benchmarks.study.steps import by_patient, read, table
from pixelseg_env import DataError

HERE = Path(__file__).parents[3] / "benchmarks"


def a_record(seed: int, fold: int, gain: float) -> dict[str, Any]:
    """Two patients with an image and with three, which gain alike at the second step; of another fold other ones."""
    cases = [f"p{fold}a"] + [f"p{fold}b"] * 3
    first = [0.5, 0.6, 0.7, 0.8]
    scores = {m: [first, [value + gain for value in first]] for m in ("DICE", "BIoU", "HD95")}
    protocol = {"passes": 100}
    cell = {"dataset": "brain", "agent": "pa3c", "setting": "look-closer", "seed": seed, "fold": fold}
    return {"cell": cell | {"protocol": protocol}, "val": {"images": {"case": cases}, "by_step": scores}}


def test_the_table_pools_folds_and_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        for fold in range(3):
            write_record(tmp_path / f"r{seed}{fold}.json", a_record(seed, fold, 0.1 + 0.1 * seed))
    write_record(tmp_path / "other.json", {"cell": {}, "val": {}})
    records = read([tmp_path])
    assert len(records) == 6
    scores = by_patient(records, "val", "DICE", 0)
    assert scores.shape == (2, 6)
    np.testing.assert_allclose(scores[0], [0.5, 0.7] * 3)
    last = table(records, "val").splitlines()[-1]
    assert "| brain | pa3c | look-closer | 100 | 2 | 0.800 | 0.800 | 0.8 | +0.150 (+0.100 to +0.200)" in last
    assert last.endswith("| 3 folds of 2 seeds |")


def test_a_few_folds_are_compared_on_those(tmp_path: Path) -> None:
    for fold in range(3):
        write_record(tmp_path / f"r{fold}.json", a_record(0, fold, 0.1 * fold))
    other = a_record(0, 0, 0.4)
    other["cell"]["setting"] = "look-else"
    write_record(tmp_path / "else.json", other)
    assert len(read([tmp_path])) == 4
    last = table(read([tmp_path], [1, 2]), "val").splitlines()[-1]
    assert "| 0.800 | 0.800 | 0.8 | +0.150" in last
    assert last.endswith("| 2 folds |")
    both = table(read([tmp_path], [0]), "val")
    assert "look-else" in both
    assert both.endswith("| 1 fold |")
    with pytest.raises(DataError, match="each of the folds 0, 4"):
        read([tmp_path], [0, 4])


def test_the_gain_is_that_of_the_last_step_over_the_first() -> None:
    record = a_record(0, 0, 0.1)
    for steps in record["val"]["by_step"].values():
        steps.append([value + 0.3 for value in steps[0]])
    second, third = table([record], "val").splitlines()[-2:]
    assert "+" not in second
    assert "| +0.300 | +0.300 | +0.3 | 1 fold |" in third


def test_institutions_are_counted_and_protocols_never_mixed(tmp_path: Path) -> None:
    records = [a_record(0, place, 0.1) for place in (0, 1)]
    for one, place in zip(records, ("CS", "DU"), strict=True):
        one["cell"] |= {"fold": None, "left_out": place}
    assert table([*records, a_record(0, 3, 0.1)], "val").count("| 2 institutions |") == 2
    longer = a_record(0, 1, 0.1)
    longer["cell"]["protocol"] = {"passes": 100, "horizon": 3}
    with pytest.raises(DataError, match=r"pa3c look-closer: records with horizon .*3.* cannot stand in one row"):
        table([a_record(0, 0, 0.1), longer], "val")
    with pytest.raises(DataError, match="records with horizon 3 and None cannot stand"):
        table([longer, a_record(0, 0, 0.1)], "val")
    write_record(tmp_path / "mine.json", a_record(0, 0, 0.1))
    write_record(tmp_path / "without.json", {"val": {"by_step": {}}})
    assert len(read([tmp_path])) == 1


def test_records_without_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="after every step"):
        read([tmp_path])


@pytest.mark.parametrize("folder", ["looking", "looking-24000", "looking-narrow"])
def test_the_tables_of_the_results_are_those_of_the_records(folder: str) -> None:
    records, told = read([HERE / "records" / folder]), (HERE / "LOOKING.md").read_text(encoding="utf-8")
    parts = [part for part in ("val", "test") if any("by_step" in one.get(part, {}) for one in records)]
    assert parts
    missing = [line for part in parts for line in table(records, part).splitlines() if line not in told]
    assert not missing
    assert all(table(records, part) in told for part in parts), "a row too many, or in another order"
