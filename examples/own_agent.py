"""An agent of your own beside the references: anything with this `predict` takes part."""

import gymnasium as gym
import numpy as np
from pixelseg_agents.evaluation import evaluate, table
from pixelseg_agents.references import KeepAll, Otsu

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)


class Threshold:
    """Keeps what is brighter than a fixed level."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True):  # type: ignore[no-untyped-def]
        """Observations (B, C, H, W) in, actions (B, H, W) out."""
        return (observation.mean(axis=1) > 0.6).astype(np.int8), state


env = gym.make_vec("PixelSegEnv-v0", num_envs=8, dataset="phantom", split="test", horizon=1)
rows = {"threshold 0.6": evaluate(Threshold(), env), "Otsu": evaluate(Otsu(), env), "all": evaluate(KeepAll(), env)}
print(table(rows))
