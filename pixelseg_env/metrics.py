"""Segmentation metrics on one pair of masks or on a batch of pairs.

Every metric takes a prediction and a target of 0 and 1 with equal shapes (..., H, W), compares them
image by image, and returns float64 (...): a scalar for a pair (H, W), one value per image for a batch.

| name | what | formula |
| --- | --- | --- |
| DICE | Dice coefficient | (2 TP + e) / (2 TP + FP + FN + e) |
| PPV | positive predictive value, precision | (TP + e) / (TP + FP + e) |
| SEN | sensitivity, recall | (TP + e) / (TP + FN + e) |
| IoU | intersection over union | (TP + e) / (TP + FP + FN + e) |
| BIoU | IoU of the two inner boundaries | (P_d & G_d + e) / (P_d or G_d + e) |
| HD95 | 95 % Hausdorff distance, in pixels | see `hd95` |
| BIoU-2px | as BIoU, with bands of 2 pixels; where it is asked for by name | see `biou` |

TP, FP and FN count pixels and e = 1e-4, as the publication has it (doi 10.1038/s41598-025-92117-2). So
two empty masks score 1, and an empty prediction has a PPV of 1: it claims nothing that is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelseg_env.arrays import Array, area, namespace
from pixelseg_env.errors import DataError, OptionError, check_choice

__all__ = [
    "BOUNDARY_RATIO",
    "EPSILON",
    "HIGHER_IS_BETTER",
    "METRICS",
    "ON_REQUEST",
    "biou",
    "compute_metrics",
    "dice",
    "hd95",
    "iou",
    "map_dice",
    "named_metric",
    "ppv",
    "register_metric",
    "sen",
    "volume_dice",
    "volume_hd95",
]

EPSILON = 1e-4
BOUNDARY_RATIO = 0.02  # of the image diagonal: Boundary IoU's published default

Mask = NDArray[np.uint8]
Scores = NDArray[np.float64]


def dice(prediction: ArrayLike, target: ArrayLike) -> Scores:
    """Dice coefficient, (2 TP + e) / (2 TP + FP + FN + e).

    Args:
        prediction: 0 and 1, (..., H, W), bool or any number type; uint8 and bool are fastest.
        target: the ground truth, of the same shape.

    Returns:
        float64 (...), in (0, 1], 1 is perfect.

    Raises:
        DataError: the shapes differ, or a value is neither 0 nor 1.
    """
    overlap, predicted, actual = _counts(prediction, target)
    return (2 * overlap + EPSILON) / (predicted + actual + EPSILON)


def map_dice(prediction: Array, target: Array) -> Array:
    """`dice` without its checks, for maps of an environment: uint8 (..., H, W), NumPy or torch.

    Args:
        prediction: 0 and 1.
        target: likewise, of the same shape.

    Returns:
        float64 (...), on the device of the maps.
    """
    xp = namespace(target)
    # In float64 before anything is added: torch's whole numbers would become float32.
    overlap = xp.astype(area(prediction & target), xp.float64)
    total = xp.astype(area(prediction) + area(target), xp.float64)
    return (2 * overlap + EPSILON) / (total + EPSILON)


def ppv(prediction: ArrayLike, target: ArrayLike) -> Scores:
    """Positive predictive value (precision), (TP + e) / (TP + FP + e); arguments as for `dice`."""
    overlap, predicted, _ = _counts(prediction, target)
    return (overlap + EPSILON) / (predicted + EPSILON)


def sen(prediction: ArrayLike, target: ArrayLike) -> Scores:
    """Sensitivity (recall), (TP + e) / (TP + FN + e); arguments as for `dice`."""
    overlap, _, actual = _counts(prediction, target)
    return (overlap + EPSILON) / (actual + EPSILON)


def iou(prediction: ArrayLike, target: ArrayLike) -> Scores:
    """Intersection over union, (TP + e) / (TP + FP + FN + e); arguments as for `dice`."""
    overlap, predicted, actual = _counts(prediction, target)
    return (overlap + EPSILON) / (predicted + actual - overlap + EPSILON)


def biou(prediction: ArrayLike, target: ArrayLike, depth: int | None = None) -> Scores:
    """Boundary IoU: the IoU of the two masks' inner boundary bands.

    The band is the mask without its erosion by d pixels (3x3 square, d times), where d is 2 % of the
    image diagonal and at least 1. What lies outside the image counts as background, so an object cut
    by the image border has a boundary there too. (Cheng et al., Boundary IoU, CVPR 2021, and their
    reference code.) Arguments and errors as for `dice`.

    Args:
        prediction: see `dice`.
        target: see `dice`.
        depth: d in pixels, from 1, in place of 2 % of the diagonal.

    Returns:
        float64 (...), in (0, 1], 1 is perfect.
    """
    predicted, actual = _pair(prediction, target)
    if depth is None:
        depth = max(1, round(BOUNDARY_RATIO * float(np.hypot(*predicted.shape[-2:]))))
    scores = np.empty(predicted.shape[:-2])
    for at in np.ndindex(scores.shape):
        first, second = _band(predicted[at], depth), _band(actual[at], depth)
        overlap, union = np.count_nonzero(first & second), np.count_nonzero(first | second)
        scores[at] = (overlap + EPSILON) / (union + EPSILON)
    return scores[()]  # a scalar, not an array of no dimension, for a pair


def hd95(prediction: ArrayLike, target: ArrayLike) -> Scores:
    """95 % Hausdorff distance in pixels: the larger of the two directed 95th percentiles.

    The surface of a mask is its pixels with a 4-neighbour outside it (beyond the image border counts
    as outside). Each surface pixel of one mask has a Euclidean distance to the nearest one of the
    other; the 95th percentile is taken in each direction, with linear interpolation, and the larger
    one is the score. This is MONAI's convention; others pool both directions first and come out lower
    when only one mask has an outlier.

    Where MONAI gives NaN or infinity, which then drops out of a mean so that a miss improves it, we
    keep the worst case finite: one mask empty scores the image diagonal, sqrt(H^2 + W^2), and two
    empty masks score 0. Arguments and errors as for `dice`.

    Returns:
        float64 (...), at least 0, 0 is perfect.
    """
    predicted, actual = _pair(prediction, target)
    scores = np.empty(predicted.shape[:-2])
    for at in np.ndindex(scores.shape):
        scores[at] = _hd95_pair(predicted[at], actual[at])
    return scores[()]


def volume_dice(prediction: ArrayLike, target: ArrayLike) -> float:
    """Dice coefficient of two volumes (Z, H, W) of 0 and 1, over all voxels at once; errors as for `dice`."""
    first, second = _volumes(prediction, target)
    return float(dice(first.reshape(1, -1), second.reshape(1, -1)))


def volume_hd95(
    prediction: ArrayLike, target: ArrayLike, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> float:
    """95 % Hausdorff distance of two volumes in millimetres; as `hd95`, with surfaces in space.

    The surface of a mask is its voxels with one of six neighbours outside it, where beyond the border counts as
    outside. One mask empty scores the volume's diagonal, two empty masks 0.

    Args:
        prediction: 0 and 1, (Z, H, W).
        target: 0 and 1, the same shape.
        spacing: millimetres between voxels along each axis.

    Returns:
        At least 0, 0 is perfect.

    Raises:
        DataError: the shapes differ or are no volumes, or a value is neither 0 nor 1.
        OptionError: a distance is not above 0.
    """
    from scipy.ndimage import distance_transform_edt

    predicted, actual = _volumes(prediction, target)
    if len(spacing) != 3 or not all(0 < width < float("inf") for width in spacing):
        raise OptionError(f"spacing={spacing!r} is not valid; expected three distances above 0, in millimetres")
    both = predicted | actual
    if not both.any():
        return 0.0
    if not predicted.any() or not actual.any():
        return float(np.linalg.norm([n * width for n, width in zip(both.shape, spacing, strict=True)]))
    occupied = [np.flatnonzero(both.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(
        slice(int(found[0]), int(found[-1]) + 1) for found in occupied
    )  # distances within it are all that count
    first, second = _shell(predicted[box]), _shell(actual[box])
    return max(
        float(np.percentile(distance_transform_edt(~goal, sampling=spacing)[source], 95))
        for source, goal in ((first, second), (second, first))
    )


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], Scores]] = {
    "DICE": dice,
    "PPV": ppv,
    "SEN": sen,
    "IoU": iou,
    "BIoU": biou,
    "HD95": hd95,
}
# What is computed where it is asked for by name: a narrow band, the same in images of all sizes.
ON_REQUEST: dict[str, Callable[[ArrayLike, ArrayLike], Scores]] = {"BIoU-2px": functools.partial(biou, depth=2)}
HIGHER_IS_BETTER: dict[str, bool] = {name: name != "HD95" for name in METRICS}


def register_metric(
    name: str,
    function: Callable[[ArrayLike, ArrayLike], Scores],
    *,
    higher_is_better: bool = True,
    overwrite: bool = False,
) -> None:
    """Adds a metric to everything that is computed, saved and shown from now on.

    Args:
        name: a column's heading.
        function: `(prediction, target) -> scores`, masks of 0 and 1 uint8 (..., H, W) to float64 (...).
        higher_is_better: whether more is better.
        overwrite: allow an existing name to be replaced.

    Raises:
        OptionError: the name is taken or is not a name, or the function cannot be called.
    """
    if not isinstance(name, str) or not name:
        raise OptionError(f"a metric's name must be a non-empty string, got {name!r}")
    if name in METRICS | ON_REQUEST and not overwrite:
        raise OptionError(f"metric {name!r} is registered already; choose another name or pass overwrite=True")
    if not callable(function):
        raise OptionError(f"metric {name!r}: expected a function (prediction, target) -> scores, got {function!r}")
    METRICS[name] = function
    HIGHER_IS_BETTER[name] = higher_is_better


def compute_metrics(prediction: ArrayLike, target: ArrayLike, names: Iterable[str] | None = None) -> dict[str, Scores]:
    """Computes several metrics.

    Args:
        prediction: 0 and 1, (..., H, W).
        target: 0 and 1, the same shape.
        names: which of `METRICS`, all of them by default, or of `ON_REQUEST`.

    Returns:
        Name to float64 (...), in the order of `names`.

    Raises:
        DataError: the masks are not a pair, as for `dice`.
        OptionError: a name is not known.
    """
    chosen = {name: named_metric(name) for name in (METRICS if names is None else names)}
    predicted, actual = _pair(prediction, target)
    return {name: function(predicted, actual) for name, function in chosen.items()}


def named_metric(name: str, option: str = "metric") -> Callable[[ArrayLike, ArrayLike], Scores]:
    """One of `METRICS` or of `ON_REQUEST`.

    Args:
        name: the metric's.
        option: where the name was given, for the message.

    Returns:
        A function of prediction and target, see `dice`.

    Raises:
        OptionError: the name is not known; the message gives the nearest.
    """
    known = METRICS | ON_REQUEST
    return known[check_choice(option, name, known)]


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Mask, Mask]:
    """Returns both masks as uint8 of 0 and 1, or says what is wrong with them."""
    first, second = np.asarray(prediction), np.asarray(target)
    if first.shape != second.shape:
        raise DataError(
            f"prediction and target must have one shape, got prediction {first.shape} and target {second.shape}"
        )
    if first.ndim < 2 or 0 in first.shape[-2:]:
        raise DataError(f"expected masks of shape (H, W) or (..., H, W) with at least one pixel, got {first.shape}")
    return _binary("prediction", first), _binary("target", second)


def _binary(name: str, mask: NDArray[Any]) -> Mask:
    if mask.dtype == np.bool_:
        return mask.view(np.uint8)
    if mask.dtype == np.uint8:  # the usual case, and the only one that every environment step pays for
        if mask.max(initial=0) > 1:
            raise DataError(f"{name} must hold 0 and 1 only, found {mask.max()}")
        return mask
    if mask.dtype.kind not in "iuf":
        raise DataError(f"{name} must be a mask of numbers or bool, got type {mask.dtype}")
    wrong = mask[(mask != 0) & (mask != 1)]
    if wrong.size:
        raise DataError(
            f"{name} must hold 0 and 1 only, found {wrong.flat[0]}; turn probabilities into a mask first (p > 0.5)"
        )
    return mask.astype(np.uint8)


def _counts(prediction: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pixels in both, in the prediction and in the target, each int64 (...)."""
    first, second = _pair(prediction, target)
    return area(first & second), area(first), area(second)


def _erode(mask: Mask, shape: int, depth: int) -> Mask:
    kernel = cv2.getStructuringElement(shape, (3, 3))
    # OpenCV's default border is +infinity, which would hide the boundary at the image border.
    return cv2.erode(  # type: ignore[return-value]
        mask, kernel, iterations=depth, borderType=cv2.BORDER_CONSTANT, borderValue=(0.0,)
    )


def _band(mask: Mask, depth: int) -> Mask:
    """The pixels of a mask (H, W) within `depth` of its outside."""
    return mask ^ _erode(mask, cv2.MORPH_RECT, depth)


def _hd95_pair(predicted: Mask, actual: Mask) -> float:
    height, width = predicted.shape
    left, top, across, down = cv2.boundingRect(predicted | actual)
    if across == 0:
        return 0.0
    if not predicted.any() or not actual.any():
        return float(np.hypot(height, width))
    box = (slice(top, top + down), slice(left, left + across))  # distances within it are all that count
    first, second = _surface(predicted[box]), _surface(actual[box])
    return max(_directed(first, second), _directed(second, first))


def _surface(mask: Mask) -> Mask:
    mask = np.ascontiguousarray(mask)
    return mask ^ _erode(mask, cv2.MORPH_CROSS, 1)


def _directed(source: Mask, goal: Mask) -> float:
    """95th percentile of the distances from the pixels of `source` to the nearest pixel of `goal`."""
    distance = cv2.distanceTransform(goal ^ 1, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(np.percentile(distance[source.view(np.bool_)].astype(np.float64), 95))


def _volumes(prediction: ArrayLike, target: ArrayLike) -> tuple[Mask, Mask]:
    predicted, actual = _pair(prediction, target)
    if predicted.ndim != 3:
        raise DataError(f"expected volumes of shape (Z, H, W), got {predicted.shape}")
    return predicted, actual


def _shell(mask: Mask) -> NDArray[np.bool_]:
    """The voxels of a mask (Z, H, W) with one of six neighbours outside it."""
    inside = np.pad(mask.astype(np.bool_), 1)
    middle = inside[1:-1, 1:-1, 1:-1]
    surrounded = (
        inside[:-2, 1:-1, 1:-1] & inside[2:, 1:-1, 1:-1]
        & inside[1:-1, :-2, 1:-1] & inside[1:-1, 2:, 1:-1]
        & inside[1:-1, 1:-1, :-2] & inside[1:-1, 1:-1, 2:]
    )  # fmt: skip
    return np.asarray(middle & ~surrounded)
