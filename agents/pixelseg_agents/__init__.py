"""Agents that train on `pixelseg_env` through its public interface."""

from pixelseg_agents.checkpoint import CheckpointError
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.pa3c import PA3C

__version__ = "0.1.0"

__all__ = ["PA3C", "CheckpointError", "PA3CConfig"]
