"""Where cells are judged: records say it, earlier ones were judged at size, and tables never mix the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.grid.cells import Cell, Protocol, is_done, record_path
from benchmarks.grid.commands import Run
from benchmarks.grid.running import run_cell
from benchmarks.records import write_record
from benchmarks.study import MODULE
from benchmarks.study.reading import Records, read_grid
from benchmarks.study.report import all_tables, tables, write_report
from pixelseg_agents.evaluation import ceiling
from pixelseg_env import DataError, OptionError
from tests.helpers.data import write
from tests.helpers.grid import ROOT, record


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k in range(10):
        mask = np.zeros((36, 30), np.uint8)
        mask[3 + k : 20 + k, 5:17] = 255
        write(root / f"images/p{k}.png", rng.integers(0, 120, (36, 30)).astype(np.uint8) + mask // 2)
        write(root / f"masks/p{k}.png", mask)
    return root


def cell(data: Path, agent: str, judge_at: str) -> Cell:
    protocol = Protocol(size=16, width=0.125, passes=40, horizon=2, judge_at=judge_at)  # type: ignore[arg-type]
    return Cell("folder", (str(data),), agent, protocol=protocol, study=MODULE)


@pytest.fixture(scope="module")
def records(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where it was judged to a folder of records."""
    folders = {place: tmp_path_factory.mktemp(place) for place in ("native", "size")}
    for place, folder in folders.items():
        for agent in ("oracle", "otsu", *(["ac"] if place == "native" else [])):
            run_cell(folder, cell(data, agent, place))
    return folders


def dice(folder: Path, data: Path, agent: str, place: str) -> float:
    found = record(record_path(folder, cell(data, agent, place)))
    return float(found["test"]["summary"]["metrics"]["DICE"]["mean"])


def test_records_say_where_and_the_oracle_is_the_ceiling(records: dict[str, Path], data: Path) -> None:
    test = cell(data, "oracle", "native").parts["test"]
    best = ceiling(test, 2)
    assert dice(records["native"], data, "oracle", "native") == pytest.approx(best.metrics["DICE"].mean(), abs=1e-5)
    assert dice(records["size"], data, "oracle", "size") == 1
    for place, folder in records.items():
        for agent in ("otsu", "ac"):
            if agent == "ac" and place == "size":
                continue
            found = record(record_path(folder, cell(data, agent, place)))
            assert found["cell"]["protocol"]["judge_at"] == found["test"]["summary"]["judged_at"] == place
            assert found["test"]["summary"]["judged_sizes"] == ([[36, 30]] if place == "native" else [[16, 16]])
            if agent == "ac":
                last = found["val"]["summary"]["dice_by_step"][-1]
                assert found["curve"][-1]["dice"] == pytest.approx(last, abs=1e-5)
    assert dice(records["native"], data, "otsu", "native") != dice(records["size"], data, "otsu", "size")


def test_tables_say_where(records: dict[str, Path]) -> None:
    native, at_size = (all_tables(records[place])["folder"] for place in ("native", "size"))
    assert "Judged on the files' own pixels, decided at 16x16: the row *oracle*" in native["table-2"].note
    assert "Judged at 16x16, the size that was decided at." in at_size["table-2"].note
    found = read_grid(records["native"])["folder"]
    for one in found:
        one["test"]["summary"]["judged_on"] = "what was cut out"
    assert "Judged on what was cut out, decided at 16x16" in tables(Records(found), "folder")["table-2"].note
    assert "Judged" not in native["budgets"].note
    committed = all_tables(ROOT / "benchmarks/records/grid")["brain"]
    assert "Judged at 48x48, the size that was decided at." in committed["table-2"].note


def without(folder: Path, out: Path) -> dict[str, Any]:
    """Copies a record as earlier versions wrote it."""
    path = next(folder.glob("*otsu*.json"))
    found = record(path)
    del found["cell"]["protocol"]["judge_at"], found["test"]["summary"]["judged_at"]
    write_record(out / path.name, found)
    return found


def test_earlier_records_were_judged_at_size(records: dict[str, Path], data: Path, tmp_path: Path) -> None:
    without(records["size"], tmp_path)
    assert is_done(tmp_path, cell(data, "otsu", "size"))
    with pytest.raises(OptionError, match=r"'judge_at': 'size'.*then, .*'judge_at': 'native'.* now"):
        is_done(tmp_path, cell(data, "otsu", "native"))
    size = next(records["size"].glob("*oracle*.json"))
    (tmp_path / size.name).write_text(size.read_text())
    assert "Judged at 16x16" in write_report(tmp_path, tmp_path / "out")


def test_records_judged_in_different_places_stand_in_no_table(records: dict[str, Path], tmp_path: Path) -> None:
    without(records["size"], tmp_path)
    native = next(records["native"].glob("*oracle*.json"))
    (tmp_path / native.name).write_text(native.read_text())
    with pytest.raises(DataError, match=r"different protocols cannot stand in one table.*'judge_at'"):
        all_tables(tmp_path)


def test_the_option(tmp_path: Path) -> None:
    assert Run(agents=("otsu",)).cells()[0].protocol.judge_at == "native"
    with pytest.raises(OptionError, match="judge_at='files' is not known"):
        Protocol(judge_at="files")  # type: ignore[arg-type]
    made = Protocol(judge_at="size")
    assert Protocol.of_record(json.loads(json.dumps({"size": 48}))) == made
