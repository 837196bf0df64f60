"""Every example is short, has a page, runs as it stands in a folder of its own, and prints what its page says."""

from __future__ import annotations

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

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
LINES = 40
APART = {"onnx_inference", "benchmarl_ippo"}  # have tests of their own, below and in tests/benchmarl
SHORT = {  # that they learn was seen when their pages were written, and is tested in tests/env/views and tests/agents
    name: ["1"]
    for name in ("cleanrl_ppo", "compare_agents", "custom_dataset", "sb3_ppo", "segment_volume", "torchrl_ppo")
}
SECONDS = 120.0


def page(path: Path) -> str:
    return (ROOT / f"docs/examples/{path.stem}.md").read_text()


def printed_on(path: Path) -> str:
    """What an example prints, as its page has it."""
    return page(path).split("```text\n")[1].split("```")[0]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_has_a_page(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LINES
    assert f"python examples/{path.name}" in path.read_text().split('"""')[1], "its docstring says how it is run"
    assert f'--8<-- "examples/{path.name}"' in page(path)
    assert all(f"**{words}.**" in page(path) for words in ("What to notice", "What to change next"))
    assert f"({path.stem}.md)" in (ROOT / "docs/examples/index.md").read_text()


def test_every_page_has_an_example() -> None:
    assert len(EXAMPLES) >= 12
    pages = {path.stem for path in (ROOT / "docs/examples").glob("*.md")} - {"index"}
    assert pages == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", [one for one in EXAMPLES if one.stem not in APART], ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    done = run_script(path, *SHORT.get(path.stem, ()), folder=tmp_path, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    if path.stem in SHORT:  # the same words, other numbers
        blank = re.compile(r"[-+]?\d[\d.]*|[^\S\n]+")
        assert done.stdout.count("keep everything") >= 1
        assert blank.sub("", done.stdout).endswith(blank.sub("", printed_on(path)))
    else:
        assert done.stdout == printed_on(path)
    if path.stem == "custom_reward":
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
