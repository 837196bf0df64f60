"""How fast the environment is: a step against a plain copy, every stack side by side, PA3C's share of it.

    python -m benchmarks.speed.environment --out benchmarks/records/speed/env-cpu.json

Needs no data. Every row runs in a process of its own, so that its peak memory is its own, and what is compared is
timed in turns within one process. `--device cuda` adds the rows of a GPU.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import pixelseg_env
from benchmarks.records import write_record
from pixelseg_agents import PA3C
from pixelseg_agents.provenance import provenance

# Bytes of one pixel in a step of the masked, one-channel environment; the docstring of PixelSegVectorEnv counts them.
READ = {"action": 1, "map before": 1, "target": 1, "image": 4}
WRITTEN = {"map": 1, "reward map": 4, "observation": 4, "copies in infos": 2}
STACKS = ("numpy", "torch", "sync", "async", "pettingzoo", "sb3")
KEEP_MEMORY = "MALLOC_TOP_PAD_"
Row = dict[str, Any]


@dataclasses.dataclass
class EnvSpeed:
    """What to measure."""

    device: str = "cpu"
    """cpu, or cuda for the rows of a GPU besides."""
    sizes: tuple[int, ...] = (64, 128, 256, 512)
    """Sides of the images in pixels."""
    stacks: tuple[str, ...] = STACKS
    """Which environments to time."""
    batch: int = 8
    """Images at once."""
    seconds: float = 1.0
    """Of measuring, per figure."""
    out: Path = Path("env-speed.json")
    """The record."""


def main() -> None:
    """Measures everything and writes one record, anew after every row."""
    options = tyro.cli(EnvSpeed, description=__doc__)
    rows: dict[str, list[Row]] = {"copy": [], "stacks": [], "share": []}
    devices = ["cpu"] if options.device == "cpu" else ["cpu", options.device]
    jobs: list[tuple[str, Callable[..., Row], tuple[Any, ...]]] = [
        ("copy", step_against_copy, ("numpy", "cpu", options.batch, 256, options.seconds))
    ]
    for device in devices:
        images = options.batch if device == "cpu" else 256
        jobs.append(("copy", step_against_copy, ("torch", device, images, 256, options.seconds)))
        if device == "cpu":
            jobs.append(("copy", step_against_copy, ("torch", device, images, 256, options.seconds, "kept")))
        jobs.append(("share", share_of_training, (64 if device == "cpu" else 256, 2 if device == "cpu" else 8, device)))
    for size in options.sizes:
        for stack in options.stacks:
            jobs.append(("stacks", one_stack, (stack, "cpu", options.batch, size, options.seconds)))
        if options.device != "cpu":
            jobs.append(("stacks", one_stack, ("torch", options.device, options.batch, size, options.seconds)))
    for kind, function, arguments in jobs:
        try:
            rows[kind].append(in_own_process(function, *arguments))
        except Exception as error:  # one row that cannot be had must not cost the others
            rows[kind].append({"failed": f"{function.__name__}{arguments}: {error!r}"})
        print(kind, rows[kind][-1], flush=True)
        write_record(options.out, {**rows, "options": _plain(options), **provenance()})


def in_own_process(function: Callable[..., Row], *arguments: Any) -> Row:
    """Calls a function in a fresh process."""
    keep = "kept" in arguments  # glibc gives freed memory back and must fault it in again, unless told otherwise
    os.environ.update({KEEP_MEMORY: str(1 << 30)} if keep else {})
    try:
        return _in_own_process(function, *(argument for argument in arguments if argument != "kept")) | (
            {"environment_variable": f"{KEEP_MEMORY}={1 << 30}"} if keep else {}
        )
    finally:
        os.environ.pop(KEEP_MEMORY, None)


def _in_own_process(function: Callable[..., Row], *arguments: Any) -> Row:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def make(stack: str, device: str, batch: int, size: int, horizon: int = 10) -> Any:
    """One of the environments, over phantoms; each with `batch` images (PettingZoo: one)."""
    options: dict[str, Any] = {"dataset": "phantom", "size": size, "count": 40, "horizon": horizon}
    if stack in ("numpy", "torch"):
        return gym.make_vec("PixelSegEnv-v0", num_envs=batch, backend=stack, device=device, **options)
    if stack in ("sync", "async"):
        kind: Any = SyncVectorEnv if stack == "sync" else AsyncVectorEnv
        return kind([lambda: gym.make("pixelseg_env:PixelSegEnv-v0", **options)] * batch)
    if stack == "pettingzoo":
        return pixelseg_env.parallel_env(**options)
    if stack == "sb3":
        from pixelseg_env.views import PixelVecEnv

        return PixelVecEnv(batch, **options)
    raise ValueError(stack)


def stepper(stack: str, env: Any) -> tuple[Callable[[], Any], int]:
    """A function that steps the environment once, resetting when it must, and the pixel-agents that it steps."""
    if stack == "pettingzoo":
        actions = dict.fromkeys(env.possible_agents, 1)

        def parallel_step() -> None:
            if not env.agents:
                env.reset()
            env.step(actions)

        env.reset(seed=0)
        return parallel_step, len(env.possible_agents)
    if stack == "sb3":
        env.reset()
        ones = np.ones(env.num_envs, np.int64)
        return lambda: env.step(ones), env.num_envs
    env.reset(seed=0)
    shape = env.action_space.shape
    action: Any = np.ones(shape, np.int8)
    if stack == "torch":
        action = torch.ones(shape, dtype=torch.int8, device=env.unwrapped.device)
    return lambda: env.step(action), int(np.prod(shape))


def timed(function: Callable[[], Any], seconds: float, device: str = "cpu") -> float:
    """Median seconds of a call, after a few that warm up."""
    for _ in range(3):
        function()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        times.append(one_call(function, device))
    return float(np.median(times))


def one_call(function: Callable[[], Any], device: str) -> float:
    """Seconds of one call, until the device has done its work."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def step_against_copy(backend: str, device: str, batch: int, size: int, seconds: float) -> Row:
    """One step beside a plain copy of as many bytes as it must read and write, in turns: the median of ratios."""
    env = make(backend, device, batch, size, horizon=1_000_000)
    step, pixels = stepper(backend, env)
    amount = pixels * (sum(READ.values()) + sum(WRITTEN.values()))
    if backend == "numpy":
        source, goal = np.ones(amount, np.uint8), np.ones(amount, np.uint8)
        copy: Callable[[], Any] = lambda: np.copyto(goal, source)  # noqa: E731
    else:
        here, there = (torch.ones(amount, dtype=torch.uint8, device=device) for _ in range(2))
        copy = lambda: there.copy_(here)  # noqa: E731
    for function in (step, copy, step, copy):
        function()
    pairs = []
    until = time.perf_counter() + 2 * seconds
    while time.perf_counter() < until:
        pairs.append((one_call(step, device), one_call(copy, device)))
    steps, copies = np.array(pairs).T
    return {
        "backend": backend,
        "device": device,
        "shape": [batch, 1, size, size],
        "threads": torch.get_num_threads(),
        "bytes": amount,
        "step_ms": 1e3 * float(np.median(steps)),
        "copy_ms": 1e3 * float(np.median(copies)),
        "ratio": float(np.median(steps / copies)),
        "turns": len(pairs),
        "page_faults_per_step": faults(step),
        "parts_ms": parts(env, device, seconds / 4),
    }


def faults(step: Callable[[], Any], calls: int = 50) -> float:
    """Pages that the system must bring in during a step."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls


def parts(env: Any, device: str, seconds: float) -> dict[str, float]:
    """Milliseconds of what a step is made of, each by itself."""
    from pixelseg_env import arrays, dynamics, metrics, rewards

    base = env.unwrapped
    shape, backend = base._action_shape, base._backend
    action = np.ones(shape, np.int8) if base.backend == "numpy" else torch.ones(shape, dtype=torch.int8, device=device)
    decided = backend.action(action, shape)
    before, target, image = base._segmentation, base._target, base._image
    reward_map = rewards.squared_error(before, decided, target)
    pieces: dict[str, Callable[[], Any]] = {
        "check of the action": lambda: backend.action(action, shape),
        "transition": lambda: dynamics.absorbing(before, decided),
        "reward map": lambda: rewards.squared_error(before, decided, target),
        "mean reward": lambda: arrays.mean(reward_map),
        "observation": lambda: dynamics.masked(image, before),
        "Dice": lambda: metrics.map_dice(before, target),
        "copies of map and target": lambda: (backend.copy(before), backend.copy(target)),
    }
    return {name: 1e3 * timed(piece, seconds, device) for name, piece in pieces.items()}


def one_stack(stack: str, device: str, batch: int, size: int, seconds: float) -> Row:
    """Pixel-agent steps per second: the environment alone, with PA3C's inference, and with its training."""
    env = make(stack, device, batch, size)
    step, pixels = stepper(stack, env)
    row: Row = {"stack": stack, "device": device, "size": size, "images": batch, "pixel_agents": pixels}
    row["step_ms"] = 1e3 * timed(step, seconds, device)
    row["environment"] = pixels / row["step_ms"] * 1e3
    row |= with_agent(stack, env, device, batch, size, pixels, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if stack != "async":
        env.close()
    else:
        env.close()
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * batch
    row["peak_mib"] = (peak + (children if stack == "async" else 0)) / 1024
    if device != "cpu":
        row["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def with_agent(stack: str, env: Any, device: str, batch: int, size: int, pixels: int, seconds: float) -> Row:
    """Rates with the default network of PA3C (width 0.25) deciding, and learning with t_max 2."""
    batched = stack not in ("pettingzoo", "sb3")
    agent = PA3C(env if batched else make("numpy", device, batch, size), device=device, horizons=(2,))
    row = {"with_inference": pixels / timed(actor(stack, env, agent), seconds, device)}
    if not batched:  # these hand out windows, of which PA3C's network makes nothing
        return row
    planned = 1_000_000

    def learn() -> None:
        done = agent.updates
        agent.learn(planned, callback=lambda a: a.updates < done + 1)

    return row | {"with_training": 2 * pixels / timed(learn, seconds, device)}


def actor(stack: str, env: Any, agent: PA3C) -> Callable[[], Any]:
    """A function that has the agent decide on every pixel and steps the environment once."""
    if stack == "pettingzoo":

        def act_on_pettingzoo() -> None:
            if not env.agents:
                env.reset()
            actions, _ = agent.predict(env.state())
            env.step(dict(zip(env.agents, actions.reshape(-1).tolist(), strict=True)))

        env.reset(seed=0)
        return act_on_pettingzoo
    last = [env.reset() if stack == "sb3" else env.reset(seed=0)[0]]

    def act() -> None:
        if stack == "sb3":  # the middles of the windows are the image
            channels, height, width = env.dataset.images.shape[1:]
            cells = last[0][:, :, env.view // 2, env.view // 2].reshape(-1, height, width, channels)
            actions, _ = agent.predict(np.moveaxis(cells, -1, 1))
            last[0] = env.step(actions.reshape(-1).astype(np.int64))[0]
        else:
            last[0] = env.step(agent.predict(last[0])[0])[0]

    return act


def share_of_training(size: int, batch: int, device: str) -> Row:
    """The share of PA3C's training time that goes to `env.step`, at width 1."""
    backend = "numpy" if device == "cpu" else "torch"
    env = make(backend, device, batch, size)
    agent = PA3C(env, device=device, width=1.0, horizons=(10,))
    base, spent = env.unwrapped, [0.0]
    plain = base.step

    def step(actions: Any) -> Any:
        result: list[Any] = []
        spent[0] += one_call(lambda: result.append(plain(actions)), device)
        return result[0]

    base.step = step
    agent.learn(100, callback=lambda a: a.updates < 1)
    spent[0], started = 0.0, time.perf_counter()
    agent.learn(100, callback=lambda a: a.updates < 4)
    if device != "cpu":
        torch.cuda.synchronize()
    total = time.perf_counter() - started
    row = {"device": device, "size": size, "images": batch, "t_max": 10, "width": 1.0}
    return row | {"seconds": total, "seconds_in_step": spent[0], "share": spent[0] / total}


def _plain(options: EnvSpeed) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}


if __name__ == "__main__":
    main()
