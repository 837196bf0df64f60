"""`python -m benchmarks table N` and `figure N`: made from records, or what is missing, with a command that works."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import cv2
import pytest
import tyro

from benchmarks.grid.cells import Protocol
from benchmarks.grid.estimate import training_seconds
from benchmarks.nnunet.commands import NnUNet
from benchmarks.study.asked import Asked
from benchmarks.study.commands import Run
from benchmarks.study.learners import SYSTEMS
from benchmarks.study.plans import FIGURES, TABLES
from benchmarks.study.publication import Figure, Table
from benchmarks.study.reading import Records, read_grid
from benchmarks.study.report import tables
from pixelseg_agents.networks import network_class
from pixelseg_env import OptionError
from tests.helpers.grid import TINY, cell


def asked(**options: Any) -> Asked:
    """TINY, with changes."""
    return Asked(**(vars(TINY) | options))


def test_a_table_is_made_and_what_is_missing_can_be_made_by_the_command(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Table(2, dataset="phantom", records=str(done), time=False).main() == 1
    printed = capsys.readouterr().out
    assert "| PA3C |" in printed
    lines = printed.split("trainings are missing\n")[1].splitlines()
    missing = {line.strip() for line in lines if line.startswith("  ")}
    real = "phantom-nnunetv2-default-s0"
    assert missing == {real, *(f"phantom-{one.name}-default-s0" for one in SYSTEMS)}
    commands = [line.removeprefix("make them: ") for line in lines if line.startswith("make them: ")]
    kinds = {"run": (Run, missing - {real}), "nnunet": (NnUNet, {real})}
    for command, (name, (kind, makes)) in zip(commands, kinds.items(), strict=True):
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "benchmarks", name]
        made: Any = tyro.cli(kind, args=words[4:])
        assert {one.name for one in made.cells()} == makes
        assert made.protocol == TINY
        assert made.out == done


def test_nothing_at_all_is_said_with_the_time_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Figure(7, dataset="phantom", records=str(tmp_path), protocol=asked(passes=6_000))
    assert made.main() == 1
    printed = capsys.readouterr().out
    assert "3 of 3 trainings are missing" in printed
    assert printed.count("min here") == 3


@pytest.mark.parametrize("words", [["--size", "32"], ["--passes", "121", "--judge-at", "size"], ["--split-seed", "1"]])
def test_a_protocol_that_is_asked_for_is_not_ignored(done: Path, words: list[str]) -> None:
    """Records of two protocols cannot stand in one table, so those of another are not shown under its name."""
    for dataset in ("phantom", "brain"):  # of the second there are none: the command would put them into that folder
        table = tyro.cli(Table, args=["2", "--dataset", dataset, "--records", str(done), "--no-time", *words])
        with pytest.raises(OptionError, match=f"{words[0]} {words[1]}.*{done} were made with {words[0]}"):
            table.main()


def test_tables_2_and_5_are_made_of_any_data_set(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The two have one form; the report has the one that the publication has of the data set."""
    table = Table(5, dataset="phantom", records=str(done), time=False)
    assert table.main() == 1
    printed = capsys.readouterr().out
    assert "**Table 5 on phantom, means over test images**" in printed
    assert "| PA3C |" in printed
    assert "published" not in printed, "it has no phantoms in that table"
    assert {"table-2", "table-5"} & tables(Records(read_grid(done)["phantom"]), "phantom").keys() == {"table-2"}
    found = Records(read_grid(done)["phantom"])
    assert "Table 5: HECKTOR 2020" in tables(found, "hecktor")["table-5"].title
    assert "Table 2 on hecktor" in tables(found, "hecktor", wanted="table-2")["table-2"].title
    assert "numbers of parameters; it has no scores" in tables(found, "phantom")["table-2"].note
    table.seeds = ()
    with pytest.raises(OptionError, match="--seeds: expected at least one"):
        table.main()


def test_every_flag_of_the_protocol_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [one.name for one in dataclasses.fields(Asked)] == [one.name for one in dataclasses.fields(Protocol)]
    words = ["3", "--dataset", "phantom", "--records", str(tmp_path), "--no-time", "--size", "32", "--split-seed", "2"]
    assert tyro.cli(Table, args=words).main() == 1
    assert "--size 32 --passes 12000 --split-seed 2" in capsys.readouterr().out


def test_the_estimate_grows_with_the_budget() -> None:
    """Time is measured, so within a factor; that of ten times the passes is ten times as long."""
    short, long = (
        training_seconds(dataclasses.replace(cell("pa3c"), protocol=dataclasses.replace(TINY, passes=passes)))
        for passes in (1_000, 100_000)
    )
    assert short is not None
    assert long is not None
    assert 0 < short < long < 1000 * short
    assert training_seconds(cell("otsu")) == 0
    assert training_seconds(cell("examples.own_agent:Threshold")) is None


@pytest.mark.parametrize("number", sorted(FIGURES))
def test_figures_are_drawn(done: Path, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Figure(number, dataset="phantom", records=str(done), time=False, out=tmp_path).main() in (0, 1)
    picture = tmp_path / f"phantom-figure-{number}.png"
    assert str(picture) in capsys.readouterr().out
    image = cv2.imread(str(picture))
    assert image.std() > 5, "not a blank picture"
    if number == 4:
        assert image.shape[1] > image.shape[0] / 4 * 2.5, "an image and the maps of two steps, of four patients"


def test_folders_that_are_not_those_of_the_records_are_told(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in done.glob("phantom-pa3c-default-s0.json"):  # as if its images came from folders
        (tmp_path / path.name).write_text(path.read_text().replace('"data": []', '"data": ["lgg_a", "lgg_b"]', 1))
    figure = Figure(4, dataset="phantom", records=str(tmp_path), time=False, out=tmp_path)
    for data in ((), ("/tmp/nothere", "lgg_a")):
        figure.data = data
        assert figure.main() == 0
        said = capsys.readouterr().out
        assert "by the names that the records have: lgg_a, lgg_b" in said
        assert ("got /tmp/nothere, lgg_a" in said) == bool(data)


def test_every_table_and_figure_has_a_plan_that_can_be_trained() -> None:
    assert sorted(TABLES) == [2, 3, 4, 5, 6]
    assert sorted(FIGURES) == [3, 4, 5, 6, 7]
    for plan in (*TABLES.values(), *FIGURES.values()):
        cells = list(plan.cells("phantom", (), (0,), TINY))
        assert len({one.name for one in cells}) == len(cells) >= 1
        for one in cells:
            if not (one.learner.reference or one.learner.factory):
                assert one.config().width > 0
    with pytest.raises(OptionError, match=r"table 7: .* 2, 3, 4, 5, 6"):
        Table(7).main()


def test_the_labels_of_systems_are_those_of_their_networks() -> None:
    named = {one.label: one.hyper["network"] for one in SYSTEMS if one.agent == "supervised"}
    for label, name in named.items():
        assert network_class(name).label == label.removesuffix("'s network"), "the real nnU-Net has a row of its own"
