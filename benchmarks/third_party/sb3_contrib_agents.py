"""Agents of sb3-contrib, every pixel an agent, on 16x16 phantoms beside Otsu: RecurrentPPO, MaskablePPO, TRPO.

python benchmarks/third_party/sb3_contrib_agents.py --algorithm maskable-ppo
"""

import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from pixelseg_agents.evaluation import evaluate, table
from pixelseg_agents.references import Otsu
from pixelseg_env import PixelSegVectorEnv, balanced
from pixelseg_env.views import ImageEvalCallback, PixelPolicy, PixelVecEnv

try:
    from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
except ImportError:
    sys.exit("This example needs sb3-contrib: pip install sb3-contrib")


@dataclass
class Options:
    """What to train, and for how long."""

    algorithm: Literal["recurrent-ppo", "maskable-ppo", "trpo"] = "trpo"
    rounds: int = 10
    """Of 8 images (2,048 pixels), two steps each."""


def main(options: Options) -> dict[str, float]:
    """Trains, prints the table and returns Dice by name."""
    cls: Any = {"recurrent-ppo": RecurrentPPO, "maskable-ppo": MaskablePPO, "trpo": TRPO}[options.algorithm]
    more: dict[str, Any] = {} if cls is TRPO else {"n_epochs": 4}
    env = PixelVecEnv(8, view=7, size=16, horizon=2, reward=balanced(6.0))
    test = PixelSegVectorEnv(8, split="test", size=16, horizon=2)
    policy = "MlpLstmPolicy" if cls is RecurrentPPO else "MlpPolicy"
    model = cls(policy, env, n_steps=2, batch_size=512, learning_rate=1e-3, gamma=0.95, seed=0, device="cpu", **more)
    began, best = time.perf_counter(), ImageEvalCallback(test, eval_freq=10, verbose=1)
    model.learn(options.rounds * 2 * env.num_envs, callback=best)
    print(f"trained for {time.perf_counter() - began:.0f} s")
    results = {options.algorithm: evaluate(PixelPolicy(model, view=7), test), "Otsu": evaluate(Otsu(), test)}
    print(table(results))
    return {name: float(result.metrics["DICE"].mean()) for name, result in results.items()}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
