"""One cell of the grid: train one learner once, judge it, write one record."""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
import re
import resource
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.records import read_record, write_record
from benchmarks.study.settings import (
    COARSE,
    CROSSED,
    IDLE,
    LEARNERS,
    LOOK_ONCE,
    REFERENCES,
    REFINERS,
    SETTINGS,
    TWINS,
    Setting,
)
from pixelseg_agents.evaluation import EvaluationResult, evaluate
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.provenance import provenance
from pixelseg_agents.references import KeepAll, Oracle, Otsu, Random
from pixelseg_agents.registry import AGENTS
from pixelseg_agents.supervised import Supervised
from pixelseg_env import (
    DataError,
    OptionError,
    PixelSegVectorEnv,
    SegmentationDataset,
    check_choice,
    load_dataset,
    registered_datasets,
)

FOLDS = 5
CURVE_POINTS = 10
EXAMPLES = 4


@dataclass(frozen=True)
class Protocol:
    """What all cells of a grid have in common."""

    size: int = 48
    """Side of the images in pixels."""
    width: float = 0.25
    """Scales the channels of every network."""
    batch: int = 8
    """Images per network pass."""
    passes: int = 24_000
    """Images that go through a network while learning, those looked at without a gradient too: the same for all."""
    horizon: int = 10
    """Steps of the test episodes."""
    device: str = "cpu"
    """Where agents train."""
    split_seed: int = 0
    """Seed of the deal of patients to train, val and test."""

    def __post_init__(self) -> None:
        counts = ("size", "batch", "passes", "horizon")
        wrong = next((name for name in counts if getattr(self, name) < 1), None)
        if wrong is not None:
            raise OptionError(f"--{wrong} {getattr(self, wrong)}: expected 1 or more")
        if not 0 < self.width < float("inf"):
            raise OptionError(f"--width {self.width}: expected a number above 0")
        if self.split_seed < 0:
            raise OptionError(f"--split-seed {self.split_seed}: expected 0 or more")


@dataclass(frozen=True)
class Cell:
    """A cell of the grid.

    Attributes:
        dataset: the name of a registered data set, such as "brain".
        data: its folders.
        agent: a learner, a reference, or "module:factory" for one of the reader's own, see `own`.
        setting: a name in `SETTINGS`.
        seed: of training.
        fold: None for the split 70/10/20; 0 to 4 tests on that fifth of the patients. Under a setting that never looks
            at test patients it validates on that fifth of the others.
        protocol: what all cells have in common.
        tuned: hyperparameters that the search has found for this agent.
    """

    dataset: str
    data: tuple[str, ...]
    agent: str
    setting: str = "default"
    seed: int = 0
    fold: int | None = None
    protocol: Protocol = Protocol()
    tuned: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.own:
            own_factory(self.agent)  # now, and not when the others have run
        else:
            check_choice("agent", self.agent, {*AGENTS, *LEARNERS, *CROSSED, *REFERENCES})
        check_choice("setting", self.setting, SETTINGS)
        check_choice("dataset", self.dataset, registered_datasets())
        if self.seed < 0:
            raise OptionError(f"seed {self.seed}: expected 0 or more")
        if self.fold not in (None, *range(FOLDS)):
            raise OptionError(f"fold {self.fold}: expected one of 0 to {FOLDS - 1}")

    @property
    def name(self) -> str:
        """Unique within a grid; the record's file name without its suffix."""
        fold = "" if self.fold is None else f"-f{self.fold}"
        return f"{self.dataset}-{self.agent.replace(':', '.')}-{self.setting}-s{self.seed}{fold}"

    @property
    def own(self) -> bool:
        """Whether the agent is the reader's own.

        `factory(env, seed=..., passes=...)` gets the training environment and the budget of image passes, trains by
        itself, and returns an object with Stable-Baselines3's `predict`.
        """
        return ":" in self.agent

    @property
    def rules(self) -> Setting:
        """The cell's setting."""
        return SETTINGS[self.setting]

    @property
    def kind(self) -> Any:
        """The class of a learner."""
        name = "pixelrl" if self.agent in REFINERS else self.agent
        return (AGENTS | TWINS | CROSSED)[name]

    @property
    def applies(self) -> bool:
        """Whether the setting changes anything for the agent: it may have none of the hyperparameters, or no use."""
        rules = self.rules
        if self.agent in REFERENCES:
            return not rules.hyper and not rules.env
        known: set[str] = set()
        if not self.own:
            idle = [names for agents, names in IDLE if self.agent in agents]
            known = {item.name for item in dataclasses.fields(self.kind.config_class)}.difference(*idle)
        fixed = self.agent in (*REFINERS, *LOOK_ONCE)  # whose rules are given, or make no difference
        return (not rules.hyper or bool(known & rules.hyper.keys())) and not (rules.env and fixed)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; data folders by name alone, so that records of two machines are comparable."""
        return dataclasses.asdict(self) | {"data": [Path(folder).name for folder in self.data]}

    # ---------------------------------------------------------------- data

    @cached_property
    def parts(self) -> dict[str, SegmentationDataset]:
        """The data set's parts: train, val and test, without a patient in common."""
        seed = self.protocol.split_seed
        whole = load_dataset(self.dataset, data=list(self.data) or None, split="all", size=self.protocol.size)

        def split(dataset: SegmentationDataset, *names: str, **options: Any) -> dict[str, SegmentationDataset]:
            return {name: load_dataset(dataset, split=name, split_seed=seed, **options) for name in names}

        if self.fold is None:
            parts = split(whole, "train", "val", "test")
        elif "test" in self.rules.parts:
            rest, tested = self._folded(whole)
            parts = split(rest, "train", "val", fractions=(0.875, 0.125, 0.0)) | {"test": tested}
        else:  # what never looks at test patients has its folds among the others
            tested = split(whole, "test")["test"]
            train, val = self._folded(whole.subset(np.flatnonzero(~np.isin(whole.cases, tested.cases))))
            parts = {"train": train, "val": val}
        if self.rules.shots:
            train = parts["train"]
            if len(train) < self.rules.shots:
                raise OptionError(f"{self.setting}: expected that many training images, there are {len(train)}")
            drawn = np.random.default_rng(self.seed).permutation(len(train))[: self.rules.shots]
            parts["train"] = train.subset(np.sort(drawn))
        return parts

    def _folded(self, dataset: SegmentationDataset) -> tuple[SegmentationDataset, SegmentationDataset]:
        """All but a fifth of the patients, and that fifth."""
        patients = sorted(set(dataset.cases))
        order = np.random.default_rng(self.protocol.split_seed).permutation(len(patients))
        fold_of = {patients[p]: i % FOLDS for i, p in enumerate(order)}
        inside = np.array([fold_of[case] == self.fold for case in dataset.cases])
        return dataset.subset(np.flatnonzero(~inside)), dataset.subset(np.flatnonzero(inside))

    def environment(
        self, part: str, horizon: int, coarse: Supervised | None = None, plain: bool = False
    ) -> PixelSegVectorEnv:
        """The vector environment of one part of the data.

        Args:
            part: "train", "val" or "test".
            horizon: steps of an episode.
            coarse: the U-Net whose maps an agent that refines starts from.
            plain: without what the setting changes about the environment, for that U-Net itself.
        """
        dataset = self.parts[part]
        place: dict[str, Any] = {}
        if self.protocol.device.startswith("cuda") and not self.own:  # whose `predict` takes arrays
            place = {"backend": "torch", "device": self.protocol.device}
        size = self.protocol.batch if part == "train" else min(self.protocol.batch, len(dataset))
        rules: dict[str, Any] = {} if plain else dict(self.rules.env)
        if coarse is not None:
            rules |= {"transition": "additive", "observation": "stacked", "reward": REFINERS[self.agent]}
            place["start"] = coarse.probability
        return PixelSegVectorEnv(size, dataset, split="all", horizon=horizon, **rules, **place)

    # ---------------------------------------------------------------- training

    def learner(self, env: PixelSegVectorEnv) -> Any:
        """The untrained agent."""
        protocol = self.protocol
        if self.own:
            return own_factory(self.agent)(env, seed=self.seed, passes=round(protocol.passes * self.rules.passes))
        if self.agent in REFERENCES:
            oracle = Oracle(env) if self.agent == "oracle" else None
            return oracle or {"random": Random(self.seed), "keep-all": KeepAll(), "otsu": Otsu()}[self.agent]
        known = {item.name for item in dataclasses.fields(self.kind.config_class)}
        changes = {"width": protocol.width} | (self.tuned if self.rules.tuned else {}) | self.rules.hyper
        if self.agent in TWINS:
            changes |= {"foreground_weight": 1.0, "final_foreground_weight": 1.0}
        config = self.kind.config_class().replace(**{name: value for name, value in changes.items() if name in known})
        return self.kind(env, config, seed=self.seed, device=protocol.device)

    def coarse(self, seconds: dict[str, float]) -> Supervised:
        """The U-Net whose maps a refiner starts from, trained on its share of the passes; adds the time it took."""
        began = time.perf_counter(), time.process_time()
        protocol, env = self.protocol, self.environment("train", 1, plain=True)
        unet = Supervised(env, width=protocol.width, seed=self.seed, device=protocol.device)
        updates = max(1, int(COARSE * protocol.passes * self.rules.passes / protocol.batch))
        unet.learn(updates, log_interval=updates)
        seconds["wall"] += time.perf_counter() - began[0]
        seconds["cpu"] += time.process_time() - began[1]
        return unet

    def updates(self, agent: Any, share: float = 1.0) -> int:
        """Updates that take the budget of network passes, or a share of it."""
        config, batch = agent.config, self.protocol.batch
        plan = config.schedule(1)
        costs = [sum(agent.passes_per_update(h) * part for h, part in mix.items()) for mix in plan.mixes]
        # Stages are shared out by steps of the batch, whatever they cost.
        per_step = [share / steps for share, steps in zip(config.shares, plan.steps, strict=True)]
        mean = sum(c * n for c, n in zip(costs, per_step, strict=True)) / sum(per_step)
        return max(1, int(share * self.protocol.passes * self.rules.passes / batch / mean))

    def run(self) -> dict[str, Any]:
        """Trains and judges; returns the record."""
        torch.set_num_threads(1)
        made = provenance()  # now: the source may have changed when the training is over
        protocol = self.protocol
        curve: list[dict[str, float]] = []
        seconds = {"wall": 0.0, "cpu": 0.0}
        looks_once = self.agent in LOOK_ONCE
        coarse = self.coarse(seconds) if self.agent in REFINERS else None
        began = time.perf_counter(), time.process_time()
        agent = self.learner(self.environment("train", protocol.horizon, coarse))
        about: dict[str, Any] = {}
        if self.own:
            seconds = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
            if isinstance(network := getattr(agent, "network", None), nn.Module):
                about["parameters"] = parameter_count(network)
        elif self.agent not in REFERENCES:
            planned = self.updates(agent, 1.0 if coarse is None else 1.0 - COARSE)
            self._learn(agent, planned, self.environment("val", 1 if looks_once else protocol.horizon, coarse),
                        curve, seconds, coarse.passes if coarse is not None else 0)  # fmt: skip
            plan = agent.config.schedule(planned)
            about = {
                "config": agent.config.to_dict(),
                "parameters": parameter_count(agent.network),
                "updates": agent.updates,
                "image_passes": agent.passes,
                "image_visits": agent.episodes,
                "environment_steps": 0 if looks_once else plan.total_steps * protocol.batch,
            }
            if coarse is not None:
                about["image_passes"] += coarse.passes
                about["image_visits"] += coarse.episodes
                about["coarse"] = {"parameters": parameter_count(coarse.network), "updates": coarse.updates}
        steps = 1 if looks_once else max(protocol.horizon, self.rules.judged)
        record = {"name": self.name, "cell": self.to_json(), **about, "curve": curve, "seconds": seconds}
        for part in self.rules.parts:
            judge = self.environment(part, protocol.horizon, coarse)
            if self.agent == "oracle":
                agent = Oracle(judge)
            result = evaluate(agent, judge, horizon=1 if looks_once else protocol.horizon, keep_maps=part == "test")
            record[part] = _in_columns(result)
            if part == "test":
                record["examples"] = _examples(result, judge.dataset)
            if coarse is not None:
                first = evaluate(coarse, self.environment(part, 1, plain=True), keep_maps=False)
                record[part]["coarse_dice"] = float(first.metrics["DICE"].mean())
            if steps > protocol.horizon:
                longer = evaluate(agent, judge, horizon=steps, keep_maps=False)
                curves = {"dice_by_step": longer.dice_by_step, "biou_by_step": longer.biou_by_step}
                record[part]["longer"] = {name: values.mean(axis=0).tolist() for name, values in curves.items()}
        record["peak_mib"] = _peak_mib()
        if protocol.device.startswith("cuda"):
            record["peak_cuda_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return record | made

    def _learn(
        self,
        agent: Any,
        planned: int,
        judge: Any,
        curve: list[dict[str, float]],
        seconds: dict[str, float],
        before: int = 0,
    ) -> None:
        """Trains; notes the Dice on validation patients about ten times, the time for which is not counted.

        `before` are the passes that made the coarse maps.
        """
        stretch = self.protocol.passes * self.rules.passes / CURVE_POINTS
        began = [time.perf_counter(), time.process_time()]

        def look(_: Any) -> None:
            if agent.passes < (len(curve) + 1) * stretch and agent.updates < planned:
                return
            seconds["wall"] += time.perf_counter() - began[0]
            seconds["cpu"] += time.process_time() - began[1]
            result = evaluate(agent, judge, keep_maps=False)
            last, first = result.dice_by_step[:, -1].mean(), result.dice_by_step[:, 0].mean()
            curve.append(
                {"passes": before + agent.passes, "wall": seconds["wall"], "dice": float(last), "first": float(first)}
            )
            agent.network.train()
            began[:] = [time.perf_counter(), time.process_time()]

        agent.learn(planned, callback=look, log_interval=max(1, planned))


def _peak_mib() -> float:
    """The most memory this process had."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what a parent had when it forked
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def _in_columns(result: EvaluationResult) -> dict[str, Any]:
    """The summary, and a list per metric with a value per image, in the order of the data set."""
    columns = {name: values.tolist() for name, values in result.metrics.items()}
    return {
        "summary": result.summary(),
        "images": {"case": list(result.cases), "slice": result.slices.tolist(), **columns},
        "first_step_dice": result.dice_by_step[:, 0].tolist(),
    }


def _examples(result: EvaluationResult, dataset: SegmentationDataset) -> list[dict[str, Any]]:
    """The last maps of a few images, the same for every agent: the largest object of some patients, as packed bits."""
    cases, areas = np.array(dataset.cases), dataset.masks.reshape(len(dataset), -1).sum(axis=1)
    patients = np.unique(cases)
    chosen = patients[np.linspace(0, len(patients) - 1, min(EXAMPLES, len(patients))).round().astype(int)]
    found = []
    for patient in chosen:
        index = int(np.flatnonzero(cases == patient)[areas[cases == patient].argmax()])
        packed = np.packbits(result.maps(index)[-1].reshape(-1))
        found.append({"index": index, "case": str(patient), "map": base64.b64encode(packed.tobytes()).decode()})
    return found


def own_factory(name: str) -> Any:
    """What "module:factory" names.

    Raises:
        OptionError: there is no such module, or no such thing in it.
    """
    module, _, factory = name.partition(":")
    try:
        return getattr(importlib.import_module(module), factory)
    except Exception as error:  # an import runs the reader's code, which may raise anything
        raise OptionError(
            f"agent {name!r}: expected module:factory with a module that can be imported from here and "
            f"factory(env, seed=..., passes=...) in it ({error!r})"
        ) from error


def record_path(folder: Path, cell: Cell) -> Path:
    """Where a cell's record is."""
    return folder / f"{cell.name}.json"


def is_done(folder: Path, cell: Cell) -> bool:
    """Whether a cell's record is there.

    Raises:
        OptionError: it was made with other options.
        DataError: it is damaged.
    """
    path = record_path(folder, cell)
    if not path.exists():
        return False
    before, now = read_record(path).get("cell"), json.loads(json.dumps(cell.to_json()))
    if not isinstance(before, dict):
        raise DataError(f"{path}: not the record of a cell; choose another --out, or remove it")
    if before != now:
        differs = (f"{key}: {before.get(key)} then, {now[key]} now" for key in now if before.get(key) != now[key])
        raise OptionError(
            f"{path}: was made with other options ({'; '.join(differs)}); choose another --out, or remove the record"
        )
    return True


def run_cell(folder: Path, cell: Cell) -> Path:
    """Runs a cell and writes its record, whole or not at all."""
    path = record_path(folder, cell)
    write_record(path, cell.run(), lines=True)
    return path
