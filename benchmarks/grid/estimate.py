"""How long a cell would take on this machine, by training it for a moment."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from benchmarks.grid.cells import Cell
from benchmarks.grid.running import untrained, updates
from pixelseg_agents import Supervised

ENOUGH_UPDATES, ENOUGH_SECONDS = 12, 3.0


def training_seconds(cell: Cell) -> float | None:
    """Seconds that the training of a cell takes on one thread, judging apart; None for one that trains by itself.

    A few updates are timed on phantoms of the same size, so the cell's own data need not be there.
    """
    if cell.learner.reference:
        return 0.0
    if cell.learner.factory:
        return None
    torch.set_num_threads(1)
    cell = dataclasses.replace(cell, dataset="phantom", data=(), fold=None, left_out="", setting="default")
    coarse = None
    if cell.learner.refines:  # any maps do: how good they are costs nothing
        plain = cell.environment("train", 1, plain=True)
        coarse = Supervised(plain, width=cell.protocol.width, device=cell.protocol.device)
    agent = untrained(cell, cell.environment("train", cell.protocol.horizon, coarse))
    marks: list[tuple[int, float]] = []

    def look(_: Any) -> bool:
        marks.append((agent.passes, time.perf_counter()))
        spent = marks[-1][1] - marks[0][1]
        return len(marks) < 3 or (len(marks) < ENOUGH_UPDATES and spent < ENOUGH_SECONDS)

    agent.learn(max(3, updates(cell, agent)), callback=look, log_interval=10**9)
    # The first updates are left out: memory is fetched in them, and a replay fills before it is learnt from.
    (passes, begun), (later, ended) = marks[len(marks) // 2 - 1 if len(marks) < 4 else len(marks) // 2], marks[-1]
    return (ended - begun) / max(1, later - passes) * cell.protocol.passes * cell.rules.passes
