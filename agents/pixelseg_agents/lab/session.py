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
from pixelseg_env.dynamics import AMOUNTS


class Session:
    """A trajectory on one image that one can walk along, extend, and judge by other rules.

    The actions are what is kept. Every change of the rules plays them again: another reward re-scores the same
    trajectory, another transition shows what the same actions lead to. Of a change that cannot be made nothing stays.

    Args:
        dataset: where the images are from.
        index: which image.
        rules: of the game.

    Attributes:
        label: that is shown and painted, of several.
        at: the step that is looked at, from 0 to the number of steps played.
        lock: to be held by whoever uses the session from several threads.

    Raises:
        OptionError: there is no such image, or the rules cannot be used.
    """

    def __init__(self, dataset: SegmentationDataset, index: int = 0, rules: Rules | None = None) -> None:
        self.lock = threading.RLock()
        self.at = self.label = 0
        self._settle(dataset, index, rules or Rules(), ())

    def _settle(
        self, dataset: SegmentationDataset, index: int, rules: Rules, actions: tuple[NDArray[Any], ...]
    ) -> None:
        episode = play(dataset, index, rules, actions)
        self.dataset, self.index, self.rules, self.actions = dataset, index, rules, actions
        self.episode: Episode = episode
        self.at, self.label = min(self.at, len(actions)), min(self.label, dataset.labels - 1)

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
        """The map at the step that is looked at, of the label that is shown, uint8 (H, W)."""
        return np.asarray(self.shown.maps[self.at])

    @property
    def shown(self) -> Episode:
        """The episode as far as it concerns the label that is shown."""
        return self.episode.of_label(self.label)

    @property
    def idle(self) -> Map:
        """The actions that leave everything alone at the step that is looked at, uint8 ([L,] H, W)."""
        return self.rules.idle(self.episode.levels[self.at])

    def show_label(self, label: int) -> None:
        """Shows another label.

        Raises:
            OptionError: there is none of that number.
        """
        if not 0 <= label < self.dataset.labels:
            raise OptionError(f"label {label}: expected 0 to {self.dataset.labels - 1}")
        self.label = label

    def choose(self, dataset: SegmentationDataset, index: int) -> None:
        """Takes another image, and begins anew."""
        self._settle(dataset, index, self.rules, ())
        self.at = 0

    def change(self, **rules: Any) -> None:
        """Judges the same actions by other rules; a shorter horizon drops those beyond it.

        Zero and keep become the amounts that bring a pixel to 0 and to 1; an amount that adds becomes keep.
        """
        changed = replace(self.rules, **rules)
        actions = self.actions[: changed.horizon]
        if changed.graded != self.rules.graded:
            adds = np.array(AMOUNTS) > 0
            actions = tuple(changed.carried(adds[one] if self.rules.graded else one) for one in actions)
        self._settle(self.dataset, self.index, changed, actions)

    def step(self, action: NDArray[Any]) -> None:
        """Does one step from the one that is looked at; what had followed there is dropped.

        Args:
            action: ([L,] H, W) of 0 = zero and 1 = keep, or of numbers of amounts.

        Raises:
            OptionError: the episode is over.
        """
        if self.over:
            raise OptionError(f"the episode is over after {self.rules.horizon} steps; go back, or begin anew")
        taken = np.array(action, np.uint8)
        self._settle(self.dataset, self.index, self.rules, (*self.actions[: self.at], taken))
        self.at += 1

    def paint(self, action: NDArray[Any]) -> None:
        """Does one step by what was painted for the label that is shown; other labels are left alone.

        Args:
            action: (H, W).
        """
        taken = self.idle
        taken[self.label if taken.ndim == 3 else ...] = action
        self.step(taken)

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
        """What an agent makes of the state that is looked at, for the label that is shown; empty of anyone else."""
        if not isinstance(who, Actor):
            return Thoughts()
        who.check(self.dataset, self.rules)
        seen = play(self.dataset, self.index, who.seen_by(self.rules), self.actions[: self.at])
        found = who.thoughts(seen.image, seen.levels[-1], seen.observations[-1])
        return found.of_label(self.label, self.dataset.labels)
