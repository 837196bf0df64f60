"""Reading the words of a command, and the flags that several commands have."""

from __future__ import annotations

from typing import Any, Literal

import tyro

AS_IN_RUN = "(default: as in the run)"
PATHS, PAIRS = "PATH [PATH ...]", "KEY=VALUE [KEY=VALUE ...]"
LISTS = ("--data", "--dataset-option")
Split = Literal["train", "val", "test", "all"]
Which = Literal["last", "best"]
Switch = tyro.conf.FlagCreatePairsOff[bool]


def parse(kind: Any, words: list[str], command: str, description: str, default: Any = None) -> Any:
    """Reads a command's arguments.

    Args:
        kind: the dataclass of its arguments; the text under a field is its help.
        words: the command line after the command.
        command: its name.
        description: the head of its help.
        default: an instance that holds the defaults; None: those of the class.
    """
    options = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=f"pixelseg {command}", description=description, args=_merged(words), **options)


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
