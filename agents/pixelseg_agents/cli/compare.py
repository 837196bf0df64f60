"""`pixelseg compare`: runs side by side, their scores in a table and their learning curves in a picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import Switch, parse
from pixelseg_agents.cli.runs import open_run
from pixelseg_agents.evaluation import EvaluationResult, table
from pixelseg_agents.evaluation.figures import compared_curves
from pixelseg_agents.evaluation.report import REPORT
from pixelseg_env import DataError, OptionError

COMPARE = """\
Sets runs side by side: the scores of their evaluations in a table, and their learning curves in a picture.

Examples:
  pixelseg compare runs/pa3c runs/dqn
  pixelseg compare runs/* --by-patient -o comparison.png
"""


@dataclass(frozen=True)
class CompareArguments:
    """Arguments of `pixelseg compare`."""

    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN RUN [RUN ...]", help_behavior_hint="(required)")]]
    """Folders of runs, each with an evaluation."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="FILE", help_behavior_hint="(default: no picture)")] = None
    """The picture of the learning curves; its ending chooses the format."""
    by_patient: Switch = False
    """Means over patients instead of images."""
    overwrite: Switch = False
    """Replace a picture that exists."""


def main(words: list[str]) -> int:
    """Prints the table and draws the curves; returns the exit code."""
    arguments: CompareArguments = parse(CompareArguments, words, "compare", COMPARE)
    if len(arguments.runs) < 2:
        raise OptionError("compare: expected two or more runs")
    if arguments.out is not None and arguments.out.exists() and not arguments.overwrite:
        raise DataError(f"{arguments.out}: exists; choose another -o, or add --overwrite")
    names = _names(arguments.runs)
    results = {}
    for name, folder in zip(names, arguments.runs, strict=True):
        open_run(folder)  # is it one?
        if not (folder / REPORT).exists():
            raise DataError(f"{folder}: has no {REPORT}, its training has not ended; train on with --resume {folder}")
        results[name] = EvaluationResult.load(folder / REPORT)
    first = next(iter(results.values()))
    others = [n for n, r in results.items() if (r.cases, r.slices.tolist()) != (first.cases, first.slices.tolist())]
    if others:
        print(
            f"pixelseg: warning: not judged on the same images as {names[0]}: {', '.join(others)}; their scores cannot "
            "be compared",
            file=sys.stderr,
        )
    mixed = len({result.place for result in results.values()}) > 1
    if mixed:
        print(
            "pixelseg: warning: not all were judged at the same size (last column); their scores cannot be compared: "
            "pixelseg evaluate judges a run anew",
            file=sys.stderr,
        )
    place = "" if mixed else f", judged at {first.place}"
    print(f"{len(first)} images of {len(set(first.cases))} patients, mean ± sd (HD95 in pixels){place}:\n")
    print(table(results, by_patient=arguments.by_patient))
    if arguments.out is not None:
        compared_curves({name: folder / "progress.csv" for name, folder in zip(names, arguments.runs, strict=True)},
                        arguments.out)  # fmt: skip
        print(f"\nLearning curves: {arguments.out}")
    return 0


def _names(folders: tuple[Path, ...]) -> list[str]:
    """Short names of folders that tell them apart: the last part, or more where two are alike."""
    whole = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    raise OptionError("compare: the same run is given twice")
