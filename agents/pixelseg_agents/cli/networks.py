"""`pixelseg networks`: the segmentation networks there are, and what each costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import parse
from pixelseg_agents.files import write_atomically
from pixelseg_agents.networks import build_network, network_class, parameter_count, registered_networks
from pixelseg_env import OptionError

NETWORKS = """\
Lists the networks that --network takes: parameters at --width 1 of 3 channels and 1 label, beside those that the
publication states, and GFLOP (two a multiplication and addition) of one pass of a 256x256 image.

Examples:
  pixelseg networks
  pixelseg networks unet++ my_module:MyNetwork
  pixelseg train --agent supervised --network unet++
  pixelseg train --agent pa3c --network unet3+
"""
SIDE = 256  # of the image of the pass
HEAD = ("name", "network", "parameters", "published", "GFLOP", "smallest image", "from")


@dataclass(frozen=True)
class NetworksArguments:
    """Arguments of `pixelseg networks`."""

    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")]] = ()
    """Names of the list, or module:name of your own."""
    json: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """Also write the list as JSON to this file; - prints it instead of the table."""


def main(words: list[str]) -> int:
    """Prints the table; returns the exit code."""
    arguments: NetworksArguments = parse(NetworksArguments, words, "networks", NETWORKS)
    rows = [described(name, must=bool(arguments.names)) for name in arguments.names or registered_networks()]
    if arguments.json is not None:
        text = json.dumps(rows, indent=1) + "\n"
        if arguments.json == "-":
            print(text, end="")
            return 0
        write_atomically(Path(arguments.json), text)
    print("\n".join(_table(rows)))
    return 0


def described(name: str, must: bool = True) -> dict[str, Any]:
    """What there is to know of a network, JSON-ready.

    Args:
        name: a registered name, or `module:name`.
        must: whether it is an error that a library is missing; otherwise `missing` says which.

    Returns:
        `name`, `label`, `source`, `parameters`, `published` (millions, or None), `gflop` and `smallest` (side).

    Raises:
        OptionError: the network is not known, cannot be loaded or lacks something.
    """
    try:
        kind = network_class(name)
        network, flops = _measured(name)
    except OptionError as error:
        if must:
            raise
        return {"name": name, "missing": str(error)}
    return {
        "name": name,
        "label": kind.label,
        "source": kind.source,
        "parameters": parameter_count(network),
        "published": kind.published,
        "gflop": flops / 1e9,
        "smallest": kind.smallest,
    }


def _measured(name: str) -> tuple[torch.nn.Module, int]:
    """The network, and the operations of one pass: of shapes alone (torch's device "meta") where it can be had so."""
    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
                network = build_network(name, 3)  # in training: what is fused in use would not be counted
                image = torch.zeros(1, 3, SIDE, SIDE)
                with FlopCounterMode(display=False) as counter:
                    network(image)
            return network, counter.get_total_flops()
        except (RuntimeError, NotImplementedError):
            if device == "cpu":
                raise
    raise AssertionError("not reached")


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(HEAD)} |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for row in rows:
        if "missing" in row:
            yield f"| {row['name']} | | | | | | {row['missing']} |"
            continue
        published = "" if row["published"] is None else f"{row['published']:.2f} M"
        yield (
            f"| {row['name']} | {row['label']} | {row['parameters']:,} | {published} | {row['gflop']:.1f} | "
            f"{row['smallest']} | {row['source']} |"
        )
