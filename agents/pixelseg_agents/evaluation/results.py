"""Scores of many images over the steps of their episodes, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.files import read_json, reason, write_atomically
from pixelseg_env import DataError, OptionError, SegmentationDataset
from pixelseg_env.datasets import OWN_PIXELS
from pixelseg_env.metrics import HIGHER_IS_BETTER, METRICS

Floats = NDArray[np.float64]

CURVES = ("DICE", "BIoU")  # taken after every step, always


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of N images over T steps.

    Attributes:
        dataset: the data set's name.
        cases: N case (patient) names.
        slices: int64 (N,).
        metrics: name to float64 (N,) after the last step; the names of `pixelseg_env.metrics.METRICS`.
        dice_by_step: float64 (N, T), after step 1 to T.
        biou_by_step: float64 (N, T).
        returns: float64 (N,), the undiscounted sum of the scalar rewards.
        shape: (H, W).
        labels: with L > 1 labels, label name to that label's own result; then `metrics` and the curves are the
            means over labels, and the maps are in the labels' results.
        packed: uint8 (N, T, ceil(H W / 8)), the maps of all steps as bits; None where they were not
            kept, as after `load`. Read them with `maps`.
        judged_at: where the scores were taken: "native", on each file's own pixels, or "size", at `shape`. The maps are
            always those that were decided, of `shape`.
        judged_sizes: the sizes (H, W) that the scores were taken at, each once; none: `shape` alone.
        pixels: what "native" pixels are those of: the files, or what a data set has cut out of them.
        more_by_step: other metrics that were asked for after every step, name to float64 (N, T).
    """

    dataset: str
    cases: tuple[str, ...]
    slices: NDArray[np.int64]
    metrics: dict[str, Floats]
    dice_by_step: Floats
    biou_by_step: Floats
    returns: Floats
    shape: tuple[int, int]
    packed: NDArray[np.uint8] | None = None
    labels: dict[str, EvaluationResult] = field(default_factory=dict)
    judged_at: str = "size"
    judged_sizes: tuple[tuple[int, int], ...] = ()
    pixels: str = OWN_PIXELS
    more_by_step: dict[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def horizon(self) -> int:
        """T, the number of steps."""
        return int(self.dice_by_step.shape[1])

    @property
    def place(self) -> str:
        """The sizes that the scores were taken at, as text: scores of two results with other places are not alike."""
        sizes = [size_text(size) for size in self.judged_sizes or (self.shape,)]
        return sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes, {sizes[0]} to {sizes[-1]}"

    @property
    def judged(self) -> str:
        """Where the scores were taken, as the rest of a sentence that begins with "judged"."""
        decided = size_text(self.shape)
        if self.judged_at != "native" or (self.place, self.pixels) == (decided, OWN_PIXELS):
            return f"at {self.place}"
        return f"at {self.place}, {self.pixels}" + (f", decided at {decided}" if self.place != decided else "")

    def maps(self, index: int) -> NDArray[np.uint8]:
        """Returns the segmentation maps f(1) to f(T) of one image, uint8 (T, H, W) of 0 and 1.

        Raises:
            OptionError: the maps were not kept.
        """
        if self.packed is None:
            hint = (
                "they are in its `labels`" if self.labels else "loaded from a file, or evaluated with keep_maps=False"
            )
            raise OptionError(f"this result holds no maps: {hint}")
        height, width = self.shape
        bits = np.unpackbits(self.packed[index], axis=-1, count=height * width)
        return bits.reshape(-1, height, width)

    def summary(self) -> dict[str, Any]:
        """Means and standard deviations, ready for JSON.

        For each metric and the return: `mean` and `sd` over images, and `patient_mean` and `patient_sd`
        over patients, each patient being the mean of its images, so that a patient with many slices
        weighs no more than another. Standard deviations are those of the population (ddof = 0).
        """
        patients, member = np.unique(np.asarray(self.cases, dtype=np.str_), return_inverse=True)
        sizes = np.bincount(member)

        def spread(values: Floats) -> dict[str, float]:
            by_patient = np.bincount(member, weights=values) / sizes
            return {
                "mean": float(values.mean()),
                "sd": float(values.std()),
                "patient_mean": float(by_patient.mean()),
                "patient_sd": float(by_patient.std()),
            }

        return {
            "dataset": self.dataset,
            "images": len(self),
            "patients": len(patients),
            "horizon": self.horizon,
            "size": list(self.shape),
            "judged_at": self.judged_at,
            "judged_sizes": [list(size) for size in self.judged_sizes or (self.shape,)],
            **({} if self.pixels == OWN_PIXELS else {"judged_on": self.pixels}),
            "metrics": {name: spread(values) for name, values in self.metrics.items()},
            "return": spread(self.returns),
            "dice_by_step": self.dice_by_step.mean(axis=0).tolist(),
            "biou_by_step": self.biou_by_step.mean(axis=0).tolist(),
            **_more({name: values.mean(axis=0) for name, values in self.more_by_step.items()}),
        }

    def per_case(self) -> list[dict[str, Any]]:
        """One row per image: case, slice, each metric, the return, and both curves over the steps."""
        return [
            {
                "case": case,
                "slice": int(self.slices[i]),
                **{name: float(values[i]) for name, values in self.metrics.items()},
                "return": float(self.returns[i]),
                "dice_by_step": self.dice_by_step[i].tolist(),
                "biou_by_step": self.biou_by_step[i].tolist(),
                **_more({name: values[i] for name, values in self.more_by_step.items()}),
            }
            for i, case in enumerate(self.cases)
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps: `summary` and `per_case` under these names."""
        content: dict[str, Any] = {"summary": self.summary(), "per_case": self.per_case()}
        if self.labels:
            content["labels"] = {name: result.to_json() for name, result in self.labels.items()}
        return content

    def save(self, path: str | Path) -> None:
        """Writes `to_json` to a file, whole or not at all; missing folders are made."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> EvaluationResult:
        """Reads what `save` wrote; the maps are not in it.

        Raises:
            DataError: the file is no saved result; the message names it.
        """
        try:
            return cls._from_json(read_json(Path(path)))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise DataError(
                f"{path}: expected a saved evaluation result, but it is damaged or none ({reason(error)}); restore it "
                "from a copy, or evaluate again"
            ) from error

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> EvaluationResult:
        summary, rows = content["summary"], content["per_case"]
        height, width = summary["size"]
        more = [_text(name) for name in summary.get("more_by_step", {})]
        steps = {len(row[name]) for row in rows for name in ("dice_by_step", "biou_by_step")}
        steps |= {len(row["more_by_step"][name]) for row in rows for name in more}
        if len(steps) != 1 or not min(steps):
            raise ValueError("expected images, each with the same steps")
        return cls(
            dataset=_text(summary["dataset"]),
            cases=tuple(_text(row["case"]) for row in rows),
            slices=np.array([_whole(row["slice"]) for row in rows], np.int64),
            metrics={name: _column([row[name] for row in rows]) for name in dict(summary["metrics"])},
            dice_by_step=np.array([_column(row["dice_by_step"]) for row in rows]),
            biou_by_step=np.array([_column(row["biou_by_step"]) for row in rows]),
            returns=_column([row["return"] for row in rows]),
            shape=(_whole(height), _whole(width)),
            judged_at=_text(summary.get("judged_at", "size")),  # where all were judged until 0.1
            judged_sizes=tuple((_whole(h), _whole(w)) for h, w in summary.get("judged_sizes", [(height, width)])),
            pixels=_text(summary.get("judged_on", OWN_PIXELS)),
            more_by_step={name: np.array([_column(row["more_by_step"][name]) for row in rows]) for name in more},
            labels={name: cls._from_json(part) for name, part in content.get("labels", {}).items()},
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {type(value).__name__}")
    return value


def _more(curves: dict[str, Floats]) -> dict[str, Any]:
    """The entry of a result's JSON for curves that not every result has."""
    return {"more_by_step": {name: values.tolist() for name, values in curves.items()}} if curves else {}


def _column(values: list[Any]) -> Floats:
    """Numbers as float64 (N,); text that reads like a number is none."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise TypeError("expected a list of numbers")
    return np.array(values, np.float64)


def expanded(results: Mapping[str, EvaluationResult]) -> dict[str, EvaluationResult]:
    """The results, each with several labels followed by one result per label."""
    rows: dict[str, EvaluationResult] = {}
    for name, result in results.items():
        rows[name] = result
        rows |= {f"{name}: {label}": part for label, part in result.labels.items()}
    return rows


def table(rows: Mapping[str, EvaluationResult], by_patient: bool = False) -> str:
    """Sets several results side by side, as Markdown whose columns also line up as plain text.

    Args:
        rows: name to result, one row each.
        by_patient: mean ± sd over patients instead of over images.

    Returns:
        A table with a column per metric of `pixelseg_env.metrics.METRICS`, mean ± sd; HD95 is in pixels. A result that
        was saved before a metric was added has nothing in that column. Where results were judged in different places,
        a column says where each was: their scores cannot be compared.
    """
    prefix = "patient_" if by_patient else ""
    mixed = len({result.place for result in rows.values()}) > 1
    header = ["", *(f"{name} {'↑' if HIGHER_IS_BETTER[name] else '↓'}" for name in METRICS)]
    header += ["judged at"] if mixed else []
    lines = [header]
    for label, result in rows.items():
        metrics = result.summary()["metrics"]
        line = [label]
        for name in METRICS:
            if name not in metrics:  # saved before this metric was added
                line.append("")
                continue
            digits = 3 if HIGHER_IS_BETTER[name] else 1
            mean, spread = metrics[name][f"{prefix}mean"], metrics[name][f"{prefix}sd"]
            line.append(f"{mean:.{digits}f} ± {spread:.{digits}f}")
        lines.append(line + ([result.place] if mixed else []))
    return _aligned(lines)


def table_of_steps(name: str, result: EvaluationResult) -> str:
    """What the steps of one result are worth: mean ± sd of Dice and BIoU over images after each, as `table` has it.

    Of more than four steps, the first and the last.
    """
    last = result.horizon
    shown = range(1, last + 1) if last <= 4 else (1, last)
    curves = (result.dice_by_step, result.biou_by_step)
    lines = [[name, *(f"{metric} ↑" for metric in ("DICE", "BIoU"))]]
    for step in shown:
        values = (curve[:, step - 1] for curve in curves)
        lines.append([f"after step {step}", *(f"{scores.mean():.3f} ± {scores.std():.3f}" for scores in values)])
    return _aligned(lines)


def _aligned(lines: list[list[str]]) -> str:
    """A Markdown table whose columns also line up as plain text; the first line is its header."""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def size_text(size: tuple[int, int]) -> str:
    """A size as text, such as "256x256"."""
    return f"{size[0]}x{size[1]}"


def by_label_result(
    dataset: SegmentationDataset,
    metrics: Mapping[str, Floats],
    curves: Mapping[str, Floats],
    returns: Floats,
    judged_at: str,
    judged_sizes: tuple[tuple[int, int], ...],
    packed: NDArray[np.uint8] | None = None,
) -> EvaluationResult:
    """The result of scores that were taken label by label.

    Args:
        dataset: of N images and L labels.
        metrics: name to (L, N).
        curves: "DICE", "BIoU", and what else was asked for, to (L, N, T).
        returns: (L, N).
        judged_at: see `EvaluationResult`.
        judged_sizes: see `EvaluationResult`.
        packed: (L, N, T, ceil(H W / 8)); None: the maps are not kept.

    Returns:
        With one label its result; with several the means over them, which holds theirs.
    """

    def result(pick: Callable[[Floats], Floats], **more: Any) -> EvaluationResult:
        return EvaluationResult(
            dataset=dataset.name,
            cases=tuple(dataset.cases),
            slices=np.asarray(dataset.slices, np.int64),
            metrics={name: pick(values) for name, values in metrics.items()},
            dice_by_step=pick(curves["DICE"]),
            biou_by_step=pick(curves["BIoU"]),
            returns=pick(returns),
            shape=dataset.image_shape[1:],
            judged_at=judged_at,
            judged_sizes=judged_sizes,
            pixels=dataset.native_pixels,
            more_by_step={name: pick(values) for name, values in curves.items() if name not in CURVES},
            **more,
        )

    parts = [result(itemgetter(k), packed=None if packed is None else packed[k]) for k in range(dataset.labels)]
    if len(parts) == 1:
        return parts[0]
    return result(lambda values: values.mean(axis=0), labels=dict(zip(dataset.label_names, parts, strict=True)))
