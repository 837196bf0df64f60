"""`pixelseg predict`: files in, masks out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import AS_IN_RUN, PAIRS, Switch, Which, parse
from pixelseg_agents.cli.bar import brief_bar, say
from pixelseg_agents.cli.options import RUNS_OWN, RunSizeFlag, parse_pairs
from pixelseg_agents.cli.outputs import OVERLAY, SURE, Job, beside, label_targets, plan
from pixelseg_agents.cli.probabilities import probabilities
from pixelseg_agents.cli.runs import open_run, run_size, too_short
from pixelseg_agents.evaluation import segment
from pixelseg_agents.files import reason, write_atomically
from pixelseg_agents.learning.room import out_of_memory
from pixelseg_env import DataError, OptionError, PixelSegError, check_horizon
from pixelseg_env.datasets import FileImages, FileReader, check_size, file_reader
from pixelseg_env.rendering import contour_panel

Masks = NDArray[np.uint8]
DEFAULT_HORIZON = 10
DEFAULT_DATASET = "folder"  # of a checkpoint without a run

PREDICT = """\
Segments images, stacks and NIfTI volumes. A mask has the size of its input and lies on the file's own pixels.
In image files it is 0 and 255, in NIfTI 0 and 1, in the place of the volume. A stack of pages gets a stack of masks.
Of several inputs, those that cannot be read are left out and named at the end; the exit code is then 1.

Examples:
  pixelseg predict runs/first scan.png -o mask.png
  pixelseg predict runs/first scans/ -o masks/
  pixelseg predict runs/heart case1.nii.gz case2.nii.gz -o masks/
"""


@dataclass(frozen=True)
class PredictArguments:
    """Arguments of `pixelseg predict`."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run's folder, or a checkpoint file."""
    inputs: Positional[Annotated[tuple[Path, ...], arg(metavar="IN [IN ...]", help_behavior_hint="(required)")]]
    """Files of the kinds that the run's data set reads, or folders of them; see --dataset."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """The mask's file for one input; a folder for several."""
    horizon: Annotated[int | None, arg(metavar="INT", help_behavior_hint=AS_IN_RUN)] = None
    """Steps of the episode."""
    native: Switch = False
    """Segment at each image's own size instead of the training size."""
    size: Annotated[RunSizeFlag, arg(help_behavior_hint=AS_IN_RUN)] = RUNS_OWN  # type: ignore[assignment]
    """The size to segment at; masks are always brought back to the image's own size."""
    dataset: Annotated[str | None, arg(metavar="STR", help_behavior_hint=AS_IN_RUN)] = None
    """Read the inputs as files of this data set; its options then start from their defaults."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar=PAIRS, help_behavior_hint=AS_IN_RUN)] = ()
    """That data set's own options; see pixelseg train --help."""
    overwrite: Switch = False
    """Replace masks that exist. An input is never replaced."""
    overlay: Switch = False
    """Also write <mask>_overlay.png, the image with the mask's outline (of a stack or volume, one slice)."""
    probabilities: Switch = False
    """Also write <mask>_probability (TIFF or NIfTI, float32): of each pixel the probability of being object."""
    checkpoint: Which = "last"
    """Which of the run's checkpoints: the last, or the best on validation patients."""
    batch: int = 8
    """Slices of a volume or stack segmented at once; fewer need less memory."""
    log: Literal["bar", "none"] = "bar"
    """What the terminal shows of what takes more than a second: slices and files done and the time left, or nothing."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""


def main(words: list[str]) -> int:
    """Segments every input and writes its mask; returns the exit code."""
    return predict(parse(PredictArguments, words, "predict", PREDICT))


@dataclass(frozen=True)
class FilePredictor:
    """An agent and how its images are prepared.

    Attributes:
        agent: has `predict`, `image_channels`, `transition` and `observation`.
        size: (H, W) to segment at; None: the image's own.
        horizon: steps of an episode.
        dataset: name of the data set whose files the inputs are.
        options: that data set's options.
        batch: images at once.
        start: what makes the first maps of images, for an agent that refines them; see `PixelSegEnv`.
        bar: whether a progress bar is shown of what takes more than a second.
        title: what that calls the images.
    """

    agent: Any
    size: tuple[int, int] | None
    horizon: int = DEFAULT_HORIZON
    dataset: str = DEFAULT_DATASET
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 8
    start: Any = None
    bar: bool = False
    title: str = "images"

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.agent.image_channels)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the agent segments; more than one name makes masks (L, ...)."""
        return tuple(getattr(self.agent, "label_names", ("object",)))

    @property
    def reader(self) -> FileReader:
        """What reads the inputs.

        Raises:
            OptionError: the data set does not say how one file of it is read.
        """
        return file_reader(self.dataset)

    def read(self, path: Path) -> FileImages:
        """Reads a file as the agent saw such files in training.

        Raises:
            DataError: it cannot be read, or has another number of channels.
        """
        fit = str(self.options.get("fit", "resize"))
        file = self.reader.read(path, self.size, fit, self.channels, self.options)
        if file.images.shape[1] != self.channels:
            raise DataError(
                f"{path}: gives {file.images.shape[1]} channel(s), but the agent was trained on {self.channels}"
            )
        return file

    def segment(self, images: NDArray[Any]) -> Masks:
        """Plays one episode per image, from f(0) = 1.

        Args:
            images: (N, C, H, W), uint8 or float32 in [0, 1].

        Returns:
            f(horizon), uint8 (N, H, W), or (N, L, H, W) with L > 1 labels.
        """
        with brief_bar(len(images), "slice" if len(images) > 1 else "image", self.title, self.bar) as bar:
            return segment(self.agent, images, self.horizon, self.batch, self.start, bar.update)


def predict(arguments: PredictArguments) -> int:
    """Segments every input and writes its mask; returns the exit code."""
    if arguments.batch < 1:
        raise OptionError(f"--batch {arguments.batch}: expected 1 or more")
    if arguments.native and arguments.size != RUNS_OWN:
        raise OptionError("--native and --size: give one of them")
    run = open_run(arguments.run)
    task = run.task
    own = task.horizon if task else DEFAULT_HORIZON
    horizon = own if arguments.horizon is None else arguments.horizon
    size = None if arguments.native else check_size(run_size(run, arguments.size))
    agent = run.load_agent(device=arguments.device, which=arguments.checkpoint)
    if warning := too_short(agent, horizon):
        print(f"pixelseg: warning: {warning}", file=sys.stderr)
    dataset, start = DEFAULT_DATASET, None
    pairs: tuple[str, ...] = ()
    if task:
        dataset, pairs, start = task.dataset, task.dataset_option, task.first_maps()
    if arguments.dataset not in (None, dataset):
        dataset, pairs = str(arguments.dataset), ()  # the options of one data set are not another's
    options = parse_pairs(arguments.dataset_option or pairs)
    shown = arguments.log == "bar"
    predictor = FilePredictor(agent, size, check_horizon(horizon), dataset, options, arguments.batch, start, shown)
    print(f"{run.file(arguments.checkpoint)}, the {arguments.checkpoint} checkpoint of the run")
    extras = [name for name, wanted in ((OVERLAY, arguments.overlay), (SURE, arguments.probabilities)) if wanted]
    jobs = plan(predictor, arguments.inputs, arguments.out, arguments.overwrite, extras)
    if len(jobs) == 1:
        run_job(predictor, jobs[0], *extras)
        return 0
    return run_jobs(predictor, jobs, *extras)


def run_jobs(predictor: FilePredictor, jobs: Sequence[Job], *extras: str) -> int:
    """Segments files one by one; one that cannot be read is left out, and named at the end.

    Returns:
        The exit code: 0; 1 if some failed, 2 if all did.
    """
    failed: list[str] = []
    with brief_bar(len(jobs), "file", "files", predictor.bar) as bar:
        for job in jobs:
            try:
                run_job(predictor, job, *extras)
            except PixelSegError as error:
                failed.append(str(error))
                say(f"pixelseg: {error}", sys.stderr)
            bar.update()
    if failed:
        print(f"pixelseg: {len(failed)} of {len(jobs)} inputs have no mask:", *failed, sep="\n  ", file=sys.stderr)
    return 0 if not failed else 1 if len(failed) < len(jobs) else 2


def run_job(predictor: FilePredictor, job: Job, *extras: str) -> None:
    """Segments one file and writes its mask, or with several labels one mask per label.

    Args:
        predictor: the agent.
        job: the file, and where its mask goes.
        *extras: OVERLAY, the image with the mask's outline; SURE, the probabilities.

    Raises:
        PixelSegError: the file cannot be read or its masks cannot be written, or memory is too short.
    """
    try:
        _run_job(replace(predictor, title=job.source.name), job, *extras)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        size = "their own size" if predictor.size is None else "{}x{} pixels".format(*predictor.size)
        raise OptionError(
            f"{job.source}: memory is too short for its images at {size} ({reason(error)}); choose a smaller --size"
        ) from error


def _run_job(predictor: FilePredictor, job: Job, *extras: str) -> None:
    file, names, reader = predictor.read(job.source), predictor.label_names, predictor.reader
    masks = by_label(file.restore(predictor.segment(file.images)), names)
    sure = _sure(predictor, file, names) if SURE in extras else [None] * len(names)
    for mask, name, values, target in zip(masks, names, sure, label_targets(reader, job.target, names), strict=True):
        _write(target, file.encode(np.ascontiguousarray(mask), target.name))
        say(f"{target}: {mask.mean():.1%} of {job.source} is {name}")
        if OVERLAY in extras:
            picture, number = draw_overlay(replace(predictor, size=None).read(job.source), mask)
            place = beside(reader, target, OVERLAY)
            _write(place, picture)
            say(f"{place}: its outline" + (f" in slice {number} of {len(mask)}" if len(mask) > 1 else ""))
        if values is not None and file.encode_values is not None:
            place = beside(reader, target, SURE)
            _write(place, file.encode_values(values, place.name))
            say(f"{place}: the probability of {name}, {values.min():.3g} to {values.max():.3g}")


def by_label(maps: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
    """Maps (N, H, W), or (N, L, H, W) with L > 1 labels, as (L, N, H, W)."""
    return np.moveaxis(maps, 1, 0) if len(names) > 1 else maps[None]


def _sure(predictor: FilePredictor, file: FileImages, names: Sequence[str]) -> list[NDArray[np.float32]]:
    """The probabilities of each label, of native size."""
    if file.encode_values is None:
        raise OptionError(f"--probabilities: data set {predictor.dataset!r} does not say how maps are written")
    title = f"{predictor.title}, probabilities"
    maps = probabilities(
        predictor.agent,
        file.images,
        predictor.horizon,
        predictor.batch,
        lambda watched: replace(predictor, agent=watched, title=title).segment(file.images),
    )
    return [file.restore_values(np.ascontiguousarray(one)) for one in by_label(maps, names)]


def draw_overlay(file: FileImages, masks: Masks) -> tuple[bytes, int]:
    """A PNG of an image with the outline of its mask.

    Args:
        file: the images, of native size.
        masks: uint8 (N, H, W).

    Returns:
        The file's content, and which of the N images it shows: the one with most of the object.
    """
    import cv2

    number = int(masks.reshape(len(masks), -1).sum(axis=1).argmax())
    image = file.images[number]
    pixels = image.astype(np.float32) / np.float32(255 if image.dtype == np.uint8 else 1)
    panel = contour_panel(pixels, np.ascontiguousarray(masks[number]))
    return bytes(cv2.imencode(".png", panel[..., ::-1])[1].tobytes()), number


def _write(target: Path, content: bytes) -> None:
    try:
        write_atomically(target, content)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror})") from error
