"""Is there an episode that earns more than segmenting does, without segmenting? A search on small images.

What a reward should pay best is that every pixel becomes right and then stays so. A loophole is an episode that earns
more and ends with wrong pixels, or changes pixels that need no change; or one that treats all pixels alike, keeping
them or zeroing them, and earns as much.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.rewards.base import Reward
from pixelseg_env.rewards.trials import Actions, Played, Rules, honest, play, scenes

MOST = 4096  # episodes at once
SHORT = 4  # steps of the episodes that are searched first: a loophole in few steps is the easier one to look at
TOLERANCE = 1e-4
SWEEPS = 30


@dataclass(frozen=True)
class Loophole:
    """An episode that earns without segmenting.

    Attributes:
        kind: `"flicker"`, `"idle"` (pixels that are wrong are left so), `"wrong"` (pixels are made wrong),
            `"keep all"` or `"zero all"`.
        played: the episode, a batch of one.
        honest: one that is right from the first step on.
    """

    kind: str
    played: Played
    honest: Played

    @property
    def earned(self) -> float:
        """Mean return of a pixel."""
        return float(self.played.returns.mean())

    @property
    def deserved(self) -> float:
        """Mean return of a pixel in the honest episode."""
        return float(self.honest.returns.mean())


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        loophole: the loophole; None: there is none, or none was found.
        pixelwise: whether what a pixel earns depends on that pixel alone.
        exhaustive: whether every episode of the length was tried, so that none found means that there is none.
        horizons: the lengths that were searched.
        episodes: how many were played.
    """

    loophole: Loophole | None
    pixelwise: bool
    exhaustive: bool
    horizons: tuple[int, ...]
    episodes: int


def find_loophole(reward: Reward, rules: Rules) -> Search:
    """Searches episodes of four steps, and of the rules' own number.

    Where a pixel's reward depends on that pixel alone, all that a pixel can do is tried, as far as there are not too
    many ways. Otherwise all is tried that object and background can do as wholes in four steps, and from the best of
    these, and from chance, one pixel's action after the other is changed as long as that earns more; in more steps what
    is simple is tried.

    Args:
        reward: the reward.
        rules: transition, steps and discount of the episodes.

    Returns:
        The search, with the loophole if there is one.
    """
    pixelwise = is_pixelwise(reward, rules)
    horizons = tuple(sorted({min(SHORT, rules.horizon), rules.horizon}))
    searcher = _Searcher(reward)
    found = None
    for number, horizon in enumerate(horizons):
        found = searcher.first(replace(rules, horizon=horizon), pixelwise)
        if found:
            horizons = horizons[: number + 1]
            break
    everything = pixelwise and rules.choices**rules.horizon <= MOST
    return Search(found, pixelwise, everything, horizons, searcher.episodes)


def is_pixelwise(reward: Reward, rules: Rules, tries: int = 64) -> bool:
    """Whether what a pixel earns stays the same when all others act otherwise; tried on random episodes."""
    rng = np.random.default_rng(0)
    for target in scenes()[:3]:
        shape = (rules.horizon, tries, *target.shape)
        one, other = (rng.integers(0, rules.choices, shape, dtype=np.uint8) for _ in range(2))
        if rules.transition == "absorbing":  # else little is left after a few steps
            one, other = (np.maximum(a, rng.random(shape) < 0.7).astype(np.uint8) for a in (one, other))
        rows, columns = (rng.integers(0, side, tries) for side in target.shape)
        each = np.arange(tries)
        other[:, each, rows, columns] = one[:, each, rows, columns]
        before, after = (play(reward, target, a, rules).rewards[:, each, rows, columns] for a in (one, other))
        if not np.allclose(before, after, atol=TOLERANCE):
            return False
    return True


class _Searcher:
    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self.episodes = 0

    def first(self, rules: Rules, pixelwise: bool) -> Loophole | None:
        """The loophole that earns most on the first target that has one."""
        for target in scenes():
            each = self.by_pixel if pixelwise else self.by_image
            found = [one for one in (self.alike(target, rules), each(target, rules)) if one]
            if found:
                return max(found, key=lambda one: one.earned - one.deserved)
        return None

    def alike(self, target: NDArray[np.uint8], rules: Rules) -> Loophole | None:
        """Whether keeping, or zeroing, all pixels earns as much as segmenting, and anything at all."""
        if target.min() == target.max():
            return None
        base = self._play(target, honest(target, rules), rules)
        for kind, action in (("keep all", rules.keep), ("zero all", 0)):
            actions = np.full((rules.horizon, 1, *target.shape), action, np.uint8)
            found = self._play(target, actions, rules)
            if found.returns.mean() >= base.returns.mean() - TOLERANCE and found.returns.mean() > TOLERANCE:
                return Loophole(kind, found, base)
        return None

    def by_pixel(self, target: NDArray[np.uint8], rules: Rules) -> Loophole | None:
        """Every pixel tries all that it can do; those that can cheat do what earns most, all others are honest."""
        right = honest(target, rules)
        base = self._play(target, right, rules)
        sequences = _sequences(rules)  # (N, T)
        actions = np.broadcast_to(sequences.T[:, :, None, None], (*sequences.T.shape, *target.shape)).copy()
        tried = self._play(target, actions, rules)
        needed = base.changes
        cheats = (tried.returns > base.returns + TOLERANCE) & (~tried.right | (tried.changes > needed))
        if not cheats.any():
            return None
        plainest = TOLERANCE * (1e-1 * ~tried.right + 1e-2 * tried.changes)  # of those that earn as much
        best = np.where(cheats, tried.returns + plainest, -np.inf).argmax(axis=0)  # (H, W)
        chosen = np.where(cheats.any(axis=0), np.moveaxis(sequences[best], -1, 0), right[:, 0])[:, None]
        return _named(self._play(target, chosen.astype(np.uint8), rules), base)

    def by_image(self, target: NDArray[np.uint8], rules: Rules) -> Loophole | None:
        """Object and background as wholes first; then from the best of these, and by chance, pixel by pixel."""
        base = self._play(target, honest(target, rules), rules)
        actions = _of_classes(target, rules)
        tried = self._play(target, actions, rules)
        found = _best_cheat(tried, base)
        if found or rules.horizon > SHORT or target.min() == target.max():
            return found
        best = actions[:, int(tried.returns.mean(axis=(1, 2)).argmax())]
        chance = np.random.default_rng(1).integers(0, rules.choices, best.shape, dtype=np.uint8)
        return self._climb(best, target, rules, base) or self._climb(chance, target, rules, base)

    def _climb(self, actions: Actions, target: NDArray[np.uint8], rules: Rules, base: Played) -> Loophole | None:
        """Changes the one action of one pixel that earns most, as long as one earns more."""
        best = -np.inf
        for _ in range(SWEEPS):
            places = list(np.ndindex(*actions.shape))  # of (T, H, W)
            near = np.repeat(actions[:, None], len(places), axis=1)
            for k, (t, row, column) in enumerate(places):
                near[t, k, row, column] = 0 if actions[t, row, column] else rules.keep
            tried = self._play(target, near, rules)
            if found := _best_cheat(tried, base):
                return found
            means = tried.returns.mean(axis=(1, 2))
            if means.max() <= best + TOLERANCE:
                return None
            best, actions = float(means.max()), near[:, int(means.argmax())]
        return None

    def _play(self, target: NDArray[np.uint8], actions: Actions, rules: Rules) -> Played:
        self.episodes += actions.shape[1]
        return play(self._reward, target, actions, rules)


def _best_cheat(tried: Played, base: Played) -> Loophole | None:
    """The episode of a batch that earns most of those that earn more than the honest one without segmenting."""
    means = tried.returns.mean(axis=(1, 2))
    needless = (~tried.right | (tried.changes > base.changes)).any(axis=(1, 2))
    cheats = (means > base.returns.mean() + TOLERANCE) & needless
    if not cheats.any():
        return None
    return _named(tried.only(int(np.where(cheats, means, -np.inf).argmax())), base)


def _named(played: Played, base: Played) -> Loophole:
    """What most of the pixels do that are not honest."""
    detour = played.changes > (played.maps[-1] != played.maps[0])
    wrong = ~played.right & ~detour
    idle = wrong & (played.changes == 0)
    kinds = {"flicker": detour.sum(), "idle": idle.sum(), "wrong": (wrong & ~idle).sum()}
    return Loophole(max(kinds, key=lambda kind: kinds[kind]), played, base)


def _sequences(rules: Rules) -> NDArray[np.uint8]:
    """All that a pixel can do, (N, T); where that is too much, all of zero and keep, or of these some."""
    if rules.choices**rules.horizon <= MOST:
        return _all(range(rules.choices), rules.horizon)
    if 2**rules.horizon <= MOST:
        return _all((0, rules.keep), rules.horizon)
    some = np.random.default_rng(0).integers(0, 2, (MOST, rules.horizon), dtype=np.uint8)
    return np.concatenate([*_simple(rules.horizon), some]) * np.uint8(rules.keep)


def _simple(horizon: int) -> Iterator[NDArray[np.uint8]]:
    """Never, always, at every second step, from a step on, until a step: (N, T) of 0 and 1."""
    steps = np.arange(horizon, dtype=np.uint8)
    yield np.stack([0 * steps, 0 * steps + 1, steps % 2, 1 - steps % 2]).astype(np.uint8)
    yield np.triu(np.ones((horizon, horizon), np.uint8))
    yield 1 - np.triu(np.ones((horizon, horizon), np.uint8))


def _all(choices: range | tuple[int, ...], horizon: int) -> NDArray[np.uint8]:
    return np.array(list(itertools.product(choices, repeat=horizon)), np.uint8)


def _of_classes(target: NDArray[np.uint8], rules: Rules) -> Actions:
    """What object and background can do as wholes, (T, N, H, W): all, or in many steps what is simple."""
    horizon = rules.horizon
    ways = _all((0, 1), horizon) if 4**horizon <= MOST else np.concatenate(list(_simple(horizon)))
    pairs = np.array(list(itertools.product(range(len(ways)), repeat=2)))
    of_object, of_rest = ways[pairs[:, 0]].T, ways[pairs[:, 1]].T  # (T, N)
    chosen = np.where(target == 1, of_object[..., None, None], of_rest[..., None, None])
    return np.asarray(chosen * rules.keep, np.uint8)
