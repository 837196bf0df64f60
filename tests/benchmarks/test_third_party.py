"""The programs behind docs/third-party.md run, and say what they need where a library is missing."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.helpers.fresh import run_script
from tests.helpers.grid import ROOT

PROGRAMS = sorted(path for path in (ROOT / "benchmarks/third_party").glob("*.py") if path.stem != "__init__")
SHORT = {  # that they learn is tested in tests/env/views, or seen in the table
    "sb3_agents": ["--rounds", "1"],
    "sb3_contrib_agents": ["--rounds", "1"],
    "skrl_ppo": ["2"],
    "tianshou_ppo": [],
    "torchrl_reinforce": ["--batches", "2"],
}
LIBRARIES = {"sb3_contrib_agents": "sb3_contrib", "skrl_ppo": "skrl", "tianshou_ppo": "tianshou"}


def test_every_program_is_run() -> None:
    assert {path.stem for path in PROGRAMS} == SHORT.keys() | {"rllib_ppo"}  # whose environment is that of tests/rllib


@pytest.mark.parametrize("name", SHORT)
def test_a_program_runs(name: str, tmp_path: Path) -> None:
    library = LIBRARIES.get(name)
    missing = library is not None and importlib.util.find_spec(library) is None
    done = run_script(ROOT / f"benchmarks/third_party/{name}.py", *SHORT[name], folder=tmp_path)
    if missing:
        assert done.returncode == 1
        assert "pip install" in done.stderr
        pytest.skip(f"{library} is not installed; the program says so")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"[+-]?0\.\d{3}", done.stdout)) >= 5, done.stdout
