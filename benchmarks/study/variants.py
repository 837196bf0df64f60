"""Tables of settings and of what was varied: one function each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.grid.statistics import share_that_gained
from benchmarks.grid.tables import Column, Table
from benchmarks.study.gradient_steps import steps_of
from benchmarks.study.learners import LEARNING, NETWORKS, PA3C_ON_UNET, SAME_NETWORK, SUBJECT
from benchmarks.study.reading import Record, Records, facts_of, mean, mean_after, patient_scores
from benchmarks.study.summaries import METRICS, SCORES

TABLE3 = {
    "no-sam-no-dilation": "neither",
    "no-dilation": "SAM",
    "no-sam": "dilation",
    "default": "SAM and dilation",
}
TABLE4 = {"50-shot": "50 images", "100-shot": "100 images", "default": "all images"}
CHANGES = {
    "default": "as in Table 2",
    "t_max-10": "t_max 10 throughout",
    "horizons-1-3-10": "horizons 1, 3, 10, as the other agents'",
    "no-foreground-weight": "no falling foreground weight",
    "no-augmentation": "no augmentation",
    "no-later-background-weight": "background weighs as much after step 1",
    "no-normalisation": "no normalisation",
    "previews": "every tenth update at the next t_max",
    "no-detail": "conv1-2 joins before the heads",
    "small-field": "small field of view: one block, no SAM, no dilation, heads at 1/2",
    "learning-rate-epochs": "published learning-rate schedule",
    "reward-map-convolution": "reward-map convolution, 9x9 (Eq. 8)",
    "published": "published preset, but for the width",
}
STEPS = (1, 2, 3, 5, 10)
STEP_SETTINGS = {
    "t_max-1": "trained at t_max 1",
    "t_max-5": "trained at t_max 5",
    "t_max-10": "trained at t_max 10",
    "no-later-background-weight": "background weighs the same later",
    "dice-gain": "rewarded by the gain in Dice",
    "restorable": "may take back",
    "stacked": "sees image and map",
    "restorable-stacked": "sees both, may take back",
    "small-field": "small field of view",
    "small-field-restorable-stacked": "small field of view, sees both, may take back",
}
ATTEMPTS = {
    "try-default": "PA3C as it is",
    "try-half-heads": "heads at 1/2 of the resolution",
    "try-full-heads": "heads at full resolution",
    "try-small-field": "small field of view: one block, no SAM, no dilation, heads at 1/2",
    "try-small-value-loss": "value coefficient 0.1",
}
OTHER_NETWORK = "AC's U-Net"
SEARCHED = {
    "tune-default": "defaults (learning rate 0.001)",
    "tune-learning-rate-low": "learning rate 0.0005",
    "tune-learning-rate-high": "learning rate 0.002",
    "tune-exploration-low": "entropy coefficient or last epsilon 0.005",
    "tune-exploration-high": "entropy coefficient 0.05, or last epsilon 0.1",
}


def variants(records: Records, title: str, rows: Mapping[str, str], agent: str = SUBJECT.name) -> Table:
    """Settings of one agent as rows, with all metrics."""
    table = Table(title, [*SCORES, Column("seeds", 0, 0)])
    for setting, name in rows.items():
        if found := records.get(agent, setting):
            table.rows[name] = [*(mean(found, metric) for metric in METRICS), float(len(found))]
    return table


def few_images(records: Records, title: str, rows: Mapping[str, str]) -> Table:
    """Settings, and in each of them every agent that was trained under another than the default, with all metrics."""
    others = {agent for setting in rows if setting != "default" for agent in records.agents(setting)}
    agents = [agent for agent in records.agents(None) if agent in others]
    table = Table(title, [*SCORES, Column("seeds", 0, 0)])
    for setting, said in rows.items():
        for agent in agents:
            if found := records.get(agent, setting):
                name = f"{records.label(agent)}, {said}"
                table.rows[name] = [*(mean(found, metric) for metric in METRICS), float(len(found))]
                table.groups[name] = said
                if not records.facts(agent).competes:
                    table.apart.add(name)
    table.note = "Bold: the best agent with as many images, underlined: the second."
    return table


def changes(records: Records, title: str, rows: Mapping[str, str]) -> Table:
    """What each of PA3C's settings is worth; validation first, for it is what decides."""
    names = ("DICE, validation", "DICE, test", "BIoU, test")
    gains = (Column("gain, validation", 3, 0), Column("gain, test", 3, 0))
    given = (Column("gradient steps", 0, 0), Column("CPU minutes", 1, 0), Column("seeds", 0, 0))
    table = Table(title, [*map(Column, names), *gains, *given])
    first: dict[int, Record] = {}
    for setting, name in rows.items():
        if not (found := records.get(SUBJECT.name, setting)):
            continue
        scores = (mean(found, "DICE", "val"), mean(found, "DICE"), mean(found, "BIoU"))
        shared = [(r, first[r["cell"]["seed"]]) for r in found if r["cell"]["seed"] in first]
        gained = [
            mean([r for r, _ in shared], "DICE", part) - mean([r for _, r in shared], "DICE", part) if shared else None
            for part in ("val", "test")
        ]
        minutes = float(np.mean([r["seconds"]["cpu"] for r in found])) / 60
        table.rows[name] = [*scores, *gained, steps_of(found), minutes, float(len(found))]
        first = first or {r["cell"]["seed"]: r for r in found}
    table.note = (
        "Gains are in Dice, over the first row's trainings with the same seeds. All have as many network passes, and "
        "the fewer gradient steps the longer their episodes are."
    )
    return table


def learning_by_network(records: Records, title: str) -> Table:
    """The same networks under several learners: what is the network's share, and what the learner's?"""
    said = ("DICE, validation", "DICE, test", "BIoU, test")
    table = Table(title, [*(Column(f"{net}, {m}") for net in NETWORKS for m in said), Column("seeds", 0, 0)])
    agents = {name: [one.name for one in pair] for name, pair in LEARNING.items()}
    by_rewards = [name for name, pair in agents.items() if not records.facts(pair[0]).supervised]
    rows = {name: (agents[name], "default", -1) for name in by_rewards}
    rows |= {f"{name}, trained at t_max 1": (agents[name], "t_max-1", 0) for name in by_rewards}
    rows |= {name: (pair, "default", -1) for name, pair in agents.items() if name not in by_rewards}
    for name, (pair, setting, step) in rows.items():
        found = [records.get(agent, setting) for agent in pair]
        if all(found):
            judged = (("val", "dice"), ("test", "dice"), ("test", "biou"))
            scores = [mean_after(one, step, part, score) for one in found for part, score in judged]
            table.rows[name] = [*scores, float(min(map(len, found)))]
    table.apart = (agents.keys() - by_rewards) & table.rows.keys()
    table.note = (
        "After the last step, but after the first of agents trained at t_max 1, which know no other. The U-Net has two "
        "decoders, for policy and value, but with cross-entropy one. A learner has the hyperparameters that were found "
        "for it on its own network."
    )
    return table


def step_by_step(records: Records, title: str) -> Table:
    """Whether later steps improve the map: Dice after some steps, of agents and of PA3C's network under settings."""
    columns = [Column("start", 3, 0), *(Column(f"step {step}") for step in STEPS), Column("last less first", 3, 0)]
    columns += [
        Column("better after the last", 2, 0),
        *(Column(f"validation, {one}", 3, 0) for one in ("first", "last")),
    ]
    table = Table(title, [*columns, Column("seeds", 0, 0)])
    learners = [agent for agent in records.agents() if not records.facts(agent).reference]
    rows = {records.label(agent): (agent, records.get(agent)) for agent in learners}
    for setting, name in STEP_SETTINGS.items():
        for agent in (one.name for one in SAME_NETWORK):
            rows[f"{records.label(agent)}, {name}"] = agent, records.get(agent, setting)
    table.apart = {name for name, (agent, found) in rows.items() if found and records.facts(agent).supervised}
    for name, (_, found) in rows.items():
        if not found:
            continue
        curves = [r["test"].get("longer", r["test"]["summary"])["dice_by_step"] for r in found]
        curve = np.mean(curves, axis=0)
        start = np.mean([r["test"]["coarse_dice"] for r in found]) if "coarse_dice" in found[0]["test"] else None
        values: list[Any] = [start, *(float(curve[k - 1]) if k <= len(curve) else None for k in STEPS)]
        watched: list[Any] = [mean_after(found, 0, "val", "dice"), None]
        if len(curve) > 1:
            watched[1] = mean_after(found, -1, "val", "dice")
            last, first = patient_scores(found), patient_scores(found, first_step=True)
            steps = found[0]["cell"]["protocol"]["horizon"]
            table.rows[name] = [*values, float(curve[steps - 1] - curve[0]), share_that_gained(last, first)]
        else:
            table.rows[name] = [*values, None, None]
        table.rows[name] += [*watched, float(len(found))]
    table.note = (
        "Dice over test images, means over seeds, of agents and of variants; one number alone is a network that looks "
        "once. *Start*: the map that PixelRL begins with. *Better after the last*: the share of patients whose mean "
        "Dice is higher after the last step than after step 1 of the same network; ties count half. *Validation*: Dice "
        "over validation images after the first and the last step."
    )
    return table


def attempts(records: Records, title: str) -> Table:
    """What was tried to improve PA3C, over folds of the patients that are not tested on."""
    names = ("DICE, first step", "DICE", "BIoU", "gain in DICE")
    columns = [*map(Column, names), Column("folds that gain", 0, 0)]
    table = Table(title, [*columns, Column("CPU minutes", 1, 0), Column("folds", 0, 0)])
    before: dict[int, float] = {}
    tried = [(SUBJECT.name, setting, name) for setting, name in ATTEMPTS.items()]
    for agent, setting, name in [*tried, (PA3C_ON_UNET.name, "try-default", OTHER_NETWORK)]:
        if not (found := records.get(agent, setting, folds=True)):
            continue
        scores = [mean_after(found, step, "val", score) for step, score in ((0, "dice"), (-1, "dice"), (-1, "biou"))]
        last = {r["cell"]["fold"]: r["val"]["summary"]["dice_by_step"][-1] for r in found}
        gains = [last[fold] - before[fold] for fold in last if fold in before]
        compared: list[Any] = [float(np.mean(gains)), float(sum(gain > 0 for gain in gains))] if gains else [None] * 2
        minutes = float(np.mean([r["seconds"]["cpu"] for r in found])) / 60
        table.rows[name] = [*scores, *compared, minutes, float(len(found))]
        before = before or last
    table.note = (
        "Means over the folds' validation images; folds of the patients that are not tested on. Gains are over the "
        "first row's trainings on the same patients."
    )
    return table


def searched(scores: dict[str, dict[str, float]], dataset: str) -> Table:
    """What the search tried: settings as rows, agents as columns.

    Args:
        scores: agent to setting to Dice, as `tuned.json` has it.
        dataset: its data set.
    """
    columns = [Column(facts_of(agent).label) for agent in scores]
    table = Table(f"The search on {dataset}: Dice on validation images", columns)
    for setting, name in SEARCHED.items():
        if any(setting in tried for tried in scores.values()):
            table.rows[name] = [tried.get(setting) for tried in scores.values()]
    table.note = (
        "Half of the passes, seed 0. The best of each agent, in bold, is what its later runs have (tuned.json has more "
        "digits)."
    )
    return table
