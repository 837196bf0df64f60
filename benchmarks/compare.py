"""PA3C beside its supervised twin: same network, data, split, augmentation and number of network passes.

    python -m benchmarks.compare --dataset brain --data FOLDER FOLDER --seeds 0 1

Each cell (learner, seed) is independent: it writes one JSON record, is skipped when its record exists,
and may run in a process of its own. `python -m benchmarks.report` turns the records into tables.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import tyro
from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.references import KeepAll, Otsu
from pixelseg_agents.runs import provenance
from pixelseg_agents.schedule import TrainingSchedule
from tqdm import tqdm

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)
from benchmarks.records import write_record
from benchmarks.twin import SupervisedTwin

Learner = Literal["pa3c", "twin-plain", "twin-weighted", "otsu", "keep-all"]
REFERENCES = ("otsu", "keep-all")
LEARNERS: tuple[Learner, ...] = ("otsu", "keep-all", "pa3c", "twin-plain", "twin-weighted")


@dataclasses.dataclass
class Compare:
    """Trains and evaluates every learner for every seed."""

    dataset: str = "phantom"
    """Data set: phantom, brain, cardiac or folder."""
    data: tuple[str, ...] = ()
    """Its folders."""
    size: int = 64
    """Side of the images in pixels."""
    batch: int = 8
    """Images per network pass."""
    updates: int = 5000
    """Updates of PA3C; the twins get as many network passes as PA3C's updates take."""
    horizon: int = 10
    """Steps of the test episodes of PA3C; the twins look once."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of training; the split of the patients is the same for all."""
    learners: tuple[Learner, ...] = LEARNERS
    """Which rows to make."""
    splits: tuple[str, ...] = ("val", "test")
    """Parts of the patients to evaluate on; a record for each."""
    out: Path = Path("benchmarks/records")
    """Folder of the records."""
    hyper: tyro.conf.OmitArgPrefixes[PA3CConfig] = dataclasses.field(default_factory=PA3CConfig)

    def environment(self, split: str, horizon: int) -> gym.vector.VectorEnv[Any, Any, Any]:
        """The vector environment of one part of the patients."""
        return gym.make_vec(
            "PixelSegEnv-v0",
            num_envs=self.batch,
            dataset=self.dataset,
            data=list(self.data) or None,
            split=split,
            size=self.size,
            horizon=horizon,
        )

    def cell(self, learner: Learner, seed: int) -> None:
        """Trains one learner with one seed and writes a record per split, unless they are there."""
        missing = [split for split in self.splits if not self._exists(learner, seed, split)]
        if not missing:
            return
        train = self.environment("train", self.horizon)
        config = self.hyper.for_task("absorbing", "masked")
        plan = TrainingSchedule(self.updates, config.horizons, config.shares)
        wall, cpu = time.perf_counter(), time.process_time()
        agent: Any
        updates = 0
        if learner == "pa3c":
            agent, updates = PA3C(train, config, seed=seed), self.updates
        elif learner == "twin-plain":
            plain = config.replace(foreground_weight=1.0, final_foreground_weight=1.0)
            agent, updates = SupervisedTwin(train, plain, seed=seed), plan.total_passes
        elif learner == "twin-weighted":
            agent, updates = SupervisedTwin(train, config, seed=seed), plan.total_passes
        else:
            agent = Otsu() if learner == "otsu" else KeepAll()
        if updates:
            with tqdm(total=updates, desc=self._name(learner, seed, "train"), mininterval=5) as bar:
                agent.learn(updates, callback=lambda _: bool(bar.update()) or None)
        seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        for split in missing:
            result = evaluate(agent, self.environment(split, self.horizon if learner == "pa3c" else 1))
            record = {
                "name": self._name(learner, seed, split),
                "learner": learner,
                "seed": seed,
                "options": self._options(split),
                "config": agent.config.to_dict() if updates else None,
                "parameters": parameter_count(agent.network) if updates else 0,
                "image_passes": plan.total_passes * self.batch if updates else 0,
                **seconds,
                **provenance(),
                "evaluation": result.to_json(),
            }
            path = self._path(learner, seed, split)
            write_record(path, record)
            print(f"{path}: Dice {result.metrics['DICE'].mean():.3f}")

    def _name(self, learner: Learner, seed: int, split: str) -> str:
        return f"{self.dataset}-{self.size}-{split}-{learner}-s{seed}"

    def _path(self, learner: Learner, seed: int, split: str) -> Path:
        return self.out / f"{self._name(learner, seed, split)}.json"

    def _options(self, split: str) -> dict[str, Any]:
        options = {key: getattr(self, key) for key in ("dataset", "size", "batch", "updates", "horizon")}
        return options | {"split": split, "data": [Path(folder).name for folder in self.data]}

    def _exists(self, learner: Learner, seed: int, split: str) -> bool:
        """Whether the record is there; refuses one that was made with other options."""
        path, options = self._path(learner, seed, split), self._options(split)
        if not path.exists():
            return False
        before = json.loads(path.read_text()).get("options")
        if before != options:
            raise SystemExit(f"{path}: was made with {before}, now {options}; choose another --out, or remove it")
        print(f"{path}: exists, skipped")
        return True


def main() -> None:
    """Runs all cells one after the other."""
    compare = tyro.cli(Compare, description=__doc__)
    for seed in compare.seeds:
        for learner in compare.learners:
            if learner not in REFERENCES or seed == compare.seeds[0]:  # references do not depend on the seed
                compare.cell(learner, seed)


if __name__ == "__main__":
    main()
