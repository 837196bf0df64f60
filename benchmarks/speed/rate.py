"""How near PA3C's training comes to what the device can multiply: floating-point operations a second, by mode.

    python -m benchmarks.speed.rate --device cuda --out benchmarks/records/speed/rate-cuda.json

measures products of square matrices in bfloat16 and float32, and updates of PA3C in each mode of computing, with the
operations that torch's counter finds in them. The bars at 256x256, width 1: bfloat16 with channels_last, compiled, has
at least 35 % of the rate of bfloat16 matrices, and is at least 4 times as fast as float32 as it comes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.records import write_record
from benchmarks.speed.modes import make
from pixelseg_agents import PA3C
from pixelseg_agents.learning.device import resolve_device
from pixelseg_agents.learning.precision import synchronise
from pixelseg_agents.provenance import provenance

MODES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
    "bf16, channels_last, compiled": {"precision": "bf16", "channels_last": True, "compile": True},
}
SHARE, TIMES = 0.35, 4.0  # the bars


@dataclasses.dataclass
class Rate:
    """What to measure."""

    device: str = "auto"
    """cpu, cuda or auto."""
    size: int = 256
    """Side of the images in pixels."""
    width: float = 1.0
    """Width of the network."""
    batch: int = 8
    """Images of an update."""
    t_max: int = 5
    """Steps of an episode."""
    updates: int = 10
    """Updates timed, after two that warm up."""
    side: int = 8192
    """Side of the matrices."""
    modes: tuple[str, ...] = tuple(MODES)
    """Modes of computing."""
    out: Path = Path("rate.json")
    """The record."""


def seconds(function: Callable[[], Any], count: int, device: torch.device) -> float:
    """Seconds that one call takes, the mean of some after two that warm up."""
    for _ in range(2):
        function()
    synchronise(device)
    started = time.perf_counter()
    for _ in range(count):
        function()
    synchronise(device)
    return (time.perf_counter() - started) / count


def matrix_rate(side: int, kind: torch.dtype, device: torch.device, count: int) -> float:
    """Floating-point operations a second of the product of two square matrices."""
    one, other = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    return float(2 * side**3 / seconds(lambda: one @ other, count, device))


def _agent(options: Rate, device: torch.device, **more: Any) -> Any:
    settings = {"width": options.width, "horizons": (options.t_max,), "recompute": False}
    return make(PA3C, options.batch, options.size, device, "restorable", **settings, **more)


def update_of(options: Rate, mode: str, device: torch.device) -> dict[str, Any]:
    """Time, operations and memory of an update in one mode."""
    agent = _agent(options, device, **MODES[mode])

    def update() -> None:
        agent.learn(agent.updates + 1)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = seconds(update, options.updates, device)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"mode": mode, "seconds": taken, "peak_mib": peak}


def operations(options: Rate, device: torch.device) -> float:
    """Floating-point operations of an update, counted as it comes: a compiled one hides its own."""
    agent = _agent(options, device)
    with FlopCounterMode(display=False) as counter:
        agent.learn(1)
    return float(counter.get_total_flops())


def main() -> None:
    """Measures; says whether the bars are reached, and writes the record."""
    options = tyro.cli(Rate, description=__doc__)
    device = resolve_device(options.device)
    rates = {
        str(kind).removeprefix("torch."): matrix_rate(options.side, kind, device, options.updates)
        for kind in (torch.bfloat16, torch.float32)
    }
    counted = operations(options, device)
    rows: list[dict[str, Any]] = []
    for mode in options.modes:
        row = update_of(options, mode, device)
        row |= {"operations_a_second": counted / row["seconds"]}
        row |= {"of_bf16_matrices": row["operations_a_second"] / rates["bfloat16"]}
        rows.append(row | {"times_fp32": rows[0]["seconds"] / row["seconds"] if rows else 1.0})
        print(rows[-1], flush=True)
    best = min(rows, key=lambda row: float(row["seconds"]))
    reached = {
        f"at least {SHARE:.0%} of bf16 matrices": best["of_bf16_matrices"] >= SHARE,
        f"at least {TIMES:g} times fp32": best["times_fp32"] >= TIMES,
    }
    print(f"matrices {rates}; fastest {best['mode']}; bars {reached}")
    record = {"rows": rows, "matrices": rates, "operations": counted, "bars": reached, "device": str(device)}
    write_record(options.out, record | {"options": dataclasses.asdict(options) | {"out": ""}} | provenance())


if __name__ == "__main__":
    main()
