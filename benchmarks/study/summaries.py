"""What records say, as tables: one function each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.grid.statistics import (
    Scores,
    difference,
    interquartile_mean,
    interval,
    probability_of_improvement,
    share_that_gained,
)
from benchmarks.grid.tables import Column, Table
from benchmarks.study.settings import CROSSED, LOOK_ONCE, REFERENCES, SUPERVISED

Record = dict[str, Any]
NAMES = {
    "random": "random",
    "keep-all": "keep everything",
    "otsu": "Otsu's threshold",
    "oracle": "oracle",
    "pa3c": "PA3C",
    "ac": "AC",
    "dqn": "DQN",
    "double-dqn": "Double DQN",
    "dueling-dqn": "Dueling DQN",
    "pixelrl": "PixelRL",
    "pixelrl-cross-entropy": "PixelRL, cross-entropy",
    "unet": "U-Net, supervised",
    "twin-plain": "PA3C's twin, supervised",
    "twin-steps": "PA3C's twin, supervised, ten looks",
}
# Who learns, on which two networks, under which setting, and the step that counts.
LEARNING = {
    "PA3C's learning": (("pa3c", "pa3c-on-unet"), "default", -1),
    "AC's learning": (("ac-on-pa3c", "ac"), "default", -1),
    "PA3C's learning, trained at t_max 1": (("pa3c", "pa3c-on-unet"), "t_max-1", 0),
    "AC's learning, trained at t_max 1": (("ac-on-pa3c", "ac"), "t_max-1", 0),
    "cross-entropy": (("twin-plain", "unet"), "default", -1),
}
METRICS = ("DICE", "PPV", "SEN", "IoU", "BIoU", "HD95")
SCORES = [Column(name, 1 if name == "HD95" else 3, -1 if name == "HD95" else 1) for name in METRICS]
STEPS = (1, 2, 3, 5, 10)
STEP_SETTINGS = {
    ("pa3c", "t_max-1"): "trained at t_max 1",
    ("pa3c", "t_max-5"): "trained at t_max 5",
    ("pa3c", "t_max-10"): "trained at t_max 10",
    ("pa3c", "no-later-background-weight"): "background weighs the same later",
    ("pa3c", "dice-gain"): "rewarded by the gain in Dice",
    ("pa3c", "restorable"): "may take back",
    ("pa3c", "stacked"): "sees image and map",
    ("pa3c", "restorable-stacked"): "sees both, may take back",
    ("pa3c", "small-field"): "small field of view",
    ("twin-plain", "small-field"): "small field of view",
    ("pa3c", "small-field-restorable-stacked"): "small field of view, sees both, may take back",
}
ATTEMPTS = {
    ("pa3c", "try-default"): "PA3C as it is",
    ("pa3c", "try-half-heads"): "heads at 1/2 of the resolution",
    ("pa3c", "try-full-heads"): "heads at full resolution",
    ("pa3c", "try-small-field"): "small field of view: one block, no SAM, no dilation, heads at 1/2",
    ("pa3c", "try-small-value-loss"): "value coefficient 0.1",
    ("pa3c-on-unet", "try-default"): "AC's U-Net",
}
SEARCHED = {
    "tune-default": "defaults (learning rate 0.001)",
    "tune-learning-rate-low": "learning rate 0.0005",
    "tune-learning-rate-high": "learning rate 0.002",
    "tune-exploration-low": "entropy coefficient or last epsilon 0.005",
    "tune-exploration-high": "entropy coefficient 0.05, or last epsilon 0.1",
}


class Records:
    """The records of one data set.

    Args:
        records: as `cells.Cell.run` makes them.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._found: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            cell = record["cell"]
            self._found[cell["agent"], cell["setting"]].append(record)

    def get(self, agent: str, setting: str = "default", folds: bool = False) -> list[Record]:
        """The records of an agent under a setting, by seed; those of folds apart."""
        found = [r for r in self._found.get((agent, setting), []) if (r["cell"]["fold"] is not None) == folds]
        return sorted(found, key=lambda r: (r["cell"]["fold"] or 0, r["cell"]["seed"]))

    def agents(self, setting: str | None = "default", folds: bool = False) -> list[str]:
        """The agents that have records under a setting, None: under any; in the order of `NAMES`, others after them.

        Learners with another's network are left out.
        """
        present = {agent for agent, found in self._found if setting in (None, found) and self.get(agent, found, folds)}
        present -= CROSSED.keys()
        return [name for name in NAMES if name in present] + sorted(present - set(NAMES))


def mean(records: Sequence[Record], metric: str, part: str = "test", kind: str = "mean") -> float:
    """The mean over seeds of a metric's mean over images, or over patients (`kind="patient_mean"`)."""
    return float(np.mean([r[part]["summary"]["metrics"][metric][kind] for r in records]))


def mean_after(records: Sequence[Record], step: int, part: str, score: str) -> float:
    """The mean over trainings of "dice" or "biou" after a step of the test episodes, 0 the first and -1 the last."""
    return float(np.mean([r[part]["summary"][f"{score}_by_step"][step] for r in records]))


def patient_scores(
    records: Sequence[Record], metric: str = "DICE", part: str = "test", first_step: bool = False
) -> Scores:
    """Seed by patient: the mean of each patient's images; of the Dice after the first step if asked."""
    rows = []
    for record in records:
        images = record[part]["images"]
        patients, member = np.unique(images["case"], return_inverse=True)
        values = record[part]["first_step_dice"] if first_step else images[metric]
        rows.append(np.bincount(member, values) / np.bincount(member))
        assert len(patients) == len(rows[0])
    return np.array(rows)


def comparison(records: Records, title: str, kind: str = "mean") -> Table:
    """Table 2: every agent, six metrics, parameters; means over images, or over patients (`kind="patient_mean"`)."""
    table = Table(title, [*SCORES, Column("parameters, M", 2, 0), Column("seeds", 0, 0)])
    for agent in records.agents():
        name, found = name_of(agent), records.get(agent)
        parameters = found[0].get("parameters")
        if parameters is not None:
            parameters = (parameters + found[0].get("coarse", {}).get("parameters", 0)) / 1e6
        table.rows[name] = [*(mean(found, metric, kind=kind) for metric in METRICS), parameters, float(len(found))]
        if agent in (*REFERENCES, *SUPERVISED):
            table.apart.add(name)
    table.note = (
        f"Means over {'test patients' if kind == 'patient_mean' else 'test images'} and seeds. Bold: the best agent, "
        "underlined: the second; references and supervised networks stand beside them. PixelRL's parameters are with "
        "the U-Net that makes its coarse maps."
    )
    return table


def certainty(records: Records, title: str, against: str = "pa3c") -> Table:
    """What the seeds say: interquartile mean of the patients' Dice, its interval, and who is probably better."""
    names = ("IQM", "low", "high", "range of seeds", f"less {name_of(against)}", "from", "to")
    columns = [Column(name, 3, 0) for name in names]
    table = Table(title, [*columns, Column(f"P(better than {name_of(against)})", 2, 0), Column("seeds", 0, 0)])
    reference = records.get(against)
    for agent in records.agents():
        if agent in REFERENCES:
            continue
        name, found = name_of(agent), records.get(agent)
        scores = patient_scores(found)
        compared: list[Any] = [None] * 4
        if agent != against and reference:
            others = patient_scores(reference)
            compared = [*difference(scores, others), probability_of_improvement(scores, others)]
        means = [mean([r], "DICE") for r in found]
        spread = max(means) - min(means) if len(means) > 1 else None
        if agent in SUPERVISED:
            table.apart.add(name)
        table.rows[name] = [interquartile_mean(scores), *interval(scores), spread, *compared, float(len(found))]
    table.note = (
        "*IQM*: interquartile mean over seeds and patients of the patients' mean Dice; *low* and *high*: its 95 % "
        "interval by the bootstrap over seeds, each drawn whole, which with three is nearly their range. *Range of "
        "seeds*: of the mean over images. *Less PA3C*: the difference of the patients' means, *from* and *to* its 95 % "
        "interval by the paired bootstrap over patients, where there are enough. *P*: that a seed of this row beats a "
        "seed of PA3C on the same patient."
    )
    return table


def budgets(records: Records, title: str) -> Table:
    """What every agent was given: passes, visits, steps, time, memory."""
    names = ["network passes", "image visits", "environment steps", "updates"]
    times = [Column("CPU minutes", 1, 0), Column("wall minutes", 1, 0), Column("peak MiB", 0, 0)]
    table = Table(title, [*(Column(n, 0, 0) for n in names), *times])
    for agent in records.agents():
        name, found = name_of(agent), [r for r in records.get(agent) if "image_passes" in r]
        if found:
            keys = ("image_passes", "image_visits", "environment_steps", "updates")
            counts: list[Any] = [float(np.mean([r[key] for r in found])) for key in keys]
            if agent in LOOK_ONCE:
                counts[2] = None  # it is shown images, and plays no episodes
            minutes = [float(np.mean([r["seconds"][clock] for r in found])) / 60 for clock in ("cpu", "wall")]
            table.rows[name] = [*counts, *minutes, float(max(r["peak_mib"] for r in found))]
    table.note = (
        "PixelRL's passes, visits and minutes are with those of the U-Net that makes its coarse maps, steps and "
        "updates without. A network that looks once plays no steps. AC and the DQNs take a gradient step "
        "after each step of a batch (environment steps by batch), the others one per update; a DQN's replayed images "
        "are passes, not visits."
    )
    return table


def variants(records: Records, title: str, agents: Sequence[str], rows: dict[str, str], by_agent: bool) -> Table:
    """Settings of one agent as rows with all metrics, or of several agents with one column of Dice for each."""
    if not by_agent:
        table = Table(title, [*SCORES, Column("seeds", 0, 0)])
        for setting, name in rows.items():
            if one := records.get(agents[0], setting):
                table.rows[name] = [*(mean(one, metric) for metric in METRICS), float(len(one))]
        return table
    columns = [Column(f"{name_of(agent)}, {m}", 3, 0) for agent in agents for m in ("DICE", "BIoU")]
    table = Table(title, [*columns, Column("seeds", 0, 0)])
    for setting, name in rows.items():
        found = {agent: records.get(agent, setting) for agent in agents}
        if any(found.values()):
            table.rows[name] = [
                *(mean(one, m) if one else None for one in found.values() for m in ("DICE", "BIoU")),
                float(min(len(one) for one in found.values() if one)),
            ]
    return table


def changes(records: Records, title: str, rows: dict[str, str]) -> Table:
    """What each of PA3C's settings is worth; validation first, for it is what decides."""
    names = ("DICE, validation", "DICE, test", "BIoU, test")
    gains = (Column("gain, validation", 3, 0), Column("gain, test", 3, 0))
    table = Table(title, [*map(Column, names), *gains, Column("CPU minutes", 1, 0), Column("seeds", 0, 0)])
    first: dict[int, Record] = {}
    for setting, name in rows.items():
        if not (found := records.get("pa3c", setting)):
            continue
        scores = (mean(found, "DICE", "val"), mean(found, "DICE"), mean(found, "BIoU"))
        shared = [(r, first[r["cell"]["seed"]]) for r in found if r["cell"]["seed"] in first]
        gained = [
            mean([r for r, _ in shared], "DICE", part) - mean([r for _, r in shared], "DICE", part) if shared else None
            for part in ("val", "test")
        ]
        minutes = float(np.mean([r["seconds"]["cpu"] for r in found])) / 60
        table.rows[name] = [*scores, *gained, minutes, float(len(found))]
        first = first or {r["cell"]["seed"]: r for r in found}
    table.note = "Gains are in Dice, over the first row's trainings with the same seeds."
    return table


def learning_by_network(records: Records, title: str) -> Table:
    """The same networks under several learners: what is the network's share, and what the learner's?"""
    said = ("DICE, validation", "DICE, test", "BIoU, test")
    columns = [Column(f"{net}, {m}") for net in ("PA3C's network", "U-Net") for m in said]
    table = Table(title, [*columns, Column("seeds", 0, 0)])
    for name, (agents, setting, step) in LEARNING.items():
        found = [records.get(agent, setting) for agent in agents]
        if all(found):
            judged = (("val", "dice"), ("test", "dice"), ("test", "biou"))
            scores = [mean_after(one, step, part, score) for one in found for part, score in judged]
            table.rows[name] = [*scores, float(min(map(len, found)))]
            if agents[0] in SUPERVISED:
                table.apart.add(name)
    table.note = (
        "After the last step, but after the first of agents trained at t_max 1, which know no other. The U-Net has two "
        "decoders, for policy and value, but with cross-entropy one. A learner has the hyperparameters that were found "
        "for it on its own network."
    )
    return table


def step_by_step(records: Records, title: str) -> Table:
    """Whether later steps improve the map: Dice after some steps, of every agent and of PA3C under each setting."""
    columns = [Column("start", 3, 0), *(Column(f"step {step}") for step in STEPS), Column("last less first", 3, 0)]
    columns += [
        Column("better after the last", 2, 0),
        *(Column(f"validation, {one}", 3, 0) for one in ("first", "last")),
    ]
    table = Table(title, [*columns, Column("seeds", 0, 0)])
    rows = {name_of(agent): records.get(agent) for agent in records.agents() if agent not in REFERENCES}
    for (agent, setting), name in STEP_SETTINGS.items():
        rows[f"{name_of(agent)}, {name}"] = records.get(agent, setting)
    table.apart = {name for name, found in rows.items() if found and found[0]["cell"]["agent"] in SUPERVISED}
    for name, found in rows.items():
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


def folds(records: Records, title: str) -> Table:
    """Table 6: mean and standard deviation over the five folds."""
    table = Table(title, [*SCORES, Column("folds", 0, 0)])
    for agent in records.agents(folds=True):
        found = records.get(agent, folds=True)
        values = {m: [r["test"]["summary"]["metrics"][m]["mean"] for r in found] for m in METRICS}
        spread = [(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0) for v in values.values()]
        table.rows[name_of(agent)] = [*spread, float(len({r["cell"]["fold"] for r in found}))]
        if agent in (*REFERENCES, *SUPERVISED):
            table.apart.add(name_of(agent))
    table.note = (
        "Mean and standard deviation (n - 1) over folds, each a fifth of the patients. All have their defaults."
    )
    return table


def attempts(records: Records, title: str) -> Table:
    """What was tried to improve PA3C, over folds of the patients that are not tested on."""
    names = ("DICE, first step", "DICE", "BIoU", "gain in DICE")
    columns = [*map(Column, names), Column("folds that gain", 0, 0)]
    table = Table(title, [*columns, Column("CPU minutes", 1, 0), Column("folds", 0, 0)])
    before: dict[int, float] = {}
    for (agent, setting), name in ATTEMPTS.items():
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
    table = Table(f"The search on {dataset}: Dice on validation images", [Column(name_of(agent)) for agent in scores])
    for setting, name in SEARCHED.items():
        if any(setting in tried for tried in scores.values()):
            table.rows[name] = [tried.get(setting) for tried in scores.values()]
    table.note = (
        "Half of the passes, seed 0. The best of each agent, in bold, is what its later runs have (tuned.json has more "
        "digits)."
    )
    return table


def name_of(agent: str) -> str:
    """An agent's name for readers; one of their own has its module and factory."""
    return NAMES.get(agent, agent)
