"""Records of the grid as the publication's tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.grid.cells import Cell, Protocol
from benchmarks.grid.tables import Table
from benchmarks.records import read_record
from benchmarks.study import figures
from benchmarks.study.gradient_steps import teaching
from benchmarks.study.learners import REFERENCES
from benchmarks.study.published import PUBLISHED, add_published, published_datasets
from benchmarks.study.reading import Record, Records, read_grid
from benchmarks.study.summaries import budgets, certainty, comparison, folds
from benchmarks.study.variants import (
    CHANGES,
    TABLE3,
    TABLE4,
    attempts,
    changes,
    few_images,
    learning_by_network,
    searched,
    step_by_step,
    variants,
)
from pixelseg_agents.files import write_atomically
from pixelseg_env import DataError, SegmentationDataset
from pixelseg_env.datasets import OWN_PIXELS

HECKTOR = "hecktor"  # whose comparison is Table 5
TABLE5, OVER_IMAGES = "Table 5: HECKTOR 2020, slices of PET", "means over test images"
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
            drawn = figures.draw_all(Records(found), dataset, out, HORIZONS, test_images(found, data))
            texts += [f"![{caption}]({path.name})\n\n*{caption}*\n" for path, caption in drawn]
    text = "\n".join(texts)
    write_atomically(out / "report.md", text)
    return text


def tables(
    records: Records, dataset: str, published: Path = PUBLISHED, wanted: str = "", whole: bool = False
) -> dict[str, Table]:
    """Every table that the records allow, by the name of its file.

    Args:
        records: of one data set.
        dataset: its name.
        published: see `add_published`.
        wanted: the one that is asked for. Of Tables 2 and 5, which have the same form, there is otherwise the one that
            the publication has of the data set.
        whole: also those that the publication has of the data set, and the records have nothing for.
    """
    made = {
        "table-2": comparison(records, f"Table 2 on {dataset}: all agents, means over test images"),
        "table-2-by-patient": comparison(records, f"Table 2 on {dataset}, means over test patients", "patient_mean"),
        "certainty": certainty(records, f"What the seeds say about {dataset}"),
        "budgets": budgets(records, f"What every agent was given on {dataset}"),
        "teaching": teaching(records, f"Passes and gradient steps on {dataset}"),
        "table-3": variants(records, f"Table 3 on {dataset}: PA3C's SAM and dilation", TABLE3),
        "table-4": few_images(records, f"Table 4 on {dataset}: few images", TABLE4),
        "changes": changes(records, f"PA3C on {dataset}, one change at a time", CHANGES),
        "learning": learning_by_network(records, f"Learner and network on {dataset}"),
        "steps": step_by_step(records, f"Do later steps improve the map? On {dataset}"),
        "table-6": folds(records, f"Table 6 on {dataset}: five folds"),
        "table-5": comparison(records, f"{TABLE5 if dataset == HECKTOR else f'Table 5 on {dataset}'}, {OVER_IMAGES}"),
    }
    needs_two = ("table-3", "table-4", "changes", "learning")
    if (other := "table-2" if dataset == HECKTOR else "table-5") != wanted:
        made.pop(other)
    scored = published_datasets(published)
    allowed = {name: len(table.rows) > (name in needs_two) for name, table in made.items()}
    made = {name: made[name] for name, ours in allowed.items() if ours or (whole and dataset in scored.get(name, ()))}
    for name, table in made.items():
        if name != "budgets" and table.rows:
            _say_where(table, records.protocol, records.all())
        add_published(table, name, dataset, published)
    return made


def all_tables(folder: Path, published: Path = PUBLISHED) -> dict[str, dict[str, Table]]:
    """Every table of a folder of records, the search's too if its result lies there, by data set and name.

    Where there are records of all the data sets that the publication compares every system on, it is that study, and
    the publication's other tables are there as well, without a row of ours.

    Raises:
        DataError: see `read_grid`, or the search's result is not one.
    """
    by_dataset, scored = read_grid(folder), published_datasets(published)
    compared = scored.get("table-2", set())
    whole = bool(compared) and compared <= by_dataset.keys()
    others = sorted(set().union(*scored.values()) - by_dataset.keys()) if whole else []
    made = {
        dataset: tables(Records(by_dataset.get(dataset, [])), dataset, published, whole=whole)
        for dataset in (*by_dataset, *others)
    }
    found = folder / "tuned.json"
    if found.exists():
        search = read_record(found)
        if not {"dataset", "validation_dice"} <= search.keys():
            raise DataError(f"{found}: not what `python -m benchmarks search` writes; remove it, or search again")
        table = searched(search["validation_dice"], search["dataset"])
        if isinstance(search.get("protocol"), dict):
            _say_where(table, search["protocol"])
        made.setdefault(search["dataset"], {})["search"] = table
    if list((folder / "tried").glob("*.json")):
        for dataset, tried in read_grid(folder / "tried", part="val").items():
            table = attempts(Records(tried), f"Attempts to improve PA3C on {dataset}")
            if table.rows:
                _say_where(table, tried[0]["cell"]["protocol"], tried)
                made.setdefault(dataset, {})["attempts"] = table
    return made


def _say_where(table: Table, protocol: Mapping[str, Any], found: Sequence[Record] = ()) -> None:
    """Adds a sentence on where the scores of a table were taken; records say it where the pixels are not the files'."""
    said = {r["test" if "test" in r else "val"]["summary"].get("judged_on", OWN_PIXELS) for r in found}
    where = Protocol.of_record(protocol).judged(" and ".join(sorted(said)) or OWN_PIXELS)
    table.note = f"{table.note} {where}".strip()


def test_images(found: Sequence[Record], data: Sequence[str]) -> SegmentationDataset | None:
    """The test images of a data set's records, if its folders are among those given."""
    cell = next((record["cell"] for record in found if record["cell"]["fold"] is None), None)
    folders = {Path(folder).name: folder for folder in data}
    if cell is None or not folders.keys() >= set(cell["data"]):
        return None
    protocol = Protocol.of_record(cell["protocol"])
    wanted = tuple(folders[name] for name in cell["data"])
    return Cell(cell["dataset"], wanted, REFERENCES[0].name, protocol=protocol).parts["test"]
