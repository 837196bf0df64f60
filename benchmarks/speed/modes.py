"""What a training's passes cost in each mode, and what PA3C adds to them, on this machine.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.modes --out benchmarks/records/speed/modes-cpu.json

Whatever is compared is measured in turn within one process, and the median of the ratios is told: what else the machine
does falls on both alike.

- *modes*: a pass and its gradient of PA3C's network and of AC's U-Net in float32, bfloat16, with channels_last and
  compiled, as a multiple of float32 as it comes.
- *updates*: an update of PA3C beside as many passes of the same network, both heads, by cross-entropy.
- *recompute*: memory and time of an update at t_max 1 and 10 with `recompute`, and without.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
import tyro

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)
from benchmarks.grid.running import peak_mib
from benchmarks.records import write_record
from benchmarks.speed.environment import in_own_process
from pixelseg_agents import AC, PA3C
from pixelseg_agents.learning.precision import HOPELESS, SMALL, Mode, Passes, seconds_of_pass
from pixelseg_agents.provenance import provenance

Row = dict[str, Any]
MODES = (
    Mode(),
    Mode(channels_last=True),
    Mode(bf16=True),
    Mode(bf16=True, channels_last=True),
    Mode(compiled=True),
    Mode(bf16=True, channels_last=True, compiled=True),
)
NETWORKS = {"PA3C": PA3C, "U-Net": AC}


@dataclasses.dataclass
class Modes:
    """What to measure."""

    sizes: tuple[int, ...] = (48, 64, 128, 256)
    """Sides of the images in pixels."""
    widths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Widths of the networks."""
    batch: int = 2
    """Images of a pass."""
    rounds: int = 3
    """How often each is timed, after once that is not counted."""
    compiled: bool = True
    """Also compile, which takes a minute for every size, width and network."""
    out: Path = Path("modes.json")
    """The record."""


def make(
    kind: Any, batch: int, size: int, device: str | torch.device = "cpu", transition: str = "absorbing", **options: Any
) -> Any:
    """An agent on phantoms, with an environment on its GPU if it has one."""
    task: dict[str, Any] = {"dataset": "phantom", "size": size, "count": 20, "transition": transition}
    env = gym.make_vec("PixelSegEnv-v0", num_envs=batch, **task, **beside(device))
    return kind(env, device=device, seed=0, **options)


def beside(device: str | torch.device) -> dict[str, Any]:
    """Where an environment computes whose agent computes on a device: as the command line has it."""
    there = torch.device(device)
    return {} if there.type == "cpu" else {"backend": "torch", "device": str(there)}


def ratios(timers: Sequence[Callable[[], float]], rounds: int) -> tuple[list[float], list[float]]:
    """Times some functions in turn; returns the median seconds of each, and the median of its ratios to the first."""
    for timer in timers:
        timer()
    times = [[timer() for timer in timers] for _ in range(rounds)]
    return (
        [statistics.median(row[k] for row in times) for k in range(len(timers))],
        [statistics.median(row[k] / row[0] for row in times) for k in range(len(timers))],
    )


def modes_of(name: str, batch: int, size: int, width: float, rounds: int, compiled: bool) -> Row:
    """A pass and its gradient in every mode."""
    modes = [mode for mode in MODES if compiled or not mode.compiled]
    observation = torch.rand(batch, 1, size, size)
    networks = [
        make(NETWORKS[name], batch, 16, width=width).network.train() for _ in modes
    ]  # each laid out its own way
    passes = [Passes(mode) for mode in modes]
    timers = [
        lambda network=network, one=one: seconds_of_pass(network, observation, one)  # type: ignore[misc]
        for network, one in zip(networks, passes, strict=True)
    ]
    # Without hardware for it bfloat16 takes minutes a pass of large images, and shows that on a part of one.
    part = observation[:1, :, :SMALL, :SMALL]
    probes = [
        min(seconds_of_pass(network, part, one) for _ in range(2)) if mode.bf16 or mode == modes[0] else 0.0
        for mode, network, one in zip(modes, networks, passes, strict=True)
    ]
    hopeless = [probe > HOPELESS * probes[0] and size > SMALL for probe in probes]
    kept = [k for k, leave in enumerate(hopeless) if not leave]
    seconds, times = ratios([timers[k] for k in kept], rounds)
    found: Row = {
        str(mode): {"left_out": "slower on a part", "of_fp32_on_a_part": probe / probes[0]}
        for mode, probe, leave in zip(modes, probes, hopeless, strict=True)
        if leave
    }
    found |= {str(modes[k]): {"ms": 1000 * s, "of_fp32": t} for k, s, t in zip(kept, seconds, times, strict=True)}
    return {"network": name, "size": size, "width": width, "batch": batch, "modes": found}


def update_of(t_max: int, batch: int, size: int, width: float, rounds: int) -> Row:
    """An update of PA3C beside t_max passes of the same network by cross-entropy."""
    # Nothing is zeroed on the way, so that all steps are played to the end; augmentation is PA3C's own cost.
    agent = make(PA3C, batch, size, width=width, horizons=(t_max,), recompute=False)
    observation, target = torch.rand(batch, 1, size, size), torch.rand(batch, size, size).round()
    times: list[tuple[float, float]] = []

    def cross_entropy() -> None:
        losses = []
        for _ in range(t_max):
            logits, values = agent.network(observation)
            losses.append(F.binary_cross_entropy_with_logits(logits, target) + F.mse_loss(values, target))
        agent._descend(torch.stack(losses).mean())

    started = time.perf_counter()

    def updated(_: Any) -> None:
        """Within one training, as users have it: between two of its updates come the passes."""
        nonlocal started
        update = time.perf_counter() - started
        started = time.perf_counter()
        cross_entropy()
        times.append((time.perf_counter() - started, update))
        started = time.perf_counter()

    agent.learn(rounds + 1, callback=updated)
    passes, updates = zip(*times[1:], strict=True)
    shape = {"t_max": t_max, "size": size, "width": width, "batch": batch}
    ratio = statistics.median(u / p for p, u in zip(passes, updates, strict=True))
    return shape | {
        "passes_ms": 1000 * statistics.median(passes),
        "update_ms": 1000 * statistics.median(updates),
        "ratio": ratio,
    }


def recomputed(t_max: int, again: bool, batch: int, size: int, width: float) -> Row:
    """Memory of updates; to be called in a process of its own."""
    before = peak_mib()
    make(PA3C, batch, size, width=width, horizons=(t_max,), recompute=again).learn(2)
    shape = {"t_max": t_max, "recompute": again, "size": size, "width": width, "batch": batch}
    return shape | {"peak_mib": peak_mib(), "before_mib": before}


def time_of_recomputing(t_max: int, batch: int, size: int, width: float, rounds: int) -> dict[bool, Row]:
    """Seconds of an update with and without, in turn, as multiples of those without."""

    def timer(again: bool) -> Callable[[], float]:
        agent = make(PA3C, batch, size, width=width, horizons=(t_max,), recompute=again)

        def update() -> float:
            started = time.perf_counter()
            agent.learn(agent.updates + 1)
            return time.perf_counter() - started

        return update

    seconds, times = ratios([timer(False), timer(True)], rounds)
    return {
        again: {"seconds_per_update": one, "of_without": ratio}
        for again, one, ratio in zip((False, True), seconds, times, strict=True)
    }


def main() -> None:
    """Measures; writes the record after every row."""
    options = tyro.cli(Modes, description=__doc__)
    record: Row = {"updates": [], "recompute": [], "modes": [], "threads": torch.get_num_threads()}

    def add(kind: str, row: Row) -> None:
        record[kind].append(row)
        print(kind, row, flush=True)
        write_record(options.out, record | {"options": dataclasses.asdict(options) | {"out": ""}} | provenance())

    for t_max, size, width in ((1, 64, 0.25), (5, 64, 0.25), (10, 64, 0.25), (5, 128, 0.5)):
        add("updates", update_of(t_max, 8, size, width, max(5, options.rounds)))
    for t_max in (1, 10):
        timed = time_of_recomputing(t_max, 4, 128, 0.5, max(5, options.rounds))
        for again in (True, False):
            add("recompute", in_own_process(recomputed, t_max, again, 4, 128, 0.5) | timed[again])
    for size in options.sizes:
        for width in options.widths:
            for name in NETWORKS:
                add("modes", modes_of(name, options.batch, size, width, options.rounds, options.compiled))


if __name__ == "__main__":
    main()
