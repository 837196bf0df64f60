"""Stable-Baselines3's own algorithms on phantoms: one policy for every pixel, or one action for a whole image.

    python benchmarks/third_party/sb3_agents.py                       PPO, every pixel an agent
    python benchmarks/third_party/sb3_agents.py --algorithm dqn       or a2c
    python benchmarks/third_party/sb3_agents.py --algorithm flat-ppo  PPO with MultiBinary(H W) on 16x16 images
    python -m benchmarks run --agents benchmarks.third_party.sb3_agents:a2c pa3c otsu --seeds 0   A2C in the tables

Takes two to four minutes on two cores and prints a table beside Otsu's threshold on held-out phantoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import tyro
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from pixelseg_agents.evaluation import EvaluationResult, evaluate, table
from pixelseg_agents.references import KeepAll, Otsu
from pixelseg_env import FlatActions, PixelSegVectorEnv, SegmentationDataset, balanced, load_dataset
from pixelseg_env.views import PixelPolicy, PixelVecEnv

VIEW = 9
NETWORK: dict[str, Any] = {"net_arch": [64, 64]}


@dataclass
class Options:
    """What to train, and for how long."""

    algorithm: Literal["ppo", "a2c", "dqn", "flat-ppo"] = "ppo"
    """Stable-Baselines3's algorithm."""
    rounds: int = 60
    """Batches of experience: 4 images (4,096 pixels) of two steps each, for flat-ppo 512 images."""
    seed: int = 0
    """Of the training."""


def pixels(algorithm: str, rounds: int, seed: int, dataset: SegmentationDataset | None = None) -> PixelPolicy:
    """Trains one policy for all pixels on one-step episodes, of 32x32 phantoms if nothing else is given."""
    # Eight pixels in a hundred are object: the environment's own balanced reward keeps them from being ignored.
    data = dataset or load_dataset("phantom", size=32, split="train")
    env = PixelVecEnv(4, view=VIEW, dataset=data, split="all", horizon=1, reward=balanced(6.0))
    common: dict[str, Any] = {"policy_kwargs": NETWORK, "seed": seed, "gamma": 0.95, "device": "cpu"}
    model: Any
    if algorithm == "ppo":
        model = PPO("MlpPolicy", env, n_steps=2, batch_size=512, n_epochs=4, learning_rate=1e-3, **common)
    elif algorithm == "a2c":
        model = A2C("MlpPolicy", env, n_steps=2, learning_rate=2e-3, use_rms_prop=False, **common)
    else:
        model = DQN(
            "MlpPolicy", env, buffer_size=200_000, learning_starts=8192, batch_size=512, train_freq=1,
            gradient_steps=16, learning_rate=1e-3, exploration_fraction=0.5, target_update_interval=4096 * 4, **common,
        )  # fmt: skip
    model.learn(rounds * 2 * env.num_envs)
    return PixelPolicy(model, VIEW)


def whole_images(rounds: int, seed: int) -> Any:
    """Trains PPO whose one action is the whole map of a 16x16 phantom."""

    def make() -> gym.Env[Any, Any]:
        return FlatActions(gym.make("PixelSegEnv-v0", dataset="phantom", size=16, horizon=1, reward=balanced(6.0)))

    env = make_vec_env(make, n_envs=32, seed=seed)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=128, n_epochs=4, learning_rate=1e-3, seed=seed, device="cpu")
    return model.learn(rounds * 512)


class FirstLook:
    """Decides when an episode begins, and repeats itself: what was trained on whole images never sees a carved one."""

    def __init__(self, policy: PixelPolicy) -> None:
        self.policy = policy

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        """The decision travels in `state`."""
        if state is None:
            state = self.policy.predict(observation, deterministic=deterministic)[0]
        return state, state


def a2c(env: PixelSegVectorEnv, seed: int = 0, passes: int = 480) -> FirstLook:
    """A2C for `python -m benchmarks run --agents`; about a minute, however large the budget.

    A round looks at 8 images, and 60 rounds are enough.
    """
    return FirstLook(pixels("a2c", max(1, min(60, passes // 8)), seed, env.dataset))


def main(options: Options) -> dict[str, EvaluationResult]:
    """Trains, evaluates on held-out phantoms and prints the table."""
    flat = options.algorithm == "flat-ppo"
    size = 16 if flat else 32
    if flat:
        predictor = whole_images(options.rounds, options.seed)
    else:
        predictor = pixels(options.algorithm, options.rounds, options.seed)
    test = PixelSegVectorEnv(8, "phantom", split="test", size=size, horizon=1)
    rows = {options.algorithm: predictor, "Otsu": Otsu(), "keep everything": KeepAll()}
    results = {name: evaluate(row, test) for name, row in rows.items()}
    print(table(results))
    return results


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
