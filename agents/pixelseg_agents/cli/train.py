"""`pixelseg train`: its arguments; `training` is what it does with them."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixelseg_agents.cli.arguments import parse
from pixelseg_agents.cli.config_file import check_config, with_config
from pixelseg_agents.cli.runs import CONFIG, RunError, open_run
from pixelseg_agents.cli.task import TaskArguments
from pixelseg_agents.cli.training import RECOMPUTE, TrainArguments, train
from pixelseg_agents.config import POLICY_DEFAULTS
from pixelseg_agents.registry import PRESETS, agent_class, named_preset, preset_config, preset_task
from pixelseg_env import OptionError

TRAIN = """\
Trains an agent and evaluates it on patients that it has not seen.

Examples:
  pixelseg train                                           generated pictures, no files needed
  pixelseg train --preset whole --horizon 10               sees every image whole at each of ten steps
  pixelseg train --dataset folder --data my_images         a.png, a_mask.png, ...
  pixelseg train --dataset brain --data lgg --dataset-option channels=flair
  pixelseg train --resume runs/pa3c-phantom-s0             after Ctrl-C, which saves the run
"""

# What may change when a run goes on; anything else would make it another run.
MAY_CHANGE = ("updates", "device", "log", "save_every", "resume", "data", RECOMPUTE)


def main(words: list[str]) -> int:
    """Trains, evaluates and fills the run's folder; returns the exit code."""
    return train(train_arguments(words), command=shlex.join(["pixelseg", "train", *words]))


def train_arguments(words: list[str]) -> TrainArguments[Any]:
    """Reads the arguments of `train`.

    What the other flags default to depends on --agent, --preset and --resume, so these are looked up first.

    Raises:
        OptionError: a value is not valid, or conflicts with the run that is resumed.
    """
    typed_words, words = words, with_config(words)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in (
        "--agent",
        "--preset",
        "--resume",
        "--transition",
        "--observation",
        "--horizon",
        "--policy-gradient",
        "--look",
        "--reward",
    ):
        first.add_argument(flag, nargs="?")
    first.add_argument("--horizons", nargs="*")
    peek, _ = first.parse_known_args(words)
    defaults: TrainArguments[Any]
    if peek.resume:
        defaults = _stored_arguments(Path(peek.resume))
    else:
        agent = peek.agent or "pa3c"
        preset = named_preset(agent, peek.preset if peek.preset in PRESETS else "default")
        kinds = (TrainArguments, TaskArguments, agent_class(agent).config_class)
        check_config(typed_words, {item.name for kind in kinds for item in dataclasses.fields(kind)})
        task = TaskArguments(**preset_task(agent, preset))
        if preset == "closer":  # plays as long as it trains, whichever of the two is typed
            task = dataclasses.replace(task, horizon=_longest(peek.horizon, *peek.horizons or ()) or task.horizon)
        # With what is left to the task spelt out, so that --help shows it.
        shown = preset_config(agent, preset, task.horizon)
        if peek.policy_gradient in POLICY_DEFAULTS and hasattr(shown, "policy_gradient"):
            shown = dataclasses.replace(shown, policy_gradient=peek.policy_gradient)
        if peek.look and hasattr(shown, "look"):
            shown = dataclasses.replace(shown, look=peek.look)
        if hasattr(shown, "for_reward"):
            shown = shown.for_reward(peek.reward or task.reward)
        if hasattr(shown, "for_task"):
            shown = shown.for_task(peek.transition or task.transition, peek.observation or task.observation)
        defaults = TrainArguments(hyper=_unchecked(shown), agent=agent, task=task)
    kind: Any = TrainArguments
    given = parse(kind[type(defaults.hyper)], words, "train", TRAIN, defaults)
    changed = _changes(defaults, given)
    if peek.resume:
        return _resumed(defaults, given, changed)
    # The name that `default` stands for is kept: what it stands for may be another one in a later version.
    preset = named_preset(given.agent, given.preset)
    config = preset_config(given.agent, preset, max(1, given.task.horizon))
    typed = _typed(words)
    hyper = {item.name: getattr(given.hyper, item.name) for item in dataclasses.fields(config) if item.name in typed}
    return dataclasses.replace(given, preset=preset, hyper=config.replace(**hyper))


def _longest(*typed: str | None) -> int:
    """The largest of the whole numbers among words; 0 if there is none."""
    return max((int(word) for word in typed if word is not None and word.isdecimal()), default=0)


def _typed(words: list[str]) -> set[str]:
    """Names of the flags that were typed, with a value that is the default too."""
    names = (word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--"))
    return {part for name in names for part in (name, name.removeprefix("no_"))}


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
    # The folder may have been moved, and this may be another working folder.
    return dataclasses.replace(arguments, out=run.folder, task=run.task or arguments.task)


def _resumed(defaults: TrainArguments[Any], given: TrainArguments[Any], changed: set[str]) -> TrainArguments[Any]:
    conflicts = sorted(changed - set(MAY_CHANGE))
    if conflicts:
        free = [name for name in MAY_CHANGE if name != "resume" and (name != RECOMPUTE or hasattr(given.hyper, name))]
        raise OptionError(
            f"{_flags(conflicts)} cannot be changed when a run is resumed; leave it out, or start a new run without "
            f"--resume (free to change: {_flags(free)})"
        )
    if given.updates < defaults.updates:
        raise OptionError(f"--updates {given.updates}: the run planned {defaults.updates}; expected as many or more")
    return given


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


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
