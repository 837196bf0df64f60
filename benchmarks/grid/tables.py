"""Tables of numbers that know which is best, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        name: its heading.
        digits: decimals.
        better: 1 if more is better, -1 if less is, 0 if neither: best in bold, second underlined.
    """

    name: str
    digits: int = 3
    better: int = 1


@dataclass
class Table:
    """Rows of a name and numbers; a number may have a spread, and may be missing.

    Attributes:
        title: what it shows.
        columns: its columns.
        rows: name to values; a value is a number, (mean, standard deviation), or None.
        apart: names of rows that do not compete, such as references and published figures.
        groups: name of a row to that of its group, where rows compete within theirs alone.
        note: what a reader has to know.
    """

    title: str
    columns: list[Column]
    rows: dict[str, list[float | tuple[float, float] | None]] = field(default_factory=dict)
    apart: set[str] = field(default_factory=set)
    groups: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def ranks(self) -> dict[tuple[str, int], int]:
        """(row, column) to 1 for the best and 2 for the second best of the rows that compete, as they are printed."""
        found: dict[tuple[str, int], int] = {}
        for number, column in enumerate(self.columns):
            for group in dict.fromkeys(map(self.groups.get, self.rows)):
                values = {
                    name: round(_mean(row[number]) * column.better, column.digits)
                    for name, row in self.rows.items()
                    if self.groups.get(name) == group and name not in self.apart and np.isfinite(_mean(row[number]))
                }
                if not column.better or len(values) < 2:
                    continue
                order = sorted(set(values.values()), reverse=True)
                best = {name: value for name, value in values.items() if value in order[:2]}
                found |= {(name, number): order.index(value) + 1 for name, value in best.items()}
        return found

    def cell(self, row: str, number: int, plus_minus: str = " ± ") -> str:
        """A value as text."""
        value, digits = self.rows[row][number], self.columns[number].digits
        if value is None or not np.isfinite(_mean(value)):
            return ""
        if isinstance(value, tuple):
            return f"{value[0]:,.{digits}f}{plus_minus}{value[1]:,.{digits}f}"
        return f"{round(value, digits) + 0.0:,.{digits}f}"  # no -0.000

    def markdown(self) -> str:
        """The table for a README: best in bold, second underlined."""
        ranks, marks = self.ranks(), {1: ("**", "**"), 2: ("<u>", "</u>")}
        arrows = {1: " ↑", -1: " ↓", 0: ""}
        lines = [["", *(column.name + arrows[column.better] for column in self.columns)]]
        lines.append(["---", *["---:"] * len(self.columns)])
        for name in self.rows:
            cells = [self.cell(name, number) for number in range(len(self.columns))]
            marked = [marks.get(ranks.get((name, i), 0), ("", "")) for i in range(len(cells))]
            lines.append([name, *(before + cell + after for cell, (before, after) in zip(cells, marked, strict=True))])
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"**{self.title}**\n\n{text}\n" + (f"\n{self.note}\n" if self.note else "")

    def csv(self) -> str:
        """The table for a spreadsheet; spreads have columns of their own."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        spreads = [any(isinstance(row[i], tuple) for row in self.rows.values()) for i in range(len(self.columns))]
        heading = ["row"]
        for column, spread in zip(self.columns, spreads, strict=True):
            heading += [column.name, f"{column.name} SD"] if spread else [column.name]
        writer.writerow(heading)
        for name, row in self.rows.items():
            line: list[str] = [name]
            for value, spread in zip(row, spreads, strict=True):
                line.append("" if value is None else repr(_mean(value)))
                if spread:
                    line.append(repr(value[1]) if isinstance(value, tuple) else "")
            writer.writerow(line)
        return out.getvalue()

    def latex(self) -> str:
        """The table for a paper (booktabs)."""
        ranks, marks = self.ranks(), {1: "\\textbf{%s}", 2: "\\underline{%s}"}
        arrows = {1: " $\\uparrow$", -1: " $\\downarrow$", 0: ""}
        heading = " & ".join(["", *(_escaped(column.name) + arrows[column.better] for column in self.columns)])
        lines = []
        for name in self.rows:
            cells = [self.cell(name, number, " $\\pm$ ") for number in range(len(self.columns))]
            cells = [marks.get(ranks.get((name, i), 0), "%s") % cell if cell else "" for i, cell in enumerate(cells)]
            lines.append(" & ".join([_escaped(name), *cells]) + " \\\\")
        body = "\n".join(lines)
        note = f"\n\\par\\footnotesize {_escaped(self.note)}" if self.note else ""
        return (
            f"\\begin{{table}}\n\\caption{{{_escaped(self.title)}}}\n"
            f"\\begin{{tabular}}{{l{'r' * len(self.columns)}}}\n"
            f"\\toprule\n{heading} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}{note}\n\\end{{table}}\n"
        )


def _mean(value: float | tuple[float, float] | None) -> float:
    if value is None:
        return float("nan")
    return float(value[0] if isinstance(value, tuple) else value)


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\textbackslash ")
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    for character, name in (("~", "\\textasciitilde{}"), ("^", "\\textasciicircum{}"), ("±", "$\\pm$")):
        text = text.replace(character, name)
    return re.sub(r"\*([^*]+)\*", r"\\emph{\1}", text)
