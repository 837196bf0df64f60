"""`pixelseg lab`: a page on which one sees what a reward does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import PAIRS, PATHS, Split, parse
from pixelseg_agents.cli.options import parse_pairs
from pixelseg_agents.cli.runs import open_run
from pixelseg_agents.lab.acting import Actor
from pixelseg_agents.lab.rewards import offered
from pixelseg_agents.lab.serving import serve
from pixelseg_agents.lab.visitors import Host
from pixelseg_env import OptionError, SegmentationDataset, load_dataset

DESCRIPTION = """\
Serves a page in the browser on which one plays the pixels' game by hand or lets agents act, changes the reward, sees
what every pixel is paid for, and trains a tiny agent live; with three lessons. It needs the extra "lab".

Examples:
  pixelseg lab                                      phantoms, on this machine alone
  pixelseg lab runs/first --dataset brain --data kaggle_3m
"""
PHANTOM, PHANTOMS = "Phantoms", 40
MOST_IMAGES, LARGEST_SIDE = 200, 128


@dataclass(frozen=True)
class LabArguments:
    """Arguments of `pixelseg lab`."""

    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="[RUN ...]", help_behavior_hint="")]] = ()
    """Folders of runs whose agents may act."""
    dataset: str = "phantom"
    """A data set to show beside the phantoms, a name or module:name; see pixelseg train --help."""
    data: Annotated[tuple[Path, ...], arg(metavar=PATHS, help_behavior_hint="(default: $PIXELSEG_DATA)")] = ()
    """Its folder, or several."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar=PAIRS, help_behavior_hint="")] = ()
    """Its own options."""
    split: Split = "test"
    """Whose images of it are shown."""
    size: int = 64
    """Every image becomes SIDE x SIDE pixels, uploads too; 16 to 128."""
    reward: Annotated[tuple[str, ...], arg(metavar="[MODULE:NAME ...]", help_behavior_hint="")] = ()
    """Rewards of your own that visitors may choose. Nothing else of anybody's Python is ever run."""
    host: str = "127.0.0.1"
    """The network interface; 127.0.0.1 is this machine alone, 0.0.0.0 is whoever can reach it."""
    port: int = 7860
    """Where on that; 0: any that is free."""
    seconds: float = 120.0
    """After which a visitor's training ends."""
    trainings: int = 1
    """That may go on at the same time; others wait."""
    visitors: int = 50
    """That are remembered at the same time."""


def main(words: list[str]) -> int:
    """Runs the command; returns the exit code."""
    arguments = parse(LabArguments, words, "lab", DESCRIPTION)
    serve(made_host(arguments), arguments.host, arguments.port)
    return 0


def made_host(arguments: LabArguments) -> Host:
    """What the arguments ask for.

    Raises:
        OptionError: a value cannot be used.
    """
    limits = {"size": (16, LARGEST_SIDE), "seconds": (1, 3600), "trainings": (1, 64), "visitors": (1, 1000)}
    for name, (low, high) in (limits | {"port": (0, 65535)}).items():
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise OptionError(f"--{name} {value:g}: expected {low} to {high}")
    datasets = {PHANTOM: load_dataset("phantom", split="all", size=arguments.size, count=PHANTOMS)}
    if arguments.dataset != "phantom" or arguments.data or arguments.dataset_option:
        loaded = load_dataset(
            arguments.dataset,
            data=list(arguments.data) or None,
            split=arguments.split,
            size=arguments.size,
            **parse_pairs(arguments.dataset_option),
        )
        phantoms = arguments.dataset == "phantom"
        datasets = {PHANTOM if phantoms else loaded.name: _some(loaded)} | ({} if phantoms else datasets)
    agents = tuple(Actor(f"Run {path.name}", _agent(path)) for path in arguments.runs)
    return Host(
        datasets,
        agents,
        offered(arguments.reward),
        (arguments.size, arguments.size),
        arguments.seconds,
        arguments.trainings,
        arguments.visitors,
    )


def _agent(path: Path) -> Any:
    return open_run(path).load_agent(device="cpu")


def _some(dataset: SegmentationDataset) -> SegmentationDataset:
    """At most so many images of a data set, spread evenly over it."""
    if len(dataset) <= MOST_IMAGES:
        return dataset
    return dataset.subset(np.linspace(0, len(dataset) - 1, MOST_IMAGES).round().astype(int))
