"""Runs of `pixelseg train`, as benchmarks read them: agent, images and rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelseg_agents.checkpoint import CHECKPOINT
from pixelseg_agents.files import parse_value, read_json, reason
from pixelseg_agents.learning.looking import make_look
from pixelseg_agents.registry import load_agent
from pixelseg_env import DataError, PixelSegVectorEnv, SegmentationDataset, load_dataset

CONFIG = "config.json"
RULES = ("transition", "observation", "observe_time", "reward")


@dataclass(frozen=True)
class TrainedRun:
    """What a training has left.

    Attributes:
        name: of its folder.
        agent: that it trained.
        dataset: the images of one part of its data.
        horizon: steps of an episode, as it was trained.
        rules: of its environments.
        about: what it says of its data, by name.
    """

    name: str
    agent: Any
    dataset: SegmentationDataset
    horizon: int
    rules: dict[str, Any]
    about: dict[str, Any]

    def environment(self, count: int) -> PixelSegVectorEnv:
        """The environment of `count` of its images at once."""
        return PixelSegVectorEnv(count, self.dataset, split="all", horizon=self.horizon, **self.rules)


def open_run(path: Path, part: str, device: str = "cpu") -> TrainedRun:
    """Reads a run.

    Args:
        path: its folder, or a checkpoint in it.
        part: "train", "val" or "test".
        device: where the agent is put.

    Raises:
        DataError: there is no such run, or it starts from another one's maps.
        CheckpointError: its checkpoint is damaged.
    """
    folder = path if path.is_dir() else path.parent
    checkpoint = path / CHECKPOINT if path.is_dir() else path
    try:
        config = read_json(folder / CONFIG)
        arguments = config["arguments"]
        task, hyper = arguments["task"], arguments["hyper"]
        data = [Path(config.get("working_folder", "."), one) for one in task["data"]]
        options = {key.replace("-", "_"): parse_value(text) for key, _, text in _pairs(task["dataset_option"])}
        split = {"split_by": task["split_by"], "split_seed": task["split_seed"]}
        split |= {"fractions": options["fractions"]} if "fractions" in options else {}
        size = tuple(task["size"]) if isinstance(task["size"], list) else task["size"]
        rules = {name: task[name] for name in RULES} | ({} if task["start"] == "ones" else {"start": task["start"]})
        coarse, horizon, named = task["coarse"], int(task["horizon"]), str(arguments["agent"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a run that pixelseg train made ({reason(error)})") from error
    if coarse:
        raise DataError(f"{path}: starts from the maps of {coarse}; expected a run whose maps start without another")
    if isinstance(look := hyper.get("look"), str):
        make_look(look)  # the run's own configuration says that its module may be imported
    agent = load_agent(checkpoint, device=device, agent=named, network=hyper.get("network"))
    whole = load_dataset(task["dataset"], data=data or None, split="all", size=size, **(options | split))
    dataset = load_dataset(whole, split=part, **split)
    told = ("dataset", "size", "dataset_option", "split_by", "split_seed")
    about = {"part": part} | {name: task[name] for name in told}
    return TrainedRun(folder.name, agent, dataset, horizon, rules, about)


def _pairs(options: list[str]) -> list[tuple[str, str, str]]:
    return [one.partition("=") for one in options]
