"""Which items belong to training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.errors import DataError, OptionError, check_choice

SPLITS = ("train", "val", "test")


def split_indices(
    cases: Sequence[str],
    slices: Sequence[int] | NDArray[np.int64] | None = None,
    split: str = "train",
    split_by: str = "patient",
    split_seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
) -> NDArray[np.int64]:
    """Picks the items of one part.

    The units (patients or slices) are sorted by name, shuffled with `split_seed`, and dealt out by
    `fractions`. So the part of a unit depends on the names present and the seed, never on the order
    in which files were found, and the parts are disjoint and together the whole.

    Args:
        cases: N case (patient) names.
        slices: N slice numbers, used by `split_by="slice"` only; without them the position counts.
        split: "train", "val", "test" or "all" (every item).
        split_by: "patient" keeps all slices of a case in one part. "slice" deals out single slices, which
            reproduces what the publication appears to do: neighbouring slices of one patient are
            near-copies, so its test score is flattered by slices seen in training. Compare only with
            numbers that were made the same way.
        split_seed: seed of the shuffle.
        fractions: shares of train, val and test; they add up to 1. A part whose share is not 0 gets at
            least one unit.

    Returns:
        int64 positions in ascending order.

    Raises:
        OptionError: a name, the seed or the fractions are not valid.
        DataError: there are fewer units than parts.
    """
    check_choice("split", split, (*SPLITS, "all"))
    check_choice("split_by", split_by, ("patient", "slice"))
    shares = _check_fractions(fractions)
    if isinstance(split_seed, bool) or not isinstance(split_seed, int | np.integer) or split_seed < 0:
        raise OptionError(f"split_seed={split_seed!r} is not valid; expected a whole number of 0 or more")
    if split == "all":
        return np.arange(len(cases), dtype=np.int64)

    keys: list[Hashable]
    if split_by == "patient":
        keys = list(cases)
    else:
        numbers = range(len(cases)) if slices is None else slices
        # The occurrence number keeps items apart that share case and number.
        keys, seen = [], dict[tuple[str, int], int]()
        for case, number in zip(cases, numbers, strict=True):
            item = (case, int(number))
            seen[item] = seen.get(item, -1) + 1
            keys.append((*item, seen[item]))
    units = sorted(set(keys))  # type: ignore[type-var]  # all strings or all tuples of one form
    counts = _deal(len(units), shares, split_by)
    order = np.random.default_rng(split_seed).permutation(len(units))
    part = SPLITS.index(split)
    if counts[part] == 0:
        raise DataError(f"split={split!r} is empty: its share in fractions={tuple(fractions)} is 0")
    start = sum(counts[:part])
    chosen = {units[i] for i in order[start : start + counts[part]]}
    return np.array([i for i, key in enumerate(keys) if key in chosen], dtype=np.int64)


def _check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    message = (
        f"fractions={fractions!r} is not valid; expected three shares (train, val, test) of 0 or more that add up to 1"
    )
    try:
        train, val, test = (float(share) for share in fractions)
    except (TypeError, ValueError):
        raise OptionError(message) from None
    if not (min(train, val, test) >= 0 and math.isclose(train + val + test, 1.0, abs_tol=1e-6)):
        raise OptionError(message)
    return train, val, test


def _deal(total: int, shares: tuple[float, float, float], split_by: str) -> list[int]:
    """Units for each part: largest remainders, then none of the wanted parts stays empty."""
    wanted = [i for i, share in enumerate(shares) if share > 0]
    if total < len(wanted):
        unit = "case (patient)" if split_by == "patient" else "image"
        plural = "" if total == 1 else "s"
        hint = (
            "Add cases, load split='all', or split_by='slice' (then neighbouring slices leak between the parts). "
            "If each file is a patient of its own, tell the 'folder' data set so with case_pattern='(.+)'."
            if split_by == "patient"
            else "Add images or load split='all'."
        )
        raise DataError(f"cannot split {total} {unit}{plural} into {len(wanted)} parts without one being empty. {hint}")
    exact = [share * total for share in shares]
    counts = [math.floor(value + 1e-9) for value in exact]
    by_remainder = sorted(wanted, key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    for i in wanted:
        if counts[i] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts
