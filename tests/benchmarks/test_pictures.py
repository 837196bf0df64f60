"""The pictures that are drawn from episodes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.pictures import rewards
from pixelseg_env.rewards import resolve_reward
from pixelseg_env.rewards.built_in import CATALOGUE
from tests.helpers.fresh import run_script
from tests.helpers.grid import ROOT


def test_the_picture_of_the_idea_is_drawn(tmp_path: Path) -> None:
    done = run_script(ROOT / "benchmarks/pictures/idea.py", "--updates", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "idea.png").is_file()
    assert len(re.findall(r"0\.\d{3}", done.stdout)) >= 5, done.stdout


REWARDS = (ROOT / "docs/rewards.md").read_text().split("## What each pays")[1].split("\n## ")[0]


def test_the_page_has_a_picture_of_every_reward() -> None:
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^### |\Z)", REWARDS, re.M | re.S))
    assert sections.keys() == CATALOGUE.keys()
    for name, text in sections.items():
        assert text.count("$$") == 2, name
        assert resolve_reward(name).facts.source in text, name
        assert f"(images/rewards/{name}.png)" in text, name


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_picture_of_a_reward_is_of_today(name: str) -> None:
    path = rewards.FOLDER / f"{name}.png"
    with Image.open(path) as picture:
        again = "run `python -m benchmarks.pictures.rewards`"
        assert picture.info["Description"] == rewards.digest(name), again
    assert path.stat().st_size < 40_000


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    rewards.draw("boundary", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as drawn, Image.open(rewards.FOLDER / "boundary.png") as there:
        assert drawn.size == there.size
        assert len(drawn.getcolors(1 << 16) or []) > 10


def test_the_episode_has_all_kinds_of_mistakes() -> None:
    """So that rewards differ: something is mended and something spoilt, on the object and beside it."""
    _, truth, (_, before, after) = rewards.episode()
    for kind in (0, 1):
        for was, now in ((kind, 1 - kind), (1 - kind, kind), (1 - kind, 1 - kind), (kind, kind)):
            assert ((truth == kind) & (before == was) & (after == now)).any(), (kind, was, now)
