"""The benchmark's grid on Ray: the same records, and a failed cell stops no other."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray")

from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.engine import run_grid
from benchmarks.study import MODULE


def test_cells_run_on_ray_and_a_failed_one_stops_no_other(tmp_path: Path) -> None:
    tiny = Protocol(size=16, width=0.125, passes=80, horizon=2)
    # The last is known by the study alone, which a worker has to find.
    good = [Cell("phantom", (), agent, protocol=tiny, study=MODULE) for agent in ("keep-all", "pa3c", "twin-plain")]
    broken = Cell("folder", (str(tmp_path / "nowhere"),), "otsu", protocol=tiny)
    assert run_grid([broken, *good], tmp_path, ray=True) == [broken.name]
    assert {path.name for path in tmp_path.glob("*.json")} == {f"{cell.name}.json" for cell in good}
    assert "nowhere" in (tmp_path / f"{broken.name}.error.txt").read_text()
