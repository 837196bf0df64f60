"""The network that nnU-Net plans for images of 256x256."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import scaled
from pixelseg_env import OptionError

PLANNED_SIZE = 256  # the side that the network is planned for
SMALLEST_GRID = 4  # nnU-Net halves as long as the sides stay at least this long
FIRST_CHANNELS, MOST_CHANNELS = 32, 512


def planned_channels(size: int) -> list[int]:
    """Channels of every stage, finest first, by nnU-Net's rules for square two-dimensional images of this side.

    The sides are halved floor(log2(size / 4)) times; channels start at 32 and double up to 512.
    """
    stages = 1 + int(math.log2(size / SMALLEST_GRID))
    return [min(FIRST_CHANNELS * 2**stage, MOST_CHANNELS) for stage in range(stages)]


class NNUNet(SegmentationNetwork):
    """nnU-Net's network (Isensee et al. 2021) on MONAI's DynUNet, 33.46 M parameters at `width=1`.

    nnU-Net derives the network from the data. By its rules (v2, two dimensions) images of 256x256 with pixels of one
    spacing get

    - stages: sides are halved as long as they stay at least 4 long: six times, so seven stages down to 4x4. The first
      has stride 1, all others stride 2 in their first convolution; transposed 2x2 convolutions lead up.
    - channels: 32, 64, 128, 256, 512, 512, 512: doubling, at most 512.
    - per stage: two 3x3 convolutions, each with instance normalisation and leaky ReLU (0.01), down and up.
    - deep supervision: a 1x1 head on every stage of the decoder, with weights 1, 1/2, 1/4 ... from the finest down. The
      coarsest has weight 0 and so has no head here: five heads; the weights are normalised to the sum 1.

    Images of other sizes pass through this same network, continued to multiples of 64; the real nnU-Net would plan
    another one. With three channels and one label there are 33,461,829 parameters. Published: 30.50 M, of a plan that
    is not stated; with at most 480 channels there would be 29.96 M. (MONAI's convolutions have no biases before a
    normalisation, nnU-Net's have: 0.01 M.)

    Instance normalisation stays. Only where a plane is a single pixel (images of up to 64x64, in the deepest stage) it
    is undefined; there all channels of that pixel are normalised together. Coarse logits are brought to full
    resolution by repetition, so each answers for the pixels it covers; nnU-Net shrinks the mask instead. There is no
    dropout, and nothing is pre-trained.

    Args:
        channels: C of the image.
        width: scales every number of channels.
        norm: `"group"` alone; here it means the network's own.
        labels: L; 0: no heads.

    Raises:
        OptionError: `norm` is another.
    """

    label = "nnU-Net"
    source = "Isensee et al. 2021; MONAI's DynUNet"
    published = 30.50
    multiple = PLANNED_SIZE // SMALLEST_GRID
    output_weights = tuple(2.0**-i / (2 - 2.0**-4) for i in range(5))

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        if norm != "group":
            raise OptionError(f"norm: nnU-Net's network has its own normalisation; expected 'group', got {norm!r}")
        sides = [scaled(c, width) for c in planned_channels(PLANNED_SIZE)]
        strides = (1, *(2 for _ in sides[1:]))
        coarse = len(self.output_weights) - 1
        network = DynUNet(
            2, channels, max(labels, 1), (3,) * len(sides), strides, strides[1:], sides,
            deep_supervision=True, deep_supr_num=coarse,
        )  # fmt: skip
        deepest = network.bottleneck
        deepest.norm1, deepest.norm2 = (_PlaneNorm(norm.num_features, affine=True) for norm in _norms(deepest))
        self.features, self.labels = sides[0], labels
        # Its parts, not itself: it keeps logits between calls, and stacks them.
        self.encoder = nn.ModuleList([network.input_block, *network.downsamples])
        self.bottleneck, self.decoder = network.bottleneck, network.upsamples
        self.heads = nn.ModuleList([network.output_block, *network.deep_supervision_heads] if labels else [])

    def _stages(self, observation: Tensor) -> list[Tensor]:
        """Features of every stage of the decoder, finest first, still padded."""
        x, skips = padded(observation, self.multiple), []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x, found = self.bottleneck(x), []
        for block, skip in zip(self.decoder, skips[::-1], strict=True):
            x = block(x, skip)
            found.append(x)
        return found[::-1]

    def decode(self, observation: Tensor) -> Tensor:
        """The features of the decoder's finest stage, (B, 32 x width, H, W)."""
        height, width = observation.shape[-2:]
        return self._stages(observation)[0][..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits (B, L, H, W) of the five heads, finest first; an empty list without heads."""
        height, width = observation.shape[-2:]
        logits = [head(stage) for head, stage in zip(self.heads, self._stages(observation), strict=False)]
        return [F.interpolate(found, logits[0].shape[-2:])[..., :height, :width] for found in logits]


class _PlaneNorm(nn.InstanceNorm2d):
    """Instance normalisation; a plane of one pixel, which has no spread, is normalised with the other channels."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            # A graph that is exported needs both; torch's own refuses single pixels.
            variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
            scaled = (x - mean) * torch.rsqrt(variance + self.eps)
            plane = scaled * self.weight[:, None, None] + self.bias[:, None, None]
            several = torch.as_tensor(x.shape[-2] * x.shape[-1] > 1)
            return torch.where(several, plane, self._of_one_pixel(x))
        return super().forward(x) if x[0, 0].numel() > 1 else self._of_one_pixel(x)

    def _of_one_pixel(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 1, self.weight, self.bias, self.eps)


def _norms(block: UnetBasicBlock) -> tuple[nn.InstanceNorm2d, nn.InstanceNorm2d]:
    return block.norm1, block.norm2
