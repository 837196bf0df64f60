"""`check_reward`: does a reward function keep the rules? Tried on random and adversarial maps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.arrays import Array, to_numpy
from pixelseg_env.errors import OptionError, check_choice
from pixelseg_env.rewards.base import Reward, RewardFunction, as_reward
from pixelseg_env.rewards.context import RewardContext

BACKENDS = ("numpy", "torch")
SHAPE = (5, 7)  # neither square nor of a width that could be mistaken for another
TOLERANCE = 1e-5

Maps = tuple[Array, Array, Array]  # previous, current, target
Batch = tuple[Maps, RewardContext]


def check_reward(
    function: RewardFunction | type,
    *,
    backends: Sequence[str] = BACKENDS,
    shape: tuple[int, int] = SHAPE,
    labels: int = 1,
    graded: bool = False,
) -> None:
    """Tries a reward function on random and adversarial maps, and says in plain words what is wrong with it.

    Wrong is what makes training go astray in silence: numbers that differ between one image and the same image in a
    batch, between two calls, or between NumPy and torch; inputs that are written to; an autograd graph that is kept;
    results of the wrong shape, or not finite.

    Args:
        function: the reward function, or anything that `reward=` takes but text.
        backends: the kinds of arrays that it is meant for; torch is left out where it is not installed.
        shape: (H, W) of the maps, for a function that takes one size only.
        labels: L, for maps (B, L, H, W).
        graded: try maps of probabilities too, as the transition `"additive"` has them.

    Raises:
        OptionError: something is wrong; the message lists all of it.
    """
    for backend in backends:
        check_choice("backends", backend, BACKENDS)
    reward = as_reward(function)
    found = faults(reward, backends=backends, shape=shape, labels=labels, graded=graded)
    if found:
        raise OptionError(f"reward {reward}:\n" + "\n".join(found))


def faults(
    reward: Reward,
    *,
    backends: Sequence[str] = BACKENDS,
    shape: tuple[int, int] = SHAPE,
    labels: int = 1,
    graded: bool = False,
    thorough: bool = True,
) -> list[str]:
    """What is wrong with a reward, a line each.

    Args:
        reward: the reward.
        backends: as in `check_reward`.
        shape: as in `check_reward`.
        labels: as in `check_reward`.
        graded: as in `check_reward`.
        thorough: many maps, and a function that fails on them is at fault. Otherwise a few, a failure is not judged,
            and torch is not imported.
    """
    kinds = {"numpy": np.asarray} | _torch(thorough) if "torch" in backends else {"numpy": np.asarray}
    found: dict[str, None] = {}
    for batch in _batches(shape if labels == 1 else (labels, *shape), graded, thorough):
        results = {}
        for kind in (kind for kind in backends if kind in kinds):
            try:
                results[kind] = _judged(reward, _converted(batch, kinds[kind]))
            except _Fault as fault:
                found[f"- {fault}"] = None
            except Exception as error:  # the function's own
                if thorough:
                    found[f"- {_failure(kind, error)}"] = None
        if len(results) == len(BACKENDS) and not _close(results["numpy"], results["torch"]):
            found[f"- NumPy and torch differ{_where(results['numpy'], results['torch'])}"] = None
    return list(found)


class _Fault(Exception):  # noqa: N818 (a finding, not an error)
    """What a reward must not do."""


def _judged(reward: Reward, batch: Batch) -> NDArray[np.float32]:
    """The reward map of a batch, once it has passed as NumPy."""
    maps, context = batch
    before = [to_numpy(one).copy() for one in maps]
    result = _called(reward, maps, context)
    if any((to_numpy(one) != copy).any() for one, copy in zip(maps, before, strict=True)):
        raise _Fault("it changes its inputs, which belong to the environment; copy what you want to write to")
    again = _called(reward, maps, context)
    if not _close(result, again):
        raise _Fault(
            f"it is not the same twice{_where(result, again)}: it draws random numbers or remembers earlier calls, so "
            "a replay cannot compute it again; let it depend on its arguments alone"
        )
    for i in range(len(result)):
        alone = _called(reward, (maps[0][i], maps[1][i], maps[2][i]), _of_one(context, i))
        if not _close(result[i], alone):
            raise _Fault(
                f"it mixes the images of a batch: one earns other numbers among others than alone"
                f"{_where(result[i], alone)}; take sums, means and maxima over the last two axes only, axis=(-2, -1)"
            )
    return result


def _called(reward: Reward, maps: Maps, context: RewardContext) -> NDArray[np.float32]:
    try:
        return np.array(to_numpy(reward(*maps, context)))
    except OptionError as error:  # what comes back is checked on every call
        raise _Fault(str(error).removeprefix("reward: ")) from error
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise _Fault(
            f"it changes its inputs, which belong to the environment ({error}); copy what you want to write to"
        ) from error


def _failure(kind: str, error: Exception) -> str:
    arrays, other = ("torch tensors", "numpy") if kind == "torch" else ("NumPy arrays", "torch")
    return (
        f"it fails on {arrays} ({type(error).__name__}: {error}); write it with what both kinds have "
        f"(array_api_compat). If it is meant for the other alone, check_reward(..., backends=({other!r},)); if it "
        "takes one size only, check_reward(..., shape=(H, W))"
    )


def _close(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def _where(one: NDArray[np.float32], other: NDArray[np.float32]) -> str:
    """`" (0.5 and -255.0 at one pixel)"`, where they differ most."""
    worst = np.unravel_index(np.argmax(np.abs(one - other)), one.shape)
    return f" ({one[worst]:g} and {other[worst]:g} at one pixel)"


def _torch(thorough: bool) -> dict[str, Callable[[Any], Any]]:
    """What makes tensors of arrays, where torch can be had."""
    if not thorough and "torch" not in sys.modules:
        return {}
    try:
        import torch
    except ImportError:
        return {}
    return {"torch": lambda array: torch.from_numpy(np.array(array))}


def _converted(batch: Batch, convert: Callable[[Any], Any]) -> Batch:
    """A batch in arrays of its own of one kind."""
    (previous, current, target), context = batch
    named = {one.name: convert(getattr(context, one.name).copy()) for one in fields(context)}
    return (convert(previous.copy()), convert(current.copy()), convert(target.copy())), replace(context, **named)


def _of_one(context: RewardContext, i: int) -> RewardContext:
    """The context of one image of a batch, as the single environment has it."""
    step, horizon = (int(counts.reshape(-1)[i]) for counts in (context.step, context.horizon))
    return RewardContext.of(step, horizon, context.image[i], context.action[i])


def _batches(shape: tuple[int, ...], graded: bool, thorough: bool) -> Iterator[Batch]:
    """Batches of maps (B, *shape)."""
    rng = np.random.default_rng(0)
    yield _with_context(rng, *_adversarial(rng, shape, thorough))
    full = (3, *shape)
    for _ in range(12 if thorough else 1):
        previous, current, target = ((rng.random(full) < rng.random()).astype(np.uint8) for _ in range(3))
        yield _with_context(rng, previous, current, target)
        if graded:
            before, after = (rng.random(full).astype(np.float32) for _ in range(2))
            yield _with_context(rng, before, after, target)


def _adversarial(rng: np.random.Generator, shape: tuple[int, ...], thorough: bool) -> Maps:
    """Side by side in one batch: nothing and everything right, wrong, changed, empty and full."""
    empty, full = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    pixel, half = empty.copy(), (rng.random(shape) < 0.5).astype(np.uint8)
    pixel[..., -1, 0] = 1
    targets = (empty, full, pixel, half) if thorough else (empty, half)
    cases = [
        (before, after, target)
        for target in targets
        for before in (full, empty, target, 1 - target)
        for after in (full, empty, target, 1 - target)
    ]
    previous, current, target = (np.stack(maps) for maps in zip(*cases, strict=True))
    return previous, current, target


def _with_context(rng: np.random.Generator, previous: Array, current: Array, target: Array) -> Batch:
    count, size = len(target), target.shape[-2:]
    horizon = rng.integers(1, 11, count)
    step = rng.integers(1, horizon + 1)
    image = rng.random((count, 2, *size), dtype=np.float32)
    action = (rng.random(target.shape) < 0.5).astype(np.uint8)
    return (previous, current, target), RewardContext.of(step, horizon, image, action)
