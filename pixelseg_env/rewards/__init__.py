"""What every pixel earns when the segmentation map changes: a catalogue, arithmetic, and a door for third parties."""

from pixelseg_env.rewards.base import Reward, RewardFunction, as_reward
from pixelseg_env.rewards.catalogue import (
    balanced,
    boundary,
    cross_entropy,
    dice_gain,
    intensity_error,
    sign,
    squared_error,
)
from pixelseg_env.rewards.check import check_reward
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.registry import register_reward, registered_rewards, resolve_reward

__all__ = [
    "Reward",
    "RewardContext",
    "RewardFunction",
    "as_reward",
    "balanced",
    "boundary",
    "check_reward",
    "cross_entropy",
    "dice_gain",
    "intensity_error",
    "register_reward",
    "registered_rewards",
    "resolve_reward",
    "sign",
    "squared_error",
]
