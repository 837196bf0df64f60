"""The flags that say what is segmented, and by which rules."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from pixelseg_agents.checkpoint import CHECKPOINT
from pixelseg_agents.cli.arguments import PAIRS, PATHS
from pixelseg_agents.cli.options import SizeFlag, format_size, parse_pairs
from pixelseg_agents.registry import load_agent
from pixelseg_env import (
    OptionError,
    PixelSegVectorEnv,
    SegmentationDataset,
    load_dataset,
    registered_datasets,
    registered_rewards,
)
from pixelseg_env.datasets import own_options

# Help that is longer than a line; under a field, the parser would keep its line breaks. A data set that is not told of
# here stands there with its name and the names of its options.
TOLD = {
    "phantom": "generated, needs no files",
    "folder": "any images with masks",
    "table": "a CSV of image and mask files",
    "brain": "Kaggle LGG layout",
    "nifti": "volumes in the layouts of the Decathlon and nnU-Net",
    "cardiac": "a preset of nifti",
    "hecktor": "another",
    "dicom": "series",
}
OPTIONS_TOLD = {
    "all": "fit=crop, keep_empty=true, fractions=[0.7,0.1,0.2]",
    "brain": "channels=flair, white=4095 or scaling=percentiles (of each patient)",
    "nifti": "label=1 or labels=1,2, channels=0, align=false, axis=2 (or 0, 1: of the slices)",
    "cardiac": "label or labels, align, axis",
    "hecktor": "modality=pt (or ct), boxes=false, axis",
    "dicom": "label or labels, align",
    "folder": "channels=grey (or rgb), mask_suffix=_mask, case_pattern=REGEX, threshold=127, invert=true, labels=1,2, "
    "white=4095 or scaling=percentiles (of each case)",
    "table": "as folder, without mask_suffix and scaling",
    "phantom": "count=400, seed=0, labels=1 or 2",
}


def _datasets_help() -> str:
    names = [*TOLD, *(name for name in registered_datasets() if name not in TOLD)]
    listed = ", ".join(f"{name} ({TOLD[name]})" if name in TOLD else name for name in names)
    return f"What to segment: {listed}, or module:name of a loader of your own."


def _options_help() -> str:
    lines = [f"{name}: {text}" for name, text in OPTIONS_TOLD.items()]
    for name in registered_datasets():
        if name not in OPTIONS_TOLD:
            lines.append(f"{name}: {', '.join(own_options(name) or ['none of its own'])}")
    return "The data set's own options.\n" + "\n".join(lines)


DATASET, OPTIONS = _datasets_help(), _options_help()
REWARD = (
    f"{', '.join(registered_rewards())}, module:name of a function of your own, or a sum, such as "
    "'0.7*squared_error + 0.3*dice_gain'. squared_error is Eq. 12."
)
SPLIT_BY = (
    "What is dealt out to train (70 %), val (10 %) and test (20 %). By slice, neighbouring slices of a patient leak "
    "from training into test."
)


@dataclass(frozen=True)
class TaskArguments:
    """The data, and the rules of the game that the pixels play."""

    dataset: Annotated[str, arg(help=DATASET)] = "phantom"
    data: Annotated[tuple[Path, ...], arg(metavar=PATHS, help_behavior_hint="(default: $PIXELSEG_DATA)")] = ()
    """Folder of the data set's files, or several."""
    size: SizeFlag = 64
    """Every image becomes SIDE x SIDE or H x W pixels; none keeps the native size."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar=PAIRS, help=OPTIONS, help_behavior_hint="")] = ()
    split_by: Annotated[Literal["patient", "slice"], arg(help=SPLIT_BY)] = "patient"
    split_seed: int = 0
    """Seed of that deal; keep it the same to compare runs."""
    horizon: int = 10
    """Steps of an episode, t_max, when the agent is evaluated or used."""
    transition: Literal["absorbing", "restorable", "additive"] = "absorbing"
    """Is zero final (absorbing), is every pixel decided anew at each step (restorable), or does an action add to a map
    of probabilities (additive, for pixelrl)?"""
    observation: Literal["masked", "stacked"] = "masked"
    """What the agent sees: the image under the map (masked), or image and map as channels (stacked)."""
    observe_time: bool = False
    """One plane more in what the agent sees: 1 / steps left, so that 1 means that this is the last decision."""
    reward: Annotated[str, arg(help=REWARD)] = "squared_error"
    start: Literal["ones", "image"] = "ones"
    """The first map: 1 everywhere (ones), or where the image is not 0 (image; absorbing alone), so that pixels without
    an intensity are background from the beginning. With --reward intensity_error it is another reading of the
    publication."""
    order: Literal["random", "shuffled", "sequential"] = "random"
    """How training draws images: each by itself, every one once before any twice (shuffled), or as they lie there."""
    coarse: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: 1 everywhere)")] = None
    """The run of a supervised network, on the same data and split, whose maps of probabilities additive starts from."""

    def load(self, *splits: str) -> dict[str, SegmentationDataset]:
        """Reads the data set once and cuts out the named splits."""
        if self.coarse is not None and self.transition != "additive":
            raise OptionError(
                f"--coarse {self.coarse}: its maps are where additive episodes start, and --transition is "
                f"{self.transition}; give --transition additive (with --agent pixelrl), or leave --coarse out"
            )
        options = parse_pairs(self.dataset_option)
        split_by: dict[str, Any] = {"split_by": self.split_by, "split_seed": self.split_seed}
        if "fractions" in options:
            split_by["fractions"] = options["fractions"]
        # With the split's options, so that they are checked before any file is read.
        whole = load_dataset(
            self.dataset,
            data=list(self.data) or None,
            split="all",
            size=self.size,
            **(options | split_by),
        )
        return {split: load_dataset(whole, split=split, **split_by) for split in splits}

    def first_maps(self) -> Any:
        """What makes the first maps of images, see `PixelSegEnv`; None: they are 1 everywhere."""
        if self.coarse is not None:
            return coarse_maps(self.coarse)
        return None if self.start == "ones" else self.start

    def environment(self, dataset: SegmentationDataset, batch: int, device: str = "cpu") -> PixelSegVectorEnv:
        """Returns a vector environment of a data set that is cut already, on the GPU if the agent learns there."""
        place: dict[str, Any] = {"backend": "torch", "device": device} if device.startswith("cuda") else {}
        return PixelSegVectorEnv(
            **place,
            start=self.first_maps(),
            num_envs=batch,
            dataset=dataset,
            split="all",
            horizon=self.horizon,
            transition=self.transition,
            observation=self.observation,
            observe_time=self.observe_time,
            reward=self.reward,
            order=self.order,
        )


def coarse_maps(run: Path) -> Any:
    """The function from images to maps of probabilities that a run has learnt.

    Raises:
        CheckpointError: the run's checkpoint is damaged.
        OptionError: there is no such run, or its agent has no such maps.
    """
    return coarse_agent(run).probability


def coarse_agent(run: Path) -> Any:
    """The agent behind `coarse_maps`; raises what that does."""
    checkpoint = run / CHECKPOINT if run.is_dir() else run
    if not checkpoint.exists():
        raise OptionError(
            f"--coarse {run}: no such run; expected a folder that pixelseg train made, which holds a {CHECKPOINT}, or "
            "a checkpoint file"
        )
    agent = _read_once(checkpoint, checkpoint.stat().st_mtime_ns)
    if not hasattr(agent, "probability"):
        raise OptionError(f"--coarse {run}: expected the run of a supervised network, got one of {agent.name}")
    return agent


@lru_cache(maxsize=2)
def _read_once(checkpoint: Path, written: int) -> Any:
    """The agent of a checkpoint; every environment of a command starts from its maps."""
    return load_agent(checkpoint)


def task_from_json(values: dict[str, Any]) -> TaskArguments:
    """Reads what `dataclasses.asdict` made of `TaskArguments`, after a way through JSON."""
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    data = tuple(Path(path) for path in values.get("data", ()))
    coarse = Path(values["coarse"]) if values.get("coarse") else None
    return TaskArguments(**(values | lists | {"data": data, "coarse": coarse}))


# What tells one report's data from another's.
DATA_KEYS = ("dataset", "data", "options", "size", "split", "split_by", "split_seed", "images", "content")


def described(task: TaskArguments, dataset: SegmentationDataset) -> dict[str, Any]:
    """What was judged, for a report: where the data came from, how it was cut, and a checksum of its content."""
    return {
        "dataset": task.dataset,
        "data": [str(path.resolve()) for path in task.data] or os.environ.get("PIXELSEG_DATA", ""),
        "options": list(task.dataset_option),
        "size": format_size(task.size),
        "split_by": task.split_by,
        "split_seed": task.split_seed,
        "images": len(dataset),
        "patients": len(set(dataset.cases)),
        "content": f"{zlib.crc32(dataset.masks.tobytes(), zlib.crc32(dataset.images.tobytes())):08x}",
    }
