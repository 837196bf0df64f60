"""What several files of tests share, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.grid.running import run_cell
from benchmarks.study.learners import LEARNERS, REFERENCES
from tests.helpers.grid import cell


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every learner once, two of them twice, every reference, two settings."""
    folder = tmp_path_factory.mktemp("grid")
    cells = [cell(one.name) for one in (*LEARNERS, *REFERENCES)]
    cells += [cell("pa3c", seed=1), cell("ac", seed=1), cell("pa3c", setting="t_max-5"), cell("ac", setting="50-shot")]
    cells += [cell("dueling-dqn", fold=k) for k in range(2)] + [cell("examples.own_agent:Threshold")]
    for one in cells:
        run_cell(folder, one)
    return folder
