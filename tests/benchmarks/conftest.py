"""What several files of benchmark tests share, made once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.grid.running import run_cell
from benchmarks.study.learners import LEARNERS, REFERENCES
from pixelseg_env.datasets import phantom
from tests.helpers.grid import cell


@pytest.fixture(scope="session", autouse=True)
def phantoms_are_drawn_once() -> Iterator[None]:
    """Every cell of a grid loads its data anew, as it should; here these are the same 400 pictures each time.

    Loading copies what is drawn, so no test sees another's changes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "draw_phantom", functools.cache(phantom.draw_phantom))
        yield


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
