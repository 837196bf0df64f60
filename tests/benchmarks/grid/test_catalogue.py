"""Learners come by name, registered or `module:name`, and bring their own facts."""

from __future__ import annotations

import csv
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from benchmarks.grid.catalogue import Learner, Study, load_study
from benchmarks.grid.cells import Cell, record_path
from benchmarks.grid.engine import from_text, to_text
from benchmarks.grid.running import run_cell
from benchmarks.records import write_record
from benchmarks.study import MODULE, STUDY
from benchmarks.study.commands import Run
from benchmarks.study.learners import AMP_DRL, LEARNERS, NETWORKS_BY_LABELS, REFERENCES, SYSTEMS
from benchmarks.study.reading import Records
from benchmarks.study.report import write_report
from pixelseg_agents import PA3C, Supervised, SupervisedConfig
from pixelseg_agents.registry import AGENTS, register_agent
from pixelseg_env import OptionError
from tests.helpers.grid import TINY, cell, record

HERE = __name__


@dataclass(frozen=True)
class MineConfig(SupervisedConfig):
    """Hyperparameters of `Mine`."""

    agent: ClassVar[str] = "mine"
    taste: float = 1.0


class Mine(Supervised):
    """An agent that nobody lists."""

    name = "Mine, looking once"
    formerly = ()
    config_class = MineConfig
    idle = ("taste",)


class Namesake(PA3C):
    """An agent with the name of one that the study has."""


def by_rule(env: Any, seed: int, passes: int) -> None:
    """A factory; it is never called here."""


def test_a_class_of_the_readers_own_stands_in_the_tables_under_its_own_name(done: Path, tmp_path: Path) -> None:
    command = Run(agents=(f"{HERE}:Mine",), seeds=(0,), out=tmp_path, protocol=TINY)
    (one,) = command.cells()
    run_cell(tmp_path, one)
    found = record(record_path(tmp_path, one))
    assert found["cell"]["agent"] == f"{HERE}:Mine"
    assert found["image_passes"] == TINY.passes, "it has the budget of the others"
    assert found["curve"], "and is watched"
    found["cell"]["agent"] = found["name"] = "gone.away:Mine"  # a report needs no code of the reader's own
    write_record(tmp_path / f"{one.name}.json", found)
    for path in done.glob("*-default-s0.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert "| Mine, looking once |" in write_report(tmp_path, tmp_path / "out")
    with (tmp_path / "out/phantom-budgets.csv").open() as file:
        budgets = {row["row"]: row for row in csv.DictReader(file)}
    assert budgets["Mine, looking once"]["environment steps"] == "", "it looks once"


def test_a_registered_agent_needs_no_line_of_the_study() -> None:
    register_agent("mine", Mine)
    try:
        assert cell("mine").learner.facts.label == "Mine, looking once"
        made = {"cell": {"agent": "mine", "setting": "default", "seed": 0, "fold": None}}
        assert Records([made]).facts("mine").supervised
    finally:
        del AGENTS["mine"]
    with pytest.raises(OptionError, match="agent='mine' is not known"):
        cell("mine")


def test_rows_of_the_same_name_are_told_apart() -> None:
    facts = dataclasses.asdict(Learner(f"{HERE}:Namesake").facts)
    made = [
        {"cell": {"agent": agent, "setting": "default", "seed": 0, "fold": None}, "facts": facts}
        for agent in ("pa3c", f"{HERE}:Namesake")
    ]
    records = Records(made)
    assert [records.label(agent) for agent in records.agents()] == ["PA3C", f"PA3C ({HERE}:Namesake)"]
    assert Records(made[1:]).label(f"{HERE}:Namesake") == "PA3C"


def test_facts_come_from_classes() -> None:
    facts = {one.agent: one.learner.facts for one in (cell(learner.name) for learner in STUDY.learners)}
    assert {name for name, fact in facts.items() if fact.reference} == {one.name for one in REFERENCES}
    networks = {one.name for one in (*NETWORKS_BY_LABELS, AMP_DRL)}
    assert {name for name, fact in facts.items() if fact.supervised} == {
        "unet",
        "twin-plain",
        "twin-steps",
        "unet-steps",
    } | networks
    assert {name for name, fact in facts.items() if fact.looks_once} == {"unet", "twin-plain"} | networks
    refining = {one.name for one in (*LEARNERS, *SYSTEMS) if one.refines}
    assert refining == {"pixelrl", "pixelrl-cross-entropy", "pixelrl-unet3+"}
    labels = [fact.label for fact in facts.values()]
    assert len(set(labels)) == len(labels), "every row has a name of its own"
    assert Learner("pixelrl").rules == {"transition": "additive", "observation": "stacked"}
    assert (Learner(f"{HERE}:by_rule").factory, Learner(f"{HERE}:Mine").factory) == (True, False)


def test_what_the_study_lists_under_another_name_is_that_row() -> None:
    assert STUDY.learner("supervised").name == "unet"
    twin = "benchmarks.study.twin:SupervisedTwin"
    assert STUDY.learner(twin) == Learner(twin), "what has something fixed is a row of its own"
    assert [one.agent for one in Run(agents=("supervised",), seeds=(0,)).cells()] == ["unet"]


def test_settings_apply_where_they_change_something() -> None:
    def applies(agent: str, setting: str, **options: Any) -> bool:
        return cell(agent, setting=setting, **options).applies

    assert applies("pa3c", "no-foreground-weight")
    assert not applies("unet", "no-foreground-weight"), "it has none by default"
    assert not applies("twin-plain", "no-foreground-weight"), "the study fixes it"
    assert applies("pa3c", "horizons-1-3-10")
    assert not applies("ac", "horizons-1-3-10"), "as by default"
    assert not applies("unet", "t_max-5"), "it looks once"
    assert not applies("twin-plain", "previews")
    assert applies("twin-steps", "previews")
    assert not applies("pixelrl", "no-later-background-weight"), "nothing else where zero is not final"
    assert not applies("pixelrl", "restorable")
    assert [applies("pixelrl", name) for name in ("closer", "look-restorable")] == [True, False], "it looks closer, too"
    assert [applies("pixelrl", name) for name in ("stacked", "dice-gain")] == [False, False], "as it is, or not its own"
    assert not applies("otsu", "no-sam")
    assert not applies(f"{HERE}:by_rule", "no-sam")
    assert applies(f"{HERE}:by_rule", "restorable")


def test_a_cell_takes_its_study_along_and_its_record_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell("twin-plain", setting="t_max-5")
    assert one.study == MODULE
    assert from_text(to_text(one)) == one
    assert "study" not in one.to_json()
    assert load_study("") == Study()
    with pytest.raises(OptionError, match="agent='twin-plain' is not known"):
        Cell("phantom", (), "twin-plain")
    with pytest.raises(OptionError, match="setting='t_max-5' is not known"):
        Cell("phantom", (), "pa3c", "t_max-5")
    with pytest.raises(OptionError, match="has no 'STUDY'"):
        load_study("benchmarks.records")
    monkeypatch.setitem(sys.modules, "odd_study", SimpleNamespace(STUDY=3))
    with pytest.raises(OptionError, match="expected a module whose STUDY is a Study, got int"):
        load_study("odd_study")
