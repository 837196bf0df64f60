"""`pixelseg rewards compare`: the same small agent, trained under several rewards."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from stable_baselines3.common.logger import Logger
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import Switch, parse
from pixelseg_agents.cli.bar import progress_bar
from pixelseg_agents.cli.interruption import Interruption
from pixelseg_agents.cli.runs import check_free, held
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.evaluation.comparing import RewardResult, TrainedUnder, comparison_table
from pixelseg_agents.evaluation.figures.rewards import rewards_figure
from pixelseg_agents.evaluation.watching import images_with_objects
from pixelseg_agents.files import write_atomically
from pixelseg_agents.learning.device import resolve_device
from pixelseg_agents.pa3c import PA3C
from pixelseg_agents.references import KeepAll, Oracle
from pixelseg_env import OptionError, PixelSegVectorEnv, SegmentationDataset, check_horizon, load_dataset
from pixelseg_env.rewards import resolve_reward

DESCRIPTION = """\
Trains the same small PA3C under each of some rewards, on generated pictures, from the same seeds, and sets side by
side what it earned and what that was worth: return beside Dice, how many trainings collapsed (ended no better than
keeping everything), and the masks. What earns more than a perfect segmentation has found a loophole.

The agent weighs object and background alike, so that the reward alone speaks; --balance gives object pixels more weight
at first, as pixelseg train does by default under Eq. 12.

Examples:
  pixelseg rewards compare squared_error balanced difference
  pixelseg rewards compare squared_error gain_only --transition restorable
  pixelseg rewards compare squared_error 'squared_error + 0.3*dice_gain' my_module:bonus --seeds 3 --out runs/mine
"""

CURVE = 40  # points
SHOWN = 3  # images


@dataclass(frozen=True)
class RewardCompareArguments:
    """Arguments of `pixelseg rewards compare`."""

    rewards: Positional[Annotated[tuple[str, ...], arg(metavar="REWARD [REWARD ...]", help_behavior_hint="(required)")]]
    """Names that pixelseg rewards list shows, module:name of your own, or expressions of these."""
    transition: Literal["absorbing", "restorable"] = "absorbing"
    """By which rules pixels play, as in pixelseg train."""
    observation: Literal["masked", "stacked"] = "stacked"
    """What the agent sees, as in pixelseg train."""
    horizon: int = 4
    """Steps of an episode, in training and after it."""
    seeds: int = 2
    """Trainings under each reward."""
    updates: int = 400
    """Length of a training."""
    batch: int = 8
    """Images per update."""
    size: int = 32
    """Side of the pictures in pixels."""
    width: float = 0.1
    """Of the network; 1 is the publication's size."""
    learning_rate: float = 2e-3
    """Of Adam, at the start."""
    gamma: float = 0.95
    """Discount; shaping needs the same."""
    balance: Switch = False
    """Let object pixels weigh more at first, by as much as there are more background pixels."""
    device: str = "cpu"
    """cpu, which gives the same numbers each time, auto, cuda or cuda:N."""
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("runs/rewards")
    """Folder for compare.png, compare.md and compare.json; it must be empty, or not be there yet."""


def main(words: list[str]) -> int:
    """Trains, draws and writes; returns the exit code."""
    arguments: RewardCompareArguments = parse(RewardCompareArguments, words, "rewards compare", DESCRIPTION)
    names = _checked(arguments)
    check_free(arguments.out)
    sets = {split: load_dataset("phantom", split=split, size=arguments.size) for split in ("train", "test")}
    with held(arguments.out):
        results = _trained(arguments, names, sets)
        if isinstance(results, int):
            return results
        _write(arguments, results, sets["test"])
    print(comparison_table(results))
    print(f"\nLearning curves and masks: {arguments.out / 'compare.png'}")
    return 0


def _checked(arguments: RewardCompareArguments) -> list[str]:
    """The rewards' texts, once everything is found to be in order.

    Raises:
        OptionError: it is not.
    """
    if not arguments.rewards:
        raise OptionError(
            "rewards compare: expected one reward or more; pixelseg rewards list shows those that there are"
        )
    for name, least in {"seeds": 1, "updates": 1, "batch": 1, "size": 8}.items():
        if getattr(arguments, name) < least:
            raise OptionError(f"--{name} {getattr(arguments, name)}: expected {least} or more")
    check_horizon(arguments.horizon)
    names = [str(resolve_reward(reward)) for reward in arguments.rewards]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise OptionError(f"rewards compare: {', '.join(sorted(twice))} is given twice")
    return names


def _trained(
    arguments: RewardCompareArguments, names: list[str], sets: dict[str, SegmentationDataset]
) -> list[RewardResult] | int:
    """Trains under each reward from each seed; returns what came of it, or the exit code of a signal."""
    runs: dict[str, list[TrainedUnder]] = {name: [] for name in names}
    bar = progress_bar(len(names) * arguments.seeds * arguments.updates, "update")
    with Interruption(speaks=False) as interruption, bar:
        for seed in range(arguments.seeds):
            for name in names:
                bar.set_description(f"{name}, seed {seed}")

                def after_update(_: Any) -> bool:
                    bar.update()
                    return interruption.signal is None

                runs[name].append(_one(arguments, name, seed, sets, after_update))
                if interruption.signal is not None:
                    print("Stopped; nothing was written.")
                    return interruption.exit_code
    results = []
    for name in names:
        env = _environment(arguments, name, sets["test"])
        perfect, kept = (evaluate(one, env, keep_maps=False) for one in (Oracle(env), KeepAll()))
        results.append(
            RewardResult(name, tuple(runs[name]), float(perfect.returns.mean()), float(kept.metrics["DICE"].mean()))
        )
    return results


def _environment(arguments: RewardCompareArguments, reward: str, dataset: SegmentationDataset) -> PixelSegVectorEnv:
    return PixelSegVectorEnv(
        min(arguments.batch, len(dataset)),
        dataset,
        split="all",
        horizon=arguments.horizon,
        transition=arguments.transition,
        observation=arguments.observation,
        reward=reward,
    )


def _one(
    arguments: RewardCompareArguments, reward: str, seed: int, sets: dict[str, SegmentationDataset], after_update: Any
) -> TrainedUnder:
    """One training, and what its agent does on the test images."""
    agent = PA3C(
        _environment(arguments, reward, sets["train"]),
        seed=seed,
        device=resolve_device(arguments.device),
        width=arguments.width,
        horizons=(arguments.horizon,),
        learning_rate=arguments.learning_rate,
        gamma=arguments.gamma,
        foreground_weight="ratio" if arguments.balance else 1.0,
        later_background_weight=1.0,
    )
    curve = Curve()
    agent.learn(arguments.updates, callback=after_update, log_interval=max(1, arguments.updates // CURVE), logger=curve)
    test = sets["test"]
    found = evaluate(agent, _environment(arguments, reward, test))
    maps = np.stack([found.maps(k) for k in images_with_objects(test, SHOWN)])
    rows = curve.rows
    return TrainedUnder(
        seed,
        [updates for updates, _, _ in rows],
        [earned for _, earned, _ in rows],
        [dice for _, _, dice in rows],
        float(found.returns.mean()),
        float(found.metrics["DICE"].mean()),
        maps,
    )


class Curve(Logger):
    """A log that keeps return and Dice of training episodes.

    Attributes:
        rows: updates, mean return and mean Dice since the row before.
    """

    def __init__(self) -> None:
        super().__init__(None, [])
        self.rows: list[tuple[int, float, float]] = []

    def dump(self, step: int = 0) -> None:
        """Keeps a row."""
        values = self.name_to_value
        self.rows.append((step, float(values["train/reward"]), float(values["train/dice"])))
        super().dump(step)


def _write(arguments: RewardCompareArguments, results: list[RewardResult], test: SegmentationDataset) -> None:
    images, targets = test.batch(np.array(images_with_objects(test, SHOWN)))
    rewards_figure(results, images, targets, arguments.out / "compare.png")
    write_atomically(arguments.out / "compare.md", comparison_table(results) + "\n")
    settings = asdict(arguments) | {"out": str(arguments.out), "test_images": len(test)}
    content = {"settings": settings, "results": [one.to_json() for one in results]}
    write_atomically(arguments.out / "compare.json", json.dumps(content, indent=1) + "\n")
