"""The leaderboard is what the records say, ranks as it says, and never mixes protocols."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study import leaderboard
from benchmarks.study.leaderboard import HERE, PAGE, boards, costs, known_costs, page
from benchmarks.study.operations import count_looks
from pixelseg_env import DataError

RECORDS = HERE / "records"


@pytest.fixture(scope="module")
def found() -> dict[str, list[leaderboard.Row]]:
    return boards(RECORDS)


def test_the_page_is_that_of_the_records(found: dict[str, list[leaderboard.Row]]) -> None:
    assert PAGE.read_text() == page(found, known_costs()), "run `python -m benchmarks.study.leaderboard`"


def test_a_folder_without_any_leaves_the_page_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine")
    for folder in (tmp_path, RECORDS / "looking"):
        with pytest.raises(DataError, match="no record takes part; expected a folder that holds some of looking"):
            leaderboard.main([str(folder), "--out", str(page)])
    assert page.read_text() == "mine"


def test_what_it_costs_is_known_of_every_row_and_counted(found: dict[str, list[leaderboard.Row]]) -> None:
    known = known_costs()
    assert costs(found, known) == known, "run `python -m benchmarks.study.leaderboard`"
    name = "grid/brain-pa3c-default-s0"
    record = json.loads((RECORDS / f"{name}.json").read_text())
    record["cell"]["protocol"] = {"judge_at": "size"} | record["cell"]["protocol"]
    assert known[name] == pytest.approx(sum(count_looks(record, "test")), abs=1e-4)


def test_each_table_has_one_protocol_and_is_sorted(found: dict[str, list[leaderboard.Row]]) -> None:
    assert len(found) >= 5
    for rows in found.values():
        cells = [record["cell"] for row in rows for record in row.records]
        assert len({(cell["dataset"], *cell["data"]) for cell in cells}) == 1
        for name in ("size", "passes"):
            assert len({cell["protocol"][name] for cell in cells}) == 1
        assert len({cell["protocol"].get("judge_at", "size") for cell in cells}) == 1
        assert len({record["test"]["summary"]["images"] for row in rows for record in row.records}) == 1
    for table in PAGE.read_text().split("\n## ")[2:]:
        lines = re.findall(r"^\| (\d*) \| .*? \| (\d\.\d{3}) \|", table, re.M)
        assert [float(dice) for _, dice in lines] == sorted((float(dice) for _, dice in lines), reverse=True)
        ranks = [int(rank) for rank, _ in lines if rank]
        assert ranks == list(range(1, len(ranks) + 1))


def written(folder: Path, record: dict[str, Any]) -> None:
    (folder / "systems").mkdir(parents=True, exist_ok=True)
    (folder / "systems" / f"{record['name']}.json").write_text(json.dumps(record))


def test_a_submitted_record_gets_its_row(tmp_path: Path) -> None:
    """Of an agent that is nowhere here, under the protocol of the table; under another it gets a table of its own."""
    ours = json.loads((RECORDS / "systems/brain-pa3c-default-s0.json").read_text())
    theirs = copy.deepcopy(ours)
    theirs["name"], theirs["cell"]["agent"] = "brain-theirs-s0", "their_file:Agent"
    theirs["facts"] = {"label": "Theirs"}
    theirs["test"]["summary"]["metrics"]["DICE"]["mean"] = 0.9
    written(tmp_path, ours)
    written(tmp_path, theirs)
    (rows,) = boards(tmp_path).values()
    assert [row.agent for row in rows] == ["their_file:Agent", "pa3c"]
    text = page(boards(tmp_path), {})
    assert "| 1 | Theirs | 0.900 |" in text
    assert "| 2 | PA3C | " in text
    theirs["cell"]["protocol"]["size"] = 128
    written(tmp_path, theirs)
    assert [len(rows) for rows in boards(tmp_path).values()] == [1, 1]
