"""Proves an installation: run it with the Python of the environment, in an empty folder outside any checkout.

python smoke.py env       pixelseg-env alone: one episode, without torch
python smoke.py agents    both: train, evaluate and predict, on images that it writes here
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
SIDE = 32


def installed(name: str, version: str) -> None:
    """The package lies in this environment, typed, and says the version of its distribution."""
    package = __import__(name)
    assert package.__file__, name
    folder = Path(package.__file__).parent
    assert folder == SITE / name, f"{name} came from {folder}, not from {SITE}"
    assert (folder / "py.typed").is_file(), f"{folder} has no py.typed"
    assert package.__version__ == version, (package.__version__, version)


def check_env() -> None:
    """One episode of either environment, and no torch to be had."""
    assert importlib.util.find_spec("torch") is None, "this environment has torch, so nothing is proved"
    import gymnasium as gym
    import numpy as np

    import pixelseg_env

    installed("pixelseg_env", importlib.metadata.version("pixelseg-env"))
    for name in pixelseg_env.__all__:
        getattr(pixelseg_env, name)
    env = gym.make("PixelSegEnv-v0", dataset="phantom", split="test", size=SIDE, render_mode="rgb_array")
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step(env.action_space.sample())
    assert 0 <= info["dice"] <= 1
    assert env.render().dtype == np.uint8
    many = gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset="phantom", size=SIDE)
    many.reset(seed=0)
    assert many.step(many.action_space.sample())[4]["reward_map"].shape == (2, SIDE, SIDE)
    assert "torch" not in sys.modules


def pixelseg(*words: str) -> str:
    """Does what the command does, in this process, which saves importing torch once more; returns what it prints."""
    from pixelseg_agents.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(words)
    assert code == 0, f"pixelseg {' '.join(words)}: exit code {code}\n{printed.getvalue()}"
    return printed.getvalue()


def write_images(folder: Path, count: int = 10) -> None:
    """Grey noise with a bright disc in it, and the disc's mask."""
    import cv2
    import numpy as np

    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(mask, tuple(int(c) for c in rng.integers(10, SIDE - 10, 2)), 7, 255, -1)
        image = (rng.integers(0, 80, mask.shape) + mask // 2).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"case{k}.png"), image)
        assert cv2.imwrite(str(folder / f"case{k}_mask.png"), mask)


def check_agents() -> None:
    """The installed command starts; training, evaluating and predicting work."""
    version = importlib.metadata.version("pixelseg-agents")
    assert importlib.metadata.version("pixelseg-env") == version
    assert f"pixelseg-env=={version}" in importlib.metadata.requires("pixelseg-agents")
    installed("pixelseg_env", version)
    installed("pixelseg_agents", version)
    command = [str(Path(sysconfig.get_path("scripts")) / "pixelseg"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["pixelseg", version], f"{command}\n{done.stdout}\n{done.stderr}"
    write_images(Path("images"))
    small = ["--batch", "2", "--width", "0.03", "--horizon", "2", "--horizons", "1", "2", "--log", "none"]
    pixelseg("train", "--dataset", "folder", "--data", "images", "--updates", "3", *small, "--out", "run")
    assert "PA3C" in pixelseg("evaluate", "run", "--split", "val")
    pixelseg("predict", "run", "images/case0.png", "-o", "mask.png")

    import cv2

    mask = cv2.imread("mask.png", cv2.IMREAD_UNCHANGED)
    assert mask is not None, "predict wrote no picture"
    assert mask.shape == (SIDE, SIDE)
    assert set(mask.ravel().tolist()) <= {0, 255}


if __name__ == "__main__":
    assert not Path("pixelseg_env").exists(), "run it in a folder that is no checkout"
    {"env": check_env, "agents": check_agents}[sys.argv[1]]()
    print(f"{sys.argv[1]}: sound")
