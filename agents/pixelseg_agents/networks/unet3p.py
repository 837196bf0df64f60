"""U-Net3+: every level of the decoder takes all scales at once."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_agents.networks.blocks import convolution, scaled

CHANNELS = (64, 128, 256, 512, 1024)
LEVELS = len(CHANNELS)
SHARE = 64  # what every scale gives to a level of the decoder


class UNet3Plus(SegmentationNetwork):
    """U-Net3+ with deep supervision, without its classification branch: 26,989,637 parameters at `width=1`.

    The encoder has two 3x3 convolutions per level, of 64 to 1024 channels, and 2x2 max pooling. Each of the four
    levels of the decoder takes five inputs: the encoder's of its own scale and finer ones, max-pooled; the decoder's
    of coarser ones and the encoder's coarsest, bilinearly enlarged. Each goes through a 3x3 convolution to 64 channels,
    and the 320 together through one more. Every convolution has normalisation and ReLU behind it.

    All four levels of the decoder and the encoder's coarsest have a head, a 3x3 convolution whose logits are bilinearly
    enlarged. All five are trained (`outputs`, the finest first), with the same weight; `forward` is the finest.
    `decode` returns the finest level, 320 x `width`.

    With `labels=0` that level has no last ReLU: behind one, all features of rare foreground can fall silent.

    Any image size works: the image is padded at the right and the bottom to multiples of 16, and to 32 at least.

    Args:
        channels: C of the observation.
        width: scales every number of channels.
        norm: `"group"` or `"none"`.
        labels: L.
    """

    label: ClassVar[str] = "U-Net3+"
    source: ClassVar[str] = "Huang et al. 2020; our code"
    published: ClassVar[float | None] = 27.03
    multiple: ClassVar[int] = 2 ** (LEVELS - 1)
    output_weights: ClassVar[tuple[float, ...]] = (1 / LEVELS,) * LEVELS

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        sides, share = [scaled(c, width) for c in CHANNELS], scaled(SHARE, width)
        self.features = joined = LEVELS * share
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(inputs, outputs, 1, norm, True), convolution(outputs, outputs, 1, norm, True))
            for inputs, outputs in itertools.pairwise([channels, *sides])
        )
        finest, *others = (
            _Level(level, [*sides[: level + 1], *[joined] * (LEVELS - 2 - level), sides[-1]], share, norm)
            for level in range(LEVELS - 1)
        )
        self.decoder = nn.ModuleList([finest, *others])
        decoded = [*[joined] * (LEVELS - 1), sides[-1]]
        self.heads = nn.ModuleList(nn.Conv2d(count, labels, 3, padding=1) for count in decoded) if labels else None
        if not labels:
            finest.joint = nn.Sequential(*list(finest.joint)[:-1])

    def _decoded(self, observation: Tensor) -> list[Tensor]:
        """The decoder's levels and the encoder's coarsest, finest first, of the padded observation."""
        x = padded(observation, self.multiple, 2 * self.multiple)
        scales = []
        for i, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if i else x)
            scales.append(x)
        # From here on `scales` has the decoder's features in place of the encoder's at the levels that are done.
        for i in reversed(range(LEVELS - 1)):
            scales[i] = self.decoder[i](scales)
        return scales

    def decode(self, observation: Tensor) -> Tensor:
        """The finest level's features, float32 (B, 320 x width, H, W)."""
        height, width = observation.shape[-2:]
        return self._decoded(observation)[0][..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits of all five scales at full resolution, the finest first, float32 (B, L, H, W) each."""
        assert self.heads is not None, "with labels=0 there are no heads"
        height, width = observation.shape[-2:]
        found = enumerate(zip(self.heads, self._decoded(observation), strict=True))
        return [_resampled(head(features), level)[..., :height, :width] for level, (head, features) in found]


class _Level(nn.Module):
    """A level of the decoder: `inputs` channels of all scales, finest first, brought to its own scale."""

    def __init__(self, level: int, inputs: list[int], share: int, norm: str) -> None:
        super().__init__()
        self.level = level
        self.shares = nn.ModuleList(convolution(count, share, 1, norm, True) for count in inputs)
        self.joint = convolution(len(inputs) * share, len(inputs) * share, 1, norm, True)

    def forward(self, scales: list[Tensor]) -> Tensor:
        """Maps features (B, inputs[i], H / 2^i, W / 2^i) to (B, 5 x share, H / 2^level, W / 2^level)."""
        shares = enumerate(zip(self.shares, scales, strict=True))
        found = [share(_resampled(features, i - self.level)) for i, (share, features) in shares]
        joined: Tensor = self.joint(torch.cat(found, dim=1))
        return joined


def _resampled(features: Tensor, doublings: int) -> Tensor:
    """Bilinearly enlarged, or max-pooled where `doublings` is negative."""
    if doublings > 0:
        return F.interpolate(features, scale_factor=2**doublings, mode="bilinear", align_corners=False)
    return F.max_pool2d(features, 2**-doublings) if doublings else features
