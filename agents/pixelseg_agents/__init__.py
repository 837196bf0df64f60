"""Agents that train on `pixelseg_env` through its public interface."""

from pixelseg_agents.ac import AC, ACConfig
from pixelseg_agents.checkpoint import CheckpointError
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.dqn import DQN, DoubleDQN, DoubleDQNConfig, DQNConfig, DuelingDQN, DuelingDQNConfig
from pixelseg_agents.pa3c import PA3C
from pixelseg_agents.pixelrl import PixelRL, PixelRLConfig
from pixelseg_agents.supervised import Supervised, SupervisedConfig
from pixelseg_env import __version__

__all__ = [
    "AC",
    "DQN",
    "PA3C",
    "ACConfig",
    "CheckpointError",
    "DQNConfig",
    "DoubleDQN",
    "DoubleDQNConfig",
    "DuelingDQN",
    "DuelingDQNConfig",
    "PA3CConfig",
    "PixelRL",
    "PixelRLConfig",
    "Supervised",
    "SupervisedConfig",
    "__version__",
]
