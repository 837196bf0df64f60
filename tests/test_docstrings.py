"""The docstrings of all public names say what their signatures and bodies do.

Ruff holds the section `Args` to the signature, whoever has one (D417, DOC102). Here public functions and methods are
asked for their sections. The short form stays: a docstring without sections, whose first line says what comes back.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import pixelseg_agents
import pixelseg_env

ELSEWHERE = re.compile(r"[Aa]s (for )?`|see `|see the class|those of `")  # arguments are told there
PACKAGES = (pixelseg_env, pixelseg_agents, *(getattr(pixelseg_env, name) for name in pixelseg_env._MODULES))


def public(packages: tuple[ModuleType, ...]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and methods that can be reached by public names, each once."""
    found: set[Any] = set()
    for package in packages:
        for name in package.__all__:
            thing = getattr(package, name)
            methods = vars(thing).items() if inspect.isclass(thing) else [("", thing)]
            for method, value in methods:
                function = getattr(value, "__func__", value)
                ours = inspect.isfunction(function) and function.__module__.startswith("pixelseg")
                if ours and not method.startswith("_") and function not in found:
                    found.add(function)
                    yield ".".join(filter(None, (package.__name__, name, method))), function


def faults(function: Callable[..., Any]) -> list[str]:
    """What is missing in a docstring, in words."""
    text = function.__doc__ or ""
    if not text:
        return ["it has none"]
    signature = inspect.signature(function)
    parameters = [name for name in signature.parameters if name not in ("self", "cls")]
    missing = []
    if "\n" in text.strip() and len(parameters) > 1 and "Args:" not in text and not ELSEWHERE.search(text):
        missing.append(f"Args of {', '.join(parameters)}")
    nothing = signature.return_annotation in (None, "None", inspect.Signature.empty)
    if "Args:" in text and not nothing and "Returns:" not in text:
        missing.append("Returns")
    return missing + [f"Raises {name}" for name in sorted(raised(function)) if name not in text]


def raised(function: Callable[..., Any]) -> set[str]:
    """The names of the errors that a function makes and raises itself, in its own body."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    made = [node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    names = {ast.unparse(one).rpartition(".")[2] for one in made}
    return {name for name in names if name[0].isupper()} - {"NotImplementedError"}


@pytest.mark.parametrize(("name", "function"), [pytest.param(*one, id=one[0]) for one in public(PACKAGES)])
def test_a_public_docstring_has_its_sections(name: str, function: Callable[..., Any]) -> None:
    assert faults(function) == [], f"{name}: its docstring lacks"


def test_what_is_missing_is_found() -> None:
    def bare(a: int, b: int) -> int:
        return a + b

    def half(a: int, b: int) -> int:
        """Adds.

        Args:
            a: one.
            b: another.
        """
        if a < 0:
            raise ValueError("negative")
        return a + b

    def listed(a: int, b: int) -> None:
        """Prints.

        Raises:
            OSError: it cannot.
        """
        print(a, b)

    assert faults(bare) == ["it has none"]
    assert faults(half) == ["Returns", "Raises ValueError"]
    assert faults(listed) == ["Args of a, b"]
