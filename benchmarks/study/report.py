"""Records of the grid as the publication's tables and figures."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.tables import Table
from benchmarks.records import read_record, read_records
from benchmarks.study import figures
from benchmarks.study.summaries import (
    Record,
    Records,
    attempts,
    budgets,
    certainty,
    changes,
    comparison,
    folds,
    learning_by_network,
    name_of,
    searched,
    step_by_step,
    variants,
)
from pixelseg_agents.files import write_atomically
from pixelseg_env import DataError, SegmentationDataset

# The publication's figures, as far as they are at hand: its numbers of parameters. Whoever has the article can add its
# scores, a line each; they come from other images (1168 tumour slices, Decathlon's atrium) at 256x256.
PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_TABLES = ("table-2", "table-2-by-patient", "table-3", "table-4", "table-6")

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
            drawn = figures.draw_all(Records(found), dataset, out, HORIZONS, name_of, _test_images(found, data))
            texts += [f"![{caption}]({path.name})\n\n*{caption}*\n" for path, caption in drawn]
    text = "\n".join(texts)
    write_atomically(out / "report.md", text)
    return text


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
        if "cell" not in record:
            continue
        try:
            protocol, dataset = record["cell"]["protocol"], record["cell"]["dataset"]
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
        "learning": learning_by_network(records, f"Learner and network on {dataset}"),
        "steps": step_by_step(records, f"Do later steps improve the map? On {dataset}"),
        "table-6": folds(records, f"Table 6 on {dataset}: five folds"),
    }
    needs_two = ("table-3", "table-4", "changes", "learning")
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
    if list((folder / "tried").glob("*.json")):
        for dataset, tried in read_grid(folder / "tried", part="val").items():
            table = attempts(Records(tried), f"Attempts to improve PA3C on {dataset}")
            if table.rows:
                made.setdefault(dataset, {})["attempts"] = table
    return made


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
                if (
                    line["table"] not in PUBLISHED_TABLES
                    or (line["table"] == name and place is None)
                    or not isfinite(value)
                ):
                    raise ValueError
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{published}, line {number}: expected table,dataset,row,column,value with one of the tables "
                    f"{', '.join(PUBLISHED_TABLES)}, one of its columns, and a number at the end; got {line}"
                ) from error
            if wanted and place is not None:
                row = f"*published: {line['row']}*"
                table.apart.add(row)
                table.rows.setdefault(row, [None] * len(table.columns))[place] = value


def _test_images(found: Sequence[Record], data: Sequence[str]) -> SegmentationDataset | None:
    """The test images of a data set's records, if its folders are among those given."""
    cell = next((record["cell"] for record in found if record["cell"]["fold"] is None), None)
    folders = {Path(folder).name: folder for folder in data}
    if cell is None or not folders.keys() >= set(cell["data"]):
        return None
    protocol = Protocol(**cell["protocol"])
    wanted = tuple(folders[name] for name in cell["data"])
    return Cell(cell["dataset"], wanted, "otsu", protocol=protocol).parts["test"]
