"""What all networks share, by itself: padding, checks of shape, which heads decide; and the masking agent's network."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, check_shape, features_of, padded
from pixelseg_agents.networks.heads import ActorCriticHeads, QHeads
from pixelseg_agents.networks.masker import MaskingQNetwork
from pixelseg_agents.networks.registry import (
    NETWORKS,
    build_network,
    known_already,
    network_class,
    register_network,
    registered_networks,
)
from pixelseg_env import OptionError


def test_padding_goes_to_the_next_multiple_and_repeats_the_edge() -> None:
    for height, width, multiple, smallest in itertools.product((1, 5, 8, 9), (1, 4, 16, 17), (1, 4, 8), (1, 6, 16)):
        image = torch.rand(2, 3, height, width)
        found = padded(image, multiple, smallest)
        sides = [
            next(n for n in itertools.count(side) if n % multiple == 0 and n >= smallest) for side in (height, width)
        ]
        assert found.shape == (2, 3, *sides)
        rows, columns = (torch.arange(n).clamp_max(side - 1) for n, side in zip(sides, (height, width), strict=True))
        assert torch.equal(found, image[:, :, rows][..., columns])


def test_what_fits_is_not_copied() -> None:
    image = torch.rand(1, 2, 16, 32)
    assert padded(image, 16) is image
    assert padded(image, 8, 16) is image
    assert padded(image[..., :7], 1).shape == (1, 2, 16, 7), "the smallest is 1 unless said otherwise"


class Fixed(SegmentationNetwork):
    """Gives what it was made with."""

    label = source = "test"

    def __init__(self, outputs: list[Tensor], labels: int = 1, features: int = 4) -> None:
        super().__init__()
        self._outputs, self.labels, self.features = outputs, labels, features

    def decode(self, observation: Tensor) -> Tensor:
        return self._outputs[0]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return self._outputs


def test_the_first_head_decides_and_one_label_has_no_axis_of_its_own() -> None:
    image, many = torch.zeros(2, 3, 5, 6), [torch.rand(2, 3, 5, 6) for _ in range(3)]
    assert torch.equal(Fixed(many, labels=3)(image), many[0])
    assert torch.equal(Fixed(many, labels=2)(image), many[0])
    single = [one[:, :1] for one in many]
    assert torch.equal(Fixed(single)(image), many[0][:, 0])


def test_a_subclass_may_leave_out_what_has_a_usual_value() -> None:
    assert (Fixed.published, Fixed.multiple, Fixed.smallest, Fixed.output_weights) == (None, 1, 1, (1.0,))
    assert Fixed.traces_any_size
    bare = SegmentationNetwork()
    for method in (bare.decode, bare.outputs, bare):
        with pytest.raises(NotImplementedError):
            method(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("shape", [(1, 4, 5, 6), (2, 3, 5, 6), (2, 4, 6, 6), (2, 4, 5, 5), (2, 4, 5), (2, 4, 5, 6, 1)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    image = torch.zeros(2, 7, 5, 6)
    right = torch.rand(2, 4, 5, 6)
    assert features_of(Fixed([right]), image) is right
    with pytest.raises(OptionError, match=r"test_base:Fixed: decode\(\) returned shape") as caught:
        features_of(Fixed([torch.rand(shape)]), image)
    assert f"{shape}, expected (2, 4, 5, 6)" in str(caught.value)
    with pytest.raises(OptionError, match=r"outputs\(\)"):
        check_shape(nn.Identity(), "outputs", torch.zeros(shape), (2, 4, 5, 6))


@torch.no_grad()
@pytest.mark.parametrize(("labels", "actions"), [(1, 1), (3, 1), (1, 8)])
def test_an_actors_heads_read_features_that_are_normalised_together(labels: int, actions: int) -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 4, 5, 6) * 7 + 3
    heads = ActorCriticHeads(Fixed([features]), labels=labels, actions=actions, start_bias=2.5)
    assert (heads.policy.bias == 2.5).all()
    assert (heads.value.bias == 0).all()
    mean, spread = features.mean((1, 2, 3), keepdim=True), features.std((1, 2, 3), keepdim=True, correction=0)
    read = (features - mean) / spread
    logits = torch.einsum("oc,bchw->bohw", heads.policy.weight[..., 0, 0], read) + 2.5
    values = torch.einsum("oc,bchw->bohw", heads.value.weight[..., 0, 0], read)
    found = heads(torch.zeros(2, 3, 5, 6))
    torch.testing.assert_close(found[0], logits if labels * actions > 1 else logits[:, 0])
    torch.testing.assert_close(found[1], values if labels > 1 else values[:, 0])
    assert torch.equal(heads.decide(torch.zeros(2, 3, 5, 6)), found[0])


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 3])
def test_dueling_heads_differ_by_advantages_around_the_value(labels: int) -> None:
    torch.manual_seed(0)
    image, network = torch.zeros(2, 3, 5, 6), Fixed([torch.rand(2, 4, 5, 6)])
    heads = QHeads(network, dueling=True, labels=labels)
    q, read = heads(image), heads.signed(network.decode(image))
    value, advantages = heads.value(read), heads.actions(read)
    zero, keep = (advantages[:, k * labels : (k + 1) * labels] for k in (0, 1))
    expected = torch.stack([value + (zero - keep) / 2, value + (keep - zero) / 2], dim=1)
    torch.testing.assert_close(q, expected if labels > 1 else expected[:, :, 0])
    plain = QHeads(network, labels=labels)
    assert plain.value is None
    assert torch.equal(plain(image).reshape(advantages.shape), plain.actions(plain.signed(network.decode(image))))


@pytest.mark.parametrize(
    ("error", "explained"),
    [
        (ModuleNotFoundError("no monai", name="monai"), True),
        (ModuleNotFoundError("no einops", name="einops.layers.torch"), True),
        (ModuleNotFoundError("no other", name="other"), False),
        (ImportError("monai is broken", name="monai"), False),
    ],
)
def test_only_a_missing_library_of_the_extra_is_explained(
    error: ImportError, explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some libraries are asked for when a network is made."""

    class Asks(Fixed):
        def __init__(self, channels: int, width: float, *, norm: str, labels: int) -> None:
            raise error

    monkeypatch.setitem(NETWORKS, "asks", Asks)
    with pytest.raises(OptionError if explained else ImportError) as caught:
        build_network("asks", 3)
    if explained:
        assert 'pip install "pixelseg-agents[networks]"' in str(caught.value)
        assert str(error.name).partition(".")[0] in str(caught.value)
    else:
        assert caught.value is error


def test_what_has_to_be_imported_first() -> None:
    assert known_already(None)
    assert known_already("unet")
    assert known_already("nobody has heard of it")
    assert known_already("itertools:count")
    assert not known_already("no_such_module_yet:Net")


@pytest.mark.parametrize("name", [None, 3, "", "a:b", ":"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    before = registered_networks()
    with pytest.raises(OptionError, match="without a colon"):
        register_network(name, network_class("unet"))
    assert registered_networks() == before


@pytest.fixture
def masker() -> MaskingQNetwork:
    torch.manual_seed(0)
    return MaskingQNetwork(2, 0.0625, norm="group", grid=4, sizes=3).eval()


@torch.no_grad()
def test_q_values_are_a_value_and_advantages_that_cancel_out(masker: MaskingQNetwork) -> None:
    """In an image of 16x16 a cell is 4x4 pixels, and means over cells are means over their pixels."""
    observation = torch.rand(2, 3, 16, 16)
    q = masker(observation)
    assert q.shape == (2, 3 * 4 * 4)
    features = masker.unet.decode(observation)
    value = masker.value(features.mean(dim=(-2, -1)))
    torch.testing.assert_close(q.mean(dim=1, keepdim=True), value)
    everywhere = masker.advantage(features)  # (2, sizes, 16, 16)
    cells = everywhere.unflatten(-1, (4, 4)).unflatten(-3, (4, 4)).mean(dim=(-1, -3))  # (2, sizes, 4, 4)
    expected = value[..., None, None] + cells - cells.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(q.unflatten(1, (3, 4, 4)), expected)


def test_the_masker_keeps_count_and_every_parameter_learns(masker: MaskingQNetwork) -> None:
    state = masker.state_dict()
    for name in ("steps", "tuned_from"):
        assert (state[name].dtype, state[name].shape, state[name].item()) == (torch.int64, (), 0)
    masker(torch.rand(2, 3, 24, 20)).square().sum().backward()
    assert [name for name, one in masker.named_parameters() if one.grad is None or not one.grad.any()] == []
    with pytest.raises(RuntimeError, match="channels"):
        masker(torch.rand(2, 2, 16, 16))
