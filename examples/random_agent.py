"""The environment with an agent that decides at random: one episode on one image.

python examples/random_agent.py
"""

import gymnasium as gym

import pixelseg_env  # noqa: F401  (registers PixelSegEnv-v0)

env = gym.make("PixelSegEnv-v0", dataset="phantom", split="test")
observation, info = env.reset(seed=0)
env.action_space.seed(0)
terminated = False
while not terminated:
    action = env.action_space.sample()  # (64, 64) of 0 (zero) and 1 (keep)
    observation, reward, terminated, truncated, info = env.step(action)
    print(f"step {info['step']:2d}  reward {reward:+.3f}  Dice {info['dice']:.3f}")
