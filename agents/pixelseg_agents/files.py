"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file under a temporary name beside it and renames it: readers see the old or the new one."""
    goal = Path(path)
    goal.parent.mkdir(parents=True, exist_ok=True)
    temporary = goal.with_name(f".{goal.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, goal)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
