"""Who is there: every visitor has a game and at most one training, and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelseg_agents.lab.acting import OTSU, STRATEGIES, Actor
from pixelseg_agents.lab.lessons import LESSONS, Lesson, Step
from pixelseg_agents.lab.rewards import checked
from pixelseg_agents.lab.session import Session
from pixelseg_agents.lab.training import Settings, Training
from pixelseg_agents.lab.uploads import read_upload
from pixelseg_env import OptionError, SegmentationDataset

TRAINED = "trained"
UPLOAD = "Your own"
RUN = "run "


@dataclass(frozen=True)
class Host:
    """What whoever starts the lab has chosen; nothing of it is a visitor's to change.

    Attributes:
        datasets: by title; the first one is shown first.
        agents: trained ones.
        rewards: the names that visitors may use, see `pixelseg_agents.lab.rewards.offered`.
        size: (H, W) that uploads are brought to.
        seconds: of one training at most.
        trainings: that go on at the same time at most.
        visitors: that are remembered at most; who has been away longest is forgotten first.
    """

    datasets: Mapping[str, SegmentationDataset]
    agents: Sequence[Actor] = ()
    rewards: Sequence[str] = ()
    size: tuple[int, int] = (64, 64)
    seconds: float = 120.0
    trainings: int = 1
    visitors: int = 50


class Visitor:
    """One visitor's game.

    Attributes:
        session: see `Session`.
        training: the last one; None: there was none.
        who: the strategy or agent that was chosen last, a key of `actors`.
        lesson: that is done; None: none is.
        step: of the lesson; one beyond the last is its question.
        tab: of the page, "play" or "train", that is to be shown next; None: as it is.
    """

    def __init__(self, host: Host, turns: threading.Semaphore) -> None:
        self.host, self._turns = host, turns
        self.title = next(iter(host.datasets))
        self.session = Session(host.datasets[self.title])
        self.uploaded: SegmentationDataset | None = None
        self.training: Training | None = None
        self.who = OTSU
        self.lesson: Lesson | None = None
        self.step = 0
        self.tab: str | None = None
        self.came = time.monotonic()

    # ---------------------------------------------------------------- who acts

    def actors(self) -> dict[str, str]:
        """Who can act: keys and titles."""
        found = dict(STRATEGIES)
        found |= {f"{RUN}{number}": agent.title for number, agent in enumerate(self.host.agents)}
        if self.training is not None and self.training.agent is not None:
            found[TRAINED] = "The agent that you trained here"
        return found

    def actor(self) -> str | Actor:
        """Who was chosen: a strategy's name, or an agent.

        Raises:
            OptionError: there is nobody of that name.
        """
        if self.who not in self.actors():
            raise OptionError(f"{self.who!r} is nobody that can act here")
        if self.who == TRAINED:
            assert self.training is not None
            return Actor("The agent that you trained here", self.training.agent)
        if self.who.startswith(RUN):
            return self.host.agents[int(self.who.removeprefix(RUN))]
        return self.who

    # ---------------------------------------------------------------- picture and rules

    def choose(self, title: str, index: int) -> None:
        """Takes an image of one of the host's data sets, or of the visitor's upload.

        Raises:
            OptionError: there is no such image.
        """
        dataset = self.uploaded if title == UPLOAD else self.host.datasets.get(title)
        if dataset is None:
            raise OptionError(f"{title!r} is no data set here")
        if not 0 <= index < len(dataset):
            raise OptionError(f"image {index}: expected 0 to {len(dataset) - 1}")
        self.session.choose(dataset, index)
        self.title = title

    def upload(self, image: Any, mask: Any) -> None:
        """Takes a picture and mask of the visitor's own.

        Args:
            image: where the server has put it; the file is deleted.
            mask: likewise.

        Raises:
            DataError: see `read_upload`.
        """
        try:
            self.uploaded = read_upload(image, mask, self.host.size)
        finally:
            for path in (image, mask):
                if path is not None:
                    Path(path).unlink(missing_ok=True)
        self.choose(UPLOAD, 0)

    def reward(self, text: str) -> None:
        """Judges by another reward, in the game and in a training that goes on.

        Raises:
            OptionError: it is not allowed, see `checked`.
        """
        self.rules(reward=checked(text, self.host.rewards))

    def rules(self, **rules: Any) -> None:
        """Changes the rules; those of a training that goes on as far as they can be changed."""
        self.session.change(**rules)
        going_on = {name: rules[name] for name in ("reward", "gamma") if name in rules}
        if self.training is not None and self.training.alive and going_on:
            self.training.change(**going_on)

    # ---------------------------------------------------------------- training

    def train(self, entropy: float = 0.02) -> None:
        """Begins a training by the rules as they are; one that went on ends."""
        self.stop()
        if self.who == TRAINED:  # that agent goes with its training
            self.who = OTSU
        settings = Settings(self.session.rules, entropy=entropy)
        self.training = Training(settings, self.host.seconds, self._turns)

    def reweigh(self, entropy: float) -> None:
        """Goes on with another weight of the policy's entropy, in a training that goes on."""
        if self.training is not None and self.training.alive:
            self.training.reweigh(entropy=entropy)

    def stop(self) -> None:
        """Ends a training."""
        if self.training is not None:
            self.training.stop()

    # ---------------------------------------------------------------- lessons

    def begin(self, number: int | None) -> None:
        """Begins a lesson; None: leaves it."""
        self.lesson, self.step = (None if number is None else LESSONS[number]), 0

    def turn(self, by: int) -> None:
        """Goes on in a lesson, or back."""
        if self.lesson is not None:
            self.step = max(0, min(len(self.lesson.steps), self.step + by))

    def do_step(self) -> None:
        """Does what the lesson's step says."""
        if self.lesson is not None and self.step < len(self.lesson.steps):
            self.do(self.lesson.steps[self.step])

    def do(self, step: Step) -> None:
        """Does what a step says."""
        rules = dict(step.rules)
        if step.who is not None:
            self.session.restart()
        self.rules(**rules)
        if step.who is not None:
            self.who = step.who
            self.session.act(step.who, to_the_end=True)
        if step.train:
            self.train()
        self.tab = "train" if step.train or step.goes_on else "play"


@dataclass
class Visitors:
    """The visitors of a server, by the key of their browser's session."""

    host: Host
    clock: Callable[[], float] = time.monotonic
    _there: dict[str, Visitor] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._turns = threading.Semaphore(self.host.trainings)

    def of(self, key: str) -> Visitor:
        """The visitor of a session; a new one if there was none."""
        with self._lock:
            visitor = self._there.get(key)
            if visitor is None:
                while len(self._there) >= self.host.visitors:
                    self._forget(min(self._there, key=lambda one: self._there[one].came))
                visitor = self._there[key] = Visitor(self.host, self._turns)
            visitor.came = self.clock()
            return visitor

    def leave(self, key: str) -> None:
        """Forgets a visitor and ends what was trained for them."""
        with self._lock:
            self._forget(key)

    def all(self) -> list[Visitor]:
        """Everyone who is there."""
        with self._lock:
            return list(self._there.values())

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            for key in list(self._there):
                self._forget(key)

    def _forget(self, key: str) -> None:
        visitor = self._there.pop(key, None)
        if visitor is not None:
            visitor.stop()

    def __len__(self) -> int:
        return len(self._there)
