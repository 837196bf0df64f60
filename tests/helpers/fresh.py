"""Python processes that need not import torch again: each is forked from a server that has done so, and nothing more.

Nothing of ours is imported in the server, so a script imports our packages anew, and finds what a new process has.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ["torch", "torch._dynamo", "stable_baselines3", "scipy.stats", "matplotlib.figure", "cv2"]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(LIBRARIES)


def run_script(
    script: Path, *words: str, folder: Path, strict: bool = False, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Does what `python SCRIPT WORDS` does in a folder, which gets its output; strict: with deprecations as errors."""
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    process = CONTEXT.Process(target=_run, args=(script, words, folder, strict, out, err))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired([str(script), *words], timeout, out.read_text(), err.read_text())
    assert process.exitcode is not None
    return subprocess.CompletedProcess([str(script), *words], process.exitcode, out.read_text(), err.read_text())


def _run(script: Path, words: tuple[str, ...], folder: Path, strict: bool, out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    installed = [path for path in sys.path if Path(path).resolve() != ROOT]  # which pytest has added
    sys.path[:] = [str(script.parent), *filter(None, given), *installed]
    sys.argv = [str(script), *words]
    if strict:
        warnings.simplefilter("error", DeprecationWarning)
    runpy.run_path(str(script), run_name="__main__")
