"""Processes that work together: on one training, and on its evaluations; what connects them is `torch.distributed`."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_env import OptionError

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun, or a cluster's script, tells a process


@dataclass(frozen=True)
class Team:
    """The processes that train one agent together, seen from one of them.

    Its methods are called by all of them at the same point.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Self:
        """The default process group of `torch.distributed`; alone, where there is none."""
        if not distributed.is_available() or not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum of every process's value, of the same shape and type; without a gradient."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        distributed.all_reduce(value)
        return value

    def total_array(self, array: NDArray[Any]) -> NDArray[Any]:
        """The sum of every process's array."""
        return array if self.size == 1 else self.total(torch.from_numpy(array)).numpy()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of every process's value."""
        return value if self.size == 1 else self.total(value) / self.size

    def sums(self, *numbers: int) -> tuple[int, ...]:
        """Of each number the sum over all processes."""
        return numbers if self.size == 1 else tuple(map(int, self.total(torch.tensor(numbers)).tolist()))

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Of each number the largest that a process has."""
        if self.size == 1:
            return numbers
        value = torch.tensor(numbers)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return tuple(value.tolist())

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows (B, ...) of all processes, (N B, ...), in the order of their numbers."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        found = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(found, rows)
        return torch.cat(found)

    def gathered_array(self, rows: NDArray[Any]) -> NDArray[Any]:
        """`gathered` of an array."""
        return rows if self.size == 1 else self.gathered(torch.from_numpy(rows)).numpy()

    def told(self, value: Any) -> Any:
        """What the first process has."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Gives tensors the values that they have in the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces gradients by their sums; a parameter that none of the processes has one for keeps none."""
        if self.size == 1:
            return
        device = parameters[0].device
        there = self.total(torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=device))
        used = [p for p, count in zip(parameters, there.tolist(), strict=True) if count]
        flat = nn.utils.parameters_to_vector([torch.zeros_like(p) if p.grad is None else p.grad for p in used])
        distributed.all_reduce(flat)
        sums = [torch.empty_like(p) for p in used]
        nn.utils.vector_to_parameters(flat, sums)
        for parameter, gradient in zip(used, sums, strict=True):
            parameter.grad = gradient


ALONE = Team()


def launched() -> bool:
    """Whether this process is one of several that were started together, by `torchrun` or a cluster's script."""
    return all(os.environ.get(name) for name in LAUNCHED) and os.environ["WORLD_SIZE"] != "1"


def local_device() -> torch.device:
    """The GPU that belongs to this process, by its number on its machine; the CPU where there are none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """Joins the processes that were started together, until it is left; alone, where there are none.

    Raises:
        OptionError: they do not find each other.
    """
    if not launched() or distributed.is_initialized():
        yield Team.current()
        return
    if not distributed.is_available():
        raise OptionError("this build of torch has no torch.distributed; train in one process")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_device())
    # Adam imports it at its first step, and what is imported while there is a group keeps that group: its threads then
    # outlive it, and abort a process that ends (torch 2.13).
    importlib.import_module("torch._dynamo")
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (ValueError, RuntimeError) as error:
        places = ", ".join(f"{name}={os.environ[name]}" for name in LAUNCHED)
        raise OptionError(f"the processes do not find each other ({error}); {places}") from error
    try:
        yield Team.current()
    finally:
        distributed.destroy_process_group()


def shares(count: int, team: Team) -> NDArray[np.int64]:
    """Which of `count` things this process does: every N-th, so that neighbours are dealt out."""
    return np.arange(team.rank, count, team.size)
