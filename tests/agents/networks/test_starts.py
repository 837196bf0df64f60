"""How networks begin: widths, padding, groups of normalisation, initial values, and parts by themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks.attention_unet import AttentionUNet
from pixelseg_agents.networks.base import SegmentationNetwork
from pixelseg_agents.networks.fcn import FCN8s, _ShiftedGroupNorm
from pixelseg_agents.networks.nnunet import NNUNet, _PlaneNorm
from pixelseg_agents.networks.resunetpp import ResUNetPlusPlus
from pixelseg_agents.networks.swin_unet import SwinUNet
from pixelseg_agents.networks.transunet import TransUNet
from pixelseg_agents.networks.unet3p import UNet3Plus
from pixelseg_agents.networks.unetpp import UNetPlusPlus


def whole(kind: Any, **options: Any) -> Any:
    """At the published width, without memory."""
    with torch.device("meta"):
        return kind(**options)


def some(kind: Any, width: float = 0.125, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(3, width, **options)


# ------------------------------------------------------------------------------------------------ sizes

SMALLEST = {  # the side of what a network works on, of an image of one pixel
    FCN8s: 64, ResUNetPlusPlus: 16, UNetPlusPlus: 32, UNet3Plus: 32,
    AttentionUNet: 16, NNUNet: 64, SwinUNet: 32, TransUNet: 32,
}  # fmt: skip
every = pytest.mark.parametrize("kind", SMALLEST)


@every
def test_width_scales_every_number_of_channels(kind: Any) -> None:
    """By 16, which rounding to whole groups does not hide."""
    plain, wide = whole(kind), whole(kind, width=16.0)
    scaled = 0
    for (name, one), (other_name, other) in zip(plain.named_parameters(), wide.named_parameters(), strict=True):
        assert name == other_name
        for few, many in zip(one.shape, other.shape, strict=True):
            assert many in (few, 16 * few), name
            scaled += many == 16 * few > 0
    assert scaled > 30
    assert wide.features == (1 if kind is FCN8s else 16 * plain.features)
    assert whole(kind, labels=0).features * 16 == whole(kind, labels=0, width=16.0).features


@every
def test_what_is_left_out_is_three_channels_width_1_groups_and_one_label(kind: Any) -> None:
    with torch.device("meta"):
        plain, stated = kind(), kind(3, 1.0, norm="group", labels=1)
    shapes, wanted = ({name: one.shape for name, one in network.state_dict().items()} for network in (plain, stated))
    assert shapes == wanted
    assert plain.labels == 1


@every
def test_only_the_pyramids_of_resunetpp_are_dilated(kind: Any) -> None:
    """Every other layer sees what lies side by side, and none but those that halve or patch leaves a pixel out."""
    dilated = []
    for name, layer in whole(kind).named_modules():
        if isinstance(layer, nn.Conv2d):
            if layer.dilation != (1, 1):
                dilated.append(name.split(".")[0])
            assert layer.stride <= layer.kernel_size or "shortcut" in name, name
    assert set(dilated) == ({"bridge", "pyramid"} if kind is ResUNetPlusPlus else set())


@every
@torch.no_grad()
def test_small_images_are_continued_to_a_certain_side_and_large_ones_to_the_next_multiple(kind: Any) -> None:
    network, seen = some(kind), []
    first = next(one for one in network.modules() if isinstance(one, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    side, multiple = SMALLEST[kind], kind.multiple
    sizes = [(1, 1), (side, side), (side, side + 1)]
    for size in sizes:
        network.decode(torch.rand(1, 3, *size))
    last = (side + multiple,) * 2 if kind is SwinUNet else (side, side + multiple)  # whose grids are square there
    assert list(dict.fromkeys(seen)) == [(side, side), last]


# ------------------------------------------------------------------------------------------------ normalisation


@pytest.mark.parametrize("kind", [FCN8s, ResUNetPlusPlus, AttentionUNet])
def test_eight_groups(kind: type[SegmentationNetwork]) -> None:
    groups = [
        one.num_groups if isinstance(one, nn.GroupNorm) else one.groups
        for one in (some(kind) if kind is FCN8s else whole(kind)).modules()
        if isinstance(one, nn.GroupNorm | _ShiftedGroupNorm)
    ]
    fewer = 3 if kind is AttentionUNet else 0  # the last gates' maps have 1, which are no group of eight
    assert len(groups) > 10
    assert sum(one != 8 for one in groups) <= fewer + 1
    assert set(groups) <= {1, 8}


def test_groups_of_channels_that_are_no_multiple_of_eight() -> None:
    layer, x = _ShiftedGroupNorm(12), torch.randn(2, 12, 5, 6) * 3 + 1
    parts = layer(x).reshape(2, 4, -1)  # four groups of three
    torch.testing.assert_close(parts.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.std(-1, correction=0), torch.ones(2, 4), atol=1e-4, rtol=0)
    layer.bias.data = torch.arange(12.0)
    torch.testing.assert_close(layer(x), parts.reshape(x.shape) + torch.arange(12.0)[:, None, None])


def test_transunets_groups_are_the_originals() -> None:
    encoder = whole(TransUNet).encoder
    shortcuts = [n for name, n in encoder.named_modules() if isinstance(n, nn.GroupNorm) and "shortcut" in name]
    others = [n for name, n in encoder.named_modules() if isinstance(n, nn.GroupNorm) and "shortcut" not in name]
    assert [(n.num_groups, n.num_channels) for n in shortcuts] == [(256, 256), (512, 512), (1024, 1024)]
    assert len(others) == 1 + 3 * (3 + 4 + 9)
    assert {n.num_groups for n in others} == {32}
    assert {n.eps for n in others} == {1e-6}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_plane_of_one_pixel_is_normalised_with_the_other_channels_in_a_traced_graph_too() -> None:
    torch.manual_seed(0)
    layer = _PlaneNorm(5, affine=True)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    traced = torch.jit.trace(layer, torch.randn(2, 5, 3, 4))  # type: ignore[no-untyped-call]
    for shape in ((2, 5, 3, 4), (1, 5, 1, 2), (3, 5, 2, 1), (2, 5, 1, 1), (1, 5, 1, 1)):
        x = torch.randn(shape) * 2 + 1
        over = (1, 2, 3) if shape[2:] == (1, 1) else (2, 3)
        mean, variance = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
        expected = (x - mean) / (variance + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(traced(x), expected, atol=1e-5, rtol=1e-4)


def test_only_the_deepest_stage_of_nnunet_may_meet_a_single_pixel() -> None:
    network = some(NNUNet, 0.0625)
    plain = [name for name, one in network.named_modules() if isinstance(one, nn.InstanceNorm2d)]
    special = [name for name, one in network.named_modules() if isinstance(one, _PlaneNorm)]
    assert special == ["bottleneck.norm1", "bottleneck.norm2"]
    assert len(plain) == 2 * (7 + 6)
    slopes = {one.negative_slope for one in network.modules() if isinstance(one, nn.LeakyReLU)}
    assert slopes == {0.01}


# ------------------------------------------------------------------------------------------------ initial values


def loudness(x: Tensor) -> float:
    return float(x.detach().square().mean())


@pytest.mark.parametrize("norm", ["group", "none"])
def test_fcn_starts_as_he_et_al(norm: str) -> None:
    network = some(FCN8s, norm=norm)
    layers = [one for part in (network.blocks, network.dense) for one in part.modules() if isinstance(one, nn.Conv2d)]
    assert len(layers) == 12
    for layer in layers:
        assert loudness(layer.weight) * layer.weight[0].numel() == pytest.approx(2, rel=0.25)
        assert layer.bias is None if norm == "group" else not layer.bias.any()


def test_both_terms_of_a_residual_block_of_resunetpp_are_equally_loud() -> None:
    network = some(ResUNetPlusPlus, 0.5, norm="none")
    for block in (*network.encoder, *network.decoder):
        channels = block.shortcut[0].in_channels
        x = torch.randn(2, channels, 32, 32)
        branch, shortcut = block.branch(x), block.shortcut(x)
        assert 0.6 < loudness(branch) / loudness(shortcut) < 1.7
        torch.testing.assert_close(block(x), branch + shortcut)


def test_neither_term_of_resunetpps_stem_drowns_the_other() -> None:
    network, x = some(ResUNetPlusPlus, 1, norm="none"), torch.randn(2, 3, 32, 32)
    assert 0.4 < loudness(network.stem(x)) / loudness(network.shortcut(x)) < 3.2


def test_attention_of_resunetpp_begins_with_factors_about_1() -> None:
    network = some(ResUNetPlusPlus, 0.5)
    for attention, channels in zip(network.attentions, ((64, 256), (32, 128), (16, 64)), strict=True):
        encoded, decoded = torch.randn(2, channels[0], 16, 16), torch.randn(2, channels[1], 8, 8)
        factors = attention(encoded, decoded) / decoded
        assert factors.std(dim=1).max() < 1e-3, "one map for all channels"
        assert 0.7 < factors.mean() < 1.3
        assert 0.01 < factors[:, 0].std() < 0.3, "and yet not all the same"


def test_one_hidden_unit_of_every_pair_in_squeeze_and_excitation_speaks() -> None:
    for width in (0.01, 0.125, 1.0):
        for part in some(ResUNetPlusPlus, width).excitations:
            channels = part.excite.out_features
            hidden = part.squeeze.out_features
            assert hidden == max(2, channels // 16)
            spoken = part.squeeze(torch.rand(50, channels)).relu()
            if hidden % 2 == 0:
                torch.testing.assert_close((spoken > 0).sum(1), torch.full((50,), hidden // 2))
            x = torch.rand(3, channels, 4, 5)
            factors = part(x) / x
            torch.testing.assert_close(factors, factors[..., :1, :1].expand_as(x))
            expected = part.excite(part.squeeze(x.mean((-2, -1))).relu()).sigmoid()
            torch.testing.assert_close(factors[..., 0, 0], expected)


def test_pyramid_of_resunetpp_looks_6_12_and_18_pixels_away() -> None:
    for pyramid in (some(ResUNetPlusPlus).bridge, some(ResUNetPlusPlus).pyramid):
        for branch, rate in zip(pyramid.branches, (6, 12, 18), strict=True):
            convolution = branch[0]
            image = torch.zeros(1, convolution.in_channels, 41, 41)
            image[..., 20, 20] = 1
            seen = (convolution(image) != 0).any(dim=1)[0]
            assert seen.nonzero().tolist() == [
                [r, c] for r in (20 - rate, 20, 20 + rate) for c in (20 - rate, 20, 20 + rate)
            ]
            assert loudness(convolution.weight) * 9 * convolution.in_channels == pytest.approx(1, rel=0.3)


def test_enlarging_in_unetpp_keeps_the_loudness() -> None:
    for column in some(UNetPlusPlus, 0.5).columns:
        for node in column:
            below = torch.randn(2, node.up.in_channels, 16, 16)
            assert loudness(node.up(below)) == pytest.approx(1, rel=0.25)
            assert not node.up.bias.any()


@pytest.mark.parametrize(("kind", "least"), [(SwinUNet, 30), (TransUNet, 1)])
def test_transformers_start_small(kind: Any, least: int) -> None:
    network = some(kind)
    if kind is TransUNet:
        values = [network.positions]
    else:
        linear = [one for one in network.modules() if isinstance(one, nn.Linear)]
        values = [one.weight for one in linear]
        assert not any(one.bias.any() for one in linear if one.bias is not None)
    assert len(values) >= least
    for one in values:
        assert float(one.detach().std()) == pytest.approx(0.02, rel=0.2)
        assert abs(float(one.detach().mean())) < 0.1 / math.sqrt(one.numel())


def test_transunets_layers_start_as_glorots() -> None:
    for layer in some(TransUNet).transformer.layers:
        for weight in (layer.linear1.weight, layer.linear2.weight, layer.self_attn.in_proj_weight):
            bound = math.sqrt(6 / sum(weight.shape))
            assert 0.95 * bound < weight.abs().max() <= bound


def test_an_attention_unet_without_normalisation_starts_as_he_et_al() -> None:
    network = some(AttentionUNet, 0.25, norm="none")
    layers = [one for one in network.body.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) > 20
    for layer in layers:
        if layer.weight.numel() > 1000:
            assert loudness(layer.weight) * layer.weight[0].numel() == pytest.approx(2, rel=0.25)
        assert layer.bias is None or not layer.bias.any()


# ------------------------------------------------------------------------------------------------ parts


def test_weights_of_transunets_encoder_are_standardised() -> None:
    """By the formula, with another mean and another scale for every output."""
    layer = some(TransUNet).encoder.stem[0]
    with torch.no_grad():
        layer.weight.mul_(torch.arange(1.0, len(layer.weight) + 1)[:, None, None, None]).add_(0.3)
    x = torch.randn(1, 3, 16, 20)
    flat = layer.weight.flatten(1)
    standard = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = F.conv2d(x, standard.reshape(layer.weight.shape), stride=2, padding=3)
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_transunets_decoder_enlarges_from_corner_to_corner() -> None:
    """As the original does, which is not how the other networks do."""
    network, seen = some(TransUNet), {}
    network.first.register_forward_hook(lambda _, __, out: seen.update(small=out))
    network.decoder[0].register_forward_pre_hook(lambda _, args: seen.update(large=args[0]))
    with torch.no_grad():
        network.decode(torch.rand(1, 3, 64, 96))
    small = seen["small"][0].numpy()
    rows, columns = (np.linspace(0, n - 1, 2 * n) for n in small.shape[-2:])
    wide = np.apply_along_axis(lambda line: np.interp(columns, np.arange(len(line)), line), -1, small)
    expected = np.apply_along_axis(lambda line: np.interp(rows, np.arange(len(line)), line), -2, wide)
    np.testing.assert_allclose(seen["large"][0, : len(small)].numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_transunet_pools_over_3x3_and_takes_the_half_window_at_the_edge() -> None:
    encoder, seen = some(TransUNet).encoder, []
    encoder.stages[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fine = encoder(torch.rand(1, 3, 32, 48))[0]
    pooled = seen[0]
    assert (fine.shape[-2:], pooled.shape[-2:]) == ((16, 24), (8, 12))
    for row, column in np.ndindex(8, 12):
        window = fine[..., 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        assert torch.equal(pooled[..., row, column], window.amax((-2, -1)))


@torch.no_grad()
def test_transunets_last_layer_alone_has_no_relu() -> None:
    network, least = some(TransUNet), []
    for level in network.decoder:
        level[0].register_forward_hook(lambda _, __, out: least.append(float(out.min())))
        level.register_forward_hook(lambda _, __, out: least.append(float(out.min())))
    network.decode(torch.rand(1, 3, 64, 64))
    assert least[:-1] == [0] * 7
    assert least[-1] < -0.1


def test_transunets_hidden_channels_are_whole_heads() -> None:
    for width, hidden in ((0.001, 12), (0.0625, 48), (0.1, 72), (0.25, 192)):
        network = some(TransUNet, width)
        assert network.positions.shape == (1, hidden, 16, 16)
        layer = network.transformer.layers[0]
        assert layer.self_attn.num_heads == 12
        assert layer.linear1.out_features == 4 * hidden
        assert (layer.norm_first, layer.norm1.eps, network.transformer.norm.eps) == (True, 1e-6, 1e-6)


def test_swin_unets_channels_are_whole_fours_for_every_head() -> None:
    for width, features in ((0.001, 12), (0.125, 12), (0.25, 24), (0.3, 24), (0.4, 36)):
        assert some(SwinUNet, width).features == features
    with torch.device("meta"):
        network = SwinUNet()
    blocks = [block for level in (*network.encoder, *network.decoder) for block in level.blocks]
    assert [block.attn.num_heads for block in blocks] == [n for n in (3, 6, 12, 24, 12, 6, 3) for _ in range(2)]
    assert [block.shift_size for block in blocks] == [(0, 0), (3, 3)] * 7
    assert {block.window_size for block in blocks} == {(7, 7)}
    assert all(block.attn.qkv.bias is not None for block in blocks)
