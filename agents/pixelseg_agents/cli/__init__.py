"""The command line `pixelseg`. Each command has a file of its own with `main(words) -> exit code`.

What a command needs is imported when it runs, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

OVERVIEW = """\
usage: pixelseg COMMAND ...

Train agents that segment images pixel by pixel, evaluate them, and use them.

commands:
  check          look at images and masks before anyone trains: counts, patients, splits, a picture
  train          train an agent; leaves a run folder with checkpoint, log, figures and scores
  evaluate       score a trained agent on held-out patients
  compare        set runs side by side: a table of scores, and their learning curves
  render         show an agent at work: an animation of what it looks at and what it removes
  predict        segment your own images or NIfTI volumes with a trained agent
  export         write a trained agent with its steps as one ONNX file, for use without PyTorch
  lab            a page in the browser: play, change the reward, watch an agent learn or cheat (extra "lab")
  networks       list the networks that --network takes, with parameters and GFLOP
  rewards        what a reward pays for: the catalogue, a search for loopholes, agents trained under several
  export-nnunet  write a data set as nnU-Net reads it, with the same patients for training and test

Each command has its own help:  pixelseg train --help

A first run, without any files:
  pixelseg train --dataset phantom --updates 200 --out runs/first
  pixelseg evaluate runs/first
"""

COMMANDS = (
    "check",
    "train",
    "evaluate",
    "compare",
    "render",
    "predict",
    "export",
    "lab",
    "networks",
    "rewards",
    "export-nnunet",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        The exit code: 0; 2 for an error that the user can mend; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the console cannot show is no reason to stop
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(OVERVIEW, end="")
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"pixelseg {_version()}")
        return 0
    from pixelseg_env import PixelSegError, check_choice

    if os.getcwd() not in sys.path:  # so that `--reward my_module:mine` finds the file in the working folder
        sys.path.append(os.getcwd())
    try:
        command = check_choice("command", words[0], COMMANDS)
        return int(importlib.import_module(f"{__name__}.{command.replace('-', '_')}").main(words[1:]))
    except BrokenPipeError:  # such as `pixelseg evaluate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except (PixelSegError, OSError) as error:
        number = os.environ.get("RANK", "0")  # of several processes that train together
        print(f"pixelseg: error: {'' if number == '0' else f'process {number}: '}{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pixelseg: interrupted", file=sys.stderr)
        return 130


def _version() -> str:
    """The installed version; it is asked for without importing the environment, which would take half a second."""
    try:
        return importlib.metadata.version("pixelseg-agents")
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path
        from pixelseg_env import __version__

        return __version__
