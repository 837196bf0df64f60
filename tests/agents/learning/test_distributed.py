"""Data-parallel training: two processes do what one does with twice the batch."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from pixelseg_agents import PA3C, cli
from pixelseg_agents.cli.task import task_from_json
from pixelseg_agents.learning.distributed import SharedGenerator, rand, randint
from pixelseg_agents.team import ALONE, Team
from pixelseg_env import OptionError
from tests.helpers import team as helper

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes have filled: with a run, and with one's run (`alone`) gone on with (`again`)."""
    folder: Path = tmp_path_factory.mktemp("two")
    assert cli.main(["train", *helper.run_words(helper.BATCH, folder / "alone")]) == 0
    shutil.copytree(folder / "alone", folder / "again")
    path = os.pathsep.join([str(ROOT), str(ROOT / "agents"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(ROOT / "tests/helpers/team.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("key", helper.AGENTS)
def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(two: Path, key: str) -> None:
    gradients, rows = helper.train(key, ALONE)
    shared = torch.load(two / "gradients.pt")[key]
    assert len(shared) == len(gradients) > 0
    scale = float(gradients[0].abs().max())
    assert scale > 0
    torch.testing.assert_close(shared[0], gradients[0], rtol=1e-4, atol=1e-5 * scale)
    # Sums in another order differ in their last bits, which Adam magnifies where gradients are near 0, until the
    # decision about a pixel is another one.
    for one, other in zip(gradients[1:], shared[1:], strict=True):
        assert float((other - one).norm() / one.norm()) < 0.1
    logged = json.loads((two / "rows.json").read_text())[key]
    assert [row.keys() for row in logged] == [row.keys() for row in rows]
    assert logged[0] == pytest.approx(rows[0], rel=1e-4, abs=1e-5)
    rates = [[row["train/learning_rate"] for row in each] for each in (logged, rows)]
    assert rates[0] == rates[1]
    assert rates[0][-1] < rates[0][0]


def test_one_of_them_writes_the_run_and_one_alone_goes_on_with_it(two: Path) -> None:
    runs = two / "run", two / "alone"
    found, expected = (json.loads((run / "evaluation.json").read_text()) for run in runs)
    for name, mean in _means(expected).items():  # every image was judged, by one of them
        assert _means(found)[name] == pytest.approx(mean, abs=0.02)
    other, one = (_rows(run / "progress.csv") for run in runs)
    assert len(one) == len(other)
    assert other[0] == pytest.approx(one[0], rel=1e-3, abs=1e-3)
    config = json.loads((two / "run" / "config.json").read_text())
    assert config["processes"] == 2
    # A second training at another place would have found the folder taken, had both made it.
    assert not (two / "run" / ".lock").exists()
    assert cli.main(["train", "--resume", str(two / "run"), "--updates", str(helper.MORE)]) == 0
    again = json.loads((two / "run" / "config.json").read_text())
    assert again["resumed"][-1]["processes"] == 1
    assert again["resumed"][-1]["updates"] == helper.LENGTH


def test_two_go_on_with_the_run_of_one_as_one_would_with_twice_the_batch(two: Path) -> None:
    config = json.loads((two / "again" / "config.json").read_text())
    assert config["processes"] == 1
    assert [(one["processes"], one["updates"]) for one in config["resumed"]] == [(2, helper.LENGTH)]
    assert not (two / "again" / ".lock").exists()
    task = task_from_json(config["arguments"]["task"])
    env = task.environment(task.load("train")["train"], 2 * helper.BATCH)
    before, one = (PA3C.load(two / "alone" / "checkpoint.safetensors", env=env, device="cpu") for _ in range(2))
    one.learn(helper.MORE)
    other = PA3C.load(two / "again" / "checkpoint.safetensors", device="cpu")
    assert (other.updates, other.episodes, other.passes) == (one.updates, one.episodes, one.passes)
    start, alone, together = (
        torch.cat([p.detach().reshape(-1) for p in agent._parameters]) for agent in (before, one, other)
    )
    way = float((alone - start).norm())
    assert way > 0
    assert float((together - alone).norm()) < 0.01 * way  # 1e-6 as measured


def _means(content: dict[str, Any]) -> dict[str, float]:
    return {name: found["mean"] for name, found in content["summary"]["metrics"].items() if name != "HD95"}


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if v and not k.endswith("per_second")} for row in rows]


def test_each_process_draws_its_own_rows_of_the_same_numbers() -> None:
    def drawn(team: Team) -> list[torch.Tensor]:
        generator = SharedGenerator(team, torch.device("cpu")).manual_seed(5)
        count = 6 // team.size
        return [
            rand((count, 3), generator),
            rand((2, count, 4), generator, rows=1),
            randint(0, 9, (count,), generator),
        ]

    parts = [drawn(Team(rank, 3)) for rank in range(3)]
    for number, (whole, rows) in enumerate(zip(drawn(ALONE), (0, 1, 0), strict=True)):
        assert torch.equal(torch.cat([part[number] for part in parts], dim=rows), whole)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "no"}.items():
        monkeypatch.setenv(name, value)


def test_processes_that_cannot_meet_are_an_error(launched: None, capsys: Any, tmp_path: Path) -> None:
    assert cli.main(["train", *helper.RUN.split(), "--out", str(tmp_path / "run")]) == 2
    assert "do not find each other" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_workers_and_processes_are_not_for_the_same_training() -> None:
    agent = PA3C(gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=10), width=0.1, workers=2, device="cpu")
    with pytest.raises(OptionError, match="not together with 2 processes"):
        agent.learn(1, team=Team(0, 2))
