"""Workers: one does what training without workers does, to the bit; several learn; whatever happens to one is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents import AC, PA3C, CheckpointError, Otsu, SegmentationNetwork, TrainingError, evaluate
from pixelseg_agents.actor_critic import SaturationWarning
from pixelseg_agents.learning import asynchronous, sharing
from pixelseg_agents.learning.asynchronous import Crew, Member, all_tensors
from pixelseg_agents.learning.sharing import Parcel, SharedTensors
from pixelseg_env import OptionError
from tests.helpers.cli import PHANTOM, TINY
from tests.helpers.fresh import CONTEXT

CPU = {"device": "cpu", "seed": 3, "width": 0.03}


class Normalised(SegmentationNetwork):
    """Batch normalisation, whose running means no gradient changes."""

    label, source, features = "Normalised", "tests", 4

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        self.layers = nn.Sequential(nn.Conv2d(channels, self.features, 3, padding=1), nn.BatchNorm2d(self.features))

    def decode(self, observation: Tensor) -> Tensor:
        features: Tensor = self.layers(observation)
        return features

    def outputs(self, observation: Tensor) -> list[Tensor]:
        raise NotImplementedError


NORMALISED = f"{__name__}:{Normalised.__name__}"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_env(split: str = "train", size: int = 16, num_envs: int = 2, **options: Any) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, split=split, size=size, **{"count": 20, **options})


def parameters(agent: Any) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in agent._parameters]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# ---------------------------------------------------------------- one member, in this process


class CopiedOnce(Member):
    """The gradients are taken once, as A3C code from before torch 2 does: the optimizer keeps the first for ever."""

    def _apply_gradients(self) -> None:
        for common, own in zip(self._parameters, self.agent._parameters, strict=True):
            if common.grad is None:
                common.grad = own.grad
        self.agent.optimizer.step()
        self._fetch()


class NeverFetched(Member):
    """The worker goes on with the parameters that it had at first."""

    def _fetch(self) -> None:
        pass


def joined(kind: type[Any], member: type[Member], members: int = 1, **options: Any) -> list[Tensor]:
    """Everything that is shared, after five updates that some members did in turn."""
    common = SharedTensors(all_tensors(kind(make_env(), **CPU, **options)))
    crew = []
    for _ in range(members):
        agent = kind(make_env(), **CPU, **options)
        agent.logger = asynchronous.configure(None, [])
        crew.append(member(agent, common, torch.zeros(1, dtype=torch.int64), threading.Lock()))
    pace = crew[0].agent.pace(5)
    for update in range(5):
        one = crew[update % members]
        one.agent.episodes = 2 * update
        one.update(update, pace)
        one.publish_buffers()
    return common.views()


@pytest.mark.parametrize(("kind", "network"), [(PA3C, None), (AC, None), (PA3C, NORMALISED)])
def test_members_in_turn_do_what_training_without_workers_does(kind: type[Any], network: str | None) -> None:
    """Parameters, running means and moments."""
    agent = kind(make_env(), **CPU, network=network)
    before = [tensor.clone() for tensor in all_tensors(agent)]
    agent.learn(5)
    assert len(agent._buffers) == (3 if network else 0)
    for members in (1, 2):
        assert same(all_tensors(agent), joined(kind, Member, members, network=network))
    assert not any(torch.equal(a, b) for a, b in zip(before, all_tensors(agent), strict=True) if a.numel() > 1)


@pytest.mark.parametrize("fault", [CopiedOnce, NeverFetched])
def test_planted_faults_change_what_comes_out(fault: type[Member]) -> None:
    """What the test above would see of the faults that public code has."""
    agent = PA3C(make_env(), **CPU).learn(5)
    assert not same(agent._parameters, joined(PA3C, fault)[: len(agent._parameters)])


def test_the_first_worker_warns_for_all() -> None:
    """Of a policy that is certain and wrong, each would find the same."""
    made = PA3C(make_env(), **CPU, start_bias=-60.0)
    facts = {name: getattr(made, name) for name in asynchronous.FACTS}
    warned = []
    for number in range(3):
        agent = asynchronous.agent_of(number, PA3C, facts)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(2):
                agent.one_update(agent.pace(5))
        warned.append(sum(one.category is SaturationWarning for one in seen))
    assert warned == [1, 0, 0]


# ---------------------------------------------------------------- in processes


def workers_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server that has imported torch, where it does not matter how a worker starts."""
    monkeypatch.setattr(asynchronous.multiprocessing, "get_context", lambda method: CONTEXT)


def test_one_worker_is_training_without_workers_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_are_forked(monkeypatch)  # the test of Ctrl-C starts them as they are
    options = {**CPU, "network": NORMALISED}
    plain = PA3C(make_env(order="shuffled"), **options).learn(6)
    agent = PA3C(make_env(order="shuffled"), workers=1, **options)
    seen: list[int] = []

    def callback(agent: Any) -> bool:
        seen.append(agent.updates)
        return len(seen) < 2

    agent.learn(6, callback=callback)
    assert 2 <= agent.updates == agent.episodes // 2 <= 6
    assert not any(tensor.is_shared() for tensor in all_tensors(agent))
    again = PA3C.load(agent.save(tmp_path / "stopped"), env=make_env(order="shuffled"), device="cpu").learn(6)
    assert again.updates == again.episodes // 2 == 6
    assert again.passes == plain.passes
    assert same(all_tensors(again), all_tensors(plain))
    with pytest.raises(CheckpointError, match="PA3C"):
        AC.load(tmp_path / "stopped.safetensors")


def test_what_a_slow_callback_sees_is_a_state_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the worker was many updates ahead meanwhile: it would be saved, and gone on from."""
    workers_are_forked(monkeypatch)
    plain = PA3C(make_env(), **CPU)
    states: dict[int, tuple[int, int, list[Tensor]]] = {}

    def keep(agent: Any) -> None:
        states[agent.updates] = agent.episodes, agent.passes, [one.clone() for one in all_tensors(agent)]

    plain.learn(30, callback=keep)
    agent, seen = PA3C(make_env(), workers=1, **CPU), []
    monkeypatch.setattr(asynchronous, "PATIENCE", 1.0)  # who does not listen must not say that nothing was done

    def late(agent: Any) -> None:
        seen.append(agent.updates)
        episodes, passes, tensors = states[agent.updates]
        assert (agent.episodes, agent.passes) == (episodes, passes)
        assert same(all_tensors(agent), tensors)
        if len(seen) == 2 or agent.updates == 30:
            time.sleep(1.5)

    rows: list[tuple[int, int]] = []
    logger = asynchronous.configure(None, [])
    monkeypatch.setattr(
        logger,
        "dump",
        lambda step: rows.append((step, logger.name_to_value["time/passes"])),  # type: ignore[arg-type]
    )
    agent.learn(30, callback=late, log_interval=1, logger=logger)
    assert seen[-1] == 30
    assert len(seen) < 30, "some were done while the callback slept"
    assert rows == [(update, states[update][1]) for update in range(1, 31)], "each has its row all the same"


@pytest.mark.slow
def test_two_workers_learn_what_one_learner_does() -> None:
    def options(split: str, num_envs: int) -> Any:
        return make_env(split, 32, num_envs, count=150)

    agent = PA3C(options("train", 8), device="cpu", seed=0, width=0.125, learning_rate=3e-3, workers=2).learn(200)
    held_out = options("test", 15)
    learnt, otsu = (float(evaluate(one, held_out).metrics["DICE"].mean()) for one in (agent, Otsu()))
    assert learnt > 0.6 > otsu + 0.2


def in_shared_memory() -> set[str]:
    return set(os.listdir(sharing.SHARED_MEMORY)) if sharing.SHARED_MEMORY.is_dir() else set()


def left_in_shared_memory(before: set[str]) -> set[str]:
    """What has come since; what tests beside this one use goes away too, and is waited for."""
    left = in_shared_memory() - before
    deadline = time.monotonic() + 120
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left &= in_shared_memory()
    return left


# Rewards that fail in a worker: the process that has the test has no parent of ours.
def _in_worker() -> bool:
    return asynchronous.multiprocessing.parent_process() is not None


def _reward(previous: Any, current: Any, target: Any) -> NDArray[np.float32]:
    difference: NDArray[np.float32] = np.abs(previous - 1.0 * target) - np.abs(current - 1.0 * target)
    return difference.astype(np.float32)


def raises(previous: Any, current: Any, target: Any) -> Any:
    if _in_worker():
        raise RuntimeError("out of luck")
    return _reward(previous, current, target)


def dies(previous: Any, current: Any, target: Any) -> Any:
    if _in_worker():
        os.kill(os.getpid(), signal.SIGKILL)
    return _reward(previous, current, target)


def hangs(previous: Any, current: Any, target: Any) -> Any:
    if _in_worker():
        time.sleep(3600)
    return _reward(previous, current, target)


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (raises, r"worker 0: .*RuntimeError: out of luck"),
        (dies, "worker 0 was ended by signal 9"),
        (hangs, "worker 0 .* has done nothing for"),
    ],
)
def test_what_happens_to_a_worker_is_told_and_all_end(reward: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workers_are_forked(monkeypatch)
    agent = PA3C(make_env(reward=reward), workers=1, **CPU)
    monkeypatch.setattr(asynchronous, "PATIENCE", 1.5)
    before = parameters(agent)
    started = time.monotonic()
    with pytest.raises(TrainingError, match=f"(?s){said}"):
        agent.learn(5)
    assert time.monotonic() - started < 90
    assert not asynchronous.multiprocessing.active_children()
    assert same(parameters(agent), before)
    assert agent.updates == 0


class DiesAtStep(torch.optim.Adam):
    """Ends its process in a step, while that holds the lock of the shared parameters, in worker 1."""

    def step(self, closure: Any = None) -> Any:
        if _worker_1():
            os._exit(7)
        return super().step(closure)


class DiesWithTheLock(PA3C):
    def _build(self, *facts: Any) -> None:
        super()._build(*facts)
        self.optimizer = DiesAtStep(self._parameters, lr=self.config.learning_rate)


def _worker_1() -> bool:
    return asynchronous.multiprocessing.current_process().name == "worker 1"


def one_dies(previous: Any, current: Any, target: Any) -> Any:
    if _worker_1():
        os._exit(7)
    return _reward(previous, current, target)


@pytest.mark.parametrize(("kind", "reward"), [(PA3C, one_dies), (DiesWithTheLock, _reward)])
def test_one_of_two_workers_that_dies_is_told_and_the_other_ends(
    kind: type[Any], reward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_are_forked(monkeypatch)
    memory = in_shared_memory()
    started = time.monotonic()
    with pytest.raises(TrainingError, match="worker 1 ended with exit code 7 before its work was done"):
        kind(make_env(reward=reward), workers=2, **CPU).learn(1_000_000)
    assert time.monotonic() - started < 90
    assert not asynchronous.multiprocessing.active_children()
    assert not left_in_shared_memory(memory)


def told_to_end(previous: Any, current: Any, target: Any) -> Any:
    if _in_worker():
        os.kill(os.getpid(), signal.SIGTERM)
    return _reward(previous, current, target)


def test_a_signal_to_all_processes_leaves_it_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster sends SIGTERM to all, and the one that started the workers saves the run."""
    workers_are_forked(monkeypatch)
    assert PA3C(make_env(reward=told_to_end), workers=1, **CPU).learn(2).updates == 2


class Ended:
    """A worker's process, by its exit code; None: it lives."""

    def __init__(self, code: int | None) -> None:
        self.exitcode = code

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float) -> None: ...


def crew_of(*codes: int | None) -> Crew:
    crew = Crew.__new__(Crew)
    crew._finished, crew._beats = set(), torch.ones(len(codes))
    crew._processes = [Ended(code) for code in codes]
    return crew


def test_a_worker_that_has_said_its_last_word_may_be_gone() -> None:
    """While another one holds the shared parameters, and before that word was read."""
    crew_of(0, None)._check_alive()
    with pytest.raises(TrainingError, match="worker 1 was ended by signal 9"):
        crew_of(0, -9)._check_alive()


@pytest.mark.parametrize(("code", "said"), [(None, "does not give the shared parameters back"), (7, "exit code 7")])
def test_shared_parameters_that_are_never_given_back_are_not_waited_for(
    code: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asynchronous, "TO_END", 0.5)
    crew = crew_of(None, code)
    crew._lock = CONTEXT.Lock()
    crew._lock.acquire()
    with pytest.raises(TrainingError, match=said):
        crew._catch_up(None)


@pytest.mark.parametrize(
    ("number", "starting"),
    [(signal.SIGINT, False), (signal.SIGINT, True), pytest.param(signal.SIGKILL, False, marks=pytest.mark.slow)],
)
def test_ctrl_c_and_a_killed_parent_end_all(tmp_path: Path, number: int, starting: bool) -> None:
    """Nothing of it is left running, nor in shared memory; after Ctrl-C the run is saved and can go on."""
    memory = in_shared_memory()
    words = [sys.executable, "-m", "pixelseg_agents", "train", *TINY, *PHANTOM, "--workers", "2"]
    words += ["--updates", "100000", "--log-interval", "1", "--eval-every", "0", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
    progress = tmp_path / "run/progress.csv"
    deadline = time.monotonic() + 120
    begun = tmp_path / "run/README.md"  # the last file before the workers start
    while not (begun.exists() if starting else progress.exists() and progress.read_text().count("\n") > 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if starting:
        time.sleep(1.0)
    if number == signal.SIGINT:  # as a terminal sends it: to all processes
        os.killpg(process.pid, number)
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while _group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group(process.pid)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "Traceback" not in errors
        assert starting or PA3C.load(tmp_path / "run/checkpoint.safetensors").updates > 2
    assert not left_in_shared_memory(memory)


def _group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


# ---------------------------------------------------------------- what is shared


def test_shared_tensors_are_one_memory_of_the_same_values() -> None:
    tensors = [torch.rand(3, 4), torch.tensor(7), torch.rand(()), torch.rand(2, 0), torch.rand(5)]
    common = SharedTensors(tensors)
    assert same(common.views(), tensors)
    common.views()[0][1, 1] = -1
    assert common.views()[0][1, 1] == -1
    assert all(view.is_shared() for view in common.views() if view.numel())


def test_a_parcel_shares_large_arrays_once_and_copies_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LARGE", 1000)
    large = np.arange(1200, dtype=np.uint16).reshape(30, 40)[:, ::-1]
    small = np.arange(5.0)
    parcel = Parcel({"a": large, "b": large, "c": small, "f": lambda x: x + 1}, "it")
    found = parcel.open()
    np.testing.assert_array_equal(found["a"], large)
    np.testing.assert_array_equal(found["c"], small)
    assert found["a"].dtype == large.dtype
    assert found["f"](1) == 2
    assert np.shares_memory(found["a"], found["b"])
    assert np.shares_memory(found["a"], parcel.open()["a"])
    assert len(parcel._bytes) < large.nbytes


def test_what_cannot_be_shared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"it cannot be handed to another process.*workers=0"):
        Parcel(threading.Lock(), "it")
    monkeypatch.setattr(sharing, "_room", lambda: 100)
    with pytest.raises(OptionError, match=r"shared memory.*--shm-size.*workers=0"):
        SharedTensors([torch.zeros(100)])
    with pytest.raises(OptionError, match="workers=-1"):
        PA3C(make_env(), workers=-1)
