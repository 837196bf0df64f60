"""`--coarse RUN`: maps that another run makes, which must not have learnt from the patients that are tested on."""

from __future__ import annotations

import sys
from typing import Any

from pixelseg_agents.cli.options import format_size, parse_pairs
from pixelseg_agents.cli.runs import Run, open_run
from pixelseg_agents.cli.task import TaskArguments
from pixelseg_env import OptionError, SegmentationDataset

SET = "training_set"  # in a run's configuration


def describe(dataset: SegmentationDataset) -> dict[str, Any]:
    """What tells one training set from another, whatever folder it lies in."""
    return {
        "images": len(dataset),
        "patients": len(set(dataset.cases)),
        "shape": list(dataset.image_shape),
        "background_per_object_pixel": round(dataset.class_ratio, 6),
    }


def check_coarse(task: TaskArguments, train: SegmentationDataset) -> None:
    """Makes sure that the run behind the first maps learnt from the same patients as the one that begins.

    Folders may have been moved since, so it is the training sets that are compared, not the paths. At another size they
    are other pixels of the same patients: then as many patients, dealt out alike.

    Args:
        task: data and rules of the run that begins.
        train: its training set.

    Raises:
        RunError: there is no such run.
        OptionError: it learnt from other data, or by another split.
    """
    if task.coarse is None:
        return
    run = open_run(task.coarse)
    if run.task is None:
        print(
            f"pixelseg: warning: --coarse {task.coarse}: nothing beside it tells which patients it learnt from; if any "
            "of them are tested on here, their scores are too good",
            file=sys.stderr,
        )
        return
    differs = _differences(run, run.task, task, describe(train))
    if differs:
        raise OptionError(
            f"--coarse {task.coarse}: learnt from other data, or by another split, so patients that are tested on here "
            f"may be among those that it learnt from: {'; '.join(differs)}. Train it with the same options, or give "
            "this run its options"
        )


def _differences(run: Run, there: TaskArguments, here: TaskArguments, train: dict[str, Any]) -> list[str]:
    found = [
        f"--{name.replace('_', '-')} {getattr(there, name)} there, {getattr(here, name)} here"
        for name in ("dataset", "split_by", "split_seed")
        if getattr(there, name) != getattr(here, name)
    ]
    # A run notes the white of 16-bit files itself, see `training._with_white`.
    options, own = ({**parse_pairs(one.dataset_option), "white": None} for one in (there, here))
    found += [
        f"--dataset-option {name}={options.get(name, 'default')} there, {own.get(name, 'default')} here"
        for name in sorted(options.keys() | own.keys())
        if options.get(name) != own.get(name)
    ]
    trained_on = (run.config or {}).get(SET)
    if found or not isinstance(trained_on, dict):
        return found
    names = train.keys() if there.size == here.size else ("patients",)
    sizes = (
        "" if there.size == here.size else f" (--size {format_size(there.size)} there, {format_size(here.size)} here)"
    )
    return [
        f"{name.replace('_', ' ')} of the training set: {trained_on.get(name)} there, {train[name]} here{sizes}"
        for name in names
        if trained_on.get(name) != train[name]
    ]
