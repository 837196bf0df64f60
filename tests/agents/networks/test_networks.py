"""The network: published counts, shapes, gradients, receptive field, padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pixelseg_agents.networks import PA3CNetwork, SpatialAttention, parameter_count


def tiny(**options: object) -> PA3CNetwork:
    torch.manual_seed(0)
    return PA3CNetwork(**{"channels": 2, "width": 0.125, "head_stride": 4, **options})  # type: ignore[arg-type]


def test_published_numbers_of_parameters() -> None:
    for norm in ("none", "group"):
        network = PA3CNetwork(3, 1.0, norm=norm, head_stride=2)
        assert round(parameter_count(network) / 1e6, 2) == 7.14
        # Group normalisation has a scale more per channel than a convolution's bias.
        assert round(parameter_count(network.trunk) / 1e6, 3) == (1.910 if norm == "none" else 1.911)
        assert parameter_count(network.sam) == 65_984
        assert parameter_count(PA3CNetwork(3, 1.0, norm=norm, sam=False)) == parameter_count(network) - 65_984
        assert parameter_count(PA3CNetwork(3, 1.0, norm=norm, dilation=False)) == parameter_count(network)
    assert parameter_count(PA3CNetwork(3, 1.0, norm="none").trunk) == sum(
        (9 * i + 1) * o
        for i, o in [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128)]
        + [(128, 128)] * 2 + [(128, 256)] + [(256, 256)] * 2
    )  # fmt: skip
    assert [part.shape[1] for part in PA3CNetwork(3, 1.0).features(torch.zeros(1, 3, 8, 8))] == [480]
    fine = PA3CNetwork(3, 1.0, head_stride=4, detail=True)
    assert [part.shape[1] for part in fine.features(torch.zeros(1, 3, 8, 8))] == [448, 32]
    assert parameter_count(fine) == 7_061_250


def test_no_parameter_count_includes_frozen_ones() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6


@pytest.mark.parametrize("head_stride", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sam": False},
        {"dilation": False},
        {"norm": "none"},
        {"blocks": 1},
        {"detail": True},
        {"detail": True, "blocks": 2},
    ],
)
def test_any_size_of_image(head_stride: int, options: dict[str, object]) -> None:
    network = tiny(head_stride=head_stride, **options)
    for height, width in ((16, 16), (17, 23), (8, 40), (5, 3), (1, 1), (9, 31)):
        logits, values = network(torch.rand(2, 2, height, width))
        assert logits.shape == values.shape == (2, height, width)
        assert logits.isfinite().all()
        assert values.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"sam": False}, {"norm": "none"}, {"channels": 4}, {"detail": True}])
def test_gradient_reaches_every_parameter(options: dict[str, int]) -> None:
    network = tiny(**options)
    logits, values = network(torch.rand(4, options.get("channels", 2), 24, 24))
    (logits.square().sum() + values.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # The softmax does not see what is added to every key alike, so the keys' bias is idle by nature.
        assert parameter.grad.abs().sum() > (0 if name != "sam.key.bias" else -1), name


def test_heads_share_the_trunk_only() -> None:
    network = tiny()
    for output, own, other in ((0, network.policy, network.value), (1, network.value, network.policy)):
        network.zero_grad()
        network(torch.rand(2, 2, 16, 16))[output].square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in own.parameters())
        assert all(p.grad is None for p in other.parameters())
        assert all(p.grad is not None for p in network.trunk.parameters())


def reach(network: PA3CNetwork, size: int = 320) -> int:
    """Rows of the input that the logit in the middle depends on."""
    image = torch.rand(1, 2, size, size, requires_grad=True)
    network.double()(image.double())[0][0, size // 2, size // 2].backward()
    assert image.grad is not None
    return int((image.grad[0].abs().sum(dim=(0, 2)) > 0).sum())


def test_dilation_widens_the_receptive_field_and_attention_sees_everything() -> None:
    plain = reach(tiny(norm="none", sam=False, dilation=False))
    dilated = reach(tiny(norm="none", sam=False, dilation=True))
    assert plain < 160 < dilated < 320
    assert reach(tiny(norm="none", sam=True, dilation=False)) == 320


def test_fewer_blocks_see_less() -> None:
    small: dict[str, Any] = {"norm": "none", "sam": False, "dilation": False, "head_stride": 2}
    reaches = [reach(tiny(blocks=blocks, **small), size=176) for blocks in (1, 2, 3, 4)]
    assert reaches[0] == 22
    assert reaches == sorted(reaches)
    assert reaches[-1] < 160, "the image is larger than what is seen"


def test_padding_repeats_the_edge_and_is_cut_off() -> None:
    network = tiny()
    image = torch.rand(2, 2, 13, 18)
    padded = torch.cat([image, image[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, 6)], dim=3)
    for one, other in zip(network(image), network(padded), strict=True):
        torch.testing.assert_close(one, other[:, :13, :18])


def test_moves_with_the_image_by_multiples_of_8() -> None:
    network = tiny(norm="none", sam=False, dilation=False)
    image = torch.zeros(1, 2, 160, 160)
    image[..., 72:88, 72:88] = torch.rand(2, 16, 16)
    moved = image.roll((8, -16), dims=(-2, -1))
    for one, other in zip(network(image), network(moved), strict=True):
        one = one.roll((8, -16), dims=(-2, -1))
        torch.testing.assert_close(one[:, 72:88, 64:80], other[:, 72:88, 64:80], atol=1e-5, rtol=1e-4)
    shifted = network(image.roll(3, dims=-1))[0].roll(-3, dims=-1)
    assert (shifted - network(image)[0])[:, 72:88, 72:88].abs().max() > 1e-4, "this can fail"


@pytest.mark.parametrize("options", [{"head_stride": 1}, {"head_stride": 4, "detail": True}])
def test_pixels_do_not_change_places(options: dict[str, Any]) -> None:
    """Where the image changes, the output changes most there, at full resolution."""
    network = tiny(norm="none", sam=False, dilation=False, **options)
    image = torch.rand(1, 2, 32, 48)
    for y, x in ((3, 40), (20, 5)):
        changed = image.clone()
        changed[..., y, x] += 5
        change = (network(changed)[0] - network(image)[0])[0].abs().detach()
        assert change.max() > 0
        row, column = divmod(int(change.argmax()), 48)
        assert abs(row - y) <= 8
        assert abs(column - x) <= 8


@pytest.mark.parametrize("detail", [False, True])
def test_start_bias_and_value_start(detail: bool) -> None:
    image = torch.rand(2, 2, 16, 16)
    logits, values = tiny(start_bias=4.0, detail=detail)(image)
    plain, _ = tiny(start_bias=0.0, detail=detail)(image)
    torch.testing.assert_close(logits, plain + 4, atol=1e-5, rtol=1e-5)
    assert values.mean().abs() < 1


def test_attention_by_its_formula() -> None:
    torch.manual_seed(0)
    attention = SpatialAttention(8)
    features = torch.randn(2, 8, 3, 5)
    query, key, value = (
        (layer.weight[:, :, 0, 0] @ features.flatten(2)) + layer.bias[:, None]
        for layer in (attention.query, attention.key, attention.value)
    )
    weights = torch.softmax(query.transpose(1, 2) @ key / 2**0.5, dim=-1)  # (B, to, from)
    attended = value @ weights.transpose(1, 2)
    expected = features.flatten(2) + attention.output.weight[:, :, 0, 0] @ attended + attention.output.bias[:, None]
    torch.testing.assert_close(attention(features).flatten(2), expected, atol=1e-5, rtol=1e-4)
