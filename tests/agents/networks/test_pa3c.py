"""PA3C's network, written out a second time from its table with nothing but `torch.nn.functional`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelseg_agents import PA3C, PA3CConfig
from pixelseg_agents.networks import PA3CNetwork
from pixelseg_env import OptionError, PixelSegVectorEnv
from tests.helpers.env import small_set

TRUNK = {"trunk.0": 1, "trunk.1": 1, "trunk.2": 2, "trunk.3": 2}  # dilation of each block's 3x3 convolutions
LAYERS = {"trunk.0": 2, "trunk.1": 2, "trunk.2": 3, "trunk.3": 3}
HEAD = (1, 2, 4, 1)
FORMS = ("attention", "softmax")


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


def as_printed(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """softmax(W * f + f) over the positions, whose mean is 1."""
    mixed = torch.einsum("oi,bihw->bohw", state["sam.mix.weight"][:, :, 0, 0], x) + x
    powers = (mixed + state["sam.mix.bias"][:, None, None]).exp()
    return powers / powers.mean(dim=(2, 3), keepdim=True)


def written_out(
    network: PA3CNetwork,
    image: Tensor,
    sam: bool = True,
    dilation: bool = True,
    sam_form: str = "attention",
    dilate_every_layer: bool = False,
    finest: int = 1,
) -> list[Tensor]:
    """Logits and values (B, H, W) of images whose sides are multiples of 16."""

    def dilated(rate: int) -> int:
        return max(rate, 2 if dilate_every_layer else 1) if dilation else 1

    state = {name: value.double() for name, value in network.state_dict().items()}
    detail, stride = network.detail, network.head_stride
    b, c, h, w = image.shape
    x = image.double().reshape(b, c, h // finest, finest, w // finest, finest).mean(dim=(3, 5))
    sources: list[Tensor] = []
    for number, (block, rate) in enumerate(TRUNK.items()):
        x = F.max_pool2d(x, 2) if number else x
        for layer in range(LAYERS[block]):
            x = convolved(state, f"{block}.{layer}", x, dilated(rate))
        sources.append(x)
    sources[-1] = (attended if sam_form == "attention" else as_printed)(state, x) if sam else x
    joined = []
    for number, source in enumerate(sources):
        if number == 0 and detail:
            continue
        finer = stride // (finest * 2**number)
        if finer > 1:  # the mean of its finer x finer pixels
            b, c, h, w = source.shape
            source = source.reshape(b, c, h // finer, finer, w // finer, finer).mean(dim=(3, 5))
        elif finer < 1:
            source = F.interpolate(
                source, scale_factor=finest * 2**number // stride, mode="bilinear", align_corners=False
            )
        joined.append(source)
    found = []
    for head in ("policy", "value"):
        inner = f"{head}.coarse" if detail else head
        y = torch.cat(joined, dim=1)
        for layer, rate in enumerate(HEAD):
            y = convolved(state, f"{inner}.{layer}", y, dilated(rate), last=layer == len(HEAD) - 1)
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
    image = torch.rand(2, 2, 48, 32)
    expected = written_out(network, image, **ablated)
    for one, two in zip(network(image), expected, strict=True):
        assert two.std() > 1e-3
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reading", [{"sam_form": "softmax"}, {"dilate_every_layer": True}, {"finest": 2}])
def test_other_readings_are_what_they_say(reading: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = PA3CNetwork(2, 0.1, norm="none", head_stride=4, **reading)
    image = torch.rand(2, 2, 48, 32)
    plain = PA3CNetwork(2, 0.1, norm="none", head_stride=4)
    if "sam_form" not in reading:  # the parameters are the same, and do something else
        plain.load_state_dict(network.state_dict())
    for one, two, other in zip(network(image), written_out(network, image, **reading), plain(image), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
        assert (one - other).abs().max() > 1e-3
    assert network(torch.rand(1, 2, 19, 33))[0].shape == (1, 19, 33)


def test_the_printed_equation_has_as_many_parameters_as_published() -> None:
    one, other = (sum(p.numel() for p in PA3CNetwork(sam_form=form).sam.parameters()) for form in FORMS)
    assert (one, other) == (65_984, 65_792)  # both 0.066 M


def test_readings_are_options_of_the_agent(tmp_path: Path) -> None:
    config = PA3CConfig.published(width=0.05, sam_form="softmax", dilate_every_layer=True, finest=2, horizons=(1,))
    agent = PA3C(PixelSegVectorEnv(2, small_set()), config, device="cpu").learn(1)
    agent.save(tmp_path / "agent.safetensors")
    again = PA3C.load(tmp_path / "agent.safetensors", device="cpu")
    assert again.network.finest == 2
    contradictions = ({"sam_form": "softmax", "sam": False}, {"dilate_every_layer": True, "dilation": False})
    for wrong in ({"sam_form": "printed"}, {"finest": 2}, {"finest": 3, "detail": False}, *contradictions):
        with pytest.raises(OptionError, match="is not valid"):
            PA3CConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"missing_sequences": 0.3, "missing_stand_in": 1.5}, r"missing_stand_in=1\.5: expected a whole number"),
        ({"missing_sequences": 0.3, "missing_stand_in": True}, "missing_stand_in=True: expected a whole number"),
        ({"missing_sequences": 0.3, "missing_stand_in": "1"}, "missing_stand_in='1': expected a whole number"),
        ({"dilate_every_layer": "x"}, "dilate_every_layer='x': expected True or False"),
        ({"equal_steps": "no"}, "equal_steps='no': expected True or False"),
        ({"augmentation": 1}, "augmentation=1: expected True or False"),
        ({"width": None}, "width=None: expected a number"),
    ],
)
def test_values_of_another_kind_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        PA3CConfig(**wrong)


def test_a_checkpoint_of_a_version_that_took_them_is_read() -> None:
    before = PA3CConfig().to_dict() | {"augmentation": 0, "missing_stand_in": 1}
    assert PA3CConfig.from_dict(before) == PA3CConfig(augmentation=False)


def test_what_may_be_none_is_so_however_its_type_is_written() -> None:
    @dataclass(frozen=True)
    class Mine(PA3CConfig):
        one: Optional[float] = None  # noqa: UP045
        other: None | float = None  # noqa: RUF036

    assert Mine().one is Mine().other is None
