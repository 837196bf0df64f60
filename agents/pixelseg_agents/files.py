"""Writing a file whole or not at all, and reading text that may be damaged."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixelseg_env import OptionError

LARGEST_TEXT = 64 << 20  # bytes; parsed, text takes several times its size, and what is read here has 1 KiB per image


def check_target(path: Path, endings: Sequence[str], overwrite: bool) -> None:
    """Refuses a file that must not be written.

    Raises:
        OptionError: it has another ending, is a folder, or exists.
    """
    if path.suffix.lower() not in endings:
        raise OptionError(f"{path}: expected a file that ends in {', '.join(endings)}")
    if path.is_dir():
        raise OptionError(f"{path}: is a folder; expected a file to write")
    if path.exists() and not overwrite:
        raise OptionError(f"{path}: exists; choose another file, or allow to replace it (--overwrite, overwrite=True)")


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file under a temporary name beside it and renames it: readers see the old or the new one.

    So does whoever reads after a power failure: the content is on the disk before the name is.
    """
    goal = Path(path)
    goal.parent.mkdir(parents=True, exist_ok=True)
    temporary = goal.with_name(f".{goal.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, goal)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # a full disk does not say which file it was
            raise OSError(error.errno, error.strerror, str(goal)) from error
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes what `write_atomically` leaves in a folder when its process is killed; nobody else may write there."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name):
            path.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """The text of a file that is small where it is honest.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8, or larger than `LARGEST_TEXT`.
    """
    size = path.stat().st_size
    if size > LARGEST_TEXT:
        raise ValueError(f"expected at most {LARGEST_TEXT >> 20} MiB of text, got {size >> 20} MiB")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, larger than `LARGEST_TEXT`, or nested more deeply than Python can follow.
    """
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Reads JSON.

    Raises:
        ValueError: it is none, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_value(text: str) -> Any:
    """The value of an option: a number, true, false, none, a JSON list, or else text."""
    if text.lower() in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(text.lower())
    try:
        return parse_json(text)
    except ValueError:
        return text


def reason(error: BaseException, most: int = 300) -> str:
    """What an error says, short enough for a message: some print all that they could not read."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= most else text[:most] + " ..."
