"""U-Net++: U-Nets of four depths that share an encoder, each joined with the shallower ones."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import convolution, scaled

CHANNELS = (64, 128, 256, 512, 1024)
DEPTH = len(CHANNELS) - 1


class UNetPlusPlus(SegmentationNetwork):
    """U-Net++ with deep supervision: 47,176,132 parameters at `width=1`.

    Node X(i, j) is at 1 / 2^i of the resolution. X(i, 0) is the encoder's: two 3x3 convolutions with normalisation and
    ReLU behind 2x2 max pooling. X(i, j) takes X(i, 0) to X(i, j - 1) and X(i + 1, j - 1), the latter doubled by a 4x4
    transposed convolution of stride 2, through two 3x3 convolutions with ReLU and no normalisation.

    X(0, 1) to X(0, 4) have a head each, a 1x1 convolution. All four are trained (`outputs`, that of X(0, 4) first),
    with the same weight; `forward` is their mean, the original's "accurate mode". `decode` returns X(0, 4), 64 x
    `width`.

    With `labels=0` X(0, 4) has no last ReLU: behind one, all features of rare foreground can fall silent.

    Any image size works: the image is padded at the right and the bottom to multiples of 16, and to 32 at least.

    Args:
        channels: C of the observation.
        width: scales every number of channels.
        norm: of the encoder, `"group"` or `"none"`; the nodes behind it have none.
        labels: L.
    """

    label: ClassVar[str] = "U-Net++"
    source: ClassVar[str] = "Zhou et al. 2018; our code"
    published: ClassVar[float | None] = 47.17
    multiple: ClassVar[int] = 2**DEPTH
    output_weights: ClassVar[tuple[float, ...]] = (1 / DEPTH,) * DEPTH

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        sides = [scaled(c, width) for c in CHANNELS]
        self.features = sides[0]
        pairs = itertools.pairwise([channels, *sides])
        self.encoder = nn.ModuleList(_double(inputs, outputs, norm) for inputs, outputs in pairs)
        columns = [[_Node(sides[i], sides[i + 1], j) for i in range(DEPTH + 1 - j)] for j in range(1, DEPTH + 1)]
        self.columns = nn.ModuleList(nn.ModuleList(column) for column in columns)
        self.heads = nn.ModuleList(nn.Conv2d(sides[0], labels, 1) for _ in range(DEPTH)) if labels else None
        if not labels:
            last: Any = columns[-1][0].block
            last[-1] = last[-1][:-1]

    def _top(self, observation: Tensor) -> list[Tensor]:
        """X(0, 1) to X(0, 4), still padded."""
        x = padded(observation, self.multiple, 2 * self.multiple)
        rows: list[list[Tensor]] = []
        for i, level in enumerate(self.encoder):
            x = level(F.max_pool2d(x, 2) if i else x)
            rows.append([x])
        for column in self.columns:
            assert isinstance(column, nn.ModuleList)
            for i, node in enumerate(column):  # row i + 1 still ends with the column before
                rows[i].append(node(rows[i], rows[i + 1][-1]))
        return rows[0][1:]

    def decode(self, observation: Tensor) -> Tensor:
        """X(0, 4), float32 (B, 64 x width, H, W)."""
        height, width = observation.shape[-2:]
        return self._top(observation)[-1][..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits of X(0, 4), X(0, 3), X(0, 2) and X(0, 1), float32 (B, L, H, W) each."""
        assert self.heads is not None, "with labels=0 there are no heads"
        height, width = observation.shape[-2:]
        found = zip(self.heads, self._top(observation)[::-1], strict=True)
        return [head(features)[..., :height, :width] for head, features in found]

    def forward(self, observation: Tensor) -> Tensor:
        """Maps float32 (B, C, H, W) to the mean of the heads' logits, (B, H, W), or (B, L, H, W) with L > 1 labels."""
        logits = torch.stack(self.outputs(observation)).mean(dim=0)
        return logits if self.labels > 1 else logits[:, 0]


def _double(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs, 1, norm, True), convolution(outputs, outputs, 1, norm, True))


class _Node(nn.Module):
    """X(i, j) of `channels`, behind row i + 1 of `below` channels."""

    def __init__(self, channels: int, below: int, j: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(below, channels, 4, stride=2, padding=1)
        nn.init.normal_(self.up.weight, std=(4 * below) ** -0.5)  # an output sums over 2x2 positions; no ReLU follows
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)
        self.block = _double((j + 1) * channels, channels, "none")

    def forward(self, row: list[Tensor], below: Tensor) -> Tensor:
        """Maps X(i, 0) to X(i, j - 1), (B, channels, H, W) each, and X(i + 1, j - 1) to (B, channels, H, W)."""
        found: Tensor = self.block(torch.cat([*row, self.up(below)], dim=1))
        return found
