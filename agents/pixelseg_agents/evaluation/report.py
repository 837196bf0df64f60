"""Evaluates an agent beside the references, and writes numbers and figures into a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation import EvaluationResult, Predictor, ceiling, evaluate, expanded, table
from pixelseg_agents.evaluation.figures import case_figure, dice_by_step, step_figure
from pixelseg_agents.evaluation.judging import JudgeAt, as_judged
from pixelseg_agents.evaluation.results import size_text, table_of_steps
from pixelseg_agents.evaluation.volumes import VolumeScores, mean_row
from pixelseg_agents.evaluation.watching import images_with_objects
from pixelseg_agents.files import write_atomically
from pixelseg_agents.references import KeepAll, Otsu
from pixelseg_agents.team import ALONE, Team
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset
from pixelseg_env.datasets import OWN_PIXELS

Windows = Callable[[NDArray[np.float32], NDArray[Any]], NDArray[np.float32] | None]  # of images and maps
SHOWN_PATIENTS = 30
REFERENCES: dict[str, Predictor] = {"Otsu": Otsu(), "keep everything": KeepAll()}
REPORT = "evaluation.json"  # the name in a report's folder


def evaluate_all(
    agent: Predictor, name: str, env: PixelSegVectorEnv, judge_at: JudgeAt = "native", team: Team = ALONE
) -> dict[str, EvaluationResult]:
    """Evaluates the agent, then Otsu's threshold and "keep everything", on every image of `env`.

    Where maps are brought back to other sizes, a row says what a perfect mask scores there.
    """
    results = {name: evaluate(agent, env, judge_at=judge_at, team=team)}
    volumes = env.dataset.volumes is not None  # which are judged from the maps of their slices
    results |= {
        other: evaluate(one, env, keep_maps=volumes, judge_at=judge_at, team=team) for other, one in REFERENCES.items()
    }
    if judge_at == "native" and env.dataset.native is not None:
        perfect = f"perfect at {size_text(env.dataset.image_shape[1:])}"
        results[perfect] = ceiling(env.dataset, results[name].horizon, judge_at)
    return results


def write_report(
    folder: Path,
    results: Mapping[str, EvaluationResult],
    dataset: SegmentationDataset,
    about: Mapping[str, Any],
    volumes: Mapping[str, VolumeScores] | None = None,
    windows: Windows | None = None,
) -> dict[str, Any]:
    """Writes `evaluation.json`, `evaluation.md` and the figures.

    Args:
        folder: where to.
        results: the agent's first (with its maps), then the references'.
        dataset: what they were evaluated on.
        about: what the numbers belong to: run, split, ...
        volumes: scores on whole volumes, the agent's first, then the references'; none: there are no volumes.
        windows: what tells where the agent looked, see `PixelAgent.windows`.

    Returns:
        The content of `evaluation.json`; `EvaluationResult.load` reads the agent's part.
    """
    (name, result), *references = results.items()
    about = {**about, "judged": result.judged}
    content = {
        "about": {"agent": name, **about},
        **result.to_json(),
        "references": {other: reference.summary() for other, reference in references},
    }
    if volumes:
        own, *others = volumes.items()
        content["volumes"] = own[1].to_json()
        content["volumes"]["references"] = {other: scores.to_json()["metrics"] for other, scores in others}
    write_atomically(folder / "evaluation.md", "\n".join(_markdown(results, about, volumes)) + "\n")
    dice_by_step(expanded({name: result}) | dict(references), folder / "dice_by_step.png")
    if not result.labels:
        case_figure(result, dataset, folder / "cases.png")
        _step_figure(result, dataset, folder / "segmentation_steps.png", windows)
    for number, (label, part) in enumerate(result.labels.items()):
        ending = f"{label.replace(' ', '-')}.png"
        case_figure(part, dataset.label(number), folder / f"cases-{ending}")
        _step_figure(part, dataset.label(number), folder / f"segmentation_steps-{ending}")
    # Last: where it stands, nothing is missing.
    write_atomically(folder / REPORT, json.dumps(content, indent=1) + "\n")
    return content


def summary_text(results: Mapping[str, EvaluationResult]) -> str:
    """The table over images, and another one of what the first one's steps are worth, where it has several."""
    name, result = next(iter(results.items()))
    count = result.summary()
    return "\n".join(
        [
            f"{count['images']} images of {count['patients']} patients, mean ± sd over images (HD95 in pixels), "
            f"judged {result.judged}:",
            "",
            table(expanded(results)),
            *(["", table_of_steps(name, result)] if result.horizon > 1 else []),
        ]
    )


def patients_text(results: Mapping[str, EvaluationResult], limit: int | None = SHOWN_PATIENTS) -> str:
    """The table over patients, and one row per patient of the first result."""
    name, result = next(iter(results.items()))
    rows = _by_patient(result)
    shown = dict(list(rows.items())[:limit])
    lines = []
    if len(rows) < len(result):  # otherwise each patient is one image, and the table is known
        lines += ["Mean ± sd over patients, each the mean of its images:", "", table(results, by_patient=True), ""]
    lines += [f"{name} by patient (images), mean ± sd over the patient's images:", "", table(shown)]
    if len(shown) < len(rows):
        lines.append(f"... and {len(rows) - len(shown)} more; all are in evaluation.md")
    return "\n".join(lines)


def volumes_text(volumes: Mapping[str, VolumeScores], limit: int | None = SHOWN_PATIENTS) -> str:
    """The table of whole volumes of the first, and the means of the others."""
    (name, own), *others = volumes.items()
    more = len(own.cases) - (limit or len(own.cases))
    where = "their own voxels" if own.pixels == OWN_PIXELS else own.pixels
    lines = [f"{name} on whole volumes, all their slices, on {where}; HD95 in millimetres:", ""]
    lines += [own.text(limit), *(mean_row(f"{other}: mean", scores) for other, scores in others)]
    return "\n".join(lines + ([f"... and {more} more; all are in evaluation.md"] if more > 0 else []))


def _by_patient(result: EvaluationResult) -> dict[str, EvaluationResult]:
    cases = np.asarray(result.cases, dtype=np.str_)
    rows = {}
    for case in np.unique(cases):
        index = np.flatnonzero(cases == case)
        rows[f"{case} ({len(index)})"] = EvaluationResult(
            dataset=result.dataset,
            cases=tuple(result.cases[i] for i in index),
            slices=result.slices[index],
            metrics={metric: values[index] for metric, values in result.metrics.items()},
            dice_by_step=result.dice_by_step[index],
            biou_by_step=result.biou_by_step[index],
            returns=result.returns[index],
            shape=result.shape,
            judged_at=result.judged_at,
            judged_sizes=result.judged_sizes,
            pixels=result.pixels,
        )
    return rows


def _markdown(
    results: Mapping[str, EvaluationResult], about: Mapping[str, Any], volumes: Mapping[str, VolumeScores] | None
) -> list[str]:
    result = next(iter(results.values()))
    steps = ", ".join(f"{value:.3f}" for value in result.dice_by_step.mean(axis=0))
    return [
        "# Evaluation",
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
        "",
        summary_text(results),
        "",
        f"Mean Dice after each step: {steps}.",
        "",
        patients_text(results, limit=None),
        *(["", volumes_text(volumes, limit=None)] if volumes else []),
    ]


def _step_figure(
    result: EvaluationResult, dataset: SegmentationDataset, path: Path, windows: Windows | None = None
) -> None:
    """Four images, see `images_with_objects`."""
    chosen = np.array(images_with_objects(dataset, 4))
    titles = [f"{result.cases[i]}\nslice {result.slices[i]}" for i in chosen]
    looked = None if windows is None else _looked(result, dataset, chosen, windows)
    if looked is None:
        images, masks, maps = as_judged(result, dataset, chosen.tolist())
    else:  # at the size that it was looked at
        (images, masks), maps = dataset.batch(chosen), [result.maps(int(i)) for i in chosen]
    step_figure(images, masks, np.stack(maps), path, titles, windows=looked)


def _looked(
    result: EvaluationResult, dataset: SegmentationDataset, chosen: NDArray[np.int64], windows: Windows
) -> NDArray[np.float32] | None:
    """The windows of every step, float32 (N, T, K, 3); None: the agent sees whole images."""
    images, masks = dataset.batch(chosen)
    maps = np.stack([result.maps(int(i)) for i in chosen])
    before = np.concatenate([np.ones_like(masks)[:, None], maps[:, :-1]], axis=1)
    found = [windows(images, before[:, step]) for step in range(maps.shape[1])]
    return None if any(one is None for one in found) else np.stack(found, axis=1)  # type: ignore[arg-type]
