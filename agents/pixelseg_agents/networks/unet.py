"""The U-Nets of the baselines: Q-values of the DQN family, policy and value of AC, a probability map for PixelRL."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork
from pixelseg_agents.networks.blocks import convolution, scaled
from pixelseg_agents.networks.heads import q_values

CHANNELS = (32, 64, 128, 256, 512)  # the publication's, half of Ronneberger et al. 2015
STRIDE = 2 ** (len(CHANNELS) - 1)


def _double(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    # With biases, as U-Nets have them beside batch normalisation too: so the count is the published one.
    return nn.Sequential(convolution(inputs, outputs, 1, norm, True), convolution(outputs, outputs, 1, norm, True))


class Encoder(nn.Module):
    """Two 3x3 convolutions per level, 2x2 max pooling between the levels."""

    def __init__(self, channels: int, width: float, norm: str) -> None:
        super().__init__()
        sides = [channels, *(scaled(c, width) for c in CHANNELS)]
        pairs = itertools.pairwise(sides)
        self.levels = nn.ModuleList(_double(inputs, outputs, norm) for inputs, outputs in pairs)

    def forward(self, observation: Tensor) -> list[Tensor]:
        """The features of every level, finest first, of an observation padded to a multiple of 16."""
        height, width = observation.shape[-2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        x = F.pad(observation, padding, mode="replicate") if any(padding) else observation
        features = []
        for i, level in enumerate(self.levels):
            x = level(F.max_pool2d(x, 2) if i else x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """2x2 transposed convolutions upwards, each joined with the encoder's features; 32 channels x width come out."""

    def __init__(self, width: float, norm: str) -> None:
        super().__init__()
        sides = [scaled(c, width) for c in CHANNELS[::-1]]
        pairs = list(itertools.pairwise(sides))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for coarse, fine in pairs)
        self.levels = nn.ModuleList(_double(2 * fine, fine, norm) for _, fine in pairs)
        # Without the last ReLU, as in PA3C's heads: with it, a narrow actor ends where every feature of rare
        # foreground is silent and no logit can rise above the bias (measured: see LOG.md).
        last: Any = self.levels[-1]
        last[-1] = last[-1][:-1]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (B, 32 x width, H, W), still padded."""
        x = features[-1]
        for up, level, skip in zip(self.ups, self.levels, features[-2::-1], strict=True):
            x = level(torch.cat([skip, up(x)], dim=1))
        return x


class UNet(SegmentationNetwork):
    """The logit of every pixel to be object: the plain U-Net, 7.77 M parameters at `width=1`.

    Any image size works: the input is padded at the right and the bottom (edge values) to a multiple of 16.

    Args:
        channels: C of the image.
        width: scales every number of channels.
        norm: `"group"` or `"none"`.
        labels: L; 0: no head.
    """

    label = "U-Net"
    source = "PixelSeg, after Ronneberger et al. 2015 at half the channels"
    published = 7.77
    multiple = STRIDE

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        self.encoder, self.decoder = Encoder(channels, width, norm), Decoder(width, norm)
        self.features = scaled(CHANNELS[0], width)
        if labels:
            self.output = nn.Conv2d(self.features, labels, 1)

    def decode(self, observation: Tensor) -> Tensor:
        """The decoder's last features, float32 (B, features, H, W), without the last ReLU."""
        height, width = observation.shape[-2:]
        features: Tensor = self.decoder(self.encoder(observation))
        return features[..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits (B, L, H, W)."""
        height, width = observation.shape[-2:]
        logits: Tensor = self.output(self.decoder(self.encoder(observation)))
        return [logits[..., :height, :width]]


class UNet31M(UNet):
    """The publication's U-Net of 31.03 M parameters: twice `UNet`'s channels, as Ronneberger et al. have them.

    Args:
        channels: C of the image.
        width: scales every number of channels.
        norm: not used; the network that is counted so has no normalisation.
        labels: L; 0: no head.
    """

    label = "U-Net (31 M)"
    source = "PixelSeg, after Ronneberger et al. 2015"
    published = 31.03

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__(channels, 2 * width, norm="none", labels=labels)


class QNetwork(nn.Module):
    """Q-values of both actions for every pixel: a U-Net of 32-64-128-256-512 channels, 7.77 M parameters at `width=1`.

    Args:
        channels: C of the observation.
        width: scales every number of channels.
        norm: `"group"` or `"none"`.
        dueling: Q = V + A - mean(A) (Wang et al. 2016): two 1x1 convolutions, to the value of the pixel's state
            and to the advantages of its two actions, take the place of the one to Q; 33 parameters more.
        labels: L; with L > 1 every pixel has Q-values for each label.
    """

    def __init__(
        self, channels: int = 3, width: float = 1.0, *, norm: str = "group", dueling: bool = False, labels: int = 1
    ) -> None:
        super().__init__()
        self.labels, self.dueling = labels, dueling
        self.encoder, self.decoder = Encoder(channels, width, norm), Decoder(width, norm)
        last = scaled(CHANNELS[0], width)
        self.actions = nn.Conv2d(last, 2 * labels, 1)
        self.value = nn.Conv2d(last, labels, 1) if dueling else None

    def forward(self, observation: Tensor) -> Tensor:
        """Maps float32 (B, C, H, W) to Q-values (B, 2, H, W), zero's and keep's; (B, 2, L, H, W) with labels."""
        features = self.decoder(self.encoder(observation))
        height, width = observation.shape[-2:]
        value = None if self.value is None else self.value(features)
        return q_values(self.actions(features), value, self.labels)[..., :height, :width]


class ActorCriticUNet(nn.Module):
    """Policy and value of every pixel: the U-Net's encoder with two decoders, 10.82 M parameters at `width=1`.

    Args:
        channels: C of the observation.
        width: scales every number of channels.
        norm: `"group"` or `"none"`.
        labels: L.
        start_bias: added to the keep logit before training.
    """

    def __init__(
        self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1, start_bias: float = 0.0
    ) -> None:
        super().__init__()
        self.labels = labels
        self.encoder = Encoder(channels, width, norm)
        self.actor, self.critic = Decoder(width, norm), Decoder(width, norm)
        last = scaled(CHANNELS[0], width)
        self.policy, self.value = nn.Conv2d(last, labels, 1), nn.Conv2d(last, labels, 1)
        for layer, bias in ((self.policy, start_bias), (self.value, 0.0)):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Maps float32 (B, C, H, W) to keep logits and values, both (B, H, W), or (B, L, H, W) with labels."""
        features = self.encoder(observation)
        height, width = observation.shape[-2:]
        logits = self.policy(self.actor(features))[..., :height, :width]
        values = self.value(self.critic(features))[..., :height, :width]
        return (logits, values) if self.labels > 1 else (logits[:, 0], values[:, 0])

    def decide(self, observation: Tensor) -> Tensor:
        """The keep logits alone, without the critic's decoder: as `forward`'s first, to the bit."""
        height, width = observation.shape[-2:]
        logits: Tensor = self.policy(self.actor(self.encoder(observation)))[..., :height, :width]
        return logits if self.labels > 1 else logits[:, 0]
