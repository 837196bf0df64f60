"""Agents that train on `pixelseg_env` through its public interface; what is exported is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelseg_agents.ac import AC, ACConfig
    from pixelseg_agents.actor_critic import ActorCritic
    from pixelseg_agents.agent import PixelAgent
    from pixelseg_agents.amp_drl import AMPDRL, AMPDRLConfig
    from pixelseg_agents.checkpoint import CheckpointError
    from pixelseg_agents.config import AgentConfig, PA3CConfig, PolicyConfig
    from pixelseg_agents.dqn import DQN, DoubleDQN, DoubleDQNConfig, DQNConfig, DuelingDQN, DuelingDQNConfig
    from pixelseg_agents.evaluation import EvaluationResult, Predictor, evaluate, table
    from pixelseg_agents.export import ExportError, export_onnx
    from pixelseg_agents.learning.errors import TrainingError
    from pixelseg_agents.learning.looking import Closer, Look, WholeImage
    from pixelseg_agents.networks import SegmentationNetwork, network_class, register_network, registered_networks
    from pixelseg_agents.pa3c import PA3C
    from pixelseg_agents.pixelrl import PixelRL, PixelRLConfig
    from pixelseg_agents.references import KeepAll, Oracle, Otsu, Random
    from pixelseg_agents.registry import agent_class, load_agent, register_agent, registered_agents
    from pixelseg_agents.supervised import Supervised, SupervisedConfig
    from pixelseg_env import __version__

_HOMES = {
    "ac": ("AC", "ACConfig"),
    "actor_critic": ("ActorCritic",),
    "agent": ("PixelAgent",),
    "amp_drl": ("AMPDRL", "AMPDRLConfig"),
    "checkpoint": ("CheckpointError",),
    "config": ("AgentConfig", "PA3CConfig", "PolicyConfig"),
    "dqn": ("DQN", "DQNConfig", "DoubleDQN", "DoubleDQNConfig", "DuelingDQN", "DuelingDQNConfig"),
    "evaluation": ("EvaluationResult", "Predictor", "evaluate", "table"),
    "export": ("ExportError", "export_onnx"),
    "learning.errors": ("TrainingError",),
    "learning.looking": ("Closer", "Look", "WholeImage"),
    "networks": ("SegmentationNetwork", "network_class", "register_network", "registered_networks"),
    "pa3c": ("PA3C",),
    "pixelrl": ("PixelRL", "PixelRLConfig"),
    "references": ("KeepAll", "Oracle", "Otsu", "Random"),
    "registry": ("agent_class", "load_agent", "register_agent", "registered_agents"),
    "supervised": ("Supervised", "SupervisedConfig"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AC",
    "AMPDRL",
    "DQN",
    "PA3C",
    "ACConfig",
    "AMPDRLConfig",
    "ActorCritic",
    "AgentConfig",
    "CheckpointError",
    "Closer",
    "DQNConfig",
    "DoubleDQN",
    "DoubleDQNConfig",
    "DuelingDQN",
    "DuelingDQNConfig",
    "EvaluationResult",
    "ExportError",
    "KeepAll",
    "Look",
    "Oracle",
    "Otsu",
    "PA3CConfig",
    "PixelAgent",
    "PixelRL",
    "PixelRLConfig",
    "PolicyConfig",
    "Predictor",
    "Random",
    "SegmentationNetwork",
    "Supervised",
    "SupervisedConfig",
    "TrainingError",
    "WholeImage",
    "__version__",
    "agent_class",
    "evaluate",
    "export_onnx",
    "load_agent",
    "network_class",
    "register_agent",
    "register_network",
    "registered_agents",
    "registered_networks",
    "table",
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, once (PEP 562)."""
    if name == "__version__":  # one for both distributions
        from pixelseg_env import __version__

        return __version__
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
