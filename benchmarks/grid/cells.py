"""What a cell of the grid is: one learner on one part of the data, under one setting, with one seed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grid.catalogue import Learner, Setting, load_study
from benchmarks.records import read_record
from pixelseg_agents import Supervised
from pixelseg_agents.evaluation import JUDGED_AT, JudgeAt
from pixelseg_env import (
    DataError,
    OptionError,
    PixelSegVectorEnv,
    SegmentationDataset,
    check_choice,
    load_dataset,
    registered_datasets,
)
from pixelseg_env.datasets import OWN_PIXELS

FOLDS = 5
EARLIER = {"judge_at": "size"}  # what records of earlier versions do not say


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
    judge_at: JudgeAt = "native"
    """Where maps are judged: on the pixels of each image's own file (native), or at the size they were decided at."""

    def __post_init__(self) -> None:
        counts = ("size", "batch", "passes", "horizon")
        wrong = next((name for name in counts if getattr(self, name) < 1), None)
        if wrong is not None:
            raise OptionError(f"--{wrong} {getattr(self, wrong)}: expected 1 or more")
        if not 0 < self.width < float("inf"):
            raise OptionError(f"--width {self.width}: expected a number above 0")
        if self.split_seed < 0:
            raise OptionError(f"--split-seed {self.split_seed}: expected 0 or more")
        check_choice("judge_at", self.judge_at, JUDGED_AT)

    @classmethod
    def of_record(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol that a record, or the search's result, says it was made by.

        Raises:
            TypeError: it is that of another version, or damaged.
        """
        return cls(**{**EARLIER, **values})

    def judged(self, pixels: str = OWN_PIXELS) -> str:
        """Where scores were taken, as a sentence under a table.

        Args:
            pixels: of the data set, see `SegmentationDataset.native_pixels`.
        """
        if self.judge_at == "size":
            return f"Judged at {self.size}x{self.size}, the size that was decided at."
        return (
            f"Judged on {pixels}, decided at {self.size}x{self.size}: the row *oracle* is what a perfect "
            "mask of that size scores there."
        )


@dataclass(frozen=True)
class Cell:
    """A cell of the grid.

    Attributes:
        dataset: the name of a registered data set, such as "brain".
        data: its folders.
        agent: a learner of the study, a reference, a registered agent, or "module:name", see `Learner`.
        setting: the name of one of the study's settings.
        seed: of training.
        fold: None for the split 70/10/20; 0 to 4 tests on that fifth of the patients. Under a setting that never looks
            at test patients it validates on that fifth of the others.
        protocol: what all cells have in common.
        tuned: hyperparameters that the search has found for this agent.
        study: the module whose `STUDY` knows learners and settings; none: what is registered, and the default.
        left_out: how the names of patients begin who are tested on, under every setting, while all others train and
            validate: those of one institution, such as "TCGA_CS". None: the split, or the fold.
    """

    dataset: str
    data: tuple[str, ...]
    agent: str
    setting: str = "default"
    seed: int = 0
    fold: int | None = None
    protocol: Protocol = Protocol()
    tuned: dict[str, Any] = dataclasses.field(default_factory=dict)
    study: str = ""
    left_out: str = ""

    def __post_init__(self) -> None:
        # Now, and not when the others have run.
        _ = self.learner.kind, self.rules
        check_choice("dataset", self.dataset, registered_datasets())
        if self.seed < 0:
            raise OptionError(f"seed {self.seed}: expected 0 or more")
        if self.fold not in (None, *range(FOLDS)):
            raise OptionError(f"fold {self.fold}: expected one of 0 to {FOLDS - 1}")
        if self.left_out and self.fold is not None:
            raise OptionError(f"fold {self.fold} and left out {self.left_out!r}: each says who is tested on; give one")

    @property
    def name(self) -> str:
        """Unique within a grid; the record's file name without its suffix."""
        tested = "" if self.fold is None else f"-f{self.fold}"
        if self.left_out:
            tested = f"-without-{self.left_out.replace('/', '.')}"
        return f"{self.dataset}-{self.agent.replace(':', '.')}-{self.setting}-s{self.seed}{tested}"

    @property
    def learner(self) -> Learner:
        """Who learns."""
        return load_study(self.study).learner(self.agent)

    @property
    def rules(self) -> Setting:
        """The cell's setting."""
        return load_study(self.study).setting(self.setting)

    @property
    def judged(self) -> tuple[str, ...]:
        """The parts of the data that the trained agent is judged on."""
        return tuple(dict.fromkeys((*self.rules.parts, *(("test",) if self.left_out else ()))))

    def config(self, with_setting: bool = True) -> Any:
        """The hyperparameters of a learner that has some, those that are left to the task not spelt out.

        What comes later wins: defaults, the grid's width, what the search has found, the setting, what the study fixes.

        Args:
            with_setting: False: without the setting's changes, to compare.
        """
        learner, rules = self.learner, self.rules
        config_class = learner.kind.config_class
        known = {item.name for item in dataclasses.fields(config_class)}
        changes = {"width": self.protocol.width} | (self.tuned if rules.tuned else {})
        changes |= (rules.hyper if with_setting else {}) | dict(learner.hyper)
        return config_class().replace(**{name: value for name, value in changes.items() if name in known})

    @property
    def applies(self) -> bool:
        """Whether the setting changes anything for the learner: it may have none of the hyperparameters, or no use."""
        learner, rules = self.learner, self.rules
        if rules.env and (learner.reference or learner.facts.looks_once):
            return False  # whose rules make no difference
        if rules.env and learner.refines:  # whose rules are given, but for what it is told of the time
            changed = {name for name, value in rules.env.items() if learner.rules.get(name) != value}
            if changed - {"observe_time"} or not rules.hyper:
                return False
        if rules.data or not rules.hyper:
            return True
        if learner.reference or learner.factory:
            return False
        idle = getattr(learner.kind, "idle", ())
        task = {"transition": "absorbing", "observation": "masked"} | rules.env | learner.rules
        without, config = (
            self.config(changed).for_task(task["transition"], task["observation"]) for changed in (False, True)
        )
        named = [name for name in rules.hyper if hasattr(config, name) and name not in idle]
        return any(getattr(config, name) != getattr(without, name) for name in named)

    def to_json(self) -> dict[str, Any]:
        """What a record says of its cell, JSON-ready.

        Data folders are there by name alone, so that records of two machines are comparable.
        """
        values = dataclasses.asdict(self) | {"data": [Path(folder).name for folder in self.data]}
        del values["study"]  # where names come from; a record has the names
        if not self.left_out:  # as in records of earlier versions
            del values["left_out"]
        return values

    @cached_property
    def parts(self) -> dict[str, SegmentationDataset]:
        """The data set's parts: train, val and test, without a patient in common."""
        seed = self.protocol.split_seed
        place: dict[str, Any] = {"data": list(self.data) or None, "size": self.protocol.size}
        whole = load_dataset(self.dataset, split="all", **place, **self.rules.data)

        def split(dataset: SegmentationDataset, *names: str, **options: Any) -> dict[str, SegmentationDataset]:
            return {name: load_dataset(dataset, split=name, split_seed=seed, **options) for name in names}

        if self.fold is None and not self.left_out:
            parts = split(whole, "train", "val", "test")
        elif "test" in self.judged:
            rest, tested = self._without(whole) if self.left_out else self._folded(whole)
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

    def _without(self, dataset: SegmentationDataset) -> tuple[SegmentationDataset, SegmentationDataset]:
        """All patients but those whose names begin as said, and those."""
        inside = np.array([case.startswith(self.left_out) for case in dataset.cases])
        if inside.all() or not inside.any():
            which, example = "all" if inside.all() else "no", dataset.cases[0]
            raise OptionError(
                f"left out {self.left_out!r}: {which} patients' names begin so (one is {example!r}); expected what "
                "those of one institution begin with"
            )
        return dataset.subset(np.flatnonzero(~inside)), dataset.subset(np.flatnonzero(inside))

    def environment(
        self, part: str, horizon: int, coarse: Supervised | None = None, plain: bool = False
    ) -> PixelSegVectorEnv:
        """The vector environment of one part of the data.

        Args:
            part: "train", "val" or "test".
            horizon: steps of an episode.
            coarse: the U-Net whose maps a learner that refines starts from.
            plain: without what setting and learner change about the environment, for that U-Net itself.
        """
        dataset, learner = self.parts[part], self.learner
        place: dict[str, Any] = {}
        if self.protocol.device.startswith("cuda") and not learner.factory:  # whose `predict` takes arrays
            place = {"backend": "torch", "device": self.protocol.device}
        size = self.protocol.batch if part == "train" else min(self.protocol.batch, len(dataset))
        rules: dict[str, Any] = {} if plain else self.rules.env | learner.rules
        if coarse is not None:
            place["start"] = coarse.probability
        return PixelSegVectorEnv(size, dataset, split="all", horizon=horizon, **rules, **place)


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
    if not isinstance(before, dict) or not isinstance(before.get("protocol"), dict):
        raise DataError(f"{path}: not the record of a cell; choose another --out, or remove it")
    before["protocol"] = EARLIER | before["protocol"]
    if before != now:
        differs = (f"{key}: {before.get(key)} then, {now[key]} now" for key in now if before.get(key) != now[key])
        raise OptionError(
            f"{path}: was made with other options ({'; '.join(differs)}); choose another --out, or remove the record"
        )
    return True
