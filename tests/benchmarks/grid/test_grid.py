"""The benchmark's grid: cells are independent, skipped when done, and a failed one never stops the rest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.grid.cells import Cell, Protocol, is_done, record_path
from benchmarks.grid.commands import read_tuned
from benchmarks.grid.engine import _in_own_process, _stopped_by_signals, from_text, run_grid, to_text
from benchmarks.grid.running import run, run_cell, untrained, updates
from benchmarks.records import write_record
from benchmarks.study import MODULE, STUDY
from benchmarks.study.commands import Run, Search
from benchmarks.study.learners import LEARNERS, REFERENCES
from benchmarks.study.report import write_report
from benchmarks.study.variants import searched
from pixelseg_agents import AC, PA3C
from pixelseg_agents.cli import main as pixelseg
from pixelseg_env import DataError, OptionError
from pixelseg_env.datasets import phantom
from pixelseg_env.rewards import resolve_reward
from tests.helpers.data import write_brain, write_institutions
from tests.helpers.grid import PHANTOMS, ROOT, TINY, cell, one_env, record


def test_every_learner_leaves_a_whole_record(done: Path) -> None:
    for learner in LEARNERS:
        found = record(done / f"phantom-{learner.name}-default-s0.json")
        assert {"config", "versions", "commit", "hardware", "parameters", "peak_mib", "updates"} <= found.keys()
        assert found["seconds"]["wall"] > 0
        assert len(found["curve"]) >= 2
        assert found["curve"][-1]["passes"] <= found["image_passes"]
        for part in ("val", "test"):
            images = found[part]["images"]
            assert len(images["case"]) == len(images["DICE"]) == found[part]["summary"]["images"]
            assert np.mean(images["DICE"]) == pytest.approx(found[part]["summary"]["metrics"]["DICE"]["mean"], abs=1e-5)
    for learner in REFERENCES:
        assert "parameters" not in record(done / f"phantom-{learner.name}-default-s0.json")
    oracle = record(done / "phantom-oracle-default-s0.json")
    assert oracle["test"]["summary"]["metrics"]["DICE"]["mean"] == 1.0


@pytest.mark.parametrize("agent", [one.name for one in LEARNERS])
def test_every_agent_gets_the_same_budget(agent: str) -> None:
    protocol = Protocol(size=16, width=0.125, passes=24_000)
    one = Cell("phantom", (), agent, protocol=protocol, study=MODULE)
    learner = untrained(one, one.environment("train", 2, Constant() if one.learner.refines else None))
    count = updates(one, learner)
    plan = learner.config.schedule(count)
    planned = 8 * sum(learner.passes_per_update(plan.horizon(update)) for update in range(count))
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
    assert len(tested) == len(set(tested)) == PHANTOMS
    tested_never, others = set(cell().parts["test"].cases), []
    for fold in range(5):
        parts = {name: set(part.cases) for name, part in cell("pa3c", setting="try-default", fold=fold).parts.items()}
        assert parts.keys() == {"train", "val"}
        assert not tested_never & (parts["train"] | parts["val"])
        assert not parts["train"] & parts["val"]
        others += parts["val"]
    assert len(others) == len(set(others)) == PHANTOMS - len(tested_never)
    few = cell(setting="50-shot", seed=3).parts
    assert len(few["train"]) == 50
    assert len(few["test"]) == len(cell().parts["test"])


def test_those_who_are_left_out_are_tested_on_and_nobody_else(tmp_path: Path) -> None:
    """Under a setting, too, that otherwise never looks at test patients; every institution once."""
    write_institutions(tmp_path)
    grid = Run("folder", (str(tmp_path),), ("pa3c",), ("missing-third",), (0,), leave_out=("XX_A", "XX_B"))
    one, other = grid.cells()
    assert [cell.name for cell in (one, other)] == [
        f"folder-pa3c-missing-third-s0-without-{name}" for name in ("XX_A", "XX_B")
    ]
    assert one.judged == ("val", "test")
    parts = {name: set(part.cases) for name, part in one.parts.items()}
    assert parts["test"] == {case for case in set().union(*parts.values()) if case.startswith("XX_A")}
    assert len(parts["test"]) == 4
    assert len(parts["train"]) == 3
    assert len(parts["val"]) == 1
    assert not parts["train"] & parts["val"]
    assert from_text(to_text(one)) == one
    assert one.to_json()["left_out"] == "XX_A"
    assert "left_out" not in replace(one, left_out="").to_json(), "as in records of earlier versions"


def test_done_cells_are_skipped_and_other_options_are_refused(done: Path, tmp_path: Path) -> None:
    path = done / "phantom-otsu-default-s0.json"
    before = path.stat().st_mtime_ns
    assert run_grid([cell("otsu")], done) == []
    assert path.stat().st_mtime_ns == before
    other = Cell("phantom", (), "otsu", protocol=Protocol(size=32))
    with pytest.raises(OptionError, match="made with other options"):
        run_grid([other], done)


def test_failed_cells_stop_no_other_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that no process can be had for, and one whose last words are no text."""
    started = subprocess.Popen

    def scarce(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(subprocess, "Popen", started)
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", scarce)
    unborn, loud, fine = cell("otsu"), cell(f"{__name__}:noise"), cell("examples.own_agent:Threshold")
    assert run_grid([unborn, loud, fine, fine], tmp_path) == [unborn.name, loud.name]
    said = capsys.readouterr().out
    for failed, why in ((unborn, "Cannot allocate memory"), (loud, "ValueError: after noise")):
        assert why in (tmp_path / f"{failed.name}.error.txt").read_text()
        assert f"FAILED {failed.name}: " in said
    summary = record(record_path(tmp_path, fine))["test"]["summary"]
    first, last = summary["dice_by_step"]
    assert first == last, "it decides once, and repeats itself"
    assert first > 0


def noise(env: Any, seed: int, passes: int) -> None:
    os.write(2, b"\xff\xfe")
    raise ValueError("after noise")


WAITS = """
import os, time
from pathlib import Path
from examples.own_agent import Threshold

def agent(env, seed, passes):
    if not Path({go!r}).exists():
        Path({begun!r}).write_text(f"{{os.getpid()}}.")
        time.sleep(3600)
    return Threshold(env)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_killed_grid_ends_its_cells_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kill -9` of the grid alone, in the middle of its second cell; the first was done before."""
    out, begun, go = (tmp_path / name for name in ("out", "begun", "go"))
    (tmp_path / "waiting.py").write_text(WAITS.format(go=str(go), begun=str(begun)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    protocol = Protocol(size=16, passes=400, width=0.125)
    again = Run(agents=("keep-all", "waiting:agent"), seeds=(0,), out=out, protocol=protocol)
    run_cell(out, again.cells()[0])
    words = [sys.executable, "-m", "benchmarks", "run", "--agents", "keep-all", "waiting:agent", "--seeds", "0"]
    words += ["--size", "16", "--passes", "400", "--width", "0.125", "--out", str(out)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (begun.exists() and begun.read_text().endswith(".")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while is_alive(int(begun.read_text()[:-1])):
        assert time.monotonic() < deadline, "an orphan trains on"
        time.sleep(0.1)
    assert [path.name for path in out.glob("*.json")] == ["phantom-keep-all-default-s0.json"]
    first = out / "phantom-keep-all-default-s0.json"
    before = first.stat().st_mtime_ns
    assert [is_done(out, one) for one in again.cells()] == [True, False]
    go.touch()
    assert again.main() == 0
    assert all(is_done(out, one) for one in again.cells()), "what was killed is made"
    assert first.stat().st_mtime_ns == before, "what is done is left alone"


def test_a_cell_learns_watches_and_judges_on_the_parts_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.grid import running

    one, judged = cell("ac"), []
    plain = running.evaluate

    def spy(agent: Any, env: Any, **options: Any) -> Any:
        judged.append((env.dataset.cases, plain(agent, env, **options)))
        return judged[-1][1]

    monkeypatch.setattr(running, "evaluate", spy)
    found = run(one)
    val, test = one.parts["val"].cases, one.parts["test"].cases
    asked = [cases for cases, _ in judged]
    looks = len(found["curve"])
    assert looks >= 2
    assert asked == [val] * looks + [val] * 2 + [test] * 2  # the curve, then the horizon and 15 steps of each
    for place, part in ((looks, "val"), (looks + 2, "test")):
        assert found[part]["images"]["DICE"] == judged[place][1].metrics["DICE"].tolist()
    assert found["curve"][0]["dice"] == judged[0][1].dice_by_step[:, -1].mean()
    searched = run(cell("ac", setting="tune-default"))
    assert "val" in searched
    assert not {"test", "examples"} & searched.keys(), "a search never looks at test patients"


def test_what_the_search_found_applies_where_it_may() -> None:
    def rate(**options: Any) -> float:
        one = cell("ac", tuned={"learning_rate": 0.5}, **options)
        return float(untrained(one, one.environment("train", 2)).config.learning_rate)

    assert rate() == rate(setting="50-shot") == 0.5
    assert rate(setting="tune-default") == 1e-3
    assert rate(setting="tune-learning-rate-low") == 5e-4


def test_a_refiner_counts_the_passes_of_its_coarse_maps(done: Path) -> None:
    found = record(done / "phantom-pixelrl-default-s0.json")
    coarse = found["coarse"]["updates"] * TINY.batch
    assert coarse > 0
    assert found["image_passes"] == coarse + found["environment_steps"]
    assert found["curve"][-1]["passes"] == found["image_passes"]
    one = cell("pixelrl")
    learner = untrained(one, one.environment("train", 2, Constant()))
    assert found["updates"] == updates(one, learner, 0.75) < updates(one, learner)


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
    images = tmp_path / "few"
    images.mkdir()
    for k in range(9):
        cv2.imwrite(str(images / f"p{k}.png"), np.full((8, 8), 9, np.uint8))
        cv2.imwrite(str(images / f"p{k}_mask.png"), np.eye(8, dtype=np.uint8) * 255)
    few = Cell("folder", (str(images),), "ac", "50-shot", protocol=TINY, study=MODULE)
    wrong = {
        "setting='no-sun' is not known": lambda: Run(agents=("otsu",), settings=("no-sun",)).cells(),
        "change nothing about these agents: dqn no-sam": lambda: Run(agents=("dqn",), settings=("no-sam",)).cells(),
        "dataset='brian' is not known": lambda: Run(dataset="brian").cells(),
        "fold 5: expected one of 0 to 4": lambda: Run(folds=(5,)).cells(),
        "--folds and --leave-out": lambda: Run(folds=(1,), leave_out=("p",)).cells(),
        "left out 'q': no patients' names begin so (one is 'p0')": lambda: replace(few, left_out="q").parts,
        "left out 'p': all patients' names begin so": lambda: replace(few, left_out="p").parts,
        "no such file": lambda: Run(tuned=tmp_path / "nowhere.json").cells(),
        "not what `python -m benchmarks search` writes": lambda: Run(tuned=ROOT / "pyproject.toml").cells(),
        "otsu: has no hyperparameters": lambda: Search(agents=("otsu",)).main(),
        "--jobs 0": lambda: run_grid([], tmp_path, 0),
        "--passes 0: expected 1 or more": lambda: Protocol(passes=0),
        "--width nan": lambda: Protocol(width=float("nan")),
        "seed -1: expected 0 or more": lambda: Run(seeds=(-1,)).cells(),
        "--agents: expected at least one": lambda: Run(agents=()).cells(),
        "50-shot: expected that many training images": lambda: few.parts,
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


def test_a_grid_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stopped_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with _stopped_by_signals(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_is_born_during_a_stop_is_killed(tmp_path: Path) -> None:
    children: set[Any] = set()
    stopping = threading.Event()
    stopping.set()
    assert "exit code -9" in _in_own_process(cell("otsu"), tmp_path, children, stopping)
    assert not children
    assert list(tmp_path.iterdir()) == []


def test_a_search_tries_only_what_changes_something() -> None:
    for learner in LEARNERS:
        tried = sum(cell(learner.name, setting=name).applies for name in STUDY.search)
        assert tried == (3 if learner.facts.supervised else 5), learner.name


def test_cells_travel_as_text_and_wrong_names_are_refused() -> None:
    one = cell("pixelrl", setting="50-shot", seed=3, fold=2, tuned={"learning_rate": 1e-3})
    assert from_text(to_text(one)) == one
    with pytest.raises(OptionError, match="Did you mean"):
        cell("pa3")
    with pytest.raises(OptionError, match="setting"):
        cell("pa3c", setting="no-sun")


def test_settings_change_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom.load_phantom, "__defaults__", (160, 0, 1))  # some train on a hundred
    for name in STUDY.settings:
        for agent in ("pa3c", "ac", "dueling-dqn"):
            one = cell(agent, setting=name, tuned={"learning_rate": 3e-3, "sam": True})
            if one.rules.data:  # which these images have not
                with pytest.raises(OptionError, match=r"'phantom' has no option '(scaling|channels)'"):
                    _ = one.parts
                continue
            if "missing_sequences" in one.rules.hyper:  # these images have one channel
                with pytest.raises(OptionError, match="images have one channel"):
                    untrained(one, one.environment("train", 2))
                continue
            agent_made = untrained(one, one.environment("train", 2))
            for key, value in one.rules.hyper.items():
                assert getattr(agent_made.config, key, value) == value
            assert (agent_made.config.learning_rate == 3e-3) == one.rules.tuned
            env: Any = one.environment("test", 2)
            wanted = {"transition": "absorbing", "observation": "masked"} | one.rules.env
            function = resolve_reward(str(wanted.pop("reward", "squared_error")))
            assert (env.task.start is not None) == (wanted.pop("start", None) is not None)
            assert {key: getattr(env, key) for key in wanted} == wanted
            assert env.reward is function


def test_settings_read_images_as_they_say(tmp_path: Path) -> None:
    write_brain(tmp_path, cases=5)
    for name in ("gradient-natural", "flair", "scaled-percentiles", "scaled-percentiles-flair"):
        one = Cell("brain", (str(tmp_path),), "pa3c", name, protocol=TINY, study=MODULE)
        images = one.parts["train"].images
        assert images.shape[1] == (1 if "flair" in name else 3)
        assert (images.max() == 255) == ("scaled" in name)
        assert one.applies


def test_learners_with_anothers_network_have_their_own_hyperparameters(tmp_path: Path) -> None:
    write_record(tmp_path / "tuned.json", {"agents": {"ac": {"learning_rate": 5e-3}}})
    command = Run(agents=("ac-on-pa3c", "pa3c-on-unet"), seeds=(0,), tuned=tmp_path / "tuned.json", protocol=TINY)
    ac, pa3c = (untrained(one, one.environment("train", 2)) for one in command.cells())
    assert ac.config.learning_rate == 5e-3
    assert ac.config.horizons == AC(one_env()).config.horizons
    assert pa3c.config == PA3C(one_env(), width=0.125).config
    for crossed, original in ((ac, PA3C(one_env(), width=0.125)), (pa3c, AC(one_env(), width=0.125))):
        assert crossed.network.state_dict().keys() == original.network.state_dict().keys()


def test_the_row_of_pa3c_is_what_pixelseg_train_makes(done: Path, tmp_path: Path) -> None:
    found = record(done / "phantom-pa3c-default-s1.json")
    words = f"train --preset whole --size 16 --updates {found['updates']} --width 0.125 --seed 1 --horizon 2"
    quiet = ["--log", "none", "--device", "cpu"]
    assert pixelseg([*words.split(), *quiet, "--out", str(tmp_path / "run")]) == 0
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
    wrong = {
        "examples.own_agent:Nothing": "has no 'Nothing'",
        "no.such.module:agent": "cannot be imported",
        ":agent": "expected module:name",
        "benchmarks.study:MODULE": "expected a class with the face of PixelAgent, or factory",
    }
    for name, said in wrong.items():
        with pytest.raises(OptionError, match=said):
            cell(name)


def test_an_agent_of_ones_own_gets_the_training_images_and_the_budget() -> None:
    one = cell(f"{__name__}:remember", seed=5)
    seen = untrained(one, one.environment("train", 2))
    assert seen["cases"] == one.parts["train"].cases
    assert (seen["seed"], seen["passes"]) == (5, 120)


def remember(env: Any, seed: int, passes: int) -> dict[str, Any]:
    return {"cases": env.dataset.cases, "seed": seed, "passes": passes}
