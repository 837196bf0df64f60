"""`python -m benchmarks run | search | report | table | figure | nnunet`: the comparison of the agents."""

from __future__ import annotations

import sys
from typing import Any

import tyro

from benchmarks.nnunet.commands import NnUNet
from benchmarks.study.commands import Report, Run, Search
from benchmarks.study.publication import Figure, Table
from pixelseg_env import PixelSegError


def main() -> int:
    """Runs one command; returns the exit code."""
    commands: dict[str, Any] = {
        "run": Run,
        "search": Search,
        "report": Report,
        "table": Table,
        "figure": Figure,
        "nnunet": NnUNet,
    }
    try:
        command = tyro.extras.subcommand_cli_from_dict(commands)
        return int(command.main())
    except PixelSegError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"benchmarks: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
