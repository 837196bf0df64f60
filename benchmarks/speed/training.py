"""Speed and memory of PA3C's training, on the CPU or a GPU, over sizes, widths and head resolutions.

    python -m benchmarks.speed.training --device cuda --out speed.json

makes the figures of training on a GPU (it trains on phantoms); `make bench-gpu` makes the others as well.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)
from benchmarks.records import write_record
from benchmarks.speed.modes import beside
from pixelseg_agents import PA3C
from pixelseg_agents.learning.device import resolve_device
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.provenance import provenance


@dataclasses.dataclass
class Speed:
    """What to measure."""

    device: str = "auto"
    """cpu, cuda or auto."""
    sizes: tuple[int, ...] = (64, 128, 256)
    """Sides of the images in pixels."""
    widths: tuple[float, ...] = (0.25, 1.0)
    """Widths of the network."""
    head_strides: tuple[int, ...] = (2, 4)
    """Resolutions of the heads."""
    horizons: tuple[int, ...] = (1, 10)
    """t_max of an update."""
    batch: int = 8
    """Images of an update."""
    updates: int = 20
    """Updates timed, after three that warm up."""
    out: Path = Path("speed.json")
    """The record."""


def measure(options: Speed, size: int, width: float, head_stride: int, horizon: int) -> dict[str, Any]:
    """Times one setting; out of memory is a result, too."""
    task: dict[str, Any] = {"dataset": "phantom", "size": size, "count": 50}
    env = gym.make_vec("PixelSegEnv-v0", num_envs=options.batch, **task, **beside(resolve_device(options.device)))
    agent = PA3C(env, device=options.device, width=width, head_stride=head_stride, horizons=(horizon,))
    setting: dict[str, Any] = {"size": size, "width": width, "head_stride": head_stride, "horizon": horizon}
    setting |= {"batch": options.batch, "parameters": parameter_count(agent.network), "device": str(agent.device)}
    cuda = agent.device.type == "cuda"
    try:
        agent.learn(3)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        started = time.perf_counter()
        agent.learn(3 + options.updates)
        if cuda:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / options.updates
    except torch.cuda.OutOfMemoryError:
        return setting | {"out_of_memory": True}
    return setting | {
        "seconds_per_update": seconds,
        "milliseconds_per_image_pass": 1000 * seconds / (horizon * options.batch),
        "pixel_steps_per_second": size * size * horizon * options.batch / seconds,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


def main() -> None:
    """Measures every combination and writes one record."""
    options = tyro.cli(Speed, description=__doc__)
    rows = []
    for size in options.sizes:
        for width in options.widths:
            for head_stride in options.head_strides:
                for horizon in options.horizons:
                    rows.append(measure(options, size, width, head_stride, horizon))
                    print(rows[-1], flush=True)
                    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
                    write_record(options.out, {"rows": rows, "gpu": name, **provenance()})


if __name__ == "__main__":
    main()
