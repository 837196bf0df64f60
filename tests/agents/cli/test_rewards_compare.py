"""`pixelseg rewards compare`: tiny trainings, their numbers, their figure, and what it leaves alone."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pixelseg_agents.cli import main, rewards_compare
from pixelseg_agents.evaluation.comparing import RewardResult, TrainedUnder, comparison_table
from pixelseg_agents.evaluation.figures.rewards import rewards_figure
from pixelseg_env import load_dataset
from tests.helpers.figures import drawn

TINY = ["--size", "16", "--updates", "2", "--batch", "2", "--horizon", "2", "--width", "0.05"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rewards_compare, "load_dataset", few)


few = functools.partial(load_dataset, count=20)


def compared(rewards: list[str], *words: str) -> int:
    return main(["rewards", "compare", *rewards, *TINY, *words])


def test_trainings_side_by_side_the_same_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewards = ["squared_error", "0.5*gain_only + sparse('dice')"]
    assert compared(rewards, "--seeds", "2", "--out", "a") == 0
    shown = capsys.readouterr()
    assert "squared_error, seed 1" in shown.err, "the bar says what is trained"
    assert shown.out.startswith((tmp_path / "a/compare.md").read_text())
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"compare.json", "compare.md", "compare.png"}
    found = json.loads((tmp_path / "a/compare.json").read_text())
    test = few("phantom", split="test", size=16)
    assert found["settings"]["test_images"] == len(test)
    plain, mixed = found["results"]
    assert [plain["reward"], mixed["reward"]] == rewards
    background = 1 - test.masks.mean()
    assert plain["perfect_return"] == pytest.approx(background, abs=1e-5), "every background pixel earns 1, once"
    kept = 2 * (area := test.masks.sum(axis=(1, 2))) / (area + test.masks[0].size)
    assert plain["keep_everything_dice"] == pytest.approx(kept.mean(), abs=1e-4)
    for one in (plain, mixed):
        assert [run["seed"] for run in one["runs"]] == [0, 1]
        assert one["collapse_rate"] == np.mean([run["dice"] <= kept.mean() + 0.01 for run in one["runs"]])
        for run in one["runs"]:
            assert run["curve"]["updates"] == [1, 2]
            assert len(set(run["curve"]["return"])) == 2
    assert plain["runs"][0] != plain["runs"][1]
    assert plain["runs"][0]["curve"]["return"] != mixed["runs"][0]["curve"]["return"]

    assert compared(["squared_error"], "--seeds", "1", "--out", "b") == 0
    assert json.loads((tmp_path / "b/compare.json").read_text())["results"][0]["runs"] == plain["runs"][:1]


def test_what_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    for words, message in (
        (["sign", "--out", "mine"], "mine: is not empty"),
        ([], "expected one reward or more"),
        (["sgin"], "Did you mean 'sign'"),
        (["sign", "sign"], "sign is given twice"),
        (["balanced", "balanced(10)"], "is given twice"),
        (["sign", "--seeds", "0"], "--seeds 0"),
        (["sign", "--horizon", "0"], "horizon=0"),
        (["sign", "--gamma", "2"], "gamma=2"),
    ):
        assert main(["rewards", "compare", *words]) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def result(reward: str, returns: list[float], dice: list[float], maps: Any) -> RewardResult:
    runs = tuple(
        TrainedUnder(seed, [1, 2, 3], [0.1, 0.2, earned], [0.1, score, score], earned, score, maps)
        for seed, (earned, score) in enumerate(zip(returns, dice, strict=True))
    )
    return RewardResult(reward, runs, perfect_return=0.9, kept_dice=0.2)


def test_collapse_loopholes_and_the_table() -> None:
    maps = np.zeros((1, 2, 4, 4), np.uint8)
    good = result("sign", [0.8, 0.85], [0.7, 0.8], maps)
    bad = result("gain_only", [2.0, 0.5], [0.1, 0.204], maps)
    done = result("a | b", [0.95], [1.0], maps)  # a perfect one, of a reward that pays for how it came about
    assert (good.collapsed, bad.collapsed) == ([False, False], [True, True])
    assert good.paid_better_than_perfect == [False, False]
    assert bad.paid_better_than_perfect == [True, False]
    assert done.paid_better_than_perfect == [False]
    assert comparison_table([good, bad, done]).splitlines()[2:] == [
        "| `sign` | 0.825 ± 0.025 | 0.900 | 0.750 ± 0.050 | 0.200 | 0 of 2 |",
        "| `gain_only` | 1.250 ± 0.750 (loophole) | 0.900 | 0.152 ± 0.052 | 0.200 | 2 of 2 |",
        "| `a \\| b` | 0.950 | 0.900 | 1.000 | 0.200 | 0 of 1 |",
    ]


def test_the_figure_has_a_row_for_each_reward(tmp_path: Path) -> None:
    test = few("phantom", split="test", size=16)
    images, targets = test.batch(np.arange(3))
    maps = np.repeat(targets[:, None], 6, axis=1)
    shapes = []
    for count in (1, 2):
        results = [result(f"reward{k}", [0.5, 0.6], [0.4, 0.5], maps) for k in range(count)]
        with drawn():
            rewards_figure(results, images, targets, tmp_path / f"{count}.png")
        picture = cv2.imread(str(tmp_path / f"{count}.png"))
        assert picture.std() > 20
        shapes.append(picture.shape)
    assert shapes[0][1] == shapes[1][1]
    assert shapes[1][0] - shapes[0][0] == 300
