"""Recomputing gives the same gradients and keeps one step's activations; what is kept is known beforehand."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor, nn

from pixelseg_agents import AC, DQN, PA3C, PixelRL, Supervised, TrainingError
from pixelseg_agents.learning.room import Decided, free_bytes, kept_bytes, told_apart
from pixelseg_env import OptionError


def make(kind: Any = PA3C, size: int = 16, **options: Any) -> Any:
    rules = {"transition": "additive", "observation": "stacked"} if kind is PixelRL else {}
    env = gym.make_vec("PixelSegEnv-v0", num_envs=2, split="train", size=size, count=20, **rules)
    return kind(env, device="cpu", seed=0, **{"width": 0.06, "horizons": (4,), **options})


def gradients(agent: Any) -> tuple[list[Tensor], dict[str, float]]:
    """Of the first update, and what it logged."""
    caught: list[Tensor] = []

    def catch() -> None:
        caught.extend(torch.zeros(()) if p.grad is None else p.grad.clone() for p in agent._parameters)

    agent.apply_gradients = catch
    logged: dict[str, float] = {}
    agent.learn(1, log_interval=10, callback=lambda a: logged.update(a.logger.name_to_value))
    return caught, {name: value for name, value in logged.items() if name.startswith("train/")}


@pytest.mark.parametrize("kind", [PA3C, PixelRL])
@pytest.mark.parametrize(
    "eq8", [{}, {"reward_map_convolution": 3}, {"reward_map_convolution": 3, "reward_map_on": "values"}]
)
def test_recomputing_gives_the_same_gradients(kind: Any, eq8: dict[str, Any]) -> None:
    found = [gradients(make(kind, recompute=recompute, max_gradient_norm=0.0, **eq8)) for recompute in (False, True)]
    for one, two in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)
    assert found[0][1].keys() == found[1][1].keys()
    for name, value in found[0][1].items():
        assert value == pytest.approx(found[1][1][name], rel=1e-3, abs=1e-5), name


class Counted:
    """Counts the bytes that graphs keep at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._alive: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Any:
        return _Kept(self, tensor)


class _Kept:
    def __init__(self, counted: Counted, tensor: Tensor) -> None:
        self.tensor, self.counted = tensor, counted
        storage = tensor.untyped_storage()
        self.key, self.size = storage.data_ptr(), storage.nbytes()
        alive = counted._alive
        alive[self.key] = alive.get(self.key, 0) + 1
        counted.now += self.size * (alive[self.key] == 1)
        counted.most = max(counted.most, counted.now)

    def __del__(self) -> None:
        self.counted._alive[self.key] -= 1
        self.counted.now -= self.size * (self.counted._alive[self.key] == 0)


def most_kept(**options: Any) -> int:
    counted = Counted()
    agent = make(**options)
    gc.collect()
    with torch.autograd.graph.saved_tensors_hooks(counted.pack, lambda kept: kept.tensor):
        agent.learn(1)
    return counted.most


def test_with_recomputing_memory_hardly_grows_with_t_max() -> None:
    one, ten = (most_kept(horizons=(steps,), recompute=True, size=32) for steps in (1, 10))
    assert ten < 1.3 * one
    assert most_kept(horizons=(10,), recompute=False, size=32) > 5 * one


def test_the_estimate_is_what_is_kept_and_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(size=32)
    estimate = 4 * agent._pass_bytes((2, 1, 32, 32))
    assert estimate == pytest.approx(most_kept(size=32, recompute=False), rel=0.25)
    for free, passes in ((3 * estimate, 8), (estimate, 16)):
        monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device, free=free: free)
        assert make(size=32).learn(1).passes == passes, "two images, four steps, once or twice"
    monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device: None)
    assert make(size=32).learn(1).passes == 8


def test_kept_bytes_are_counted_once() -> None:
    layer, x = nn.Linear(10, 20), torch.rand(5, 10, requires_grad=True)
    assert kept_bytes(lambda: layer(x) ** 2) == 4 * (5 * 10 + 10 * 20 + 5 * 20)
    assert kept_bytes(lambda: torch.zeros(3)) == 0
    assert 1 << 20 < (free_bytes(torch.device("cpu")) or 0) < 1 << 50


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("can't allocate memory: 9")]
)
def test_running_out_of_memory_says_what_to_change(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()

    def full(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(agent, "_rollout", full)
    said = r"out of memory: .*\(2, 1, 16, 16\), t_max 4, width 0.06, recompute={}.*MiB.*size, batch or width smaller{}$"
    with pytest.raises(TrainingError, match=said.format(False, ", or set recompute=True, .*")):
        agent.learn(1)
    agent.config = agent.config.replace(recompute=True)  # which it is not told to do once more
    with pytest.raises(TrainingError, match=said.format(True, "")):
        agent.learn(1)
    with pytest.raises(RuntimeError, match="another"), told_apart(lambda: "x"):
        raise RuntimeError("another")


@pytest.mark.parametrize(("kind", "sizes"), [(AC, "batch"), (Supervised, "batch"), (DQN, "batch, replay_batch")])
def test_every_agent_says_what_to_change(kind: Any, sizes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(kind, **({"learning_starts": 2, "replay_batch": 8} if kind is DQN else {}))
    shape = (8, 1, 16, 16) if kind is DQN else (2, 1, 16, 16)
    own = agent._make_parts()["network"].train()
    kept = kept_bytes(lambda: own(torch.zeros(shape))) - sum(p.nbytes for p in own.parameters())
    assert agent._pass_bytes(shape) == pytest.approx(kept, rel=0.1)

    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 545525760 bytes")

    monkeypatch.setattr(agent, "_descend", full)
    said = (
        re.escape(f"observations {shape}, width 0.06, keeps about")
        + r" [\d,]+ MiB .*Make size, "
        + sizes
        + " or width smaller$"
    )
    with pytest.raises(TrainingError, match=said):
        agent.learn(2)
    monkeypatch.setattr(agent, "_descend", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        agent.learn(2)


def test_an_image_that_is_too_large_to_predict_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()

    def full(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 545525760 bytes")

    monkeypatch.setattr(agent, "_keep", full)
    with pytest.raises(OptionError, match=r"predict: memory is too short for observations \(1, 1, 16, 16\)"):
        agent.predict(torch.zeros(1, 16, 16))


@pytest.mark.parametrize("layer", [nn.Dropout2d(0.5), nn.BatchNorm2d(3)])
def test_layers_that_differ_the_second_time_are_not_computed_twice(
    layer: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device: 100)
    agent = make()
    assert agent._recomputes(1000)
    agent.network.add_module("own", layer)
    assert not agent._recomputes(1000)
    asked = make(recompute=True)
    asked.network.add_module("own", layer)
    with pytest.raises(OptionError, match=r"recompute=True: the network has dropout or batch normalisation"):
        asked.learn(1)
    for harmless in (nn.Dropout(0.0), nn.BatchNorm2d(3, track_running_stats=False)):
        fine = make()
        fine.network.add_module("own", harmless)
        assert fine._recomputes(1000)


def test_processes_share_the_memory_and_decide_once(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1000]
    monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device: free[0])
    assert [make()._recomputes(need) for need in (400, 600)] == [False, True]
    assert make(workers=4)._recomputes(400)
    agent = make()
    assert not agent._recomputes(400)
    free[0] = 1
    assert not agent._recomputes(400), "what an update takes must not change the next one's way"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    free[0] = 1000
    assert make()._recomputes(400)


def test_a_training_that_goes_on_decides_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also about a longer t_max that it had not come to."""
    estimate = make(size=32)._pass_bytes((2, 1, 32, 32))
    free = [5 * estimate]  # so two steps are kept, and three are computed again
    monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device: free[0])
    plan: dict[str, Any] = {"horizons": (1, 2, 3, 4), "horizon_shares": (0.1, 0.2, 0.3, 0.4)}
    whole, first = (make(size=32, **plan) for _ in range(2))
    whole.learn(20)
    first.learn(20, callback=lambda agent: agent.updates < 2)  # t_max 1 alone
    assert first.updates == 2
    assert whole.passes > 2 * 50
    path = first.save(tmp_path / "half")
    for now in (1, 1 << 50):
        free[0] = now
        gone_on = PA3C.load(path, env=make(size=32).env, device="cpu")
        gone_on.learn(20)
        assert gone_on.passes == whole.passes
        for one, two in zip(gone_on._parameters, whole._parameters, strict=True):
            assert torch.equal(one, two)


def test_more_processes_or_another_device_decide_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device: 1000)
    first = make()
    assert not first._recomputes(300)
    kept = first.memory()
    monkeypatch.setattr("pixelseg_agents.pa3c.free_bytes", lambda device: 1)
    for processes, again in (("1", False), ("2", True)):  # which together keep 600
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        agent = make()
        agent.recall(kept)
        assert agent._recomputes(300) is again
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    elsewhere = make()
    elsewhere.recall({"room.cuda": Decided(300).tensor()})
    assert elsewhere._recomputes(300)


@pytest.mark.parametrize("wrong", [[1, 1], [-1, 5], [3, 2], [1], [[1, 2]], [1.0, 2.0]])
def test_damaged_decisions_are_refused(wrong: Any) -> None:
    assert Decided.of(Decided(3, 9).tensor()) == Decided(3, 9)
    with pytest.raises(ValueError, match=r"memory\.room: expected two whole numbers"):
        Decided.of(torch.tensor(wrong))


def test_a_reward_that_ends_a_training_is_told_with_update_and_images() -> None:
    calls = []

    def spoilt(previous: Any, current: Any, target: Any) -> Any:
        calls.append(1)
        return (current == target) * (float("nan") if len(calls) > 20 else 1.0)

    env = gym.make_vec("PixelSegEnv-v0", num_envs=2, split="train", size=16, count=20, reward=spoilt)
    with pytest.raises(OptionError, match=r"update \d+: .*NaN.* \(on phantom_\d+ \(slice 0\)"):
        PA3C(env, device="cpu", width=0.06, horizons=(4,)).learn(20)
