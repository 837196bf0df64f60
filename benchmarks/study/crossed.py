"""Learners with another one's network: is it the learning or the network that makes the difference?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from benchmarks.study.twin import SteppedTwin
from pixelseg_agents import AC, PA3C, PA3CConfig
from pixelseg_agents.ac import ac_network
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.pa3c import pa3c_network


class PA3COnUNet(PA3C):
    """PA3C with AC's network, the U-Net of one encoder and two decoders, in place of its own."""

    name = "PA3C on AC's network"
    formerly = ("PA3COnUNet",)
    idle = ("network",)

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": ac_network(self.config, self.inputs, self.labels)}


@dataclass(frozen=True)
class ACOnPA3CConfig(PA3CConfig):
    """AC's hyperparameters, and those of PA3C's network."""

    agent: ClassVar[str] = "AC on PA3C's network"
    default_horizons: ClassVar[tuple[int, ...]] = AgentConfig.default_horizons


class ACOnPA3C(AC):
    """AC with PA3C's network in place of its own."""

    name = "AC on PA3C's network"
    formerly = ("ACOnPA3C",)
    idle = ("network",)
    config_class = ACOnPA3CConfig

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": pa3c_network(self.config, self.inputs, self.labels)}


class SteppedUNet(SteppedTwin):
    """AC's U-Net, which learns the target at every look of an episode that it plays; its value decoder is idle."""

    name = "U-Net, supervised at every look"
    idle = (*SteppedTwin.idle, "network")

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": ac_network(self.config, self.inputs, self.labels)}
