"""Records of a folder, checked, and the numbers that tables and figures take from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grid.catalogue import Facts
from benchmarks.grid.cells import EARLIER
from benchmarks.grid.statistics import Scores
from benchmarks.records import read_records
from benchmarks.study import STUDY
from benchmarks.study.learners import CROSSED
from pixelseg_env import DataError

Record = dict[str, Any]


class Records:
    """The records of one data set.

    Args:
        records: as `benchmarks.grid.running.run` makes them, of one protocol.

    Attributes:
        protocol: what their cells have in common.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._found: dict[tuple[str, str], list[Record]] = defaultdict(list)
        self._facts: dict[str, Facts] = {}
        self.protocol: Record = {}
        for record in records:
            cell = record["cell"]
            self.protocol = self.protocol or cell.get("protocol", {})
            self._found[cell["agent"], cell["setting"]].append(record)
            self._facts[cell["agent"]] = facts_of(cell["agent"], record)

    def get(self, agent: str, setting: str = "default", folds: bool = False) -> list[Record]:
        """The records of an agent under a setting, by seed; those of folds apart."""
        found = [r for r in self._found.get((agent, setting), []) if (r["cell"]["fold"] is not None) == folds]
        return sorted(found, key=lambda r: (r["cell"]["fold"] or 0, r["cell"]["seed"]))

    def all(self) -> list[Record]:
        """All of them."""
        return [record for found in self._found.values() for record in found]

    def agents(self, setting: str | None = "default", folds: bool = False) -> list[str]:
        """The agents that have records under a setting, None: under any; in the study's order, others after them.

        Learners with another's network are left out.
        """
        present = {agent for agent, found in self._found if setting in (None, found) and self.get(agent, found, folds)}
        present -= {one.name for one in CROSSED}
        listed = [one.name for one in STUDY.learners if one.name in present]
        return listed + sorted(present.difference(listed))

    def facts(self, agent: str) -> Facts:
        """What is known of an agent, with records here or not."""
        return self._facts.get(agent) or facts_of(agent)

    def label(self, agent: str) -> str:
        """An agent's name for readers; with that of its records where another here has the same."""
        labels = Counter(facts.label for facts in self._facts.values())
        label = self.facts(agent).label
        return f"{label} ({agent})" if labels[label] > 1 and not STUDY.has(agent) else label


def held_out(record: Mapping[str, Any]) -> int | str | None:
    """Who is tested on: a fold's number, what the patients' names begin with that were left out, or None, the split."""
    cell = record["cell"]
    out: int | str | None = cell.get("left_out") or cell["fold"]
    return out


def parted(record: Mapping[str, Any]) -> str:
    """What its patients are a part of: the usual split, or one of several folds or institutions."""
    out = held_out(record)
    return "split" if out is None else "institution" if isinstance(out, str) else "fold"


def rows_of(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """A row's records by its name; where they are of several kinds, which test on the same patients, a row for each."""
    parts = sorted({parted(one) for one in records})
    if len(parts) == 1:
        return {name: list(records)}
    return {f"{name}, by {part}": [one for one in records if parted(one) == part] for part in parts}


def one_protocol(records: Sequence[Mapping[str, Any]], what: str) -> None:
    """Refuses records of several protocols where they would stand in one row.

    Args:
        records: of a row.
        what: its name, for the message.

    Raises:
        DataError: sizes, passes or the like differ; the device may.
    """
    seen = [EARLIER | dict(one["cell"].get("protocol", {})) | {"device": ""} for one in records]
    differs = sorted({name for one in seen for name in one if any(other.get(name) != one[name] for other in seen)})
    if differs:
        name = differs[0]
        values = " and ".join(sorted({str(one.get(name)) for one in seen}))
        raise DataError(f"{what}: records with {name} {values} cannot stand in one row; give each folder by itself")


def facts_of(agent: str, record: Record | None = None) -> Facts:
    """What is known of an agent: by the study and the registry, or by its record where it is the reader's own.

    Nothing of the reader's is imported, so a report can be made where the agent is not.
    """
    if STUDY.lists(agent):
        return STUDY.learner(agent).facts
    return Facts(**(record or {}).get("facts", {"label": agent}))


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
        values = record[part]["first_step_dice"] if first_step else images[metric]
        rows.append(list(patient_means(images["case"], values).values()))
    return np.array(rows)


def patient_means(cases: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """The mean of each patient's images, in the order of the patients' names."""
    patients, member = np.unique(cases, return_inverse=True)
    return dict(zip(patients.tolist(), (np.bincount(member, values) / np.bincount(member)).tolist(), strict=True))


def read_grid(folder: Path, part: str = "test") -> dict[str, list[Record]]:
    """The records of cells in a folder, by data set.

    Args:
        folder: the records.
        part: what the agents must have been judged on.

    Raises:
        DataError: there are none, one is damaged, they are not of one protocol, or an agent had other hyperparameters
            with one seed than with another.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    first: Record = {}
    for record in read_records(folder):
        if "cell" not in record or record["cell"].get("left_out"):  # which `institutions` makes a table of
            continue
        try:
            protocol = record["cell"]["protocol"] = EARLIER | record["cell"]["protocol"]
            dataset = record["cell"]["dataset"]
            record[part]["images"]["DICE"], record["seconds"]["cpu"]  # are they there?
        except (KeyError, TypeError) as error:
            raise DataError(f"{folder}: a record without {error}; remove {record.get('name')}.json") from error
        first = first or record
        if protocol != first["cell"]["protocol"]:
            raise DataError(
                f"{folder}: records of different protocols cannot stand in one table: {first['name']} has "
                f"{first['cell']['protocol']}, {record['name']} has {protocol}; give each protocol an --out of its own"
            )
        _check_alike(folder, found[dataset], record)
        found[dataset].append(record)
    if not found:
        raise DataError(f"{folder}: expected records of `python -m benchmarks run`, found none")
    return dict(found)


def _check_alike(folder: Path, found: Sequence[Record], record: Record) -> None:
    """Refuses a second record of one training, other images, and seeds of one row with other hyperparameters."""
    who = [tuple(r["cell"][key] for key in ("agent", "setting", "seed", "fold")) for r in (*found, record)]
    if who[-1] in who[:-1]:
        raise DataError(f"{folder}: two records of {record['name']}; remove the copy")
    _check_images(folder, found, record)
    _check_hyperparameters(folder, found, record)


def _check_images(folder: Path, found: Sequence[Record], record: Record) -> None:
    other = next((r for r in found if r["cell"]["fold"] == record["cell"]["fold"]), record)
    for part in sorted({"val", "test"} & record.keys() & other.keys()):
        one, two = ([r[part]["images"].get(key) for key in ("case", "slice")] for r in (other, record))
        if one != two:
            raise DataError(
                f"{folder}: {other['name']} and {record['name']} were judged on different {part} images; give each "
                "data set an --out of its own"
            )


def _check_hyperparameters(folder: Path, found: Sequence[Record], record: Record) -> None:
    """A row is one setting: its seeds must not differ in a hyperparameter, as they do after a change of defaults."""
    cell, config = record["cell"], record.get("config", {})
    for other in found:
        if (other["cell"]["agent"], other["cell"]["setting"]) == (cell["agent"], cell["setting"]):
            before = other.get("config", {})
            differs = sorted(
                name
                for name in config.keys() & before.keys()
                if config[name] != before[name] and [] not in (config[name], before[name])  # []: by task, not spelt out
            )
            if differs and (cell["fold"] is None) == (other["cell"]["fold"] is None):
                name = differs[0]
                raise DataError(
                    f"{folder}: {other['name']} was trained with {name}={before[name]}, {record['name']} with "
                    f"{config[name]}; remove the older and run it again"
                )
