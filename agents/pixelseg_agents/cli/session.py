"""One session of a training: the log, the progress bar, the checkpoints, and when to stop."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from pixelseg_agents.checkpoint import BEST, CHECKPOINT
from pixelseg_agents.cli.bar import progress_bar
from pixelseg_agents.cli.interruption import Interruption
from pixelseg_agents.cli.progress import RunLogger
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.files import write_atomically
from pixelseg_agents.team import ALONE, Team
from pixelseg_env import PixelSegError

STATE = "validation.json"  # how the validation scores went, for a session that resumes
SHOWN = {"train/reward": "reward", "train/dice": "dice", "eval/dice": "eval_dice"}


class Session:
    """Trains an agent up to its planned updates, a signal, or the end of its patience.

    After every evaluation on the validation patients the agent is kept as `best.safetensors` if it is the best so far;
    `checkpoint.safetensors` is always the last.

    Args:
        agent: the agent.
        arguments: of `pixelseg train`.
        folder: the run's.
        validation: the environment with the validation patients; None: without them.
        team: the processes that train together; the first one writes.

    Attributes:
        best: `{"updates", "dice"}` of the best evaluation so far; empty before the first.
        stopped_early: whether patience ended it.
    """

    def __init__(self, agent: Any, arguments: Any, folder: Path, validation: Any = None, team: Team = ALONE) -> None:
        self._team = team
        self._agent, self._arguments, self._folder, self._validation = agent, arguments, folder, validation
        self.best: dict[str, float] = {}
        self._without_gain = 0
        self._scores = [(step, dice) for step, dice in self._read_scores() if step <= agent.updates]
        for step, dice in self._scores:
            self._compare(step, dice)
        self.stopped_early = False
        tables, events = arguments.log == "stdout", arguments.tensorboard != "off"
        self._logger = RunLogger(folder, agent.updates, tables, self._before_row, arguments.wandb, events, team.first)
        self._saved, self._saved_updates = time.monotonic(), agent.updates

    def run(self) -> int:
        """Trains; returns the exit code: 0, or 128 plus the number of the signal that stopped it."""
        agent, arguments = self._agent, self._arguments
        shown = arguments.log == "bar" and self._team.first
        bar = progress_bar(arguments.updates, "update", shown, initial=agent.updates, desc=agent.name)
        with Interruption(self._team.first) as interruption, bar:

            def after_update(_: Any) -> bool:
                row = self._logger.last_row
                bar.set_postfix({label: f"{row[k]:.3f}" for k, label in SHOWN.items() if k in row}, refresh=False)
                bar.update(agent.updates - bar.n)
                due = time.monotonic() - self._saved >= arguments.save_every
                save, signal = self._team.largest(due, interruption.signal or 0)  # all do the same
                if save:
                    self._save()
                interruption.signal = signal or None
                return not signal and not self.stopped_early

            if agent.updates < arguments.updates:
                every, logger = arguments.log_interval, self._logger
                try:
                    agent.learn(arguments.updates, callback=after_update, log_interval=every, logger=logger)
                except PixelSegError as error:
                    raise type(error)(f"{error}\n{self._way_back()}") from error
            self._save()
        self._logger.finish(done=self.stopped_early or agent.updates >= arguments.updates)
        return interruption.exit_code

    def _way_back(self) -> str:
        workers, size = getattr(self._agent.config, "workers", 0), self._team.size
        repeats = workers <= 1 and self._agent.device.type == "cpu"  # else who comes first, or the GPU, decides
        start = "pixelseg" if size == 1 else f"torchrun --nproc-per-node {size} -m pixelseg_agents"
        return (
            f"The checkpoint of update {self._saved_updates} is kept: `{start} train --resume {self._folder}` goes on "
            f"from there{', and comes to the same' if repeats else ''}"
        )

    def _before_row(self, logger: Logger, step: int) -> None:
        interval, every = self._arguments.log_interval, self._arguments.eval_every
        row_before = (step - 1) // interval * interval
        if self._validation is None or not (step // every > row_before // every or step == self._arguments.updates):
            return
        dice = float(evaluate(self._agent, self._validation, keep_maps=False, team=self._team).metrics["DICE"].mean())
        logger.record("eval/dice", dice)
        self._scores.append((step, dice))
        if self._compare(step, dice):
            self._agent.save(self._folder / BEST)
        self.stopped_early = 0 < self._arguments.patience <= self._without_gain

    def _compare(self, step: int, dice: float) -> bool:
        """Whether an evaluation is the best so far; counts those without a gain."""
        if dice > self.best.get("dice", -1.0):
            self.best, self._without_gain = {"updates": step, "dice": dice}, 0
            return True
        self._without_gain += 1
        return False

    def _save(self) -> None:
        # The log and the scores first: killed in between, those beyond the checkpoint are dropped on resume.
        self._logger.save(self._agent.updates)
        state = {"best": self.best, "scores": self._scores}  # the best is for readers, and follows from them
        if self._team.first:
            write_atomically(self._folder / STATE, json.dumps(state) + "\n")
        self._agent.save(self._folder / CHECKPOINT)
        self._saved, self._saved_updates = time.monotonic(), self._agent.updates

    def _read_scores(self) -> list[tuple[int, float]]:
        """Every evaluation so far: the updates before it, and its Dice."""
        try:
            state = json.loads((self._folder / STATE).read_text(encoding="utf-8"))
            if "scores" not in state:  # of an older version, which kept the best and counted the rest
                if not (best := state.get("best")):
                    return []
                return [(best["updates"], best["dice"])] + [(best["updates"], -1.0)] * state["without_gain"]
            return [(int(step), float(dice)) for step, dice in state["scores"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []
