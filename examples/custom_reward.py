"""A reward of your own: checked, given a name, mixed with another, and the same episode seen by it and by others.

python examples/custom_reward.py
"""

import gymnasium as gym
import numpy as np

import pixelseg_env


def boundary_first(previous: np.ndarray, current: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Eq. 12, doubled for pixels whose left or right neighbour has the other label."""
    error_before = (previous != target).astype(np.float32)
    error_after = (current != target).astype(np.float32)
    differs = target[..., :, 1:] != target[..., :, :-1]
    edge = np.zeros(target.shape, bool)
    edge[..., :, :-1] |= differs  # the pixel on either side
    edge[..., :, 1:] |= differs
    return np.asarray((error_before - error_after) * (1 + edge))


pixelseg_env.rewards.check_reward(boundary_first, backends=("numpy",))  # says in plain words what is wrong, if anything
pixelseg_env.register_reward("boundary_first", boundary_first)

MIXTURE = "0.5*squared_error + 0.5*boundary_first"

for reward in ("squared_error", "sign", "balanced", "dice_gain", "boundary", "boundary_first", MIXTURE):
    env = gym.make("PixelSegEnv-v0", dataset="phantom", reward=reward, horizon=2)
    _, info = env.reset(seed=1)
    target = info["target"]
    sloppy = np.roll(target, 3, axis=1)  # the object, three pixels too far right
    _, outside, _, _, _ = env.step(np.maximum(target, sloppy).astype(np.int8))
    _, edge, _, _, _ = env.step(sloppy.astype(np.int8))
    print(f"{reward:38s} far background removed {outside:+.3f}   one edge cut into the object {edge:+.4f}")
