"""Tables and figures say what the records say."""

from __future__ import annotations

import base64
import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.grid.statistics import interquartile_mean, probability_of_improvement
from benchmarks.grid.tables import Column, Table
from benchmarks.records import write_record
from benchmarks.study import figures
from benchmarks.study.published import add_published
from benchmarks.study.reading import Records, mean, patient_scores, read_grid
from benchmarks.study.report import all_tables, write_report
from benchmarks.study.summaries import METRICS, budgets, certainty, comparison, folds
from benchmarks.study.variants import changes, few_images, learning_by_network, step_by_step, variants
from pixelseg_agents.evaluation.figures import right_and_wrong
from pixelseg_env import DataError
from tests.helpers.grid import ROOT, cell, record


def test_tables_mark_the_best_and_the_second_of_those_that_compete() -> None:
    table = Table("T & T", [Column("DICE"), Column("HD95", 1, -1), Column("n", 0, 0)])
    table.rows = {"a": [0.5, 3.0, 1.0], "b": [(0.7, 0.1), 4.0, 2.0], "oracle": [1.0, 0.0, 3.0], "c": [None, 9.0, None]}
    table.apart = {"oracle"}
    lines = table.markdown().splitlines()
    assert lines[4:] == [
        "| a | <u>0.500</u> | **3.0** | 1 |",
        "| b | **0.700 ± 0.100** | <u>4.0</u> | 2 |",
        "| oracle | 1.000 | 0.0 | 3 |",
        "| c |  | 9.0 |  |",
    ]
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [row["DICE"] for row in rows] == ["0.5", "0.7", "1.0", ""]
    assert [row["DICE SD"] for row in rows] == ["", "0.1", "", ""]
    latex = table.latex()
    assert "\\textbf{0.700 $\\pm$ 0.100}" in latex
    assert "\\caption{T \\& T}" in latex
    assert latex.count("\\\\\n") == 5


def test_patients_count_alike_and_folds_have_a_spread() -> None:
    def made(fold: int | None, cases: list[str], scores: list[float]) -> dict[str, Any]:
        metrics = {name: {"mean": float(np.mean(scores))} for name in METRICS}
        images = {"case": cases, "DICE": scores}
        about = {"agent": "otsu", "setting": "default", "seed": 0, "fold": fold}
        return {"cell": about, "test": {"images": images, "summary": {"metrics": metrics}}}

    one = made(None, ["a", "b", "b", "b"], [1.0, 0.0, 0.25, 0.5])
    assert patient_scores([one]).tolist() == [[1.0, 0.25]]
    table = folds(Records([made(0, ["a"], [0.5]), made(1, ["b"], [0.9])]), "T")
    assert table.rows["Otsu's threshold"][0] == (pytest.approx(0.7), pytest.approx(0.08**0.5))
    assert table.apart == {"Otsu's threshold"}


def test_a_partial_grid_has_a_report(done: Path, tmp_path: Path) -> None:
    for pattern in ("*-f?.json", "*pa3c-t_max-5*.json", "*50-shot*.json", "*unet-default*.json"):
        folder = tmp_path / pattern.strip("*").replace("?", "")
        folder.mkdir()
        for path in done.glob(pattern):
            (folder / path.name).write_bytes(path.read_bytes())
        assert list(folder.iterdir())
        assert write_report(folder, tmp_path / "out").startswith("## phantom")


def test_equal_values_are_marked_alike() -> None:
    table = Table("T", [Column("DICE")])
    table.rows = {"a": [0.50001], "b": [0.49999], "c": [0.4], "d": [0.3]}
    assert table.ranks() == {("a", 0): 1, ("b", 0): 1, ("c", 0): 2}


def test_the_report_says_what_the_records_say(done: Path, tmp_path: Path) -> None:
    text = write_report(done, tmp_path)
    records = Records(record(path) for path in sorted(done.glob("*.json")))
    both = records.get("pa3c")
    assert [r["cell"]["seed"] for r in both] == [0, 1]
    expected = np.mean([np.mean(r["test"]["images"]["DICE"]) for r in both])
    row = next(line for line in text.splitlines() if line.startswith("| PA3C |"))
    assert f"{expected:.3f}" in row.split("|")[2]
    table = comparison(records, "T")
    add_published(table, "table-2", "phantom")
    assert table.rows["*published: AC*"][-2] == 10.82
    assert {"oracle", "*published: AC*"} <= table.apart
    assert patient_scores(both).shape == (2, both[0]["test"]["summary"]["patients"])
    assert "Table 6" in text
    steps = step_by_step(records, "T").rows
    assert steps["U-Net, supervised"][1] is not None
    assert steps["U-Net, supervised"][2:7] == [None] * 5
    for name, agent in (("PixelRL", "pixelrl"), ("AC", "ac")):
        found = records.get(agent)
        firsts, lasts = ([np.mean(r["test"][k] if k[0] == "f" else r["test"]["images"]["DICE"]) for r in found]
                         for k in ("first_step_dice", "images"))  # fmt: skip
        assert steps[name][1] == pytest.approx(np.mean(firsts), abs=1e-4)
        assert steps[name][2] == pytest.approx(np.mean(lasts), abs=1e-4)  # these episodes have two steps
    for name, agent in (("PA3C", "pa3c"), ("DQN", "dqn")):
        curves = [r["val"]["summary"]["dice_by_step"] for r in records.get(agent)]
        assert steps[name][8:10] == pytest.approx(np.mean(curves, axis=0))
    assert steps["PixelRL"][0] == pytest.approx(records.get("pixelrl")[0]["test"]["coarse_dice"])
    assert text.count("| *published: AC* |") == 1
    worth = changes(records, "T", {"default": "as it is", "t_max-5": "five steps", "t_max-10": "ten steps"}).rows
    assert list(worth) == ["as it is", "five steps"]
    assert worth["as it is"][0] == pytest.approx(np.mean([np.mean(r["val"]["images"]["DICE"]) for r in both]), abs=1e-4)
    assert worth["as it is"][1] == pytest.approx(expected, abs=1e-4)
    assert worth["as it is"][3:5] == [None, None]
    five = records.get("pa3c", "t_max-5")
    (same,) = [r for r in both if r["cell"]["seed"] == five[0]["cell"]["seed"]]
    for place, part in ((3, "val"), (4, "test")):
        one, other = (np.mean(r[part]["images"]["DICE"]) for r in (five[0], same))
        assert worth["five steps"][place] == pytest.approx(one - other, abs=2e-4)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"report.md", "phantom-table-2.csv", "phantom-table-2.tex", "phantom-table-6.csv"} <= names
    for figure in ("steps", "learning", "t_max", "pixelrl", "examples"):
        assert (tmp_path / f"phantom-{figure}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="expected records"):
        write_report(tmp_path / "empty", tmp_path)


def test_figures_draw_what_the_records_say(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.update({path.name: figure}))
    records = Records(record(path) for path in sorted(done.glob("*.json")))
    test = cell().parts["test"]
    figures.draw_all(records, "x", tmp_path, ("t_max-5", "default"), test)

    def line(figure: str, panel: int, label: str) -> tuple[Any, Any]:
        lines = drawn[f"x-{figure}.png"].axes[panel].lines
        return next((one.get_xdata(), one.get_ydata()) for one in lines if one.get_label() == label)

    pa3c = records.get("pa3c")
    for panel, key in enumerate(("dice_by_step", "biou_by_step")):
        steps, scores = line("steps", panel, "PA3C")
        assert list(steps) == [1, 2]
        assert scores == pytest.approx(np.mean([r["test"]["summary"][key] for r in pa3c], axis=0))
        assert len(line("steps", panel, "U-Net, supervised")[0]) == 1, "which looks once"
    for panel, key in enumerate(("first", "dice")):
        passes, scores = line("learning", panel, "PA3C")
        assert list(passes) == [point["passes"] / 1000 for point in pa3c[0]["curve"]]
        assert scores[-1] == pytest.approx(np.mean([r["curve"][-1][key] for r in pa3c]))
    steps, scores = line("t_max", 0, "trained at t_max 5")
    assert list(steps) == list(range(1, 16))
    assert scores == pytest.approx(records.get("pa3c", "t_max-5")[0]["test"]["longer"]["dice_by_step"])
    heights = [bar.get_height() for bar in drawn["x-pixelrl.png"].axes[0].patches]
    metrics = ("DICE", "PPV", "SEN", "IoU", "BIoU")
    for place, agent in enumerate(("pa3c", "pixelrl", "pixelrl-cross-entropy")):
        expected = [mean(records.get(agent), metric) for metric in metrics]
        assert heights[5 * place : 5 * place + 5] == pytest.approx(expected)
    agents = [agent for agent in records.agents() if not records.facts(agent).reference]
    panels = drawn["x-examples.png"].axes
    example = pa3c[0]["examples"][0]
    found = np.unpackbits(np.frombuffer(base64.b64decode(example["map"]), np.uint8), count=256).reshape(16, 16)
    images, targets = test.batch([example["index"]])
    shown = panels[1 + agents.index("pa3c")].images[0].get_array()
    assert np.array_equal(shown, right_and_wrong(images[0], targets[0], found))


def test_tables_of_variants_budgets_and_seeds(done: Path) -> None:
    records = Records(record(path) for path in sorted(done.glob("*.json")))
    ac, few = records.get("ac"), records.get("ac", "50-shot")
    made = few_images(records, "T", {"50-shot": "few", "t_max-5": "five steps", "default": "all"})
    assert list(made.rows) == ["AC, few", "PA3C, five steps", "PA3C, all", "AC, all"]
    dice = {}
    for name, found in (("AC, few", few), ("AC, all", ac)):
        scores = [float(np.mean([np.mean(r["test"]["images"][m]) for r in found])) for m in METRICS]
        assert made.rows[name] == [*(pytest.approx(score, abs=1e-3) for score in scores), len(found)]
        dice[name] = scores[0]
    assert {name for name, _ in made.ranks()} == {"PA3C, all", "AC, all"}, "who has nobody beside it wins nothing"
    table = variants(records, "T", {"default": "all", "50-shot": "few", "no-sam": "none"}, "ac").rows
    assert list(table) == ["all", "few"]
    assert table["few"][0] == pytest.approx(dice["AC, few"], abs=1e-4)
    assert (table["all"][-1], table["few"][-1]) == (2, 1)
    given = budgets(records, "T").rows
    assert given["AC"][0] == np.mean([r["image_passes"] for r in ac])
    assert given["AC"][1] == np.mean([r["gradient_steps"] for r in ac])
    assert given["AC"][5] == pytest.approx(np.mean([r["seconds"]["cpu"] for r in ac]) / 60)
    assert given["U-Net, supervised"][3] is None
    assert given["PixelRL"][2] == records.get("pixelrl")[0]["image_visits"]
    said = certainty(records, "T").rows
    pa3c = patient_scores(records.get("pa3c"))
    assert said["AC"][0] == pytest.approx(interquartile_mean(patient_scores(ac)))
    assert said["AC"][7] == pytest.approx(probability_of_improvement(patient_scores(ac), pa3c))
    assert said["PA3C"][4:8] == [None] * 4
    assert said["AC"][4] == pytest.approx(patient_scores(ac).mean() - pa3c.mean())
    seeds = [r["test"]["summary"]["metrics"]["DICE"]["mean"] for r in ac]
    assert said["AC"][3] == pytest.approx(max(seeds) - min(seeds))
    assert "Otsu's threshold" not in said


def test_the_committed_records_kept_to_the_budget() -> None:
    found = [record(path) for path in (ROOT / "benchmarks/records/grid").glob("*.json")]
    found = [r for r in found if "image_passes" in r]
    assert found
    for one in found:
        budget = one["cell"]["protocol"]["passes"]
        assert 0.97 * budget <= one["image_passes"] <= 1.005 * budget, one["name"]


def test_learners_on_each_others_networks_stand_in_a_table_of_their_own(done: Path) -> None:
    everything = [record(path) for path in sorted(done.glob("*-default-s0.json"))]
    assert not learning_by_network(Records(everything), "T").rows.keys() - {"cross-entropy"}
    for of, name in (("pa3c", "pa3c-on-unet"), ("ac", "ac-on-pa3c")):
        like = next(r for r in everything if r["cell"]["agent"] == of)
        everything.append(like | {"cell": like["cell"] | {"agent": name}})
    records = Records(everything)
    rows = learning_by_network(records, "T").rows
    assert list(rows) == ["PA3C's learning", "AC's learning", "cross-entropy"]
    dice = records.get("ac")[0]["test"]["summary"]["metrics"]["DICE"]["mean"]
    assert rows["AC's learning"][1] == rows["AC's learning"][4] == pytest.approx(dice, abs=1e-4)
    assert rows["AC's learning"][0] == records.get("ac")[0]["val"]["summary"]["dice_by_step"][-1]
    assert "pa3c-on-unet" not in records.agents()


def test_seeds_with_other_hyperparameters_do_not_stand_in_one_row(done: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        one = record(done / f"phantom-pa3c-default-s{seed}.json")
        if seed:
            one["config"] |= {"entropy_coefficient": 0.5}
        write_record(tmp_path / f"{one['name']}.json", one)
    with pytest.raises(DataError, match=r"pa3c-default-s0 was trained with entropy_coefficient=0.02, .*s1 with 0.5"):
        read_grid(tmp_path)


def test_copies_and_other_images_are_refused(done: Path, tmp_path: Path) -> None:
    for agent in ("otsu", "oracle"):
        shutil.copy(done / f"phantom-{agent}-default-s0.json", tmp_path)
    shutil.copy(done / "phantom-otsu-default-s0.json", tmp_path / "phantom-otsu-default-s0 (copy).json")
    with pytest.raises(DataError, match="two records of phantom-otsu-default-s0"):
        read_grid(tmp_path)
    (tmp_path / "phantom-otsu-default-s0 (copy).json").unlink()
    assert len(read_grid(tmp_path)["phantom"]) == 2
    other = record(tmp_path / "phantom-oracle-default-s0.json")
    other["test"]["images"]["case"][0] = "somebody else"
    write_record(tmp_path / "phantom-oracle-default-s0.json", other)
    with pytest.raises(DataError, match="judged on different test images"):
        read_grid(tmp_path)


def test_the_search_stands_in_the_report(done: Path, tmp_path: Path) -> None:
    shutil.copy(done / "phantom-otsu-default-s0.json", tmp_path)
    write_record(tmp_path / "tuned.json", {"dataset": "phantom", "validation_dice": {"ac": {"tune-default": 0.625}}})
    assert "| 0.625 |" in write_report(tmp_path, tmp_path / "out")
    write_record(tmp_path / "tuned.json", {"agents": {}})
    with pytest.raises(DataError, match=r"tuned.json: not what `python -m benchmarks search` writes"):
        all_tables(tmp_path)


def test_whoever_has_the_article_adds_its_scores(done: Path, tmp_path: Path) -> None:
    table = comparison(Records(record(path) for path in done.glob("*.json")), "T")
    file = tmp_path / "published.csv"
    head = "table,dataset,row,column,value\n"
    file.write_text(
        head + "table-2,phantom,AC,DICE,0.9\ntable-2,brain,DQN,DICE,0.8\ntable-2,,AC,IoU,0.7\ntable-3,,PA3C,IoU,1\n"
    )
    add_published(table, "table-2", "phantom", file)
    added = {name: row for name, row in table.rows.items() if "published" in name}
    assert list(added) == ["*published: AC*"]
    assert added["*published: AC*"][:4] == [0.9, None, None, 0.7]
    assert ("*published: AC*", 0) not in table.ranks()
    for wrong in ("table-2,phantom,AC,DICE,high", "table-2,,AC,DICES,1", "tabel-2,,AC,DICE,1", "table-2,,AC,DICE,nan"):
        file.write_text(f"{head}{wrong}\n")
        with pytest.raises(DataError, match=r"published.csv, line 2: expected table,.*one of its columns"):
            add_published(table, "table-2", "phantom", file)
