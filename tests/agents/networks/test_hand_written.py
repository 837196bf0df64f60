"""FCN-8s, ResUNet++, U-Net++, U-Net3+: counts of every part, shapes, gradients, places, and that each can learn."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pixelseg_agents.networks import parameter_count
from pixelseg_agents.networks.base import SegmentationNetwork
from pixelseg_agents.networks.fcn import FCN8s
from pixelseg_agents.networks.resunetpp import ResUNetPlusPlus
from pixelseg_agents.networks.unet3p import UNet3Plus
from pixelseg_agents.networks.unetpp import UNetPlusPlus
from pixelseg_env.datasets import load_dataset

NETWORKS: list[Any] = [FCN8s, ResUNetPlusPlus, UNetPlusPlus, UNet3Plus]
COUNTS = {FCN8s: 128_955_715, ResUNetPlusPlus: 14_482_564, UNetPlusPlus: 47_176_132, UNet3Plus: 26_989_637}
GIGA_MACS = {FCN8s: 22, ResUNetPlusPlus: 71, UNetPlusPlus: 135, UNet3Plus: 198}  # of one 256x256 image

every_network = pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)
every_norm = pytest.mark.parametrize("norm", ["group", "none"])


def whole(kind: Any, **options: Any) -> Any:
    """At the published width, without memory."""
    with torch.device("meta"):
        return kind(**options)


def tiny(kind: Any, channels: int = 3, width: float = 0.0625, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(channels, width, **options)


def convolution(side: int, inputs: int, outputs: int) -> int:
    return (side * side * inputs + 1) * outputs


@every_network
def test_published_numbers_of_parameters(kind: Any) -> None:
    network = whole(kind)
    assert parameter_count(network) == COUNTS[kind]
    # FCN-8s' and U-Net++'s digits are cut off; U-Net3+'s count is that of three outputs (see its parts).
    assert abs(COUNTS[kind] / 1e6 - kind.published) < (0.05 if kind is UNet3Plus else 0.01)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not list(network.buffers())  # nothing that remembers other batches


def test_parts_of_fcn_8s() -> None:
    for norm in ("group", "none"):
        network = whole(FCN8s, norm=norm)
        assert parameter_count(network.blocks) == 9_404_992
        assert parameter_count(network.dense) == 119_545_856
        assert [parameter_count(layer) for layer in network.scores] == [4097, 513, 257]
        assert parameter_count(network) == COUNTS[FCN8s]
    assert parameter_count(whole(FCN8s, labels=3).scores) == 3 * 4867
    assert parameter_count(whole(FCN8s, labels=0).scores) == 32 * 4867


def test_parts_of_resunetpp() -> None:
    network = whole(ResUNetPlusPlus)
    assert parameter_count(network.stem) + parameter_count(network.shortcut) == 11_104
    assert [parameter_count(part) for part in network.excitations] == [2 * c * (c // 16) for c in (32, 64, 128)]
    assert [parameter_count(part) for part in network.encoder] == [
        2 * inputs + 2 * convolution(3, inputs, outputs) + convolution(3, outputs, outputs) + 4 * outputs
        for inputs, outputs in ((32, 64), (64, 128), (128, 256))
    ]
    assert parameter_count(network.bridge) == 4_330_496
    assert [parameter_count(part) for part in network.attentions] == [2_952_961, 739_201, 185_281]
    assert [parameter_count(part) for part in network.decoder] == [3_542_016, 886_272, 221_952]
    assert parameter_count(network.pyramid) == 58_688
    assert parameter_count(network.head) == 33


@pytest.mark.parametrize("kind", [UNetPlusPlus, UNet3Plus])
def test_encoders_with_deep_supervision_are_u_nets(kind: Any) -> None:
    sides = [3, 64, 128, 256, 512, 1024]
    assert [parameter_count(level) for level in whole(kind).encoder] == [
        convolution(3, i, o) + convolution(3, o, o) + 4 * o for i, o in itertools.pairwise(sides)
    ]


def test_parts_of_unetpp() -> None:
    network = whole(UNetPlusPlus)
    sides = [64, 128, 256, 512, 1024]
    for j, column in enumerate(network.columns, start=1):
        for i, node in enumerate(column):
            c, below = sides[i], sides[i + 1]
            assert parameter_count(node.up) == 4 * 4 * below * c + c
            assert parameter_count(node.block) == convolution(3, (j + 1) * c, c) + convolution(3, c, c)
    assert [len(column) for column in network.columns] == [4, 3, 2, 1]
    assert [parameter_count(head) for head in network.heads] == [65] * 4


def test_parts_of_unet3p() -> None:
    network = whole(UNet3Plus)
    inputs = [
        (64, 320, 320, 320, 1024),
        (64, 128, 320, 320, 1024),
        (64, 128, 256, 320, 1024),
        (64, 128, 256, 512, 1024),
    ]
    for level, counts in zip(network.decoder, inputs, strict=True):
        assert [parameter_count(s) for s in level.shares] == [convolution(3, c, 64) + 128 for c in counts]
        assert parameter_count(level.joint) == convolution(3, 320, 320) + 640
    assert [parameter_count(head) for head in network.heads] == [2881] * 4 + [9 * 1024 + 1]
    assert parameter_count(whole(UNet3Plus, labels=3)) == 27_031_119  # the published 27.03 M


@every_network
def test_every_layer_works_at_its_resolution(kind: Any) -> None:
    network = whole(kind)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 256, 256, device="meta"))
    assert round(counter.get_total_flops() / 2e9) == GIGA_MACS[kind]


@every_network
@pytest.mark.parametrize("labels", [0, 1, 3])
@torch.no_grad()
def test_shapes(kind: Any, labels: int) -> None:
    for channels, (height, width) in enumerate(((33, 47), (16, 16), (1, 5), (64, 40)), start=1):
        network = tiny(kind, channels, 0.03, labels=labels)
        assert isinstance(network, SegmentationNetwork)
        image = torch.zeros(2, channels, height, width)
        assert network.labels == labels
        assert network.decode(image).shape == (2, network.features, height, width)
        if labels:
            assert [o.shape for o in network.outputs(image)] == [(2, labels, height, width)] * len(kind.output_weights)
            assert network(image).shape == ((2, height, width) if labels == 1 else (2, labels, height, width))
        elif kind is not FCN8s:
            assert parameter_count(tiny(kind, channels, 0.03)) > parameter_count(network), "no heads are left"


def test_numbers_of_features() -> None:
    assert [whole(kind, labels=3).features for kind in NETWORKS] == [3, 32, 64, 320]
    assert [whole(kind, labels=0).features for kind in NETWORKS] == [32, 32, 64, 320]
    assert [whole(kind, labels=0, width=0.25).features for kind in NETWORKS] == [8, 8, 16, 80]


@every_network
@every_norm
def test_gradient_reaches_every_parameter(kind: Any, norm: str) -> None:
    """Of the narrowest network too, and from all that is shown to it."""
    for width, labels in ((0.01, 0), (0.0625, 2)):
        network = tiny(kind, width=width, labels=labels, norm=norm)
        image = torch.rand(2, 3, 33, 47)
        found = network.outputs(image) if labels else [network.decode(image)]
        assert all(part.isfinite().all() and part.std() > 1e-3 for part in found)
        assert labels or found[0].min() < 0, "an agent's heads get both signs"
        sum((part * torch.randn_like(part)).sum() for part in found).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_weights_of_deep_supervision() -> None:
    for kind, count in zip(NETWORKS, (1, 1, 4, 5), strict=True):
        assert len(kind.output_weights) == count
        assert sum(kind.output_weights) == pytest.approx(1)
        assert len(set(kind.output_weights)) == 1


@every_network
def test_which_outputs_decide(kind: Any) -> None:
    network, image = tiny(kind), torch.rand(2, 3, 32, 32)
    outputs = network.outputs(image)
    expected = torch.stack(outputs).mean(dim=0) if kind is UNetPlusPlus else outputs[0]
    torch.testing.assert_close(network(image), expected[:, 0])


def reached(part: nn.Module) -> bool:
    return any(parameter.grad is not None for parameter in part.parameters())


def test_shallow_u_nets_stand_without_deeper_ones() -> None:
    """U-Net++ can be cut off behind each head, the shallowest of which comes last."""
    for j in range(1, 5):
        network = tiny(UNetPlusPlus)
        network.outputs(torch.rand(1, 3, 32, 32))[4 - j].sum().backward()
        used = [[reached(node) for node in column] for column in network.columns]
        assert used == [[i + column <= j for i in range(5 - column)] for column in range(1, 5)]
        assert [reached(level) for level in network.encoder] == [i <= j for i in range(5)]


def test_a_level_of_unet3p_takes_coarser_decoders_and_finer_encoders() -> None:
    for level in range(5):
        network = tiny(UNet3Plus)
        network.outputs(torch.rand(1, 3, 32, 32))[level].sum().backward()
        assert [reached(part) for part in network.decoder] == [i >= level for i in range(4)]
        assert all(reached(part) for part in network.encoder)


@every_network
@every_norm
def test_padding_repeats_the_edge_and_is_cut_off(kind: Any, norm: str) -> None:
    network, image = tiny(kind, 2, norm=norm, labels=0), torch.rand(2, 2, 33, 47)
    down, right = -33 % kind.multiple, -47 % kind.multiple
    padded = F.pad(image, (0, right, 0, down), mode="replicate")
    torch.testing.assert_close(network.decode(image), network.decode(padded)[..., :33, :47])
    small = image[..., :5, :7]
    side = 2 * kind.multiple
    padded = F.pad(small, (0, side - 7, 0, side - 5), mode="replicate")
    torch.testing.assert_close(network.decode(small), network.decode(padded)[..., :5, :7])


@every_network
def test_an_image_is_judged_alone_and_alike_in_training_and_use(kind: Any) -> None:
    network, images = tiny(kind), torch.rand(3, 3, 32, 32)
    together = network(images)
    for image, logits in zip(images, together, strict=True):
        torch.testing.assert_close(network.eval()(image[None])[0], logits, atol=1e-5, rtol=1e-4)


def spot(row: int, column: int, side: int) -> Tensor:
    """Zero but for 16x16 pixels, whose first is at (row, column)."""
    image = torch.zeros(1, 3, side, side)
    generator = torch.Generator().manual_seed(0)
    image[..., row : row + 16, column : column + 16] = torch.rand(3, 16, 16, generator=generator)
    return image


@every_network
@torch.no_grad()
def test_moves_with_the_image_by_multiples(kind: Any) -> None:
    # Without normalisation and with biases of 0, black stays 0 up to the last layers: borders are not seen from afar.
    network = tiny(kind, width=0.03, norm="none")
    side = 256 if kind is FCN8s else 160  # so wide that nothing crosses the border and comes back
    m, row, column = kind.multiple, side // 2 - 16, side // 2
    places = [(row, column), (row + m, column - m), (row, column + 3)]
    logits = network(torch.cat([spot(*place, side) for place in places]))
    one, other, odd = (o[r - 8 : r + 24, c - 8 : c + 24] for o, (r, c) in zip(logits, places, strict=True))
    assert one.std() > 1e-3
    torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
    assert (odd - one).abs().max() > 1e-3, "this can fail"


@every_network
@torch.no_grad()
def test_pixels_do_not_change_places(kind: Any) -> None:
    """What a spot changes lies around it, in every output."""
    off, side = [], 160
    for seed in range(4):
        torch.manual_seed(seed)
        network = kind(3, 0.03, norm="none")
        row, column = ((48, 80), (80, 64))[seed % 2]
        for logits in network.outputs(torch.cat([spot(row, column, side), torch.zeros(1, 3, side, side)])):
            change = (logits[0, 0] - logits[1, 0]).square() / (logits[0] - logits[1]).square().sum()
            places = torch.arange(side) + 0.5
            off.append([change.sum(1) @ places - row - 8, change.sum(0) @ places - column - 8])
    assert torch.tensor(off).mean(dim=0).abs().max() < (8 if kind is FCN8s else 3)  # FCN-8s decides at 1/8


@every_network
def test_learns_an_image_by_heart(kind: Any) -> None:
    data = load_dataset("phantom", size=32, count=2, split="all")
    image = torch.tensor(data.images[1:]) / 255
    truth = torch.tensor(data.masks[1:]).float()
    torch.manual_seed(0)
    network = kind(1, 0.125)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(30):
        losses = [F.binary_cross_entropy_with_logits(logits[:, 0], truth) for logits in network.outputs(image)]
        loss = torch.stack(losses) @ torch.tensor(kind.output_weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = (network(image) > 0).float()
    dice = 2 * (found * truth).sum() / (found + truth).sum()
    assert dice > (0.8 if kind is FCN8s else 0.95)
