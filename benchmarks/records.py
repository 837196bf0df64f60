"""One JSON record per training: what was run, on what, and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixelseg_agents.files import write_atomically


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a record, whole or not at all; floats are rounded to six digits to keep the files small."""
    write_atomically(path, json.dumps(_rounded(record), indent=1) + "\n")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
