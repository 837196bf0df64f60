"""Run folders: what a training leaves behind, and what `evaluate`, `predict` and `--resume` start from."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pixelseg_agents.checkpoint import BEST, CHECKPOINT
from pixelseg_agents.cli.options import RUNS_OWN, parse_pairs
from pixelseg_agents.cli.task import TaskArguments, task_from_json
from pixelseg_agents.files import read_json, reason, remove_unfinished, write_atomically
from pixelseg_agents.learning.looking import Closer, WholeImage, make_look
from pixelseg_agents.networks import network_class
from pixelseg_agents.registry import agent_class, load_agent
from pixelseg_env import (
    DataError,
    OptionError,
    PixelSegError,
    check_choice,
    check_horizon,
    is_plugin,
    registered_datasets,
)
from pixelseg_env.datasets import check_size, own_options

CONFIG = "config.json"
LOCK = ".lock"


class RunError(PixelSegError):
    """A run folder that is missing, damaged, or in the way."""


@dataclass(frozen=True)
class Run:
    """A run folder, or a checkpoint without one.

    Attributes:
        checkpoint: the checkpoint's file.
        config: the content of `config.json`; None for a checkpoint that has none beside it.
    """

    checkpoint: Path
    config: dict[str, Any] | None

    @property
    def folder(self) -> Path:
        """Where the checkpoint lies."""
        return self.checkpoint.parent

    @property
    def task(self) -> TaskArguments | None:
        """Data and rules of the training; None without `config.json`."""
        if self.config is None:
            return None
        try:
            task = _checked(task_from_json(self.config["arguments"]["task"]))
            began = Path(self.config.get("working_folder", "."))
            coarse = None if task.coarse is None else _found(task.coarse, began)
            task = dataclasses.replace(task, data=tuple(_found(path, began) for path in task.data), coarse=coarse)
            self._check_others(task)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OSError) as error:
            raise RunError(
                f"{self.folder / CONFIG}: does not fit this version of pixelseg-agents ({reason(error)}); "
                "restore it from a copy, or train again"
            ) from error
        return task

    def _check_others(self, task: TaskArguments) -> None:
        if task.coarse is not None and not task.coarse.exists():
            raise RunError(
                f"{self.folder / CONFIG}: its --coarse {task.coarse} is no run or checkpoint (any more); put it back"
            )
        try:
            if is_plugin(task.dataset):
                own_options(task.dataset)  # which imports it
        except OptionError as error:
            raise RunError(f"{self.folder / CONFIG}: its data set cannot be had: {reason(error)}") from error

    def file(self, which: str = "last") -> Path:
        """The `"last"` checkpoint, or the `"best"` on validation patients.

        Raises:
            RunError: there is no best one.
        """
        if which == "last" or self.config is None:
            return self.checkpoint
        best = self.folder / BEST
        if not best.is_file():
            raise RunError(f"{best}: is missing, for the run was not evaluated while it trained; use the last")
        return best

    def load_agent(self, env: Any = None, device: str = "auto", which: str = "last") -> Any:
        """Reads the run's agent, one of a plug-in too.

        Args:
            env: to go on training.
            device: where to put it.
            which: see `file`.

        Raises:
            CheckpointError: the checkpoint is missing, damaged, or of an agent that is not known.
            OptionError: the run's plug-in is not there.
        """
        arguments = {} if self.config is None else self.config["arguments"]
        name, hyper = str(arguments.get("agent", "")), arguments.get("hyper")
        network, look = (hyper.get(key) if isinstance(hyper, dict) else None for key in ("network", "look"))
        found: tuple[tuple[str, Any, Callable[[str], Any]], ...]
        found = (("agent", name, agent_class), ("network", network, network_class), ("look", look, make_look))
        for kind, named, find in found:
            try:
                if is_plugin(named):
                    find(named)
            except OptionError as error:
                raise OptionError(f"{self.folder / CONFIG}: its {kind} cannot be had: {reason(error)}") from error
        # The checkpoint says what its network is; the run's own configuration, that its module may be imported.
        agent = name if is_plugin(name) else None
        return load_agent(self.file(which), env=env, device=device, agent=agent)


def _found(path: Path, began: Path) -> Path:
    """A path of a run's arguments: as it was typed where that leads somewhere, else from where the run was begun."""
    return path if path.expanduser().exists() or path.is_absolute() else began / path


def open_run(path: Path) -> Run:
    """Finds the checkpoint and the configuration of a run.

    Args:
        path: a run folder, or a checkpoint file.

    Raises:
        RunError: there is no such run, or its configuration is damaged.
    """
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise RunError(f"{path}: not a run folder, it holds no {CONFIG}; expected one that pixelseg train made")
        return Run(path / CHECKPOINT, _read_config(path / CONFIG))
    if not path.exists():
        raise RunError(f"{path}: no such run; expected a folder that pixelseg train made, or a checkpoint file")
    beside = path.parent / CONFIG
    return Run(path, _read_config(beside) if beside.is_file() else None)


def check_free(folder: Path) -> None:
    """Makes sure that a new run may use a folder.

    Raises:
        RunError: it holds files.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; choose another --out")
    if (folder / CONFIG).exists():
        raise RunError(f"{folder}: holds a run already; choose another --out, or --resume {folder}")
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise RunError(f"{folder}: is not empty; choose another --out")


def has_begun(folder: Path) -> bool:
    """Whether a run's folder holds more than its configuration: it may have been killed before its first checkpoint."""
    return any(path.name not in (LOCK, CONFIG) for path in folder.iterdir())


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in a folder, until it is left or the process ends, however it does.

    Raises:
        RunError: another one does, or files cannot be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{folder}: another process is training there; wait for it, or choose another folder") from None
    except NotImplementedError:  # a file system without locks
        lock = None
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        if lock is not None:
            remove_unfinished(folder)
        yield
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
            lock.release()
        with contextlib.suppress(OSError):  # nothing was written, as when the training could not begin
            for path in made:
                path.rmdir()


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes `config.json`, whole or not at all."""
    write_atomically(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def check_writable(folder: Path, option: str) -> None:
    """Makes sure that a folder can be written to, or made.

    Args:
        folder: need not exist.
        option: that names it, for the error.

    Raises:
        DataError: it cannot.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another {option}") from error


def too_short(agent: Any, horizon: int) -> str:
    """A warning where the agent is used for more steps than it was ever trained for; otherwise an empty string.

    Args:
        agent: the agent.
        horizon: the steps that it is used for.
    """
    longest = max(getattr(agent.config, "horizons", ()) or (horizon,)) if hasattr(agent, "config") else horizon
    if longest >= horizon:
        return ""
    if getattr(agent, "looks_once", False):
        if isinstance(getattr(agent, "look", WholeImage()), WholeImage):
            return ""  # every step is the first one again
        return (
            f"the agent learns from the first look alone, at the whole image, and is used for {horizon} steps "
            "(--horizon), of which later ones may show it windows, which it never learnt. Give --horizon 1, or train "
            "with --look whole"
        )
    return (
        f"the agent is trained for at most {longest} step(s) (--horizons) and used for {horizon} (--horizon). What "
        f"to do after step {longest} it has never learnt, and it may lose the whole object. Give --horizon {longest}, "
        f"or let --horizons end with {horizon}"
    )


def too_small(agent: Any, size: tuple[int, ...]) -> str:
    """A warning where an agent that could look closer never will; otherwise an empty string.

    Args:
        agent: the agent.
        size: (H, W) of the images that it learns from.
    """
    look = getattr(agent, "look", None)
    if not isinstance(look, Closer) or look.smallest < max(size):
        return ""
    return (
        f"images of {'x'.join(map(str, size))} are no larger than the smallest window ({look.smallest:g} pixels), so "
        "every look shows the whole image. Give a larger --size, a smaller window "
        '(--look "closer(smallest=...)"), or --preset whole'
    )


def run_size(run: Run, wanted: Any) -> Any:
    """The size that was asked for; `RUNS_OWN` stands for the run's own.

    Raises:
        OptionError: the run's own is not known.
    """
    if wanted != RUNS_OWN:
        return wanted
    if run.task is None:
        raise OptionError(f"{run.checkpoint}: no {CONFIG} beside it tells the training size; give --size")
    return run.task.size


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
        if not isinstance(config["arguments"]["task"], dict):
            raise TypeError("its task is no JSON object")
        return dict(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: damaged or not a run's configuration ({reason(error)}); restore it from a copy"
        ) from error


def _checked(task: TaskArguments) -> TaskArguments:
    """The task, if its values are of the types that the command line would have made.

    Raises:
        TypeError, ValueError: one is not.
    """
    for name in ("dataset", "split_by", "transition", "observation", "reward"):
        if not isinstance(getattr(task, name), str):
            raise TypeError(f"{name}: expected text")
    if not all(isinstance(pair, str) for pair in task.dataset_option):
        raise TypeError("dataset_option: expected texts, KEY=VALUE")
    parse_pairs(task.dataset_option)
    check_size(task.size)
    check_horizon(task.horizon)
    if not is_plugin(task.dataset):
        check_choice("dataset", task.dataset, registered_datasets())
    return task
