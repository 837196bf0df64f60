"""The publication's figures are whole, and stand beside ours, or alone where there are none of ours."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.study.publication import Table
from benchmarks.study.published import PUBLISHED, published_datasets
from benchmarks.study.reading import Records
from benchmarks.study.report import all_tables, tables
from benchmarks.study.summaries import METRICS
from tests.helpers.grid import ROOT

# Rows and metrics that the publication's tables have of each data set.
PRINTED = {
    ("table-2", "brain"): (15, METRICS),
    ("table-2", "cardiac"): (15, METRICS),
    ("table-3", "brain"): (4, METRICS),
    ("table-3", "cardiac"): (4, METRICS),
    ("table-4", "brain"): (22, METRICS),
    ("table-4", "cardiac"): (22, METRICS),
    ("table-5", "hecktor"): (7, METRICS),
    ("table-6", "brain"): (4, ("DICE", "BIoU")),
    ("table-6", "cardiac"): (4, ("DICE", "BIoU")),
}


def test_every_number_of_the_publication_is_there_once() -> None:
    found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["dataset"]:
                found[line["table"], line["dataset"]][line["row"]].append(line["column"])
    assert {place: (len(rows), *rows.values()) for place, rows in found.items()} == {
        place: (count, *[list(metrics)] * count) for place, (count, metrics) in PRINTED.items()
    }


@pytest.mark.parametrize("place", PRINTED, ids="-".join)
def test_all_of_them_stand_in_the_committed_report(place: tuple[str, str]) -> None:
    name, dataset = place
    table = all_tables(ROOT / "benchmarks/records/grid")[dataset][name]
    count, metrics = PRINTED[place]
    columns = [column.name for column in table.columns]
    shown = {row for row in table.rows if row.startswith("*published")}
    assert shown <= table.apart
    scores = [table.rows[row][columns.index(one)] for row in shown for one in metrics]
    assert len(scores) == count * len(metrics)
    assert None not in scores
    if shown == set(table.rows):
        assert "No training of ours is in this table" in table.note
    else:
        assert "No training of ours" not in table.note


def test_other_data_sets_have_no_tables_without_rows_of_ours(done: Path) -> None:
    assert all_tables(done).keys() == {"phantom"}
    assert not tables(Records([]), "brain")
    assert not tables(Records([]), "phantom", whole=True)
    assert published_datasets()["table-5"] == {"hecktor"}


def test_a_table_without_a_training_shows_what_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Table(5, records=str(tmp_path), time=False).main() == 1
    printed = capsys.readouterr().out
    assert "| *published: PA3C* | 0.658 |" in printed
    assert "No training of ours" in printed
    assert "trainings are missing" in printed
