"""One resolver for what users name: something registered, or `module:name` of their own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from pixelseg_env.errors import OptionError, check_choice

Item = TypeVar("Item")


def is_plugin(value: object) -> bool:
    """Whether a value has the form `module:name`."""
    return isinstance(value, str) and ":" in value


def load_plugin(option: str, value: str) -> Any:
    """Imports what `module:name` names; the name may have dots.

    Args:
        option: the option's name, for messages.
        value: `module:name`, such as `"my_project.rewards:bonus"`.

    Returns:
        The object, whatever it is; the caller checks that it can be used.

    Raises:
        OptionError: the module cannot be imported, or has no such name.
    """
    module, _, name = value.partition(":")
    if not module or not name:
        raise OptionError(f"{option}={value!r}: expected module:name, such as my_project.{option}s:mine")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # the module is the user's: whatever it raises, name it
        raise OptionError(
            f"{option}={value!r}: module {module!r} cannot be imported ({type(error).__name__}: {error}); "
            "install it, or run from the folder that holds it"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise OptionError(f"{option}={value!r}: module {module!r} has no {name!r}; check the spelling")
        found = getattr(found, part)
    return found


def resolve(option: str, value: object, known: Mapping[str, Item]) -> Item:
    """Returns what a registered name, or `module:name`, stands for.

    Args:
        option: the option's name, for messages.
        value: what the user gave.
        known: the registered names.

    Returns:
        The entry of `known`, or what was imported.

    Raises:
        OptionError: the name is not registered (the message gives the nearest), or the plug-in cannot be loaded.
    """
    if is_plugin(value):
        return load_plugin(option, str(value))  # type: ignore[no-any-return]
    return known[check_choice(option, value, known)]
