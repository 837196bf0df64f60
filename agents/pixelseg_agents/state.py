"""What a checkpoint holds of an agent: its parts, its optimizer, and the numbers that say how far it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixelseg_agents.learning.task import AgentTask

COUNTS = ("updates", "total_updates", "passes", "episodes")


def tensors_of(agent: Any) -> dict[str, Tensor]:
    """Parameters and buffers as `part.name`, the optimizer's moments as `optimizer.number.name`."""
    tensors = {
        f"{part}.{name}": value for part, module in agent.parts.items() for name, value in module.state_dict().items()
    }
    for number, moments in agent.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors


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
        **{name: getattr(agent, name) for name in COUNTS},
    }


def task_of(settings: dict[str, Any]) -> AgentTask:
    """The task in an agent's settings."""
    names = tuple(settings.get("label_names", ("object",)))
    timed = bool(settings.get("observe_time", False))
    return AgentTask(settings["channels"], settings["transition"], settings["observation"], names, timed)


def restore(agent: Any, tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Puts back what `tensors_of` and `settings_of` said.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: they do not fit the agent.
    """
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in (*agent.parts, "optimizer")}
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
        shape = agent._parameters[index].shape
        if any(value.ndim and value.shape != shape for value in values.values()):
            raise ValueError(f"the optimizer's state of parameter {index} has another shape than the parameter")
    groups = agent.optimizer.state_dict()["param_groups"]
    agent.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for name in COUNTS:
        setattr(agent, name, int(settings.get(name, 0) if name == "episodes" else settings[name]))
