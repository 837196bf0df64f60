"""`backend="torch"`: the same trajectories as NumPy's, on the device, through every option."""

from __future__ import annotations

import pickle
import weakref
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from pixelseg_agents import PA3C
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.references import Otsu
from pixelseg_env import ActionError, OptionError, PixelSegVectorEnv, balanced, register_reward
from tests.helpers.env import REWARDS, TASKS, random_actions, small_set

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
ON_DEVICE = ("reward_map", "segmentation", "target", "dice")


def pair(device: str = "cpu", num_envs: int = 3, **options: Any) -> tuple[PixelSegVectorEnv, PixelSegVectorEnv]:
    """The same environment on NumPy and on torch."""
    data = options.pop("dataset", None) or small_set()
    return (
        PixelSegVectorEnv(num_envs, data, **options),
        PixelSegVectorEnv(num_envs, data, backend="torch", device=device, **options),
    )


def assert_equal(numpy_value: Any, torch_value: Any, where: str = "") -> None:
    """Bit-equal, of the same type and shape; numbers that sum over a map within 1e-6."""
    if isinstance(numpy_value, dict):
        assert set(numpy_value) == set(torch_value), where
        for key in numpy_value:
            assert_equal(numpy_value[key], torch_value[key], f"{where}[{key}]")
        return
    if isinstance(numpy_value, np.ndarray) and numpy_value.dtype == object:
        for one, other in zip(numpy_value, torch_value, strict=True):
            assert (one is None and other is None) or isinstance(one, str) or assert_equal(one, other, where) is None
        return
    if isinstance(torch_value, torch.Tensor):
        torch_value = torch_value.cpu().numpy()
    assert numpy_value.dtype == torch_value.dtype, where
    assert numpy_value.shape == torch_value.shape, where
    if numpy_value.dtype == np.float64:
        np.testing.assert_allclose(torch_value, numpy_value, rtol=1e-6, atol=1e-6, err_msg=where)
    else:
        np.testing.assert_array_equal(torch_value, numpy_value, err_msg=where)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None)
@given(
    task=st.sampled_from(TASKS),
    reward=st.sampled_from(REWARDS),
    mode=st.sampled_from(["NextStep", "SameStep", "Disabled"]),
    height=st.integers(9, 33),
    width=st.integers(8, 33),
    channels=st.integers(1, 3),
    floats=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_trajectories_equal_those_of_numpy(
    device: str,
    task: tuple[str, str],
    reward: str,
    mode: str,
    height: int,
    width: int,
    channels: int,
    floats: bool,
    seed: int,
) -> None:
    data = small_set(channels=channels, height=height, width=width, dtype=np.float32 if floats else np.uint8)
    options = {"transition": task[0], "observation": task[1], "reward": reward, "horizon": 2, "autoreset_mode": mode}
    ours, theirs = pair(device, dataset=data, **options)
    lengths = {"horizon": np.array([2, 3, 1])}
    assert_equal_pair(ours.reset(seed=seed, options=lengths), theirs.reset(seed=seed, options=lengths))
    ended = np.zeros(3, np.bool_)
    for action in random_actions((3, height, width), 5, seed=seed % 1000):
        if mode == "Disabled" and ended.any():
            partial = {"reset_mask": ended, "index": 1}
            assert_equal_pair(ours.reset(options=partial), theirs.reset(options=partial))
        one = ours.step(action)
        other = theirs.step(torch.from_numpy(action).to(device))
        assert_equal_pair(one, other)
        ended = one[2]


def assert_equal_pair(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    for k, (mine, yours) in enumerate(zip(one, other, strict=True)):
        assert_equal(mine, yours, str(k))


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_live_on_the_device(device: str) -> None:
    _, env = pair(device)
    assert (env.backend, env.device.split(":")[0]) == ("torch", device)
    observation, info = env.reset(seed=0)
    returned = [observation, *env.step(env.action_space.sample())[:4], *(info[key] for key in ON_DEVICE)]
    assert all(isinstance(one, torch.Tensor) and one.device.type == device for one in returned)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_moves_nothing_to_the_host(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way from a tensor to the host is barred; on CUDA, waiting for the device is an error too."""
    _, env = pair(device, transition="absorbing", reward=balanced(3.0))
    env.reset(seed=0)
    action = torch.ones((3, 12, 9), dtype=torch.int8, device=device)

    def barred(*_: Any, **__: Any) -> Any:
        raise AssertionError("a step read a tensor on the host")

    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        for name in ("cpu", "numpy", "item", "tolist", "__bool__", "__float__", "__int__", "__array__"):
            monkeypatch.setattr(torch.Tensor, name, barred)
    else:  # on the CPU the action's values are checked in place, through NumPy
        for name in ("cpu", "item", "tolist", "__bool__", "__float__", "__int__"):
            monkeypatch.setattr(torch.Tensor, name, barred)
    try:
        for _ in range(12):
            env.step(action)
    finally:
        torch.cuda.set_sync_debug_mode("default") if device == "cuda" else None


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (torch.ones((3, 12, 8), dtype=torch.int8), r"expected shape \(3, 12, 9\)"),
        (torch.ones((3, 12, 9)), "got type float32"),
        (torch.full((3, 12, 9), 2, dtype=torch.int64), "found 2"),
        (torch.full((3, 12, 9), -1, dtype=torch.int8), "found -1"),
        (np.full((3, 12, 9), 7), "found 7"),
        ("zero", "expected"),
    ],
)
def test_bad_actions(action: Any, words: str) -> None:
    _, env = pair()
    env.reset(seed=0)
    with pytest.raises(ActionError, match=words):
        env.step(action)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_bad_value_on_cuda_is_reported_by_the_next_reset() -> None:
    _, env = pair("cuda")
    env.reset(seed=0)
    env.step(torch.full((3, 12, 9), 2, dtype=torch.int8, device="cuda"))
    with pytest.raises(ActionError, match="since the last reset"):
        env.reset()
    env.reset()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "jax"}, "numpy.*torch"),
        ({"device": "cuda"}, 'needs backend="torch"'),
        ({"backend": "torch", "device": "tpu9"}, "expected .cpu., .cuda."),
        ({"backend": "torch", "devise": "cpu"}, "device"),
    ],
)
def test_bad_options(options: dict[str, str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        PixelSegVectorEnv(1, small_set(), **options)  # type: ignore[arg-type]


def test_what_the_caller_does_to_returned_tensors_changes_nothing() -> None:
    ours, theirs = pair(horizon=6, transition="restorable")
    ours.reset(seed=3)
    observation, info = theirs.reset(seed=3)
    for action in random_actions((3, 12, 9), 5):
        tensor = torch.from_numpy(action.copy())
        for one in (observation, *(info[key] for key in ON_DEVICE)):
            one.zero_()
        expected = ours.step(action)
        observation, *_, info = found = theirs.step(tensor)
        tensor.zero_()  # a map that is the caller's own action would now be empty
        assert_equal_pair(expected, found)


def test_a_reward_function_that_writes_to_its_arguments_is_refused() -> None:
    def cheat(previous: Any, current: Any, target: Any) -> Any:
        target.copy_(current)
        return current.float()

    env = PixelSegVectorEnv(2, small_set(), backend="torch", reward=cheat)
    env.reset(seed=0)
    with pytest.raises(OptionError, match="wrote to them"):
        env.step(env.action_space.sample())


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, c, t: c.float() * float("nan"), "NaN or infinite"),
        (lambda p, c, t: c.float().mean((-1, -2)), r"shape \(2, 12, 9\)"),
        (lambda p, c, t: "much", "expected a map of numbers"),
        (lambda p, c, t: c.to(torch.complex64), "type torch.complex64"),
    ],
)
def test_reward_functions_that_return_the_wrong_thing(function: Any, words: str) -> None:
    env = PixelSegVectorEnv(2, small_set(), backend="torch", reward=function)
    env.reset(seed=0)
    with pytest.raises(OptionError, match=words):
        env.step(env.action_space.sample())


def test_a_registered_reward_gets_tensors() -> None:
    register_reward("kept", lambda previous, current, target: current, overwrite=True)
    env = PixelSegVectorEnv(2, small_set(), backend="torch", reward="kept")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.ones((2, 12, 9), np.int8))
    assert info["reward_map"].dtype == torch.float32
    assert reward.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("device", DEVICES)
def test_close_frees_the_memory(device: str) -> None:
    env = PixelSegVectorEnv(2, small_set(), backend="torch", device=device)
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    env.reset(seed=0)
    held = [weakref.ref(one) for one in (env._image, env._target, env._segmentation, env._backend._images)]
    env.close()
    assert [one() for one in held] == [None] * 4
    if device == "cuda":
        assert torch.cuda.memory_allocated() < before
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.reset()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.step(env.action_space.sample())
    env.close()


def test_frames_are_those_of_numpy() -> None:
    ours, theirs = pair(render_mode="rgb_array")
    for env in (ours, theirs):
        env.reset(seed=1)
        env.step(random_actions((3, 12, 9), 1)[0])
    for one, other in zip(ours.render() or (), theirs.render() or (), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- agents


def phantoms(backend: str, split: str = "train", **options: Any) -> Any:
    options = {"size": 16, "count": 30, "num_envs": 4, "device": "cpu"} | options
    return gym.make_vec("PixelSegEnv-v0", split=split, backend=backend, **options)


def parameters(agent: PA3C) -> NDArray[np.float32]:
    return torch.cat([p.detach().flatten().cpu() for p in agent.network.parameters()]).numpy()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_pa3c_learns_the_same_on_both_backends(mode: str) -> None:
    torch.set_num_threads(1)
    agents = [
        PA3C(phantoms(backend, autoreset_mode=mode), width=0.0625, horizons=(1, 3), seed=2, device="cpu").learn(12)
        for backend in ("numpy", "torch")
    ]
    np.testing.assert_array_equal(parameters(agents[0]), parameters(agents[1]))


def test_evaluation_is_the_same_on_both_backends() -> None:
    agent = PA3C(phantoms("numpy"), width=0.0625, device="cpu").learn(5)
    for predictor in (agent, Otsu()):
        one, other = (evaluate(predictor, phantoms(name, "test")) for name in ("numpy", "torch"))
        np.testing.assert_allclose(other.metrics["DICE"], one.metrics["DICE"])
        np.testing.assert_allclose(other.returns, one.returns, rtol=1e-6)


def test_predict_returns_what_it_was_given() -> None:
    agent = PA3C(phantoms("numpy"), width=0.0625, device="cpu")
    observation = np.random.default_rng(0).random((2, 1, 16, 16), dtype=np.float32)
    of_array, _ = agent.predict(observation)
    of_tensor, _ = agent.predict(torch.from_numpy(observation))
    assert isinstance(of_array, np.ndarray)
    assert isinstance(of_tensor, torch.Tensor)
    np.testing.assert_array_equal(of_array, of_tensor.numpy())
    single, _ = agent.predict(torch.from_numpy(observation[0]))
    assert single.shape == (16, 16)


class HostReads(TorchDispatchMode):
    """Counts the numbers that are read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("autoreset_mode", ["Disabled", "SameStep", "NextStep"])
def test_an_update_of_pa3c_reads_only_its_final_numbers_whatever_its_length(autoreset_mode: str) -> None:
    def reads(horizon: int) -> int:
        env = PixelSegVectorEnv(3, small_set(), backend="torch", horizon=horizon, autoreset_mode=autoreset_mode)
        agent = PA3C(env, width=1 / 16, horizons=(horizon,), device="cpu")
        with HostReads() as counted:
            agent.learn(1)
        return counted.count

    assert reads(1) > 5, "losses, reward, Dice and the norm of the gradient are reported"
    assert reads(6) == reads(1), "a step that read something would be counted six times"


def test_environments_on_tensors_can_be_pickled() -> None:
    env = PixelSegVectorEnv(2, small_set(), backend="torch", horizon=2)
    env.reset(seed=0)
    twin = pickle.loads(pickle.dumps(env))
    action = torch.zeros(env.action_space.shape, dtype=torch.int8)
    for one, other in zip(env.step(action)[:3], twin.step(action)[:3], strict=True):
        assert torch.equal(one, other)


def test_other_devices_are_refused() -> None:
    with pytest.raises(OptionError, match='expected "cpu", "cuda"'):
        PixelSegVectorEnv(2, small_set(), backend="torch", device="meta")
