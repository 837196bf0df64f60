"""How a network's passes are computed: in float32 or bfloat16, with which order of channels, compiled or not."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelseg_agents.files import write_atomically
from pixelseg_agents.provenance import processor

AGREES = 0.98  # cosine between the gradients of two modes, from which on their results are called alike
GAIN = 0.95  # another mode has to take at most this share of float32's time, or it is not worth another result
ROUNDS, FEWEST = 5, 3  # in turn, of which the first is not counted
SECONDS = 1.0  # of rounds, after which the fewest are enough
LONG = 0.05  # seconds of a pass, from which on more images say nothing more on a processor
SMALL, HOPELESS = 64, 3.0  # pixels; times float32's time, beyond which a mode is not tried at full size
CACHE = "PIXELSEG_CACHE"  # an environment variable: where what was measured is remembered


@dataclass(frozen=True)
class Mode:
    """How passes are computed.

    Attributes:
        bf16: convolutions in bfloat16 (torch's autocast); parameters, losses and the optimizer stay in float32.
        channels_last: a pixel's channels lie beside each other in memory.
        compiled: by `torch.compile`, which takes a minute at the first pass of every shape.
    """

    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        extras = ["channels_last"] * self.channels_last + ["compiled"] * self.compiled
        return ", ".join(["bf16" if self.bf16 else "fp32", *extras])


class Passes:
    """Computes passes in one mode.

    Args:
        mode: how.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._compiled: dict[nn.Module, Any] = {}

    def prepare(self, module: nn.Module) -> None:
        """Orders a module's parameters in memory; their values stay, and so do they."""
        if self.mode.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, module: nn.Module, observation: Tensor, method: str | None = None) -> Any:
        """What a module, or one of its methods, makes of a batch (B, C, H, W): tensors of float32."""
        function: Callable[[Tensor], Any] = module if method is None else getattr(module, method)
        if self.mode.compiled and method is None:
            if module not in self._compiled:
                # For each shape anew: for shapes of any size torch 2.13 fails on paddings that depend on them.
                self._compiled[module] = torch.compile(module, dynamic=False)
            function = self._compiled[module]
        if self.mode.channels_last:
            observation = observation.contiguous(memory_format=torch.channels_last)
        if not self.mode.bf16:
            return function(observation)
        with torch.autocast(observation.device.type, torch.bfloat16):
            found = function(observation)
        return _as_float32(found)


PLAIN = Passes(Mode())


def _as_float32(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.float()
    return type(found)(_as_float32(one) for one in found)


# ---------------------------------------------------------------- the fastest mode whose results agree


def fastest_mode(module: nn.Module, observation: Tensor) -> Mode:
    """Times a pass and its gradient in each mode but the compiled ones, a few times.

    Args:
        module: the network; a copy of it is timed.
        observation: a batch (B, C, H, W) on the module's device. On a processor no more of its images are timed than it
            takes to be sure.

    Returns:
        The fastest mode whose gradient points where float32's does; float32 as it comes, if none is faster by 5 %. What
        was measured once for a network, shape and machine is remembered, in the folder that the environment variable
        `PIXELSEG_CACHE` names (by default pixelseg in the user's folder for caches): so a seed repeats its training.
    """
    path, key = _cache(), _key(module, observation)
    known = _remembered(path)
    if key not in known:
        with torch.random.fork_rng(devices=[]):  # dropout draws
            found = _measured(copy.deepcopy(module).train(), observation)
        known = _remembered(path) | {key: vars(found)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(known, indent=1, sort_keys=True) + "\n")
        except OSError:
            pass  # measured anew next time
        return found
    return Mode(**known[key])


def _measured(module: nn.Module, observation: Tensor) -> Mode:
    modes = [Mode(bf16, last) for bf16, last in itertools.product((False, True), repeat=2)]
    # A processor that has to imitate bfloat16 takes twenty times as long: a small part of one image shows that.
    part = observation[:1, :, :SMALL, :SMALL]
    probes = {mode: min(seconds_of_pass(module, part, Passes(mode)) for _ in range(2)) for mode in modes}
    modes = [mode for mode in modes if probes[mode] <= HOPELESS * probes[modes[0]]]
    if observation.device.type == "cpu":  # whose time grows with the images; a second instead of a minute
        one = min(seconds_of_pass(module, observation[:1], PLAIN) for _ in range(2))
        observation = observation[: max(1, math.ceil(LONG / one))]
    gradients, times = {}, {mode: [] for mode in modes}  # type: ignore[var-annotated]
    for turn in range(ROUNDS):  # so that what else the machine does falls on all modes alike
        if turn >= FEWEST and sum(map(sum, times.values())) > SECONDS:
            break
        for mode in modes:
            times[mode].append(seconds_of_pass(module, observation, Passes(mode)))
            gradients.setdefault(mode, _gradient(module))
    plain, best = modes[0], modes[0]
    for mode in modes[1:]:
        agrees = torch.cosine_similarity(gradients[plain], gradients[mode], dim=0) >= AGREES
        ratio = statistics.median(a / b for a, b in zip(times[mode][1:], times[plain][1:], strict=True))
        if agrees and ratio <= GAIN and min(times[mode]) < min(times[best]):
            best = mode
    return best


def seconds_of_pass(module: nn.Module, observation: Tensor, passes: Passes) -> float:
    """Seconds of a pass of a batch and its gradient, which the parameters have afterwards."""
    passes.prepare(module)
    module.zero_grad()
    synchronise(observation.device)
    started = time.perf_counter()
    loss = torch.stack([one.square().mean() for one in _tensors(passes(module, observation))]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    synchronise(observation.device)
    return time.perf_counter() - started


def _tensors(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [tensor for one in found for tensor in _tensors(one)]


def _gradient(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.reshape(-1).float() for p in module.parameters() if p.grad is not None])


def synchronise(device: torch.device) -> None:
    """Waits until a device has computed what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _key(module: nn.Module, observation: Tensor) -> str:
    shapes = [tuple(parameter.shape) for parameter in module.parameters()]
    count = sum(parameter.numel() for parameter in module.parameters())
    where = torch.cuda.get_device_name(observation.device) if observation.device.type == "cuda" else processor()
    parts: Sequence[Any] = (
        where, torch.__version__, torch.get_num_threads(), type(module).__qualname__, len(shapes), count,
        zlib.crc32(repr(module).encode()), tuple(observation.shape),
    )  # fmt: skip
    return "; ".join(map(str, parts))


def _cache() -> Path:
    if given := os.environ.get(CACHE):
        return Path(given) / "precision.json"
    base = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "pixelseg" / "precision.json"


def _remembered(path: Path) -> dict[str, dict[str, bool]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: vars(Mode(**mode)) for key, mode in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
