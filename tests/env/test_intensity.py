"""Stakes that follow the intensity: s(0) = I, Eq. 12 on values, and the segmentation X(T) > 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pixelseg_agents import DQN, PA3C
from pixelseg_agents.cli import main
from pixelseg_agents.evaluation import segment
from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv, SegmentationDataset
from pixelseg_env.rewards import intensity_error, resolve_reward
from tests.helpers.cli import train_tiny
from tests.helpers.env import random_actions
from tests.helpers.figures import undrawn

READING: dict[str, Any] = {"start": "image", "reward": "intensity_error"}


def images_with_holes(labels: int = 1) -> SegmentationDataset:
    """Two channels, a third of whose pixels are 0 in one and a ninth in both."""
    rng = np.random.default_rng(3)
    images = rng.integers(1, 256, (6, 2, 10, 8)) * (rng.random((6, 2, 10, 8)) > 1 / 3)
    shape = (6, 10, 8) if labels == 1 else (6, labels, 10, 8)
    masks = (rng.random(shape) < 0.4).astype(np.uint8)
    names = tuple(f"l{k}" for k in range(labels)) if labels > 1 else ("object",)
    return SegmentationDataset("holes", images.astype(np.uint8), masks, ("a",) * 6, np.arange(6), names)


@settings(max_examples=20, deadline=None)
@given(
    actions=arrays(np.int8, (3, 10, 8), elements=st.integers(0, 1)),
    index=st.integers(0, 5),
)
def test_rewards_are_the_fall_of_the_values_squared_error(actions: Any, index: int) -> None:
    env = PixelSegEnv(images_with_holes(), horizon=3, **READING)
    _, info = env.reset(options={"index": index})
    image, target = env.dataset.batch(np.array([index]))
    value, target = image[0].mean(axis=0), target[0].astype(np.float64)
    np.testing.assert_array_equal(info["segmentation"], image[0].max(axis=0) > 0)
    state, total = value.astype(np.float64), np.zeros((10, 8))
    for action in actions:
        observation, reward, _, _, info = env.step(action)
        after = state * action
        np.testing.assert_allclose(info["reward_map"], (state - target) ** 2 - (after - target) ** 2, atol=1e-6)
        assert reward == pytest.approx(info["reward_map"].mean(), abs=1e-6)
        np.testing.assert_array_equal(info["segmentation"], after > 0)  # X(t) > 0
        np.testing.assert_allclose(observation.mean(axis=0), after, atol=1e-6)  # s(t) = X(t)
        state, total = after, total + info["reward_map"]
    np.testing.assert_allclose(total, (value - target) ** 2 - (state - target) ** 2, atol=1e-5)


@pytest.mark.parametrize("labels", [1, 2])
def test_both_backends_and_the_batch_agree(labels: int) -> None:
    data = images_with_holes(labels)
    several = [PixelSegVectorEnv(3, data, backend=backend, horizon=3, **READING) for backend in ("numpy", "torch")]
    alone = PixelSegEnv(data, horizon=3, **READING)
    for env in several:
        env.reset(options={"index": np.array([4, 1, 1])})
    alone.reset(options={"index": 1})
    for actions in random_actions((3, *data.map_shape), 3):
        found = [np.asarray(env.step(actions)[4]["reward_map"]) for env in several]
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)
        np.testing.assert_allclose(alone.step(actions[2])[4]["reward_map"], found[0][2], atol=1e-6)


def test_it_is_an_environment_like_others() -> None:
    env = gym.make("PixelSegEnv-v0", dataset="phantom", size=16, count=12, disable_env_checker=True, **READING)
    check_env(env.unwrapped, skip_render_check=True)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))  # type: ignore[union-attr]
    assert str(again.unwrapped.reward) == "intensity_error"  # type: ignore[attr-defined]
    assert str(resolve_reward("0.5*intensity_error + squared_error")) == "0.5*intensity_error + squared_error"
    for transition in ("restorable", "additive"):
        with pytest.raises(OptionError, match=r"start='image'.*transition='absorbing'"):
            PixelSegEnv("phantom", size=16, count=12, transition=transition, **READING)
    with pytest.raises(OptionError, match="start"):
        PixelSegEnv("phantom", size=16, count=12, start="images")
    with pytest.raises(OptionError, match="asks for image"):
        intensity_error(*(np.ones((4, 4), np.uint8) for _ in range(3)))


@pytest.mark.parametrize("kind", [PA3C, DQN])
def test_agents_learn_on_it_and_segment_by_it(kind: Any, tmp_path: Path) -> None:
    """A DQN computes rewards again from its replay: those of the same images."""
    data = images_with_holes()
    env = PixelSegVectorEnv(4, data, horizon=2, **READING)
    options = {"learning_starts": 4} if kind is DQN else {}
    agent = kind(env, width=0.05, device="cpu", horizons=(2,), **options).learn(3)
    assert all(torch.isfinite(one).all() for one in agent._parameters)
    masks = segment(agent, data.images, 2, start="image")
    assert not (masks & (data.images == 0).all(axis=1)).any()


def test_runs_predict_and_export_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with undrawn():
        assert train_tiny(run, "--start", "image", "--reward", "intensity_error", updates=2) == 0
    image = np.zeros((16, 16), np.uint8)
    image[4:12, 4:12] = 200
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert main(["predict", str(run), str(tmp_path / "a.png"), "-o", str(tmp_path / "mask.png")]) == 0
    assert not cv2.imread(str(tmp_path / "mask.png"), 0)[image == 0].any()
    assert main(["export", str(run), str(tmp_path / "model.onnx")]) == 0  # which compares the masks with the agent's
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (mask,) = session.run(["mask"], {"image": image[None, None].astype(np.float32) / 255})
    assert not mask[0][image == 0].any()
    assert main(["evaluate", str(run)]) == 0
    with undrawn():
        assert train_tiny(tmp_path / "other", "--start", "image", "--transition", "restorable") == 2
