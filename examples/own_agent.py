"""An agent of your own beside the references: anything with this `predict` takes part.

python examples/own_agent.py
python -m benchmarks run --agents examples.own_agent:Threshold pa3c otsu --seeds 0     its place in the tables
"""

import gymnasium as gym
import numpy as np

from pixelseg_agents.evaluation import Predictor, evaluate, table
from pixelseg_agents.references import KeepAll, Otsu


class Threshold:
    """Keeps what is brighter than the level that suits the training images best."""

    def __init__(self, env, seed=0, passes=0):
        """Learns from a vector environment, of which it needs images and targets alone."""
        observation, info = env.reset(seed=seed)
        target, levels = info["target"][..., None], np.linspace(0, 1, 21)
        bright = observation.mean(axis=1)[..., None] > levels
        dice = 2 * (bright * target).sum(axis=(0, 1, 2)) / (bright + target).sum(axis=(0, 1, 2))
        self.level = levels[dice.argmax()]

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        """Observations (B, C, H, W) in, actions (B, H, W) out."""
        return (observation.mean(axis=1) > self.level).astype(np.int8), state


if __name__ == "__main__":
    train = gym.make_vec("pixelseg_env:PixelSegEnv-v0", num_envs=64, dataset="phantom", split="train")
    test = gym.make_vec("pixelseg_env:PixelSegEnv-v0", num_envs=8, dataset="phantom", split="test", horizon=1)
    rows: dict[str, Predictor] = {"threshold": Threshold(train), "Otsu": Otsu(), "keep everything": KeepAll()}
    print(table({name: evaluate(predictor, test) for name, predictor in rows.items()}))
