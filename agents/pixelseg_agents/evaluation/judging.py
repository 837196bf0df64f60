"""Where maps are judged: on each file's own pixels, or at the size that they were decided at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation.results import CURVES, EvaluationResult, by_label_result
from pixelseg_env import METRICS, SegmentationDataset, check_choice
from pixelseg_env.datasets import fit_image, fit_masks

JudgeAt = Literal["native", "size"]
JUDGED_AT: tuple[JudgeAt, ...] = ("native", "size")
DRAWN = 512  # longest side, in pixels, of what is drawn on a file's own pixels
Maps = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """Scores the maps of a data set.

    Attributes:
        dataset: whose images were decided on.
        at: "native" brings maps back to the pixels of each image's own file, as `predict` does, and compares them with
            the file's own mask; "size" compares them as they are with the masks at that size. A data set without native
            masks, such as a generated one, has those of `masks`, and both are the same.

    Raises:
        OptionError: `at` is neither.
    """

    dataset: SegmentationDataset
    at: JudgeAt = "native"

    def __post_init__(self) -> None:
        check_choice("judge_at", self.at, JUDGED_AT)

    @property
    def brings_back(self) -> bool:
        """Whether maps have to be brought to another size."""
        return self.at == "native" and self.dataset.native is not None

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """The sizes (H, W) that maps are judged at, each once."""
        return self.dataset.native_sizes if self.brings_back else (self.dataset.image_shape[1:],)

    def scores(self, wanted: Sequence[int] | NDArray[Any], maps: Maps, functions: Mapping[str, Any]) -> dict[str, Any]:
        """Scores maps by several metrics.

        Args:
            wanted: which N images they are of.
            maps: uint8 (L, N, H, W).
            functions: name to a metric of (prediction, target).

        Returns:
            Name to float64 (L, N).
        """
        if not self.brings_back:
            masks = self.dataset.masks[np.asarray(wanted)]
            targets = np.moveaxis(masks, 1, 0) if masks.ndim == 4 else masks[None]
            return {name: function(maps, targets) for name, function in functions.items()}
        found = {name: np.empty(maps.shape[:2]) for name in functions}
        for column, index in enumerate(wanted):
            target = self.dataset.native_mask(int(index))
            restored = self.dataset.to_native(int(index), maps[:, column])
            for name, function in functions.items():
                found[name][:, column] = function(restored, target if target.ndim == 3 else target[None])
        return found


def ceiling(dataset: SegmentationDataset, horizon: int, judge_at: JudgeAt = "native") -> EvaluationResult:
    """The most that anyone can score who decides at the data set's size: its own masks, brought down and back.

    Args:
        dataset: whose masks.
        horizon: T, for curves as long as those of agents.
        judge_at: see `Judge`; "size" gives what a perfect score is.
    """
    judge, count, labels = Judge(dataset, judge_at), len(dataset), dataset.labels
    maps = np.moveaxis(dataset.masks, 1, 0) if labels > 1 else dataset.masks[None]
    scores: dict[str, Any] = judge.scores(np.arange(count), maps, METRICS)

    curves = {name: np.repeat(scores[name][..., None], horizon, axis=-1) for name in CURVES}
    return by_label_result(dataset, scores, curves, np.zeros((labels, count)), judge_at, judge.sizes)


def as_judged(
    result: EvaluationResult, dataset: SegmentationDataset, chosen: Sequence[int]
) -> tuple[NDArray[np.float32], Maps, list[Maps]]:
    """Images, masks and maps on the pixels that they were judged on, for figures.

    What is larger than `DRAWN` pixels is shrunk, and what is smaller than the largest gets a black margin. Images are
    those that the agent saw, enlarged.

    Args:
        result: an evaluation that kept its maps, of a data set of one label.
        dataset: the data set.
        chosen: N images.

    Returns:
        float32 (N, C, H, W), uint8 (N, H, W), and N times uint8 (T, H, W).
    """
    images, masks = dataset.batch(chosen)
    maps = [result.maps(int(index)) for index in chosen]
    if result.judged_at != "native" or dataset.native is None:
        return images, masks, maps
    fit = dataset.native.fit
    panels: list[tuple[NDArray[Any], Maps, Maps]] = []
    for index, image, own in zip(chosen, images, maps, strict=True):
        mask, back = dataset.native_mask(int(index)), dataset.to_native(int(index), own)
        scale = min(1.0, DRAWN / max(mask.shape))
        size = max(1, round(mask.shape[0] * scale)), max(1, round(mask.shape[1] * scale))
        shown = fit_image(np.moveaxis(image, 0, -1), (mask.shape[0], mask.shape[1]), fit)
        shown = fit_image(np.moveaxis(shown, 0, -1), size, "resize")
        panels.append((np.clip(shown, 0, 1), fit_masks(mask, size, "resize"), fit_masks(back, size, "resize")))
    height, width = (max(mask.shape[k] for _, mask, _ in panels) for k in (0, 1))
    return (
        np.stack([fit_image(np.moveaxis(image, 0, -1), (height, width), "crop") for image, _, _ in panels]),
        np.stack([fit_masks(mask, (height, width), "crop") for _, mask, _ in panels]),
        [fit_masks(back, (height, width), "crop") for _, _, back in panels],
    )
