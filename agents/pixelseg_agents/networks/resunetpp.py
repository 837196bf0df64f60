"""ResUNet++: residual blocks, squeeze and excitation, atrous spatial pyramid pooling, and attention at the skips."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import scaled

CHANNELS = (32, 64, 128, 256, 512)
RATES = (6, 12, 18)
RATIO = 16  # of squeeze and excitation


class ResUNetPlusPlus(SegmentationNetwork):
    """ResUNet++: 14,482,564 parameters at `width=1`.

    | part           | what it does (channels at `width=1`)                            | resolution  | parameters |
    | -------------- | --------------------------------------------------------------- | ----------- | ---------- |
    | stem           | two 3x3 to 32, and a 3x3 shortcut                               | 1           | 11,104     |
    | encoder        | three times squeeze and excitation, then a residual block of    | 1/2 to 1/8  | 1,554,560  |
    |                | stride 2, to 64, 128, 256                                       |             |            |
    | bridge         | pyramid of rates 6, 12, 18, to 512                              | 1/8         | 4,330,496  |
    | decoder, three | attention of encoder and decoder to one map, which multiplies   | 1/8 to 1/2  | 3,877,443  |
    | times          | the decoder's features                                          |             |            |
    |                | doubled, joined with the encoder's, residual block to 256, 128, | 1/4 to 1    | 4,650,240  |
    |                | 64                                                              |             |            |
    | output         | pyramid, to 32, which `decode` returns                          | 1           | 58,688     |
    | head           | 1x1                                                             | 1           | 33         |

    A residual block is normalisation, ReLU, 3x3, twice, plus a 3x3 shortcut with normalisation. Squeeze and excitation
    has a ratio of 16, 2 hidden units at least. Enlargement is bilinear. Every 3x3 convolution has a bias.

    Initial values are ours: the two terms of a residual block have equal shares, attention multiplies by about 1, and
    hidden units of squeeze and excitation come in opposite pairs, one of which is never silent.

    Any image size works: the image is padded at the right and the bottom to multiples of 8, and to 16 at least.

    Args:
        channels: C of the observation.
        width: scales every number of channels.
        norm: `"group"` or `"none"`.
        labels: L.
    """

    label: ClassVar[str] = "ResUNet++"
    source: ClassVar[str] = "Jha et al. 2019; our code"
    published: ClassVar[float | None] = 14.48
    multiple: ClassVar[int] = 8

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        one, two, three, four, five = sides = [scaled(c, width) for c in CHANNELS]
        self.features = one
        self.stem = nn.Sequential(_convolution(channels, one), *_activated(one, norm), _convolution(one, one, gain=1))
        self.shortcut = _convolution(channels, one, gain=0.5)
        self.excitations = nn.ModuleList(_Excitation(side) for side in sides[:3])
        self.encoder = nn.ModuleList(
            _Residual(inputs, outputs, norm, stride=2) for inputs, outputs in ((one, two), (two, three), (three, four))
        )
        self.bridge = _Pyramid(four, five, norm)
        steps = ((three, five, four), (two, four, three), (one, three, two))  # encoder's, decoder's, what comes out
        self.attentions = nn.ModuleList(_Attention(skip, inputs, norm) for skip, inputs, _ in steps)
        self.decoder = nn.ModuleList(_Residual(skip + inputs, outputs, norm) for skip, inputs, outputs in steps)
        self.pyramid = _Pyramid(two, one, norm)
        self.head = nn.Conv2d(one, labels, 1) if labels else None

    def decode(self, observation: Tensor) -> Tensor:
        """What the last pyramid returns, float32 (B, 32 x width, H, W)."""
        height, width = observation.shape[-2:]
        observation = padded(observation, self.multiple, 2 * self.multiple)
        x = self.stem(observation) + self.shortcut(observation)
        skips: list[Tensor] = []
        for excitation, block in zip(self.excitations, self.encoder, strict=True):
            skips.append(x)
            x = block(excitation(x))
        x = self.bridge(x)
        for attention, block, skip in zip(self.attentions, self.decoder, skips[::-1], strict=True):
            x = F.interpolate(attention(skip, x), scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        found: Tensor = self.pyramid(x)
        return found[..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The head's logits, float32 (B, L, H, W)."""
        assert self.head is not None, "with labels=0 there is no head"
        return [self.head(self.decode(observation))]


def _convolution(inputs: int, outputs: int, stride: int = 1, dilation: int = 1, gain: float = 2) -> nn.Conv2d:
    """3x3 with bias; what comes out has `gain` / 2 of the mean square that He's start (2015) would give it."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / (9 * inputs)))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _normalisation(channels: int, norm: str) -> list[nn.Module]:
    return [nn.GroupNorm(math.gcd(8, channels), channels)] if norm == "group" else []


def _activated(channels: int, norm: str) -> list[nn.Module]:
    return [*_normalisation(channels, norm), nn.ReLU()]  # not in place: a shortcut needs the same features


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_activated(inputs, norm),
            _convolution(inputs, outputs, stride),
            *_activated(outputs, norm),
            _convolution(outputs, outputs, gain=1),
        )
        # No ReLU stands before it, so half of the branch's gain makes them equal.
        self.shortcut = nn.Sequential(_convolution(inputs, outputs, stride, gain=0.5), *_normalisation(outputs, norm))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        found: Tensor = self.branch(x) + self.shortcut(x)
        return found


class _Excitation(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): channels weigh by what the means of all channels say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(2, channels // RATIO)
        self.squeeze, self.excite = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, channels, bias=False)
        with torch.no_grad():  # two units are few: both would be silent in one network of four
            half = self.squeeze.weight[: -(-hidden // 2)]
            self.squeeze.weight.copy_(torch.cat([half, -half])[:hidden])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        found: Tensor = self.excite(F.relu(self.squeeze(x.mean(dim=(-2, -1)))))
        return x * found.sigmoid()[..., None, None]


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: three dilated convolutions side by side, joined by a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(_convolution(inputs, outputs, 1, rate, gain=1), nn.ReLU(), *_normalisation(outputs, norm))
            for rate in RATES
        )
        self.output = nn.Conv2d(len(RATES) * outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H, W)."""
        found: Tensor = self.output(torch.cat([branch(x) for branch in self.branches], dim=1))
        return found


class _Attention(nn.Module):
    """One map, made of the encoder's features and of the decoder's at half the resolution, multiplies the latter."""

    def __init__(self, encoded: int, decoded: int, norm: str) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_activated(encoded, norm), _convolution(encoded, decoded), nn.MaxPool2d(2))
        self.decoder = nn.Sequential(*_activated(decoded, norm), _convolution(decoded, decoded))
        self.map = nn.Sequential(*_activated(decoded, norm), nn.Conv2d(decoded, 1, 1))
        last = self.map[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        # Factors around 0 would silence the decoder, and three of them without normalisation run away.
        nn.init.normal_(last.weight, std=0.1 / math.sqrt(decoded))
        nn.init.ones_(last.bias)

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Maps (B, encoded, H, W) and (B, decoded, H / 2, W / 2) to (B, decoded, H / 2, W / 2)."""
        found: Tensor = decoded * self.map(self.encoder(encoded) + self.decoder(decoded))
        return found
