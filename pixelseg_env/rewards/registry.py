"""What `reward=` accepts: a registered name, `module:name`, an expression of these, or an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pixelseg_env.errors import OptionError
from pixelseg_env.plugins import resolve
from pixelseg_env.rewards import catalogue, hackable, potentials  # noqa: F401 (they fill the catalogue)
from pixelseg_env.rewards.base import Own, Reward, RewardFunction, as_reward
from pixelseg_env.rewards.built_in import CATALOGUE
from pixelseg_env.rewards.check import faults
from pixelseg_env.rewards.expression import is_name, read

_REWARDS: dict[str, Reward | Callable[..., Any]] = dict(CATALOGUE)  # classes as they are: `name(20)` calls them


def registered_rewards() -> tuple[str, ...]:
    """The names that `reward=` accepts, sorted."""
    return tuple(sorted(_REWARDS))


def register_reward(name: str, function: RewardFunction | type, *, overwrite: bool = False) -> None:
    """Makes `reward=name` work in every environment, and the name part of expressions such as `"0.5*name"`.

    Args:
        name: the new name.
        function: `(previous, current, target) -> map`, see `pixelseg_env.rewards.base`; a `Reward`; or a class of such
            objects, whose defaults the name stands for, and whom `"name(3)"` calls. It is tried on a few maps
            (`check_reward` does so at length); what cannot run on these is not judged.
        overwrite: allow an existing name to be replaced.

    Raises:
        OptionError: the name is taken or is not a name, `function` cannot be called, its signature asks for what there
            is not, or it does what a reward must not.
    """
    if not isinstance(name, str) or not name or ":" in name:
        raise OptionError(f"a reward's name must be a non-empty string without a colon, got {name!r}")
    if name in _REWARDS and not overwrite:
        raise OptionError(f"reward {name!r} is registered already; choose another name or pass overwrite=True")
    if not callable(function):
        raise OptionError(f"reward {name!r}: expected a function (previous, current, target) -> map, got {function!r}")
    reward = as_reward(function)
    found = faults(reward, thorough=False)
    if found:
        raise OptionError(f"reward {name!r} cannot be registered:\n" + "\n".join(found))
    _REWARDS[name] = function if isinstance(function, type) else reward


def resolve_reward(reward: str | RewardFunction | type) -> Reward:
    """Returns the reward that a text or an object stands for.

    Args:
        reward: a registered name (`"balanced"`), `module:name` (`"my_project.rewards:bonus"`), an expression of these
            (`"0.7*squared_error + 0.3*my_module:bonus"`, `"balanced(20)"`, `"(sign - dice_gain).clip(-1, 1)"`), a
            function, a class without arguments, or a `Reward`.

    Returns:
        The reward; a `Reward` as it is.

    Raises:
        OptionError: a name is not known (the message lists those that are and the nearest), the text cannot be read,
            or the function cannot be used.
    """
    if not isinstance(reward, str) and callable(reward):
        return as_reward(reward)
    if not isinstance(reward, str) or reward in _REWARDS or is_name(reward):
        return _named(reward)
    return read(reward, _named)


def _named(name: Any, *arguments: Any, **named: Any) -> Reward:
    """The reward of a name or `module:name`; with arguments, what it makes of them."""
    found: Any = resolve("reward", name, _REWARDS)
    spec = name if is_name(name) else repr(name)  # in quotes it can stand in an expression
    if arguments or named:
        if isinstance(found, Reward) and not isinstance(found, Own):
            raise OptionError(f"reward {name!r} takes no parameters")
        shown = [*map(repr, arguments), *(f"{key}={value!r}" for key, value in named.items())]
        spec = f"{spec}({', '.join(shown)})"
        maker = found.function if isinstance(found, Own) else found
        try:
            found = maker(*arguments, **named)
        except TypeError as error:
            raise OptionError(f"reward={spec!r}: {error}") from error
        if not callable(found):
            raise OptionError(f"reward={spec!r}: expected a reward, {name} returned {found!r}")
    made = as_reward(found)
    return Own(made.function, spec) if isinstance(made, Own) else made
