"""Everything that the README shows is executed here, and its figures are those of the records."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import gymnasium as gym
import pytest
import tyro

import pixelseg_env
from benchmarks.grid.cells import is_done
from benchmarks.nnunet.commands import NnUNet
from benchmarks.study.commands import Run, Search
from benchmarks.study.report import all_tables
from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.cli import main
from pixelseg_env.datasets import load_dataset
from tests.helpers.figures import undrawn
from tests.helpers.fresh import run_script
from tests.packaging.distributions import copy_of_the_checkout

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]
MAKE = [line for block in SHELL for line in block.splitlines() if line.startswith("make ")]
PIP = [line for block in SHELL for line in block.splitlines() if line.startswith("pip ")]
PIXELSEG = [block for block in SHELL if "pixelseg " in block]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_kind_of_block_is_covered() -> None:
    assert len(PYTHON) == 5
    assert len(MAKE) == 2
    assert len(PIP) == 1
    assert SHELL[0].startswith("pip install ")
    assert SHELL[1].startswith("make ")
    assert len(PIXELSEG) >= 1
    assert {language for language, _ in BLOCKS} <= {"python", "sh", "bibtex"}
    for line in (line for block in SHELL for line in block.splitlines()):
        assert line.startswith(("pip install ", "make ", "pixelseg ")), line


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks_run_and_print_scores(code: str, tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(code)
    done = run_script(tmp_path / "block.py", folder=tmp_path, strict=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.\d{3}", done.stdout)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("import")]) <= 10


@pytest.mark.parametrize("line", PIP)
def test_pip_lines_install_both_packages(line: str, tmp_path: Path) -> None:
    """In a copy of the checkout, without downloading what is here already."""
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", str(tmp_path / "installed")]
    run([sys.executable, "-m", *shlex.split(line), *offline], checkout)
    assert (tmp_path / "installed/pixelseg_env/env.py").is_file()
    assert (tmp_path / "installed/pixelseg_agents/cli/__init__.py").is_file()


@pytest.mark.parametrize("line", MAKE)
def test_make_targets_exist(line: str) -> None:
    """They are run by hand and by continuous integration; from within `make test` they would never end."""
    does = {"make train": "pixelseg train --dataset phantom", "make test": "-m pytest"}
    assert does[line] in run(["make", "-n", *shlex.split(line)[1:]], ROOT)


@pytest.mark.parametrize("block", PIXELSEG)
@undrawn()
def test_pixelseg_commands_run_on_a_folder_of_images(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where torch is imported already; the installed command is tried by tests/packaging."""
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "my_images"
    images.mkdir()
    phantoms = load_dataset("phantom", split="all", size=32, count=10)
    for k, (image, mask) in enumerate(zip(phantoms.images, phantoms.masks, strict=True)):
        name = images / ("a.png" if k == 0 else f"{chr(ord('a') + k)}.png")
        cv2.imwrite(str(name), image[0])
        cv2.imwrite(str(name.with_name(f"{name.stem}_mask.png")), mask * 255)
    for line in block.splitlines():
        words = shlex.split(re.sub(r"--updates \d+", "--updates 3", line))
        if words[1] == "train":
            words += ["--size", "16", "--width", "0.03", "--batch", "4"]
            words += ["--dataset-option", "count=12"] if "--dataset" not in words else []
        assert main(words[1:]) == 0, line
    runs = re.findall(r"--out (\S+)", block)
    assert runs
    assert all((tmp_path / folder / "checkpoint.safetensors").is_file() for folder in runs)
    assert ("-o a_segmented.png" in block) == (tmp_path / "a_segmented.png").is_file()


def test_option_table_names_real_options_and_values() -> None:
    table = README.split("## Options of `PixelSegEnv-v0`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", table, re.MULTILINE)
    known = {*inspect.signature(pixelseg_env.PixelSegEnv).parameters, *inspect.signature(load_dataset).parameters}
    assert len(rows) >= 10
    assert {name for name, _ in rows} <= known
    own = set(inspect.signature(pixelseg_env.PixelSegEnv).parameters) - {"dataset_options"}
    assert own <= {name for name, _ in rows}, "an option is missing from the table"
    for name, values in rows:
        for value in re.findall(r'`"(\w+)"`', values):
            if name == "dataset":
                assert value in pixelseg_env.registered_datasets()
            elif name != "render_mode":
                gym.make("PixelSegEnv-v0", size=16, **{"count": 12, name: value})


RECORDS = ROOT / "benchmarks/records/grid"
SYSTEMS_64 = ROOT / "benchmarks/records/systems"
NNUNET = "brain-nnunetv2-default-s0.json"  # the real nnU-Net's, whose command is another
DATASETS = ("brain", "cardiac")


def table_of(page: str) -> str:
    """The table of results on a page's front."""
    return "| | brain: Dice" + (ROOT / page).read_text().split("| | brain: Dice")[1].split("\n\n")[0]


def test_results_hold_every_table_of_the_records() -> None:
    results = (ROOT / "benchmarks/RESULTS.md").read_text()
    by_dataset = all_tables(RECORDS)
    assert {"brain", "cardiac"} <= by_dataset.keys()
    assert "search" in by_dataset["brain"]
    for dataset, made in by_dataset.items():
        for name, table in made.items():
            assert table.markdown() in results, f"{dataset}, {name}: run `python -m benchmarks report` and paste it"


def test_the_committed_report_is_that_of_the_records() -> None:
    for dataset, made in all_tables(RECORDS).items():
        for name, table in made.items():
            assert (ROOT / f"benchmarks/report/{dataset}-{name}.csv").read_text() == table.csv()
            assert (ROOT / f"benchmarks/report/{dataset}-{name}.tex").read_text() == table.latex()


def test_every_record_has_a_command_and_every_command_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "benchmarks/README.md").read_text()
    variables = re.findall(r'^([A-Z]+)="(.*)"$', text, re.MULTILINE)
    commands = re.findall(r"`python -m benchmarks (run|search) (\$[^`]*)`", text)
    assert len(variables) == 2
    assert len(commands) > 10
    made = set()
    for name, options in commands:
        for variable, value in variables:
            options = options.replace(f"${variable}", value)
        command = tyro.cli({"run": Run, "search": Search}[name], args=shlex.split(options))
        out = command.out if name == "run" else RECORDS / "search"
        for cell in command.cells():
            assert is_done(ROOT / out, cell), f"{name} {options}: {cell.name} has no record"
            made.add(ROOT / out / f"{cell.name}.json")
    assert {path for path in RECORDS.rglob("*.json") if path.name != "tuned.json"} == made


def test_the_systems_of_the_publication_have_a_command_and_their_tables() -> None:
    """Records of `python -m benchmarks table 2`; those that are missing, it says itself."""
    results = (ROOT / "benchmarks/RESULTS.md").read_text()
    made = all_tables(SYSTEMS_64)["brain"]
    for name in ("table-2", "steps"):
        assert made[name].markdown() in results, f"{name}: run `python -m benchmarks report {SYSTEMS_64}` and paste it"
    text = (ROOT / "benchmarks/README.md").read_text()
    found = re.search(r"`python -m benchmarks run (--dataset brain [^`]*--out benchmarks/records/systems)`", text)
    assert found
    cells = tyro.cli(Run, args=shlex.split(found[1])).cells()
    done = {f"{cell.name}.json" for cell in cells if is_done(ROOT / SYSTEMS_64, cell)}
    assert done == {path.name for path in (ROOT / SYSTEMS_64).glob("*.json")} - {NNUNET}
    found = re.search(r"^python -m benchmarks nnunet (.*--out benchmarks/records/systems)$", text, re.MULTILINE)
    assert found
    real = tyro.cli(NnUNet, args=shlex.split(found[1])).cells()
    assert [f"{cell.name}.json" for cell in real] == [NNUNET]
    assert (real[0].protocol, real[0].data) == (cells[0].protocol, cells[0].data), "they stand in one table"
    assert (not (SYSTEMS_64 / NNUNET).exists()) == ("it is not trained at this budget yet" in results)


def test_no_place_is_left_to_be_filled() -> None:
    pages = ("README.md", "benchmarks/README.md", "benchmarks/RESULTS.md", "benchmarks/LOOKING.md", "benchmarks/LOG.md")
    for name in pages:
        assert "@@" not in (ROOT / name).read_text(), name


ROWS = {
    "PixelRL, cross-entropy gain": "PixelRL, cross-entropy",
    "PA3C's network, supervised": "PA3C's twin, supervised",
}


@pytest.mark.parametrize("page", ["README.md", "benchmarks/RESULTS.md"])
def test_the_table_of_the_first_page_is_that_of_the_records(page: str) -> None:
    shown = re.findall(
        r"^\| (.+?) \| (\d.\d+) \| (\d.\d+) \| (\d.\d+) \| (\d.\d+) \| ([\d.]*)(?: M)? \|", table_of(page), re.M
    )
    assert len(shown) == 11
    tables = [list(csv.DictReader(io.StringIO(all_tables(RECORDS)[name]["table-2"].csv()))) for name in DATASETS]
    for row, *scores, parameters in shown:
        brain, cardiac = (next(r for r in table if r["row"] == ROWS.get(row, row)) for table in tables)
        assert scores == [f"{float(r[metric]):.3f}" for r in (brain, cardiac) for metric in ("DICE", "BIoU")], row
        assert parameters == (brain["parameters, M"] and f"{float(brain['parameters, M']):.2f}"), row


@pytest.mark.parametrize("page", ["RESULTS.md", "LOOKING.md"])
def test_results_begin_with_a_page_for_newcomers_and_list_what_follows(page: str) -> None:
    results = (ROOT / "benchmarks" / page).read_text()
    headings = re.findall(r"^## (.+)$", results, re.MULTILINE)
    assert headings[:2] == ["In short", "Contents"]
    contents = results.split("## Contents")[1].split("\n## ")[0]
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings[2:]]
    assert re.findall(r"^- \[(.+)\]\(#(.+)\)$", contents, re.MULTILINE) == list(zip(headings[2:], anchors, strict=True))


def test_readme_quotes_the_results() -> None:
    pages = ((ROOT / "benchmarks" / page).read_text() for page in ("RESULTS.md", "LOOKING.md"))
    results = "".join(page.split("\n## Contents")[1] for page in pages)
    section = README.split("## Results so far")[1].split("\n## Glossary")[0]
    scores = re.findall(r"\d\.\d{3}", section)
    assert scores
    assert [score for score in scores if score not in results] == []


def test_links_lead_somewhere() -> None:
    for page in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "benchmarks/README.md",
        "benchmarks/RESULTS.md",
        "benchmarks/LOOKING.md",
        "benchmarks/LEADERBOARD.md",
    ):
        for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(path).exists(), f"{page}: {path}"


DIFFERENCES = README.split("## What differs from the publication")[1].split("\n## Glossary")[0]
TABLE_ROWS = "\n".join(line for line in DIFFERENCES.splitlines() if line.startswith("|"))
FLAGS = [flags for flags in re.findall(r"`(--[^`]+)`", TABLE_ROWS) if flags != "--preset published"]


@pytest.mark.parametrize("flags", FLAGS)
@undrawn()
def test_flags_that_take_a_difference_back(flags: str, tmp_path: Path) -> None:
    task = ["--dataset", "phantom", "--dataset-option", "count=12", "--size", "16", "--batch", "2", "--updates", "1"]
    task += [] if "--preset" in flags else ["--preset", "whole"]
    assert main(["train", *task, *shlex.split(flags), "--log", "none", "--out", str(tmp_path / "run")]) == 0
    config = PA3C.load(tmp_path / "run" / "checkpoint.safetensors").config
    expected = PA3CConfig.published(width=config.width, reward_map_convolution=config.reward_map_convolution)
    expected = expected.for_task("absorbing", "masked")
    for field in dataclasses.fields(PA3CConfig):
        name = f"--{field.name.replace('_', '-')}"
        named = {word.replace("--no-", "--") for word in shlex.split(flags) if word.startswith("--")}
        if name in named or "--preset" in named:
            assert field.name in expected.to_dict()
            value = getattr(config, field.name)
            if field.name not in ("start_bias", "horizon_shares"):  # filled in by task
                assert value == getattr(expected, field.name), field.name
            assert "--preset" in named or value != getattr(PA3CConfig(), field.name)


def test_every_difference_of_the_preset_is_in_the_table() -> None:
    default, published = PA3CConfig().to_dict(), PA3CConfig.published().to_dict()
    changed = {name for name in default if default[name] != published[name]}
    named = {word.removeprefix("--no-").removeprefix("--") for flags in FLAGS for word in flags.split()}
    assert {name.replace("_", "-") for name in changed} - {"final-foreground-weight"} <= named
    percent = ", ".join(f"{100 * share:g}" for share in PA3CConfig().for_task("absorbing", "masked").shares)
    assert f"({percent} % of the steps)" in DIFFERENCES


@pytest.mark.slow
def test_make_train_beats_otsu_by_far(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    # installed already; README promises less than ten minutes on two cores
    done = subprocess.run(["make", "train", f"RUN={run_folder}"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^\| (.*?) \| *(\d\.\d+) ±", done.stdout, re.MULTILINE)
    scores = {name.strip(): float(dice) for name, dice in rows}
    assert scores["PA3C"] >= 0.85
    assert scores["Otsu"] < 0.6
    (first, first_biou), (last, last_biou) = (
        (float(dice), float(biou))
        for dice, biou in re.findall(r"^\| after step [12] *\| (\S+) ± \S+ \| (\S+) ± ", done.stdout, re.MULTILINE)
    )
    assert last > first + 0.005, "the second step, which sees the object magnified, gains"
    assert last_biou > first_biou + 0.04
    assert (run_folder / "segmentation_steps.png").is_file()
