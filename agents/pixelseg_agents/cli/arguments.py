"""The arguments of each command; the text under a field is its help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from pixelseg_agents.checkpoint import CHECKPOINT
from pixelseg_agents.cli.options import RUNS_OWN, RunSizeFlag, SizeFlag, parse_pairs
from pixelseg_agents.registry import load_agent
from pixelseg_env import OptionError, PixelSegVectorEnv, SegmentationDataset, load_dataset

ConfigT = TypeVar("ConfigT")
AS_IN_RUN = "(default: as in the run)"
PATHS, PAIRS = "PATH [PATH ...]", "KEY=VALUE [KEY=VALUE ...]"
Split = Literal["train", "val", "test", "all"]
Switch = tyro.conf.FlagCreatePairsOff[bool]

# Help that is longer than a line; under a field, the parser would keep its line breaks.
DATASET = (
    "What to segment: phantom (generated, needs no files), folder (any images with masks), table (a CSV of image and "
    "mask files), brain (Kaggle LGG layout), nifti (volumes in the layouts of the Decathlon and nnU-Net), cardiac (a "
    "preset of it), dicom (series), or module:name of a loader of your own."
)
OPTIONS = (
    "The data set's own options.\n"
    "all: fit=crop, keep_empty=true, fractions=[0.7,0.1,0.2]\n"
    "brain: channels=flair\n"
    "nifti: label=1 or labels=1,2, channels=0, align=false; cardiac, dicom: label or labels, align\n"
    "folder: channels=grey (or rgb), mask_suffix=_mask, case_pattern=REGEX, threshold=127, invert=true, labels=1,2\n"
    "table: as folder, without mask_suffix\n"
    "phantom: count=400, seed=0"
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
    reward: str = "squared_error"
    """squared_error (Eq. 12), sign, balanced, dice_gain or cross_entropy."""
    coarse: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: 1 everywhere)")] = None
    """The run of a unet, on the same data and split, whose maps of probabilities additive starts from."""

    def load(self, *splits: str) -> dict[str, SegmentationDataset]:
        """Reads the data set once and cuts out the named splits."""
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

    @property
    def start(self) -> Any:
        """What makes the first maps of images; None: they are 1 everywhere."""
        return None if self.coarse is None else coarse_maps(self.coarse)

    def environment(self, dataset: SegmentationDataset, batch: int, device: str = "cpu") -> PixelSegVectorEnv:
        """Returns a vector environment of a data set that is cut already, on the GPU if the agent learns there."""
        place: dict[str, Any] = {"backend": "torch", "device": device} if device.startswith("cuda") else {}
        return PixelSegVectorEnv(
            **place,
            start=self.start,
            num_envs=batch,
            dataset=dataset,
            split="all",
            horizon=self.horizon,
            transition=self.transition,
            observation=self.observation,
            reward=self.reward,
        )


def coarse_maps(run: Path) -> Any:
    """The function from images to maps of probabilities that a run has learnt.

    Raises:
        OptionError: its agent has none.
    """
    agent = load_agent(run / CHECKPOINT if run.is_dir() else run)
    if not hasattr(agent, "probability"):
        raise OptionError(f"--coarse {run}: expected the run of a unet, got one of {agent.name}")
    return agent.probability


@dataclass(frozen=True, kw_only=True)
class TrainArguments(Generic[ConfigT]):
    """Arguments of `pixelseg train`."""

    agent: str = "pa3c"
    """Which agent learns."""
    preset: Literal["default", "published"] = "default"
    """Where the agent's hyperparameters start from; the flags below change single ones."""
    updates: int = 2000
    """Training length: one update is one batch of episodes (PA3C: one gradient step; AC and the DQNs: one per step)."""
    batch: int = 8
    """Images per update."""
    seed: int = 0
    """Of parameters, drawn images and actions; the same seed gives the same run (bit for bit on a CPU)."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
    out: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: runs/AGENT-DATASET-sSEED)")] = None
    """The run's folder; it must not hold a run already."""
    resume: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: start anew)")] = None
    """Go on with a run that was stopped, with its own arguments; --updates may be raised."""
    eval_every: int = 200
    """Updates between evaluations on the validation patients (eval/dice in the log); 0: never."""
    eval_split: Split = "test"
    """Which patients the finished agent is evaluated on."""
    save_every: float = 60.0
    """Seconds between checkpoints."""
    log_interval: int = 10
    """Updates per row of progress.csv."""
    log: Literal["bar", "stdout", "none"] = "bar"
    """What the terminal shows: a progress bar, Stable-Baselines3's tables, or nothing."""
    task: OmitArgPrefixes[TaskArguments] = field(default_factory=TaskArguments)
    hyper: OmitArgPrefixes[ConfigT]
    """Hyperparameters of the agent."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out or Path("runs") / f"{self.agent}-{self.task.dataset}-s{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without `resume`, which belongs to one call only."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        coarse = None if self.task.coarse is None else str(self.task.coarse)
        task = dataclasses.asdict(self.task) | {"data": [str(path) for path in self.task.data], "coarse": coarse}
        hyper = dataclasses.asdict(self.hyper)  # type: ignore[call-overload]
        del values["resume"]
        return values | {"hyper": hyper, "task": task, "out": str(self.folder)}

    @classmethod
    def from_json(cls, values: dict[str, Any], config: ConfigT) -> TrainArguments[ConfigT]:
        """The inverse of `to_json`, with the hyperparameters given apart."""
        return cls(**(values | {"task": task_from_json(values["task"]), "hyper": config, "out": Path(values["out"])}))


def task_from_json(values: dict[str, Any]) -> TaskArguments:
    """Reads what `dataclasses.asdict` made of `TaskArguments`, after a way through JSON."""
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    data = tuple(Path(path) for path in values.get("data", ()))
    coarse = Path(values["coarse"]) if values.get("coarse") else None
    return TaskArguments(**(values | lists | {"data": data, "coarse": coarse}))


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
    batch: int = 8
    """Images evaluated at once."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""


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
    dataset: Annotated[str | None, arg(metavar="STR", help_behavior_hint=AS_IN_RUN)] = None
    """Read the inputs as files of this data set; its options then start from their defaults."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar=PAIRS, help_behavior_hint=AS_IN_RUN)] = ()
    """That data set's own options; see pixelseg train --help."""
    overwrite: Switch = False
    """Replace masks that exist. An input is never replaced."""
    batch: int = 8
    """Slices of a volume segmented at once."""
    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda or cuda:N."""
