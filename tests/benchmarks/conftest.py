"""What several files of benchmark tests share, made once."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.grid.cells import is_done
from benchmarks.grid.running import run_cell
from benchmarks.study.learners import LEARNERS, REFERENCES
from pixelseg_env.datasets import phantom
from tests.helpers.grid import PHANTOMS, cell

DRAWN = functools.cache(phantom.draw_phantom)


@contextlib.contextmanager
def few_phantoms() -> Iterator[None]:
    """Every cell of a grid loads its data anew, as it should; here these are the same few pictures each time.

    Loading copies what is drawn, so no test sees another's changes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom.load_phantom, "__defaults__", (PHANTOMS, 0, 1))  # count, seed, labels
        patch.setattr(phantom, "draw_phantom", DRAWN)
        yield


@pytest.fixture(scope="module", autouse=True)
def phantoms_are_drawn_once() -> Iterator[None]:
    """For all that a file of tests does, and no longer: other files of the same process count on the usual ones."""
    with few_phantoms():
        yield


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every learner once, two of them twice, every reference, two settings; made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    folder, locks = ((base.parent if worker else base) / name for name in ("grid", "locks"))
    cells = [cell(one.name) for one in (*LEARNERS, *REFERENCES)]
    cells += [cell("pa3c", seed=1), cell("ac", seed=1), cell("pa3c", setting="t_max-5"), cell("ac", setting="50-shot")]
    cells += [cell("dueling-dqn", fold=k) for k in range(2)] + [cell("examples.own_agent:Threshold")]
    locks.mkdir(exist_ok=True)
    # From both ends, so that two processes share the work.
    for one in cells[::-1] if worker.endswith("1") else cells:
        with FileLock(locks / one.name):
            if not is_done(folder, one):
                with few_phantoms():
                    run_cell(folder, one)
    return folder
