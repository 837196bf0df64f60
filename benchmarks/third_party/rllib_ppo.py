"""Ray RLlib's PPO (new API stack) decides over whole 16x16 phantoms, one multi-discrete action each.

    python benchmarks/third_party/rllib_ppo.py

RLlib pins an older Gymnasium than the newest, so it has an environment of its own: `make test-rllib`.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import MultiDiscrete
from gymnasium.wrappers import FlattenObservation, TransformAction
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import register_env

from pixelseg_env import FlatActions, PixelSegVectorEnv, balanced, load_dataset
from pixelseg_env.metrics import dice

SIZE = 16


def make_env(config: Any = None) -> gym.Env[Any, Any]:
    """The single environment with flat observations and a flat action that RLlib's catalog knows."""
    plain = gym.make("PixelSegEnv-v0", dataset="phantom", size=SIZE, horizon=1, reward=balanced(6.0))
    many: Any = MultiDiscrete([2] * SIZE * SIZE)
    return FlattenObservation(TransformAction(FlatActions(plain), lambda action: action, many))


def held_out_dice(module: Any) -> float:
    """Mean Dice of the module's likelier actions on held-out phantoms."""
    env = PixelSegVectorEnv(len(load_dataset("phantom", split="test", size=SIZE)), split="test", size=SIZE, horizon=1)
    observation, _ = env.reset(options={"index": np.arange(env.num_envs)})
    with torch.no_grad():
        output = module.forward_inference({"obs": torch.as_tensor(observation).flatten(1)})
    actions = output["action_dist_inputs"].reshape(-1, SIZE, SIZE, 2).argmax(-1)
    *_, info = env.step(actions.numpy().astype(np.int8))
    return float(dice(info["segmentation"], info["target"]).mean())


def main(iterations: int = 60) -> tuple[float, float]:
    """Trains; returns the mean Dice on held-out phantoms before and after."""
    register_env("pixelseg", make_env)
    config = (
        PPOConfig()
        .environment("pixelseg")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .rl_module(model_config={"fcnet_hiddens": [128, 128], "vf_share_layers": False})
        .training(lr=1e-3, train_batch_size_per_learner=512, minibatch_size=128, num_epochs=4, gamma=0.95)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    before = held_out_dice(algorithm.get_module())
    for iteration in range(iterations):
        result = algorithm.train()
        if iteration % 10 == 9:
            print(f"iteration {iteration + 1}: mean return {result['env_runners']['episode_return_mean']:.3f}")
    after = held_out_dice(algorithm.get_module())
    algorithm.stop()
    print(f"Dice on held-out phantoms: {before:.3f} before, {after:.3f} after")
    return before, after


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
