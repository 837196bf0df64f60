"""A table (CSV) of image and mask files."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.folder import READER, check_options, load_images
from pixelseg_env.datasets.image_files import page_count
from pixelseg_env.datasets.labels import check_label_names
from pixelseg_env.datasets.naming import LARGEST, name_pairs, warn_of_patients
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.problems import SHOWN, for_each
from pixelseg_env.errors import DataError

__all__ = ["READER", "list_files", "load_table"]  # a file of it is read as one of 'folder'

DELIMITERS = (",", ";", "\t")


def load_table(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    channels: str = "auto",
    case_pattern: str | None = None,
    threshold: float | None = None,
    invert: bool = False,
    labels: Sequence[int] | Sequence[str] | None = None,
    white: float | None = None,
) -> SegmentationDataset:
    """Reads the files that a table names, of the kinds that `load_folder` reads.

    The first line names the columns: `image` and `mask`, and, if you like, `patient` and `slice`. Commas, semicolons
    or tabs part them; other columns are ignored. Paths are relative to the table's own folder.

    Args:
        data: the tables, .csv or .tsv; they are joined.
        size: (H, W), or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep images with empty masks.
        channels: see `load_folder`.
        case_pattern: how patient and slice are read in image names where there is no column `patient`; see
            `load_folder`.
        threshold: see `load_folder`.
        invert: see `load_folder`.
        labels: values of the mask, such as (1, 2), or names of columns that hold a mask for each label, such as
            ("organ", "lesion"), in place of the column `mask`.
        white: see `load_folder`.

    Returns:
        The whole set, images uint8 or float32.

    Raises:
        OptionError: an option's value is not valid.
        DataError: see `load_pairs`; or a table has no such columns, or names a file that is missing.

    Warns:
        UnclearPatientsWarning: there is no column `patient`, and names tell no clear patient.
        DimImagesWarning: see `load_folder`.
        TransparencyWarning: see `load_folder`.
    """
    wanted = check_options(channels, threshold, invert, labels, white)
    pairs, named = _find(data, case_pattern, labels)
    if not named and case_pattern is None:
        warn_of_patients("table", pairs)
    return load_images("table", pairs, size, fit, keep_empty, channels, threshold, invert, wanted, white)


def list_files(data: list[Path], case_pattern: str | None = None, labels: Any = None) -> list[Pair]:
    """Finds the files that the tables name."""
    return _find(data, case_pattern, labels)[0]


def _find(data: list[Path], case_pattern: str | None, labels: Any) -> tuple[list[Pair], bool]:
    """The files that the tables name, and whether any table names patients."""
    columns = [label for label in check_label_names(labels) if isinstance(label, str)] or ["mask"]
    found: list[tuple[Path, tuple[Path, ...], dict[str, str], str]] = []
    seen: dict[Path, str] = {}

    def read(place: tuple[Path, int, dict[str, str]]) -> None:
        table, line, row = place
        where = f"{table}, line {line}"
        image, *masks = for_each(lambda column: _file(table, row[column], column, where), ("image", *columns))
        if image in seen:
            raise DataError(f"{where}: {image} is in {seen[image]} already; expected each image once")
        seen[image] = where
        if "patient" in row and not row["patient"]:
            raise DataError(f"{where}: the patient is empty; name one, or leave the column out")
        if row.get("slice"):
            _whole(row["slice"], where)
        found.append((image, tuple(masks), row, where))

    tables = for_each(lambda table: [(table, *row) for row in _rows(table, columns)], data)
    for_each(read, chain.from_iterable(tables))
    nameless = [(image, "") for image, _, row, _ in found if "patient" not in row]
    named = {pair.image: pair for pair in name_pairs(nameless, case_pattern, page_count)}
    pairs: list[Pair] = []
    counted: Counter[str] = Counter()
    for image, files, row, where in found:
        if image in named:
            pair = replace(named[image], mask=files[0], more_masks=files[1:])
        else:
            case = row["patient"]
            stack = page_count(image) > 1
            pair = Pair(image, files[0], case, counted[case], more_masks=files[1:], stack=stack)
        counted[pair.case] += 1
        pairs.append(replace(pair, number=_whole(row["slice"], where)) if row.get("slice") else pair)
    return pairs, len(named) < len(found)


def _rows(table: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The line number and the cells of each row that is not blank, by column name."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); check the file and its rights") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: expected a text file in UTF-8 ({error}); save it so, e.g. 'CSV UTF-8'") from error
    header = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=max(DELIMITERS, key=header.count))
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: {error}; expected cells of file names") from error
    names = [name.strip().lower() for name in (lines[0][1] if lines else [])]
    missing = [name for name in ("image", *columns) if name.lower() not in names]
    if missing:
        raise DataError(
            f"{table}: expected a first line that names the columns image and {', '.join(columns)} (and patient and "
            f"slice, if there are any), got {', '.join(names)[:SHOWN] or 'nothing'}; {' and '.join(missing)} is missing"
        )

    def row_of(line: tuple[int, list[str]]) -> tuple[int, dict[str, str]]:
        number, cells = line
        if len(cells) < len(names):
            raise DataError(f"{table}, line {number}: expected {len(names)} cells, got {len(cells)}")
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        return number, row | {name: row[name.lower()] for name in columns}

    rows = for_each(row_of, [line for line in lines[1:] if any(cell.strip() for cell in line[1])])
    if not rows:
        raise DataError(f"{table}: holds no row; expected a line for each image")
    return rows


def _file(table: Path, text: str, column: str, where: str) -> Path:
    path = table.parent / text
    try:
        there = bool(text) and path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        there = False
    if not there:
        raise DataError(
            f"{where}: {repr(text)[1:-1][:SHOWN] or 'nothing'} in column {column!r} is no file; expected a path "
            f"relative to {table.parent} (or a whole path)"
        )
    return path


def _whole(text: str, where: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise DataError(f"{where}: the slice is {repr(text)[:SHOWN]}; expected a whole number") from None
    if abs(number) > LARGEST:
        raise DataError(
            f"{where}: the slice is {text[:SHOWN]}; expected a number up to {LARGEST}, such as 1, 2, 3, ..."
        )
    return number
