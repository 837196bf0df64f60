"""How much memory a pass keeps for its gradient, and how much there is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelseg_agents.learning.errors import TrainingError

NEVER = 1 << 62  # more bytes than any update keeps
SHARE = 0.5  # of the memory that is free, what the passes of one update may keep


@dataclass(frozen=True)
class Decided:
    """Which updates of a training fit into memory, so that it decides alike after it was interrupted.

    Attributes:
        fits: bytes, the largest estimate that was found to fit.
        exceeds: the smallest that was found not to.
    """

    fits: int = 0
    exceeds: int = NEVER

    def about(self, estimates: Iterable[int], free: Callable[[], int]) -> Decided:
        """The same, with what estimates of updates lie between decided as well.

        Args:
            estimates: bytes that updates would keep.
            free: the bytes that are free; it is asked only where something is not decided yet.
        """
        fits, exceeds = self.fits, self.exceeds
        for one in (one for one in estimates if self.fits < one < self.exceeds):
            if one > SHARE * free():
                exceeds = min(exceeds, one)
            else:
                fits = max(fits, one)
        return Decided(fits, exceeds)

    def tensor(self) -> Tensor:
        """Both, int64 (2,)."""
        return torch.tensor([self.fits, self.exceeds])

    @classmethod
    def of(cls, kept: Tensor) -> Decided:
        """What `tensor` gave.

        Raises:
            ValueError: it is damaged.
        """
        if kept.shape != (2,) or kept.dtype != torch.int64 or not 0 <= kept[0] < kept[1]:
            raise ValueError("memory.room: expected two whole numbers, the second the larger one")
        return cls(*kept.tolist())


def kept_bytes(forward: Callable[[], Any]) -> int:
    """The bytes that a computation keeps for its gradient, each piece of memory once; parameters count too.

    Args:
        forward: what is computed.
    """
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        found = forward()
    del found
    return sum(seen.values())


def free_bytes(device: torch.device) -> int | None:
    """The memory that a process can still have; None: it cannot be known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):  # a container's own limit
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    if not found and sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found) if found else None


def sharers(device: torch.device, workers: int) -> int:
    """How many processes of one training share a device's memory: workers, or those that torchrun has started here."""
    return 1 if device.type == "cuda" else max(1, workers, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def differs_again(module: nn.Module) -> bool:
    """Whether a second pass of the same batch through a layer is not the first: it draws, or counts what it saw."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; on the CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)


@contextlib.contextmanager
def told_apart(said: Callable[[], str]) -> Iterator[None]:
    """Turns running out of memory into a message that says what to change.

    Args:
        said: what an update keeps, and what to change; it is asked only then.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(f"out of memory: {said()}") from error


def kept_text(what: str, kept: int, sizes: str, more: str = "") -> str:
    """What something keeps for its gradient, in bytes, and the settings that make it less."""
    return f"{what} keeps about {kept / 2**20:,.0f} MiB for its gradient. Make {sizes} smaller{more}"
