"""The network: published counts, shapes, gradients, receptive field, padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_agents.networks import PA3CNetwork, SpatialAttention, parameter_count
from pixelseg_agents.networks.blocks import convolution, scaled
from pixelseg_agents.networks.heads import ActorCriticHeads, QHeads, q_values, signed
from pixelseg_agents.networks.unet import ActorCriticUNet, QNetwork, UNet, UNet31M


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


@pytest.mark.parametrize(("labels", "actions"), [(1, 1), (2, 1), (1, 8)])
@pytest.mark.parametrize("kind", ["pa3c", "ac", "heads"])
def test_deciding_leaves_the_critic_out(kind: str, labels: int, actions: int) -> None:
    made: nn.Module
    if kind == "pa3c":
        made = tiny(labels=labels, actions=actions)
    elif kind == "heads":
        made = ActorCriticHeads(UNet(2, 0.125, labels=0), labels=labels, actions=actions)
    elif actions > 1:
        pytest.skip("AC's network has no amounts")
    else:
        made = ActorCriticUNet(2, 0.125, labels=labels)
    network: Any = made.eval()
    observation = torch.rand(2, 2, 19, 22)
    expected = network(observation)[0]
    asked = []
    for name in ("value", "critic"):
        if hasattr(network, name):
            getattr(network, name).register_forward_hook(lambda *_, name=name: asked.append(name))
    assert torch.equal(network.decide(observation), expected)
    assert not asked
    network(observation)
    assert asked, "forward asks it"


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
        {"sam_form": "softmax", "dilate_every_layer": True},
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


def test_detail_hands_on_a_gradient() -> None:
    """The first block has another one, through the deeper blocks."""
    assert all(one.requires_grad for one in tiny(detail=True).features(torch.rand(1, 2, 16, 16)))


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
    assert [SpatialAttention(channels).key.out_channels for channels in (2, 4, 256)] == [1, 1, 64]


# ------------------------------------------------------------------------------------------------ U-Nets and heads


def decoded(network: Any, image: Tensor, decoder: str = "decoder") -> Tensor:
    """What a U-Net's decoder gives (no normalisation, sides that are multiples of 16), written out a second time."""
    state = network.state_dict()

    def twice(name: str, x: Tensor, last: bool = False) -> Tensor:
        x = F.relu(F.conv2d(x, state[f"{name}.0.0.weight"], state[f"{name}.0.0.bias"], padding=1))
        x = F.conv2d(x, state[f"{name}.1.0.weight"], state[f"{name}.1.0.bias"], padding=1)
        return x if last else F.relu(x)

    x, skips = image, []
    for level in range(5):
        x = twice(f"encoder.levels.{level}", F.max_pool2d(x, 2) if level else x)
        skips.append(x)
    for level in range(4):
        up = F.conv_transpose2d(
            x, state[f"{decoder}.ups.{level}.weight"], state[f"{decoder}.ups.{level}.bias"], stride=2
        )
        x = twice(f"{decoder}.levels.{level}", torch.cat([skips[3 - level], up], dim=1), last=level == 3)
    return x


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("sides", [(32, 48), (17, 30)])
def test_u_nets_are_what_they_say(labels: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, *sides)
    padded = F.pad(image, (0, -sides[1] % 16, 0, -sides[0] % 16), mode="replicate")
    options: dict[str, Any] = {"norm": "none", "labels": labels}

    def cut(layer: nn.Module, features: Tensor) -> Tensor:
        return layer(features)[..., : sides[0], : sides[1]]

    for network in (UNet(3, 0.125, **options), UNet31M(3, 0.0625, **options)):
        features = decoded(network, padded)
        expected = cut(network.output, features)
        assert network.features == features.shape[1] == 4
        torch.testing.assert_close(network.decode(image), features[..., : sides[0], : sides[1]])
        torch.testing.assert_close(network.outputs(image)[0], expected)
        torch.testing.assert_close(network(image), expected if labels > 1 else expected[:, 0])
    pair = ActorCriticUNet(3, 0.125, start_bias=3.0, **options)
    logits = cut(pair.policy, decoded(pair, padded, "actor"))
    values = cut(pair.value, decoded(pair, padded, "critic"))
    for found, expected in zip(pair(image), (logits, values), strict=True):
        torch.testing.assert_close(found, expected if labels > 1 else expected[:, 0])
    assert (pair.policy.bias == 3).all()
    assert (pair.value.bias == 0).all()
    for dueling in (False, True):
        quality = QNetwork(3, 0.125, dueling=dueling, **options)
        features = decoded(quality, padded)
        q = cut(quality.actions, features).reshape(2, 2, labels, *sides)
        if dueling:
            assert quality.value is not None
            q = cut(quality.value, features)[:, None] + q - (q[:, :1] + q[:, 1:]) / 2
        torch.testing.assert_close(quality(image), q if labels > 1 else q[:, :, 0])


def test_published_numbers_of_parameters_of_u_nets() -> None:
    with torch.device("meta"):
        counts = [parameter_count(kind(norm="none")) for kind in (UNet, UNet31M, QNetwork, ActorCriticUNet)]
        grouped = [parameter_count(kind()) for kind in (UNet, QNetwork, ActorCriticUNet)]
        dueling, three = parameter_count(QNetwork(dueling=True)), parameter_count(QNetwork(labels=3))
        assert not hasattr(UNet(labels=0), "output")
        assert parameter_count(UNet(labels=0)) == grouped[0] - 33
        assert parameter_count(ActorCriticUNet(labels=2)) == grouped[2] + 2 * 33
    assert [round(count / 1e6, 2) for count in counts] == [7.76, 31.03, 7.76, 10.81]
    assert [round(count / 1e6, 2) for count in grouped] == [7.77, 7.77, 10.82]
    assert dueling == grouped[1] + 33
    assert three == grouped[1] + 4 * 33
    assert (UNet.published, UNet31M.published, UNet.multiple) == (7.77, 31.03, 16)


def test_networks_without_options_are_the_published_ones() -> None:
    with torch.device("meta"):
        for kind in (UNet, UNet31M, QNetwork, ActorCriticUNet):
            assert parameter_count(kind()) == parameter_count(kind(3, 1.0, norm="group", labels=1))
        network = PA3CNetwork()
        asked = PA3CNetwork(3, 1.0, sam=True, blocks=4, norm="group", head_stride=2, detail=False, labels=1, actions=1)
    assert parameter_count(network) == parameter_count(asked)
    assert network.trunk[-1][0][0].dilation == (2, 2)
    assert not PA3CNetwork(width=0.05).policy.output.bias.any()
    assert not ActorCriticUNet(width=0.05).policy.bias.any()


def test_channels_are_those_of_the_publication() -> None:
    """At a width where rounding to multiples of 4 hides no slip."""
    with torch.device("meta"):
        network, unet = PA3CNetwork(3, 4.0, head_stride=4, detail=True), UNet(3, 4.0)
    for part, channels in (
        (network.trunk, [32, 32, 64, 64, 128, 128, 128, 256, 256, 256]),
        (network.policy.coarse, [256, 256, 256, 128, 16 * 4**2]),
        (unet.encoder, [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]),
    ):
        found = [layer.out_channels for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        assert found == [4 * one for one in channels]


def test_the_last_features_are_normalised_but_have_no_relu() -> None:
    for last in (UNet(3, 0.125).decoder.levels[-1][-1], tiny().policy[3], tiny(detail=True).value.coarse[3]):
        assert [type(layer) for layer in last] == [nn.Conv2d, nn.GroupNorm]


@pytest.mark.parametrize(("labels", "actions"), [(2, 1), (1, 2)])
def test_pa3c_has_a_policy_for_each_label_or_action(labels: int, actions: int) -> None:
    network = tiny(labels=labels, actions=actions)
    logits, values = network(torch.rand(3, 2, 16, 24))
    assert logits.shape == (3, 2, 16, 24)
    assert values.shape == ((3, 2, 16, 24) if labels > 1 else (3, 16, 24))


@pytest.mark.parametrize(("labels", "actions"), [(1, 1), (3, 1), (1, 8)])
def test_heads_are_1x1_convolutions_of_signed_features(labels: int, actions: int) -> None:
    torch.manual_seed(0)
    network, image = UNet(2, 0.25, labels=0), torch.rand(2, 2, 17, 20)
    features = network.decode(image)
    shifted = (features - features.mean(dim=(1, 2, 3), keepdim=True)) / features.flatten(1).std(
        dim=1, correction=0
    ).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(signed(network.features)(features), shifted, atol=1e-4, rtol=1e-4)
    heads = ActorCriticHeads(network, labels=labels, actions=actions, start_bias=2.0)
    logits, values = heads.policy(heads.signed(features)), heads.value(heads.signed(features))
    assert logits.shape[1:] == (labels * actions, 17, 20)
    assert values.shape[1:] == (labels, 17, 20)
    found = heads(image)
    torch.testing.assert_close(found[0], logits[:, 0] if labels == actions == 1 else logits)
    torch.testing.assert_close(found[1], values[:, 0] if labels == 1 else values)
    assert (heads.policy.bias == 2).all()
    assert (heads.value.bias == 0).all()
    for dueling in (False, True):
        quality = QHeads(network, labels=labels, dueling=dueling)
        value = None if quality.value is None else quality.value(quality.signed(features))
        assert (value is not None) is dueling
        expected = q_values(quality.actions(quality.signed(features)), value, labels)
        assert expected.shape == ((2, 2, labels, 17, 20) if labels > 1 else (2, 2, 17, 20))
        torch.testing.assert_close(quality(image), expected)
    plain = ActorCriticHeads(network)
    assert (plain.labels, plain.actions, plain.policy.out_channels, plain.value.out_channels) == (1, 1, 1, 1)
    assert plain.policy.bias.abs().max() == 0, "no bias of its own"
    assert [QHeads(network).actions.out_channels, QHeads(network).dueling] == [2, False]


def test_q_values_by_the_formula() -> None:
    advantages, value = torch.rand(2, 6, 4, 5), torch.rand(2, 3, 4, 5)
    plain, dueling = q_values(advantages, None, 3), q_values(advantages, value, 3)
    for action in range(2):
        for label in range(3):
            one, other = advantages[:, 3 * action + label], advantages[:, 3 * (1 - action) + label]
            torch.testing.assert_close(plain[:, action, label], one)
            torch.testing.assert_close(dueling[:, action, label], value[:, label] + one - (one + other) / 2)


def test_blocks() -> None:
    assert [scaled(32, width) for width in (0.01, 0.125, 0.2, 0.5, 1.0, 2.0)] == [4, 4, 8, 16, 32, 64]
    for outputs, groups in ((16, 8), (12, 4), (6, 2), (7, 1)):
        layer, norm, _ = convolution(3, outputs, 2, "group")
        assert isinstance(norm, nn.GroupNorm)
        assert (norm.num_groups, norm.num_channels) == (groups, outputs)
        assert layer.bias is None
        assert (layer.kernel_size, layer.padding, layer.dilation) == ((3, 3), (2, 2), (2, 2))
    torch.manual_seed(0)
    layer, last = convolution(64, 64, 1, "none")
    assert isinstance(last, nn.ReLU)
    assert last.inplace
    assert (layer.bias == 0).all()
    assert float(layer.weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)  # He et al. 2015
    assert convolution(3, 8, 1, "group", bias=True)[0].bias is not None
