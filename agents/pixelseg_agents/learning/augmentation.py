"""Augmentation that an agent applies by itself, so that it works with any environment.

The policy sees a flipped or rotated image; its actions are turned back before they reach the
environment, and reward maps are turned the way the policy sees them. Brightness changes are one gamma
and one gain per image and channel: they leave 0 at 0, so a masked pixel stays masked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelseg_agents.learning.device import moved
from pixelseg_agents.learning.distributed import rand, randint


class Augmentation:
    """One symmetry of the square and one brightness per image, drawn anew for every episode.

    Args:
        batch: B.
        channels: of one image.
        copies: how often the image leads an observation's channels, once per label when masked; the rest (stacked
            maps) keeps its values.
        square: whether the images are square; otherwise they are not rotated by 90 degrees.
        generator: where the draws come from (on the CPU).
        device: of the tensors that will be transformed.
        brightness: gamma and gain are drawn log-uniformly from [1 - b, 1 / (1 - b)].
        missing: share of the images in which some channels are replaced by another one, as data sets do where an MR
            sequence is missing: of the other channels, each at even odds.
        stand_in: which channel replaces them; None: any, drawn for each image.
    """

    def __init__(
        self,
        batch: int,
        channels: int,
        *,
        square: bool,
        generator: torch.Generator,
        device: torch.device,
        copies: int = 1,
        brightness: float = 0.2,
        missing: float = 0.0,
        stand_in: int | None = None,
    ) -> None:
        flips = randint(0, 2, (3, batch), generator, rows=1).bool()
        self._horizontal, self._vertical = moved(flips[0], device), moved(flips[1], device)
        self._transpose = moved(flips[2] & square, device)
        self._transposes = bool((flips[2] & square).any())  # asked on the CPU: a GPU would have to be waited for
        self._channels = channels * copies
        spread = -torch.log(torch.tensor(1.0 - brightness))
        draws = rand((2, batch, channels, 1, 1), generator, rows=1).repeat(1, 1, copies, 1, 1)
        self._gamma, self._gain = moved(torch.exp((2 * draws - 1) * spread), device)
        self._sources: Tensor | None = None  # which channel each one shows, int64 (B, channels of the images)
        if missing and channels > 1:
            own = torch.arange(channels).expand(batch, channels)
            other = randint(0, channels, (batch, 1), generator)
            if stand_in is not None:
                other = torch.full_like(other, stand_in)
            gone = (rand((batch, channels), generator) < 0.5) & (rand((batch, 1), generator) < missing)
            first = torch.arange(copies).view(1, copies, 1) * channels
            self._sources = moved((torch.where(gone, other, own)[:, None] + first).flatten(1), device)

    def maps(self, maps: Tensor) -> Tensor:
        """Turns maps (B, ..., H, W) the way the policy sees them."""
        maps = _where(self._horizontal, maps.flip(-1), maps)
        maps = _where(self._vertical, maps.flip(-2), maps)
        return _where(self._transpose, maps.transpose(-1, -2), maps) if self._transposes else maps

    def observation(self, observation: Tensor) -> Tensor:
        """Turns observations (B, C, H, W) and changes the brightness of their image channels."""
        image, rest = observation[:, : self._channels], observation[:, self._channels :]
        if self._sources is not None:
            image = image.gather(1, self._sources[..., None, None].expand_as(image))
        image = (image.clamp_min(0).pow(self._gamma) * self._gain).clamp(0, 1)
        return self.maps(torch.cat([image, rest], dim=1))

    def restore(self, actions: Tensor) -> Tensor:
        """Undoes `maps`: turns actions (B, ..., H, W) back the way the environment sees them."""
        if self._transposes:
            actions = _where(self._transpose, actions.transpose(-1, -2), actions)
        actions = _where(self._vertical, actions.flip(-2), actions)
        return _where(self._horizontal, actions.flip(-1), actions)


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *(1,) * (no.ndim - 1)), yes, no)
