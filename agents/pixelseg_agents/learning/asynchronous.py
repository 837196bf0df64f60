"""Asynchronous training: processes that share one set of parameters and Adam's moments (Algorithm 1; Mnih et al. 2016).

A worker has an environment and parameters of its own. Its update is Algorithm 1, lines 2 to 27: it takes the shared
parameters, plays a batch of episodes with them, computes a gradient, and hands that to the shared optimizer, whoever
else has changed the parameters in the meantime. Updates are numbered, and a number decides the images, the draws and
the place in the schedule, as without workers; with one worker they are those updates, to the bit.

The process that started the workers follows them with an agent of its own, whose parameters and moments it brings up
to date before every callback: what it saves or evaluates is a state that the shared ones were in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from stable_baselines3.common.logger import configure
from torch import Tensor

from pixelseg_agents.learning.errors import TrainingError
from pixelseg_agents.learning.sharing import Parcel, SharedTensors, copy, shared
from pixelseg_env import PixelSegError

PATIENCE = 300.0  # seconds that a worker may take for one pass of a batch
TO_START = 300.0  # and to start
TO_END = 20.0  # seconds that a worker has to finish its update before it is ended
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
FACTS = ("config", "seed", "device", "task", "mode", "updates", "episodes", "env")  # that a worker's agent is made of
CLAIMED, DONE, STOP = range(3)
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Updated = Callable[[int, int, bool], bool]


def share_of_threads(workers: int) -> int:
    """How many threads each of some workers computes with, so that together they use no more than one process did."""
    return max(1, torch.get_num_threads() // workers)


def train_asynchronously(agent: Any, workers: int, total_updates: int, updated: Updated) -> None:
    """Trains an agent with worker processes until `total_updates` updates are done.

    Args:
        agent: an agent with an environment. Its parameters, moments and counts follow the training.
        workers: how many.
        total_updates: in all.
        updated: called for every update with how many were done after it, the passes of these, and whether `agent` is
            as it was then; its logger holds the update's means. Where more updates were done while the last ones were
            looked at, it is so after the last of them alone. Returning False ends the training, once the updates that
            have begun are done.

    Raises:
        TrainingError: a worker failed, died, or has done nothing for `PATIENCE` seconds. All are ended then.
        OptionError: the environment cannot be handed to another process.
    """
    going = True
    crew = Crew(agent, workers, total_updates)
    try:
        for group in crew.follow(agent):
            done = agent.passes
            agent.passes += sum(passes for passes, _ in group)
            agent.episodes += agent.env.num_envs * len(group)
            for left, (passes, means) in zip(reversed(range(len(group))), group, strict=True):
                done += passes
                for name, value in means.items():
                    agent.logger.record_mean(name, value)
                if going and not updated(agent.updates - left, done, not left):
                    going = False
                    crew.stop()
    except BaseException:
        crew.end(patience=0.0)
        raise
    crew.end(patience=TO_END)


def all_tensors(agent: Any) -> list[Tensor]:
    """What a training changes: parameters, buffers, and the optimizer's moments, which are made if there are none."""
    moments = []
    for parameter in agent._parameters:
        state = agent.optimizer.state[parameter]
        if not state:
            state |= {"step": torch.zeros((), dtype=torch.float32)}
            state |= {name: torch.zeros_like(parameter) for name in MOMENTS[1:]}
        moments += [state[name] for name in MOMENTS]
    buffers = [buffer for part in agent.parts.values() for buffer in part.buffers()]
    return [*(parameter.detach() for parameter in agent._parameters), *buffers, *moments]


class Crew:
    """The workers of one training.

    Args:
        agent: see `train_asynchronously`.
        workers: see `train_asynchronously`.
        total_updates: see `train_asynchronously`.
    """

    def __init__(self, agent: Any, workers: int, total_updates: int) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA, and torch's threads hang
        self._shared = SharedTensors([tensor.cpu() for tensor in all_tensors(agent)])
        self._ledger = shared(torch.tensor([agent.updates, agent.updates, 0]))
        self._beats = shared(torch.zeros(workers, dtype=torch.int64))
        self._lock = context.Lock()
        self._finished: set[int] = set()
        facts = {name: getattr(agent, name) for name in FACTS}
        parcel = Parcel((type(agent), facts, total_updates), f"{agent.name}: the environment")
        self._receivers: list[Connection] = []
        self._processes: list[Any] = []
        threads = share_of_threads(workers)
        try:
            # Ctrl-C reaches all processes of a terminal; the one that started them decides, also while they start.
            with _signals_wait():
                for number in range(workers):
                    self._start(context, number, parcel, threads)
        except BaseException:
            self.end(patience=0.0)
            raise

    def _start(self, context: Any, number: int, parcel: Parcel, threads: int) -> None:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_work,
            args=(number, parcel, self._shared, self._ledger, self._beats, self._lock, sender, threads),
            name=f"worker {number}",
            daemon=True,
        )
        process.start()
        sender.close()  # so that its end is seen here when the worker's is gone
        self._receivers.append(receiver)
        self._processes.append(process)

    def follow(self, agent: Any) -> Iterator[list[tuple[int, dict[str, float]]]]:
        """Yields the passes and means of those updates after which an agent is as it is now, until all are done."""
        messages = self._messages()
        for first in messages:
            done = self._catch_up(agent)
            group = [first]
            while agent.updates + len(group) < done:  # they are on their way, or were sent before
                group.append(next(messages))
            agent.updates += len(group)
            yield group

    def stop(self) -> None:
        """Lets no worker begin another update."""
        self._ledger[STOP] = 1

    def end(self, patience: float) -> None:
        """Ends all workers, those that have not finished after some seconds by force."""
        self.stop()
        deadline = time.monotonic() + patience
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            if process.is_alive():
                process.kill()  # a worker that waits for a lock would not hear less
            process.join()
        for receiver in self._receivers:
            receiver.close()

    def _catch_up(self, agent: Any) -> int:
        """Copies the shared state into an agent; returns how many updates are done in it."""
        since = time.monotonic()
        while not self._lock.acquire(timeout=1.0):
            self._check_alive()
            if time.monotonic() - since > TO_END:
                raise TrainingError("a worker does not give the shared parameters back")
        try:
            copy(all_tensors(agent), self._shared.views())
            return int(self._ledger[DONE])
        finally:
            self._lock.release()

    def _messages(self) -> Iterator[tuple[int, dict[str, float]]]:
        beats, heard = self._beats.clone(), [time.monotonic()] * len(self._processes)
        while len(self._finished) < len(self._processes):
            left = {self._receivers[k]: k for k in range(len(self._processes)) if k not in self._finished}
            ready: list[Any] = wait(list(left), timeout=1.0)
            for receiver in ready:
                number = left[receiver]
                try:
                    message = receiver.recv()
                except (EOFError, OSError):
                    raise TrainingError(self._death(number)) from None
                heard[number] = time.monotonic()
                if message is None:
                    self._finished.add(number)
                elif isinstance(message, str):
                    raise TrainingError(f"worker {number}: {message}")
                else:
                    before = time.monotonic()
                    yield message
                    away = time.monotonic() - before  # while nobody listened
                    heard = [one + away for one in heard]
            now = time.monotonic()
            for number in left.values():
                if self._beats[number] != beats[number]:
                    beats[number], heard[number] = self._beats[number], now
                patience = PATIENCE if beats[number] else TO_START
                if number not in self._finished and now - heard[number] > patience:
                    raise TrainingError(
                        f"worker {number} (process {self._processes[number].pid}) has done nothing for "
                        f"{now - heard[number]:.0f} s, and was ended with all others"
                    )

    def _check_alive(self) -> None:
        for number, process in enumerate(self._processes):
            # One that ended as it should has said so, in a message that waits to be read.
            if number not in self._finished and process.exitcode not in (None, 0):
                raise TrainingError(self._death(number))

    def _death(self, number: int) -> str:
        process = self._processes[number]
        process.join(TO_END)
        code = process.exitcode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        hint = ""
        if not self._beats[number]:
            hint = '. A script that trains with workers needs `if __name__ == "__main__":` around what it does'
        return f"worker {number} {how} before its work was done{hint}"


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that would end this process wait until it is left, and in processes that are started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---------------------------------------------------------------- in a worker


class Member:
    """A worker's agent, and its way to the shared state.

    Args:
        agent: a new one, of the kind that is trained.
        common: the tensors of `all_tensors`.
        beat: int64 (1,), shared: how many passes were made.
        lock: held by whoever reads or writes shared tensors.
    """

    def __init__(self, agent: Any, common: SharedTensors, beat: Tensor, lock: Any) -> None:
        self.agent, self._lock = agent, lock
        count = len(agent._parameters)
        views = common.views()
        moments = views[len(views) - len(MOMENTS) * count :]
        self._parameters = views[:count]
        self._buffers = views[count : len(views) - len(moments)]
        self._own_buffers = [buffer for part in agent.parts.values() for buffer in part.buffers()]
        optimizer = type(agent.optimizer)(self._parameters, **agent.optimizer.defaults)
        for k, parameter in enumerate(self._parameters):
            own = moments[len(MOMENTS) * k : len(MOMENTS) * (k + 1)]
            optimizer.state[parameter] = dict(zip(MOMENTS, own, strict=True))  # load_state_dict would copy
        agent.optimizer = optimizer
        agent.apply_gradients = self._apply_gradients
        agent.network.register_forward_hook(lambda *_: beat.add_(1) and None)

    def update(self, number: int, pace: Any) -> tuple[int, dict[str, float]]:
        """Does one update; returns its passes and logged means."""
        agent = self.agent
        with self._lock:
            self._fetch()
            copy(self._own_buffers, self._buffers)
        agent.updates, agent.passes = number, 0
        agent.one_update(pace)
        means = {name: float(value) for name, value in agent.logger.name_to_value.items()}
        agent.logger.name_to_value.clear()
        agent.logger.name_to_count.clear()
        return agent.passes, means

    def publish_buffers(self) -> None:
        """Writes the running means of normalisations, which no gradient changes; the lock is held by the caller."""
        copy(self._buffers, self._own_buffers)

    def _fetch(self) -> None:
        copy(self.agent._parameters, self._parameters)

    def _apply_gradients(self) -> None:
        """Hands the gradients to the shared optimizer, and takes the parameters that come of it."""
        with self._lock:
            for common, own in zip(self._parameters, self.agent._parameters, strict=True):
                # Each time anew: torch drops gradients and makes others, so one that was taken once would stay the
                # first for ever.
                common.grad = None if own.grad is None else own.grad.to(common.device)
            self.agent.optimizer.step()
            self._fetch()


class _Turn:
    """A lock that is not waited for once the process is gone that started this one: it may have held it."""

    def __init__(self, lock: Any, parent: int) -> None:
        self._lock, self._parent = lock, parent

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=1.0):
            if os.getppid() != self._parent:
                raise BrokenPipeError

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def agent_of(number: int, kind: Any, facts: dict[str, Any]) -> Any:
    """The agent of a worker, by its number: of a class, with what `FACTS` names; the first one speaks for all."""
    agent = kind.__new__(kind)
    agent._build(facts["config"], facts["seed"], facts["device"], facts["task"])
    agent.env, agent.mode, agent.logger = facts["env"], facts["mode"], configure(None, [])
    agent.speaks = number == 0
    agent.settle_mode()
    return agent


def _work(
    number: int,
    parcel: Parcel,
    common: SharedTensors,
    ledger: Tensor,
    beats: Tensor,
    lock: Any,
    sender: Connection,
    threads: int,
) -> None:
    for one in SIGNALS:  # they reach all processes; the one that started us decides
        signal.signal(one, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # what waited is gone, for it is ignored
    torch.set_num_threads(threads)
    parent = os.getppid()
    turn = _Turn(lock, parent)
    try:
        kind, facts, total_updates = parcel.open()
        agent = agent_of(number, kind, facts)
        member, pace = Member(agent, common, beats[number : number + 1], turn), agent.pace(total_updates)
        while (update := _claim(ledger, turn, total_updates)) is not None and os.getppid() == parent:
            agent.episodes = facts["episodes"] + (update - facts["updates"]) * agent.env.num_envs
            done = member.update(update, pace)
            with turn:
                member.publish_buffers()
                ledger[DONE] += 1
            sender.send(done)
        sender.send(None)
    except BrokenPipeError:  # nobody is there any more
        pass
    except BaseException as error:
        with contextlib.suppress(OSError):
            sender.send(_told(error))
        raise SystemExit(1) from None


def _claim(ledger: Tensor, lock: Any, total_updates: int) -> int | None:
    """The number of the next update; None: there is none."""
    with lock:
        update = int(ledger[CLAIMED])
        if ledger[STOP] or update >= total_updates:
            return None
        ledger[CLAIMED] += 1
        return update


def _told(error: BaseException) -> str:
    if isinstance(error, PixelSegError):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()
