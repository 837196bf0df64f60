"""One JSON record per training: what was run, on what, and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixelseg_agents.files import read_json, reason, write_atomically
from pixelseg_env import DataError


def write_record(path: Path, record: dict[str, Any], lines: bool = False) -> None:
    """Writes a record, whole or not at all; floats are rounded to six digits to keep the files small.

    Args:
        path: the file.
        record: its content.
        lines: one line per key instead of one per value, for records with long lists.
    """
    rounded = _rounded(record)
    text = json.dumps(rounded, indent=1)
    if lines:
        text = "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rounded.items()) + "\n}"
    write_atomically(path, text + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Reads one record.

    Raises:
        DataError: the file is damaged.
    """
    try:
        record = read_json(path)
        if not isinstance(record, dict):
            raise TypeError(f"expected a JSON object, got {type(record).__name__}")
    except (OSError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: damaged, or not a record ({reason(error)}); remove it, and the command that made it makes it anew"
        ) from error
    return record


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, in the order of their names.

    Raises:
        DataError: there is no such folder, or a record is damaged.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise DataError(f"{folder}: expected records in a folder, which {found}")
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
