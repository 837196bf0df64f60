"""Swin-Unet: a U-Net of transformers that attend within shifted windows."""

from __future__ import annotations

import math
from typing import Any

import einops  # noqa: F401  (MONAI's blocks need it, and would say so in their first pass only)
import torch
import torch.nn.functional as F
from monai.networks.blocks.patchembedding import PatchEmbed
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging, WindowAttention
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, padded
from pixelseg_env import OptionError

CHANNELS = 96
HEADS = (3, 6, 12, 24)  # of attention, per level, finest first
DEPTH = 2  # blocks per level, down and up
PATCH = 4
WINDOW = 7


class SwinUNet(SegmentationNetwork):
    """Swin-Unet (Cao et al. 2022) of MONAI's Swin blocks, 27.17 M parameters at `width=1` (published: 27.16 M).

    Patches of 4x4 pixels become tokens of 96 channels. Every level has two blocks of attention within windows of 7x7
    tokens, the second shifted by 3. Merging of 2x2 tokens leads down, three times; patch expanding leads up: a linear
    layer doubles the channels, which are shuffled to 2x2 tokens. What each level of the encoder began with joins there
    by a linear layer. The last expansion, of every token to 4x4 pixels of 96 channels, leads to full resolution.

    Any image size works: the image is continued to multiples of 32. In images smaller than 224 the deepest grids are
    smaller than a window, and windows shrink with them; they are square then, so sides below 224 are continued to the
    same length too.

    Its layer normalisation stays. Dropout and stochastic depth (0.1 in the original) are off, so passes repeat. Nothing
    is pre-trained (the original starts from ImageNet's weights); weights start as there.

    Args:
        channels: C of the image.
        width: scales every number of channels, the first to a multiple of 12, so that heads have whole fours.
        norm: `"group"` alone; here it means the network's own.
        labels: L; 0: no head.

    Raises:
        OptionError: `norm` is another.
    """

    label = "Swin-Unet"
    source = "Cao et al. 2022; MONAI's Swin blocks"
    published = 27.16
    multiple = PATCH * 2 ** (len(HEADS) - 1)
    traces_any_size = False

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        if norm != "group":
            raise OptionError(f"norm: Swin-Unet has its own normalisation; expected 'group', got {norm!r}")
        unit = 4 * HEADS[0]
        first = max(unit, unit * round(CHANNELS * width / unit))
        sides = [first * 2**level for level in range(len(HEADS))]
        self.features, self.labels = first, labels
        self.embedding = PatchEmbed(PATCH, channels, first, spatial_dims=2)
        self.encoder = nn.ModuleList(_level(side, heads) for side, heads in zip(sides, HEADS, strict=True))
        self.merge = nn.ModuleList(PatchMerging(side, spatial_dims=2) for side in sides[:-1])
        self.norm = nn.LayerNorm(sides[-1])
        # The decoder's lists are coarsest first.
        self.expand = nn.ModuleList(PatchExpanding(side, 2, side // 2) for side in sides[:0:-1])
        self.join = nn.ModuleList(nn.Linear(2 * side, side) for side in sides[-2::-1])
        self.decoder = nn.ModuleList(_level(side, n) for side, n in zip(sides[-2::-1], HEADS[-2::-1], strict=True))
        self.last_norm = nn.LayerNorm(first)
        self.last = PatchExpanding(first, PATCH, first)
        self.heads = nn.ModuleList([nn.Conv2d(first, labels, 1, bias=False)] if labels else [])
        self.apply(_start)

    def decode(self, observation: Tensor) -> Tensor:
        """The features after the last patch expanding, (B, 96 x width, H, W)."""
        height, width = observation.shape[-2:]
        smallest = min(max(height, width), self.multiple * WINDOW)
        x = self.embedding(padded(observation, self.multiple, smallest)).permute(0, 2, 3, 1)  # (B, H/4, W/4, 96)
        skips = []
        for level, merge in zip(self.encoder, self.merge, strict=False):
            skips.append(x)
            x = merge(_attend(level, x))
        x = self.norm(_attend(self.encoder[-1], x))
        for expand, join, level in zip(self.expand, self.join, self.decoder, strict=True):
            x = _attend(level, join(torch.cat([expand(x), skips.pop()], dim=-1)))
        features: Tensor = self.last(self.last_norm(x)).permute(0, 3, 1, 2)
        return features[..., :height, :width]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """The logits (B, L, H, W) of the one head; an empty list without heads."""
        features = self.decode(observation)
        return [head(features) for head in self.heads]


class PatchExpanding(nn.Module):
    """Spreads every token over `factor` x `factor` tokens of `outputs` channels, then normalises each.

    Args:
        inputs: channels of a token.
        factor: how many tokens along each side.
        outputs: channels of each of them.
    """

    def __init__(self, inputs: int, factor: int, outputs: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(inputs, factor**2 * outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, h, w, inputs) to (B, factor h, factor w, outputs)."""
        batch, height, width, _ = tokens.shape
        factor = self.factor
        spread = self.linear(tokens).reshape(batch, height, width, factor, factor, -1).transpose(2, 3)
        normalised: Tensor = self.norm(spread.reshape(batch, factor * height, factor * width, -1))
        return normalised


class WholeWindowAttention(WindowAttention):
    """MONAI's attention, with true positions in windows that a small grid has shrunk.

    Of a shrunk window MONAI takes the biases of the first n tokens of a whole one, which are a strip, so the same bias
    would stand for another offset at every size of image. Here they are those of the whole window's corner.
    """

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attends within windows.

        Args:
            tokens: (windows, n, C), of square windows.
            mask: (windows of an image, n, n), added to what the softmax gets, or None.

        Returns:
            (windows, n, C).
        """
        windows, count, _ = tokens.shape
        side = torch.arange(math.isqrt(count), device=tokens.device)
        corner = (self.window_size[1] * side[:, None] + side).flatten()
        positions: Any = self.relative_position_index
        index = positions[corner[:, None], corner]
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)  # (heads, n, n)
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(windows // len(mask), 1, 1, 1)
        split = self.qkv(tokens).reshape(windows, count, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = split  # (windows, heads, n, C / heads) each
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        attended: Tensor = self.proj(found.transpose(1, 2).reshape(tokens.shape))
        return attended


def _level(side: int, heads: int) -> BasicLayer:
    window = (WINDOW, WINDOW)
    level = BasicLayer(side, DEPTH, heads, window, [0.0] * DEPTH, qkv_bias=True)
    for block in level.blocks:
        block.attn = WholeWindowAttention(side, heads, window, qkv_bias=True)
    return level


def _attend(level: nn.Module, tokens: Tensor) -> Tensor:
    """A level on (B, h, w, C); MONAI's wants the channels first."""
    attended: Tensor = level(tokens.permute(0, 3, 1, 2))
    return attended.permute(0, 2, 3, 1)


def _start(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
