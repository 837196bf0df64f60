"""What an agent that looks closer does: what it keeps, how sure it is, what it loses, and whom a later look harms.

    pixelseg train --preset closer --dataset brain --data FOLDER ... --size 256 --out runs/closer
    python -m benchmarks.study.seeing runs/closer --out benchmarks/records/seeing/brain.json

Several runs of the same images (seeds) are taken together. Nothing is trained, and nothing but the test patients (or,
with `--part val`, those of validation) is looked at. A figure is written beside the record.

Whether the probability of keeping says how likely a pixel is object is asked of the pixels that a look decided, and of
those that it kept. A policy need not: the reward asks for the likelier side alone, and what it kept it may look at
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from tyro.conf import Positional

from benchmarks.failures import exit_code
from benchmarks.grid.statistics import difference
from benchmarks.records import write_record
from benchmarks.study.seeing_figure import draw
from benchmarks.study.trained import TrainedRun, open_run
from pixelseg_agents.evaluation.judging import Judge
from pixelseg_agents.evaluation.watching import WatchedEpisode, watch
from pixelseg_agents.provenance import provenance
from pixelseg_env import METRICS, OptionError

BINS = 20  # of probabilities; those of the upper half are kept
SPECK = 4096  # parts of an image's area: a piece of the object that is smaller is not counted as a lesion
SCORES = {"dice": "DICE", "biou": "BIoU"}
SHOWN = 3  # of the patients that are named, on the screen
BY_LOOK = ("kept", "right", "found", "lost", "beyond", *SCORES)  # what is measured of every image at every look
MOST = 10  # patients and images that are named
Floats = NDArray[np.float64]


@dataclass
class Seeing:
    """Shows what trained agents that look closer do at each look."""

    runs: Positional[tuple[Path, ...]]
    """Folders that pixelseg train made, or checkpoints in them."""
    out: Path = Path("benchmarks/records/seeing/seeing.json")
    """The record; the figure has its name and ends in .png."""
    part: Literal["test", "val"] = "test"
    """Whose images: of patients held out (test) or of validation (val)."""
    batch: int = 8
    """Images at once."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""

    def main(self) -> int:
        """Watches, writes record and figure, and prints what is in them."""
        made, record = provenance(), seeing(self.runs, self.part, self.batch, self.device)
        write_record(self.out, record | made, lines=True)
        draw(record, figure := self.out.with_suffix(".png"))
        for t, look in enumerate(record["looks"]):
            print(
                f"look {t + 1}  " + "  ".join(f"{name} {value:.3f}" for name, value in look.items() if name != "bins")
            )
        for name, group in record["gain"].items():
            told = (f"{label} {_signed(group[key])}" for key, label in (("dice", "Dice"), ("biou", "BIoU")))
            print(f"{name:<12}{group['images']:>5} images  gain in {'  '.join(told)}")
        for one in record["harmed"]["patients"][:SHOWN]:
            first, second = one["dice"]
            print(f"harmed      {one['name']}: Dice {first:.3f} to {second:.3f}, {one['lesions']:.1f} lesions an image")
        print(f"written   {self.out}, {figure}")
        return 0


def seeing(runs: Sequence[Path], part: str, batch: int = 8, device: str = "cpu") -> dict[str, Any]:
    """The record of some runs, without its provenance.

    Raises:
        OptionError: there is no run, one looks once or has several labels, or their images or looks differ.
    """
    if not runs or batch < 1:
        raise OptionError(f"seeing: expected at least one run and a batch of at least 1, got {len(runs)} and {batch}")
    folders = [(path if path.is_dir() else path.parent).resolve() for path in runs]
    if again := [str(path) for path, folder in zip(runs, folders, strict=True) if folders.count(folder) > 1]:
        raise OptionError(f"{' and '.join(again)}: the same run; expected each training once")
    opened = [open_run(path, part, device) for path in runs]
    first = opened[0]
    for path, run in zip(runs, opened, strict=True):
        decides = hasattr(run.agent, "keep_probability") and run.agent.transition != "additive"
        if run.horizon < 2 or run.dataset.labels > 1 or not decides:
            raise OptionError(
                f"{path}: expected an agent that keeps or zeroes pixels by a policy, of one label and two looks or "
                f"more, got {run.agent.name} with {run.dataset.labels} label(s) and {run.horizon} look(s); train with "
                "--preset closer"
            )
        if (run.about, run.horizon) != (first.about, first.horizon):
            raise OptionError(f"{path}: other images or looks than {runs[0]} has ({run.about}); look at it by itself")
    found = [measured(run, batch) for run in opened]
    together = {key: [one for each in found for one in each["images"][key]] for key in found[0]["images"]}
    bins = np.sum([each["bins"] for each in found], axis=0)
    return {
        "about": first.about | {"images": len(first.dataset), "patients": len(set(first.dataset.cases))},
        "runs": [_told(run) for run in opened],
        "looks": [_look(together, bins, t) for t in range(first.horizon)],
        "gain": gains(together),
        "harmed": harmed(together),
        "images": together,
    }


def measured(run: TrainedRun, batch: int) -> dict[str, Any]:
    """What a run does with its images.

    Returns:
        `images`: lists of one value an image, and of one an image and look (`BY_LOOK`): the share of the image that is
        kept, of this the share that is object, the share of the object that is kept still, that was lost at this look,
        that is kept and lay beyond all windows, and scores on each file's own pixels. `bins`: float64 (T, BINS, 3), at
        each look pixels that it decided, by their probability: how many, their probabilities' sum, how many are object.
    """
    images: dict[str, list[Any]] = {key: [] for key in ("case", "slice", "lesions", "size", *BY_LOOK)}
    bins = np.zeros((run.horizon, BINS, 3))
    judge = Judge(run.dataset)
    absorbing = run.agent.transition == "absorbing"
    for start in range(0, len(run.dataset), batch):
        wanted = range(start, min(start + batch, len(run.dataset)))
        for index, episode in zip(
            wanted, watch(run.agent, run.environment(len(wanted)), wanted, run.horizon), strict=True
        ):
            images["case"].append(str(run.dataset.cases[index]))
            images["slice"].append(int(run.dataset.slices[index]))
            images["lesions"].append(lesions(episode.target))
            images["size"].append(float(episode.target.mean()))
            for key, values in _by_look(episode, judge, index).items():
                images[key].append(values)
            for t, step in enumerate(episode.steps):
                assert step.probability is not None
                decided = step.before == 1 if absorbing else np.ones_like(step.before, bool)
                bins[t] += binned(step.probability[decided], episode.target[decided])
    return {"images": images, "bins": bins}


def _by_look(episode: WatchedEpisode, judge: Judge, index: int) -> dict[str, list[float]]:
    """The values of one image at each look, see `measured`."""
    target, object_pixels = episode.target == 1, max(1, int(episode.target.sum()))
    found: dict[str, list[float]] = {key: [] for key in BY_LOOK}
    for step in episode.steps:
        after, hit = step.after == 1, (step.after == 1) & target
        found["kept"].append(float(after.mean()))
        found["right"].append(float(hit.sum() / max(1, after.sum())))
        found["found"].append(float(hit.sum() / object_pixels))
        found["lost"].append(float(((step.before == 1) & target & ~after).sum() / object_pixels))
        beyond = (step.before == 1) & target & ~inside(step.windows, target.shape)
        found["beyond"].append(float(beyond.sum() / object_pixels))
        scores = judge.scores([index], step.after[None, None], {name: METRICS[name] for name in SCORES.values()})
        for key, name in SCORES.items():
            found[key].append(float(scores[name][0, 0]))
    return found


def inside(windows: NDArray[np.float32] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose middle lies in one of some windows, bool (H, W); see `WatchedStep.windows`."""
    rows, columns = (np.arange(length) + 0.5 for length in shape)
    seen = np.full(shape, windows is None)
    for top, left, side in () if windows is None else windows:
        seen |= np.outer((rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side))
    return seen


def lesions(target: NDArray[np.uint8]) -> int:
    """The pieces of an object that hang together, diagonally too; of those that are not smaller than a speck."""
    count, _, facts, _ = cv2.connectedComponentsWithStats(target, connectivity=8)
    sizes = facts[1:count, cv2.CC_STAT_AREA]
    return max(int((sizes * SPECK >= target.size).sum()), int(target.any()))


def binned(probability: NDArray[np.float32], target: NDArray[np.uint8]) -> Floats:
    """Pixels by their probability, float64 (BINS, 3): how many, the sum of their probabilities, how many are object."""
    where = np.minimum((probability * BINS).astype(int), BINS - 1)
    weights = (None, probability, target)
    return np.stack([np.bincount(where, weights=one, minlength=BINS) for one in weights], axis=1).astype(np.float64)


def error(bins: Floats) -> float:
    """The expected calibration error: how far bins' probabilities are from the share that is object, by pixels."""
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / max(1, bins[:, 0].sum()))


# ---------------------------------------------------------------- summaries


def _look(images: dict[str, list[Any]], bins: Floats, t: int) -> dict[str, Any]:
    """Means over images after look t, and its calibration."""
    said: dict[str, Any] = {key: float(np.mean([one[t] for one in images[key]])) for key in BY_LOOK}
    there = [k for k, size in enumerate(images["size"]) if size]
    said["missed"] = float(np.mean([images["found"][k][t] == 0 for k in there])) if there else 0.0
    said["error_of_decided"], said["error_of_kept"] = error(bins[t]), error(bins[t][BINS // 2 :])
    return said | {"bins": bins[t].tolist()}


def gains(images: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """What the second look gains over the first, of groups of images, see `_gain`."""
    count, size = np.array(images["lesions"]), np.array(images["size"])
    there = count > 0
    low, high = np.quantile(size[there], (1 / 3, 2 / 3)) if there.any() else (0.0, 0.0)
    groups = {
        "all": np.ones(len(count), bool),
        "1 lesion": count == 1,
        "2 lesions": count == 2,
        "3 or more": count > 2,
        "small": there & (size <= low),
        "middle": there & (size > low) & (size <= high),
        "large": there & (size > high),
    }
    return {name: _gain(images, mask) for name, mask in groups.items() if mask.any()}


def _gain(images: dict[str, list[Any]], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Mean over patients, each the mean of its images, with a 95 % interval over patients; both scores after look 1."""
    cases = np.array(images["case"])[chosen]
    said: dict[str, Any] = {
        "images": int(chosen.sum()),
        "patients": len(set(cases.tolist())),
        "largest": float(np.array(images["size"])[chosen].max()),
    }
    for key in SCORES:
        scores = np.array(images[key])[chosen]
        before, after = (
            np.array([[scores[cases == case, t].mean() for case in sorted(set(cases.tolist()))]]) for t in (0, 1)
        )
        said[f"{key}_of_look_1"] = float(before.mean())
        said[key] = [None if np.isnan(value) else value for value in difference(after, before)]
    return said


def harmed(images: dict[str, list[Any]]) -> dict[str, list[dict[str, Any]]]:
    """The patients, and the images, whose Dice the second look has lowered most."""

    def told(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        mean = {
            key: np.mean(np.array(images[key])[chosen], axis=0) for key in ("dice", "biou", "found", "size", "lesions")
        }
        return {
            **{key: [float(value) for value in mean[key][:2]] for key in ("dice", "biou", "found")},
            **{key: float(mean[key]) for key in ("size", "lesions")},
            "gain": float(mean["dice"][1] - mean["dice"][0]),
        }

    names = [f"{case}, slice {number}" for case, number in zip(images["case"], images["slice"], strict=True)]
    named = {"patients": np.array(images["case"]), "images": np.array(names)}
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, all_names in named.items():
        rows = [{"name": name, **told(all_names == name)} for name in sorted(set(all_names.tolist()))]
        found[kind] = sorted((one for one in rows if one["gain"] < 0), key=lambda one: one["gain"])[:MOST]
    return found


def _signed(gain: Sequence[float | None]) -> str:
    mean, *ends = gain
    return f"{mean:+.3f}" + ("" if None in ends else f" ({ends[0]:+.3f} to {ends[1]:+.3f})")


def _told(run: TrainedRun) -> dict[str, Any]:
    """What trained, and for how long."""
    agent = run.agent
    counts = {name: int(getattr(agent, name)) for name in ("updates", "passes", "seed")}
    return {
        "run": run.name,
        "agent": agent.name,
        "transition": agent.transition,
        "config": agent.config.to_dict(),
    } | counts


if __name__ == "__main__":
    raise SystemExit(exit_code(lambda: tyro.cli(Seeing).main()))
