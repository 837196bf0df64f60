"""Feeds mutated files to every loader and to `predict`: `python -m tests.fuzz.run --count 100000 --seed 0 --jobs 2`.

Every input is made from its kind and a number alone, so a finding is one line that brings it back:
`python -m tests.fuzz.run --only "png image" 17`. Workers are processes of their own: a crash or a hang ends one
of them, not the run.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gzip
import io
import math
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: a fork may not inherit its threads

import nibabel as nib
from PIL import Image

from pixelseg_env import PixelSegError
from pixelseg_env.datasets.integrity import SMALL
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target, message_of, read_quietly, targets

MIB = 1 << 20
BASELINE = 32 * MIB  # what reading anything may cost: first calls of libraries, threads, a worker's own noise
ADDRESS_SPACE = 3 << 30  # over what the worker has already: more is a MemoryError, whatever is touched of it
NIFTI2 = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # its header's length
SECONDS = 30.0  # an input takes milliseconds; what is honest work, `targets.ENOUGH` cuts short
ALLOWED = ("value", "refused")
OUTCOMES = (*ALLOWED, "error", "message", "memory", "hang", "crash")


@dataclass(frozen=True)
class Finding:
    """An input that did what none may do.

    Attributes:
        kind: of the file.
        number: of the input.
        outcome: see `OUTCOMES`.
        detail: the exception, or what was measured.
    """

    kind: str
    number: int
    outcome: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind!r} {self.number}  {self.outcome}: {self.detail}"


def spoilt(target: Target, kind: str, number: int) -> bytes:
    """The content of an input."""
    rng = random.Random(f"{kind} {number}")
    chosen = rng.randrange(len(target.honest))
    others = [*target.honest[:chosen], *target.honest[chosen + 1 :]]
    return mutated(target.honest[chosen], others, target.special, rng)


def try_input(target: Target, kind: str, number: int) -> tuple[str, str]:
    """Reads one input in this process: outcome and detail."""
    return _judge(target, spoilt(target, kind, number), random.Random(f"{kind} {number} options"))


def _judge(target: Target, content: bytes, rng: random.Random) -> tuple[str, str]:
    before = _reset_peak()
    try:
        read_quietly(target, content, rng)
        outcome, detail = "value", ""
    except PixelSegError as error:
        problem = message_of(error, target)
        outcome, detail = ("message", f"{problem}: {str(error)[:200]!r}") if problem else ("refused", str(error)[:200])
    except MemoryError as error:
        outcome, detail = "memory", f"MemoryError: {_where(error)}"
    except (Exception, SystemExit) as error:
        outcome, detail = "error", f"{type(error).__name__}: {str(error)[:160]!r} {_where(error)}"
    taken, honest = _peak() - before, max(target.honest_bytes, len(content))
    if taken > BASELINE + 2 * honest and taken > BASELINE + 2 * _pixels_of(content) and outcome in ALLOWED:
        return "memory", f"{taken / MIB:.0f} MiB for a file of {len(content)} bytes"
    return outcome, detail


def _pixels_of(content: bytes) -> int:
    """Bytes of pixels that a file of a few bytes truly has, or that only decoding could refute; else 0.

    A blank WebP of 4096x4096 pixels has less than a kilobyte; and a packed volume may hold zeros alone.
    """
    try:
        if content[8:12] == b"WEBP":
            with Image.open(io.BytesIO(content)) as picture:
                return min(picture.width * picture.height * len(picture.getbands()), SMALL)
        if content[:2] == b"\x1f\x8b":
            file = gzip.GzipFile(fileobj=io.BytesIO(content))
            kind = nib.Nifti2Header if file.read(4) in NIFTI2 else nib.Nifti1Header
            file.seek(0)
            header = kind.from_fileobj(file)
            claimed = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
            return len(file.read(max(0, min(claimed, 1 << 28))))
    except Exception:  # nobody believes it
        pass
    return 0


def _where(error: BaseException) -> str:
    """The last lines of ours that the exception went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/pixelseg_" in frame.filename]
    frames = frames or traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[:-4:-1])


def _reset_peak() -> int:
    """Bytes in memory now; the peak is counted anew from here where the kernel can do that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # there it never falls, so a large input hides later smaller ones
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# ---------------------------------------------------------------- workers


def _work(pipe: Connection, known: Mapping[str, Target]) -> None:
    """Reads inputs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.disable()  # a crash is a line of the report
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries complain there about every file
    with contextlib.suppress(OSError, ValueError):  # not Linux: the peak is measured all the same
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, resource.RLIM_INFINITY))
    pipe.send(None)
    while (item := pipe.recv()) is not None:
        kind, number = item
        try:
            found = try_input(known[kind], kind, number)
        except Exception as error:  # outside of what reads: this program's own fault, or memory was short
            found = "error", f"while fuzzing: {error!r} {_where(error)}"
        pipe.send(found)


class _Worker:
    """A process, and what it is busy with."""

    def __init__(self, known: Mapping[str, Target]) -> None:
        context = multiprocessing.get_context("fork")  # the targets hold functions, and torch is imported once
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, known), daemon=True)
        self.process.start()
        other.close()
        self.item: tuple[str, int] | None = None
        self.since = time.monotonic()

    def give(self, item: tuple[str, int] | None) -> None:
        self.item, self.since = item, time.monotonic()
        self.pipe.send(item)

    def stop(self) -> str:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return f"exit code {self.process.exitcode}"


def fuzz(
    known: Mapping[str, Target],
    items: Iterable[tuple[str, int]],
    jobs: int = 1,
    seconds: float = SECONDS,
    deadline: float | None = None,
) -> tuple[Counter[tuple[str, str]], list[Finding]]:
    """Reads all inputs in worker processes.

    Args:
        known: the kinds by name.
        items: kind and number of each input.
        jobs: worker processes.
        seconds: after which an input counts as a hang.
        deadline: a time of `time.monotonic` after which no more inputs are begun.

    Returns:
        How many inputs of a kind had which outcome, and the findings.
    """
    counts: Counter[tuple[str, str]] = Counter()
    findings: list[Finding] = []
    waiting: Iterator[tuple[str, int]] = iter(items)
    workers = [_Worker(known) for _ in range(jobs)]

    def record(item: tuple[str, int] | None, outcome: str, detail: str) -> None:
        if item is None:
            raise RuntimeError(f"a worker ended before its first input ({detail}): honest files do that")
        counts[item[0], outcome] += 1
        if outcome not in ALLOWED:
            findings.append(Finding(*item, outcome, detail))

    try:
        while workers:
            ready = wait([worker.pipe for worker in workers], timeout=0.5)
            for worker in list(workers):
                ended = ""
                if worker.pipe in ready:
                    try:
                        answer = worker.pipe.recv()
                        if answer is not None:
                            record(worker.item, *answer)
                        item = None if deadline and time.monotonic() > deadline else next(waiting, None)
                        worker.give(item)
                        if item is None:
                            worker.process.join()
                            workers.remove(worker)
                        continue
                    except (EOFError, ConnectionError):
                        ended = "crash"
                elif worker.item and time.monotonic() - worker.since > seconds:
                    ended = "hang"
                if ended:
                    workers.remove(worker)
                    detail = worker.stop()
                    record(worker.item, ended, f"more than {seconds:g} s" if ended == "hang" else detail)
                    workers.append(_Worker(known))
    finally:
        for worker in workers:
            worker.stop()
    return counts, findings


def inputs(known: Mapping[str, Target], count: int, seed: int) -> Iterator[tuple[str, int]]:
    """`count` inputs, all kinds in turn; runs of different seeds share none, up to ten million of a kind."""
    kinds = [kind for kind, target in known.items() if not target.reason]
    for k in range(count):
        yield kinds[k % len(kinds)], seed * 10**7 + k // len(kinds)


def check_honest(known: Mapping[str, Target]) -> None:
    """Makes sure that a kind's first example is read, and the others read or refused: else a run would try nothing.

    It also imports what is imported on first use, before workers are forked: that is no input's memory.

    Raises:
        AssertionError: one is not.
    """
    wrong = []
    for kind, target in known.items():
        for k, content in enumerate(() if target.reason else target.honest):
            outcome, detail = _judge(target, content, random.Random(0))
            if outcome not in (("value", "memory") if k == 0 else (*ALLOWED, "memory")):  # first calls import
                wrong.append(f"{kind}, honest example {k}: {outcome} {detail}")
    assert not wrong, "\n".join(wrong)


def table(counts: Mapping[tuple[str, str], int]) -> str:
    """Kinds down, outcomes across."""
    kinds = sorted({kind for kind, _ in counts})
    rows = [["kind", *OUTCOMES], *([kind, *(str(counts.get((kind, one), 0)) for one in OUTCOMES)] for kind in kinds)]
    rows.append(["all", *(str(sum(counts.get((kind, one), 0) for kind in kinds)) for one in OUTCOMES)])
    return "\n".join(row[0].ljust(20) + "".join(cell.rjust(9) for cell in row[1:]) for row in rows)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the fuzzer; returns 1 if it found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="inputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which inputs (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="begin no more inputs after so long")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds whose names hold one of these words")
    parser.add_argument(
        "--only", nargs=2, metavar=("KIND", "NUMBER"), help="one input, in this process, with traceback"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="with --only: write the input's content here")
    parser.add_argument("--findings", type=Path, metavar="FILE", help="write the findings here, one a line")
    options = parser.parse_args(words)
    known = targets()
    if options.only:
        return _only(known, options.only[0], int(options.only[1]), options.keep)
    if options.kinds:
        known = {kind: target for kind, target in known.items() if any(word in kind for word in options.kinds)}
    for kind, target in known.items():
        if target.reason:
            print(f"{kind}: left out, {target.reason}")
    check_honest(known)
    start = time.monotonic()
    deadline = None if options.minutes is None else start + 60 * options.minutes
    counts, findings = fuzz(known, inputs(known, options.count, options.seed), options.jobs, deadline=deadline)
    taken, total = time.monotonic() - start, sum(counts.values())
    print(table(counts))
    print(f"{total} inputs in {taken:.0f} s, {total / taken:.0f} a second; {len(findings)} findings")
    lines = [str(finding) for finding in findings]
    print("\n".join(lines[:100]))
    if options.findings:
        options.findings.write_text("".join(f"{line}\n" for line in lines))
    return int(bool(findings))


def _only(known: Mapping[str, Target], kind: str, number: int, keep: Path | None) -> int:
    target = known[kind]
    content: Any = spoilt(target, kind, number)
    if keep:
        keep.write_bytes(content)
    rng = random.Random(f"{kind} {number} options")
    print(f"{kind} {number}: {len(content)} bytes, {content[:80]!r}")
    try:
        print(repr(read_quietly(target, content, rng))[:300])
    except PixelSegError as error:
        print(f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
