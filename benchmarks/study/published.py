"""The publication's own figures, as rows of our tables that do not compete."""

from __future__ import annotations

import csv
from math import isfinite
from pathlib import Path

from benchmarks.grid.tables import Table
from benchmarks.study.summaries import METRICS
from pixelseg_env import DataError

PUBLISHED = Path(__file__).with_name("published.csv")
"""Tables 2 to 6 of the publication: table, dataset (empty: all), row, column, value, which may be "mean ± spread"."""
TABLES = ("table-2", "table-2-by-patient", "table-3", "table-4", "table-5", "table-6")
COLUMNS = (*METRICS, "parameters, M")
NOTE = (
    "Rows *published* are the publication's own figures: other images (1,168 brain and 1,293 cardiac slices, 201 cases "
    "of PET) and splits, at 256x256, after 200 epochs; they compete with nothing here."
)

ALONE = "No training of ours is in this table; benchmarks/README.md says how one is made."
PARAMETERS_ALONE = "Rows *published* have the publication's numbers of parameters; it has no scores on this data set."


def add_published(table: Table, name: str, dataset: str, published: Path = PUBLISHED) -> None:
    """Puts the published figures under a table, in rows of their own that do not compete.

    What the publication has of the data set comes whole, whether there is a row of ours beside it or not; what it says
    of no data set, beside rows that are there. Columns that the table does not have are left out.

    Args:
        table: what is added to; with no row of its own it says so.
        name: "table-2" and so on.
        dataset: its data set.
        published: a CSV as `PUBLISHED`.

    Raises:
        DataError: the file is not such a CSV.
    """
    places = {column.name: number for number, column in enumerate(table.columns)}
    own, added = set(table.rows), set()
    lines = [line for line in _lines(published) if line[0] == name and line[3] in places]
    for scope in (dataset, ""):
        for _, where, told, column, value in lines:
            row = f"*published: {told}*"
            if where == scope and (scope or told in own or row in table.rows):
                table.apart.add(row)
                table.rows.setdefault(row, [None] * len(table.columns))[places[column]] = value
                added.add(column)
    if added:
        said = NOTE if added != {COLUMNS[-1]} else PARAMETERS_ALONE
        table.note = f"{table.note if own else ALONE} {said}".strip()


def published_datasets(published: Path = PUBLISHED) -> dict[str, set[str]]:
    """The data sets that the publication has figures of, by table.

    Raises:
        DataError: the file is not as `PUBLISHED`.
    """
    found: dict[str, set[str]] = {}
    for table, dataset, *_ in _lines(published):
        if dataset:
            found.setdefault(table, set()).add(dataset)
    return found


Line = tuple[str, str, str, str, float | tuple[float, float]]


def _lines(published: Path) -> list[Line]:
    """Table, data set, row, column and value of every line."""
    found: list[Line] = []
    with published.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                value = _value(line["value"])
                if line["table"] not in TABLES or not line["column"].endswith(COLUMNS):
                    raise ValueError
                found.append((line["table"], line["dataset"], line["row"], line["column"], value))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{published}, line {number}: expected table,dataset,row,column,value with one of the tables "
                    f"{', '.join(TABLES)}, one of its columns, and a number, or mean ± spread, at the end; got {line}"
                ) from error
    return found


def _value(text: str) -> float | tuple[float, float]:
    numbers = [float(part) for part in text.split("±")]
    if len(numbers) > 2 or not all(map(isfinite, numbers)):
        raise ValueError
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
