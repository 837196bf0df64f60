"""The agents that names stand for. A new agent adds one line to `AGENTS`; yours comes in by `register_agent`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pixelseg_agents.ac import AC
from pixelseg_agents.amp_drl import AMPDRL
from pixelseg_agents.checkpoint import CheckpointError, load_checkpoint
from pixelseg_agents.dqn import DQN, DoubleDQN, DuelingDQN
from pixelseg_agents.pa3c import PA3C
from pixelseg_agents.pixelrl import PixelRL
from pixelseg_agents.supervised import Supervised
from pixelseg_env import OptionError, check_choice, resolve

# An agent has PixelAgent's __init__, learn, predict, save and load; its `config_class` is a dataclass with `replace`,
# `to_dict` and `from_dict` (and `published`, if there are such settings).
AGENTS: dict[str, Any] = {
    "pa3c": PA3C,
    "ac": AC,
    "dqn": DQN,
    "double-dqn": DoubleDQN,
    "dueling-dqn": DuelingDQN,
    "pixelrl": PixelRL,
    "supervised": Supervised,
    "amp-drl": AMPDRL,
}
ALIASES = {"unet": "supervised"}  # the name until 0.1
NEEDED = ("learn", "predict", "save", "load", "config_class", "name")

PRESETS = ("default", "whole", "closer", "published", "published-alive", "published-intensity")
# What `default` stands for: `whole`, the hyperparameters that an agent's class has, but for these.
DEFAULT_PRESETS: dict[Any, str] = {PA3C: "closer"}
# An agent that looks closer, and the rules of the game under which its second step has something to do. Its horizons
# are those of `_closer_plan`.
CLOSER: dict[str, Any] = {"look": "closer"}
PRESET_TASKS: dict[str, dict[str, Any]] = {
    "closer": {"size": 128, "horizon": 2, "observation": "stacked", "observe_time": True},
    # The other reading of the publication's reward: its map is the image, and stakes follow the intensity.
    "published-intensity": {"start": "image", "reward": "intensity_error"},
}
# The published settings with the one change under which they were seen to learn (benchmarks/records/teachers).
ALIVE: dict[str, Any] = {"norm": "group"}
SATURATES = (
    "--preset published saturates: without normalisation, and at its learning rate, the policy is certain of nearly "
    "every pixel after a few updates, and hardly learns from then on; --preset published-alive is the same with "
    "norm=group, and learns"
)


def register_agent(name: str, agent: Any, *, overwrite: bool = False) -> None:
    """Makes `--agent name` and `agent_class(name)` work.

    Args:
        name: the new name.
        agent: a class with the face of `PixelAgent`: `__init__(env, config, seed=, device=)`, `learn`, `predict`,
            `save`, `load`, and the attributes `name` (what its checkpoints say) and `config_class`.
        overwrite: allow an existing name to be replaced.

    Raises:
        OptionError: the name is taken or is not a name, or the class lacks something.
    """
    if not isinstance(name, str) or not name or ":" in name:
        raise OptionError(f"an agent's name must be a non-empty string without a colon, got {name!r}")
    if name in {*AGENTS, *ALIASES} and not overwrite:
        raise OptionError(f"agent {name!r} is registered already; choose another name or pass overwrite=True")
    AGENTS[name] = _checked(name, agent)


def registered_agents() -> tuple[str, ...]:
    """The names that `agent_class` knows, sorted."""
    return tuple(sorted(AGENTS))


def agent_class(name: str) -> Any:
    """Returns the agent of a registered name, or of `module:name`.

    Raises:
        OptionError: the name is not known (the message gives the nearest), or the plug-in cannot be loaded or lacks
            something.
    """
    return _checked(name, resolve("agent", ALIASES.get(name, name), AGENTS))


def title_of(agent: Any) -> str:
    """What an agent is called for people to read; a third party's may have a name alone."""
    return str(getattr(agent, "title", agent.name))


def _checked(name: str, agent: Any) -> Any:
    missing = [part for part in NEEDED if not hasattr(agent, part)]
    if missing or not isinstance(agent, type):
        lacks = f"it lacks {', '.join(missing)}" if missing else f"got {type(agent).__name__}"
        raise OptionError(f"agent {name!r}: expected a class with the face of PixelAgent; {lacks}")
    return agent


def named_preset(name: str, preset: str) -> str:
    """The preset that is meant: `default` stands for another one, by agent.

    Raises:
        OptionError: agent or preset is not known.
    """
    check_choice("preset", preset, PRESETS)
    return DEFAULT_PRESETS.get(agent_class(name), "whole") if preset == "default" else preset


def preset_config(name: str, preset: str, horizon: int | None = None) -> Any:
    """Returns an agent's hyperparameters under a preset.

    Args:
        name: of the agent.
        preset: one of `PRESETS`.
        horizon: steps of the episodes that it is for, to which `closer` fits those that it trains with; None: as many
            as the preset's task has.

    Raises:
        OptionError: agent or preset is not known, or the agent has no published settings.
    """
    preset, agent = named_preset(name, preset), agent_class(name)
    config_class = agent.config_class
    if preset == "whole":
        return config_class()
    if preset == "closer":
        wanted = CLOSER | _closer_plan(horizon or PRESET_TASKS["closer"]["horizon"])
        fields = {item.name for item in dataclasses.fields(config_class)} - set(getattr(agent, "idle", ()))
        if lacks := wanted.keys() - fields:
            raise OptionError(
                f"preset={preset!r}: agent {name!r} takes no {', '.join(sorted(lacks))}; use preset='whole'"
            )
        return config_class(**wanted)
    if not hasattr(config_class, "published"):
        raise OptionError(f"preset={preset!r}: agent {name!r} has no published settings; use preset='whole'")
    return config_class.published(**({} if preset == "published" else ALIVE))


def preset_task(name: str, preset: str) -> dict[str, Any]:
    """Returns what a preset changes of the task: its rules, with a transition that the agent's actions are made for."""
    rules = dict(PRESET_TASKS.get(preset, {}))
    transitions = getattr(agent_class(name), "transitions", ())
    if rules and transitions and "absorbing" not in transitions:
        rules["transition"] = transitions[0]
    return rules


def preset_note(preset: str, config: Any) -> str:
    """What a training under a preset, with these hyperparameters in the end, has to say at its start; "": nothing."""
    changed = any(getattr(config, name, value) == value for name, value in ALIVE.items())
    return "" if preset != "published" or changed else SATURATES


def _closer_plan(horizon: int) -> dict[str, tuple[float, ...]]:
    """The horizons that an agent which looks closer trains with: 1, then 2, at last as many as its episodes have."""
    horizons = tuple(sorted({1, min(2, horizon), horizon}))
    later = len(horizons) - 1
    return {"horizons": horizons, "horizon_shares": (0.4, *(0.6 / later,) * later) if later else ()}


def load_agent(
    path: Path, env: Any = None, device: str = "auto", agent: str | None = None, network: str | None = None
) -> Any:
    """Reads a checkpoint of any agent.

    Args:
        path: the checkpoint file.
        env: a vector environment, to go on training.
        device: where to put the agent.
        agent: whose checkpoint it is, a registered name or `module:name`; by default the registered agent that the
            file names.
        network: the network that it has, see `PixelAgent.load`.

    Returns:
        The agent, of the class that the checkpoint names.

    Raises:
        CheckpointError: the file is missing, damaged, of an agent that is not known, or of a network whose module is
            not imported.
        OptionError: `agent` or `network` is not known or cannot be loaded.
    """
    options: dict[str, Any] = {"env": env, "device": device} | ({} if network is None else {"network": network})
    if agent is not None:
        return agent_class(agent).load(path, **options)
    algorithm = load_checkpoint(path).algorithm
    for known in AGENTS.values():
        if algorithm in (known.name, *getattr(known, "formerly", ())):
            return known.load(path, **options)
    names = ", ".join(known.name for known in AGENTS.values())
    raise CheckpointError(
        f"{path}: a checkpoint of {algorithm}, which is not known here; known: {names}. Name its class (module:name), "
        "register it first (register_agent), or put the run's config.json beside the file"
    )
