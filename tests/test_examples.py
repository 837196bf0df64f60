"""Every example runs as it stands, in a folder of its own, and prints scores."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelseg_agents.cli import main
from pixelseg_env import PixelSegEnv
from tests.helpers.cli import train_tiny
from tests.helpers.data import write
from tests.helpers.fresh import run_script

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "onnx_inference")  # has a test of its own
if importlib.util.find_spec("ray") is None:  # RLlib has an environment of its own: make test-rllib
    EXAMPLES = [path for path in EXAMPLES if path.stem != "rllib_ppo"]
# Whoever lacks these libraries is told so by the example; docs/third-party.md has what they reach.
LIBRARIES = {
    "benchmarl_ippo": "benchmarl",  # in an environment of its own: make test-benchmarl
    "sb3_contrib_agents": "sb3_contrib",
    "skrl_ppo": "skrl",
    "tianshou_ppo": "tianshou",
}
SHORT = {  # that those which train also learn is tested elsewhere (tests/env/views), or seen in the README's picture
    "idea": ["--updates", "2"],
    "sb3_agents": ["--rounds", "1"],
    "sb3_contrib_agents": ["--rounds", "1"],
    "skrl_ppo": ["2"],
    "torchrl_reinforce": ["--batches", "2"],
}


def test_there_are_examples() -> None:
    assert {"random_agent.py", "own_agent.py", "reward_design.py", "idea.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    library = LIBRARIES.get(path.stem)
    missing = library is not None and importlib.util.find_spec(library) is None
    done = run_script(path, *SHORT.get(path.stem, ()), folder=tmp_path)
    if missing:
        assert done.returncode == 1
        assert "pip install" in done.stderr
        pytest.skip(f"{library} is not installed; the example says so")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"[+-]?0\.\d{3}", done.stdout)) >= 5, done.stdout
    if path.stem == "reward_design":
        assert_rewards_are_what_their_texts_say(done.stdout)


def assert_rewards_are_what_their_texts_say(printed: str) -> None:
    """Eq. 12 by counting, and `boundary_first`: twice as much at an edge, within the object and outside."""
    found = {
        line.split(" far ")[0].strip(): [float(number) for number in re.findall(r"[+-]\d\.\d+", line)]
        for line in printed.splitlines()
    }
    _, info = PixelSegEnv("phantom", horizon=2).reset(seed=1)
    target = np.asarray(info["target"])
    kept = np.roll(target, 3, axis=1)
    rows, columns = target.shape
    plain, doubled = [0, 0], [0, 0]
    for r, c in np.ndindex(rows, columns):
        if kept[r, c]:
            continue  # a pixel that is zeroed: far background in the first step, the object's in the second
        weight = 2 if any(target[r, n] != target[r, c] for n in (c - 1, c + 1) if 0 <= n < columns) else 1
        wrong = int(target[r, c])
        plain[wrong] += 1
        doubled[wrong] += weight
    assert doubled[0] > plain[0], "some of the pixels outside are at the edge"
    assert doubled[1] > plain[1]
    wanted = {"squared_error": plain, "boundary_first": doubled}
    wanted["0.5*squared_error + 0.5*boundary_first"] = [(a + b) / 2 for a, b in zip(plain, doubled, strict=True)]
    for name, (outside, inside) in wanted.items():
        assert found[name] == pytest.approx([outside / target.size, -inside / target.size], abs=6e-4), name
        assert found[name][1] == pytest.approx(-inside / target.size, abs=6e-5), name


@pytest.mark.parametrize("channels", [1, 3])
def test_ten_lines_with_an_exported_file_give_the_mask_of_predict(channels: int, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the example says what to install")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d", "e", "f"):
        pixels = cv2.resize(rng.integers(0, 256, (4, 4, channels)).astype(np.uint8), (30, 21))
        write(tmp_path / f"data/images/{name}.png", pixels)
        write(
            tmp_path / f"data/masks/{name}.png", np.where(pixels.reshape(21, 30, -1)[..., 0] > 128, 255, 0).astype("u1")
        )
    assert train_tiny(tmp_path / "run", data=["--dataset", "folder", "--data", str(tmp_path / "data")], updates=4) == 0
    model, scan = tmp_path / "model.onnx", tmp_path / "data/images/a.png"
    assert main(["export", str(tmp_path / "run"), str(model)]) == 0
    assert main(["predict", str(tmp_path / "run"), str(scan), "-o", str(tmp_path / "wanted.png")]) == 0
    words = [sys.executable, str(FOLDER / "onnx_inference.py"), str(model), str(scan), "mask.png"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"mask.png: 0\.\d{3} of .*a.png is .*object.* PA3C", done.stdout)
    wanted, found = (cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED) for name in ("wanted.png", "mask.png"))
    np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted.mean() < 255
