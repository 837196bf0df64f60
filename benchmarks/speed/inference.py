"""What `predict` costs beside the passes of the network that it makes, and how many of them it leaves out.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.inference --out benchmarks/records/speed/inference.json

- *passes*: one image with PA3C's network and an agent whose every step changes a pixel, so that all passes are made,
  beside as many bare passes; in turn within one process, seconds of the processor, the median of the ratios. *own_ms*
  is the same with a network that costs nothing. Files are apart: *read_ms* is a PNG's, *write_ms* its mask's.
- *left_out*: passes per image of a PA3C that was trained on phantoms, by batch.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.records import write_record
from benchmarks.speed.modes import Row, make, ratios
from pixelseg_agents import PA3C
from pixelseg_agents.evaluation import segment
from pixelseg_agents.files import write_atomically
from pixelseg_agents.provenance import provenance
from pixelseg_env import load_dataset
from pixelseg_env.datasets import FileImages, file_reader

HORIZON = 10
IMAGES = 40


@dataclasses.dataclass
class Inference:
    """What to measure."""

    size: int = 256
    """Side of the image in pixels."""
    widths: tuple[float, ...] = (0.25, 1.0)
    """Widths of the network."""
    rounds: int = 11
    """How often each is timed, after once that is not counted."""
    updates: int = 300
    """Updates of the training after which left-out passes are counted."""
    batches: tuple[int, ...] = (1, 8)
    """Images at once, of those."""
    out: Path = Path("inference.json")
    """The record."""


class Nibbling:
    """Has a network decide, at its pass number k, to keep all pixels but the one of that number; counts the passes."""

    def __init__(self, network: Any) -> None:
        self.passes, self.decide = 0, network.decide
        network.decide = self

    def __call__(self, observation: Tensor) -> Tensor:
        """A pass, whose logits are replaced."""
        logits = torch.full_like(self.decide(observation), 9.0)
        logits.view(len(logits), -1)[:, self.passes] = -9.0
        self.passes += 1
        return logits


def beside_its_passes(size: int, width: float, rounds: int) -> Row:
    """Segmenting one image beside as many bare passes."""
    agent = make(PA3C, 1, 16, width=width)
    agent.network.eval()
    image = np.random.default_rng(0).random((1, 1, size, size), np.float32)
    observation, nibbling = torch.from_numpy(image), Nibbling(agent.network)
    made = []

    @torch.no_grad()
    def bare() -> float:
        nibbling.passes, started = 0, time.process_time()
        for _ in range(HORIZON):
            agent.network.decide(observation)
        return time.process_time() - started

    def whole() -> float:
        nibbling.passes, started = 0, time.process_time()
        segment(agent, image, HORIZON)
        seconds = time.process_time() - started
        made.append(nibbling.passes)
        return seconds

    seconds, times = ratios([bare, whole], rounds)
    row = {"size": size, "width": width, "passes": max(made), "passes_ms": 1000 * seconds[0]}
    row |= {"segment_ms": 1000 * seconds[1], "ratio": times[1]} | files_of(agent, size, rounds)
    nothing = torch.zeros((1, size, size))
    nibbling.decide = lambda _: nothing
    own, _ = ratios([whole], 5 * rounds)
    return row | {"own_ms": 1000 * own[0], "own_share": 1000 * own[0] / row["passes_ms"]}


def files_of(agent: Any, size: int, rounds: int) -> Row:
    """Reading an image's file, and writing its mask."""
    reader = file_reader("folder")

    def read_file(path: Path) -> FileImages:
        return reader.read(path, (size, size), "resize", int(agent.image_channels), {})

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "image.png"), Path(folder, "mask.png")
        cv2.imwrite(str(source), np.random.default_rng(0).integers(0, 256, (size, size)).astype(np.uint8))
        mask = np.tri(size, dtype=np.uint8)[None]

        def read() -> float:
            started = time.perf_counter()
            read_file(source)
            return time.perf_counter() - started

        def write() -> float:
            started = time.perf_counter()
            write_atomically(target, file.encode(file.restore(mask), target.name))
            return time.perf_counter() - started

        file = read_file(source)
        seconds, _ = ratios([read, write], rounds)
    return {"read_ms": 1000 * seconds[0], "write_ms": 1000 * seconds[1]}


def left_out(
    updates: int, batches: tuple[int, ...], size: int = 48, width: float = 0.25, count: int = IMAGES
) -> list[Row]:
    """How often an image passes through a trained PA3C's network, by batch, and how masks differ from the first's."""
    agent = make(PA3C, 8, size, width=width)
    agent.learn(updates)
    images = load_dataset("phantom", split="test", size=size, count=5 * count).images
    seen: list[int] = []
    agent.network.trunk[0].register_forward_hook(lambda _, observed, __: seen.append(len(observed[0])))
    rows, first = [], None
    for batch in batches:
        seen.clear()
        masks = segment(agent, images, HORIZON, batch)
        first = masks if first is None else first
        row = {"size": size, "width": width, "updates": updates, "batch": batch, "images": len(images)}
        rows.append(row | {"passes": sum(seen) / len(images), "pixels_that_differ": int((masks != first).sum())})
    return rows


def main() -> None:
    """Measures; writes the record after every part."""
    options = tyro.cli(Inference, description=__doc__)
    record: Row = {"passes": [], "left_out": [], "threads": torch.get_num_threads()}

    def add(kind: str, rows: list[Row]) -> None:
        record[kind] += rows
        print(kind, *rows, sep="\n", flush=True)
        write_record(options.out, record | {"options": dataclasses.asdict(options) | {"out": ""}} | provenance())

    for width in options.widths:
        add("passes", [beside_its_passes(options.size, width, options.rounds)])
    add("left_out", left_out(options.updates, options.batches))


if __name__ == "__main__":
    main()
