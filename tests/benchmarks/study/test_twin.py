"""The supervised twins, the measurement of speed, and PA3C with the publication's settings."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks.speed.training import Speed, measure
from benchmarks.study.crossed import SteppedUNet
from benchmarks.study.twin import SteppedTwin, SupervisedTwin
from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.learning.schedule import TrainingSchedule


def env(split: str, horizon: int = 1, **options: Any) -> Any:
    return gym.make_vec(
        "PixelSegEnv-v0", num_envs=8, split=split, size=32, horizon=horizon, **{"count": 150, **options}
    )


def test_the_twin_learns_and_does_not_look_at_rewards() -> None:
    torch.set_num_threads(1)
    twin = SupervisedTwin(env("train"), width=0.125, learning_rate=3e-3, foreground_weight=1.0, device="cpu")
    before = float(evaluate(twin, env("test")).metrics["DICE"].mean())
    twin.learn(90)
    after = float(evaluate(twin, env("test")).metrics["DICE"].mean())
    assert after > 0.6 > before
    assert twin.passes == 90 * 8


@pytest.mark.slow
def test_the_twin_with_steps_learns_from_carved_images_too() -> None:
    torch.set_num_threads(1)
    options = {"width": 0.125, "learning_rate": 3e-3, "foreground_weight": 1.0, "horizons": (1, 3)}
    twin = SteppedTwin(env("train", 3), device="cpu", **options).learn(200)
    curve = evaluate(twin, env("test", 3)).dice_by_step.mean(axis=0)
    assert curve.min() > 0.6
    assert twin.passes == 8 * TrainingSchedule(200, (1, 3), twin.config.shares).total_steps


@pytest.mark.parametrize("kind", [SupervisedTwin, SteppedTwin])
def test_twins_take_several_labels(kind: Any) -> None:
    kind(env("train", 3, labels=2, count=24), width=0.125, device="cpu").learn(2)


@pytest.mark.parametrize("kind", [SteppedTwin, SteppedUNet])
def test_twins_look_as_they_are_told(kind: Any) -> None:
    rules = {"horizon": 2, "observation": "stacked", "observe_time": True}
    env = gym.make_vec("PixelSegEnv-v0", num_envs=2, dataset="phantom", size=48, count=20, **rules).unwrapped
    agent = kind(env, width=0.05, look="closer(side=16)", horizons=(2,), device="cpu")
    seen = []
    agent.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    agent.learn(1)
    assert seen == [(16, 16)] * 2
    # What a first look costs in rewards, a cross-entropy does not know.
    assert (agent.config.final_foreground_weight, agent.config.later_background_weight) == (1.0, 1.0)


def test_speed_counts_pixel_steps() -> None:
    row = measure(Speed(device="cpu", updates=2, batch=2), size=16, width=0.125, head_stride=4, horizon=2)
    assert row["pixel_steps_per_second"] == pytest.approx(16 * 16 * 2 * 2 / row["seconds_per_update"])
    assert np.isfinite(row["milliseconds_per_image_pass"])


def test_start_from_published_settings() -> None:
    agent = PA3C(gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=20), PA3CConfig.published(width=0.125))
    assert agent.config.horizons == (10,)
    assert agent.config.norm == "none"
    agent.learn(2)
    assert agent.passes == 2 * 2 * 10
