"""Checksums of the weights of short seeded trainings, one line each: did a change of the code change a training?

    python -m benchmarks.digest

Run it at two commits on one machine: equal lines mean equal weights, to the last bit. (Another processor may round
otherwise.) It asks for nothing but names at the top of `pixelseg_agents`, so that it runs at older commits too:
`PYTHONPATH=OTHER:OTHER/agents python benchmarks/digest.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch

import pixelseg_agents
import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)
from pixelseg_agents import AC, DQN, PA3C, DoubleDQN, DuelingDQN, PA3CConfig, PixelRL

SUPERVISED: Any = getattr(pixelseg_agents, "Supervised", None) or pixelseg_agents.UNet  # its name until 0.1


def env(**options: Any) -> Any:
    """Four small phantoms at a time."""
    return gym.make_vec("PixelSegEnv-v0", num_envs=4, dataset="phantom", size=32, count=40, **options)


def digest(agent: Any) -> str:
    """A checksum of an agent's parameters and buffers."""
    found = hashlib.sha256()
    for part in agent.parts.values():
        for name, value in sorted(part.state_dict().items()):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def pixelrl(reward: str) -> Any:
    """PixelRL from the maps of a small supervised U-Net."""
    coarse = SUPERVISED(env(), width=0.125, seed=5).learn(30)
    options = {"transition": "additive", "observation": "stacked", "start": coarse.probability}
    # Under other rewards than Eq. 12 the weight of object pixels has to be asked for; it once was always there.
    asked = hasattr(PixelRL.config_class, "for_reward") and reward != "squared_error"
    weight: dict[str, Any] = {"foreground_weight": "ratio"} if asked else {}
    return PixelRL(env(reward=reward, **options), width=0.125, seed=3, **weight).learn(15)


TRAININGS: dict[str, Callable[[], Any]] = {
    "PA3C": lambda: PA3C(env(), width=0.25, seed=3).learn(30),
    "PA3C, two labels, previews, Eq. 8": lambda: PA3C(
        env(labels=2), width=0.125, seed=4, preview_every=3, reward_map_convolution=3
    ).learn(15),
    "PA3C, restorable, stacked, torch": lambda: PA3C(
        env(transition="restorable", observation="stacked", backend="torch", autoreset_mode="SameStep"),
        width=0.125,
        seed=4,
    ).learn(12),
    "PA3C, published preset": lambda: PA3C(env(), PA3CConfig.published(width=0.125), seed=1).learn(6),
    "AC": lambda: AC(env(), width=0.25, seed=3).learn(20),
    "DQN": lambda: DQN(env(), width=0.25, seed=3, replay_size=500, learning_starts=8).learn(20),
    "Double DQN, two labels": lambda: DoubleDQN(
        env(labels=2), width=0.125, seed=3, replay_size=500, learning_starts=8
    ).learn(15),
    "Dueling DQN, restorable, stacked": lambda: DuelingDQN(
        env(observation="stacked", transition="restorable"), width=0.125, seed=3, replay_size=500, learning_starts=8
    ).learn(15),
    "supervised U-Net": lambda: SUPERVISED(env(), width=0.125, seed=5).learn(30),
    "PixelRL": lambda: pixelrl("squared_error"),
    "PixelRL, cross-entropy gain": lambda: pixelrl("cross_entropy"),
}


def main() -> None:
    """Trains each and prints its checksum."""
    torch.set_num_threads(1)
    for name, train in TRAININGS.items():
        print(f"{digest(train())}  {name}", flush=True)


if __name__ == "__main__":
    main()
