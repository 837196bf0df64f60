"""`pixelseg predict`: files in, masks out."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import AS_IN_RUN, Switch, parse
from pixelseg_agents.cli.options import RUNS_OWN, RunSizeFlag, parse_pairs
from pixelseg_agents.cli.outputs import Job, is_volume, label_targets, plan
from pixelseg_agents.cli.runs import open_run, run_size
from pixelseg_agents.files import write_atomically
from pixelseg_env import DataError, OptionError, PixelSegVectorEnv, SegmentationDataset, check_horizon
from pixelseg_env.datasets import brain, folder
from pixelseg_env.datasets.cardiac import volume_slices
from pixelseg_env.datasets.fitting import check_size, fit_image, fit_mask
from pixelseg_env.datasets.nifti import read_volume

Masks = NDArray[np.uint8]
DEFAULT_HORIZON = 10

PREDICT = """\
Segments images and NIfTI volumes. A mask has the size of its input.
In image files it is 0 and 255, in NIfTI 0 and 1, in the place of the volume.

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
    """Images (png, jpg, tif, bmp), NIfTI volumes (.nii, .nii.gz), or folders of them."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """The mask's file for one input; a folder for several."""
    horizon: Annotated[int | None, arg(metavar="INT", help_behavior_hint=AS_IN_RUN)] = None
    """Steps of the episode."""
    native: Switch = False
    """Segment at each image's own size instead of the training size."""
    size: Annotated[RunSizeFlag, arg(help_behavior_hint=AS_IN_RUN)] = RUNS_OWN  # type: ignore[assignment]
    """The size to segment at; masks are always brought back to the image's own size."""
    overwrite: Switch = False
    """Replace masks that exist. An input is never replaced."""
    batch: int = 8
    """Slices of a volume segmented at once."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""


def main(words: list[str]) -> int:
    """Segments every input and writes its mask; returns the exit code."""
    return predict(parse(PredictArguments, words, "predict", PREDICT))


@dataclass(frozen=True)
class FilePredictor:
    """An agent and how its images are prepared.

    Attributes:
        agent: has `predict`, `channels`, `transition` and `observation`.
        size: (H, W) to segment at; None: the image's own.
        horizon: steps of an episode.
        dataset: name of the data set that the agent was trained on.
        options: that data set's options.
        batch: images at once.
        start: what makes the first maps of images, for an agent that refines them; see `PixelSegEnv`.
    """

    agent: Any
    size: tuple[int, int] | None
    horizon: int = DEFAULT_HORIZON
    dataset: str = "folder"
    options: dict[str, Any] | None = None
    batch: int = 8
    start: Any = None

    @property
    def channels(self) -> int:
        """Channels of an image, without the map that a stacked observation adds."""
        total, labels = int(self.agent.channels), len(self.label_names)
        return total - labels if self.agent.observation == "stacked" else total // labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the agent segments; more than one name makes masks (L, ...)."""
        return tuple(getattr(self.agent, "label_names", ("object",)))

    @property
    def fit(self) -> str:
        """How images are brought to the size: "resize" or "crop"."""
        return str((self.options or {}).get("fit", "resize"))

    def segment_image(self, path: Path) -> Masks:
        """Segments an image file; returns 0 and 1, uint8 (H, W) of the image's own size, or (L, H, W)."""
        if self.dataset == "brain":
            pixels: NDArray[Any] = brain.read_image(path, str((self.options or {}).get("channels", "all")))
        else:
            pixels = folder.read_image(path, "grey" if self.channels == 1 else "rgb")
        native = pixels.shape[0], pixels.shape[1]
        image = fit_image(pixels, self.size or native, self.fit)
        self._check_channels(path, image.shape[0])
        masks = self.segment(np.ascontiguousarray(image[None]))[0]
        return self._fitted(masks, native)

    def segment_volume(self, path: Path) -> Masks:
        """Segments a NIfTI volume slice by slice; returns 0 and 1, uint8 (X, Y, Z), or (L, X, Y, Z)."""
        self._check_channels(path, 1)
        volume = read_volume(path)
        native = volume.shape[0], volume.shape[1]
        images = volume_slices(volume, range(volume.shape[2]), self.size or native, self.fit)
        return np.stack([self._fitted(masks, native) for masks in self.segment(images)], axis=-1)

    def _fitted(self, masks: Masks, native: tuple[int, int]) -> Masks:
        """Masks (H, W), or (L, H, W), at the input's own size."""
        if masks.ndim == 2:
            return fit_mask(masks, native, self.fit)
        return np.stack([fit_mask(mask, native, self.fit) for mask in masks])

    def segment(self, images: NDArray[Any]) -> Masks:
        """Plays one episode per image, from f(0) = 1.

        Args:
            images: (N, C, H, W), uint8 or float32 in [0, 1].

        Returns:
            f(horizon), uint8 (N, H, W), or (N, L, H, W) with L > 1 labels.
        """
        count, _, height, width = images.shape
        labels = (len(self.label_names),) if len(self.label_names) > 1 else ()
        # The truth: nobody knows it, and no agent sees it.
        unknown = np.zeros((count, *labels, height, width), np.uint8)
        dataset = SegmentationDataset("prediction", images, unknown, ("",) * count, np.arange(count))
        size = min(self.batch, count)
        env = PixelSegVectorEnv(
            num_envs=size,
            dataset=dataset,
            split="all",
            horizon=self.horizon,
            transition=self.agent.transition,
            observation=self.agent.observation,
            start=self.start,
        )
        masks = np.empty_like(unknown)
        for start in range(0, count, size):
            index = np.minimum(np.arange(start, start + size), count - 1)
            observation, info = env.reset(options={"index": index})
            state, fresh = None, np.ones(size, np.bool_)
            for _ in range(self.horizon):
                actions, state = self.agent.predict(observation, state=state, episode_start=fresh)
                observation, _, _, _, info = env.step(actions)
                fresh = np.zeros(size, np.bool_)
            masks[index] = info["segmentation"]
        return masks

    def _check_channels(self, path: Path, got: int) -> None:
        if got != self.channels:
            raise DataError(f"{path}: gives {got} channel(s), but the agent was trained on {self.channels}")


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
    options = parse_pairs(task.dataset_option) if task else {}
    skip = str(options.get("mask_suffix", "_mask"))
    agent = run.load_agent(device=arguments.device)
    names = getattr(agent, "label_names", ("object",))
    jobs = plan(arguments.inputs, arguments.out, arguments.overwrite, skip, names)
    dataset, start = (task.dataset, task.coarse_maps()) if task else ("folder", None)
    predictor = FilePredictor(agent, size, check_horizon(horizon), dataset, options, arguments.batch, start)
    for job in jobs:
        run_job(predictor, job)
    return 0


def run_job(predictor: FilePredictor, job: Job) -> None:
    """Segments one file and writes its mask, or with several labels one mask per label."""
    volume = is_volume(job.source)
    masks = predictor.segment_volume(job.source) if volume else predictor.segment_image(job.source)
    names = predictor.label_names
    for mask, name, target in zip(
        masks if len(names) > 1 else [masks], names, label_targets(job.target, names), strict=True
    ):
        if volume:
            content = _nifti(job.source, mask, compressed=target.name.lower().endswith(".gz"))
        else:
            content = cv2.imencode(target.suffix.lower(), mask * 255)[1].tobytes()
        try:
            write_atomically(target, content)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror})") from error
        print(f"{target}: {mask.mean():.1%} of {job.source} is {name}")


def _nifti(source: Path, mask: Masks, compressed: bool) -> bytes:
    """The mask as a NIfTI file with the geometry of `source`."""
    image: Any = nib.load(source)
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"], header["cal_max"] = 0, 1
    header["descrip"] = b"PixelSeg mask"
    header.extensions.clear()  # they describe the image's voxels
    content: bytes = type(image)(mask.reshape(image.shape), image.affine, header).to_bytes()
    return gzip.compress(content, mtime=0) if compressed else content
