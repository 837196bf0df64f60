"""TransUNet: a residual network, a transformer on its last grid, and a U-Net's decoder."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import convolution, scaled
from pixelseg_env import OptionError

STEM = 64
STAGES = ((64, 256, 3), (128, 512, 4), (256, 1024, 9))  # inner and outer channels, blocks
HIDDEN, LAYERS, HEADS = 768, 12, 12
GRID = 16  # positions are learnt for images of 256x256
DECODER = (512, 256, 128, 64, 16)
STRIDE = 16


class TransUNet(SegmentationNetwork):
    """TransUNet (Chen et al. 2021, R50-ViT-B/16), 105.32 M parameters at `width=1`, as published.

    | part        | layers (channels at `width=1`)                                                      | resolution |
    | ----------- | ----------------------------------------------------------------------------------- | ---------- |
    | stem        | 7x7, 64, stride 2                                                                   | 1/2        |
    | ResNet      | 3x3 max pooling; 3, 4 and 9 bottleneck blocks of 256, 512, 1024                     | 1/4 - 1/16 |
    | transformer | 1x1 to 768; learnt positions; 12 layers of 12 heads, LayerNorm first, GELU, 3072    | 1/16       |
    | decoder     | 3x3 to 512; four times bilinear x2, skip (512, 256, 64, none), two 3x3: 256-128-64-16 | 1/8 - 1  |
    | head        | 3x3                                                                                 | 1          |

    The ResNet's weights are standardised and its layers group-normalised (32 groups, one channel each on shortcuts), as
    in the original; the decoder's batch normalisation is replaced by group normalisation of as many parameters.

    Positions are learnt on the 16x16 grid of a 256x256 image and interpolated to any other. Any image size works: the
    image is continued to multiples of 16, and to at least 32, for shortcuts are normalised over more than one position.

    Otherwise than in the original, the last convolution has no ReLU, as in this package's U-Nets (an agent's narrow
    head could fall silent behind it), and max pooling takes the half window at the edge where the original appends
    zeros. Dropout (0.1 there) is off, so passes repeat. Nothing is pre-trained (the original starts from ImageNet-21k's
    weights).

    Args:
        channels: C of the image.
        width: scales every number of channels, the transformer's to a multiple of 12, one for each head.
        norm: `"group"` alone; here it means the network's own.
        labels: L; 0: no head.

    Raises:
        OptionError: `norm` is another.
    """

    label = "TransUNet"
    source = "Chen et al. 2021; PyTorch's TransformerEncoder"
    published = 105.32
    multiple = STRIDE
    traces_any_size = False

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        if norm != "group":
            raise OptionError(f"norm: TransUNet has its own normalisation; expected 'group', got {norm!r}")
        hidden = max(HEADS, HEADS * round(HIDDEN * width / HEADS))
        self.encoder = ResNet(channels, width)
        *skips, deepest = self.encoder.outputs
        self.embedding = nn.Conv2d(deepest, hidden, 1)
        self.positions = nn.Parameter(torch.empty(1, hidden, GRID, GRID))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.transformer = _transformer(hidden)
        sides = [scaled(c, width) for c in DECODER]
        self.first = convolution(hidden, sides[0], 1, norm)
        pairs = zip(itertools.pairwise(sides), [*skips[::-1], 0], strict=True)
        self.decoder = nn.ModuleList(
            nn.Sequential(convolution(inputs + skip, outputs, 1, norm), convolution(outputs, outputs, 1, norm))
            for (inputs, outputs), skip in pairs
        )
        last: Any = self.decoder[-1]
        last[-1] = last[-1][:-1]  # without the ReLU
        self.features, self.labels = sides[-1], labels
        self.heads = nn.ModuleList([nn.Conv2d(sides[-1], labels, 3, padding=1)] if labels else [])

    def decode(self, observation: Tensor) -> Tensor:
        """The decoder's last features, (B, 16 x width, H, W)."""
        height, width = observation.shape[-2:]
        *skips, x = self.encoder(padded(observation, STRIDE, 2 * STRIDE))
        x = self.embedding(x)
        tokens = (x + self._positions(x)).flatten(2).transpose(1, 2)  # (B, grid, 768)
        x = self.first(self.transformer(tokens).transpose(1, 2).reshape(x.shape))
        for level in self.decoder:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)  # as in the original
            x = level(torch.cat([x, skips.pop()], dim=1) if skips else x)
        features: Tensor = x[..., :height, :width]
        return features

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits (B, L, H, W) of the one head; an empty list without heads."""
        features = self.decode(observation)
        return [head(features) for head in self.heads]

    def _positions(self, grid: Tensor) -> Tensor:
        size = grid.shape[-2:]
        if size == self.positions.shape[-2:]:
            return self.positions
        return F.interpolate(self.positions, size, mode="bilinear", antialias=True)


class ResNet(nn.Module):
    """The first three stages of ResNet-50 with group normalisation and standardised weights (Kolesnikov et al. 2020).

    Attributes:
        outputs: channels of what `forward` returns.
    """

    def __init__(self, channels: int, width: float) -> None:
        super().__init__()
        stem = scaled(STEM, width)
        self.stem = nn.Sequential(_Convolution(channels, stem, 7, stride=2), _norm(stem), nn.ReLU())
        self.outputs = [stem, *(scaled(outer, width) for _, outer, _ in STAGES)]
        self.stages = nn.ModuleList()
        for number, (inner, _, blocks) in enumerate(STAGES):
            inputs, outputs = self.outputs[number : number + 2]
            self.stages.append(
                nn.Sequential(
                    _Bottleneck(inputs, scaled(inner, width), outputs, stride=2 if number else 1),
                    *(_Bottleneck(outputs, scaled(inner, width), outputs) for _ in range(1, blocks)),
                )
            )

    def forward(self, observation: Tensor) -> list[Tensor]:
        """The features at 1/2, 1/4, 1/8 and 1/16 of an observation (B, C, H, W)."""
        features = [self.stem(observation)]
        x = F.max_pool2d(features[0], 3, stride=2, ceil_mode=True)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Convolution(nn.Conv2d):
    """Without bias; the weights of every output are brought to mean 0 and variance 1 (Qiao et al. 2019)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, added to the input, which a 1x1 convolution brings to shape where it must."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_Convolution(inputs, inner, 1), _norm(inner), nn.ReLU()),
            *(_Convolution(inner, inner, 3, stride), _norm(inner), nn.ReLU()),
            *(_Convolution(inner, outputs, 1), _norm(outputs)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_Convolution(inputs, outputs, 1, stride), nn.GroupNorm(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = F.relu(self.shortcut(x) + self.body(x))
        return joined


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


def _transformer(hidden: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        hidden,
        HEADS,
        4 * hidden,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )
    norm = nn.LayerNorm(hidden, eps=1e-6)
    transformer = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False)
    for parameter in transformer.parameters():
        if parameter.dim() > 1:  # or all layers would start alike, as copies of one
            nn.init.xavier_uniform_(parameter)
    return transformer
