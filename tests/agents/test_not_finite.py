"""One number in the output of a network that is not finite ends a training, whatever the loss makes of it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from pixelseg_agents.learning.errors import TrainingError
from pixelseg_agents.registry import agent_class

AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pa3c": ("pa3c", {}),
    "ac": ("ac", {}),
    "dqn": ("dqn", {"learning_starts": 2, "exploration_start": 0.0, "exploration_end": 0.0}),
    "supervised": ("supervised", {}),
    "supervised, dice": ("supervised", {"loss": "dice"}),  # which is finite of a logit that is not
}
# Number of the output, and of the pixel in it: of logits and values, and of both actions, of which one is not taken.
PLACES = {"pa3c": [(0, -1), (1, -1)], "ac": [(0, -1), (1, -1)], "dqn": [(0, 255), (0, 511)]}


def make(key: str) -> Any:
    name, settings = AGENTS[key]
    env = gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=20)
    return agent_class(name)(env, device="cpu", width=0.03, horizons=(1, 2), **settings)


def plant(agent: Any, number: float, output: int, pixel: int, update: int) -> None:
    """Puts a number into one pixel of an output, for the first image."""

    def changed(_: Any, __: Any, found: Any) -> Any:
        one = (found if isinstance(found, tuple) else (found,))[output].clone()
        if agent.updates == update - 1:
            one.view(len(one), -1)[0, pixel] = number
        return (*found[:output], one, *found[output + 1 :]) if isinstance(found, tuple) else one

    agent.network.register_forward_hook(changed)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", AGENTS)
def test_one_number_that_is_not_finite_ends_a_training_at_its_update(key: str, number: float) -> None:
    for output, pixel in PLACES.get(key, [(0, -1)]):
        agent = make(key)
        plant(agent, number, output, pixel, update=2)
        with pytest.raises(TrainingError, match=r"update 2: the .* is not finite \(loss .*\), on phantom"):
            agent.learn(3)
        assert agent.updates == 1
