"""AMP-DRL's masking agent: which box to hide next, as Q-values of a dueling network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.unet import UNet


class MaskingQNetwork(nn.Module):
    """Q-values of every box (size, row, column): the U-Net of the DQNs, averaged over each cell of the grid.

    Q = V + A - mean(A) (Wang et al. 2016): a 1x1 convolution gives the advantages of each size in each cell, a linear
    layer the value of the state from the mean of all cells.

    Args:
        channels: C of the image; the plane of what is hidden already comes to it.
        width: scales every number of channels.
        norm: `"group"` or `"none"`.
        grid: cells along each side.
        sizes: how many sizes of boxes there are.

    Attributes:
        steps: gradient steps, int64.
        tuned_from: updates after which fine-tuning began, plus 1; 0: it has not.
    """

    steps: Tensor
    tuned_from: Tensor

    def __init__(self, channels: int, width: float, *, norm: str, grid: int, sizes: int) -> None:
        super().__init__()
        self.grid = grid
        # Not the encoder alone: at 1/16 of 64 pixels its last features are coarser than the grid.
        self.unet = UNet(channels + 1, width, norm=norm, labels=0)
        # Kept with the parameters, so that a training that goes on knows them.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("tuned_from", torch.zeros((), dtype=torch.int64))
        self.advantage, self.value = nn.Conv2d(self.unet.features, sizes, 1), nn.Linear(self.unet.features, 1)

    def forward(self, observation: Tensor) -> Tensor:
        """Maps the image, 0 where it is hidden, and a plane that is 1 there, float32 (B, C + 1, H, W), to Q-values.

        Returns:
            float32 (B, sizes x grid x grid).
        """
        cells = F.adaptive_avg_pool2d(self.unet.decode(observation), self.grid)
        advantage = self.advantage(cells).flatten(1)
        value = self.value(cells.mean(dim=(-2, -1)))
        q: Tensor = value + advantage - advantage.mean(dim=1, keepdim=True)
        return q
