"""The agents that the command line knows. A new agent adds one line to `AGENTS`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixelseg_agents.ac import AC
from pixelseg_agents.checkpoint import CheckpointError, load_checkpoint
from pixelseg_agents.dqn import DQN, DoubleDQN, DuelingDQN
from pixelseg_agents.pa3c import PA3C
from pixelseg_agents.pixelrl import PixelRL
from pixelseg_agents.supervised import Supervised
from pixelseg_env import OptionError
from pixelseg_env.errors import check_choice

# An agent has PixelAgent's __init__, learn, predict, save and load; its `config_class` is a dataclass with `replace`,
# `to_dict` and `from_dict` (and `published`, if there are such settings).
AGENTS: dict[str, Any] = {
    "pa3c": PA3C,
    "ac": AC,
    "dqn": DQN,
    "double-dqn": DoubleDQN,
    "dueling-dqn": DuelingDQN,
    "pixelrl": PixelRL,
    "unet": Supervised,
}

PRESETS = ("default", "published")


def agent_class(name: str) -> Any:
    """Returns the agent of a name.

    Raises:
        OptionError: the name is not known; the message gives the nearest.
    """
    return AGENTS[check_choice("agent", name, AGENTS)]


def preset_config(name: str, preset: str) -> Any:
    """Returns an agent's hyperparameters under a preset.

    Raises:
        OptionError: agent or preset is not known, or the agent has no published settings.
    """
    check_choice("preset", preset, PRESETS)
    config_class = AGENTS[check_choice("agent", name, AGENTS)].config_class
    if preset == "default":
        return config_class()
    if not hasattr(config_class, "published"):
        raise OptionError(f"preset={preset!r}: agent {name!r} has no published settings; use preset='default'")
    return config_class.published()


def load_agent(path: Path, env: Any = None, device: str = "auto") -> Any:
    """Reads a checkpoint of any agent.

    Args:
        path: the checkpoint file.
        env: a vector environment, to go on training.
        device: where to put the agent.

    Raises:
        CheckpointError: the file is missing, damaged, or of an agent that is not known.
    """
    algorithm = load_checkpoint(path).algorithm
    for agent in AGENTS.values():
        if agent.name == algorithm:
            return agent.load(path, env=env, device=device)
    known = ", ".join(agent.name for agent in AGENTS.values())
    raise CheckpointError(f"{path}: a checkpoint of {algorithm}, which is not known here; known: {known}")
