"""PA3C's network, written out a second time from its table with nothing but `torch.nn.functional`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelseg_agents.networks import PA3CNetwork

TRUNK = {"trunk.0": 1, "trunk.1": 1, "trunk.2": 2, "trunk.3": 2}  # dilation of each block's 3x3 convolutions
LAYERS = {"trunk.0": 2, "trunk.1": 2, "trunk.2": 3, "trunk.3": 3}
HEAD = (1, 2, 4, 1)


def convolved(state: dict[str, Tensor], name: str, x: Tensor, rate: int, last: bool = False) -> Tensor:
    """3x3 convolution dilated by `rate`, and ReLU but for the last of a head."""
    found = F.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=rate, dilation=rate)
    return found if last else F.relu(found)


def attended(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """X + W_o softmax(Q K^T / sqrt(d)) V, one position at a time."""
    query, key, value = (
        torch.einsum("oi,bihw->bohw", state[f"sam.{name}.weight"][:, :, 0, 0], x).flatten(2)
        + state[f"sam.{name}.bias"][:, None]
        for name in ("query", "key", "value")
    )
    weights = torch.softmax(torch.einsum("bcq,bck->bqk", query, key) / query.shape[1] ** 0.5, dim=-1)
    found = torch.einsum("bqk,bck->bcq", weights, value).reshape(len(x), -1, *x.shape[-2:])
    return x + F.conv2d(found, state["sam.output.weight"], state["sam.output.bias"])


def written_out(network: PA3CNetwork, image: Tensor, sam: bool, dilation: bool) -> list[Tensor]:
    """Logits and values (B, H, W) of images whose sides are multiples of 8."""
    state = {name: value.double() for name, value in network.state_dict().items()}
    detail, stride = network.detail, network.head_stride
    x, sources = image.double(), []
    for number, (block, rate) in enumerate(TRUNK.items()):
        x = F.max_pool2d(x, 2) if number else x
        for layer in range(LAYERS[block]):
            x = convolved(state, f"{block}.{layer}", x, rate if dilation else 1)
        sources.append(x)
    sources[-1] = attended(state, x) if sam else x
    joined = []
    for number, source in enumerate(sources):
        if number == 0 and detail:
            continue
        finer = stride // 2**number
        if finer > 1:  # the mean of its finer x finer pixels
            b, c, h, w = source.shape
            source = source.reshape(b, c, h // finer, finer, w // finer, finer).mean(dim=(3, 5))
        elif finer < 1:
            source = F.interpolate(source, scale_factor=2**number // stride, mode="bilinear", align_corners=False)
        joined.append(source)
    found = []
    for head in ("policy", "value"):
        inner = f"{head}.coarse" if detail else head
        y = torch.cat(joined, dim=1)
        for layer, rate in enumerate(HEAD):
            y = convolved(state, f"{inner}.{layer}", y, rate if dilation else 1, last=layer == len(HEAD) - 1)
        y = F.conv2d(y, state[f"{inner}.4.weight"], state[f"{inner}.4.bias"])
        b, c, h, w = y.shape
        y = y.reshape(b, c // stride**2, stride, stride, h, w).permute(0, 1, 4, 2, 5, 3)
        y = y.reshape(b, c // stride**2, h * stride, w * stride)
        if detail:
            fine = torch.cat([sources[0], y], dim=1)
            y = F.conv2d(fine, state[f"{head}.output.weight"], state[f"{head}.output.bias"], padding=1)
        found.append(y[:, 0].float())
    return found


@pytest.mark.parametrize("detail", [True, False])
@pytest.mark.parametrize("head_stride", [2, 4, 8])
@pytest.mark.parametrize("ablated", [{}, {"sam": False}, {"dilation": False}])
def test_it_is_what_its_table_says(detail: bool, head_stride: int, ablated: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = PA3CNetwork(2, 0.1, norm="none", detail=detail, head_stride=head_stride, **ablated)
    image = torch.rand(2, 2, 40, 24)
    expected = written_out(network, image, ablated.get("sam", True), ablated.get("dilation", True))
    for one, two in zip(network(image), expected, strict=True):
        assert two.std() > 1e-3
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
