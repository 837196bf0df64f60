"""The benchmark's grid: cells are independent, skipped when done, and a failed one never stops the rest."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixelseg_agents import AC, PA3C
from pixelseg_agents.cli import main as pixelseg

from benchmarks.grid.cells import Cell, Protocol, is_done, record_path
from benchmarks.grid.commands import Run, Search, read_tuned
from benchmarks.grid.engine import _in_own_process, from_text, run_grid, to_text
from benchmarks.grid.report import add_published, all_tables, read_grid, write_report
from benchmarks.grid.settings import LEARNERS, REFERENCES, REFINERS, SEARCH, SETTINGS, SUPERVISED
from benchmarks.grid.statistics import (
    interquartile_mean,
    interval,
    probability_of_improvement,
    share_that_gained,
)
from benchmarks.grid.summaries import (
    METRICS,
    Records,
    budgets,
    certainty,
    changes,
    comparison,
    folds,
    learning_by_network,
    patient_scores,
    searched,
    step_by_step,
    variants,
)
from benchmarks.grid.tables import Column, Table
from benchmarks.records import write_record
from pixelseg_env import DataError, OptionError
from pixelseg_env.rewards import resolve_reward

TINY = Protocol(size=16, width=0.125, passes=120, horizon=2)
ROOT = Path(__file__).resolve().parent.parent


def cell(agent: str = "otsu", **options: Any) -> Cell:
    return Cell("phantom", (), agent, protocol=TINY, **options)


def record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every learner once, two of them twice, every reference, two settings."""
    folder = tmp_path_factory.mktemp("grid")
    cells = [cell(agent) for agent in (*LEARNERS, *REFERENCES)]
    cells += [cell("pa3c", seed=1), cell("ac", seed=1), cell("pa3c", setting="t_max-5"), cell("ac", setting="50-shot")]
    cells += [cell("dueling-dqn", fold=k) for k in range(2)] + [cell("examples.own_agent:Threshold")]
    for one in cells:
        run_in_process(folder, one)
    return folder


def run_in_process(folder: Path, one: Cell) -> None:
    from benchmarks.grid.cells import run_cell

    run_cell(folder, one)


def test_every_learner_leaves_a_whole_record(done: Path) -> None:
    for agent in LEARNERS:
        found = record(done / f"phantom-{agent}-default-s0.json")
        assert {"config", "versions", "commit", "hardware", "parameters", "peak_mib", "updates"} <= found.keys()
        assert found["seconds"]["wall"] > 0
        assert len(found["curve"]) >= 2
        assert found["curve"][-1]["passes"] <= found["image_passes"]
        for part in ("val", "test"):
            images = found[part]["images"]
            assert len(images["case"]) == len(images["DICE"]) == found[part]["summary"]["images"]
            assert np.mean(images["DICE"]) == pytest.approx(found[part]["summary"]["metrics"]["DICE"]["mean"], abs=1e-5)
    for agent in REFERENCES:
        assert "parameters" not in record(done / f"phantom-{agent}-default-s0.json")
    oracle = record(done / "phantom-oracle-default-s0.json")
    assert oracle["test"]["summary"]["metrics"]["DICE"]["mean"] == 1.0


@pytest.mark.parametrize("agent", LEARNERS)
def test_every_agent_gets_the_same_budget(agent: str) -> None:
    protocol = Protocol(size=16, width=0.125, passes=24_000)
    one = Cell("phantom", (), agent, protocol=protocol)
    learner = one.learner(one.environment("train", 2, Constant() if agent in REFINERS else None))
    updates = one.updates(learner)
    plan = learner.config.schedule(updates)
    planned = 8 * sum(learner.passes_per_update(plan.horizon(update)) for update in range(updates))
    assert planned == pytest.approx(24_000, rel=0.02)


class Constant:
    """Stands for a U-Net."""

    def probability(self, images: Any) -> Any:
        return np.full((len(images), *images.shape[-2:]), 0.5, np.float32)


def test_all_agents_are_judged_on_the_same_images(done: Path) -> None:
    records = [record(path) for path in done.glob("*-default-s?.json")]
    cases = [r["test"]["images"]["case"] for r in records if r["cell"]["fold"] is None]
    assert all(case == cases[0] for case in cases)
    longer = record(done / "phantom-pa3c-t_max-5-s0.json")["test"]["longer"]["dice_by_step"]
    assert len(longer) == 15


def test_parts_share_no_patient_and_folds_test_every_patient_once() -> None:
    tested: list[str] = []
    for fold in (None, 0, 1, 2, 3, 4):
        parts = {name: set(part.cases) for name, part in cell(fold=fold).parts.items()}
        assert not parts["train"] & parts["test"]
        assert not parts["train"] & parts["val"]
        assert not parts["val"] & parts["test"]
        if fold is not None:
            tested += parts["test"]
    assert len(tested) == len(set(tested)) == 400
    few = cell(setting="50-shot", seed=3).parts
    assert len(few["train"]) == 50
    assert len(few["test"]) == len(cell().parts["test"])


def test_done_cells_are_skipped_and_other_options_are_refused(done: Path, tmp_path: Path) -> None:
    path = done / "phantom-otsu-default-s0.json"
    before = path.stat().st_mtime_ns
    assert run_grid([cell("otsu")], done) == []
    assert path.stat().st_mtime_ns == before
    other = Cell("phantom", (), "otsu", protocol=Protocol(size=32))
    with pytest.raises(OptionError, match="made with other options"):
        run_grid([other], done)


def test_a_failed_cell_stops_no_other_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Cell("folder", (str(tmp_path / "nowhere"),), "otsu", protocol=TINY)
    assert run_grid([broken, cell("keep-all")], tmp_path) == [broken.name]
    assert (tmp_path / "phantom-keep-all-default-s0.json").exists()
    assert "nowhere" in (tmp_path / f"{broken.name}.error.txt").read_text()
    assert "FAILED" in capsys.readouterr().out


def test_a_killed_grid_goes_on_where_it_was(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks", "run", "--agents", "keep-all", "pa3c", "--seeds", "0", "--size", "32"]
    words += ["--passes", "4000", "--width", "0.125", "--out", str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    first = tmp_path / "phantom-keep-all-default-s0.json"
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in tmp_path.glob("*.json")] == [first.name]
    before = first.stat().st_mtime_ns
    run = Run(agents=("keep-all", "pa3c"), seeds=(0,), out=tmp_path,
              protocol=Protocol(size=32, passes=4000, width=0.125))  # fmt: skip
    done = [is_done(tmp_path, one) for one in run.cells()]
    assert done == [True, False]
    assert run.main() == 0
    assert all(is_done(tmp_path, one) for one in run.cells()), "what was killed is made"
    assert first.stat().st_mtime_ns == before, "what is done is left alone"


def test_a_cell_learns_watches_and_judges_on_the_parts_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.grid import cells

    one, judged = cell("ac"), []
    plain = cells.evaluate

    def spy(agent: Any, env: Any, **options: Any) -> Any:
        judged.append((env.dataset.cases, plain(agent, env, **options)))
        return judged[-1][1]

    monkeypatch.setattr(cells, "evaluate", spy)
    found = one.run()
    val, test = one.parts["val"].cases, one.parts["test"].cases
    asked = [cases for cases, _ in judged]
    looks = len(found["curve"])
    assert looks >= 2
    assert asked == [val] * looks + [val] * 2 + [test] * 2  # the curve, then the horizon and 15 steps of each
    for place, part in ((looks, "val"), (looks + 2, "test")):
        assert found[part]["images"]["DICE"] == judged[place][1].metrics["DICE"].tolist()
    assert found["curve"][0]["dice"] == judged[0][1].dice_by_step[:, -1].mean()
    searched = cell("ac", setting="tune-default").run()
    assert "val" in searched
    assert not {"test", "examples"} & searched.keys(), "a search never looks at test patients"


def test_what_the_search_found_applies_where_it_may() -> None:
    def rate(**options: Any) -> float:
        one = cell("ac", tuned={"learning_rate": 0.5}, **options)
        return float(one.learner(one.environment("train", 2)).config.learning_rate)

    assert rate() == rate(setting="50-shot") == 0.5
    assert rate(setting="tune-default") == 1e-3
    assert rate(setting="tune-learning-rate-low") == 5e-4


def test_a_refiner_counts_the_passes_of_its_coarse_maps(done: Path) -> None:
    found = record(done / "phantom-pixelrl-default-s0.json")
    coarse = found["coarse"]["updates"] * TINY.batch
    assert coarse > 0
    assert found["image_passes"] == coarse + found["environment_steps"]
    assert found["curve"][-1]["passes"] == found["image_passes"]


def test_the_search_keeps_what_validation_patients_prefer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.grid import commands

    worth = {"tune-learning-rate-low": 0.5, "tune-exploration-high": 0.9}

    def run(cells: list[Cell], folder: Path, *_: Any) -> list[str]:
        for one in cells:
            summary = {"metrics": {"DICE": {"mean": worth.get(one.setting, 0.1)}}}
            config = {"learning_rate": 1e-3, "entropy_coefficient": 0.02} | one.rules.hyper
            config.pop("exploration_end", None)  # which these agents do not have
            write_record(record_path(folder, one), {"config": config, "val": {"summary": summary}})
        return []

    monkeypatch.setattr(commands, "run_grid", run)
    tuned = tmp_path / "tuned.json"
    search = {"dataset": "phantom", "out": tmp_path, "tuned": tuned, "protocol": TINY}
    assert Search(agents=("ac",), **search).main() == 0
    assert read_tuned(tuned) == {"ac": {"entropy_coefficient": 0.05}}
    worth["tune-exploration-high"] = 0.2
    assert Search(agents=("twin-plain",), **search).main() == 0
    assert read_tuned(tuned) == {"ac": {"entropy_coefficient": 0.05}, "twin-plain": {"learning_rate": 5e-4}}
    table = searched(record(tuned)["validation_dice"], "phantom")
    names = [column.name for column in table.columns]
    best = {names[column]: row for (row, column), rank in table.ranks().items() if rank == 1}
    assert best["AC"].startswith("entropy coefficient 0.05")
    assert best["PA3C's twin, supervised"] == "learning rate 0.0005"
    cells = Run(agents=("ac", "pa3c"), seeds=(0,), tuned=tuned).cells()
    assert [one.tuned for one in cells] == [{"entropy_coefficient": 0.05}, {}]
    folds = Run(agents=("ac",), seeds=(0,), folds=(0, 1), tuned=tuned).cells()
    assert [one.tuned for one in folds] == [{}, {}], "the search's validation patients are tested on in some fold"


def test_wrong_words_are_named(tmp_path: Path) -> None:
    wrong = {
        "setting='no-sun' is not known": lambda: Run(agents=("otsu",), settings=("no-sun",)).cells(),
        "change nothing about these agents: dqn no-sam": lambda: Run(agents=("dqn",), settings=("no-sam",)).cells(),
        "dataset='brian' is not known": lambda: Run(dataset="brian").cells(),
        "fold 5: expected one of 0 to 4": lambda: Run(folds=(5,)).cells(),
        "no such file": lambda: Run(tuned=tmp_path / "nowhere.json").cells(),
        "not what `python -m benchmarks search` writes": lambda: Run(tuned=ROOT / "pyproject.toml").cells(),
        "agent='otsu' is not known": lambda: Search(agents=("otsu",)).main(),
        "--jobs 0": lambda: run_grid([], tmp_path, 0),
    }
    for message, call in wrong.items():
        with pytest.raises(OptionError, match=re.escape(message)):
            call()


def test_damaged_and_foreign_records_are_named(done: Path, tmp_path: Path) -> None:
    path = record_path(tmp_path, cell("otsu"))
    path.write_text('{"cell": {"data')
    for call in (lambda: run_grid([cell("otsu")], tmp_path), lambda: write_report(tmp_path, tmp_path)):
        with pytest.raises(DataError, match=re.escape(f"{path}: damaged")):
            call()
    path.write_text("{}")
    with pytest.raises(DataError, match="not the record of a cell"):
        run_grid([cell("otsu")], tmp_path)
    path.write_text('{"name": "x", "cell": {"dataset": "phantom", "protocol": {}}}')
    with pytest.raises(DataError, match=r"remove x\.json"):
        write_report(tmp_path, tmp_path)
    mixed = [record(done / f"phantom-{agent}-default-s0.json") for agent in ("otsu", "oracle")]
    mixed[1]["cell"]["protocol"]["size"] = 99
    for one in mixed:
        write_record(tmp_path / "mixed" / f"{one['name']}.json", one)
    with pytest.raises(DataError, match="different protocols"):
        write_report(tmp_path / "mixed", tmp_path)


def test_a_stopped_grid_leaves_no_process_behind(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks", "run", "--agents", "pa3c", "--seeds", "0", "--out", str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("needs /proc/PID/task/PID/children")

    def alive() -> list[str]:
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        return [pid for task in tasks for pid in task.read_text().split()]

    deadline = time.monotonic() + 60
    while not (found := alive()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found
    process.terminate()
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert "goes on from there" in process.stderr.read()
    assert not [pid for pid in found if Path(f"/proc/{pid}").exists()]


def test_a_process_that_is_born_during_a_stop_is_killed(tmp_path: Path) -> None:
    children: set[Any] = set()
    stopping = threading.Event()
    stopping.set()
    assert "exit code -9" in _in_own_process(cell("otsu"), tmp_path, children, stopping)
    assert not children
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_cannot_be_started_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.Popen

    def scarce(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(subprocess, "Popen", started)
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", scarce)
    first, second = cell("otsu"), cell("keep-all")
    assert run_grid([first, second], tmp_path) == [first.name]
    assert "Cannot allocate memory" in (tmp_path / f"{first.name}.error.txt").read_text()
    assert is_done(tmp_path, second)


def test_a_search_tries_only_what_changes_something() -> None:
    tried = {agent: sum(cell(agent, setting=name).applies for name in SEARCH) for agent in LEARNERS}
    assert all(count == (3 if agent in SUPERVISED else 5) for agent, count in tried.items())


def test_cells_travel_as_text_and_wrong_names_are_refused() -> None:
    one = cell("pixelrl", setting="50-shot", seed=3, fold=2, tuned={"learning_rate": 1e-3})
    assert from_text(to_text(one)) == one
    with pytest.raises(OptionError, match="Did you mean"):
        cell("pa3")
    with pytest.raises(OptionError, match="setting"):
        cell("pa3c", setting="no-sun")


def test_settings_change_what_they_say() -> None:
    for name in SETTINGS:
        for agent in ("pa3c", "ac", "dueling-dqn"):
            one = cell(agent, setting=name, tuned={"learning_rate": 3e-3, "sam": True})
            agent_made = one.learner(one.environment("train", 2))
            for key, value in one.rules.hyper.items():
                assert getattr(agent_made.config, key, value) == value
            assert (agent_made.config.learning_rate == 3e-3) == one.rules.tuned
            env: Any = one.environment("test", 2)
            wanted = {"transition": "absorbing", "observation": "masked"} | one.rules.env
            function = resolve_reward(str(wanted.pop("reward", "squared_error")))
            assert {key: getattr(env, key) for key in wanted} == wanted
            assert env.reward is function


def test_learners_with_anothers_network_have_their_own_hyperparameters(tmp_path: Path) -> None:
    write_record(tmp_path / "tuned.json", {"agents": {"ac": {"learning_rate": 5e-3}}})
    run = Run(agents=("ac-on-pa3c", "pa3c-on-unet"), seeds=(0,), tuned=tmp_path / "tuned.json", protocol=TINY)
    ac, pa3c = (one.learner(one.environment("train", 2)) for one in run.cells())
    assert ac.config.learning_rate == 5e-3
    assert ac.config.horizons == AC(one_env()).config.horizons
    assert pa3c.config == PA3C(one_env(), width=0.125).config
    for crossed, original in ((ac, PA3C(one_env(), width=0.125)), (pa3c, AC(one_env(), width=0.125))):
        assert crossed.network.state_dict().keys() == original.network.state_dict().keys()


def one_env() -> Any:
    return cell("pa3c").environment("train", 2)


# ------------------------------------------------------------------------------------------------ statistics


def test_statistics_are_the_cited_ones() -> None:
    rng = np.random.default_rng(0)
    scores, others = rng.random((4, 6)), rng.random((5, 6))
    ordered = np.sort(scores.reshape(-1))
    assert interquartile_mean(scores) == pytest.approx(ordered[6:18].mean())
    wins = np.mean([(a > b) + 0.5 * (a == b) for k in range(6) for a in scores[:, k] for b in others[:, k]])
    assert probability_of_improvement(scores, others) == pytest.approx(wins)
    low, high = interval(scores)
    resampled = []
    for _ in range(2000):  # rliable's with the data set as the stratum: a run is drawn with all its patients
        drawn = scores[rng.integers(0, 4, 4)]
        resampled.append(np.sort(drawn.reshape(-1))[6:18].mean())
    assert [low, high] == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.02)
    assert np.isnan(interval(scores[:1])).all()


@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_statistics_keep_their_bounds(seeds: int, tasks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((seeds, tasks))
    low, high = interval(scores)
    assert scores.min() - 1e-9 <= low <= high <= scores.max() + 1e-9
    assert probability_of_improvement(scores, scores) == pytest.approx(0.5)
    assert probability_of_improvement(scores + 2, scores) == 1
    assert interquartile_mean(scores + 1) == pytest.approx(interquartile_mean(scores) + 1)


# ------------------------------------------------------------------------------------------------ report


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
    assert table.rows["Otsu's threshold"][0] == (pytest.approx(0.7), pytest.approx(0.2))
    assert table.apart == {"Otsu's threshold"}


def test_intervals_draw_whole_runs() -> None:
    """A good network is good on many patients at once: with seeds 0.1 apart on every patient, the mean is not sure."""
    scores = np.linspace(0.4, 0.6, 13) + np.array([[-0.1], [0.0], [0.1]])
    low, high = interval(scores)
    assert high - low > 0.15


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


def test_tables_of_variants_budgets_and_seeds(done: Path) -> None:
    records = Records(record(path) for path in sorted(done.glob("*.json")))
    ac, few = records.get("ac"), records.get("ac", "50-shot")
    dice, biou = (
        [float(np.mean([np.mean(r["test"]["images"][m]) for r in found])) for found in (few, ac)]
        for m in ("DICE", "BIoU")
    )
    table = variants(records, "T", ("pa3c", "ac"), {"50-shot": "few", "default": "all"}, True).rows
    assert table["few"] == [None, None, pytest.approx(dice[0], abs=1e-4), pytest.approx(biou[0], abs=1e-4)]
    assert table["all"][2:] == [pytest.approx(dice[1], abs=1e-4), pytest.approx(biou[1], abs=1e-4)]
    table = variants(records, "T", ("ac",), {"default": "all", "50-shot": "few", "no-sam": "none"}, False).rows
    assert list(table) == ["all", "few"]
    assert table["few"][0] == pytest.approx(dice[0], abs=1e-4)
    assert (table["all"][-1], table["few"][-1]) == (2, 1)
    given = budgets(records, "T").rows
    assert given["AC"][0] == np.mean([r["image_passes"] for r in ac])
    assert given["AC"][4] == pytest.approx(np.mean([r["seconds"]["cpu"] for r in ac]) / 60)
    assert given["U-Net, supervised"][2] is None
    assert given["PixelRL"][1] == records.get("pixelrl")[0]["image_visits"]
    said = certainty(records, "T").rows
    pa3c = patient_scores(records.get("pa3c"))
    assert said["AC"][0] == pytest.approx(interquartile_mean(patient_scores(ac)))
    assert said["AC"][3] == pytest.approx(probability_of_improvement(patient_scores(ac), pa3c))
    assert said["PA3C"][3] is None
    assert "Otsu's threshold" not in said


def test_a_gain_is_that_of_the_same_network() -> None:
    before = np.array([[0.1, 0.5], [0.8, 0.5]])
    assert share_that_gained(before + 0.01, before) == 1, "though seeds differ by far more"
    assert share_that_gained(before, before) == 0.5
    assert share_that_gained(before + np.array([[0.1, 0], [-0.1, 1e-9]]), before) == 0.5


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
    assert rows["AC's learning"][0] == rows["AC's learning"][2] == dice
    assert "pa3c-on-unet" not in records.agents()


def test_seeds_with_other_hyperparameters_do_not_stand_in_one_row(done: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        one = record(done / f"phantom-pa3c-default-s{seed}.json")
        if seed:
            one["config"] |= {"entropy_coefficient": 0.5}
        write_record(tmp_path / f"{one['name']}.json", one)
    with pytest.raises(DataError, match=r"pa3c-default-s0 was trained with entropy_coefficient=0.02, .*s1 with 0.5"):
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
    file.write_text(head + "table-2,phantom,AC,DICE,high\n")
    with pytest.raises(DataError, match=r"published.csv, line 2: expected table,.*'high'"):
        add_published(table, "table-2", "phantom", file)


def test_the_row_of_pa3c_is_what_pixelseg_train_makes(done: Path, tmp_path: Path) -> None:
    found = record(done / "phantom-pa3c-default-s1.json")
    words = f"train --size 16 --updates {found['updates']} --width 0.125 --seed 1 --log none --device cpu --horizon 2"
    assert pixelseg([*words.split(), "--out", str(tmp_path / "run")]) == 0
    by_cli = record(tmp_path / "run/evaluation.json")
    assert found["test"]["summary"]["dice_by_step"] == pytest.approx(by_cli["summary"]["dice_by_step"], abs=1e-5)


def test_agents_of_the_readers_own_take_part(done: Path, tmp_path: Path) -> None:
    found = record(done / "phantom-examples.own_agent.Threshold-default-s0.json")
    learner = record(done / "phantom-pa3c-default-s0.json")
    assert found["test"]["images"]["case"] == learner["test"]["images"]["case"]
    assert found["seconds"]["wall"] > 0
    assert any(
        line.startswith("| examples.own_agent:Threshold |") for line in write_report(done, tmp_path).splitlines()
    )
    for name in ("examples.own_agent:Nothing", "no.such.module:agent", ":agent"):
        with pytest.raises(OptionError, match="expected module:factory"):
            cell(name)


def test_a_model_of_stable_baselines3_takes_part(tmp_path: Path) -> None:
    one = cell("examples.sb3_agents:a2c")
    assert run_grid([one], tmp_path) == []
    summary = record(record_path(tmp_path, one))["test"]["summary"]
    first, last = summary["dice_by_step"]
    assert first == last, "it decides once, and repeats itself"
    assert first > 0


def test_an_agent_of_ones_own_gets_the_training_images_and_the_budget() -> None:
    one = cell("test_grid:remember", seed=5)
    seen = one.learner(one.environment("train", 2))
    assert seen["cases"] == one.parts["train"].cases
    assert (seen["seed"], seen["passes"]) == (5, 120)


def remember(env: Any, seed: int, passes: int) -> dict[str, Any]:
    return {"cases": env.dataset.cases, "seed": seed, "passes": passes}
