"""What every pixel earns when the segmentation map changes: a catalogue, and a door for third parties."""

from pixelseg_env.rewards.catalogue import (
    RewardFunction,
    balanced,
    cross_entropy,
    dice_gain,
    is_built_in,
    register_reward,
    registered_rewards,
    resolve_reward,
    sign,
    squared_error,
)

__all__ = [
    "RewardFunction",
    "balanced",
    "cross_entropy",
    "dice_gain",
    "is_built_in",
    "register_reward",
    "registered_rewards",
    "resolve_reward",
    "sign",
    "squared_error",
]
