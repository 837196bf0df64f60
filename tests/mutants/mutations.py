"""The mutants of a source file, made by cosmic-ray's operators.

Not every mutation that cosmic-ray knows is worth a run. It replaces an operator by each of some ten others, most of
which raise at once (`>>` of tensors) and would flatter the share that is killed: here each has the two that are hardest
to tell apart. Left out too are annotations and the values in f-strings: a typing tool judges the former, and the latter
are texts, of errors above all, not what the code computes. Strings and docstrings cosmic-ray does not mutate.
"""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Of each operator the likeliest slips.
BINARY = {
    "Add": ("Sub", "Mul"),
    "Sub": ("Add", "Div"),
    "Mul": ("Div", "Add"),
    "Div": ("Mul", "FloorDiv"),
    "FloorDiv": ("Div", "Mul"),
    "Mod": ("FloorDiv", "Mul"),
    "Pow": ("Mul", "Add"),
    "BitAnd": ("BitOr", "BitXor"),
    "BitOr": ("BitAnd", "BitXor"),
    "BitXor": ("BitAnd", "BitOr"),
    "LShift": ("RShift",),
    "RShift": ("LShift",),
}
COMPARISON = {
    "Eq": ("NotEq", "GtE"),
    "NotEq": ("Eq", "Lt"),
    "Lt": ("LtE", "Gt"),
    "LtE": ("Lt", "GtE"),
    "Gt": ("GtE", "Lt"),
    "GtE": ("Gt", "LtE"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
UNARY = ("UAdd_USub", "USub_UAdd", "Delete_USub", "Delete_Not", "Delete_Invert")
OTHERS = (
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)
OPERATORS = (
    *(f"ReplaceBinaryOperator_{one}_{other}" for one, others in BINARY.items() for other in others),
    *(f"ReplaceComparisonOperator_{one}_{other}" for one, others in COMPARISON.items() for other in others),
    *(f"ReplaceUnaryOperator_{name}" for name in UNARY),
    *OTHERS,
)

Place = tuple[int, int]  # line from 1, column from 0


@dataclass(frozen=True)
class Mutant:
    """One file with one mutation.

    Attributes:
        path: of the file, below the repository.
        line: where the mutation is.
        function: qualified name of the outermost function around it, "" where there is none.
        operator: cosmic-ray's.
        before: the line as it is.
        after: and as it became.
        source: the whole file.
    """

    path: str
    line: int
    function: str
    operator: str
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator}\n    - {self.before}\n    + {self.after}"


def mutants(path: str, root: Path, functions: Sequence[str] = (), share: float = 1.0, seed: int = 0) -> list[Mutant]:
    """The mutants of a file that parse and differ from it, by line.

    Args:
        path: of the file, below `root`.
        root: of the repository.
        functions: the qualified names of those that are mutated; none: all of the file.
        share: how many of the mutants, drawn.
        seed: of the draw.
    """
    from cosmic_ray.ast import ast_nodes, get_ast  # the extra `mutants`
    from cosmic_ray.mutating import MutationVisitor
    from cosmic_ray.operators.provider import OperatorProvider

    source = (root / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    same, ignored, known = ast.dump(tree), list(_ignored(tree)), OperatorProvider()
    around, nodes = list(_functions(tree, "")), list(ast_nodes(get_ast(source)))
    places = []
    for name in OPERATORS:
        found = ((node, start) for node in nodes for start, _ in known[name]().mutation_positions(node))
        for occurrence, (node, start) in enumerate(found):
            bare_star = getattr(node.parent, "type", "") == "parameters"  # before names that must be given: no product
            function = next((of for first, last, of in around if first <= start[0] <= last), "")
            if not (bare_star or any(first <= start < last for first, last in ignored)):
                places.append((start[0], function, name, occurrence))
    places = [place for place in places if not functions or place[1] in functions]
    result = []
    for line, function, name, occurrence in sorted(random.Random(seed).sample(places, round(share * len(places)))):
        text = MutationVisitor.mutate_code(source, known[name](), occurrence)
        if text is not None and _parsed(text) not in (None, same):
            result.append(Mutant(path, line, function, name, *_difference(source, text), text))
    return result


def _parsed(source: str) -> str | None:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return None


def _difference(source: str, text: str) -> tuple[str, str]:
    pairs = itertools.zip_longest(source.splitlines(), text.splitlines(), fillvalue="")
    return next((one.strip(), other.strip()) for one, other in pairs if one != other)


def _ignored(tree: ast.AST) -> Iterator[tuple[Place, Place]]:
    """Where annotations and texts are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield _span(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield _span(node.returns)
        if isinstance(node, ast.JoinedStr):
            yield _span(node)


def _span(node: ast.expr) -> tuple[Place, Place]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _functions(tree: ast.AST, inside: str) -> Iterator[tuple[int, int, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{inside}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield first, node.end_lineno, inside + node.name
