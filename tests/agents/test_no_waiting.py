"""Whole updates of every agent on CUDA, without a GPU: on one device, and without waiting for it in a step."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.logger import configure
from torch import Tensor

from benchmarks.speed import modes
from pixelseg_agents.registry import agent_class
from tests.helpers.fake_cuda import CUDA, FakeCuda, fake_cuda  # noqa: F401

AGENTS: dict[str, dict[str, Any]] = {
    "pa3c": {"reward_map_convolution": 3},
    "pa3c, recomputing": {"recompute": True},
    "pa3c, closer, bf16": {"look": "closer(side=16, smallest=8)", "precision": "bf16"},
    "ac": {"look": "closer(side=16, smallest=8, windows=3)"},
    "dqn": {"learning_starts": 4},
    "double-dqn": {"learning_starts": 4},
    "dueling-dqn": {"learning_starts": 4},
    "pixelrl": {},
    "supervised": {"loss": "both"},
    "amp-drl": {"mask_batch": 4, "boxes": 2, "pretraining_share": 0.5},
}


def make(name: str, **settings: Any) -> Any:
    task = {"transition": "additive", "observation": "stacked"} if name == "pixelrl" else {}
    env = gym.make_vec(
        "PixelSegEnv-v0", num_envs=4, size=16, count=20, backend="torch", device="cuda:0", horizon=5, **task
    )
    width = 0.05 if name == "amp-drl" else 0.1
    return agent_class(name.partition(",")[0])(
        env, device="cuda:0", width=width, horizons=(1, 3), **(AGENTS[name] | settings)
    )


def updates(agent: Any, count: int, cuda: FakeCuda) -> list[int]:
    """How often the host waits within each of some updates' steps."""
    waits = []
    inner = agent._update

    def counted(horizon: int, weight: Any) -> int:
        cuda.waits.clear()
        passes: int = inner(horizon, weight)
        waits.append(sum(cuda.waits.values()))
        return passes

    agent._update = counted
    agent.learn(count, logger=configure(None, []))
    return waits


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_stays_on_the_gpu_and_never_waits_for_it(cuda: FakeCuda, name: str) -> None:
    agent = make(name)
    waits = updates(agent, 3, cuda)
    assert all(parameter.device == CUDA for part in agent.parts.values() for parameter in part.parameters())
    # `reset` looks whether an action of the last episode was a wrong one: once an update, whatever its steps.
    assert waits == [1] * 3


def test_speed_is_measured_with_the_environment_on_the_gpu(cuda: FakeCuda) -> None:
    agent = modes.make(agent_class("pa3c"), 2, 16, CUDA, "restorable", width=0.1, horizons=(2,))
    assert updates(agent, 1, cuda) == [1]


def test_what_waits_and_what_is_elsewhere_is_found(cuda: FakeCuda) -> None:
    agent = make("ac")
    learn = agent._learn

    def waiting(logits: Tensor, *others: Tensor) -> None:
        assert float(logits.detach().mean()) == 0.5
        learn(logits, *others)

    agent._learn = waiting
    assert all(count > 1 for count in updates(agent, 2, cuda))
    copying = make("ac")

    def copied(logits: Tensor, *others: Tensor) -> None:
        learn(logits * torch.ones(1).to(CUDA), *others)

    learn, copying._learn = copying._learn, copied
    assert all(count > 1 for count in updates(copying, 2, cuda))
    elsewhere = make("pa3c")
    elsewhere.parts["network"].register_forward_hook(lambda _, __, found: (found[0] + torch.ones(16, 16), found[1]))
    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cpu"):
        elsewhere.learn(1)
