"""Why PixelRL cannot stand still: its eight amounts beside nine with 0, and with the publication's settings.

`python -m benchmarks.study.standing_still --data FOLDER ... --out benchmarks/records/standing-still.json` trains each
once on brain and looks at validation patients alone; test patients are not touched. Nothing of it is part of the
environment: the ninth amount exists in this process only.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from benchmarks.failures import exit_code
from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.running import train
from benchmarks.records import write_record
from benchmarks.study import MODULE
from benchmarks.study.learners import PIXELRL
from pixelseg_agents import PixelRL
from pixelseg_agents.evaluation import play
from pixelseg_agents.learning.distributions import Categorical
from pixelseg_agents.provenance import provenance
from pixelseg_env import dynamics, to_numpy

EIGHT = tuple(amount for amount in dynamics.AMOUNTS if amount)  # this module may be imported when there are nine
NINE = (*EIGHT[:4], 0.0, *EIGHT[4:])
# The publication's: t_max 10 throughout, plain Eq. 12, no augmentation; and the entropy bonus of PA3C.
PUBLISHED: dict[str, Any] = {
    "horizons": (10,),
    "foreground_weight": 1.0,
    "later_background_weight": 1.0,
    "augmentation": False,
    "entropy_coefficient": 0.02,
}


class NineAmounts(PixelRL):
    """PixelRL with an amount that leaves a pixel as it is."""

    name = "PixelRL with 0"
    policy = Categorical(len(NINE))


@dataclass
class StandingStill:
    """Trains PixelRL with and without the amount 0, and shows what its pixels do at every step."""

    data: tuple[str, ...]
    """Folders of brain."""
    out: Path = Path("benchmarks/records/standing-still.json")
    """The record."""
    size: int = 48
    """Side of the images."""
    passes: int = 12_000
    """Network passes, a quarter of them for the U-Net of the coarse maps."""
    seed: int = 0
    """Of everything."""

    runs: ClassVar[dict[str, tuple[str, tuple[float, ...], dict[str, Any]]]] = {
        "eight amounts": (PIXELRL.name, EIGHT, {}),
        "nine amounts, 0 among them": ("benchmarks.study.standing_still:NineAmounts", NINE, {}),
        "eight amounts, published settings": (PIXELRL.name, EIGHT, PUBLISHED),
    }

    def main(self) -> int:
        """Trains and writes the record."""
        made, found = provenance(), {}
        for name, run in self.runs.items():
            # In a process of its own: the library keeps the amounts as an array once it has seen them.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found[name] = pool.submit(one, self.data, self.size, self.passes, self.seed, *run).result()
            print(name)
            for key, values in found[name].items():
                print(f"  {key:<22}" + " ".join(f"{value:.3f}" for value in values), flush=True)
        write_record(self.out, {"size": self.size, "passes": self.passes, "seed": self.seed, "runs": found} | made)
        return 0


def one(
    data: tuple[str, ...],
    size: int,
    passes: int,
    seed: int,
    agent: str,
    amounts: tuple[float, ...],
    changes: dict[str, Any],
) -> dict[str, list[float]]:
    """Trains once; returns what `watch` has seen on validation patients."""
    setattr(dynamics, "AMOUNTS", amounts)  # noqa: B010  (eight by its type)
    torch.set_num_threads(1)
    protocol = Protocol(size=size, passes=passes)
    cell = Cell("brain", data, agent, seed=seed, protocol=protocol, tuned=changes, study=MODULE)
    trained = train(cell)
    assert trained.coarse is not None
    return watch(trained.agent, cell.environment("val", 15, trained.coarse), trained.coarse.probability)


def watch(agent: Any, env: Any, start: Any, steps: int = 15) -> dict[str, list[float]]:
    """What the pixels of a data set do at every step of the likeliest decisions; lists of `steps` means over images."""
    seen: dict[str, list[list[float]]] = {}
    last: NDArray[Any] = np.empty(0)
    for wanted, step, _, info in play(agent, env, steps):
        now = to_numpy(info["probability"])[: len(wanted)]
        target = to_numpy(info["target"])[: len(wanted)].astype(bool)
        if step == 0:
            last = start(env.dataset.batch(wanted)[0])
        kept = now >= dynamics.THRESHOLD
        was = last >= dynamics.THRESHOLD
        measured = {
            "Dice": to_numpy(info["dice"])[: len(wanted)],
            "moved": (now != last).mean(axis=(1, 2)),
            "between 0 and 1": ((now > 0) & (now < 1)).mean(axis=(1, 2)),
            "crossed, now wrong": ((kept != was) & (kept != target)).mean(axis=(1, 2)),
            "crossed, now right": ((kept != was) & (kept == target)).mean(axis=(1, 2)),
        }
        for name, values in measured.items():
            seen.setdefault(name, [[] for _ in range(steps)])[step].extend(map(float, values))
        last = now
    return {name: [float(np.mean(values)) for values in by_step] for name, by_step in seen.items()}


if __name__ == "__main__":
    raise SystemExit(exit_code(lambda: tyro.cli(StandingStill).main()))
