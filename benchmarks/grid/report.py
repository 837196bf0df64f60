"""Records of the grid as the publication's tables and figures."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pixelseg_agents.files import write_atomically

from benchmarks.grid import figures
from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.settings import REFERENCES, SUPERVISED
from benchmarks.grid.statistics import Scores, interquartile_mean, interval, probability_of_improvement
from benchmarks.grid.tables import Column, Table
from benchmarks.records import read_record, read_records
from pixelseg_env import DataError, SegmentationDataset

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
# The publication's figures, as far as they are at hand: its numbers of parameters. Whoever has the article can add its
# scores, a line each; they come from other images (1168 tumour slices, Decathlon's atrium) at 256x256.
PUBLISHED = Path(__file__).with_name("published.csv")
METRICS = ("DICE", "PPV", "SEN", "IoU", "BIoU", "HD95")
SCORES = [Column(name, 1 if name == "HD95" else 3, -1 if name == "HD95" else 1) for name in METRICS]


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
        """The agents that have records under a setting, None: under any; in the order of `NAMES`, others after them."""
        present = {agent for agent, found in self._found if setting in (None, found) and self.get(agent, found, folds)}
        return [name for name in NAMES if name in present] + sorted(present - set(NAMES))


def mean(records: Sequence[Record], metric: str, part: str = "test", kind: str = "mean") -> float:
    """The mean over seeds of a metric's mean over images, or over patients (`kind="patient_mean"`)."""
    return float(np.mean([r[part]["summary"]["metrics"][metric][kind] for r in records]))


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
        name, found = _name(agent), records.get(agent)
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
    columns = [
        Column("IQM"),
        Column("low", 3, 0),
        Column("high", 3, 0),
        Column(f"P(better than {_name(against)})", 2, 0),
    ]
    table = Table(title, [*columns, Column("seeds", 0, 0)])
    reference = records.get(against)
    for agent in records.agents():
        if agent in REFERENCES:
            continue
        name, found = _name(agent), records.get(agent)
        scores = patient_scores(found)
        better = None
        if agent != against and reference:
            better = probability_of_improvement(scores, patient_scores(reference))
        if agent in SUPERVISED:
            table.apart.add(name)
        table.rows[name] = [interquartile_mean(scores), *interval(scores), better, float(len(found))]
    table.note = (
        "Interquartile mean over seeds and patients of the patients' mean Dice; 95 % interval by the bootstrap over "
        "seeds, each drawn whole; probability that a seed of this row beats a seed of PA3C on the same patient."
    )
    return table


def budgets(records: Records, title: str) -> Table:
    """What every agent was given: passes, visits, steps, time, memory."""
    names = ["network passes", "image visits", "environment steps", "updates"]
    times = [Column("CPU minutes", 1, 0), Column("wall minutes", 1, 0), Column("peak MiB", 0, 0)]
    table = Table(title, [*(Column(n, 0, 0) for n in names), *times])
    for agent in records.agents():
        name, found = _name(agent), [r for r in records.get(agent) if "image_passes" in r]
        if found:
            keys = ("image_passes", "image_visits", "environment_steps", "updates")
            counts: list[Any] = [float(np.mean([r[key] for r in found])) for key in keys]
            minutes = [float(np.mean([r["seconds"][clock] for r in found])) / 60 for clock in ("cpu", "wall")]
            table.rows[name] = [*counts, *minutes, float(max(r["peak_mib"] for r in found))]
    return table


def variants(records: Records, title: str, agents: Sequence[str], rows: dict[str, str], by_agent: bool) -> Table:
    """Settings of one agent as rows with all metrics, or of several agents with one column of Dice for each."""
    if not by_agent:
        table = Table(title, [*SCORES, Column("seeds", 0, 0)])
        for setting, name in rows.items():
            if one := records.get(agents[0], setting):
                table.rows[name] = [*(mean(one, metric) for metric in METRICS), float(len(one))]
        return table
    table = Table(title, [Column(f"{_name(agent)}, {m}") for agent in agents for m in ("DICE", "BIoU")])
    for setting, name in rows.items():
        found = {agent: records.get(agent, setting) for agent in agents}
        if any(found.values()):
            table.rows[name] = [
                mean(found[agent], metric) if found[agent] else None for agent in agents for metric in ("DICE", "BIoU")
            ]
    return table


def changes(records: Records, title: str, rows: dict[str, str]) -> Table:
    """What each of PA3C's settings is worth; validation first, for it is what decides."""
    names = ("DICE, validation", "DICE, test", "BIoU, test")
    table = Table(title, [*map(Column, names), Column("CPU minutes", 1, -1), Column("seeds", 0, 0)])
    for setting, name in rows.items():
        if found := records.get("pa3c", setting):
            minutes = float(np.mean([r["seconds"]["cpu"] for r in found])) / 60
            scores = (mean(found, "DICE", "val"), mean(found, "DICE"), mean(found, "BIoU"))
            table.rows[name] = [*scores, minutes, float(len(found))]
    return table


def step_by_step(records: Records, title: str) -> Table:
    """Whether later steps improve the map: Dice after some steps, of every agent and of PA3C under each setting."""
    columns = [Column("start", 3, 0), *(Column(f"step {step}") for step in STEPS), Column("last less first")]
    table = Table(title, [*columns, Column("P(last step better)", 2, 0), Column("seeds", 0, 0)])
    rows = {_name(agent): records.get(agent) for agent in records.agents() if agent not in REFERENCES}
    for (agent, setting), name in STEP_SETTINGS.items():
        rows[f"{_name(agent)}, {name}"] = records.get(agent, setting)
    for name, found in rows.items():
        if not found:
            continue
        curves = [r["test"].get("longer", r["test"]["summary"])["dice_by_step"] for r in found]
        curve = np.mean(curves, axis=0)
        start = np.mean([r["test"]["coarse_dice"] for r in found]) if "coarse_dice" in found[0]["test"] else None
        values: list[Any] = [start, *(float(curve[k - 1]) if k <= len(curve) else None for k in STEPS)]
        if len(curve) > 1:
            last, first = patient_scores(found), patient_scores(found, first_step=True)
            steps = found[0]["cell"]["protocol"]["horizon"]
            table.rows[name] = [*values, float(curve[steps - 1] - curve[0]), probability_of_improvement(last, first)]
        else:
            table.rows[name] = [*values, None, None]
        table.rows[name].append(float(len(found)))
    table.note = (
        "Dice over test images, means over seeds, of agents and of variants; one number alone is a network that looks "
        "once. *Start*: the map that PixelRL begins with. P: that a seed's map after the last step beats one after "
        "step 1 on the same patient."
    )
    return table


def folds(records: Records, title: str) -> Table:
    """Table 6: mean and standard deviation over the five folds."""
    table = Table(title, [*SCORES, Column("folds", 0, 0)])
    for agent in records.agents(folds=True):
        found = records.get(agent, folds=True)
        values = {m: [r["test"]["summary"]["metrics"][m]["mean"] for r in found] for m in METRICS}
        spread = [(float(np.mean(v)), float(np.std(v))) for v in values.values()]
        table.rows[_name(agent)] = [*spread, float(len({r["cell"]["fold"] for r in found}))]
        if agent in (*REFERENCES, *SUPERVISED):
            table.apart.add(_name(agent))
    table.note = "Mean and standard deviation over folds; every patient is tested on once. All have their defaults."
    return table


def add_published(table: Table, name: str, dataset: str, published: Path = PUBLISHED) -> None:
    """Puts the published figures under a table, in rows of their own that do not compete.

    Args:
        table: what is added to.
        name: "table-2" and so on.
        dataset: its data set.
        published: CSV with the columns table, dataset (empty: all), row, column and value.

    Raises:
        DataError: the file is not such a CSV.
    """
    places = {column.name: number for number, column in enumerate(table.columns)}
    with published.open(newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                wanted = line["table"] == name and line["dataset"] in ("", dataset) and line["row"] in table.rows
                place, value = places.get(line["column"]), float(line["value"])
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{published}, line {number}: expected table,dataset,row,column,value with a number at the end, "
                    f"got {line}"
                ) from error
            if wanted and place is not None:
                row = f"*published: {line['row']}*"
                table.apart.add(row)
                table.rows.setdefault(row, [None] * len(table.columns))[place] = value


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
    "no-foreground-weight": "no falling foreground weight",
    "no-augmentation": "no augmentation",
    "no-later-background-weight": "background weighs as much after step 1",
    "no-normalisation": "no normalisation",
    "no-detail": "conv1-2 joins before the heads",
    "learning-rate-epochs": "published learning-rate schedule",
    "reward-map-convolution": "reward-map convolution, 9x9 (Eq. 8)",
    "published": "published preset, width 0.25",
}
STEPS = (1, 2, 3, 5, 10)
STEP_SETTINGS = {
    ("pa3c", "t_max-1"): "trained at t_max 1",
    ("pa3c", "t_max-5"): "trained at t_max 5",
    ("pa3c", "t_max-10"): "trained at t_max 10",
    ("pa3c", "no-later-background-weight"): "background weighs the same later",
    ("pa3c", "stacked"): "sees image and map",
    ("pa3c", "restorable-stacked"): "sees both, may take back",
    ("pa3c", "small-field"): "small field of view",
    ("twin-plain", "small-field"): "small field of view",
    ("pa3c", "small-field-restorable-stacked"): "small field of view, sees both, may take back",
}
SEARCHED = {
    "tune-default": "learning rate 0.001, entropy coefficient or last epsilon 0.02",
    "tune-learning-rate-low": "learning rate 0.0005",
    "tune-learning-rate-high": "learning rate 0.002",
    "tune-exploration-low": "entropy coefficient or last epsilon 0.005",
    "tune-exploration-high": "entropy coefficient 0.05, or last epsilon 0.1",
}
HORIZONS = ("t_max-1", "t_max-5", "t_max-10", "default")


def write_report(folder: Path, out: Path, data: Sequence[str] = (), published: Path = PUBLISHED) -> str:
    """Writes every table and figure that the records allow.

    Args:
        folder: the records.
        out: report.md, one CSV and one LaTeX file per table, PNG figures.
        data: folders of the data sets, in any order, for figures of examples; phantoms need none.
        published: the publication's figures, see `add_published`.

    Returns:
        The Markdown.

    Raises:
        DataError: see `all_tables`.
    """
    texts = []
    by_dataset = read_grid(folder)
    for dataset, made in all_tables(folder, published).items():
        texts.append(f"## {dataset}\n")
        for name, table in made.items():
            stem = out / f"{dataset}-{name}"
            write_atomically(stem.with_suffix(".csv"), table.csv())
            write_atomically(stem.with_suffix(".tex"), table.latex())
            texts.append(table.markdown())
        if found := by_dataset.get(dataset, []):
            drawn = figures.draw_all(Records(found), dataset, out, HORIZONS, _name, _test_images(found, data))
            texts += [f"![{caption}]({path.name})\n\n*{caption}*\n" for path, caption in drawn]
    text = "\n".join(texts)
    write_atomically(out / "report.md", text)
    return text


def read_grid(folder: Path) -> dict[str, list[Record]]:
    """The records of cells in a folder, by data set.

    Raises:
        DataError: there are none, one is damaged, or they are not of one protocol.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    first: Record = {}
    for record in read_records(folder):
        if "cell" not in record:
            continue
        try:
            protocol, dataset = record["cell"]["protocol"], record["cell"]["dataset"]
            record["test"]["images"]["DICE"], record["seconds"]["cpu"]  # are they there?
        except (KeyError, TypeError) as error:
            raise DataError(f"{folder}: a record without {error}; remove {record.get('name')}.json") from error
        first = first or record
        if protocol != first["cell"]["protocol"]:
            raise DataError(
                f"{folder}: records of different protocols cannot stand in one table: {first['name']} has "
                f"{first['cell']['protocol']}, {record['name']} has {protocol}; give each protocol an --out of its own"
            )
        found[dataset].append(record)
    if not found:
        raise DataError(f"{folder}: expected records of `python -m benchmarks run`, found none")
    return dict(found)


def tables(records: Records, dataset: str, published: Path = PUBLISHED) -> dict[str, Table]:
    """Every table that the records allow, by the name of its file.

    Args:
        records: of one data set.
        dataset: its name.
        published: see `add_published`.
    """
    agents = ("pa3c", "ac", "dueling-dqn")
    made = {
        "table-2": comparison(records, f"Table 2 on {dataset}: all agents, means over test images"),
        "table-2-by-patient": comparison(records, f"Table 2 on {dataset}, means over test patients", "patient_mean"),
        "certainty": certainty(records, f"What the seeds say about {dataset}"),
        "budgets": budgets(records, f"What every agent was given on {dataset}"),
        "table-3": variants(records, f"Table 3 on {dataset}: PA3C's SAM and dilation", agents, TABLE3, False),
        "table-4": variants(records, f"Table 4 on {dataset}: few images", agents, TABLE4, True),
        "changes": changes(records, f"PA3C on {dataset}, one change at a time", CHANGES),
        "steps": step_by_step(records, f"Do later steps improve the map? On {dataset}"),
        "table-6": folds(records, f"Table 6 on {dataset}: five folds"),
    }
    needs_two = ("table-3", "table-4", "changes")
    made = {name: table for name, table in made.items() if len(table.rows) > (name in needs_two)}
    for name, table in made.items():
        add_published(table, name, dataset, published)
    return made


def all_tables(folder: Path, published: Path = PUBLISHED) -> dict[str, dict[str, Table]]:
    """Every table of a folder of records, the search's too if its result lies there, by data set and name.

    Raises:
        DataError: see `read_grid`, or the search's result is not one.
    """
    made = {dataset: tables(Records(found), dataset, published) for dataset, found in read_grid(folder).items()}
    found = folder / "tuned.json"
    if found.exists():
        search = read_record(found)
        if not {"dataset", "validation_dice"} <= search.keys():
            raise DataError(f"{found}: not what `python -m benchmarks search` writes; remove it, or search again")
        made.setdefault(search["dataset"], {})["search"] = searched(search["validation_dice"], search["dataset"])
    return made


def searched(scores: dict[str, dict[str, float]], dataset: str) -> Table:
    """What the search tried: settings as rows, agents as columns.

    Args:
        scores: agent to setting to Dice, as `tuned.json` has it.
        dataset: its data set.
    """
    table = Table(f"The search on {dataset}: Dice on validation images", [Column(_name(agent)) for agent in scores])
    for setting, name in SEARCHED.items():
        if any(setting in tried for tried in scores.values()):
            table.rows[name] = [tried.get(setting) for tried in scores.values()]
    table.note = (
        "Half of the passes, seed 0. The best of each agent, in bold, is what its later runs have (tuned.json has more "
        "digits)."
    )
    return table


def _test_images(found: Sequence[Record], data: Sequence[str]) -> SegmentationDataset | None:
    """The test images of a data set's records, if its folders are among those given."""
    cell = next((record["cell"] for record in found if record["cell"]["fold"] is None), None)
    folders = {Path(folder).name: folder for folder in data}
    if cell is None or not folders.keys() >= set(cell["data"]):
        return None
    protocol = Protocol(**cell["protocol"])
    wanted = tuple(folders[name] for name in cell["data"])
    return Cell(cell["dataset"], wanted, "otsu", protocol=protocol).parts["test"]


def _name(agent: str) -> str:
    return NAMES.get(agent, agent)
