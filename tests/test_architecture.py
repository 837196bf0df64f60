"""Imports run one way, nothing reaches around a public surface, and importing costs little."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pixelseg_env.moved import MOVED

ROOT = Path(__file__).parents[1]
OURS = ("pixelseg_env", "pixelseg_agents", "benchmarks")
PACKAGES = {"pixelseg_env": ROOT, "pixelseg_agents": ROOT / "agents", "benchmarks": ROOT}

# Every part, from the ground up, with the modules or packages that it consists of. A part may import itself, and what
# stands above it in this list, as far as the second list does not forbid it.
FLOORS = [
    ("ground", ("pixelseg_env.errors", "pixelseg_env.arrays", "pixelseg_env.plugins", "pixelseg_env.moved")),
    ("rules", ("pixelseg_env.metrics", "pixelseg_env.dynamics", "pixelseg_env.rewards", "pixelseg_env.rendering")),
    ("data", ("pixelseg_env.datasets",)),
    (
        "environment",
        tuple(f"pixelseg_env.{name}" for name in ("draws", "spaces", "task", "facts", "backend", "env", "vector_env")),
    ),
    ("views", ("pixelseg_env.views",)),
    ("public", ("pixelseg_env",)),
    (
        "agents' ground",
        tuple(f"pixelseg_agents.{name}" for name in ("files", "provenance", "checkpoint", "references", "team")),
    ),
    ("networks", ("pixelseg_agents.networks",)),
    ("learning", ("pixelseg_agents.learning",)),
    ("evaluation", ("pixelseg_agents.evaluation",)),
    ("agents", ("pixelseg_agents",)),  # all that is not named elsewhere
    ("lab", ("pixelseg_agents.lab",)),
    ("command line", ("pixelseg_agents.cli", "pixelseg_agents.__main__")),
    ("grid", ("benchmarks.grid", "benchmarks.records", "benchmarks.failures")),
    ("study", ("benchmarks.study",)),
    ("nnunet", ("benchmarks.nnunet",)),
    ("speed", ("benchmarks.speed",)),
    ("benchmarks", ("benchmarks",)),
]
# Parts that lie higher and know nothing of these all the same.
FORBIDDEN = {
    "learning": {"networks"},
    "evaluation": {"networks", "learning"},
    "grid": {"command line"},
    "study": {"command line"},
    "nnunet": {"command line", "study"},
    "speed": {"command line", "study"},
    "benchmarks": {"command line"},
}


def part_of(module: str) -> str:
    """The part that a module belongs to: the one that names it, or the nearest package above it."""
    while module:
        for part, names in FLOORS:
            if module in names:
                return part
        module = module.rpartition(".")[0]
    raise AssertionError("not one of ours")


@functools.cache
def sources() -> dict[str, str]:
    """Module name to source of all our packages."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((folder / package).rglob("*.py")):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def imported(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, those inside functions too, but not those for type checkers alone; and `import_module`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING":
            yield from imported(ast.Module(node.orelse, []))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                for name in node.args[:1]:
                    if isinstance(name, ast.Constant):
                        yield ast.Import([ast.alias(str(name.value))])
            yield from imported(node)


@functools.cache
def statements(text: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """What `imported` finds in a source."""
    return tuple(imported(ast.parse(text)))


def imports(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Module to the modules of ours that it imports."""
    graph: dict[str, set[str]] = {}
    for module, text in modules.items():
        graph[module] = set()
        for node in statements(text):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            else:
                assert node.level == 0, f"{module}: expected absolute imports"
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                names = (inside & modules.keys()) | ({node.module or ""} if inside - modules.keys() else set())
            graph[module] |= {name for name in names if name in modules and name != module}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for following in graph[waiting.pop()] - seen:
                seen.add(following)
                waiting.append(following)
        return seen

    return sorted(module for module in graph if module in reached(module))


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports of a part that stands above, or that knows nothing of the importing one."""
    height = {part: number for number, (part, _) in enumerate(FLOORS)}
    found = []
    for module, names in graph.items():
        part = part_of(module)
        for name in sorted(names):
            other = part_of(name)
            if height[other] > height[part] or other in FORBIDDEN.get(part, ()):
                found.append(f"{module} ({part}) -> {name} ({other})")
    return found


def not_public(text: str, public: Mapping[str, set[str]]) -> list[str]:
    """What a source takes of `pixelseg_env` that is not in an `__all__`.

    Args:
        text: the source.
        public: `"pixelseg_env"`, and each module that its `__all__` lists, to that module's `__all__`.
    """
    tree, found = ast.parse(text), []
    held = {"pixelseg_env": "pixelseg_env"}  # names of the modules, as the source calls them
    for node in imported(tree):
        if isinstance(node, ast.Import):
            held |= {alias.asname: alias.name for alias in node.names if alias.asname}
        if isinstance(node, ast.ImportFrom) and node.module == "pixelseg_env":
            held |= {alias.asname or alias.name: f"pixelseg_env.{alias.name}" for alias in node.names}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pixelseg_env":
            known = public.get(node.module or "", set())
            found += [f"from {node.module} import {alias.name}" for alias in node.names if alias.name not in known]
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names if alias.name.startswith("pixelseg_env"))
            found += [f"import {name}" for name in names if name not in public]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node.value).partition(".")
            holder = held.get(first, "") + dot + rest
            if holder in public and node.attr not in public[holder] and not node.attr.startswith("__"):
                found.append(f"{holder}.{node.attr}")
    return found


def public_surface() -> dict[str, set[str]]:
    top = importlib.import_module("pixelseg_env")
    surface = {"pixelseg_env": set(top.__all__)}
    for name in top.__all__:
        if f"pixelseg_env.{name}" in sources():
            surface[f"pixelseg_env.{name}"] = set(importlib.import_module(f"pixelseg_env.{name}").__all__)
    return surface


def test_no_circles_and_nothing_imports_upwards() -> None:
    graph = imports(sources())
    assert len(graph) > 90
    assert sum(map(len, graph.values())) > 200
    assert circles(graph) == []
    assert upward(graph) == []


def test_a_circle_and_an_import_upwards_are_found() -> None:
    planted = {
        "pixelseg_env.errors": "",
        "pixelseg_env.metrics": "def late():\n    from pixelseg_env import task",
        "pixelseg_env.task": "from pixelseg_env.metrics import dice",
        "pixelseg_env": "",
    }
    graph = imports(planted)
    assert circles(graph) == ["pixelseg_env.metrics", "pixelseg_env.task"]
    assert upward(graph) == ["pixelseg_env.metrics (rules) -> pixelseg_env.task (environment)"]
    for module, text in {
        "pixelseg_agents.learning.x": "from pixelseg_agents.networks import unet",
        "pixelseg_agents.agent": "from pixelseg_agents.cli.runs import Run",
        "pixelseg_env.env": "import benchmarks.grid.cells",
        "benchmarks.grid.cells": "from benchmarks.study import settings",
        "benchmarks.digest": "import pixelseg_agents.cli.runs",
        "pixelseg_agents.learning.y": "import importlib\nimportlib.import_module('pixelseg_agents.networks.unet')",
        "pixelseg_agents.networks.z": "if not TYPE_CHECKING:\n    from pixelseg_agents import agent",
        "pixelseg_agents.networks.w": "if TYPE_CHECKING:\n    pass\nelse:\n    from pixelseg_agents import agent",
    }.items():
        assert upward(imports(sources() | {module: text})), module
    assert not circles(imports({"pixelseg_env.task": "if TYPE_CHECKING:\n    import pixelseg_env.env"}))


def private_imports(modules: Mapping[str, str]) -> list[str]:
    """Names with an underscore that a module takes from another."""
    return [
        f"{module}: from {node.module} import {alias.name}"
        for module, text in modules.items()
        for node in imported(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__") and (node.module or "").startswith(OURS)
    ]


def test_no_module_takes_another_ones_private_names() -> None:
    assert private_imports(sources()) == []
    assert private_imports({"x": "from pixelseg_agents.agent import _secret"})


def test_agents_benchmarks_and_examples_use_what_is_exported() -> None:
    public = public_surface()
    texts = {name: text for name, text in sources().items() if not name.startswith("pixelseg_env")}
    texts |= {path.name: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    assert {name: found for name, text in texts.items() if (found := not_public(text, public))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "from pixelseg_env.task import make_task",
        "from pixelseg_env import Task",
        "from pixelseg_env.metrics import _counts",
        "import pixelseg_env.backend",
        "import pixelseg_env\npixelseg_env.task.make_task()",
        "from pixelseg_env import metrics\nmetrics._counts",
        "import pixelseg_env as p\np.task",
        "import pixelseg_env.metrics as m\nm._counts",
    ],
)
def test_reaching_around_the_public_surface_is_found(text: str) -> None:
    assert len(not_public(text, public_surface())) == 1


@pytest.mark.parametrize("name", ["pixelseg_env", "pixelseg_env.views", "pixelseg_agents"])
def test_all_that_is_exported_is_there(name: str) -> None:
    package = importlib.import_module(name)
    assert list(package.__all__) == sorted(package.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for exported in package.__all__:
        assert getattr(package, exported) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(package, "no_such_name")  # noqa: B009


def test_every_agent_and_its_settings_can_be_imported_from_the_top() -> None:
    package = importlib.import_module("pixelseg_agents")
    for name in package.registered_agents():
        kind = package.agent_class(name)
        assert {kind.__name__, kind.config_class.__name__} <= set(package.__all__), name


def seconds(code: str) -> float:
    """Of the processor, on which others may wait for their turn."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def loaded(code: str) -> set[str]:
    """Top-level modules that are there after some code has run."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_environment_costs_little_more_than_gymnasium() -> None:
    heavy = {"cv2", "nibabel", "torch", "scipy", "matplotlib", "pygame", "stable_baselines3", "torchrl"}
    assert not loaded("import pixelseg_env") & heavy
    assert not loaded("import pixelseg_agents") & {*heavy, "gymnasium", "numpy"}
    codes = ("pass", "import numpy", "import pixelseg_env")
    empty, numpy, ours = map(min, zip(*[[seconds(code) for code in codes] for _ in range(5)], strict=True))
    assert (ours - empty) / (numpy - empty) < 4  # measured: 2; 0.25 s where NumPy takes 0.1


@pytest.mark.parametrize("word", ["--help", "--version", "nonsense"])
def test_help_and_version_answer_without_loading_a_network_library(word: str) -> None:
    modules = loaded(f"from pixelseg_agents.cli import main; main(['{word}'])")
    assert not modules & {"torch", "tyro", "matplotlib", "stable_baselines3"}
    if word != "nonsense":
        assert not modules & {"gymnasium", "numpy"}


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_module_that_has_moved_is_found_under_its_old_name(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=MOVED[old]):
        found = importlib.import_module(old)
    place = importlib.import_module(MOVED[old])
    names = [name for name in vars(place) if not name.startswith("_")]
    assert names
    assert all(getattr(found, name) is getattr(place, name) for name in names)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pixelseg_env.never_was")
