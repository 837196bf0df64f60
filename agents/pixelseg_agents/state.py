"""What a checkpoint holds of an agent: its parts, its optimizer, and the numbers that say how far it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixelseg_agents.learning.precision import Mode
from pixelseg_agents.learning.task import AgentTask

COUNTS = ("updates", "total_updates", "passes", "episodes")


def tensors_of(agent: Any) -> dict[str, Tensor]:
    """Parameters and buffers as `part.name`, the optimizer's moments as `optimizer.number.name`, `memory.name`."""
    tensors = {
        f"{part}.{name}": value for part, module in agent.parts.items() for name, value in module.state_dict().items()
    }
    for number, moments in agent.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors | {f"memory.{name}": value for name, value in agent.memory().items()}


def settings_of(agent: Any) -> dict[str, Any]:
    """The rest, JSON-ready."""
    task = agent.task
    return {
        "config": agent.config.to_dict(),
        "seed": agent.seed,
        "channels": task.channels,
        "transition": task.transition,
        "observation": task.observation,
        "label_names": list(task.label_names),
        "observe_time": task.observe_time,
        "mode": None if agent.mode is None else vars(agent.mode),
        **{name: getattr(agent, name) for name in COUNTS},
    }


def task_of(settings: dict[str, Any]) -> AgentTask:
    """The task in an agent's settings.

    Raises:
        ValueError, KeyError: a value is missing or damaged.
    """
    names, observation = settings.get("label_names", ["object"]), settings["observation"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("label_names: expected a list of names")
    if observation not in ("masked", "stacked"):
        raise ValueError("observation: expected masked or stacked")
    timed = bool(settings.get("observe_time", False))
    task = AgentTask(_count(settings, "channels"), settings["transition"], observation, tuple(names), timed)
    if task.image_channels < 1:
        raise ValueError(f"channels: {task.channels} leave none for the image")
    return task


def mode_of(settings: dict[str, Any]) -> Mode | None:
    """The mode of passes in an agent's settings; None: it was never settled.

    Raises:
        ValueError: it is damaged.
    """
    found = settings.get("mode")
    if found is None:
        return None
    if not isinstance(found, dict) or any(type(value) is not bool for value in found.values()):
        raise ValueError("mode: expected true or false for each of its parts")
    return Mode(**found)


def check_shapes(agent: Any, tensors: dict[str, Tensor]) -> None:
    """Refuses tensors that are not of the sizes that the agent's settings ask for.

    It makes the networks without memory (on torch's device "meta"), so that a damaged width costs an error and not
    gigabytes. An agent has its task, config and device by then.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            parts = agent._make_parts()
    except (RuntimeError, NotImplementedError):
        return  # an agent of a third party that cannot be made so
    for part, module in parts.items():
        for name, wanted in module.state_dict().items():
            key = f"{part}.{name}"
            if key not in tensors:
                raise ValueError(f"{key} is missing")
            if tensors[key].shape != wanted.shape:
                raise ValueError(f"{key} has the shape {tuple(tensors[key].shape)}, expected {tuple(wanted.shape)}")


def _count(settings: dict[str, Any], name: str) -> int:
    value = settings[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{name}: expected a whole number of at least 0")
    return value


def restore(agent: Any, tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Puts back what `tensors_of` and `settings_of` said.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: they do not fit the agent.
    """
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in (*agent.parts, "optimizer", "memory")}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    for name, module in agent.parts.items():
        module.load_state_dict(parts[name])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = value
    for index, values in moments.items():
        if not 0 <= index < len(agent._parameters):
            raise ValueError(f"the optimizer's state is of parameter {index}, of {len(agent._parameters)}")
        shape = agent._parameters[index].shape
        if any(value.ndim and value.shape != shape for value in values.values()):
            raise ValueError(f"the optimizer's state of parameter {index} has another shape than the parameter")
    groups = agent.optimizer.state_dict()["param_groups"]
    agent.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    agent.recall(parts["memory"])
    agent.mode = mode_of(settings)
    for name in COUNTS:
        setattr(agent, name, _count({"episodes": 0} | settings, name))
