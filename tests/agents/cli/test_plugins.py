"""One reward, agent, network, data set and metric each, added from outside, by name and as `module:name`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import pytest

from pixelseg_agents import PA3C, KeepAll, agent_class, evaluate, register_agent, table
from pixelseg_agents.cli import main
from pixelseg_agents.registry import AGENTS
from pixelseg_env import METRICS, OptionError, SegmentationDataset, register_dataset, register_metric, register_reward
from pixelseg_env.metrics import HIGHER_IS_BETTER, dice
from tests.helpers.data import write

PLUGIN = '''
import numpy as np
from torch import nn

from pixelseg_agents import PA3C
from pixelseg_env import SegmentationDataset


class Narrow(nn.Module):
    """A network of one layer."""

    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, observation):
        logits, values = self.layer(observation).unbind(1)
        return logits, values


class Mine(PA3C):
    """PA3C on a network of its own."""

    name = "Mine"

    def _make_parts(self):
        return {"network": Narrow(self.channels)}


def double(previous, current, target):
    """Twice Eq. 12."""
    previous, current, target = (m.astype("float32") for m in (previous, current, target))
    return 2 * ((previous - target) ** 2 - (current - target) ** 2)


def squares(data, size, fit, keep_empty, count=20):
    """Bright squares."""
    masks = np.zeros((count, *(size or (16, 16))), np.uint8)
    masks[:, 4:10, 4:10] = 1
    images = masks[:, None] * np.uint8(200) + np.uint8(20)
    return SegmentationDataset("squares", images, masks, tuple(f"case {i}" for i in range(count)), np.arange(count))
'''

TRAIN = [
    "train", "--agent", "plug_in:Mine", "--reward", "plug_in:double", "--dataset", "plug_in:squares", "--updates", "3",
    "--size", "16", "--batch", "2", "--log", "none", "--out", "run",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of the reader's own."""
    (tmp_path / "plug_in.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    yield tmp_path
    sys.modules.pop("plug_in", None)


def test_a_run_of_plug_ins_is_trained_evaluated_and_resumed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRAIN) == 0
    assert json.loads((folder / "run/config.json").read_text())["arguments"]["agent"] == "plug_in:Mine"
    assert main(["evaluate", "run", "--split", "val"]) == 0
    assert "Mine" in capsys.readouterr().out
    assert main(["train", "--resume", "run", "--updates", "5", "--log", "none"]) == 0
    assert json.loads((folder / "run/evaluation.json").read_text())["about"]["updates"] == 5


def test_a_run_of_a_plug_in_predicts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = list(TRAIN)
    words[words.index("plug_in:squares")] = "phantom"  # whose files are any images; a loader says nothing of files
    assert main([*words, "--dataset-option", "count=20"]) == 0
    write(folder / "scan.png", np.full((20, 24), 90, np.uint8))
    assert main(["predict", "run", "scan.png", "-o", "mask.png"]) == 0
    assert cv2.imread(str(folder / "mask.png"), cv2.IMREAD_UNCHANGED).shape == (20, 24)
    assert main([*TRAIN[:-1], "own"]) == 0
    capsys.readouterr()
    assert main(["predict", "own", "scan.png", "-o", "other.png"]) == 2
    assert "plug_in:squares" in capsys.readouterr().err


def test_a_plug_in_that_is_gone_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRAIN) == 0
    (folder / "plug_in.py").unlink()
    sys.modules.pop("plug_in")
    for words in (
        ["evaluate", "run"],
        ["train", "--resume", "run", "--updates", "9"],
        ["predict", "run", "x.png", "-o", "y.png"],
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert "plug_in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--agent", "plug_in:Nobody", "has no 'Nobody'"),
        ("--agent", "plug_in:double", "face of PixelAgent"),
        ("--agent", "no_such_module:X", "cannot be imported"),
        ("--agent", "pa3", "Did you mean 'pa3c'"),
        ("--reward", "plug_in:nothing", "has no 'nothing'"),
        ("--reward", "no_such_module:x", "cannot be imported"),
        ("--dataset", "plug_in:nothing", "has no 'nothing'"),
        ("--dataset", ":", "expected module:name"),
    ],
)
def test_a_wrong_name_is_explained(
    folder: Path, flag: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = list(TRAIN)
    words[words.index(flag) + 1] = value
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert flag.strip("-") in error
    assert not (folder / "run").exists()


def test_one_of_each_is_added_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    env = gym.make_vec("PixelSegEnv-v0", num_envs=4, dataset="phantom", size=16, count=20, split="test", horizon=1)
    old = evaluate(KeepAll(), env)  # before the metric is there
    monkeypatch.delitem(AGENTS, "mine", raising=False)
    register_agent("mine", PA3C)
    assert agent_class("mine") is PA3C
    with pytest.raises(OptionError, match="registered already"):
        register_agent("mine", PA3C)
    register_reward("nothing", lambda previous, current, target: np.zeros(target.shape, np.float32), overwrite=True)
    register_dataset("tiny", lambda data, size, fit, keep_empty: tiny(), files=False, overwrite=True)
    judged = gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset="tiny", split="all", reward="nothing", horizon=1)
    register_metric("AREA", lambda prediction, target: np.asarray(prediction).mean(axis=(-2, -1)))
    try:
        new = evaluate(KeepAll(), judged)
        assert new.metrics["AREA"] == pytest.approx(1)
        assert new.returns == pytest.approx(0)
        header, _, first, second = table({"new": new, "old": old}).splitlines()
        assert "AREA ↑" in header
        assert "1.000 ± 0.000" in first.split("|")[-2]
        assert second.split("|")[-2].strip() == ""
    finally:
        del METRICS["AREA"], HIGHER_IS_BETTER["AREA"]
        del AGENTS["mine"]
    for wrong, said in ((("DICE", dice), "registered already"), (("", dice), "name"), (("X", 3), "function")):
        with pytest.raises(OptionError, match=said):
            register_metric(*wrong)


def tiny() -> SegmentationDataset:
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[:, :8] = 1
    return SegmentationDataset("tiny", masks[:, None] * np.uint8(255), masks, ("a", "b"), np.arange(2))


def test_a_reward_that_fails_leaves_no_half_made_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "plug_in.py").write_text(PLUGIN + "\n\ndef double(previous, current, target):\n    return target[0]\n")
    assert main(TRAIN) == 2
    assert "reward" in capsys.readouterr().err
    assert not (folder / "run").exists()
