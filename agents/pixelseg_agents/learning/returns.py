"""n-step returns of reward maps, and the learnable convolution that lets neighbours share them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents.learning.device import moved


class RewardMapConvolution(nn.Module):
    """Eq. 8: the return of a pixel also counts what its neighbours will earn.

    R(t) = r(t) + gamma (w * R(t+1)), with a learnable kernel w (the reward map convolution of PixelRL,
    Furuta et al. 2019). The kernel starts as a delta, so that training starts from the plain return of
    every pixel. `one_step_returns` has the other reading, w * V(s(t+1)). The kernel learns from the value loss alone.

    Args:
        kernel_size: side of the kernel in pixels, odd.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: expected an odd number of pixels")
        self.weight = nn.Parameter(torch.zeros(1, 1, kernel_size, kernel_size))
        with torch.no_grad():
            self.weight[..., kernel_size // 2, kernel_size // 2] = 1.0

    def forward(self, maps: Tensor) -> Tensor:
        """Convolves maps (B, H, W) or (B, L, H, W), each label by itself, zero outside the image."""
        alone = maps.reshape(-1, 1, *maps.shape[-2:])
        return F.conv2d(alone, self.weight, padding=self.weight.shape[-1] // 2).reshape(maps.shape)


def discounted_returns(
    rewards: Sequence[Tensor],
    terminated: Sequence[NDArray[np.bool_] | Tensor],
    bootstrap: Tensor,
    gamma: float,
    convolution: nn.Module | None = None,
) -> list[Tensor]:
    """n-step returns of Algorithm 1: R(t) = r(t) + gamma R(t+1), with R = 0 after the terminal step.

    Args:
        rewards: T reward maps, float32 (B, H, W) or (B, L, H, W).
        terminated: T boolean arrays (B,) on the host, whether the episode ended with that step.
        bootstrap: V of the observation after the last step, (B, H, W); used where it is not terminal.
        gamma: the discount.
        convolution: applied to R(t+1) (Eq. 8), except where step t is terminal.

    Returns:
        T tensors like the rewards. They carry a gradient for the convolution's kernel only.
    """
    following = bootstrap.detach()
    returns: list[Tensor] = []
    for reward, ended in zip(reversed(rewards), reversed(terminated), strict=True):
        over = np.asarray(ended)
        if over.all():
            following = reward
        else:
            if convolution is not None:
                following = convolution(following)
            going_on = moved(~over, reward.device).view(-1, *(1,) * (reward.ndim - 1))
            following = reward + gamma * following * going_on
        returns.append(following)
    return returns[::-1]


def one_step_returns(
    rewards: Sequence[Tensor],
    terminated: Sequence[NDArray[np.bool_] | Tensor],
    following: Sequence[Tensor],
    gamma: float,
    convolution: nn.Module,
) -> list[Tensor]:
    """Eq. 8 read on values: R(t) = r(t) + gamma (w * V(s(t+1))), with R = r at the terminal step.

    A pixel's return looks one step ahead, at what its neighbours are thought to be worth there (PixelRL's one-step
    form), where `discounted_returns` sums up what they earned until the end.

    Args:
        rewards: T reward maps, float32 (B, H, W) or (B, L, H, W).
        terminated: T boolean arrays (B,) on the host, whether the episode ended with that step.
        following: T maps of V(s(t+1)), like the rewards; no gradient goes into them.
        gamma: the discount.
        convolution: applied to V(s(t+1)), except where step t is terminal.

    Returns:
        T tensors like the rewards. They carry a gradient for the convolution's kernel only.
    """
    return [
        discounted_returns([reward], [ended], value, gamma, convolution)[0]
        for reward, ended, value in zip(rewards, terminated, following, strict=True)
    ]
