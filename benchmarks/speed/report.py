"""Turns the records of `benchmarks.speed.environment` into Markdown tables.

python -m benchmarks.speed.report benchmarks/records/speed
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.records import read_records

NAMES = {
    "numpy": "PixelSegVectorEnv, NumPy",
    "torch": "PixelSegVectorEnv, torch",
    "sync": "SyncVectorEnv of single environments",
    "async": "AsyncVectorEnv of single environments",
    "pettingzoo": "PettingZoo view, one image",
    "sb3": "Stable-Baselines3 view",
}
Record = dict[str, Any]


def markdown(rows: list[list[str]]) -> str:
    """A table; the first row is the header, columns after the first are right-aligned."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def copies(record: Record) -> str:
    """A step beside a plain copy of its bytes."""
    header = ["backend", "batch", "step, ms", "copy, ms", "median of ratios", "page faults a step"]
    rows = []
    for row in record["copy"]:
        if "failed" not in row:
            name = f"{row['backend']}, {row['device']}"
            name += f" (`{row['environment_variable']}`)" if "environment_variable" in row else ""
            shape = "x".join(map(str, row["shape"]))
            times = [f"{row[key]:.2f}" for key in ("step_ms", "copy_ms", "ratio")]
            rows.append([name, shape, *times, f"{row['page_faults_per_step']:.0f}"])
    return markdown([header, *rows])


def parts(record: Record) -> str:
    """What a step is made of, each part by itself."""
    done = [row for row in record["copy"] if "failed" not in row and "environment_variable" not in row]
    header = ["part, ms", *(f"{row['backend']}, {row['device']}" for row in done)]
    names = done[0]["parts_ms"]
    return markdown([header, *([name, *(f"{row['parts_ms'][name]:.3f}" for row in done)] for name in names)])


def stacks(record: Record) -> str:
    """Pixel-agent steps per second of every stack and size."""
    header = ["environment", "size", "images", "alone", "with inference", "with training", "peak MiB"]
    rows = []
    for row in record["stacks"]:
        if "failed" not in row:
            images = "1" if row["stack"] == "pettingzoo" else str(row["images"])
            rates = [_millions(row.get(key)) for key in ("environment", "with_inference", "with_training")]
            name = NAMES[row["stack"]] + ("" if row["device"] == "cpu" else f" ({row['device']})")
            rows.append([name, str(row["size"]), images, *rates, f"{row['peak_mib']:.0f}"])
    return markdown([header, *rows])


def shares(record: Record) -> list[str]:
    """A sentence per measurement of PA3C's time in `env.step`."""
    return [
        f"{row['device']}, {row['images']} images of {row['size']}x{row['size']}, t_max {row['t_max']}, width 1: "
        f"{100 * row['share']:.2f} % of PA3C's training time is spent in `env.step`."
        for row in record["share"]
        if "failed" not in row
    ]


def failures(record: Record) -> list[str]:
    """What could not be measured."""
    return [row["failed"] for kind in ("copy", "stacks", "share") for row in record[kind] if "failed" in row]


def _millions(rate: float | None) -> str:
    return "" if rate is None else f"{rate / 1e6:,.3g} M"


def main(folder: Annotated[Path, tyro.conf.Positional] = Path("benchmarks/records/speed")) -> None:
    """Prints the tables of all records in a folder; what was measured in several runs has a row for each."""
    records = [record for record in read_records(folder) if "stacks" in record]
    whole = {kind: [row for record in records for row in record[kind]] for kind in ("copy", "stacks", "share")}
    texts = [copies(whole), parts(records[0]), stacks(whole), *shares(whole), *failures(whole)]
    print("\n\n".join(texts), "\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
