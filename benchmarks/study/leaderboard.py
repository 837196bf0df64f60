"""The leaderboard: agents ranked by the Dice of test images, a table for each data set and protocol, from the records.

    python -m benchmarks.study.leaderboard

writes `benchmarks/LEADERBOARD.md`. What using an agent costs is counted once, and kept in `report/gflop.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.failures import exit_code
from benchmarks.grid.cells import EARLIER
from benchmarks.grid.statistics import crossed_difference
from benchmarks.records import read_records
from benchmarks.study import STUDY
from benchmarks.study.operations import count_looks
from benchmarks.study.reading import facts_of, mean, patient_scores
from pixelseg_agents.files import write_atomically
from pixelseg_env import DataError

HERE = Path(__file__).parents[1]
PAGE, COSTS = HERE / "LEADERBOARD.md", HERE / "report/gflop.json"
# Folders of records, and the settings in them that take part: no few images, no folds, no single changes.
TAKE_PART = {
    "looking": (
        *("closer", "closer-90", "closer-careful-2", "closer-careful-2-heavier", "closer-90-careful-2-heavier"),
        *("closer-thrice-careful", "no-window", "no-window-careful-2-heavier", "closer-by-labels"),
        *("once", "once-90", "once-128", "once-181-bf16", "once-256-bf16"),
        *(
            f"closer-{name}-bf16"
            for name in ("64-careful-2-heavier", "64-careful-2-heavier-wide", "128-careful-2-heavier")
        ),
        *("once-90-wide-bf16", "once-90-wide", "closer-careful-2-heavier-wide"),
        *("closer-90-careful-2-heavier-wide-bf16", "once-128-wide-bf16"),
        *("closer-128-careful-2-heavier-wide-bf16", "once-181-wide-bf16"),
        *("closer-90-careful-2-heavier-full-bf16", "once-128-full-bf16"),
    ),
    "systems": ("default",),
    "grid": ("default",),
}
SHARED = ("size", "judge_at", "passes", "batch", "split_seed")  # of a protocol; the number of steps is the agent's own

HEAD = """\
# Leaderboard

Agents ranked by the mean Dice of test images, a table for each data set and protocol. Scores of different tables cannot
be compared: images, sizes and budgets differ. Made from [the records](records) by
`python -m benchmarks.study.leaderboard`; a test holds this page to them.

- **rank** counts agents that learn from rewards. References, and networks that are trained with supervision, stand
  where their Dice puts them, without one.
- **by patient**: the mean over patients, each the mean of its images and seeds, and its **95 %** interval by the
  bootstrap over patients and seeds; with one seed over patients alone, and none with fewer than six patients. Where
  intervals overlap widely, a rank is worth little.
- **Native**: whatever size an agent decided at, its maps were judged on the pixels of the files.
- **HD95** is in pixels of the masks that were judged, **params** are millions of parameters, and **GFLOP** is what
  segmenting one image costs, all steps together.

## Submit a record

Run your agent with three seeds or more on a table's data and protocol, and open a pull request with the records:
[how](../docs/benchmark.md#submit-a-record). Its row appears when this page is made anew.
"""


class Row(NamedTuple):
    """An agent under a setting: its records, one a seed."""

    agent: str
    setting: str
    records: list[dict[str, Any]]


def boards(folder: Path) -> dict[str, list[Row]]:
    """The rows of each table, best first, by the table's heading.

    Raises:
        DataError: no record takes part.
    """
    found: dict[tuple[Any, ...], dict[tuple[str, str], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for name, settings in TAKE_PART.items():
        for record in read_records(folder / name) if (folder / name).exists() else ():
            cell = record.get("cell", {})
            if cell.get("setting") in settings and cell["fold"] is None and "test" in record:
                protocol = EARLIER | cell["protocol"]
                key = (cell["dataset"], tuple(cell["data"]), *(protocol[one] for one in SHARED))
                found[key][cell["agent"], cell["setting"]].append(record | {"folder": name})
    if not found:
        raise DataError(f"{folder}: no record takes part; expected a folder that holds some of {', '.join(TAKE_PART)}")
    return {
        _heading(*key): sorted((Row(*who, of) for who, of in rows.items()), key=lambda row: -mean(row.records, "DICE"))
        for key, rows in sorted(found.items(), key=lambda item: (item[0][0], -item[0][2], item[0][1:]))
    }


def _heading(dataset: str, data: Sequence[str], size: int, judge_at: str, passes: int, *_: int) -> str:
    where = "native" if judge_at == "native" else f"judged at {size}x{size}"
    folders = f"{len(data)} folder{'s' if len(data) != 1 else ''}"
    return f"{dataset}, {folders}: {size}x{size}, {where}, {passes:,} passes"


def costs(found: Mapping[str, list[Row]], known: Mapping[str, float]) -> dict[str, float]:
    """GFLOP of segmenting one image, by the name of a row's first record; counted where it is not known.

    Only of agents of the study: others cannot be built from a record.
    """
    rows = [row for table in found.values() for row in table]
    ours = [row for row in rows if STUDY.has(row.agent) or row.agent.startswith("benchmarks.study.")]
    firsts = [row.records[0] for row in ours if "config" in row.records[0]]
    return {_name(one): known.get(_name(one)) or round(sum(count_looks(one, "test")), 4) for one in firsts}


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['folder']}/{record['name']}"


def page(found: Mapping[str, list[Row]], gflop: Mapping[str, float]) -> str:
    """The page, in Markdown."""
    parts = [HEAD]
    for heading, rows in found.items():
        columns = (
            "rank",
            "agent",
            "Dice ↑",
            "by patient",
            "95 %",
            "BIoU ↑",
            "HD95 ↓",
            "params",
            "GFLOP",
            "seeds",
            "record",
        )
        lines = [f"| {' | '.join(columns)} |", f"| ---: | --- |{' ---: |' * (len(columns) - 3)} --- |"]
        ranks = iter(range(1, len(rows) + 1))
        lines += [
            _line(row, gflop, str(next(ranks)) if facts_of(row.agent, row.records[0]).competes else "") for row in rows
        ]
        test = rows[0].records[0]["test"]["summary"]
        folders = ", ".join(f"`{name}`" for name in rows[0].records[0]["cell"]["data"])
        counts = f"{test['images']} test images of {test['patients']} patients; data: {folders or 'generated'}."
        parts.append(f"\n## {heading[0].upper()}{heading[1:]}\n\n{counts}\n\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def _line(row: Row, gflop: Mapping[str, float], rank: str) -> str:
    records = sorted(row.records, key=lambda record: record["cell"]["seed"])
    first, facts = records[0], facts_of(row.agent, records[0])
    kind = "reference" if facts.reference else "supervised" if facts.supervised else ""
    setting = "" if row.setting == "default" else f"`{row.setting}`"
    name = ", ".join(filter(None, (facts.label, setting, kind if kind not in facts.label else "")))
    scores = patient_scores(records)
    middle, low, high = crossed_difference(scores, np.zeros_like(scores))
    parameters = first.get("parameters", 0) + first.get("coarse", {}).get("parameters", 0)
    cost = gflop.get(_name(first))
    path = f"records/{first['folder']}/{first['name']}.json"
    cells = (
        rank,
        name,
        f"{mean(records, 'DICE'):.3f}",
        f"{middle:.3f}",
        "" if np.isnan(low) else f"{low:.3f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:.3f}",  # too few patients
        f"{mean(records, 'BIoU'):.3f}",
        f"{mean(records, 'HD95'):.1f}",
        f"{parameters / 1e6:.2f}" if parameters else "",
        "" if cost is None else f"{cost:.2f}",
        str(len(records)),
        f"[`{first['commit'][:7]}`]({path})",
    )
    return f"| {' | '.join(cells)} |"


def known_costs() -> dict[str, float]:
    """Those that were counted before."""
    return dict(json.loads(COSTS.read_text())) if COSTS.exists() else {}


def main(words: Iterable[str] | None = None) -> int:
    """Writes page and costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "records", help="of the folders of records")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    options = parser.parse_args(None if words is None else list(words))
    found = boards(options.folder)
    gflop = costs(found, known_costs())
    if options.folder == HERE / "records":
        write_atomically(COSTS, json.dumps(dict(sorted(gflop.items())), indent=1) + "\n")
    write_atomically(options.out, page(found, gflop))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
