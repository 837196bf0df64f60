"""FCN-8s: a classifying network whose dense layers have become convolutions, and coarse maps that are summed."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import scaled

CHANNELS = (64, 128, 256, 512, 512)  # two convolutions each: configuration B of Simonyan and Zisserman 2015
DENSE = 4096
MAPS = 32  # of the score layers where there are no classes


class FCN8s(SegmentationNetwork):
    """FCN-8s on the convolutions of VGG-13: 128,955,715 parameters at `width=1`, as many with normalisation as without.

    | part                  | layers (channels at `width=1`)                              | resolution   | parameters  |
    | --------------------- | ----------------------------------------------------------- | ------------ | ----------- |
    | conv1 to conv5        | 2 x (3x3) each, of 64, 128, 256, 512, 512; 2x2 max pooling  | 1 to 1/16    | 9,404,992   |
    | fc6, fc7              | 7x7 and 1x1, of 4096                                        | 1/32         | 119,545,856 |
    | scores                | 1x1 on fc7, pool4 and pool3, to L                           | 1/32 to 1/8  | 4,867       |
    | sum                   | (scores of fc7, doubled, + pool4's), doubled, + pool3's     | 1/8          |             |
    | full resolution       | eight times                                                 | 1            |             |

    It has no wide decoder. With `labels=0` the score layers give 32 x `width` maps in place of L classes; with labels
    `decode` returns the classes' scores: `features` says how many channels there are.

    - Enlargement is bilinear and fixed. The original lets the two doublings learn, from a bilinear start; the
      publication's count has no parameter for them.
    - The original pads the image by 100 pixels and crops. Here fc6 pads its own input, and the maps lie where they
      should.
    - Without dropout, which the original has behind fc6 and fc7: an agent's gradient has to be that of the decisions it
      played, so a network must give the same in training and in use.
    - The original has no normalisation, and starts from a trained classifier. `norm="group"` makes a start from scratch
      possible: group normalisation without a scale stands before every ReLU, and the convolution's bias behind it. A
      ReLU would pass the scale on to the next convolution, which has its own.

    Any image size works: the image is padded at the right and the bottom to multiples of 32, and to 64 at least.

    Args:
        channels: C of the observation.
        width: scales every number of channels, those of fc6 and fc7 too.
        norm: `"group"`, or `"none"`, as the original.
        labels: L.
    """

    label: ClassVar[str] = "FCN-8s"
    source: ClassVar[str] = "Long et al. 2015; our code"
    published: ClassVar[float | None] = 128.95
    multiple: ClassVar[int] = 32

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        self.features = maps = labels or scaled(MAPS, width)
        sides = [channels, *(scaled(c, width) for c in CHANNELS)]
        self.blocks = nn.ModuleList(
            nn.Sequential(*_layer(inputs, outputs, 3, norm), *_layer(outputs, outputs, 3, norm))
            for inputs, outputs in itertools.pairwise(sides)
        )
        dense = scaled(DENSE, width)
        self.dense = nn.Sequential(*_layer(sides[-1], dense, 7, norm), *_layer(dense, dense, 1, norm))
        self.scores = nn.ModuleList(nn.Conv2d(inputs, maps, 1) for inputs in (dense, sides[4], sides[3]))

    def decode(self, observation: Tensor) -> Tensor:
        """The sum of the three score layers, float32 (B, features, H, W)."""
        height, width = observation.shape[-2:]
        x = padded(observation, self.multiple, 2 * self.multiple)
        pooled = []
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
            pooled.append(x)
        of_dense, of_pool4, of_pool3 = self.scores
        found = of_dense(self.dense(x))
        found = _enlarged(found, 2) + of_pool4(pooled[3])
        found = _enlarged(found, 2) + of_pool3(pooled[2])
        return _enlarged(found, 8)[..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """What `decode` returns, which are the logits."""
        return [self.decode(observation)]


def _layer(inputs: int, outputs: int, side: int, norm: str) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=norm == "none")
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # 15 layers without it start silent
    if convolution.bias is None:
        return [convolution, _ShiftedGroupNorm(outputs), nn.ReLU(inplace=True)]
    nn.init.zeros_(convolution.bias)
    return [convolution, nn.ReLU(inplace=True)]


class _ShiftedGroupNorm(nn.Module):
    """Group normalisation with an offset per channel and no scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = math.gcd(8, channels)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        return F.group_norm(x, self.groups) + self.bias[:, None, None]  # its own offset needs a scale (PyTorch 2.13)


def _enlarged(maps: Tensor, times: int) -> Tensor:
    return F.interpolate(maps, scale_factor=times, mode="bilinear", align_corners=False)
