"""PA3C learns, on phantoms it has not seen; and a broken update is found out.

Otsu's threshold reaches a Dice of about 0.29 on these phantoms and "keep everything" 0.17, for decoys are as
bright as the object. The runs are seeded and take seconds each.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from torch import Tensor

from pixelseg_agents import PA3C
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.references import KeepAll, Otsu
from tests.helpers.env import TASKS

LEARNT = 0.6  # Dice on held-out phantoms that a sound run passes and no broken one reaches
UPDATES = 80  # after which a sound run is at 0.84 and those with planted faults below 0.1


def make_env(split: str, num_envs: int = 8, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, split=split, size=32, count=150, **options)


def score(predictor: Any, **options: Any) -> float:
    """Mean Dice on the test phantoms after the last step."""
    return float(evaluate(predictor, make_env("test", 15, **options).unwrapped).metrics["DICE"].mean())


def train(
    kind: type[PA3C] = PA3C, env: VectorEnv[Any, Any, Any] | None = None, updates: int = UPDATES, **options: Any
) -> PA3C:
    settings = {"width": 0.125, "learning_rate": 3e-3, **options}
    torch.set_num_threads(1)
    return kind(env or make_env("train"), device="cpu", seed=0, **settings).learn(updates)


def test_learns_what_thresholding_cannot() -> None:
    learnt, otsu, keep = score(train()), score(Otsu()), score(KeepAll())
    assert otsu < 0.4
    assert keep < 0.4
    assert learnt > LEARNT > max(otsu, keep) + 0.2


LONG = ("restorable", "stacked")  # needs five times the updates
SLOW = (LONG, ("absorbing", "stacked"))  # the two masked ones are in every run of the tests


@pytest.mark.parametrize(
    ("transition", "observation"),
    [pytest.param(*task, marks=[pytest.mark.slow] * (task in SLOW)) for task in TASKS[1:]],
)
def test_every_task_is_learnt(transition: str, observation: str) -> None:
    options = {"transition": transition, "observation": observation}
    env = make_env("train", **options)
    updates = 5 * UPDATES if (transition, observation) == LONG else UPDATES
    assert score(train(env=env, updates=updates), **options) > LEARNT


class SwappedActions(VectorWrapper):
    """Zero and keep change places between the agent and the environment."""

    def step(self, actions: Any) -> Any:
        return self.env.step(1 - actions)


class Negated(PA3C):
    """Bad surprises make actions likelier."""

    def _losses(self, logits: Tensor, values: Tensor, *others: Tensor) -> dict[str, Tensor]:
        losses = super()._losses(logits, values, *others)
        changed = losses["loss"] - 2 * losses["policy_loss"]
        return losses | {"loss": changed}


class Idle(PA3C):
    """The optimizer never steps."""

    def _descend(self, loss: Tensor) -> float:
        loss.backward()
        return 0.0


class FirstGradientOnly(PA3C):
    """The optimizer holds on to the first gradient, as A3C code does that copies gradients once."""

    first: list[Tensor]

    def _descend(self, loss: Tensor) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        if not hasattr(self, "first"):
            self.first = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self._parameters]
        for parameter, gradient in zip(self._parameters, self.first, strict=True):
            parameter.grad = gradient.clone()
        self.optimizer.step()
        return 0.0


class ShuffledRewards(VectorWrapper):
    """Every pixel is told the reward of some other pixel."""

    def step(self, actions: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        maps = info["reward_map"]
        order = np.random.default_rng(0).permutation(maps[0].size)
        return (
            observation,
            reward,
            terminated,
            truncated,
            info | {"reward_map": maps.reshape(len(maps), -1)[:, order].reshape(maps.shape)},
        )


@pytest.mark.parametrize("fault", [pytest.param(Negated, marks=pytest.mark.slow), Idle, FirstGradientOnly])
def test_a_broken_update_does_not_pass(fault: type[PA3C]) -> None:
    updates = 5 if fault is Idle else UPDATES  # it is as it was after any number
    assert score(train(fault, updates=updates)) < LEARNT - 0.1


@pytest.mark.parametrize("fault", [SwappedActions, pytest.param(ShuffledRewards, marks=pytest.mark.slow)])
def test_a_broken_environment_does_not_pass(fault: type[VectorWrapper]) -> None:
    assert score(train(env=fault(make_env("train")))) < LEARNT - 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_every_task_is_learnt_with_the_default_settings(transition: str, observation: str) -> None:
    options = {"transition": transition, "observation": observation}
    agent = PA3C(make_env("train", **options), device="cpu").learn(800)
    assert score(agent, **options) > LEARNT


def test_a_second_look_pays_because_it_sees_the_object_magnified() -> None:
    """What `make train` shows, in seconds; the same agent without windows gains less than half of it."""

    def pictures(split: str, num_envs: int) -> VectorEnv[Any, Any, Any]:
        options = {"observation": "stacked", "observe_time": True, "horizon": 2}
        return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, split=split, size=96, count=150, **options)

    def gains(agent: PA3C) -> tuple[float, float]:
        result = evaluate(agent, pictures("test", 15).unwrapped)
        dice, biou = (curve.mean(axis=0) for curve in (result.dice_by_step, result.biou_by_step))
        return float(dice[1] - dice[0]), float(biou[1] - biou[0])

    look = "closer(side=32, smallest=32)"
    agent = train(env=pictures("train", 8), updates=120, look=look, horizons=(1, 2), horizon_shares=(0.4, 0.6))
    dice, biou = gains(agent)
    assert dice > 0.03
    assert biou > 0.03
    agent.config = agent.config.replace(look="closer(side=32, smallest=1000000)")  # a fault: it never closes in
    without_dice, without_biou = gains(agent)
    assert without_dice < dice / 2
    assert without_biou < biou / 2
