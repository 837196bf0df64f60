"""Data-parallel training: N processes with a batch of B images each compute what one does with a batch of N B.

Everything is a sum or a place. An update's images, draws and transitions are numbered as those of one process with the
whole batch; a process plays its own rows of them, every mean is a sum over all processes by a total over all
processes, and gradients are added up before the optimizer's step. So all have the same parameters, and the number of
processes may change when a training is resumed. Underneath is `torch.distributed`: gloo on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from pixelseg_agents.team import ALONE, Team


class SharedGenerator(torch.Generator):
    """A generator of which every process of a team has a copy, in the same state: see `rand` and `randint`.

    Args:
        team: the processes.
        device: where it draws.
    """

    team: Team

    def __new__(cls, team: Team, device: torch.device) -> Self:
        """Makes one."""
        generator = super().__new__(cls, device)  # type: ignore[call-arg]
        generator.team = team
        return generator

    def __init__(self, team: Team, device: torch.device) -> None:
        """Made already."""


def rand(shape: Sequence[int], generator: torch.Generator, rows: int = 0) -> Tensor:
    """Uniform numbers in [0, 1), on the generator's device; of a `SharedGenerator` this process's part.

    Args:
        shape: of the part.
        generator: where they come from.
        rows: the dimension of the batch.
    """
    team = getattr(generator, "team", ALONE)
    return _own(torch.rand(_whole(shape, rows, team), generator=generator, device=generator.device), rows, team)


def randint(low: int, high: int, shape: Sequence[int], generator: torch.Generator, rows: int = 0) -> Tensor:
    """Whole numbers from `low` to `high` - 1, otherwise as `rand`."""
    team = getattr(generator, "team", ALONE)
    whole = _whole(shape, rows, team)
    return _own(torch.randint(low, high, whole, generator=generator, device=generator.device), rows, team)


def _whole(shape: Sequence[int], rows: int, team: Team) -> tuple[int, ...]:
    return tuple(size * team.size if k == rows else size for k, size in enumerate(shape))


def _own(drawn: Tensor, rows: int, team: Team) -> Tensor:
    count = drawn.shape[rows] // team.size
    return drawn if team.size == 1 else drawn.narrow(rows, team.rank * count, count)
