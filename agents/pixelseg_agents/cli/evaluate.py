"""`pixelseg evaluate`: scores a trained agent on one split of a data set."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import AS_IN_RUN, PAIRS, PATHS, Split, Which, parse
from pixelseg_agents.cli.options import RUNS_OWN, RunSizeFlag, format_size
from pixelseg_agents.cli.runs import CONFIG, Run, check_writable, open_run, run_size, too_short
from pixelseg_agents.cli.task import DATA_KEYS, TaskArguments, described
from pixelseg_agents.cli.volumes import volume_report
from pixelseg_agents.evaluation import JudgeAt, sees_time
from pixelseg_agents.evaluation.familiar import LOOKS, unfamiliar, warning_of
from pixelseg_agents.evaluation.report import (
    REPORT,
    evaluate_all,
    patients_text,
    summary_text,
    volumes_text,
    write_report,
)
from pixelseg_agents.files import write_atomically
from pixelseg_agents.registry import title_of
from pixelseg_env import DataError, OptionError, SegmentationDataset, check_horizon

EVALUATE = """\
Scores a trained agent, beside Otsu's threshold and "keep everything". Scores are those of the masks that predict
writes, on each file's own pixels; volumes are also judged whole, by Dice and HD95 in millimetres.

Examples:
  pixelseg evaluate runs/first                             held-out patients of the run's data set
  pixelseg evaluate runs/first --split val --json scores.json
  pixelseg evaluate runs/first --dataset folder --data other_images --split all
"""


@dataclass(frozen=True)
class EvaluateArguments:
    """Arguments of `pixelseg evaluate`."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run's folder, or a checkpoint file."""
    split: Split = "test"
    """Which patients: those held out (test), of validation (val), of training (train), or all."""
    horizon: Annotated[int | None, arg(metavar="INT", help_behavior_hint=AS_IN_RUN)] = None
    """Steps of an episode."""
    dataset: Annotated[str | None, arg(metavar="STR", help_behavior_hint=AS_IN_RUN)] = None
    """Another data set; its options then start from their defaults."""
    data: Annotated[tuple[Path, ...], arg(metavar=PATHS, help_behavior_hint=AS_IN_RUN)] = ()
    """Folder of the data set's files, or several."""
    size: Annotated[RunSizeFlag, arg(help_behavior_hint=AS_IN_RUN)] = RUNS_OWN  # type: ignore[assignment]
    """Every image becomes SIDE x SIDE or H x W pixels; none keeps the native size."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar=PAIRS, help_behavior_hint=AS_IN_RUN)] = ()
    """The data set's own options; see pixelseg train --help."""
    split_by: Annotated[Literal["patient", "slice"] | None, arg(metavar="{patient,slice}",
                        help_behavior_hint=AS_IN_RUN)] = None  # fmt: skip
    """What was dealt out to train, val and test."""
    split_seed: Annotated[int | None, arg(metavar="INT", help_behavior_hint=AS_IN_RUN)] = None
    """Seed of that deal."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: RUN/evaluation-SPLIT)")] = None
    """Folder for evaluation.json, evaluation.md and the figures."""
    json: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: only in --out)")] = None
    """Also write the scores as JSON to this file; - prints them instead of the tables."""
    judge_at: JudgeAt = "native"
    """Where scores are taken: on the pixels of each image's own file (native), as predict writes masks, or at the size
    that was decided at (size), where scores of different sizes cannot be compared."""
    checkpoint: Which = "last"
    """Which of the run's checkpoints: the last, or the best on validation patients."""
    batch: int = 8
    """Images evaluated at once."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""


def main(words: list[str]) -> int:
    """Evaluates, prints the tables and writes the report; returns the exit code."""
    return assess(parse(EvaluateArguments, words, "evaluate", EVALUATE))


def assess(arguments: EvaluateArguments) -> int:
    """Evaluates, prints the tables and writes the report; returns the exit code."""
    if arguments.batch < 1:
        raise OptionError(f"--batch {arguments.batch}: expected 1 or more")
    scores = None if arguments.json in (None, "-") else Path(str(arguments.json))
    run = open_run(arguments.run)
    agent = run.load_agent(device=arguments.device, which=arguments.checkpoint)
    task = _task(arguments, run, agent)
    dataset = task.load(arguments.split)[arguments.split]
    env = task.environment(dataset, min(arguments.batch, len(dataset)))
    _check_fits(run, agent, task, dataset)
    if warning := too_short(agent, task.horizon):
        print(f"pixelseg: warning: {warning}", file=sys.stderr)
    about = {
        "split": arguments.split,
        "updates": agent.updates,
        "checkpoint": arguments.checkpoint,
        **described(task, dataset),
    }
    # Now rather than after the evaluation, which may take hours.
    folder = _report_folder(arguments.out, run.folder / f"evaluation-{_name(arguments, run, task)}", about)
    check_writable(folder, "--out")
    if scores is not None:
        _check_scores(scores, about)
    for warning in _unlike_training(run, task, dataset):
        print(f"pixelseg: warning: {warning}", file=sys.stderr)
    results = evaluate_all(agent, title_of(agent), env, arguments.judge_at)
    volumes, said = volume_report(agent, task, dataset, arguments.split, results, arguments.batch)
    about |= said
    content = write_report(folder, results, dataset, about, volumes, getattr(agent, "windows", None))
    if arguments.json == "-":
        print(json.dumps(content, indent=1))
        return 0
    if scores is not None:
        write_atomically(scores, json.dumps(content, indent=1) + "\n")
    print(patients_text(results))
    print()
    if volumes:
        print(volumes_text(volumes))
        print()
    for what, text in said.items():
        print(f"{what.capitalize()}: {text}.\n")
    print(summary_text(results))
    print(f"{run.file(arguments.checkpoint)}, update {agent.updates}. Written to {folder}")
    return 0


def _name(arguments: EvaluateArguments, run: Run, task: TaskArguments) -> str:
    """What tells this evaluation's folder from those of other splits, data and rules."""
    trained_on = run.task.dataset if run.task else task.dataset
    name: str = arguments.split if task.dataset == trained_on else f"{task.dataset}-{arguments.split}"
    if run.task is not None and task.horizon != run.task.horizon:
        name += f"-horizon-{task.horizon}"
    if arguments.checkpoint != "last":
        name += f"-{arguments.checkpoint}"
    if arguments.judge_at == "size":
        name += "-at-size"
    return name


def _check_scores(scores: Path, about: dict[str, Any]) -> None:
    """Makes sure that a file of scores can be written, and that none of other data is lost.

    Raises:
        DataError: it cannot, or one would be.
    """
    if scores.exists() and not _of_same_data(before := _about_of(scores, "--json"), about):
        raise DataError(f"{scores}: scores of other data ({before.get('data')}); choose another --json")
    check_writable(scores.parent, "--json")


def _report_folder(wanted: Path | None, usual: Path, about: dict[str, Any]) -> Path:
    """Where the report goes: an earlier one of the same data is replaced, one of other data never.

    Raises:
        DataError: `wanted` holds a report of other data, or something that is no report.
    """
    folder, number = wanted or usual, 1
    while (written := folder / REPORT).exists():
        before = _about_of(written, "--out")
        if _of_same_data(before, about):
            break
        if wanted is not None:
            raise DataError(f"{written}: a report of other data ({before.get('data')}); choose another --out")
        number += 1
        folder = usual.with_name(f"{usual.name}-{number}")
    return folder


def _about_of(written: Path, option: str) -> dict[str, Any]:
    """What a file of scores says of its data.

    Raises:
        DataError: it is another file, which is not to be lost.
    """
    try:
        return dict(json.loads(written.read_text(encoding="utf-8"))["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{written}: not a report of pixelseg evaluate; choose another {option}") from error


def _of_same_data(before: dict[str, Any], about: dict[str, Any]) -> bool:
    return all(before.get(key) == json.loads(json.dumps(about[key])) for key in DATA_KEYS)


def _unlike_training(run: Run, task: TaskArguments, dataset: SegmentationDataset) -> list[str]:
    """What the images have that the agent was not trained on; a run of an older version does not tell."""
    looks = (run.config or {}).get(LOOKS)
    found = [warning_of(unfamiliar(dataset, looks), len(set(dataset.cases)))] if looks else []
    if run.task is not None and task.size != run.task.size:
        sizes = f"{format_size(task.size)}, and were at {format_size(run.task.size)} in training"
        found.append(f"images are decided at {sizes}")
    return [one for one in found if one]


def _check_fits(run: Run, agent: Any, task: TaskArguments, dataset: SegmentationDataset) -> None:
    """Refuses data that the agent was not made for."""
    wanted = getattr(agent, "task", None)  # somebody else's agent may keep what it was trained on to itself
    if wanted is None:
        return
    for what, own, found in (
        ("channel(s)", wanted.image_channels, dataset.image_shape[0]),
        ("label(s)", wanted.labels, dataset.labels),
    ):
        if own != found:
            raise OptionError(
                f"{run.checkpoint}: the agent was trained on {own} {what}, the data set {task.dataset!r} has {found}; "
                "give the same --dataset and --dataset-option"
            )


def _task(arguments: EvaluateArguments, run: Run, agent: Any) -> TaskArguments:
    """The run's data and rules, with what the command line changes."""
    task = run.task
    if task is None:
        if arguments.dataset is None or arguments.size == RUNS_OWN:
            raise OptionError(f"{run.checkpoint}: no {CONFIG} beside it tells the data; give --dataset and --size")
        task = TaskArguments(dataset=arguments.dataset)
    elif arguments.dataset not in (None, task.dataset):
        task = dataclasses.replace(task, dataset=arguments.dataset, data=(), dataset_option=())
    given = {
        name: value
        for name in ("data", "dataset_option", "split_by", "split_seed", "horizon")
        if (value := getattr(arguments, name)) not in (None, ())
    }
    check_horizon(given.get("horizon", task.horizon))
    size = run_size(run, arguments.size)
    return dataclasses.replace(
        task,
        **given,
        size=size,
        transition=agent.transition,
        observation=agent.observation,
        observe_time=sees_time(agent),
    )
