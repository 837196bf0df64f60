"""Flags of `pixelseg train` from a file: YAML, JSON, or the config.json of a run."""

from __future__ import annotations

import dataclasses
import itertools
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pixelseg_agents.files import parse_json, read_text, reason
from pixelseg_agents.registry import agent_class
from pixelseg_env import OptionError, did_you_mean

OWN = ("out", "resume", "config")  # of one run or call: a run's config.json is no reason to write into its folder

DEEPEST = 100  # brackets in YAML; flags need two


def with_config(words: list[str]) -> list[str]:
    """The words of a command line with those of its `--config` file before them; what is typed goes before.

    Raises:
        OptionError: the file is missing or damaged, or holds something that is no flag's value; or a preset is typed
            beside a run's file.
    """
    rest, path = _split(words)
    if path is None:
        return words
    typed = {word[2:].partition("=")[0].replace("-", "_") for word in rest if word.startswith("--")}
    found: list[str] = []
    flags, run = _read(path)
    if run and "preset" in typed:
        raise OptionError(
            f"--preset beside --config {path}: a run's file says every hyperparameter, so that a preset would change "
            "nothing; leave one of the two out"
        )
    for name, value in flags.items():
        if not typed & {name, f"no_{name}", name.removeprefix("no_")}:
            found += _words(path, name, value)
    return found + rest


def check_config(words: list[str], known: Collection[str]) -> None:
    """Refuses a `--config` file with a flag that there is not.

    Args:
        words: the command line.
        known: names of flags, with underscores.

    Raises:
        OptionError: the file has another; the message gives the nearest.
    """
    _, path = _split(words)
    for name in () if path is None else read_flags(path):
        if name not in known:
            raise OptionError(f"--config {path}: {name!r} is no flag of pixelseg train.{did_you_mean(name, known)}")


def read_flags(path: Path) -> dict[str, Any]:
    """The flags of a file by name, with underscores.

    Raises:
        OptionError: see `with_config`.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], bool]:
    """The flags of a file, and whether it is a run's."""
    try:
        text = read_text(path)
        content = _yaml(path, text) if path.suffix.lower() in (".yaml", ".yml") else parse_json(text)
    except (OSError, ValueError) as error:
        raise OptionError(f"--config {path}: expected a YAML or JSON file of flags ({reason(error)})") from error
    # A run's config.json, whose folder is not to be written into again.
    run = isinstance(content, dict) and isinstance(content.get("arguments"), dict)
    content = _as_it_was(content["arguments"]) if run else content
    flags: dict[str, Any] = {}
    for name, value in _named(path, content).items():
        inner = _named(path, value) if isinstance(value, Mapping) else {name: value}  # `task` and `hyper` are groups
        flags |= {key.replace("-", "_"): item for key, item in inner.items()}
    return {name: value for name, value in flags.items() if name not in OWN or (name == "out" and not run)}, run


def _as_it_was(arguments: dict[str, Any]) -> dict[str, Any]:
    """A run's arguments so that another run is like it, whatever the presets are by now."""
    # Runs write down what `default` stood for; older ones did not, and for all of them it was this.
    preset = arguments.get("preset", "default")
    found = arguments | {"preset": "whole" if preset == "default" else preset}
    if isinstance(hyper := found.get("hyper"), dict):  # what is left to the task is so, in a preset that says it too
        kind = agent_class(str(found.get("agent", "pa3c"))).config_class
        open_ones = {item.name for item in dataclasses.fields(kind) if "None" in str(item.type)}
        left = {name: hyper[name] for name in open_ones & hyper.keys()}
        found["hyper"] = hyper | {k: str(value) for k, value in left.items() if value is None or value in (True, False)}
    return found


def _named(path: Path, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping) or not all(isinstance(name, str) and name.isprintable() for name in values):
        raise OptionError(f"--config {path}: expected flags and their values, such as updates: 500")
    return values


def _split(words: list[str]) -> tuple[list[str], Path | None]:
    """The words without `--config FILE`, and the file."""
    for i, word in enumerate(words):
        if word == "--config" and i + 1 < len(words):
            return words[:i] + words[i + 2 :], Path(words[i + 1])
        if word.startswith("--config="):
            return words[:i] + words[i + 1 :], Path(word.partition("=")[2])
    return words, None


def _words(path: Path, name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None and name not in ("size",):
        return []
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{flag[2:]}"]
    if name == "size" and isinstance(value, list):
        return [flag, "x".join(map(str, value))]
    values = value if isinstance(value, list) else [value]
    try:
        if not all(isinstance(item, str | int | float) for item in values if item is not None):
            raise ValueError
        return [flag, *("none" if item is None else str(item) for item in values)] if values else []
    except ValueError as error:  # or a number with more digits than Python prints
        raise OptionError(
            f"--config {path}: {reprlib.repr(name)}: expected a number, a text, true, false or a list, got "
            f"{_shown(value)}"
        ) from error


def _shown(value: Any) -> str:
    """A value for a message, cut off: aliases make a YAML file of a few lines a value of a billion."""
    try:
        return reprlib.repr(value)[:200]
    except ValueError:
        return "a number of more digits than Python prints"


def _depth(text: str) -> int:
    """How many brackets are open at once, at most."""
    steps = (1 if letter in "[{" else -1 for letter in text if letter in "[]{}")
    return max(itertools.accumulate(steps), default=0)


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise OptionError(f"--config {path}: YAML needs PyYAML: pip install pyyaml, or write JSON") from error
    if _depth(text) > DEEPEST:  # PyYAML takes a time that grows with its square, seconds for a few kilobytes
        raise ValueError(f"it is nested too deeply, {DEEPEST} brackets or more")
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
