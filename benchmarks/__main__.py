"""`python -m benchmarks run | search | report | table | figure | nnunet`: the comparison of the agents."""

from __future__ import annotations

import sys
from typing import Any

import tyro

from benchmarks.failures import exit_code
from benchmarks.nnunet.commands import NnUNet
from benchmarks.study.commands import Report, Run, Search
from benchmarks.study.publication import Figure, Table


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
    return exit_code(lambda: int(tyro.extras.subcommand_cli_from_dict(commands).main()))


if __name__ == "__main__":
    sys.exit(main())
