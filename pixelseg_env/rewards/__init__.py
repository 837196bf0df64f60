"""What every pixel earns when the segmentation map changes: a catalogue, arithmetic, and a door for third parties."""

from pixelseg_env.rewards.audit import Audit, Weights, audit_reward
from pixelseg_env.rewards.base import Reward, RewardFunction, as_reward
from pixelseg_env.rewards.catalogue import (
    balanced,
    boundary,
    boundary_weighted,
    cross_entropy,
    dice_gain,
    difference,
    intensity_error,
    plus_minus_one,
    sign,
    squared_error,
)
from pixelseg_env.rewards.check import check_reward
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.facts import RewardFacts
from pixelseg_env.rewards.hackable import gain_only, hits_only, keep_bonus
from pixelseg_env.rewards.loopholes import Loophole, Search, find_loophole
from pixelseg_env.rewards.potentials import shaping, sparse
from pixelseg_env.rewards.registry import register_reward, registered_rewards, resolve_reward
from pixelseg_env.rewards.table import catalogue_table
from pixelseg_env.rewards.trials import Played, Rules

__all__ = [
    "Audit",
    "Loophole",
    "Played",
    "Reward",
    "RewardContext",
    "RewardFacts",
    "RewardFunction",
    "Rules",
    "Search",
    "Weights",
    "as_reward",
    "audit_reward",
    "balanced",
    "boundary",
    "boundary_weighted",
    "catalogue_table",
    "check_reward",
    "cross_entropy",
    "dice_gain",
    "difference",
    "find_loophole",
    "gain_only",
    "hits_only",
    "intensity_error",
    "keep_bonus",
    "plus_minus_one",
    "register_reward",
    "registered_rewards",
    "resolve_reward",
    "shaping",
    "sign",
    "sparse",
    "squared_error",
]
