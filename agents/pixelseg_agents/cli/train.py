"""`pixelseg train`: its arguments; `training` is what it does with them."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from tyro.conf import OmitArgPrefixes, arg

from pixelseg_agents.cli.arguments import Split, parse
from pixelseg_agents.cli.runs import CONFIG, RunError, open_run
from pixelseg_agents.cli.task import TaskArguments, task_from_json
from pixelseg_agents.registry import PRESETS, agent_class, preset_config, registered_agents
from pixelseg_env import OptionError

ConfigT = TypeVar("ConfigT")
AGENT = f"Which agent learns: {', '.join(registered_agents())}, or module:name of your own."

TRAIN = """\
Trains an agent and evaluates it on patients that it has not seen.

Examples:
  pixelseg train                                           generated pictures, no files needed
  pixelseg train --dataset folder --data my_images         a.png, a_mask.png, ...
  pixelseg train --dataset brain --data lgg --dataset-option channels=flair
  pixelseg train --resume runs/pa3c-phantom-s0             after Ctrl-C, which saves the run
"""

# What may change when a run goes on; anything else would make it another run.
MAY_CHANGE = ("updates", "device", "log", "save_every", "resume", "data")


@dataclass(frozen=True, kw_only=True)
class TrainArguments(Generic[ConfigT]):
    """Arguments of `pixelseg train`."""

    agent: str = "pa3c"
    """Which agent learns."""
    preset: Literal["default", "published"] = "default"
    """Where the agent's hyperparameters start from; the flags below change single ones."""
    updates: int = 2000
    """Training length: one update is one batch of episodes (PA3C: one gradient step; AC and the DQNs: one per step)."""
    batch: int = 8
    """Images per update."""
    seed: int = 0
    """Of parameters, drawn images and actions; the same seed gives the same run (bit for bit on a CPU)."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
    out: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: runs/AGENT-DATASET-sSEED)")] = None
    """The run's folder; it must not hold a run already."""
    resume: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: start anew)")] = None
    """Go on with a run that was stopped, with its own arguments; --updates may be raised."""
    eval_every: int = 200
    """Updates between evaluations on the validation patients (eval/dice in the log); 0: never."""
    eval_split: Split = "test"
    """Which patients the finished agent is evaluated on."""
    save_every: float = 60.0
    """Seconds between checkpoints."""
    log_interval: int = 10
    """Updates per row of progress.csv."""
    log: Literal["bar", "stdout", "none"] = "bar"
    """What the terminal shows: a progress bar, Stable-Baselines3's tables, or nothing."""
    task: OmitArgPrefixes[TaskArguments] = field(default_factory=TaskArguments)
    hyper: OmitArgPrefixes[ConfigT]
    """Hyperparameters of the agent."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out or Path("runs") / f"{self.agent}-{self.task.dataset}-s{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without `resume`, which belongs to one call only."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        coarse = None if self.task.coarse is None else str(self.task.coarse)
        task = dataclasses.asdict(self.task) | {"data": [str(path) for path in self.task.data], "coarse": coarse}
        hyper = dataclasses.asdict(self.hyper)  # type: ignore[call-overload]
        del values["resume"]
        return values | {"hyper": hyper, "task": task, "out": str(self.folder)}

    @classmethod
    def from_json(cls, values: dict[str, Any], config: ConfigT) -> TrainArguments[ConfigT]:
        """The inverse of `to_json`, with the hyperparameters given apart."""
        return cls(**(values | {"task": task_from_json(values["task"]), "hyper": config, "out": Path(values["out"])}))


def main(words: list[str]) -> int:
    """Trains, evaluates and fills the run's folder; returns the exit code."""
    from pixelseg_agents.cli.training import train

    return train(train_arguments(words), command=shlex.join(["pixelseg", "train", *words]))


def train_arguments(words: list[str]) -> TrainArguments[Any]:
    """Reads the arguments of `train`.

    What the other flags default to depends on --agent, --preset and --resume, so these are looked up first.

    Raises:
        OptionError: a value is not valid, or conflicts with the run that is resumed.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--agent", "--preset", "--resume"):
        first.add_argument(flag, nargs="?")
    peek, _ = first.parse_known_args(words)
    defaults: TrainArguments[Any]
    if peek.resume:
        defaults = _stored_arguments(Path(peek.resume))
    else:
        agent, preset = peek.agent or "pa3c", peek.preset if peek.preset in PRESETS else "default"
        defaults = TrainArguments(hyper=_unchecked(preset_config(agent, preset)), agent=agent)
    kind: Any = TrainArguments
    given = parse(kind[type(defaults.hyper)], words, "train", TRAIN, defaults)
    changed = _changes(defaults, given)
    if peek.resume:
        return _resumed(defaults, given, changed)
    config = preset_config(given.agent, given.preset)
    hyper = {item.name: getattr(given.hyper, item.name) for item in dataclasses.fields(config)}
    return dataclasses.replace(
        given, hyper=config.replace(**{name: value for name, value in hyper.items() if name in changed})
    )


def _stored_arguments(folder: Path) -> TrainArguments[Any]:
    run = open_run(folder)
    if run.config is None:
        raise RunError(f"{folder}: no {CONFIG} beside the checkpoint, so the run cannot be resumed; start a new one")
    stored = run.config["arguments"]
    try:
        config = agent_class(stored["agent"]).config_class.from_dict(stored["hyper"])
        arguments = TrainArguments.from_json(stored, _unchecked(config))
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.folder / CONFIG}: does not fit this version of pixelseg-agents ({error!r})") from error
    return dataclasses.replace(arguments, out=run.folder)  # the folder may have been moved


def _resumed(defaults: TrainArguments[Any], given: TrainArguments[Any], changed: set[str]) -> TrainArguments[Any]:
    conflicts = sorted(changed - set(MAY_CHANGE))
    if conflicts:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in conflicts)
        raise OptionError(
            f"{flags} cannot be changed when a run is resumed; leave it out, or start a new run without --resume "
            f"(free to change: {', '.join('--' + name.replace('_', '-') for name in MAY_CHANGE if name != 'resume')})"
        )
    if given.updates < defaults.updates:
        raise OptionError(f"--updates {given.updates}: the run planned {defaults.updates}; expected as many or more")
    return given


def _unchecked(config: Any) -> Any:
    """The same hyperparameters in a class without checks.

    A flag alone may be invalid (`--horizons 5`, before the shares are fitted to it); `replace` checks them all.
    """
    kind = type(config)
    bare = type(kind.__name__, (kind,), {"__post_init__": lambda self: None, "__doc__": kind.__doc__})
    return bare(**{item.name: getattr(config, item.name) for item in dataclasses.fields(config)})


def _changes(before: Any, after: Any) -> set[str]:
    """Names of the fields that differ, in nested dataclasses too."""
    names: set[str] = set()
    for item in dataclasses.fields(before):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if dataclasses.is_dataclass(old):
            names |= _changes(old, new)
        elif old != new:
            names.add(item.name)
    return names
