"""Two agents on the same images, with the same budget: is the one better, or were its seeds lucky?

python examples/compare_agents.py       a minute; a number behind it: how many updates each
"""

import sys

import numpy as np

from pixelseg_agents import DQN, PA3C, KeepAll, evaluate
from pixelseg_env import PixelSegVectorEnv

UPDATES, SEEDS = int(sys.argv[1]) if sys.argv[1:] else 150, (0, 1, 2)
task = {"dataset": "phantom", "size": 24, "horizon": 2}
test = PixelSegVectorEnv(16, split="test", **task)
scores = {}
for agent in (PA3C, DQN):
    for seed in SEEDS:
        trained = agent(PixelSegVectorEnv(8, split="train", **task), seed=seed, width=0.1).learn(UPDATES)
        scores[agent.name, seed] = evaluate(trained, test).metrics["DICE"]  # one an image
        print(f"{agent.name}, seed {seed}: mean Dice {scores[agent.name, seed].mean():.3f}")
print(f"keep everything: {evaluate(KeepAll(), test).metrics['DICE'].mean():.3f}")

gains = np.array([scores[PA3C.name, seed] - scores[DQN.name, seed] for seed in SEEDS])  # seeds, images
rng = np.random.default_rng(0)
drawn = []
for _ in range(2000):  # other seeds and other images, as far as these can tell
    seeds, images = (rng.integers(count, size=count) for count in gains.shape)
    drawn.append(gains[np.ix_(seeds, images)].mean())
low, high = np.quantile(drawn, (0.025, 0.975))
print(f"{PA3C.name} is better by {gains.mean():+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")
print("seed by seed:", ", ".join(f"{gain:+.3f}" for gain in gains.mean(axis=1)))
