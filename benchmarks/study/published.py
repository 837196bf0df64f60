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

PARAMETERS_ALONE = "Rows *published* have the publication's numbers of parameters; it has no scores on this data set."


def add_published(table: Table, name: str, dataset: str, published: Path = PUBLISHED) -> None:
    """Puts the published figures under a table, in rows of their own that do not compete.

    Rows and columns that the table does not have are left out.

    Args:
        table: what is added to.
        name: "table-2" and so on.
        dataset: its data set.
        published: a CSV as `PUBLISHED`.

    Raises:
        DataError: the file is not such a CSV.
    """
    places = {column.name: number for number, column in enumerate(table.columns)}
    added = scores = False
    with published.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                wanted = line["table"] == name and line["dataset"] in ("", dataset) and line["row"] in table.rows
                value, column = _value(line["value"]), line["column"]
                if line["table"] not in TABLES or not column.endswith(COLUMNS):
                    raise ValueError
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{published}, line {number}: expected table,dataset,row,column,value with one of the tables "
                    f"{', '.join(TABLES)}, one of its columns, and a number, or mean ± spread, at the end; got {line}"
                ) from error
            if wanted and column in places:
                row = f"*published: {line['row']}*"
                table.apart.add(row)
                table.rows.setdefault(row, [None] * len(table.columns))[places[column]] = value
                added = True
                scores = scores or not column.endswith(COLUMNS[-1])
    if added:
        table.note = f"{table.note} {NOTE if scores else PARAMETERS_ALONE}".strip()


def _value(text: str) -> float | tuple[float, float]:
    numbers = [float(part) for part in text.split("±")]
    if len(numbers) > 2 or not all(map(isfinite, numbers)):
        raise ValueError
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
