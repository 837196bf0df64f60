"""Reads the text of a reward, `"0.7*squared_error + 0.3*my_module:bonus"`: sums, factors, `clip`, `scale`, parameters.

Python's own parser takes the text apart, and nothing of it is evaluated but what stands here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from pixelseg_env.errors import OptionError
from pixelseg_env.rewards.base import Reward

METHODS = ("clip", "scale")
# module:name; names may have dots, but `my_module:bonus.clip(0, 1)` is a method of the reward.
PLUGIN = re.compile(rf"[^\W\d][\w.]*:[^\W\d]\w*(?:\.(?!(?:{'|'.join(METHODS)})\s*\()[^\W\d]\w*)*")
FORMS = '"squared_error", "balanced(20)", "my_module:bonus", "0.7*squared_error + 0.3*sign", "(sign).clip(-1, 1)"'

Named = Callable[..., Reward]


def is_name(text: str) -> bool:
    """Whether a text is one name, or one `module:name`, and no expression."""
    return text.isidentifier() or PLUGIN.fullmatch(text) is not None


def read(text: str, named: Named) -> Reward:
    """Returns the reward that an expression describes.

    Args:
        text: the expression.
        named: makes a reward of a name, or `module:name`, and its parameters.

    Raises:
        OptionError: the text cannot be read, or a part of it is not known.
    """
    plugins: list[str] = []

    def placeholder(match: re.Match[str]) -> str:  # Python's grammar has no module:name
        plugins.append(match.group())
        return f"_{len(plugins) - 1}_"

    python = PLUGIN.sub(placeholder, text).strip()
    names = {f"_{i}_": plugin for i, plugin in enumerate(plugins)}
    try:
        value = _Reader(text, names, named).value(ast.parse(python, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise OptionError(f"reward={text!r} cannot be read; expected for example {FORMS}") from error
    if not isinstance(value, Reward):
        raise OptionError(f"reward={text!r} is a number; expected a reward, for example {FORMS}")
    return value


class _Reader:
    def __init__(self, text: str, names: dict[str, str], named: Named) -> None:
        self._text, self._names, self._named = text, names, named

    def value(self, node: ast.expr) -> Reward | float:
        """A reward, or a number on its way to becoming a factor."""
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id=name):
                return self._named(self._names.get(name, name))
            case ast.Constant(value=str(name)):  # a registered name that is no identifier, in quotes
                return self._named(self._names.get(name, name))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as sign, right=right):
                return self._combined(sign, self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name) | ast.Constant(value=str(name))):
                return self._named(self._names.get(name, name), *self._arguments(node), **self._keywords(node))
            case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in METHODS:
                return self._method(inner, method, node)
        raise self._error(f"{ast.unparse(node)!r} is not understood")

    def _combined(self, sign: ast.operator, left: Any, right: Any) -> Reward | float:
        try:
            match sign:
                case ast.Add():
                    result = left + right
                case ast.Sub():
                    result = left - right
                case ast.Mult():
                    result = left * right
                case _:
                    result = left / right
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            raise self._error("rewards are added to rewards, and multiplied by numbers") from error
        return result  # type: ignore[no-any-return]

    def _method(self, inner: ast.expr, method: str, call: ast.Call) -> Reward:
        reward = self.value(inner)
        if not isinstance(reward, Reward):
            raise self._error(f"{method} is for rewards, not for numbers")
        try:
            return getattr(reward, method)(*self._arguments(call), **self._keywords(call))  # type: ignore[no-any-return]
        except TypeError as error:
            raise self._error(str(error)) from error

    def _arguments(self, call: ast.Call) -> list[Any]:
        return [self._constant(one) for one in call.args]

    def _keywords(self, call: ast.Call) -> dict[str, Any]:
        return {str(one.arg): self._constant(one.value) for one in call.keywords}

    def _constant(self, node: ast.expr) -> Any:
        try:
            value = ast.literal_eval(node)
            return self._names.get(value, value) if isinstance(value, str) else value
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise self._error(f"{ast.unparse(node)!r}: expected a number or text as a parameter") from error

    def _error(self, reason: str) -> OptionError:
        return OptionError(f"reward={self._text!r}: {reason}; expected for example {FORMS}")
