"""The networks of the agents; none of them knows an agent."""

from pixelseg_agents.networks.base import SegmentationNetwork, check_shape
from pixelseg_agents.networks.blocks import parameter_count
from pixelseg_agents.networks.heads import ActorCriticHeads, QHeads
from pixelseg_agents.networks.pa3c import PA3CNetwork, SpatialAttention
from pixelseg_agents.networks.registry import (
    build_network,
    known_already,
    network_class,
    register_network,
    registered_networks,
)
from pixelseg_agents.networks.unet import ActorCriticUNet, QNetwork, UNet

__all__ = [
    "ActorCriticHeads",
    "ActorCriticUNet",
    "PA3CNetwork",
    "QHeads",
    "QNetwork",
    "SegmentationNetwork",
    "SpatialAttention",
    "UNet",
    "build_network",
    "check_shape",
    "known_already",
    "network_class",
    "parameter_count",
    "register_network",
    "registered_networks",
]
