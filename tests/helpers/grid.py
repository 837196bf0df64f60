"""Cells of tiny grids, and their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.grid.cells import Cell, Protocol
from benchmarks.study import MODULE

TINY = Protocol(size=16, width=0.125, passes=120, horizon=2)
PHANTOMS = 90  # as many as a grid in this process has; more than 50 of them can be trained on
ROOT = Path(__file__).resolve().parents[2]


def cell(agent: str = "otsu", **options: Any) -> Cell:
    return Cell("phantom", (), agent, protocol=TINY, study=MODULE, **options)


def record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def one_env() -> Any:
    return cell("pa3c").environment("train", 2)
