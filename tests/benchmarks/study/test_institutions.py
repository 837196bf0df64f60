"""The table of institutions: trained on all others, tested on one, and what it says is what its records say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.grid.running import run_cell
from benchmarks.records import read_records, write_record
from benchmarks.study.commands import Run
from benchmarks.study.institutions import read, table
from pixelseg_env import DataError
from tests.helpers.data import write_institutions
from tests.helpers.grid import TINY


def test_a_grid_leaves_each_institution_out_and_the_table_reads_it(tmp_path: Path) -> None:
    write_institutions(tmp_path / "data")
    grid = Run(
        "folder",
        (str(tmp_path / "data"),),
        ("otsu",),
        seeds=(0,),
        leave_out=("XX_A", "XX_B"),
        out=tmp_path / "out",
        protocol=TINY,
    )
    for cell in grid.cells():
        run_cell(grid.out, cell)
    records = read([tmp_path / "out"])
    lines = table(records).splitlines()
    assert "| patients | images | otsu default 120: Dice ↑ |" in lines[0]
    assert [line.split(" | ")[:3] for line in lines[2:4]] == [[f"| XX_{k}", "4", "8"] for k in "AB"]
    found = [one["test"]["images"] for one in records]
    dice, by_patient = (float(line) for line in lines[-2].split(" | ")[3:5])
    assert dice == pytest.approx(np.mean([np.mean(one["DICE"]) for one in found]), abs=6e-4)
    patients = [np.mean(np.reshape(one["DICE"], (4, 2)), axis=1) for one in found]  # two images each, in order
    assert by_patient == pytest.approx(np.mean(patients), abs=6e-4)


def made_up(folder: Path, name: str, dice: float, images: int = 2, **cell: object) -> None:
    """A record of a patient of an institution."""
    about = {"dataset": "brain", "agent": "pa3c", "setting": "once", "seed": 0, "fold": None, "left_out": "A"} | cell
    protocol = {"size": 16, "judge_at": "native", "passes": 9}
    scores = {metric: {"mean": dice, "patient_mean": dice / 2} for metric in ("DICE", "BIoU", "HD95")}
    said = {"images": {"case": ["A1"] * images, "slice": list(range(images))}, "summary": {"metrics": scores}}
    write_record(folder / f"{name}.json", {"name": name, "cell": about | {"protocol": protocol}, "test": said})


def test_seeds_are_averaged_and_what_lacks_stays_empty(tmp_path: Path) -> None:
    made_up(tmp_path, "a0", 0.5)
    made_up(tmp_path, "a1", 0.7, seed=1)
    made_up(tmp_path, "b", 0.9, left_out="B", images=4)
    made_up(tmp_path, "c", 0.8, agent="ac", left_out="B", images=4)
    made_up(tmp_path, "split", 0.1, left_out="")
    a, b, mean, every = table(read([tmp_path])).splitlines()[2:]
    assert a == "| A | 1 | 2 | 0.600 | 0.300 | 0.600 | 0.6 |  |  |  |  |"
    assert b == "| B | 1 | 4 | 0.900 | 0.450 | 0.900 | 0.9 | 0.800 | 0.400 | 0.800 | 0.8 |"
    assert mean == "| mean of institutions |  |  | 0.750 | 0.375 | 0.750 | 0.8 |  |  |  |  |"
    assert every == "| all | 2 | 6 | 0.800 | 0.375 | 0.800 | 0.8 |  |  |  |  |", (
        "four images count twice two, a patient one"
    )
    made_up(tmp_path, "d", 0.8, agent="ac", images=3)
    with pytest.raises(DataError, match="other images of A"):
        read([tmp_path])


def test_folders_without_such_records_and_of_two_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--leave-out"):
        read([tmp_path])
    made_up(tmp_path, "a", 0.5)
    made_up(tmp_path, "b", 0.5, dataset="cardiac")
    assert len(read_records(tmp_path)) == 2
    with pytest.raises(DataError, match=r"brain, decided at 16.* and cardiac"):
        read([tmp_path])
