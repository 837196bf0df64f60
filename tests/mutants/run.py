"""Runs the tests on mutants of the code that computes: `python -m tests.mutants.run --share 1 --seed 0 --jobs 2`.

The mutations are cosmic-ray's; the driver is our own, for neither tool copes with this layout in reasonable time.
Cosmic-ray starts pytest anew for every mutant, and importing torch takes longer than the tests. Mutmut 3 forks, but
takes a module's name from its path, which is another one for `agents/pixelseg_agents/`, and leaves out the constants
and class bodies that are half of a network.

Here a process that has imported the libraries, but nothing of ours, forks for every mutant. The child imports our code
with the mutated module in place of the real one, then the tests: so a mutant is in force wherever a name of its module
went. Tests that never call the mutated function are left out, the quick ones go first, and the first failure ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: a fork may not inherit its threads

import pytest

from tests.mutants.mutations import Mutant, mutants
from tests.mutants.targets import TARGETS, TIMED, Target

ROOT = Path(__file__).resolve().parents[2]
OURS = ("pixelseg_env", "pixelseg_agents", "tests", "conftest", "examples", "benchmarks")
LONGEST = 6.0  # seconds of CPU, watched, which doubles them; a test that takes longer (a training) judges no mutants
PATIENCE, GRACE = 4.0, 5.0  # a mutant may take so many times what its tests take, and some seconds
ADDRESS_SPACE = 8 << 30  # over what there is: a mutant of a size gets a MemoryError, not the machine's memory
OUTCOMES = ("failed", "import", "time", "survived")


@dataclass
class Seen:
    """What the tests did without a mutation.

    Attributes:
        calls: of every test, the functions of the targets that it called, "path function".
        seconds: of CPU that it took.
        modules: all that were imported.
    """

    calls: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)


class _Watch:
    """A plugin of pytest that writes down what `Seen` has."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.seen = Seen()
        self._paths = {str(ROOT / path): path for path in paths}
        self._names: dict[CodeType, str | None] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        _forget()
        calls, start = self.seen.calls[item.nodeid], _cpu()

        def traced(frame: Any, event: str, argument: Any) -> None:
            code = frame.f_code
            if code not in self._names:
                path = self._paths.get(code.co_filename)
                self._names[code] = path and f"{path} {code.co_qualname.split('.<locals>')[0]}"
            if self._names[code]:
                calls.add(self._names[code])  # type: ignore[arg-type]

        signal.signal(signal.SIGPROF, _give_up)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        sys.settrace(traced)
        yield
        sys.settrace(None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seen.seconds[item.nodeid] = _cpu() - start


def _forget() -> None:
    """Empties our caches, or only the first test of many would be seen to call what is cached."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in OURS[:2]:
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


def _give_up(*_: Any) -> None:
    pytest.skip("takes too long to judge mutants")


class _Chosen:
    """A plugin of pytest that keeps some tests, in a given order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._place = {test: i for i, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self._place), key=lambda i: self._place[i.nodeid])


class _Mutated(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds and loads one module, from another source."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(_module(mutant.path), str(ROOT / mutant.path))
        self._source = mutant.source

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        inside = [str(Path(self.path).parent)] if self.path.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=inside
        )

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec")


def _module(path: str) -> str:
    return path.removeprefix("agents/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _pytest(files: Iterable[str], plugin: object, basetemp: str) -> int:
    import hypothesis  # in the child, as late as all that may import ours

    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        max_examples=25,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # found is enough: it need not be small
    )
    hypothesis.settings.load_profile("mutants")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # every child would pay for them
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--basetemp", basetemp]
    return int(pytest.main([*options, *sorted(set(files))], plugins=[plugin]))


def watched(targets: Sequence[Target], scratch: Path) -> Seen:
    """Runs all tests once, in a process of its own.

    Raises:
        SystemExit: one fails without any mutation, or none calls a file's functions.
    """
    result = scratch / "seen.pickle"
    pid = os.fork()
    if pid == 0:
        plugin = _Watch(path for target in targets for path in target.paths)
        code = _pytest([f for target in targets for f in target.tests], plugin, str(scratch / "watched"))
        plugin.seen.modules = list(sys.modules)
        result.write_bytes(pickle.dumps(plugin.seen if code == 0 else None))
        os._exit(0)
    os.waitpid(pid, 0)
    seen = pickle.loads(result.read_bytes()) if result.exists() else None
    if not isinstance(seen, Seen):
        raise SystemExit("the tests fail without a mutation: see above")
    called = {name.split(" ")[0] for names in seen.calls.values() for name in names}
    if idle := [path for target in targets for path in target.paths if path not in called]:
        raise SystemExit(f"no test calls {', '.join(idle)}: is it another copy that is imported (PYTHONPATH)?")
    return seen


def import_libraries(names: Iterable[str]) -> None:
    """Imports all but ours, so that the children need not."""
    for name in names:
        if name.split(".")[0] not in OURS and name != "__main__":
            with contextlib.suppress(Exception):  # some names are made at run time
                importlib.import_module(name)
    ours = [name for name in sys.modules if name.split(".")[0] in OURS[:2]]
    assert not ours, f"a library imported {ours[0]}: no mutant of it would come into force"
    gc.freeze()  # a collection in a child would copy what it shares with this process


def tests_of(mutant: Mutant, target: Target, seen: Seen, longest: float) -> list[str]:
    """The tests that can tell, the quickest first.

    These are the tests that call the mutant's function. Where it is in none: those that call a function of its file,
    and those that call nothing that is watched, for they may look at what is no function.
    """
    name = f"{mutant.path} {mutant.function}"

    def can_tell(calls: set[str]) -> bool:
        return name in calls if mutant.function else not calls or any(called.startswith(name) for called in calls)

    chosen = [
        test
        for test, seconds in seen.seconds.items()
        if test.startswith(tuple(target.tests))
        and seconds < longest
        and not any(word in test for word in TIMED)
        and can_tell(seen.calls[test])
    ]
    return sorted(chosen, key=lambda test: seen.seconds[test])


def _start(mutant: Mutant, tests: Sequence[str], cpu: float, scratch: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 1))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, resource.RLIM_INFINITY))
    sys.meta_path.insert(0, _Mutated(mutant))
    code = 2
    with contextlib.suppress(BaseException):
        files = [test.split("::")[0] for test in tests]
        code = _pytest(files, _Chosen(tests), str(scratch / str(os.getpid())))
    os._exit(code)


def _outcome(status: int) -> str:
    if os.WIFSIGNALED(status):
        return "time" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "failed"
    code = os.WEXITSTATUS(status)
    return {0: "survived", 1: "failed", 5: "survived"}.get(code, "import")


def judged(
    work: Sequence[tuple[Mutant, list[str]]], seen: Seen, jobs: int, scratch: Path
) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with its outcome, see `OUTCOMES`, as they come."""
    waiting, running = list(reversed(work)), {}  # by process: the mutant, when it has to be over
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, tests = waiting.pop()
            if not tests:
                yield mutant, "survived"
                continue
            cpu = PATIENCE * sum(seen.seconds[test] for test in tests) + GRACE
            running[_start(mutant, tests, cpu, scratch)] = (mutant, time.monotonic() + 10 * cpu)
        for pid, (mutant, end) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                yield mutant, _outcome(status)
            elif time.monotonic() > end:  # it waits for something
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def table(outcomes: Mapping[str, Counter[str]]) -> str:
    """Markdown: a row for every file, and all together."""
    total: Counter[str] = sum(outcomes.values(), Counter())
    lines = ["| file | mutants | a test failed | import failed | timed out | survived | killed |"]
    lines.append("| --- " + "| ---: " * 6 + "|")
    for path, counts in [*outcomes.items(), ("all", total)]:
        every = counts.total()
        killed = f"{1 - counts['survived'] / every:.1%}" if every else ""
        lines.append(f"| {path} | {every} | {' | '.join(str(counts[one]) for one in OUTCOMES)} | {killed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="files whose path has one of these in it")
    parser.add_argument("--share", type=float, default=1.0, help="of every file's mutants, drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds of CPU, watched, of a test that judges")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants.md"), help="for the table and the survivors")
    arguments = parser.parse_args()

    chosen = [
        (target, path) for target in TARGETS for path in target.paths if any(one in path for one in arguments.only)
    ]
    if not chosen:
        raise SystemExit(f"--only {' '.join(arguments.only)}: no file of tests/mutants/targets.py has that in its path")
    start, outcomes, survivors = time.monotonic(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        seen = watched(list(dict.fromkeys(target for target, _ in chosen)), scratch)
        long = [test for test, seconds in seen.seconds.items() if seconds >= LONGEST]
        print(f"{time.monotonic() - start:6.0f} s  {len(seen.seconds)} tests; too long:", *long, sep="\n  ", flush=True)
        import_libraries(seen.modules)
        for target, path in chosen:
            outcomes[path] = Counter[str]()
            some = mutants(path, ROOT, target.functions, arguments.share, arguments.seed)
            work = [(one, tests_of(one, target, seen, arguments.longest)) for one in some]
            for mutant, outcome in judged(work, seen, arguments.jobs, scratch):
                outcomes[path][outcome] += 1
                if outcome in ("survived", "time"):
                    survivors.append(f"{outcome}: {mutant}")
                    print(survivors[-1], flush=True)
            print(f"{time.monotonic() - start:6.0f} s  {path}  {dict(outcomes[path])}", flush=True)
    text = "\n".join([table(outcomes), "", "```", *survivors, "```", ""])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(table(outcomes), f"\n\n{len(survivors)} survived or ended by time, in {arguments.out}")


if __name__ == "__main__":
    main()
