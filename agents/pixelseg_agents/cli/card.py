"""README.md of a run's folder: a model card, with data, split, settings, scores and limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelseg_agents.cli.options import format_size
from pixelseg_agents.files import write_atomically
from pixelseg_env.metrics import HIGHER_IS_BETTER

FILES = {
    "checkpoint.safetensors": "the agent after the last update; evaluate, predict and --resume use it",
    "best.safetensors": "the agent with the best Dice on validation patients; `--checkpoint best` uses it",
    "config.json": "the command, all settings, versions, commit and hardware; `--config` reads it",
    "progress.csv": "the log, a row every few updates; learning_curve.png shows it",
    "evaluation.json": "scores of every image, and what was judged; evaluation.md has them by patient",
    "segmentation_steps.png": "a few images step by step; cases.png shows the best, the median and the worst",
}


def write_card(
    folder: Path,
    config: Mapping[str, Any],
    agent: str,
    updates: int,
    best: Mapping[str, float],
    report: Mapping[str, Any] | None = None,
) -> None:
    """Writes the card.

    Args:
        folder: the run's.
        config: of the run, `config.json`.
        agent: its title.
        updates: that are done.
        best: updates and Dice of the best evaluation on validation patients; may be empty.
        report: what `write_report` returned; None: the training has not finished, and the card says how to go on.
    """
    arguments = config["arguments"]
    task, hyper = arguments["task"], config.get("in_force") or arguments["hyper"]
    trained = config.get("training_set", {})
    data = ", ".join(Path(path).name for path in task["data"]) or "generated, or the folder in PIXELSEG_DATA"
    horizon = report["summary"]["horizon"] if report else task["horizon"]
    lines = [
        f"# {agent} on {task['dataset']}",
        "",
        f"Trained with `{config.get('command') or 'pixelseg train'}` at commit {config.get('commit') or 'unknown'}.",
        *([] if report else ["", *_unfinished(folder, updates, arguments["updates"])]),
        "",
        "## Data",
        "",
        f"- Data set `{task['dataset']}` ({data}), options: {', '.join(task['dataset_option']) or 'none'}; images at "
        f"{format_size(task['size'])} pixels a side.",
        f"- Trained on {trained.get('images')} images of {trained.get('patients')} patients; "
        f"{trained.get('background_per_object_pixel', 0):.3g} pixels of background per pixel of the object.",
        f"- Cut by {task['split_by']} with seed {task['split_seed']}; {_judged(report, task['split_by'])}.",
        "",
        "## Task",
        "",
        f"- {horizon} steps, transition `{task['transition']}`, observation `{task['observation']}`, reward "
        f"`{task['reward']}`.",
        f"- {updates} updates of {arguments['batch']} images, seed {arguments['seed']}.",
        "",
        "## Scores",
        "",
        *(_scores(report) if report else ["None yet: they are judged when the training is finished."]),
    ]
    if best:
        lines += ["", f"Best on validation patients: Dice {best['dice']:.3f} at update {int(best['updates'])}."]
    lines += [
        "",
        "## Settings",
        "",
        *(f"- `{name}`: {value}" for name, value in sorted(hyper.items())),
        "",
        "## Limits",
        "",
        "- A research model, not a medical device.",
        "- It knows images like those above, at that size; `pixelseg evaluate` tells what it does on others.",
        "- One training; another seed may differ by several hundredths of Dice.",
        "",
        "## Files",
        "",
        *(f"- `{name}`: {what}." for name, what in FILES.items() if (folder / name).exists()),
        "",
    ]
    write_atomically(folder / "README.md", "\n".join(lines))


def _unfinished(folder: Path, updates: int, planned: int) -> list[str]:
    return [
        f"**Not finished**: {updates} of {planned} updates were done when this was written. If the training no longer "
        f"runs, `pixelseg train --resume {folder}` goes on from the checkpoint."
    ]


def _judged(report: Mapping[str, Any] | None, split_by: str) -> str:
    if report is None:
        return "not judged yet"
    split, summary = report["about"]["split"], report["summary"]
    return (
        f"judged on {summary['images']} images of {summary['patients']} patients (`{split}`), {_seen(split, split_by)}"
    )


def _scores(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Mean over images, and over patients; HD95 in pixels; judged {report['about']['judged']}.",
        "",
        "| | images | patients |",
        "| --- | ---: | ---: |",
    ]
    for name, values in report["summary"]["metrics"].items():
        digits = 3 if HIGHER_IS_BETTER.get(name, True) else 1
        lines.append(f"| {name} | {values['mean']:.{digits}f} | {values['patient_mean']:.{digits}f} |")
    for name, other in report.get("references", {}).items():
        lines.append(f"| DICE of {name} | {other['metrics']['DICE']['mean']:.3f} | |")
    return lines


def _seen(split: str, split_by: str) -> str:
    """Whether what was judged was trained on."""
    if split in ("train", "all"):
        return "which were trained on, all or in part"
    return "none of them trained on" if split_by == "patient" else "of which other slices were trained on"
