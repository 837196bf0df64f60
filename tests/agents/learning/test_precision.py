"""Modes of computing: bfloat16 learns the same, orders in memory change nothing, and the fastest is remembered."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor, nn

from pixelseg_agents import AC, DQN, PA3C, CheckpointError, Supervised
from pixelseg_agents.learning import precision
from pixelseg_agents.learning.precision import PLAIN, Mode, Passes, fastest_mode
from pixelseg_agents.provenance import processor
from pixelseg_env import OptionError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIXELSEG_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    return tmp_path / "cache/precision.json"


def make_env(size: int = 16, split: str = "train", num_envs: int = 2) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, split=split, size=size, count=20)


def make(kind: type[Any] = PA3C, **options: Any) -> Any:
    return kind(make_env(), device="cpu", seed=0, **{"width": 0.06, **options})


def weights(agent: Any) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in agent._parameters])


class Small(nn.Module):
    """Two layers; says what the passes were computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, observation: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden = self.one(observation).relu()
        self.seen.append((hidden.dtype, hidden.is_contiguous(memory_format=torch.channels_last)))
        found = self.two(hidden)
        return found[:, 0], [found[:, 1]]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_mode_computes_as_it_says_and_returns_float32(bf16: bool, last: bool) -> None:
    module, observation = Small(), torch.rand(2, 1, 9, 7)
    plain, (plain_list,) = PLAIN(module, observation)
    passes = Passes(Mode(bf16, last))
    passes.prepare(module)
    found, (found_list,) = passes(module, observation)
    assert module.seen[1] == (torch.bfloat16 if bf16 else torch.float32, last)
    assert found.dtype == found_list.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=0, atol=0.02 if bf16 else 1e-5)
    torch.testing.assert_close(found_list, plain_list, rtol=0, atol=0.02 if bf16 else 1e-5)


@pytest.mark.parametrize("kind", [PA3C, AC, DQN, Supervised])
def test_every_agent_trains_in_every_mode(kind: type[Any]) -> None:
    """Near float32 after a few updates, not on it; the same twice; parameters and moments stay float32."""
    more = {"learning_starts": 2, "replay_batch": 2} if kind is DQN else {}
    plain = weights(make(kind, **more).learn(3))
    for options in ({"precision": "bf16"}, {"precision": "bf16", "channels_last": True}):
        agent = make(kind, **more, **options).learn(3)
        assert not torch.equal(weights(agent), plain)
        assert torch.cosine_similarity(weights(agent), plain, dim=0) > 0.99
        assert torch.equal(weights(agent), weights(make(kind, **more, **options).learn(3)))
        assert all(parameter.dtype == torch.float32 for parameter in agent._parameters)


def test_a_resumed_training_goes_on_in_its_mode(tmp_path: Path, cache: Path) -> None:
    options = {"precision": "auto"}
    plain = make(**options).learn(4)
    assert cache.exists()
    cache.unlink()  # it could not be measured alike again
    stopped = make(**options)
    stopped.mode = plain.mode
    stopped.learn(4, callback=lambda agent: agent.updates < 2)
    again = PA3C.load(stopped.save(tmp_path / "a"), env=make_env(), device="cpu")
    assert again.mode == plain.mode
    assert torch.equal(weights(again.learn(4)), weights(plain))
    assert not cache.exists()


def test_prediction_is_float32_whatever_training_was(tmp_path: Path) -> None:
    agent = make(precision="bf16").learn(2)
    observation = torch.rand(2, agent.channels, 16, 16)
    twin = PA3C.load(agent.save(tmp_path / "a"), device="cpu")
    twin.mode = None
    assert (agent.keep_probability(observation) == twin.keep_probability(observation)).all()


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], wrong: str = "") -> list[str]:
    """Gives passes these times; the gradients of one mode come out wrong."""
    asked: list[str] = []
    true = precision.seconds_of_pass

    def pretended(module: nn.Module, observation: Tensor, passes: Passes) -> float:
        true(module, observation, passes)
        asked.append(str(passes.mode))
        if str(passes.mode) == wrong:
            for parameter in module.parameters():
                parameter.grad = torch.randn_like(parameter)
        return seconds[str(passes.mode)]

    monkeypatch.setattr(precision, "seconds_of_pass", pretended)
    return asked


TIMES = {"fp32": 1.0, "fp32, channels_last": 0.8, "bf16": 0.5, "bf16, channels_last": 0.3}


def test_auto_takes_the_fastest_that_agrees_and_remembers_it(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    module, observation = Small(), torch.rand(2, 1, 16, 16)
    before = [parameter.clone() for parameter in module.parameters()]
    asked = timed(monkeypatch, TIMES)
    assert fastest_mode(module, observation) == Mode(True, True)
    assert len(asked) == 22, "four modes, twice on a part and three times whole; one image twice, for its time"
    assert fastest_mode(module, observation) == Mode(True, True)
    assert len(asked) == 22
    assert fastest_mode(module, observation[:1]) == Mode(True, True)
    assert len(asked) == 44  # another batch is measured for itself
    assert len(json.loads(cache.read_text())) == 2
    assert not module.seen
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("seconds", "wrong", "found"),
    [
        (TIMES, "bf16, channels_last", Mode(bf16=True)),  # faster, but something else
        (TIMES | {"bf16, channels_last": 0.97, "bf16": 0.96, "fp32, channels_last": 0.98}, "", Mode()),  # hardly faster
    ],
)
def test_auto_does_not_take_what_is_wrong_or_hardly_faster(
    seconds: dict[str, float], wrong: str, found: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, seconds, wrong)
    assert fastest_mode(Small(), torch.rand(2, 1, 16, 16)) == found


def test_hopeless_modes_are_not_tried_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, TIMES | {"bf16": 20.0, "bf16, channels_last": 9.0})
    assert fastest_mode(Small(), torch.rand(2, 1, 16, 16)) == Mode(channels_last=True)
    assert asked.count("bf16") == asked.count("bf16, channels_last") == 2
    assert asked.count("fp32") == 7


@pytest.mark.parametrize(("share", "rounds"), [(0.01, 5), (0.1, 4), (0.15, 3), (1.0, 3)])
def test_long_passes_are_timed_less_often(share: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, {mode: share * seconds for mode, seconds in TIMES.items()})
    fastest_mode(Small(), torch.rand(2, 1, 16, 16))
    assert asked.count("bf16") == 2 + rounds, "a second's rounds, of 2.6 passes of float32 each, but three at least"


@pytest.mark.parametrize(("seconds", "images"), [(1.0, 1), (0.02, 3), (0.001, 8)])
def test_on_a_processor_as_many_images_are_timed_as_it_takes(
    seconds: float, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def pretended(module: nn.Module, observation: Tensor, passes: Passes) -> float:
        shapes.append(tuple(observation.shape))
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        return seconds * len(observation)

    monkeypatch.setattr(precision, "seconds_of_pass", pretended)
    fastest_mode(Small(), torch.rand(8, 1, 99, 80))
    assert shapes[-1] == (images, 1, 99, 80)
    assert set(shapes) == {(1, 1, 64, 64), (1, 1, 99, 80), (images, 1, 99, 80)}


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("model name : A\nflags : fpu avx512_bf16 amx_bf16\n\nmodel name : A\nflags : fpu", "A with AMX"),
        ("model name : B\nflags : fpu avx512_bf16", "B with AVX-512 BF16"),
        ("model name : C\nflags : fpu amx_bf16_other", "C"),
        ("flags : fpu", platform.machine()),
    ],
)
def test_a_processor_is_named_with_its_instructions(lines: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: lines)
    assert processor() == named


def test_a_damaged_memory_is_measured_anew(cache: Path) -> None:
    cache.parent.mkdir()
    for text in ("", "[]", '{"a": {"bf16": 1, "x": 2}}'):
        cache.write_text(text)
        fastest_mode(Small(), torch.rand(1, 1, 8, 8))
        assert len(json.loads(cache.read_text())) == 1


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"precision='fp16'.*fp32"):
        make(precision="fp16")
    agent = make().learn(1)
    agent.mode = Mode("yes")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="mode"):
        PA3C.load(agent.save(tmp_path / "a"))


@pytest.mark.slow
@pytest.mark.parametrize("look", ["whole", "closer(side=16, smallest=8, border=1, context=True)"])
def test_a_compiled_network_computes_the_same(look: str) -> None:
    """Losses and the gradient's norm; Adam makes whole steps of gradients that are zero but for round-off."""
    agents, noted = [make(compile=value, look=look) for value in (False, True)], []
    for agent in agents:
        agent.learn(3, log_interval=9, callback=lambda one: one.updates < 2)
        noted.append({k: v for k, v in agent.logger.name_to_value.items() if k.startswith("train/")})
    assert noted[1] == pytest.approx(noted[0], rel=1e-3, abs=1e-5)
    assert {"train/value_loss", "train/gradient_norm"} <= noted[0].keys()
    assert [bool(agent._passes._compiled) for agent in agents] == [False, True]


@pytest.mark.slow
def test_a_compiled_network_takes_images_of_several_sizes() -> None:
    network = make().network.train()
    compiled = Passes(Mode(compiled=True))
    for side in (24, 32, 40):
        images = torch.rand(2, 1, side, side)
        for one, other in zip(compiled(network, images), network(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
