"""Attention U-Net: a U-Net whose decoder weighs every position of what the encoder hands over."""

from __future__ import annotations

import math

from monai.networks.nets.attentionunet import AttentionUnet
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import scaled

CHANNELS = (64, 128, 256, 512, 1024)


class AttentionUNet(SegmentationNetwork):
    """Attention U-Net (Oktay et al. 2018) as MONAI has it, 31.74 M parameters at `width=1`.

    Strided 3x3 convolutions lead down and transposed ones up. On each level what comes from below decides, by a sigmoid
    per position, how much of the encoder's features passes (the attention gate). Published: 32.43 M, 2 % more.

    MONAI's normalisation of joined features stays: of every image and channel by itself, without parameters. Its batch
    normalisation is replaced by group normalisation of as many parameters, the gates' too: agents act in batches as
    small as one. There is no dropout, and nothing is pre-trained.

    Any image size works: the image is continued to multiples of 16.

    Args:
        channels: C of the image.
        width: scales every number of channels.
        norm: `"group"`, or `"none"`: no normalisation at all, also none of joined features.
        labels: L; 0: no head.
    """

    label = "Attention U-Net"
    source = "Oktay et al. 2018; MONAI's AttentionUnet"
    published = 32.43
    multiple = 2 ** (len(CHANNELS) - 1)

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        sides = [scaled(c, width) for c in CHANNELS]
        first, levels, head = AttentionUnet(2, channels, max(labels, 1), sides, (2,) * (len(sides) - 1)).model
        self.features, self.labels = sides[0], labels
        self.body = nn.Sequential(first, levels)
        self.heads = nn.ModuleList([head] if labels else [])
        _normalise(self.body, norm)

    def decode(self, observation: Tensor) -> Tensor:
        """The joined features of the finest level, (B, 64 x width, H, W)."""
        height, width = observation.shape[-2:]
        features: Tensor = self.body(padded(observation, self.multiple))
        return features[..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits (B, L, H, W) of the one head; an empty list without heads."""
        features = self.decode(observation)
        return [head(features) for head in self.heads]


def _normalise(network: nn.Module, norm: str) -> None:
    """Puts group normalisation in batch normalisation's place, or nothing in any normalisation's."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if norm == "none" and isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(math.gcd(8, layer.num_features), layer.num_features))
            elif norm == "none" and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                # Nothing rescales the signal: as in `blocks.convolution`.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
