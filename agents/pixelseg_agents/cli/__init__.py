"""The command line `pixelseg`: train, evaluate, predict."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from pixelseg_agents import __version__
from pixelseg_agents.cli.arguments import EvaluateArguments, PredictArguments, TrainArguments
from pixelseg_agents.cli.check import main as check
from pixelseg_agents.cli.evaluate import assess
from pixelseg_agents.cli.predict import predict
from pixelseg_agents.cli.runs import CONFIG, RunError, open_run
from pixelseg_agents.cli.training import train
from pixelseg_agents.registry import PRESETS, agent_class, preset_config
from pixelseg_env import OptionError, PixelSegError, check_choice

OVERVIEW = """\
usage: pixelseg COMMAND ...

Train agents that segment images pixel by pixel, evaluate them, and use them.

commands:
  check      look at your data before you train: sizes, patients, masks, splits
  train      train an agent; leaves a run folder with checkpoint, log, figures and scores
  evaluate   score a trained agent on held-out patients
  predict    segment your own images or NIfTI volumes with a trained agent

Each command has its own help:  pixelseg train --help

A first run, without any files:
  pixelseg train --dataset phantom --updates 200 --out runs/first
  pixelseg evaluate runs/first
"""

TRAIN = """\
Trains an agent and evaluates it on patients that it has not seen.

Examples:
  pixelseg train                                           generated pictures, no files needed
  pixelseg train --dataset folder --data my_images         a.png, a_mask.png, ...
  pixelseg train --dataset brain --data lgg --dataset-option channels=flair
  pixelseg train --resume runs/pa3c-phantom-s0             after Ctrl-C, which saves the run
"""

EVALUATE = """\
Scores a trained agent, beside Otsu's threshold and "keep everything".

Examples:
  pixelseg evaluate runs/first                             held-out patients of the run's data set
  pixelseg evaluate runs/first --split val --json scores.json
  pixelseg evaluate runs/first --dataset folder --data other_images --split all
"""

PREDICT = """\
Segments images and NIfTI volumes. A mask has the size of its input.
In image files it is 0 and 255, in NIfTI 0 and 1, in the place of the volume.

Examples:
  pixelseg predict runs/first scan.png -o mask.png
  pixelseg predict runs/first scans/ -o masks/
  pixelseg predict runs/heart case1.nii.gz case2.nii.gz -o masks/
"""

# What may change when a run goes on; anything else would make it another run.
MAY_CHANGE = ("updates", "device", "log", "save_every", "resume", "data")
LISTS = ("--data", "--dataset-option")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        The exit code: 0; 2 for an error that the user can mend; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except BrokenPipeError:  # such as `pixelseg evaluate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except (PixelSegError, OSError) as error:
        print(f"pixelseg: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pixelseg: interrupted", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(OVERVIEW, end="")
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"pixelseg {__version__}")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": lambda rest: train(train_arguments(rest), command=shlex.join(["pixelseg", *words])),
        "evaluate": lambda rest: assess(_parse(EvaluateArguments, rest, "evaluate", EVALUATE)),
        "check": check,
        "predict": lambda rest: predict(_parse(PredictArguments, rest, "predict", PREDICT)),
    }
    return commands[check_choice("command", words[0], commands)](words[1:])


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
    given = _parse(kind[type(defaults.hyper)], words, "train", TRAIN, defaults)
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


def _merged(words: list[str]) -> list[str]:
    """Brings the values of a repeated list flag together; the parser would keep the last ones only."""
    collected: dict[str, list[str]] = {}
    rest: list[str] = []
    current: list[str] | None = None
    for word in words:
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if word.startswith("--") and flag in LISTS:
            current = collected.setdefault(flag, [])
            if equals:
                current.append(value)
                current = None
        elif current is not None and not word.startswith("-"):
            current.append(word)
        else:
            current = None
            rest.append(word)
    return rest + [word for flag, values in collected.items() for word in (flag, *values)]


def _parse(kind: Any, words: list[str], command: str, description: str, default: Any = None) -> Any:
    options = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=f"pixelseg {command}", description=description, args=_merged(words), **options)
