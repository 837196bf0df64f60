"""Builds both distributions, and makes environments that have nothing but them and what they say that they need."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"pixelseg-env": ROOT, "pixelseg-agents": ROOT / "agents"}
LEFT_OUT = (".*", "runs", "build", "dist", "data", "records", "report", "shared", "__pycache__", "*.egg-info")
HOOK = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def run(command: list[str | Path], folder: Path) -> str:
    """Runs a command outside the checkout, without its paths; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _hook(name: str, source: Path, out: Path) -> Path:
    # The hook of PEP 517 that every build tool calls; called by ourselves, it needs no isolated setuptools.
    return out / run([sys.executable, "-c", HOOK, name, out], source).splitlines()[-1]


def copy_of_the_checkout(out: Path) -> Path:
    """What a build sees, in a place where it may leave its `build` and `egg-info`, which would spoil later ones."""
    return Path(shutil.copytree(ROOT, out, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True))


def build_sdist(source: Path, out: Path) -> Path:
    """The source distribution of a folder."""
    return _hook("build_sdist", source, out)


def unpack(sdist: Path, out: Path) -> Path:
    """The folder that a source distribution holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    return out / sdist.name.removesuffix(".tar.gz")


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of a folder."""
    return _hook("build_wheel", source, out)


def make_environment(folder: Path, wheels: list[Path], *also: str) -> Path:
    """An environment with the wheels, and the distributions that their metadata require, and theirs in turn.

    Downloading torch anew would take minutes, so what they require is linked from the environment that runs the tests,
    file by file of each distribution's record. Nothing else of that environment can be seen: a requirement that the
    metadata lack is missing here too.

    Args:
        folder: where to make it.
        wheels: what to install.
        also: names of distributions to link, with their requirements, besides.

    Returns:
        Its Python.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    if wheels:
        run([*pip, "install", "--quiet", "--no-index", "--no-deps", *wheels], folder)
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    installed = {canonicalize_name(d.name): d for d in importlib.metadata.distributions(path=[str(site)])}
    needs = [Requirement(text) for found in installed.values() for text in found.requires or ()]
    for name in _closure([*needs, *map(Requirement, also)]) - set(installed):
        _link(name, site)
    run([*pip, "check"], folder)
    return python


def _closure(needs: list[Requirement]) -> set[str]:
    """The names of what is required here, what that requires, and so on; optional extras only where asked for."""
    waiting = [(need, {""}) for need in needs]
    seen: set[tuple[str, str]] = set()
    while waiting:
        need, asked = waiting.pop()
        if need.marker is not None and not any(need.marker.evaluate({"extra": extra}) for extra in asked):
            continue
        name, extras = canonicalize_name(need.name), {"", *need.extras}
        new = {extra for extra in extras if (name, extra) not in seen}
        seen |= {(name, extra) for extra in new}
        if new and name not in FOLDERS:
            waiting += [(Requirement(text), new) for text in importlib.metadata.requires(name) or ()]
    return {name for name, _ in seen}


def _link(name: str, site: Path) -> None:
    source = Path(sysconfig.get_path("purelib"))
    parts = {path.parts[0] for path in importlib.metadata.files(name) or ()} - {"..", "__pycache__"}
    assert parts, f"{name} has no record of its files"
    for part in parts:
        if not (site / part).exists():
            (site / part).symlink_to(source / part)
