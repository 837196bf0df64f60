"""Whole volumes, judged on their own voxels and in millimetres, from the maps of their slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation.deciding import Predictor
from pixelseg_agents.evaluation.play import play
from pixelseg_agents.evaluation.results import EvaluationResult
from pixelseg_env import DataError, SegmentationDataset, to_numpy
from pixelseg_env.datasets import OWN_PIXELS
from pixelseg_env.metrics import volume_dice, volume_hd95

Masks = NDArray[np.uint8]


@dataclass(frozen=True)
class VolumeScores:
    """The scores of volumes, all their slices included.

    Attributes:
        cases: N names.
        slices: how many slices each has.
        spacing: millimetres between slices, rows and columns of each.
        metrics: "DICE" and "HD95 mm" to float64 (N,); with several labels, the means over them.
        labels: with several labels, label name to that label's own scores.
        pixels: what their voxels are, see `SegmentationDataset.native_pixels`.
    """

    cases: tuple[str, ...]
    slices: tuple[int, ...]
    spacing: tuple[tuple[float, float, float], ...]
    metrics: dict[str, NDArray[np.float64]]
    labels: dict[str, VolumeScores]
    pixels: str = OWN_PIXELS

    def to_json(self) -> dict[str, Any]:
        """Means and standard deviations over volumes, and a row for each."""
        content: dict[str, Any] = {
            "volumes": len(self.cases),
            "metrics": {
                name: {"mean": float(values.mean()), "sd": float(values.std())} for name, values in self.metrics.items()
            },
            "per_volume": [
                {
                    "case": case,
                    "slices": self.slices[k],
                    "spacing_mm": list(self.spacing[k]),
                    **{name: float(values[k]) for name, values in self.metrics.items()},
                }
                for k, case in enumerate(self.cases)
            ],
        }
        if self.labels:
            content["labels"] = {name: part.to_json() for name, part in self.labels.items()}
        return content

    def text(self, limit: int | None = None) -> str:
        """A table of the volumes, as Markdown, and their mean.

        Args:
            limit: volumes that are shown; None: all.
        """
        lines = ["| volume | slices | spacing, mm | DICE ↑ | HD95, mm ↓ |", "| --- | ---: | ---: | ---: | ---: |"]
        for k, case in enumerate(self.cases[:limit]):
            spacing = " x ".join(f"{width:.3g}" for width in self.spacing[k])
            dice, distance = (values[k] for values in self.metrics.values())
            lines.append(f"| {case} | {self.slices[k]} | {spacing} | {dice:.3f} | {distance:.1f} |")
        lines += [mean_row(f"mean of {len(self.cases)}", self)]
        lines += [mean_row(f"{name}: mean", part) for name, part in self.labels.items()]
        return "\n".join(lines)


def mean_row(name: str, scores: VolumeScores) -> str:
    """A row of `VolumeScores.text`: the means over volumes."""
    dice, distance = scores.metrics.values()
    return f"| {name} | | | {dice.mean():.3f} ± {dice.std():.3f} | {distance.mean():.1f} ± {distance.std():.1f} |"


def judge_volumes(
    predictor: Predictor,
    result: EvaluationResult,
    judged: SegmentationDataset,
    whole: SegmentationDataset,
    environment: Callable[[SegmentationDataset], Any],
) -> VolumeScores:
    """Scores whole volumes.

    Slices that have been evaluated are not decided on a second time; those that were left out, because they have no
    object, are decided on now: an object that is seen in them counts against the agent.

    Args:
        predictor: the agent.
        result: its evaluation on `judged`, with the maps.
        judged: the slices that were evaluated.
        whole: all slices of the volumes, and perhaps of others.
        environment: makes a vector environment of a data set, like that of the evaluation.

    Raises:
        DataError: `whole` lacks slices of a volume, or does not say what volumes they are of.
    """
    facts = whole.volumes
    if facts is None:
        raise DataError(f"data set {whole.name!r}: its images are no slices of volumes; expected a set with `volumes`")
    parts = list(result.labels.values()) or [result]
    known = {key: np.stack([part.maps(k)[-1] for part in parts]) for k, key in enumerate(_keys(judged))}
    keys, cases = _keys(whole), sorted(set(judged.cases))
    rest = [k for k, key in enumerate(keys) if key[0] in set(cases) and key not in known]
    if rest:
        left_out = whole.subset(rest)
        known |= dict(zip(_keys(left_out), _last_maps(predictor, environment(left_out), result.horizon), strict=True))
    places: dict[str, list[int]] = defaultdict(list)
    for k, (case, _) in enumerate(keys):
        places[case].append(k)
    scores = np.empty((len(parts), 2, len(cases)))
    for n, case in enumerate(cases):
        ordered = sorted(places[case], key=lambda k: keys[k][1])
        if len(ordered) != facts[case].slices:
            raise DataError(f"data set {whole.name!r}: {len(ordered)} of {facts[case].slices} slices of {case!r}")
        maps = np.stack([whole.to_native(k, known[keys[k]]) for k in ordered], axis=1)  # (L, Z, H, W)
        masks = [whole.native_mask(k).reshape(-1, *maps.shape[2:]) for k in ordered]
        for one, target, found in zip(maps, np.stack(masks, axis=1), scores, strict=True):
            found[:, n] = volume_dice(one, target), volume_hd95(one, target, facts[case].spacing)

    pixels = judged.native_pixels

    def scored(values: NDArray[np.float64], labels: Mapping[str, VolumeScores]) -> VolumeScores:
        sizes = tuple(facts[case].slices for case in cases)
        spacing = tuple(facts[case].spacing for case in cases)
        return VolumeScores(
            tuple(cases), sizes, spacing, {"DICE": values[0], "HD95 mm": values[1]}, dict(labels), pixels
        )

    return scored(scores.mean(axis=0), {name: scored(scores[k], {}) for k, name in enumerate(result.labels)})


def _keys(dataset: SegmentationDataset) -> list[tuple[str, int]]:
    return list(zip(dataset.cases, dataset.slices.tolist(), strict=True))


def _last_maps(predictor: Predictor, env: Any, horizon: int) -> list[Masks]:
    """The map (L, H, W) of each image after the last step."""
    found: list[Masks] = []
    for wanted, step, _, info in play(predictor, env, horizon):
        if step == horizon - 1:
            maps = to_numpy(info["segmentation"])[: len(wanted)]
            found += list(maps.reshape(len(wanted), -1, *maps.shape[-2:]))
    return found
