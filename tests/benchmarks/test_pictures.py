"""The pictures that are drawn from episodes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.fresh import run_script
from tests.helpers.grid import ROOT


def test_the_picture_of_the_idea_is_drawn(tmp_path: Path) -> None:
    done = run_script(ROOT / "benchmarks/pictures/idea.py", "--updates", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "idea.png").is_file()
    assert len(re.findall(r"0\.\d{3}", done.stdout)) >= 5, done.stdout
