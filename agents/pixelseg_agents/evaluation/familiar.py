"""What an agent was trained on, in a few numbers, and the patients of another set who look unlike that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env import SegmentationDataset

LOOKS = "looks"  # in a run's configuration
ROOM, LEAST_ROOM = 0.5, 0.05  # on either side of the range that was trained on: a share of it, and an intensity
TIMES, DISTORTED = 2.0, 1.25  # how many times larger or smaller files may be, and wider or narrower in shape
SHOWN = 5  # patients that a warning names


def looks_of(dataset: SegmentationDataset, replaced: bool = False) -> dict[str, Any]:
    """What the patients of a data set look like; JSON-ready.

    Args:
        dataset: theirs.
        replaced: whether training replaces channels by others, see `AgentConfig.missing_sequences`.

    Returns:
        `"means"`: for each channel the lowest and the highest mean intensity of a patient, in [0, 1];
        `"repeated"`: whether a patient has the same pixels in two channels, as where an MR sequence is missing;
        `"sizes"`: height and width of the files' images, each once.
    """
    means, repeated = _by_patient(dataset)
    each = np.array(list(means.values()))
    return {
        "means": [[float(low), float(high)] for low, high in zip(each.min(axis=0), each.max(axis=0), strict=True)],
        "repeated": bool(replaced or any(repeated.values())),
        "sizes": [list(size) for size in dataset.native_sizes],
    }


def unfamiliar(dataset: SegmentationDataset, looks: Mapping[str, Any]) -> dict[str, str]:
    """The patients who look unlike those of `looks_of`, and in what.

    Args:
        dataset: others.
        looks: of the training set.
    """
    means, repeated = _by_patient(dataset)
    sizes, trained = _sizes_by_patient(dataset), looks.get("sizes")  # a run of an older version does not tell
    found: dict[str, str] = {}
    for case, values in means.items():
        reasons = []
        for channel, (value, (low, high)) in enumerate(zip(values, looks["means"], strict=False), 1):
            room = max(ROOM * (high - low), LEAST_ROOM)
            if not low - room <= value <= high + room:
                reasons.append(
                    f"channel {channel} is {value:.2f} bright in the mean, trained on {low:.2f} to {high:.2f}"
                )
        if repeated[case] and not looks["repeated"]:
            reasons.append("two of its channels are the same, which none was in training")
        if trained:
            reasons += [
                f"its files have {h}x{w} pixels, {told}" for h, w in sizes[case] if (told := _odd(h, w, trained))
            ]
        if reasons:
            found[case] = "; ".join(reasons)
    return found


def warning_of(found: Mapping[str, str], patients: int) -> str:
    """What to tell of unfamiliar patients; empty where there are none."""
    if not found:
        return ""
    named = [f"{case} ({why})" for case, why in list(found.items())[:SHOWN]]
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"{len(found)} of {patients} patients look unlike those that the run was trained on, and may be segmented "
        f"worse: {', '.join(named)}{more}"
    )


def _odd(height: int, width: int, trained: Sequence[Sequence[int]]) -> str:
    """In what a size is unlike all of those that were trained on; "": in nothing.

    The shape counts too: brought to the size that is decided at, an image of another one is distorted.
    """
    heights, widths = zip(*trained, strict=True)
    shapes = [w / h for h, w in trained]
    same_shape = min(shapes) / DISTORTED <= width / height <= max(shapes) * DISTORTED
    same_height = min(heights) / TIMES <= height <= max(heights) * TIMES
    if same_shape and same_height and min(widths) / TIMES <= width <= max(widths) * TIMES:
        return ""
    few, many = (f"{end(heights)}x{end(widths)}" for end in (min, max))
    return f"trained on {few}" + (f" to {many}" if few != many else "")


def _sizes_by_patient(dataset: SegmentationDataset) -> dict[str, list[tuple[int, int]]]:
    """The sizes of each patient's files, each once."""
    height, width = dataset.image_shape[1:]
    sizes = [(height, width)] * len(dataset) if dataset.native is None else dataset.native.sizes
    found: dict[str, set[tuple[int, int]]] = {}
    for case, size in zip(dataset.cases, sizes, strict=True):
        found.setdefault(str(case), set()).add((int(size[0]), int(size[1])))
    return {case: sorted(one) for case, one in found.items()}


def _by_patient(dataset: SegmentationDataset) -> tuple[dict[str, NDArray[np.float64]], dict[str, bool]]:
    """Each patient's mean intensity by channel, and whether two of the channels are the same in all slices."""
    cases = np.asarray(dataset.cases, dtype=np.str_)
    scale = 255.0 if dataset.images.dtype == np.uint8 else 1.0
    means: dict[str, NDArray[np.float64]] = {}
    repeated: dict[str, bool] = {}
    for case in np.unique(cases).tolist():
        pixels = dataset.images[cases == case]
        means[case] = pixels.mean(axis=(0, 2, 3), dtype=np.float64) / scale
        pairs = [(i, j) for i in range(pixels.shape[1]) for j in range(i)]
        repeated[case] = any(np.array_equal(pixels[:, i], pixels[:, j]) for i, j in pairs)
    return means, repeated
