"""What one visitor plays: an image, the rules, and what was done so far, with a place in it to look at."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.lab.acting import Actor, Thoughts, decide
from pixelseg_agents.lab.episode import Episode, Map, Rules, play
from pixelseg_env import OptionError, SegmentationDataset


class Session:
    """A trajectory on one image that one can walk along, extend, and judge by other rules.

    The actions are what is kept. Every change of the rules plays them again: another reward re-scores the same
    trajectory, another transition shows what the same actions lead to. Of a change that cannot be made nothing stays.

    Args:
        dataset: of one label.
        index: which image.
        rules: of the game.

    Attributes:
        at: the step that is looked at, from 0 to the number of steps played.
        lock: to be held by whoever uses the session from several threads.

    Raises:
        OptionError: the data set has several labels, there is no such image, or the rules cannot be used.
    """

    def __init__(self, dataset: SegmentationDataset, index: int = 0, rules: Rules | None = None) -> None:
        self.lock = threading.RLock()
        self.at = 0
        self._settle(dataset, index, rules or Rules(), ())

    def _settle(
        self, dataset: SegmentationDataset, index: int, rules: Rules, actions: tuple[NDArray[Any], ...]
    ) -> None:
        if dataset.labels > 1:
            raise OptionError(
                f"data set {dataset.name!r} has {dataset.labels} labels, and the lab shows one; choose one "
                "(--dataset-option label=1)"
            )
        episode = play(dataset, index, rules, actions)
        self.dataset, self.index, self.rules, self.actions = dataset, index, rules, actions
        self.episode: Episode = episode
        self.at = min(self.at, len(actions))

    @property
    def name(self) -> str:
        """What the image is called."""
        return f"{self.dataset.cases[self.index]}, slice {self.dataset.slices[self.index]}"

    @property
    def over(self) -> bool:
        """Whether the step that is looked at is the last that the horizon allows."""
        return self.at >= self.rules.horizon

    @property
    def segmentation(self) -> Map:
        """The map at the step that is looked at, uint8 (H, W)."""
        return np.asarray(self.episode.maps[self.at])

    def choose(self, dataset: SegmentationDataset, index: int) -> None:
        """Takes another image, and begins anew."""
        self._settle(dataset, index, self.rules, ())
        self.at = 0

    def change(self, **rules: Any) -> None:
        """Judges the same actions by other rules; a shorter horizon drops those beyond it."""
        changed = replace(self.rules, **rules)
        self._settle(self.dataset, self.index, changed, self.actions[: changed.horizon])

    def step(self, action: NDArray[Any]) -> None:
        """Does one step from the one that is looked at; what had followed there is dropped.

        Args:
            action: (H, W) of 0 = zero and 1 = keep.

        Raises:
            OptionError: the episode is over.
        """
        if self.over:
            raise OptionError(f"the episode is over after {self.rules.horizon} steps; go back, or begin anew")
        taken = np.array(action, np.uint8)
        self._settle(self.dataset, self.index, self.rules, (*self.actions[: self.at], taken))
        self.at += 1

    def act(self, who: str | Actor, to_the_end: bool = False, sampled: bool = False) -> None:
        """Lets a strategy or an agent do one step, or all that are left."""
        while True:
            done = self.actions[: self.at]
            self.step(decide(who, self.dataset, self.index, self.rules, done, sampled))
            if not to_the_end or self.over:
                return

    def go(self, step: int) -> None:
        """Looks at a step; beyond either end, at that end."""
        self.at = max(0, min(step, len(self.actions)))

    def restart(self) -> None:
        """Forgets all actions."""
        self._settle(self.dataset, self.index, self.rules, ())

    def thoughts(self, who: Any) -> Thoughts:
        """What an agent makes of the state that is looked at; empty of anyone else."""
        if not isinstance(who, Actor):
            return Thoughts()
        who.check(self.dataset)
        seen = play(self.dataset, self.index, who.seen_by(self.rules), self.actions[: self.at])
        return who.thoughts(seen.image, seen.maps[-1], seen.observations[-1])
