"""What happens in a cell: train one learner once, judge it, write one record."""

from __future__ import annotations

import base64
import dataclasses
import re
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.grid.catalogue import load_study
from benchmarks.grid.cells import Cell, record_path
from benchmarks.records import write_record
from pixelseg_agents import Supervised
from pixelseg_agents.evaluation import EvaluationResult, evaluate
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.provenance import provenance
from pixelseg_env import SegmentationDataset

CURVE_POINTS = 10
EXAMPLES = 4
FEW = 3  # steps, up to which HD95 is taken after each: it takes longer than a step


class Stopwatch:
    """Seconds of training, by the clock on the wall and of the processor; what comes between is not counted."""

    def __init__(self) -> None:
        self.seconds = {"wall": 0.0, "cpu": 0.0}
        self._began = {"wall": 0.0, "cpu": 0.0}

    def start(self) -> None:
        """Begins to count."""
        self._began = {"wall": time.perf_counter(), "cpu": time.process_time()}

    def stop(self) -> None:
        """Adds the time since `start`."""
        self.seconds["wall"] += time.perf_counter() - self._began["wall"]
        self.seconds["cpu"] += time.process_time() - self._began["cpu"]


@dataclass
class Trained:
    """A trained agent, and what its record says of the training.

    Attributes:
        agent: has Stable-Baselines3's `predict`.
        coarse: the U-Net whose maps it starts from, if it refines.
        about: hyperparameters, parameters and counts.
        curve: Dice on validation patients while it learnt.
        gradient_steps: that its optimizer took; None: not known, as of workers, who have optimizers of their own.
        watch: how long it took.
    """

    agent: Any = None
    coarse: Supervised | None = None
    about: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    gradient_steps: int | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)


def run_cell(folder: Path, cell: Cell) -> Path:
    """Runs a cell and writes its record, whole or not at all."""
    path = record_path(folder, cell)
    write_record(path, run(cell), lines=True)
    return path


def run(cell: Cell) -> dict[str, Any]:
    """Trains and judges; returns the record."""
    torch.set_num_threads(1)
    made = provenance()  # now: the source may have changed when the training is over
    trained = train(cell)
    record = {"name": cell.name, "cell": cell.to_json(), **trained.about}
    if not load_study(cell.study).lists(cell.agent):  # so that a report needs no code of the reader's own
        record["facts"] = dataclasses.asdict(cell.learner.facts)
    record |= {"curve": trained.curve, "seconds": trained.watch.seconds}
    record |= judge(cell, trained) | {"peak_mib": peak_mib()}
    if cell.protocol.device.startswith("cuda"):
        record["peak_cuda_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return record | made


# -------------------------------------------------------------------- training


def train(cell: Cell) -> Trained:
    """Trains a cell's learner, with the passes of its budget."""
    learner, protocol, trained = cell.learner, cell.protocol, Trained()
    if learner.refines:
        trained.coarse = coarse_maps(cell, trained.watch)
    if learner.factory:
        trained.watch.start()
    agent = trained.agent = untrained(cell, cell.environment("train", protocol.horizon, trained.coarse))
    if learner.factory:
        trained.watch.stop()
        if isinstance(network := getattr(agent, "network", None), nn.Module):
            trained.about["parameters"] = parameter_count(network)
    elif not learner.reference:
        planned = updates(cell, agent, 1.0 if trained.coarse is None else 1.0 - learner.start_share)
        _learn(cell, trained, planned)
        trained.about = _about(cell, trained, planned)
    return trained


def untrained(cell: Cell, env: Any) -> Any:
    """The agent before it learns; a factory's has learnt already."""
    learner, protocol = cell.learner, cell.protocol
    if learner.factory:
        return learner.kind(env, seed=cell.seed, passes=round(protocol.passes * cell.rules.passes))
    if learner.reference:
        return learner.kind.playing(env, cell.seed)
    return learner.kind(env, cell.config(), seed=cell.seed, device=protocol.device)


def coarse_maps(cell: Cell, watch: Stopwatch) -> Supervised:
    """The network whose maps a learner that refines starts from, trained on its share of the passes."""
    watch.start()
    protocol, env = cell.protocol, cell.environment("train", 1, plain=True)
    settings = {"width": protocol.width} | dict(cell.learner.start)
    unet = Supervised(env, seed=cell.seed, device=protocol.device, **settings)
    planned = max(1, int(cell.learner.start_share * protocol.passes * cell.rules.passes / protocol.batch))
    unet.learn(planned, log_interval=planned)
    watch.stop()
    return unet


def updates(cell: Cell, agent: Any, share: float = 1.0) -> int:
    """Updates that take the budget of network passes, or a share of it."""
    config, batch = agent.config, cell.protocol.batch
    plan = config.schedule(1)
    costs = [sum(agent.passes_per_update(h) * part for h, part in mix.items()) for mix in plan.mixes]
    # Stages are shared out by steps of the batch, whatever they cost.
    per_step = [share / steps for share, steps in zip(config.shares, plan.steps, strict=True)]
    mean = sum(c * n for c, n in zip(costs, per_step, strict=True)) / sum(per_step)
    each = getattr(getattr(agent, "look", None), "passes", 1)  # an agent of somebody's own need not have looks
    return max(1, int(share * cell.protocol.passes * cell.rules.passes / batch / mean / each))


def _learn(cell: Cell, trained: Trained, planned: int) -> None:
    """Trains; notes the Dice on validation patients about ten times, the time for which is not counted."""
    agent, watch, curve = trained.agent, trained.watch, trained.curve
    judging = cell.environment("val", _horizon(cell), trained.coarse)
    stretch = cell.protocol.passes * cell.rules.passes / CURVE_POINTS
    before = 0 if trained.coarse is None else trained.coarse.passes  # those that made the coarse maps

    def look(_: Any) -> None:
        if agent.passes < (len(curve) + 1) * stretch and agent.updates < planned:
            return
        watch.stop()
        result = evaluate(agent, judging, keep_maps=False, judge_at=cell.protocol.judge_at)
        last, first = result.dice_by_step[:, -1].mean(), result.dice_by_step[:, 0].mean()
        passes, wall = before + agent.passes, watch.seconds["wall"]
        curve.append({"passes": passes, "wall": wall, "dice": float(last), "first": float(first)})
        agent.network.train()
        watch.start()

    def stepped(*_: Any) -> None:
        trained.gradient_steps = (trained.gradient_steps or 0) + 1

    optimizer = getattr(agent, "optimizer", None)
    if isinstance(optimizer, torch.optim.Optimizer) and not getattr(agent.config, "workers", 0):
        trained.gradient_steps = 0
        optimizer.register_step_post_hook(stepped)
    watch.start()
    agent.learn(planned, callback=look, log_interval=max(1, planned))


def _about(cell: Cell, trained: Trained, planned: int) -> dict[str, Any]:
    """What a record says of a training."""
    agent, coarse = trained.agent, trained.coarse
    steps = agent.config.schedule(planned).total_steps * cell.protocol.batch
    about = {
        "config": agent.config.to_dict(),
        "parameters": parameter_count(agent.network),
        "updates": agent.updates,
        "image_passes": agent.passes,
        "image_visits": agent.episodes,
        "environment_steps": 0 if cell.learner.facts.looks_once else steps,
    }
    if coarse is not None:
        about["image_passes"] += coarse.passes
        about["image_visits"] += coarse.episodes
        about["coarse"] = {"parameters": parameter_count(coarse.network), "updates": coarse.updates}
    if trained.gradient_steps is not None:
        about["gradient_steps"] = trained.gradient_steps + (0 if coarse is None else coarse.updates)
    return about


# -------------------------------------------------------------------- judging


def judge(cell: Cell, trained: Trained) -> dict[str, Any]:
    """Scores on the parts of the data that the setting names, and a few of the maps."""
    said: dict[str, Any] = {}
    agent, horizon, place = trained.agent, _horizon(cell), cell.protocol.judge_at
    steps = 1 if cell.learner.facts.looks_once else max(horizon, cell.rules.judged)
    for part in cell.judged:
        env = cell.environment(part, cell.protocol.horizon, trained.coarse)
        if cell.learner.reference:
            agent = agent.moved_to(env)
        watched = ("HD95", "PPV", "SEN", "BIoU-2px") if horizon <= FEW else ()
        result = evaluate(agent, env, horizon=horizon, keep_maps=part == "test", judge_at=place, by_step=watched)
        said[part] = _in_columns(result)
        if part == "test":
            said["examples"] = _examples(result, env.dataset)
        if trained.coarse is not None:
            first = evaluate(trained.coarse, cell.environment(part, 1, plain=True), keep_maps=False, judge_at=place)
            said[part]["coarse_dice"] = float(first.metrics["DICE"].mean())
        if steps > horizon:
            longer = evaluate(agent, env, horizon=steps, keep_maps=False, judge_at=place)
            curves = {"dice_by_step": longer.dice_by_step, "biou_by_step": longer.biou_by_step}
            said[part]["longer"] = {name: values.mean(axis=0).tolist() for name, values in curves.items()}
    return said


def _horizon(cell: Cell) -> int:
    """Steps of the episodes that the learner is judged in."""
    return 1 if cell.learner.facts.looks_once else cell.protocol.horizon


def peak_mib() -> float:
    """The most memory this process had."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what a parent had when it forked
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def _in_columns(result: EvaluationResult) -> dict[str, Any]:
    """The summary, and a list per metric with a value per image in the data set's order; of few steps, by step too."""
    columns = {name: values.tolist() for name, values in result.metrics.items()}
    curves = {"DICE": result.dice_by_step, "BIoU": result.biou_by_step} | result.more_by_step
    by_step = {name: values.T.tolist() for name, values in curves.items()} if result.more_by_step else None
    return {
        "summary": result.summary(),
        "images": {"case": list(result.cases), "slice": result.slices.tolist(), **columns},
        "first_step_dice": result.dice_by_step[:, 0].tolist(),
    } | ({} if by_step is None else {"by_step": by_step})


def _examples(result: EvaluationResult, dataset: SegmentationDataset) -> list[dict[str, Any]]:
    """Maps of a few images, the same for every agent: the largest object of some patients, last and of every step."""
    cases, areas = np.array(dataset.cases), dataset.masks.reshape(len(dataset), -1).sum(axis=1)
    patients = np.unique(cases)
    chosen = patients[np.linspace(0, len(patients) - 1, min(EXAMPLES, len(patients))).round().astype(int)]
    found = []
    for patient in chosen:
        index = int(np.flatnonzero(cases == patient)[areas[cases == patient].argmax()])
        steps = [_packed(one) for one in result.maps(index)]
        found.append({"index": index, "case": str(patient), "map": steps[-1]})
        if len(steps) > 1:
            found[-1]["steps"] = steps
    return found


def _packed(segmentation: NDArray[np.uint8]) -> str:
    """A map as text, eight pixels a byte."""
    return base64.b64encode(np.packbits(segmentation.reshape(-1)).tobytes()).decode()
