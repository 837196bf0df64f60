"""`python -m benchmarks nnunet` without nnU-Net: a stand-in for the other environment's Python predicts the truth.

The real one is tried by `make test-nnunet`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.grid.running import run_cell
from benchmarks.nnunet import NAME
from benchmarks.nnunet.commands import NnUNet
from benchmarks.nnunet.masks import PredictedMasks
from benchmarks.nnunet.runner import budget
from benchmarks.nnunet.running import Budget, shown_command
from benchmarks.study.publication import Table
from benchmarks.study.report import all_tables
from pixelseg_env import DataError, OptionError, PixelSegError, load_dataset
from tests.helpers.grid import TINY, cell, record

ROW = "nnU-Net (real), 6 updates of 4 images"

STAND_IN = """#!{python}
import json, os, shutil, sys
from pathlib import Path
if sys.argv[1] == "-c":
    print("2.8.1")
    sys.exit()
request = json.loads(Path(sys.argv[2]).read_text())
print("planning", os.environ.get("PYTHONPATH"))
if {fails}:
    print("RuntimeError: out of memory")
    sys.exit(3)
data = Path(os.environ["nnUNet_raw"]) / request["dataset"]
for part, names in request["predict"].items():
    goal = Path(request["masks"]) / part
    goal.mkdir(parents=True)
    for name in names:
        shutil.copy(data / ("labelsTs" if part == "test" else "labelsTr") / (name + ".png"), goal)
spent = dict(epochs=request["epochs"], iterations=3, batch=4, updates=6, passes=24)
answer = dict(budget=spent, plan=dict(batch_size=4), parameters=1000, seconds=dict(wall=2.0, cpu=1.0),
    other_seconds={{}}, log={{}}, peak_mib=10.0, versions=dict(nnunetv2="2.8.1"))
Path(sys.argv[3]).write_text(json.dumps(answer))
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The other environment's Python; it predicts the truth."""
    return stand_in(tmp_path / "python")


def stand_in(path: Path, fails: bool = False) -> Path:
    path.write_text(STAND_IN.format(python=sys.executable, fails=fails))
    path.chmod(0o755)
    return path


def command(python: Path, out: Path, **options: Any) -> NnUNet:
    return NnUNet(python=python, out=out, **({"protocol": TINY, "budget": Budget(epochs=2)} | options))


def test_masks_that_come_back_as_files_are_judged_and_stand_in_the_same_tables(
    python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "records"
    assert command(python, out, work=tmp_path / "work").main() == 0
    made = record(out / "phantom-nnunetv2-default-s0.json")
    parts = load_dataset("phantom", split="all", size=16)
    for part, share in (("val", 0.1), ("test", 0.2)):
        assert made[part]["summary"]["metrics"]["DICE"]["mean"] == 1.0  # the stand-in predicts the truth
        assert made[part]["summary"]["images"] == share * len(parts)
    assert (made["updates"], made["image_passes"], made["parameters"]) == (6, 24, 1000)
    assert made["budget"]["epochs"] == 2
    assert made["commit"]
    assert made["hardware"]["processor"]
    assert made["nnunet_versions"] == {"nnunetv2": "2.8.1"}
    assert "python -m benchmarks" in made["command"]
    log = (tmp_path / "work/phantom-nnunetv2-default-s0/nnunet.log").read_text()
    assert log == "planning None\n"  # our packages are not on the other's path

    for agent in ("otsu", "oracle"):
        run_cell(out, cell(agent))
    tables = all_tables(out)["phantom"]
    assert {ROW, "Otsu's threshold", "oracle"} <= tables["table-2"].rows.keys()
    assert ROW in tables["table-2"].apart  # supervised: it stands beside the agents
    assert tables["table-2"].rows[ROW][0] == tables["table-2"].rows["oracle"][0]
    assert tables["budgets"].rows[ROW][:5] == [24.0, None, 24.0, None, 6.0]

    capsys.readouterr()
    assert Table(2, dataset="phantom", records=str(out), time=False).main() == 1
    shown = capsys.readouterr().out
    assert f"| {ROW} |" in shown
    assert NAME not in shown, "its row is there, with its budget; nothing of it is missing"
    assert command(Path("nowhere"), out).main() == 0  # finished: the other environment is not needed
    assert "1 done before, 0 to run" in capsys.readouterr().out
    with pytest.raises(OptionError, match="was made with another budget"):
        command(python, out, budget=Budget(epochs=3)).main()
    with pytest.raises(OptionError, match="was made with other options"):
        command(python, out, protocol=dataclasses.replace(TINY, passes=121)).main()
    (out / "phantom-nnunetv2-default-s0.json").unlink()
    with pytest.raises(DataError, match="exists; choose another --work"):
        command(python, out, work=tmp_path / "work").main()


def test_seeds_and_folds_are_trainings_of_their_own(tmp_path: Path) -> None:
    cells = command(tmp_path, tmp_path, seeds=(0, 1), folds=(2, 4)).cells()
    assert [one.name.removeprefix("phantom-nnunetv2-default-") for one in cells] == ["s0-f2", "s0-f4", "s1-f2", "s1-f4"]


def test_what_nnunet_said_is_shown_when_it_fails(tmp_path: Path) -> None:
    python = stand_in(tmp_path / "python", fails=True)
    with pytest.raises(DataError, match=r"(?s)nnU-Net failed after .* \(exit code 3\):.*RuntimeError: out of memory"):
        command(python, tmp_path / "out").main()
    assert not (tmp_path / "out").exists()


def test_a_missing_environment_is_told_with_the_command_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for python, message in ((tmp_path / "none", "cannot be run"), (Path(sys.executable), "nnunetv2 is not installed")):
        words = ["nnunet", "--python", str(python), "--size", "16", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
        assert main() == 2
        said = capsys.readouterr().err
        assert message in said
        assert "`make .venv-nnunet/installed` makes" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 0}, "--epochs 0: expected 1"), ({"validation_iterations": 0}, "--validation-iterations 0")],
)
def test_wrong_budgets_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(PixelSegError, match=message):
        Budget(**options)


def test_without_iterations_the_budget_is_that_of_all_others() -> None:
    asked = dataclasses.asdict(Budget(epochs=5)) | {"passes": 3000}
    assert budget(asked, batch=50) == {
        "epochs": 5,
        "iterations": 12,
        "batch": 50,
        "updates": 60,
        "passes": 3000,
        "validation_iterations": 2,
    }
    assert budget(asked | {"iterations": 7}, batch=50)["passes"] == 5 * 7 * 50
    assert budget(asked | {"passes": 10}, batch=50)["iterations"] == 1


def test_predicted_masks_know_images_by_their_pixels() -> None:
    dataset = load_dataset("phantom", split="all", size=16, count=3)
    agent = PredictedMasks()
    agent.add(dataset, dataset.masks)
    images, masks = dataset.batch([2, 0])
    actions, state = agent.predict(images, state="kept")
    assert (actions == masks).all()
    assert (actions.dtype, state) == (np.int8, "kept")
    with pytest.raises(OptionError, match="was not predicted"):
        agent.predict(images + 0.5)
    with pytest.raises(OptionError, match="expected"):
        agent.add(dataset, dataset.masks[:2])


def test_a_record_tells_no_absolute_path() -> None:
    words = ["nnunet", "--data", "/home/me/lgg", "../lgg", "--python", "/opt/x/python"]
    assert shown_command(words) == "python -m benchmarks nnunet --data lgg ../lgg --python python"


def test_committed_records_are_of_the_real_nnunet() -> None:
    folder = Path(__file__).resolve().parents[3] / "benchmarks/records/nnunet"
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*-{NAME}-*.json"))]
    assert found
    for made in found:
        assert made["nnunet_versions"]["nnunetv2"]
        assert made["command"].startswith("python -m benchmarks nnunet ")
        assert not made["commit"].endswith("-dirty")
        assert made["image_passes"] == made["budget"]["updates"] * made["budget"]["batch"]
