"""The network of PA3C: a dilated half-width VGG16, spatial attention, a policy and a value head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.blocks import convolution, scaled

TRUNK_CHANNELS = ((32, 32), (64, 64), (128, 128, 128), (256, 256, 256))  # half of VGG16's, to conv4-3
TRUNK_DILATION = (1, 1, 2, 2)  # per block
HEAD_CHANNELS = (256, 256, 256, 128)
HEAD_DILATION = (1, 2, 4, 1)
EVERY_LAYER = 2  # the least dilation where every layer is dilated
DETAIL_CHANNELS = 16  # what a head hands over to the full resolution
STRIDE = 8  # of conv4: three 2x2 poolings


class SpatialAttention(nn.Module):
    """SAM (Eq. 1): every position attends to every other, through 1x1 convolutions.

    Queries, keys and values have a quarter of the channels; a 1x1 convolution brings the attended
    values back and the input is added: X + W_o softmax(Q K^T / sqrt(d)) V. With 256 channels that is
    65,984 parameters (published: 0.066 M).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.output = nn.Conv2d(inner, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        height, width = features.shape[-2:]
        query, key, value = (layer(features).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, HW, C/4)
        correction: Tensor = self.output(attended.transpose(1, 2).reshape(features.shape[0], -1, height, width))
        return features + correction


class SoftmaxAttention(nn.Module):
    """SAM as Eq. 1 is printed: softmax(W * f + f) over the positions, with one 1x1 convolution W.

    Times the number of positions, so that the mean stays 1: the equation alone would hand on numbers of 1 / (H W),
    which no layer behind it could see beside the other sources. With 256 channels that is 65,792 parameters
    (published: 0.066 M, which does not tell the two readings apart).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        height, width = features.shape[-2:]
        shares = (self.mix(features) + features).flatten(2).softmax(dim=-1)
        found: Tensor = shares * (height * width)
        return found.reshape(features.shape)


class _Head(nn.Sequential):
    """Dilated 3x3 convolutions, then a 1x1 convolution whose outputs are shuffled to full resolution."""

    def __init__(
        self, inputs: int, outputs: int, width: float, dilation: Sequence[int], norm: str, stride: int
    ) -> None:
        layers: list[nn.Module] = []
        for channels, rate in zip(HEAD_CHANNELS, dilation, strict=True):
            layers.append(convolution(inputs, scaled(channels, width), rate, norm))
            inputs = scaled(channels, width)
        # Without the last ReLU. With it, rare foreground ends where every feature is silent: all weights learn
        # to speak for the background first, and no logit can rise above the slow bias (measured: see LOG.md).
        layers[-1] = layers[-1][:-1]  # type: ignore[index]
        super().__init__(*layers, nn.Conv2d(inputs, outputs * stride * stride, 1), nn.PixelShuffle(stride))

    @property
    def output(self) -> nn.Conv2d:
        """The last convolution."""
        layer = self[-2]
        assert isinstance(layer, nn.Conv2d)
        return layer


class _DetailHead(nn.Module):
    """A head whose shuffled outputs are features; a 3x3 convolution reads them and conv1-2 at full resolution.

    No normalisation there: at a narrow width its groups would have one channel each, every logit's mean would be its
    bias alone, and policy gradients take thousands of updates to move that (measured: see LOG.md).
    """

    def __init__(
        self, inputs: int, outputs: int, width: float, dilation: Sequence[int], norm: str, stride: int
    ) -> None:
        super().__init__()
        fine, spread = scaled(TRUNK_CHANNELS[0][-1], width), scaled(DETAIL_CHANNELS, width)
        self.coarse = _Head(inputs, spread, width, dilation, norm, stride)
        self.output = nn.Conv2d(fine + spread, outputs, 3, padding=1)

    def forward(self, joined: Tensor, fine: Tensor) -> Tensor:
        """Maps (B, 448 x width, H / stride, W / stride) and (B, 32 x width, H, W) to (B, outputs, H, W)."""
        found: Tensor = self.output(torch.cat([fine, self.coarse(joined)], dim=1))
        return found


class PA3CNetwork(nn.Module):
    """Policy and value of every pixel.

    How the publication was read. It gives the parts and the total, not every layer; with `detail=False` this reading
    meets its counts: trunk 1.910 M (without normalisation), SAM 0.066 M, in all 7.14 M at `width=1` with a 3-channel
    image.

    | part         | layers (channels at `width=1`)                                           | resolution |
    | ------------ | ------------------------------------------------------------------------ | ---------- |
    | conv1        | 2 x (3x3, 32)                                                            | 1          |
    | conv2        | 2x2 max pooling, 2 x (3x3, 64)                                           | 1/2        |
    | conv3        | 2x2 max pooling, 3 x (3x3 dilated 2, 128)                                | 1/4        |
    | conv4        | 2x2 max pooling, 3 x (3x3 dilated 2, 256)                                | 1/8        |
    | SAM          | Eq. 1 on conv4-3, 256                                                    | 1/8        |
    | sources      | conv1-2, conv2-2, conv3-3 and SAM brought to one resolution: 480         | 1/stride   |
    | policy head  | 3x3: 480-256-256-256-128, dilated 1, 2, 4, 1 (ReLU after the first three) | 1/stride   |
    |              | 1x1 to stride x stride outputs, pixel shuffle                            | 1          |
    | value head   | the same, with parameters of its own                                     | 1          |

    Every other 3x3 convolution is followed by normalisation and ReLU.

    With `detail` conv1-2 is not among the sources (448 are left) but joins each head behind the pixel shuffle, at full
    resolution: the 1x1 convolution has 16 outputs per pixel, and a 3x3 convolution makes logit or value of these 16 and
    conv1-2's 32. It is sharper at outlines, with 0.08 M parameters less.

    - "Half-width VGG16 to conv4-3": the configuration D of Simonyan and Zisserman (2015) with half the
      channels, cut after the tenth convolution, trained from scratch.
    - "Dilated convolution": dilation 2 in conv3 and conv4 and 1, 2, 4, 1 in the heads; `dilation=False`
      sets all to 1, with the same number of parameters.
    - "Three source layers": conv1-2, conv2-2 and conv3-3 join the SAM output, finer ones by average
      pooling, coarser ones by bilinear interpolation.
    - The publication does not say where full resolution is restored. The heads work at 1/`head_stride`
      and a pixel shuffle (Shi et al. 2016) spreads each position's outputs over its own
      `head_stride` x `head_stride` pixels: at 256x256 and width 1 one pass costs 169 GFLOP in the heads at
      1/2, 42 at 1/4, and 676 at full resolution.
    - The policy of a pixel is Bernoulli: one logit, the log-odds of *keep* against *zero*.

    Any image size works: the input is padded at the right and bottom (edge values) to a multiple of 8 (with
    `finest=2` of 16) and the outputs are cut back.

    Args:
        channels: C of the observation.
        width: scales every number of channels (rounded to multiples of 4).
        sam: with spatial attention, or without it (the ablation).
        dilation: with dilated convolutions, or plain ones (the ablation).
        sam_form: `"attention"` (queries, keys and values, see `SpatialAttention`) or `"softmax"` (see
            `SoftmaxAttention`): two readings of Eq. 1.
        dilate_every_layer: no layer has a dilation below 2, as the publication's words can be read.
        finest: the resolution of conv1 is 1 / finest, 1 or 2. With 2 the scales are the published 1/2 to 1/16: the
            image is pooled before conv1.
        blocks: how many blocks of the trunk there are, 1 to 4. With 1, no SAM, no dilation and `head_stride=2` a pixel
            is decided by 22 x 22 pixels around it (normalisation's mean and spread of the whole image apart).
        norm: `"group"` (GroupNorm after every 3x3 convolution) or `"none"` (as published, as far as known).
        head_stride: 1, 2, 4 or 8: the heads work at 1/head_stride of the resolution. Default 2, which meets the
            published parameter count; `PA3CConfig` has 4, three times as fast.
        detail: conv1-2 joins at full resolution.
        labels: L; with L > 1 every pixel has a policy and a value for each label.
        actions: 1 for a Bernoulli policy, K for a categorical one (of one label).
        start_bias: added to the keep logit before training; > 0 starts the policy at "keep".
    """

    def __init__(
        self,
        channels: int = 3,
        width: float = 1.0,
        *,
        sam: bool = True,
        dilation: bool = True,
        sam_form: str = "attention",
        dilate_every_layer: bool = False,
        finest: int = 1,
        blocks: int = len(TRUNK_CHANNELS),
        norm: str = "group",
        head_stride: int = 2,
        detail: bool = False,
        labels: int = 1,
        actions: int = 1,
        start_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.head_stride, self.detail, self.labels, self.actions = head_stride, detail, labels, actions
        self.finest = finest
        least = EVERY_LAYER if dilate_every_layer else 1

        def rates(usual: Sequence[int]) -> tuple[int, ...]:
            return tuple(max(rate, least) if dilation else 1 for rate in usual)

        trunk = []
        inputs = channels
        for block, rate in zip(TRUNK_CHANNELS[:blocks], rates(TRUNK_DILATION[:blocks]), strict=True):
            layers = []
            for outputs in block:
                layers.append(convolution(inputs, scaled(outputs, width), rate, norm))
                inputs = scaled(outputs, width)
            trunk.append(nn.Sequential(*layers))
        self.trunk = nn.ModuleList(trunk)
        form = SoftmaxAttention if sam_form == "softmax" else SpatialAttention
        self.sam = form(inputs) if sam else nn.Identity()
        sources = sum(scaled(block[-1], width) for block in TRUNK_CHANNELS[detail:blocks])
        head: Any = _DetailHead if detail else _Head
        self.policy = head(sources, labels * actions, width, rates(HEAD_DILATION), norm, head_stride)
        self.value = head(sources, labels, width, rates(HEAD_DILATION), norm, head_stride)
        for head, bias in ((self.policy, start_bias), (self.value, 0.0)):
            assert head.output.bias is not None
            nn.init.constant_(head.output.bias, bias)

    def features(self, observation: Tensor) -> tuple[Tensor, ...]:
        """What a head takes: the joined source layers (B, 480 x width, H / head_stride, W / head_stride).

        With `detail` 448 x width, and conv1-2 (B, 32 x width, H, W).
        """
        sources: list[Tensor] = []
        x = F.avg_pool2d(observation, self.finest) if self.finest > 1 else observation
        for i, block in enumerate(self.trunk):
            x = block(F.max_pool2d(x, 2) if i else x)
            sources.append(x)
        sources[-1] = self.sam(x)
        height, width = (side // self.head_stride for side in observation.shape[-2:])
        joined = torch.cat([_resized(source, height, width) for source in sources[self.detail :]], dim=1)
        return (joined, sources[0]) if self.detail else (joined,)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Computes both heads.

        Args:
            observation: float32 (B, C, H, W).

        Returns:
            Keep logits and values, both float32 (B, H, W), or (B, L, H, W) with L > 1 labels; the logits of K
            actions are (B, K, H, W).
        """
        features = self._padded_features(observation)
        logits, values = self.policy(*features), self.value(*features)
        return self._shaped(logits, observation, self.actions), self._shaped(values, observation)

    def decide(self, observation: Tensor) -> Tensor:
        """The logits alone, without the value head: as `forward`'s first, to the bit."""
        return self._shaped(self.policy(*self._padded_features(observation)), observation, self.actions)

    def _padded_features(self, observation: Tensor) -> tuple[Tensor, ...]:
        height, width = observation.shape[-2:]
        stride = STRIDE * self.finest
        padding = (0, -width % stride, 0, -height % stride)
        if any(padding):
            observation = F.pad(observation, padding, mode="replicate")
        return self.features(observation)

    def _shaped(self, found: Tensor, observation: Tensor, actions: int = 1) -> Tensor:
        height, width = observation.shape[-2:]
        found = found[..., :height, :width]
        return found if max(self.labels, actions) > 1 else found[:, 0]


def _resized(features: Tensor, height: int, width: int) -> Tensor:
    if features.shape[-2] > height:
        return F.avg_pool2d(features, features.shape[-2] // height)
    if features.shape[-2] < height:
        return F.interpolate(features, (height, width), mode="bilinear", align_corners=False)
    return features
