"""Options that are written in a way of their own on the command line: sizes and KEY=VALUE pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from pixelseg_agents.files import parse_value
from pixelseg_env import OptionError
from pixelseg_env.datasets import Size, check_size

RUNS_OWN = "run"
SIZE_METAVAR = "SIDE|HxW|none"
_FLAGS = ("data", "size", "split", "split_seed", "split_by", "name")


def parse_size(text: str) -> Size:
    """Reads "64", "48x64" (height x width) or "none" (native).

    Raises:
        OptionError: it is none of these.
    """
    if text.lower() in ("none", "native"):
        return None
    match = re.fullmatch(r"(\d{1,9})(?:[xX,](\d{1,9}))?", text)
    if match is None:
        raise OptionError(f"size={text!r} is not valid; expected a side such as 64, HEIGHTxWIDTH, or none (native)")
    size = (int(match[1]), int(match[2])) if match[2] else int(match[1])
    check_size(size)
    return size


def format_size(size: Any) -> str:
    """The inverse of `parse_size`."""
    if size is None:
        return "none"
    return f"{size[0]}x{size[1]}" if isinstance(size, (tuple, list)) else str(size)


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Reads "key=value" pairs; a value is a number, true, false, none, a JSON list, or else text.

    Raises:
        OptionError: no "=", a key twice, or a key that has a flag of its own.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise OptionError(f"dataset option {pair!r}: expected KEY=VALUE, such as channels=flair")
        if key in _FLAGS:
            raise OptionError(f"dataset option {pair!r}: use --{key.replace('_', '-')} {text}")
        if key in options:
            raise OptionError(f"dataset option {key!r} is given twice")
        options[key] = parse_value(text)
    return options


def _spec(allow_run: bool) -> Any:
    def read(words: list[str]) -> Any:
        return RUNS_OWN if allow_run and words[0] == RUNS_OWN else parse_size(words[0])

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=SIZE_METAVAR,
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, (int, tuple)) or (allow_run and value == RUNS_OWN),
        str_from_instance=lambda value: [format_size(value)],
    )


SizeFlag = Annotated[int | tuple[int, int] | None, _spec(allow_run=False)]
RunSizeFlag = Annotated[int | tuple[int, int] | Literal["run"] | None, _spec(allow_run=True)]
