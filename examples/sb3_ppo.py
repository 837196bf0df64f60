"""Stable-Baselines3's PPO, unmodified: every pixel of four 32x32 phantoms is an environment of its own.

Needs `pip install "pixelseg-env[sb3]"`.

python examples/sb3_ppo.py       half a minute; a number behind it: how many rounds of 8,192 pixels
"""

import sys

from stable_baselines3 import PPO

from pixelseg_agents import KeepAll, Otsu, evaluate, table
from pixelseg_env import PixelSegVectorEnv
from pixelseg_env.views import PixelPolicy, PixelVecEnv

ROUNDS = int(sys.argv[1]) if sys.argv[1:] else 60
VIEW = 9  # the side of the window that a pixel sees around itself
TASK = {"dataset": "phantom", "size": 32, "horizon": 1}

env = PixelVecEnv(4, view=VIEW, reward="balanced(6)", **TASK)  # 4 x 32 x 32 environments; the object is rare
network = {"net_arch": [64, 64]}
model = PPO("MlpPolicy", env, n_steps=2, batch_size=512, n_epochs=4, learning_rate=1e-3, policy_kwargs=network, seed=0)
model.learn(ROUNDS * 2 * env.num_envs)

test = PixelSegVectorEnv(8, split="test", **TASK)
rows = {"PPO": PixelPolicy(model, VIEW), "Otsu": Otsu(), "keep everything": KeepAll()}
print(table({name: evaluate(predictor, test) for name, predictor in rows.items()}))
