"""Runs cells: in local processes, or on a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.grid.cells import Cell, Protocol, is_done, record_path
from benchmarks.grid.running import run_cell
from pixelseg_agents.files import write_atomically
from pixelseg_env import OptionError

ERROR = ".error.txt"


def run_grid(cells: Sequence[Cell], folder: Path, jobs: int = 1, ray: bool = False) -> list[str]:
    """Runs the cells whose records are not there yet.

    Args:
        cells: the grid.
        folder: of the records. What a failed cell said is in `NAME.error.txt` beside them.
        jobs: cells at once, each in a process of its own with one thread.
        ray: on the Ray cluster that RAY_ADDRESS names (or a new local one), as many at once as it has cores.

    Returns:
        The names of the cells that failed.

    Raises:
        OptionError: a record was made with other options, `jobs` is less than 1, or Ray is not installed.
        DataError: a record is damaged.
    """
    if jobs < 1:
        raise OptionError(f"--jobs {jobs}: expected 1 or more")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()  # an agent of the reader's own may change the working directory
    cells = list({cell.name: cell for cell in cells}.values())
    waiting = [cell for cell in cells if not is_done(folder, cell)]
    print(f"{len(cells)} cells, {len(cells) - len(waiting)} done before, {len(waiting)} to run", flush=True)
    failed: list[str] = []
    outcomes = _on_ray(waiting, folder) if ray else _in_processes(waiting, folder, jobs)
    with tqdm(total=len(waiting), unit="cell", mininterval=0) as bar:
        for running, finished, error in outcomes:
            if finished is not None:
                if not error and not record_path(folder, finished).exists():
                    error = f"ended without a record in {folder} (with --ray, all machines must share it)"
                note = folder / f"{finished.name}{ERROR}"
                if error:
                    failed.append(finished.name)
                    last = (error.strip().splitlines() or ["without a word"])[-1]
                    tqdm.write(f"FAILED {finished.name}: {last} ({_noted(note, error)})")
                else:
                    note.unlink(missing_ok=True)
                    tqdm.write(f"done   {finished.name}")
                bar.update()
            names = ", ".join(cell.name for cell in running)
            bar.set_postfix_str(f"failed {len(failed)}, running: {names or 'nothing'}")
    return failed


def _noted(note: Path, error: str) -> str:
    """Writes what a failed cell said; a full disk must not stop the others."""
    try:
        write_atomically(note, error)
    except OSError as problem:
        return f"the rest cannot be written to {note}: {problem.strerror}"
    return f"all of it: {note}"


Outcome = tuple[list[Cell], Cell | None, str]


def _in_processes(cells: Sequence[Cell], folder: Path, jobs: int) -> Iterator[Outcome]:
    """A process per cell, so that one that is killed takes no other with it; none is left when this one is stopped."""
    todo = list(cells)
    running: dict[Future[str], Cell] = {}
    children: set[subprocess.Popen[str]] = set()
    stopping = threading.Event()
    with ThreadPoolExecutor(jobs) as pool, _stopped_by_signals():
        try:
            while todo or running:
                while todo and len(running) < jobs:
                    cell = todo.pop(0)
                    running[pool.submit(_in_own_process, cell, folder, children, stopping)] = cell
                yield list(running.values()), None, ""
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell = running.pop(future)
                    yield list(running.values()), cell, future.result()
        finally:
            stopping.set()
            for child in list(children):
                child.kill()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal, as Ctrl-C does, run what is under `finally`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    known = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))  # no SIGHUP on Windows
    before = {number: signal.getsignal(number) for number in known if number is not None}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup's
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_own_process(cell: Cell, folder: Path, children: set[subprocess.Popen[str]], stopping: threading.Event) -> str:
    """Runs a cell in a new process; returns what it said if it failed. Whatever goes wrong, the other cells go on."""
    try:
        if is_done(folder, cell):  # by another grid, since this one began
            return ""
        return _run_child(cell, folder, children, stopping)
    except Exception as problem:  # no memory for a process, say
        return f"could not be run: {problem}"


def _run_child(cell: Cell, folder: Path, children: set[subprocess.Popen[str]], stopping: threading.Event) -> str:
    command = [sys.executable, "-m", "benchmarks.grid.engine", str(folder), str(os.getpid())]
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace", env=os.environ | threads
    )
    children.add(child)
    if stopping.is_set():  # it was born while the others were killed
        child.kill()
    _, said = child.communicate(to_text(cell))
    children.discard(child)
    if child.returncode == 0:
        return ""
    return f"{said}\nexit code {child.returncode}" if child.returncode < 0 or not said.strip() else said


def _on_ray(cells: Sequence[Cell], folder: Path) -> Iterator[Outcome]:
    try:
        import ray
    except ImportError as error:
        raise OptionError('--ray: Ray is not installed; pip install "pixelseg-agents[ray]"') from error
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    gpus = 1 if cells and cells[0].protocol.device.startswith("cuda") else 0
    # A worker of its own for every cell: its peak memory is then the cell's.
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, max_calls=1)(run_cell)
    places = max(1, int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1)))
    todo = list(cells)
    running: dict[Any, Cell] = {}
    try:
        while todo or running:
            while todo and len(running) < places:  # handed over as they can run, so that what is shown does run
                cell = todo.pop(0)
                running[remote.remote(folder.resolve(), cell)] = cell
            yield list(running.values()), None, ""
            finished, _ = ray.wait(list(running), num_returns=1)
            for reference in finished:
                cell = running.pop(reference)
                try:
                    ray.get(reference)
                    said = ""
                except Exception as problem:  # whatever it was, the other cells go on
                    said = str(problem)
                yield list(running.values()), cell, said
    finally:
        ray.shutdown()


def to_text(cell: Cell) -> str:
    """A cell as JSON that `from_text` reads, its study too: another process looks names up in the same one."""
    return json.dumps(asdict(cell))


def from_text(text: str) -> Cell:
    """The inverse of `to_text`."""
    values: dict[str, Any] = json.loads(text)
    return Cell(**(values | {"data": tuple(values["data"]), "protocol": Protocol(**values["protocol"])}))


def _end_with(parent: int) -> None:
    """Ends this process when its parent has been killed: the grid that is started again would run the cell twice."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Runs the cell that comes in on standard input; for `run_grid`."""
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    started = time.perf_counter()
    path = run_cell(Path(sys.argv[1]), from_text(sys.stdin.read()))
    print(f"{path}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
