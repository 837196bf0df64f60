"""Tables of all agents, and of what each was given: one function each."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.grid.statistics import difference, interquartile_mean, interval, probability_of_improvement
from benchmarks.grid.tables import Column, Table
from benchmarks.study.gradient_steps import steps_of
from benchmarks.study.learners import SUBJECT
from benchmarks.study.reading import Records, mean, patient_scores

METRICS = ("DICE", "PPV", "SEN", "IoU", "BIoU", "HD95")
SCORES = [Column(name, 1 if name == "HD95" else 3, -1 if name == "HD95" else 1) for name in METRICS]


def comparison(records: Records, title: str, kind: str = "mean") -> Table:
    """Table 2: every agent, six metrics, parameters; means over images, or over patients (`kind="patient_mean"`)."""
    widths = {agent: records.get(agent)[0].get("config", {}).get("width") for agent in records.agents()}
    several = len(set(widths.values()) - {None}) > 1
    more = [Column("width", 3, 0)] if several else []
    table = Table(title, [*SCORES, Column("parameters, M", 2, 0), *more, Column("seeds", 0, 0)])
    for agent in records.agents():
        name, found = records.label(agent), records.get(agent)
        parameters = found[0].get("parameters")
        if parameters is not None:
            parameters = (parameters + found[0].get("coarse", {}).get("parameters", 0)) / 1e6
        scores = [mean(found, metric, kind=kind) for metric in METRICS]
        table.rows[name] = [*scores, parameters, *([widths[agent]] if several else []), float(len(found))]
        if not records.facts(agent).competes:
            table.apart.add(name)
    table.note = (
        f"Means over {'test patients' if kind == 'patient_mean' else 'test images'} and seeds. Bold: the best agent, "
        "underlined: the second; references and supervised networks stand beside them. PixelRL's parameters are with "
        "the U-Net that makes its coarse maps."
        + (" *Width* scales the numbers of channels, and so the cost." if several else "")
    )
    return table


def certainty(records: Records, title: str, against: str = SUBJECT.name) -> Table:
    """What the seeds say: interquartile mean of the patients' Dice, its interval, and who is probably better."""
    names = ("IQM", "low", "high", "range of seeds", f"less {records.label(against)}", "from", "to")
    columns = [Column(name, 3, 0) for name in names]
    table = Table(title, [*columns, Column(f"P(better than {records.label(against)})", 2, 0), Column("seeds", 0, 0)])
    reference = records.get(against)
    for agent in records.agents():
        if records.facts(agent).reference:
            continue
        name, found = records.label(agent), records.get(agent)
        scores = patient_scores(found)
        compared: list[Any] = [None] * 4
        if agent != against and reference:
            others = patient_scores(reference)
            compared = [*difference(scores, others), probability_of_improvement(scores, others)]
        means = [mean([r], "DICE") for r in found]
        spread = max(means) - min(means) if len(means) > 1 else None
        if records.facts(agent).supervised:
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
    names = ["network passes", "gradient steps", "image visits", "environment steps", "updates"]
    times = [Column("CPU minutes", 1, 0), Column("wall minutes", 1, 0), Column("peak MiB", 0, 0)]
    table = Table(title, [*(Column(n, 0, 0) for n in names), *times])
    for agent in records.agents():
        name, found = records.label(agent), [r for r in records.get(agent) if "image_passes" in r]
        if found:
            keys = ("image_passes", "image_visits", "environment_steps", "updates")
            counts: list[Any] = [float(np.mean([r[key] for r in found])) for key in keys]
            if records.facts(agent).looks_once:
                counts[2] = None  # it is shown images, and plays no episodes
            counts.insert(1, steps_of(found))
            minutes = [float(np.mean([r["seconds"][clock] for r in found])) / 60 for clock in ("cpu", "wall")]
            table.rows[name] = [*counts, *minutes, float(max(r["peak_mib"] for r in found))]
    table.note = (
        "PixelRL's passes, gradient steps, visits and minutes are with those of the U-Net that makes its coarse maps, "
        "environment steps and updates without. A network that looks once plays no steps. AC and the DQNs take a "
        "gradient step after each step of a batch, a DQN once its replay holds enough, the others one per update; a "
        "DQN's replayed images are passes, not visits."
    )
    return table


def folds(records: Records, title: str) -> Table:
    """Table 6: mean and standard deviation over the five folds."""
    table = Table(title, [*SCORES, Column("folds", 0, 0)])
    for agent in records.agents(folds=True):
        found = records.get(agent, folds=True)
        values = {m: [r["test"]["summary"]["metrics"][m]["mean"] for r in found] for m in METRICS}
        spread = [(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0) for v in values.values()]
        table.rows[records.label(agent)] = [*spread, float(len({r["cell"]["fold"] for r in found}))]
        if not records.facts(agent).competes:
            table.apart.add(records.label(agent))
    table.note = (
        "Mean and standard deviation (n - 1) over folds, each a fifth of the patients. All have their defaults."
    )
    return table
