"""BenchMARL trains on the pixels; run by `make test-benchmarl` in an environment of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("benchmarl", reason="BenchMARL pins an older TorchRL: run `make test-benchmarl`")


EXAMPLE = Path(__file__).parents[2] / "examples/benchmarl_ippo.py"


def dice_after(rounds: int, folder: Path) -> float:
    words = [sys.executable, "-W", "ignore", str(EXAMPLE), str(rounds)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(r"^mean Dice of 80 test images: (0\.\d{3}), keep everything 0\.1\d\d$", done.stdout, re.M)
    assert found, done.stdout
    return float(found[1])


def test_a_team_of_pixels_learns(tmp_path: Path) -> None:
    assert dice_after(10, tmp_path) > dice_after(1, tmp_path) + 0.1


def test_every_pixel_is_an_agent() -> None:
    from examples.benchmarl_ippo import Pixels

    task = Pixels("PHANTOMS", {"view": 7, "size": 16, "horizon": 2, "count": 20})
    env = task.get_env_fun(3, False, 0, "cpu")()
    assert task.max_steps(env) == 2
    assert {group: len(names) for group, names in task.group_map(env).items()} == {"pixels": 256}
    assert task.action_spec(env)["pixels", "action"].shape == (256,)
    assert task.observation_spec(env)["pixels", "observation"].shape == (256, 1, 7, 7)
