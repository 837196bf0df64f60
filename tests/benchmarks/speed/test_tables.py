"""The tables of training's speed in RESULTS.md say what their records say."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import read_record

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RESULTS = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
NAMES = {"PA3C, width 1": "PA3C, width 1 (7.1 M parameters)"}  # where it stands first
NETWORKS = {"U-Net": "U-Net (AC)"}


def updates(record: dict[str, Any]) -> Iterator[str]:
    for row in record["updates"]:
        shape = f"{row['batch']}x{row['size']}x{row['size']} | {row['width']:g}"
        yield f"| {row['t_max']} | {shape} | {row['passes_ms']:.0f} | {row['update_ms']:.0f} | {row['ratio']:.2f} |"


def recompute(record: dict[str, Any]) -> Iterator[str]:
    for row in record["recompute"]:
        ratio = f"{row['of_without']:.2f}" if row["recompute"] else "1"
        told = f"{row['peak_mib']:.0f} | {row['seconds_per_update']:.2f} | {ratio}"
        yield f"| {row['t_max']} | {'yes' if row['recompute'] else 'no'} | {told} |"


def port(record: dict[str, Any]) -> Iterator[str]:
    for row in record["rows"]:
        name, shown = row["learner"], f"{row['times_the_port']:.2f}" if row["times_the_port"] != 1 else "1"
        if name.endswith("bf16") and name not in ("PA3C, the ports' network, bf16", "PA3C, width 1, bf16"):
            continue
        name = name.replace("PA3C, the ports' network", "PA3C on the ports' network")
        name = NAMES.get(name, name) if row["size"] == 64 else name
        rates = f"{round(row['steps_per_cpu_second'], -2):,.0f} | {row['gflop_per_cpu_second']:.0f}"
        yield f"| {name} | {row['size']} | {row['gflop_per_update']:.0f} | {rates} | {shown} |"


def scores(record: dict[str, Any]) -> Iterator[str]:
    for network, modes in record["mean_and_sd"].items():
        for mode, found in modes.items():
            seeds = [one["dice"] for one in record["rows"] if (one["network"], one["mode"]) == (network, mode)]
            told = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in (found["dice"], found["biou"])]
            by_seed = ", ".join(f"{one:.3f}" for one in seeds)
            yield f"| {NETWORKS.get(network, network)} | {mode} | {by_seed} | {told[0]} | {told[1]} |"


def workers(record: dict[str, Any]) -> Iterator[str]:
    for count, name in ((0, "0 (synchronous)"), (1, "1"), (2, "2")):
        rows = [row for row in record["rows"] if row["workers"] == count]
        rate, seconds = (statistics.median(row[key] for row in rows) for key in ("updates_per_second", "seconds"))
        dice = ", ".join(f"{row['dice']:.3f}" for row in rows)
        yield f"| {name} | {rate:.1f} | {dice} | {seconds:.0f} |"


def inference(record: dict[str, Any]) -> Iterator[str]:
    for row in record["passes"]:
        times = f"{row['passes_ms']:.0f} | {row['segment_ms']:.0f} | {row['ratio']:.2f}"
        yield f"| {row['width']:g} | {times} | {row['own_ms']:.0f} | {100 * row['own_share']:.1f} % |"


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (updates, "updates-cpu"),
        (recompute, "updates-cpu"),
        (port, "port"),
        (scores, "scores"),
        (workers, "asynchronous"),
        (inference, "inference"),
    ],
)
def test_a_table_has_the_rows_of_its_record(rows: Any, name: str) -> None:
    record = read_record(BENCHMARKS / f"records/speed/{name}.json")
    found = list(rows(record))
    missing = [row for row in found if row not in RESULTS]
    assert found
    assert not missing, f"records/speed/{name}.json has other figures"


def test_what_the_records_say_of_the_bars() -> None:
    """RESULTS.md names each; a record that misses one must not replace that which keeps it unnoticed."""
    speed = BENCHMARKS / "records/speed"
    measured = read_record(speed / "updates-cpu.json")
    assert all(row["ratio"] <= 1.10 for row in measured["updates"])
    peak = {(row["t_max"], row["recompute"]): row["peak_mib"] for row in measured["recompute"]}
    assert peak[10, True] <= 1.3 * peak[1, True]
    assert all(row["of_without"] <= 1.45 for row in measured["recompute"])
    assert read_record(speed / "asynchronous.json")["updates_per_second_2_over_1"] >= 1.7
    assert all(row["ratio"] <= 1.05 for row in read_record(speed / "inference.json")["passes"])
