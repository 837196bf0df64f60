"""PettingZoo's loop: every pixel is an agent with a name, a window to look at, and a reward of its own.

Needs `pip install "pixelseg-env[pettingzoo]"`.

python examples/pettingzoo_loop.py
"""

import numpy as np

import pixelseg_env

coin = np.random.default_rng(0)


def bright(window):
    """Keeps a pixel if what is still there around it, (1, 3, 3), is bright."""
    return int(window.sum() > 0.45 * np.count_nonzero(window))


rules = {
    "keep everything": lambda window: 1,
    "zero everything": lambda window: 0,
    "toss a coin": lambda window: int(coin.integers(2)),
    "bright windows": bright,
}
env = pixelseg_env.parallel_env(dataset="phantom", split="test", size=16, view=3, horizon=2)
for name, decide in rules.items():
    earned, scores = [], []
    for seed in range(5):
        observations, infos = env.reset(seed=seed)
        while env.agents:  # all stay to the last step
            actions = {agent: decide(observations[agent]) for agent in env.agents}
            observations, rewards, terminations, truncations, infos = env.step(actions)
            earned.append(sum(rewards.values()) / 5)
        scores.append(infos["pixel_0_0"]["dice"])
    print(f"{name}: the team of {len(rewards)} earns {sum(earned):5.1f} an episode, mean Dice {np.mean(scores):.3f}")
