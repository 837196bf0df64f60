"""What all networks are made of."""

from __future__ import annotations

from torch import nn


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, at least 4 and a multiple of 4, so that group normalisation has groups."""
    return max(4, 4 * round(channels * width / 4))


def _groups(channels: int) -> int:
    return next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)


def convolution(inputs: int, outputs: int, dilation: int, norm: str, bias: bool = False) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU; the convolution has a bias without normalisation, or if `bias`."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias or norm == "none")
    layers: list[nn.Module] = [layer]
    if norm == "group":
        layers.append(nn.GroupNorm(_groups(outputs), outputs))
    else:  # nothing rescales the signal, and PyTorch's default start would let it vanish over 14 layers
        assert layer.bias is not None
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # He et al. 2015
        nn.init.zeros_(layer.bias)
    layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def parameter_count(module: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
