"""The rewards that a visitor of the lab may ask for: arithmetic of names that whoever started the lab has allowed.

`PixelSegEnv` reads `module:name`, and so imports modules. What a visitor types must not: it is taken apart here, and
nothing passes but names from a list, numbers, + - * / and what rewards can do, `clip` and `scale`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence

from pixelseg_env import OptionError, did_you_mean, is_plugin, registered_rewards
from pixelseg_env.rewards import resolve_reward

_TERM = re.compile(r"(^-?|\s*[+-] )(?:([\d.]+)\*)?([^\W\d][\w.:]*)(?:\(([\d.]+)\))?")
LONGEST_TEXT = 200  # characters
LARGEST_NUMBER = 1000.0
DEEPEST = 20
METHODS = ("clip", "scale")
CALLED = ("balanced", "boundary_weighted", "keep_bonus")  # the families: names that take a number
GAINS_ONLY = "(squared_error).clip(0, None)"

WORDS = {  # in the order in which they are offered; short, for a narrow menu
    "squared_error": "squared error (Eq. 12)",
    "sign": "sign of the change",
    "balanced": "object pixels weigh more",
    "boundary": "near the boundary only",
    "boundary_weighted": "more, nearer the boundary",
    "cross_entropy": "cross-entropy gain",
    "dice_gain": "Dice gain, shared by all",
    "difference": "each pixel's part of Dice",
    "intensity_error": "intensity error",
    "plus_minus_one": "+1 right, -1 wrong",
    "shaping": "shaping by Dice (harmless)",
    "sparse": "all at the last step",
    "gain_only": "gains only (hackable)",
    "hits_only": "hits only (hackable)",
    "keep_bonus": "keeping pays (hackable)",
}


def offered(own: Sequence[str] = ()) -> tuple[str, ...]:
    """The names that a visitor may use: those registered, and `own`.

    Args:
        own: `module:name` of the host's, which are imported and tried.

    Raises:
        OptionError: one of them cannot be used.
    """
    for name in own:
        if not is_plugin(name):
            raise OptionError(f"--reward {name}: expected module:name; registered ones are offered anyway")
        resolve_reward(name)
    known = [*WORDS, *registered_rewards()]
    return (*sorted(registered_rewards(), key=known.index), *own)


def checked(text: str, allowed: Sequence[str]) -> str:
    """A visitor's expression, if it may be handed to the environment.

    Args:
        text: such as `"0.7*squared_error + 0.3*dice_gain"`.
        allowed: see `offered`.

    Raises:
        OptionError: it is too long, cannot be read, or holds more than allowed names and arithmetic.
    """
    text = text.strip()
    if not text or len(text) > LONGEST_TEXT:
        raise OptionError(f"reward: expected an expression of 1 to {LONGEST_TEXT} characters, got {len(text)}")
    named, python = {}, text
    for number, name in enumerate(sorted((one for one in allowed if is_plugin(one)), key=len, reverse=True)):
        named[f"_{number}_"] = name
        python = python.replace(name, f"_{number}_")
    if ":" in python:
        raise OptionError(
            f"reward={text!r}: modules are for whoever starts the lab alone (pixelseg lab --reward module:name); "
            f"expected one of {', '.join(allowed)}, and arithmetic with them"
        )
    try:
        tree = ast.parse(python, mode="eval").body
        _check(tree, {name for name in allowed if not is_plugin(name)} | set(named))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"reward={text!r} cannot be read; expected such as 0.7*squared_error + 0.3*sign") from error
    resolve_reward(text)
    return text


def _check(node: ast.expr, allowed: set[str], depth: int = 0) -> None:
    """Raises OptionError where a part of an expression is not arithmetic of allowed names."""
    if depth > DEEPEST:
        raise OptionError("reward: the expression is nested too deeply; expected a few sums and products")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if not (math.isfinite(number) and abs(number) <= LARGEST_NUMBER):
                raise OptionError(f"reward: expected numbers of at most {LARGEST_NUMBER:g}, got {number:.3g}")
        case ast.Name(id=name):
            if name not in allowed:
                raise OptionError(
                    f"reward: {name!r} is not known; expected one of {', '.join(sorted(allowed))}."
                    f"{did_you_mean(name, allowed)}"
                )
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check(operand, allowed, depth + 1)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            _check(left, allowed, depth + 1)
            _check(right, allowed, depth + 1)
        case ast.Call(func=ast.Attribute(value=inner, attr=method), args=args, keywords=[]) if method in METHODS:
            _check(inner, allowed, depth + 1)
            _check_numbers(args)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in CALLED and name in allowed:
            _check_numbers(args)
        case _:
            raise OptionError(
                f"reward: {ast.unparse(node)!r} is not allowed; expected names, numbers, + - * /, .clip(low, high) "
                "and .scale(number)"
            )


def _check_numbers(arguments: Sequence[ast.expr]) -> None:
    for one in arguments:
        if not (isinstance(one, ast.Constant) and one.value is None):
            number = one.operand if isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.USub) else one
            if not isinstance(number, ast.Constant):
                raise OptionError(f"reward: {ast.unparse(one)!r}: expected a number in the brackets")
            _check(one, set())


def written(terms: Sequence[tuple[str | None, float]], object_weight: float = 10.0, gains_only: bool = False) -> str:
    """The expression that sliders stand for.

    Args:
        terms: names with their weights; None, or a weight of 0, leaves one out.
        object_weight: the factor of `balanced`.
        gains_only: whether losses are not counted, max(reward, 0).

    Raises:
        OptionError: nothing is left.
    """
    parts: list[str] = []
    for name, weight in terms:
        if not name or weight == 0:
            continue
        name = f"balanced({object_weight:g})" if name == "balanced" else name
        size = name if abs(weight) == 1 else f"{abs(weight):g}*{name}"
        sign = "-" if weight < 0 else "+" if parts else ""
        parts.append(f" {sign} {size}" if parts else f"{sign}{size}")
    if not parts:
        raise OptionError("reward: every weight is 0; expected at least one that is not")
    text = "".join(parts)
    return f"({text}).clip(0, None)" if gains_only else text


def as_sliders(text: str) -> tuple[list[tuple[str, float]], float, bool] | None:
    """What `written` was given for an expression: terms, the factor of `balanced`, and whether gains alone count.

    Args:
        text: an expression that may be used, see `checked`.

    Returns:
        None where sliders could not have written it.
    """
    weight, terms = 10.0, []
    gains_only = text.startswith("(") and text.endswith(").clip(0, None)")
    inner = text[1 : -len(").clip(0, None)")] if gains_only else text
    for sign, size, name, factor in _TERM.findall(inner):
        if factor:
            weight = float(factor)
        terms.append((name, float(size or 1) * (-1 if "-" in sign else 1)))
    try:
        same = written(terms, weight, gains_only) == text
    except OptionError:
        return None
    return (terms, weight, gains_only) if same else None
