"""`pixelseg rewards`: the catalogue, what one reward pays for, and what several make of the same agent."""

from __future__ import annotations

import importlib

from pixelseg_env import OptionError, did_you_mean
from pixelseg_env.rewards import catalogue_table

OVERVIEW = """\
usage: pixelseg rewards list
       pixelseg rewards check REWARD [...]
       pixelseg rewards compare REWARD REWARD [...]

What a reward does, before and while an agent learns from it. A reward is a name of the list, module:name of a function
of your own, or a sum, such as '0.7*squared_error + 0.3*dice_gain'.

  list           the catalogue as a table: formula, source, range, whether it telescopes
  check          try one: its range, what mistakes cost, and whether it can be earned without segmenting
  compare        train the same small agent under each: return beside Dice, collapse, masks

Each has its own help:  pixelseg rewards check --help
"""
PARTS = ("list", "check", "compare")


def main(words: list[str]) -> int:
    """Runs one of the parts; returns the exit code."""
    if not words or words[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return 0 if words else 2
    part, *rest = words
    if part not in PARTS:
        raise OptionError(f"rewards {part}: expected {', '.join(PARTS)}.{did_you_mean(part, PARTS)}")
    if part == "list":
        if rest:
            raise OptionError(f"rewards list: takes no arguments, got {' '.join(rest)}")
        print(catalogue_table())
        return 0
    return int(importlib.import_module(f"pixelseg_agents.cli.rewards_{part}").main(rest))
