"""Imports run one way: the grid knows no study, and nobody but `study/learners.py` lists agents by name."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from benchmarks.grid.catalogue import Facts
from benchmarks.study import STUDY
from pixelseg_agents.registry import registered_agents
from tests.helpers.grid import ROOT

FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
GRID = [path for path in FILES if path.parent.name == "grid"]


def imported(source: str) -> set[str]:
    """Every module that a file imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def agent_names(source: str) -> list[str]:
    """The strings of a file that are names of agents; "supervised" is the name of a fact, too."""
    names = {one.name for one in STUDY.learners} | set(registered_agents())
    names -= {item.name for item in dataclasses.fields(Facts)}
    strings = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [value for value in strings if value in names]


def layer(module: str) -> int:
    """Where a module stands; it may import what stands lower, or in the same place."""
    order = ("benchmarks.records", "benchmarks.grid", "benchmarks.study")
    places = [place for place, name in enumerate(order) if module == name or module.startswith(f"{name}.")]
    return max(places, default=-1)


def test_what_is_said_to_be_ready_can_be_run() -> None:
    said = (ROOT / "benchmarks/README.md").read_text().partition("Ready, and not run:")[2].partition("\n\n")[0]
    names = [name for name in re.findall(r"`([^`]+)`", said) if not name.startswith(("--", "make "))]
    assert len(names) > 5
    for name in names:
        module, _, what = name.partition(":")
        assert hasattr(importlib.import_module(module), what) if what else name in STUDY.settings, name


@pytest.mark.parametrize("path", GRID, ids=lambda path: path.stem)
def test_the_grid_knows_no_study(path: Path) -> None:
    assert max(map(layer, imported(path.read_text())), default=0) < layer("benchmarks.study")
    assert "benchmarks.study" not in path.read_text()


def test_modules_of_benchmarks_import_in_no_circle() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    uses = {name: (imported(path.read_text()) & names.keys()) - {name} for name, path in names.items()}
    assert uses["benchmarks.study.report"] >= {"benchmarks.study.reading", "benchmarks.grid.tables"}
    left = {name: set(others) for name, others in uses.items()}
    while free := {name for name, others in left.items() if not others}:
        left = {name: others - free for name, others in left.items() if name not in free}
    assert not left, "these import each other"


# The libraries' algorithms in `third_party` have names of their own, some of which are ours too.
OURS = [path for path in FILES if path.parent.name != "third_party"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_agents_stand_by_name_in_one_file(path: Path) -> None:
    named = agent_names(path.read_text())
    assert bool(named) == (path.name == "learners.py"), named


def test_the_searches_find_what_they_look_for() -> None:
    assert layer("benchmarks.study.x") > layer("benchmarks.grid.cells") > layer("numpy")
    assert imported("def f():\n    from benchmarks.study import report") >= {"benchmarks.study.report"}
    assert agent_names("A = ('pa3c', 'twin-plain', 'PA3C')") == ["pa3c", "twin-plain"]
