"""How many gradient steps a training took: equal passes are not equal steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.grid.tables import Column, Table
from benchmarks.study import STUDY
from benchmarks.study.learners import STEP_BY_STEP
from benchmarks.study.reading import Record, Records, mean_after

TRAINED_AT = {"default": None, "t_max-1": 1, "t_max-5": 5, "t_max-10": 10}
"""Settings of one t_max, and that, beside the default."""
JUDGED = (("val", "dice"), ("test", "dice"), ("test", "biou"))


def gradient_steps(record: Record) -> int | None:
    """The gradient steps of a training, with those of the network that made its coarse maps.

    Earlier records do not say them. What the study lists takes one an update, or one for each step of a batch once
    its replay is full enough; of anybody else's agent it is not known.

    Args:
        record: of a cell, with `updates`.
    """
    if "gradient_steps" in record:
        return int(record["gradient_steps"])
    agent, updates = record["cell"]["agent"], int(record["updates"])
    if not STUDY.has(agent):
        return None
    if agent not in {one.name for one in STEP_BY_STEP}:
        return updates + int(record.get("coarse", {}).get("updates", 0))
    config = STUDY.learner(agent).kind.config_class.from_dict(record["config"])
    plan, batch = config.schedule(updates), record["cell"]["protocol"]["batch"]
    first, every = getattr(config, "learning_starts", 0), getattr(config, "train_every", 1)
    steps = held = before = 0
    for horizon in map(plan.horizon, range(updates)):
        held = held if horizon == before else 0  # the replay starts anew when t_max changes
        before = horizon
        for step in range(1, horizon + 1):
            held += batch
            steps += held >= first and step % every == 0
    return steps


def steps_of(records: Sequence[Record]) -> float | None:
    """The mean over trainings of their gradient steps; None where they are not known."""
    counted = [gradient_steps(one) for one in records]
    known = [one for one in counted if one is not None]
    return float(np.mean(known)) if known and len(known) == len(counted) else None


def teaching(records: Records, title: str) -> Table:
    """What the same passes are in gradient steps, and what came of them: agents as they are, and with one t_max."""
    names = ("network passes", "gradient steps", "passes per gradient step")
    scores = [Column(name) for name in ("DICE, validation", "DICE, test", "BIoU, test")]
    table = Table(title, [*(Column(name, 0, 0) for name in names), *scores, Column("seeds", 0, 0)])
    for agent in records.agents(None):
        for setting, t_max in TRAINED_AT.items():
            found = [one for one in records.get(agent, setting) if "image_passes" in one]
            if not found or (steps := steps_of(found)) is None:
                continue
            passes = float(np.mean([one["image_passes"] for one in found]))
            played = len(found[0]["test"]["summary"]["dice_by_step"])
            judged = [mean_after(found, min(t_max or played, played) - 1, part, score) for part, score in JUDGED]
            name = records.label(agent) + (f", trained at t_max {t_max}" if t_max else "")
            table.rows[name] = [passes, steps, passes / steps if steps else None, *judged, float(len(found))]
            if not records.facts(agent).competes:
                table.apart.add(name)
    table.note = (
        "Equal passes are not equal gradient steps: an update of PA3C is one step for whole episodes, AC and the DQNs "
        "take one after each step of a batch, and what a DQN replays are passes, too. PixelRL's are with those of the "
        "U-Net that makes its coarse maps. Scores after as many steps as the training played at last."
    )
    return table
