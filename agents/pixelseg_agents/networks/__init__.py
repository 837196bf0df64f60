"""The networks of the agents; none of them knows an agent."""

from pixelseg_agents.networks.blocks import parameter_count
from pixelseg_agents.networks.pa3c import PA3CNetwork, SpatialAttention
from pixelseg_agents.networks.unet import ActorCriticUNet, QNetwork, UNet

__all__ = ["ActorCriticUNet", "PA3CNetwork", "QNetwork", "SpatialAttention", "UNet", "parameter_count"]
