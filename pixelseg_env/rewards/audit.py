"""What a reward pays for, measured: range, telescoping, what mistakes cost, loopholes, time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.dynamics import GRADED, TRANSITIONS
from pixelseg_env.errors import OptionError, check_choice
from pixelseg_env.rewards.base import Clipped, Reward, Scaled, Sum
from pixelseg_env.rewards.check import faults
from pixelseg_env.rewards.context import RewardContext
from pixelseg_env.rewards.facts import Range
from pixelseg_env.rewards.loopholes import TOLERANCE, Search, find_loophole
from pixelseg_env.rewards.potentials import shaping
from pixelseg_env.rewards.trials import Actions, Rules, honest, play, scenes

MOST_STEPS = 100
EPISODES = 200  # at random, on each target
TIMED_SIDE, TIMED_CALLS = 64, 21


@dataclass(frozen=True)
class Weights:
    """What one pixel matters, as the change of an image's whole return, the sum over its pixels.

    Attributes:
        object_share: of the target's pixels.
        lost: what losing one object pixel costs in the first step, with everything else kept.
        removed: what removing one false pixel earns there.
        missed: what one object pixel that is missing in the end costs, with everything else right from the first step.
        false: what one false pixel costs there.
    """

    object_share: float
    lost: float
    removed: float
    missed: float
    false: float


@dataclass(frozen=True)
class Audit:
    """What was measured of a reward.

    Attributes:
        reward: the reward.
        rules: under which it was tried.
        range: the least and the largest that a pixel earned in a step.
        detour: by how much the undiscounted sums of two episodes between the same maps differed at one pixel, at most.
        weights: what pixels matter, for a middling, a small and a large object.
        search: for a loophole.
        seconds: of one step of one image of 64x64 pixels.
    """

    reward: Reward
    rules: Rules
    range: Range
    detour: float
    weights: tuple[Weights, ...]
    search: Search
    seconds: float

    @property
    def telescopes(self) -> bool:
        """Whether how a map came about did not count."""
        return self.detour <= TOLERANCE * (1 + max(map(abs, self.range)))

    @property
    def contradictions(self) -> list[str]:
        """What the reward says of itself and is not so, a line each."""
        facts, found = self.reward.facts, []
        if facts.range is not None:
            low, high = facts.range
            room = TOLERANCE * (1 + max(abs(low), abs(high)))
            if self.range[0] < low - room or self.range[1] > high + room:
                found.append(f"it says that a pixel earns {low:g} to {high:g} in a step")
        if facts.telescopes and not self.telescopes and not self.rules.graded:
            found.append("it says that it telescopes")
        return found


def audit_reward(reward: Reward, transition: str = "absorbing", horizon: int = 10, gamma: float | None = None) -> Audit:
    """Tries a reward on small images, and measures what it pays for.

    Args:
        reward: the reward.
        transition: `"absorbing"`, `"restorable"` or `"additive"`.
        horizon: steps of an episode; loopholes are searched in shorter ones, too.
        gamma: discount of the returns that are compared; None: that of the `shaping` in it, or else 1.

    Returns:
        What was found; `pixelseg rewards check` says it in words.

    Raises:
        OptionError: a value is not valid, or the reward breaks the rules that `check_reward` tries.
    """
    check_choice("transition", transition, TRANSITIONS | GRADED)
    if not 1 <= horizon <= MOST_STEPS:
        raise OptionError(f"horizon={horizon}: expected 1 to {MOST_STEPS} steps")
    if gamma is not None and not 0 <= gamma <= 1:
        raise OptionError(f"gamma={gamma:g}: expected a number from 0 to 1")
    if broken := faults(reward, graded=transition in GRADED):
        raise OptionError(f"reward {reward} breaks the rules:\n" + "\n".join(broken))
    rules = Rules(transition, horizon, own_gamma(reward) if gamma is None else gamma)
    return Audit(
        reward,
        rules,
        _range(reward, rules),
        max(_detour(reward, target, rules) for target in scenes()),
        tuple(_weights(reward, target, rules) for target in scenes()[:3]),
        find_loophole(reward, rules),
        _seconds(reward),
    )


def own_gamma(reward: Reward) -> float:
    """The discount of the `shaping` in a reward, which is neutral under that alone; 1 without any.

    Raises:
        OptionError: it has two.
    """
    found = set(_gammas(reward))
    if len(found) > 1:
        raise OptionError(f"reward {reward}: shaping with several gammas, {sorted(found)}; all need the agent's own")
    return found.pop() if found else 1.0


def _gammas(reward: Reward) -> list[float]:
    if isinstance(reward, shaping):
        return [reward.gamma]
    parts = reward.parts if isinstance(reward, Sum) else (reward.part,) if isinstance(reward, Scaled | Clipped) else ()
    return [gamma for part in parts for gamma in _gammas(part)]


def _random_actions(rng: np.random.Generator, target: NDArray[np.uint8], rules: Rules) -> Actions:
    shape = (rules.horizon, EPISODES, *target.shape)
    keep = rng.random((1, EPISODES, 1, 1)) < 0.5  # some episodes mostly keep, so that absorbing maps last
    chosen = rng.integers(0, rules.choices, shape)
    return np.where(keep & (rng.random(shape) < 0.8), rules.keep, chosen).astype(np.uint8)


def _range(reward: Reward, rules: Rules) -> Range:
    rng = np.random.default_rng(0)
    lows, highs = [], []
    for target in scenes():
        alike = np.stack([0 * target, 0 * target + 1, target, 1 - target]) * np.uint8(rules.keep)
        every = np.broadcast_to(alike, (rules.horizon, *alike.shape)).copy()
        back = np.concatenate([every[:1, ::-1], every[1:]])  # and from one of them to another
        for actions in (_random_actions(rng, target, rules), every, back):
            rewards = play(reward, target, actions, rules).rewards
            lows.append(float(rewards.min()))
            highs.append(float(rewards.max()))
    return min(lows), max(highs)


def _detour(reward: Reward, target: NDArray[np.uint8], rules: Rules) -> float:
    """By how much undiscounted sums of episodes between the same maps differ at most."""
    if rules.horizon < 2:
        return 0.0
    rng = np.random.default_rng(1)
    one, other = (_random_actions(rng, target, rules) for _ in range(2))
    if rules.transition == "absorbing":  # one that removes the same pixels, each at another time
        gone = (one == 0).any(axis=0)
        when = rng.integers(0, rules.horizon, gone.shape)
        other = ~(gone & (np.arange(rules.horizon)[:, None, None, None] >= when))
    elif rules.graded:  # from wherever a pixel is, these lead to 0 or to 1
        one[-1] = other[-1] = np.where(rng.random(one[-1].shape) < 0.5, 0, rules.keep)
    else:
        other[-1] = one[-1]
    sums = [play(reward, target, a.astype(np.uint8), rules).rewards.sum(axis=0) for a in (one, other)]
    return float(np.abs(sums[0] - sums[1]).max())


def _weights(reward: Reward, target: NDArray[np.uint8], rules: Rules) -> Weights:
    keep = np.uint8(rules.keep)
    inside, outside = (np.argwhere(target == kind) for kind in (1, 0))
    # In the first step: everything kept, but one object pixel, or one of the background.
    first = np.full((1, 1 + len(inside) + len(outside), *target.shape), keep, np.uint8)
    # In the end: all right from the first step on, but one.
    end = np.repeat(honest(target, rules), first.shape[1], axis=1)
    for k, (row, column) in enumerate([*inside, *outside], start=1):
        first[0, k, row, column] = 0
        end[:, k, row, column] = keep - end[:, k, row, column]
    # The step is the first of a whole episode, for rewards that ask for the time.
    rest = np.full((rules.horizon - 1, *first.shape[1:]), keep, np.uint8)
    start = play(reward, target, np.concatenate([first, rest]), rules).rewards[0].sum(axis=(1, 2))
    whole = play(reward, target, end, rules).returns.sum(axis=(1, 2))
    found, missed = slice(1, 1 + len(inside)), slice(1 + len(inside), None)
    return Weights(
        float(target.mean()),
        float((start[0] - start[found]).mean()),
        float((start[missed] - start[0]).mean()),
        float((whole[0] - whole[found]).mean()),
        float((whole[0] - whole[missed]).mean()),
    )


def _seconds(reward: Reward) -> float:
    rng = np.random.default_rng(2)
    previous, current, target = ((rng.random((TIMED_SIDE, TIMED_SIDE)) < 0.5).astype(np.uint8) for _ in range(3))
    image = rng.random((1, TIMED_SIDE, TIMED_SIDE), np.float32)
    context = RewardContext.of(1, 10, image, current)
    taken = []
    for _ in range(TIMED_CALLS):
        began = time.perf_counter()
        reward(previous, current, target, context)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
