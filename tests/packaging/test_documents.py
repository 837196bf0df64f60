"""What the documents for contributors name is there."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib

from pixelseg_env.moved import MovedModules
from tests.packaging.distributions import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
MOVED = re.findall(r"^  \| (`.+`) \| (`\w+.*) \|$", CHANGELOG, re.MULTILINE)
MODULE = re.compile(r"`((?:pixelseg_\w+|benchmarks)[\w.]*)`(?: \(([^)]*)\))?")


def test_contributing_names_files_that_exist_and_at_most_two_for_an_addition() -> None:
    paths = re.findall(r"`([\w/.]+(?:/|\.py|\.md|\.txt))`", CONTRIBUTING)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
    additions = re.findall(r"^\| (a reward|an agent|a network|a data set|a metric) \|(.*)$", CONTRIBUTING, re.MULTILINE)
    assert len(additions) == 5
    for what, files in additions:
        assert 1 <= len(re.findall(r"`[\w/]+\.py`", files)) <= 2, what


def test_moved_names_are_where_the_changelog_says() -> None:
    assert len(MOVED) > 25
    for old, new in MOVED:
        for module, names in MODULE.findall(new):
            found = importlib.import_module(module)
            listed = re.findall(r"`(\w+)`", names)
            for name in [n for n in listed if f"until now `{n}`" not in names]:
                assert hasattr(found, name), f"{module} has no {name}"
        for module, _ in MODULE.findall(old):
            stays = module in ("pixelseg_agents.networks", "benchmarks.speed")  # a module was made a package
            spec = importlib.util.find_spec(module)  # under some old names the new module is handed on
            assert stays == (spec is not None and not isinstance(spec.loader, MovedModules)), module


def test_pre_commit_has_the_pinned_ruff() -> None:
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert f"rev: v{pinned[1]}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_our_packages_sort_as_first_party() -> None:
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    for package in ("pixelseg_env", "pixelseg_agents", "benchmarks", "examples", "tests"):
        assert any((ROOT / source / package).is_dir() for source in ruff["src"]), package
