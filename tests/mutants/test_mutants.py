"""Whether the driver tells a mutant that is killed from one that survives, and which mutations there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.mutations import mutants
from tests.mutants.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]

SOURCE = '''
from __future__ import annotations

import functools

SIDE = 3


@functools.lru_cache
def area(width: int | None = 0, *, texts: bool = False) -> int | str:
    """1 + 1."""
    if width is None or width < 1:
        raise ValueError(f"{width * 2}: expected at least {1 + 0}")
    return width * SIDE
'''

# In a process of its own: a fork of one that has threads may hang.
PLANTED = """
import sys, tempfile
from pathlib import Path
from tests.mutants import run
from tests.mutants.mutations import Mutant

run.GRACE = 1.0
target = run.Target(("pixelseg_env/dynamics.py",), ("tests/env/test_dynamics.py",))
source = (run.ROOT / target.paths[0]).read_text()

def planted(old, new, function="absorbing"):
    assert source.count(old) == 1, old
    return Mutant(target.paths[0], 1, function, "", old, new, source.replace(old, new))

all_of_them = [
    planted("return previous & action", "return previous | action"),
    planted("return previous & action", "return action & previous"),
    planted("return previous & action", "while True: pass"),
    planted("THRESHOLD = 0.5", "THRESHOLD = 0.5 +", ""),
    planted("return channels + observe_time", "return channels - observe_time", "nothing_calls_it"),
]
with tempfile.TemporaryDirectory() as folder:
    seen = run.watched([target], Path(folder))
    run.import_libraries(seen.modules)
    work = [(mutant, run.tests_of(mutant, target, seen, run.LONGEST)) for mutant in all_of_them]
    outcomes = dict(run.judged(work, seen, 1, Path(folder)))
print("found:", *(outcomes[mutant] for mutant in all_of_them))
"""


@pytest.mark.slow
def test_planted_mutants_are_judged_rightly() -> None:
    result = subprocess.run([sys.executable, "-c", PLANTED], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert "found: failed survived time import survived\n" in result.stdout, result.stdout + result.stderr


def test_what_is_mutated(tmp_path: Path) -> None:
    pytest.importorskip("cosmic_ray", reason="comes with the extra `mutants`")
    (tmp_path / "area.py").write_text(SOURCE, encoding="utf-8")
    found = mutants("area.py", tmp_path)
    assert {mutant.after for mutant in found if mutant.line == 6} == {"SIDE = 4", "SIDE = 2"}
    assert [mutant.operator for mutant in found if mutant.line == 9] == ["RemoveDecorator"]
    signature = "def area(width: int | None = 0, *, texts: bool = {}) -> int | str:"
    assert signature.format(True) in {mutant.after for mutant in found}
    assert sum(mutant.before == signature.format(False) for mutant in found) == 3  # annotations are left out
    assert not [mutant for mutant in found if "expected" in mutant.before and mutant.operator != "ExceptionReplacer"]
    assert "return width / SIDE" in {mutant.after for mutant in found}
    assert "if width is None or width <= 1:" in {mutant.after for mutant in found}
    assert {mutant.function for mutant in found} == {"", "area"}
    assert all(mutant.source != SOURCE for mutant in found)
    some = mutants("area.py", tmp_path, ["area"], share=0.5, seed=1)
    assert len(some) < len(found)
    assert {mutant.function for mutant in some} == {"area"}
    assert some == mutants("area.py", tmp_path, ["area"], share=0.5, seed=1)
    assert set(some) < set(found)


def test_files_and_tests_that_are_named_exist() -> None:
    for target in TARGETS:
        assert all((ROOT / path.split("::")[0]).exists() for path in (*target.paths, *target.tests)), target


@pytest.mark.parametrize("folder", ["pixelseg_env/rewards", "agents/pixelseg_agents/networks"])
def test_no_file_of_a_package_is_left_out(folder: str) -> None:
    named = {path for target in TARGETS for path in target.paths}
    files = {f"{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")} - {f"{folder}/__init__.py"}
    assert files - named == set()
