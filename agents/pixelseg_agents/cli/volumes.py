"""Whole volumes in the reports of `train` and `evaluate`."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from pixelseg_agents.cli.task import TaskArguments
from pixelseg_agents.evaluation import EvaluationResult
from pixelseg_agents.evaluation.report import REFERENCES
from pixelseg_agents.evaluation.volumes import VolumeScores, judge_volumes
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset

NOT_WHOLE = (
    "not judged whole, for --split-by slice deals the slices of each out to train, val and test; evaluate with "
    "--split all has all of them"
)


def volume_report(
    agent: Any,
    task: TaskArguments,
    dataset: SegmentationDataset,
    split: str,
    results: Mapping[str, EvaluationResult],
    batch: int,
) -> tuple[dict[str, VolumeScores], dict[str, str]]:
    """Judges the volumes of a data set, if it is one of volumes and has them whole.

    Args:
        agent: the agent.
        task: data and rules.
        dataset: what was judged slice by slice.
        split: the part that it is.
        results: of the agent first, then of the references, with their maps.
        batch: images at once.

    Returns:
        Name to scores, of the agent and the references; and what a report says where there are none.
    """
    if dataset.volumes is None:
        return {}, {}
    if task.split_by != "patient" and split != "all":
        return {}, {"volumes": NOT_WHOLE}
    whole = _all_slices(task, dataset)

    def environment(judged: SegmentationDataset) -> PixelSegVectorEnv:
        return task.environment(judged, min(batch, len(judged)))

    players = {next(iter(results)): agent} | REFERENCES
    return {name: judge_volumes(one, results[name], dataset, whole, environment) for name, one in players.items()}, {}


def _all_slices(task: TaskArguments, dataset: SegmentationDataset) -> SegmentationDataset:
    """The slices without object too, which a data set leaves out unless it is asked for them."""
    facts, counts = dataset.volumes or {}, collections.Counter(dataset.cases)
    if all(count == facts[case].slices for case, count in counts.items()):
        return dataset
    options = [pair for pair in task.dataset_option if not pair.startswith("keep_empty=")]
    complete = dataclasses.replace(task, dataset_option=(*options, "keep_empty=true"))
    return complete.load("all")["all"]
