"""CUDA without a GPU: fake tensors that know where they would be, and a count of who waits for them.

torch's fake tensors have a device, a shape and a type, and no numbers. An operation that mixes devices fails as on a
GPU; one that would make the host wait is counted, and given numbers of its own.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelseg_agents import agent as agent_module
from pixelseg_agents import learner, pa3c
from pixelseg_agents.team import ALONE

CUDA = torch.device("cuda:0")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_to_copy")  # the last one where it leads to the host


class FakeCuda(TorchDispatchMode):
    """Tensors on CUDA are fake, those on the CPU are real; counts what makes the host wait for CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        ours = [one for one in tree_leaves((args, kwargs)) if isinstance(one, FakeTensor) and one.device == CUDA]
        if ours and name == "_local_scalar_dense":
            self.waits[name] += 1
            return False if ours[0].dtype == torch.bool else 0.5
        if ours and name == "_to_copy" and torch.device(kwargs.get("device") or CUDA).type == "cpu":
            self.waits[name] += 1
            return torch.zeros(ours[0].shape, dtype=kwargs.get("dtype") or ours[0].dtype)
        if ours and name in WAITING[1:3]:
            self.waits[name] += 1
        if not ours and name == "_to_copy" and torch.device(kwargs.get("device") or "cpu") == CUDA:
            self.waits["copy to the GPU"] += not kwargs.get("non_blocking")
            with self.fake:
                return torch.empty(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=CUDA)
        if ours or torch.device(kwargs.get("device") or "cpu").type == "cuda":
            with self.fake:
                return func(*args, **kwargs)
        return func(*args, **kwargs)


GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using c10::impl::NoOpDeviceGuardImpl;
static c10::impl::DeviceGuardImplRegistrar registrar(
    c10::DeviceType::CUDA, new NoOpDeviceGuardImpl<c10::DeviceType::CUDA>());
"""


@functools.cache
def guard() -> bool:
    """Gives a torch without CUDA the guard that its gradients and indices ask for; whether there is one now."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if torch.version.cuda is not None or compiler is None or sys.platform != "linux":
        return torch.version.cuda is not None
    parts = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "guard.cpp", Path(folder) / "guard.so"
        source.write_text(GUARD)
        flags = ["-std=c++20", "-shared", "-fPIC", f"-I{parts / 'include'}", f"-L{parts / 'lib'}"]
        done = subprocess.run([compiler, *flags, str(source), "-lc10", "-o", str(library)], capture_output=True)
        if done.returncode:
            return False
        ctypes.CDLL(str(library))
    return True


def backward(loss: torch.Tensor) -> None:
    """Gives all that a loss depends on a gradient: torch's own way back asks for a GPU that is there.

    Nothing of the agents runs on that way but torch's own derivatives.
    """
    assert loss.numel() == 1
    todo, seen = [loss.grad_fn], set[Any]()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        todo += [following for following, _ in node.next_functions]


class Generator(torch.Generator):
    """A generator of the CPU that says it is one of CUDA: without a GPU torch makes none."""

    team = ALONE

    def __new__(cls, *_: Any) -> Any:
        return super().__new__(cls, "cpu")

    def __init__(self, *devices: Any) -> None:
        self._where = torch.device(devices[-1] if devices else "cpu")

    @property
    def device(self) -> Any:
        return self._where


@pytest.fixture(name="cuda")
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    if not guard():
        pytest.skip("needs a C++ compiler, for a torch without CUDA")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(agent_module, "resolve_device", torch.device)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(learner, "SharedGenerator", Generator)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    monkeypatch.setattr(pa3c, "free_bytes", lambda device: 1 << 36)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with FakeCuda() as mode:
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
    torch.__future__.set_overwrite_module_params_on_conversion(False)
