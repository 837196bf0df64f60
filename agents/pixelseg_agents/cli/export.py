"""`pixelseg export`: a trained agent as one ONNX file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import AS_IN_RUN, Switch, Which, parse
from pixelseg_agents.cli.options import RUNS_OWN, RunSizeFlag, format_size, parse_pairs
from pixelseg_agents.cli.predict import DEFAULT_HORIZON
from pixelseg_agents.cli.runs import Run, open_run, too_short
from pixelseg_agents.cli.task import coarse_agent
from pixelseg_agents.export import SUFFIX, ExportError, export_onnx
from pixelseg_agents.files import check_target
from pixelseg_agents.references import REFERENCES
from pixelseg_env.datasets import check_size

DESCRIPTION = """\
Writes a trained agent with all steps of its episode as one ONNX file: images in, masks out, for onnxruntime and others,
without PyTorch. The file takes any number of images of any size (few networks: of the size trained on, which is said
then), and its metadata tell what it is and how images are prepared. Before it is written it is run beside the agent on
random images: the masks have to be the same. docs/deployment.md shows its use in ten lines.

Example:
  pixelseg export runs/first model.onnx
"""

PERCENTILES_TOLD = "its 0.5th percentile is 0 and its 99.5th is 1"
IMAGES = ("folder", "table", "brain", "phantom")  # data sets of image files
VOLUMES = ("nifti", "cardiac", "hecktor", "dicom")


@dataclass(frozen=True)
class OnnxArguments:
    """Arguments of `pixelseg export`."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run's folder, or a checkpoint file."""
    out: Positional[Annotated[Path, arg(metavar="FILE")]]
    """The file to write, which ends in .onnx."""
    horizon: Annotated[int | None, arg(metavar="INT", help_behavior_hint=AS_IN_RUN)] = None
    """Steps of the episode."""
    size: Annotated[RunSizeFlag, arg(help_behavior_hint=AS_IN_RUN)] = RUNS_OWN  # type: ignore[assignment]
    """The size that images should have, which the file notes, and keeps to where its network takes no other."""
    checkpoint: Which = "last"
    """Which of the run's checkpoints: the last, or the best on validation patients."""
    overwrite: Switch = False
    """Replace a file that exists."""


def main(words: list[str]) -> int:
    """Runs the command; returns the exit code."""
    arguments = parse(OnnxArguments, words, "export", DESCRIPTION)
    if not arguments.run.exists() and str(arguments.run) in REFERENCES:
        raise ExportError(
            f"{arguments.run}: a reference, which has no network and so nothing to export; expected a run"
        )
    check_target(arguments.out, (SUFFIX,), arguments.overwrite)  # before a large checkpoint is read
    run = open_run(arguments.run)
    task = run.task
    own = task.horizon if task else DEFAULT_HORIZON
    horizon = own if arguments.horizon is None else arguments.horizon
    wanted = (task.size if task else None) if arguments.size == RUNS_OWN else arguments.size
    size = check_size(wanted)
    agent = run.load_agent(device="cpu", which=arguments.checkpoint)
    if warning := too_short(agent, horizon):
        print(f"pixelseg: warning: {warning}", file=sys.stderr)
    start: Any = None
    if task is not None:
        start = coarse_agent(task.coarse) if task.coarse is not None else task.first_maps()
    done = export_onnx(
        agent,
        arguments.out,
        horizon,
        size=size,
        start=start,
        metadata=_origin(run, agent, arguments.checkpoint, size),
        overwrite=arguments.overwrite,
    )
    free = "any size" if done.size is None else f"{format_size(done.size)} pixels alone"
    megabytes = done.path.stat().st_size / 1e6
    print(f"agent     {run.file(arguments.checkpoint)}, the {arguments.checkpoint} checkpoint of the run")
    print(f"written   {done.path}: {megabytes:.1f} MB, {agent.title}, {horizon} step(s), for images of {free}")
    if done.size is not None:
        print(f"          no other size, because {done.why}")
    if done.differing:
        share = f"{done.differing} of {done.compared} pixels ({done.differing / done.compared:.2%})"
        print(f"checked   same masks in onnxruntime but for {share}, where round-off decides (docs/deployment.md)")
    else:
        print(f"checked   same masks in onnxruntime ({done.compared} pixels of random images)")
    return 0


def _origin(run: Run, agent: Any, which: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """What the run adds to the file's metadata."""
    facts: dict[str, Any] = {"checkpoint": which, "updates": int(getattr(agent, "updates", 0))}
    task = run.task
    if task is None:
        return facts
    options = parse_pairs(task.dataset_option)
    return facts | {
        "dataset": task.dataset,
        "dataset_options": options,
        "prepare": preparation(task.dataset, options, int(agent.image_channels), size),
    }


def preparation(dataset: str, options: Mapping[str, Any], channels: int, size: tuple[int, int] | None) -> str:
    """How a file becomes what the agent was trained on, in words.

    Args:
        dataset: name of the data set.
        options: its own.
        channels: C of an image.
        size: (H, W) that it was trained on; None: the files' own.
    """
    if dataset in IMAGES:
        colours = {1: "grey", 3: "red, green, blue"}.get(channels, f"{channels} channels")
        white = options.get("white")
        level = "255 (8 bits; of deeper files their own)" if white is None else f"{white}, cut at 1"
        values = f"{colours}; values divided by white, which is {level}"
        if options.get("scaling") == "percentiles":
            values = f"{colours}; each channel scaled so that {PERCENTILES_TOLD} over all images of the case, cut there"
    elif dataset in VOLUMES:
        values = (
            f"slices; each volume and channel by itself scaled so that {PERCENTILES_TOLD}, cut there and rounded to "
            "1/255"
        )
    else:
        values = f"as data set {dataset} reads its files, in [0, 1]"
    if size is None:
        return values
    if options.get("fit", "resize") == "crop":
        return f"{values}; cut, or filled up with 0, around the centre to {format_size(size)}"
    how = "by area average where both sides shrink (cv2.INTER_AREA), otherwise linearly"
    return f"resized to {format_size(size)} {how}; {values}"
