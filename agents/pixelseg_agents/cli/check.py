"""`pixelseg check`: what data hold, before anyone trains on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import parse
from pixelseg_agents.cli.guessing import which_dataset
from pixelseg_agents.cli.options import SizeFlag, parse_pairs
from pixelseg_agents.files import write_atomically
from pixelseg_env import SegmentationDataset
from pixelseg_env.datasets import FileFacts, Survey, survey_dataset
from pixelseg_env.rendering import contour_panel, enlargement

DESCRIPTION = """\
Looks at data before you train on them: how many images, sizes, patients, label values, empty masks and copies there
are, what training, validation and test would get, and a picture with the masks' outlines.

Examples:
  pixelseg check my_images
  pixelseg check pairs.csv --size 128
  pixelseg check scans/ --dataset nifti --dataset-option labels=1,2
  pixelseg check phantom
"""

PANELS, COLUMNS, SIDE, GAP = 12, 4, 160, 4
SHOWN = 5  # sizes, copies
PROBLEMS = 20


@dataclass(frozen=True)
class CheckArguments:
    """Arguments of `pixelseg check`."""

    data: Positional[Annotated[tuple[Path, ...], arg(metavar="DATA [DATA ...]", help_behavior_hint="")]] = ()
    """Folders of one data set, or tables (.csv) of images and masks."""
    dataset: Annotated[str | None, arg(metavar="STR", help_behavior_hint="(default: guessed)")] = None
    """Which data set they are, a registered name or module:name."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE [KEY=VALUE ...]", help_behavior_hint="")] = ()
    """The data set's own options; see pixelseg train --help."""
    size: SizeFlag = 64
    """Every image becomes SIDE x SIDE or H x W pixels; none keeps the native size."""
    split_by: Literal["patient", "slice"] = "patient"
    """What is dealt out to train, val and test."""
    split_seed: int = 0
    """Seed of that deal."""
    out: Path = Path()
    """Folder for the picture."""


def main(words: list[str]) -> int:
    """Runs the command; returns 0, or 2 where the data cannot be trained on."""
    return check(parse(CheckArguments, words, "check", DESCRIPTION))


def check(arguments: CheckArguments) -> int:
    """Prints what the data hold and draws the picture; returns the exit code."""
    name, reason, data = which_dataset("check", arguments.data, arguments.dataset)
    options: dict[str, Any] = {"split_by": arguments.split_by, "split_seed": arguments.split_seed}
    options |= parse_pairs(arguments.dataset_option)
    survey = survey_dataset(name, data=list(data) or None, size=arguments.size, **options)
    for title, text in _lines(survey, reason):
        print(f"{title:<9} {text}")
    if survey.dataset is not None:
        path, shown = draw(survey.dataset, arguments.out, name.replace(":", "-"))
        print(f"{'picture':<9} {path}: {', '.join(shown)}")
    if survey.error:
        print(f"{'error':<9} {survey.error}")
    return 2 if survey.error or (survey.files and survey.files.problems) else 0


def _lines(survey: Survey, reason: str) -> Iterator[tuple[str, str]]:
    """What is printed, as a title and a text each."""
    yield "data set", f"{survey.name} ({reason})"
    if survey.files is not None:
        yield from _file_lines(survey.files)
    data = survey.dataset
    if data is not None:
        shape = "x".join(map(str, data.image_shape))
        counts = f"{len(data)} images of {shape} ({data.images.dtype}), {len(set(data.cases))} patient(s)"
        yield "loaded", f"{counts}; labels: {', '.join(data.label_names)}"
        low, high = data.images.min(), data.images.max()
        yield "", f"values from {low:g} to {high:g}; object: {data.masks.mean():.2%} of all pixels"
        without = "; training leaves them out, unless keep_empty=true" if survey.empty else ""
        yield "empty", f"{survey.empty} of {len(data)} images have no object{without}"
    for split, part in survey.parts.items():
        yield split, f"{part.patients} patient(s), {part.images} image(s), object {part.pixels:.2%} of the pixels"
    for warning in survey.warnings:
        yield "warning", warning


def _file_lines(files: FileFacts) -> Iterator[tuple[str, str]]:
    yield "files", f"{files.images} images or volumes; {_counted(files.sizes)}"
    if files.kinds:
        yield "", f"channels and type: {_counted(files.kinds)}; values from {files.low:g} to {files.high:g}"
    path, case, number = files.example
    volume = any(size.count("x") == 2 for size in files.sizes)
    yield "names", f"{path.name} is read as patient {case!r}, {'all its slices' if volume else f'slice {number}'}"
    values = ", ".join(f"{value:.9g} ({share:.2%})" for value, share in files.values.items())
    more = f" and {files.more_values} others" if files.more_values else ""
    yield "masks", f"values: {values or 'none'}{more}; {files.empty} of {files.images} masks hold one value only"
    for group in files.duplicates[:SHOWN]:
        yield "copies", " = ".join(map(str, group[:SHOWN]))
    for problem in files.problems[:PROBLEMS]:
        yield "problem", problem
    if len(files.problems) > PROBLEMS:
        yield "", f"and {len(files.problems) - PROBLEMS} more, {len(files.problems)} in all"


def _counted(counts: dict[str, int]) -> str:
    listed = [f"{value} ({count})" for value, count in counts.items()]
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} others" if len(listed) > SHOWN else "")


def draw(data: SegmentationDataset, folder: Path, name: str) -> tuple[Path, list[str]]:
    """Writes a grid of images with the outlines of their masks; a file that exists is left alone.

    Args:
        data: the images.
        folder: where to.
        name: of the data set, for the file's name.

    Returns:
        The file, and what each panel shows, row by row.
    """
    import cv2

    masks = data.masks if data.labels > 1 else data.masks[:, None]
    full = np.flatnonzero(masks.reshape(len(data), -1).any(axis=1))
    pool = full if len(full) else np.arange(len(data))
    wanted = max(1, PANELS // data.labels)
    chosen = pool[np.unique(np.linspace(0, len(pool) - 1, wanted).round().astype(int))]
    images, _ = data.batch(chosen)
    factor = enlargement(*data.image_shape[1:], least=SIDE)
    panels, shown = [], []
    for position, image in zip(chosen, images, strict=True):
        for label, mask in zip(data.label_names, masks[position], strict=True):
            panels.append(contour_panel(image, mask, factor=factor))
            place = f"{data.cases[position]} {data.slices[position]}"
            shown.append(place if data.labels == 1 else f"{place} {label}")
    path = _free(folder, f"check-{name}", ".png")
    write_atomically(path, cv2.imencode(".png", _grid(panels)[..., ::-1])[1].tobytes())
    return path, shown


def _grid(panels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Panels (H, W, 3) side by side, in rows."""
    height, width = panels[0].shape[:2]
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    grid = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for k, panel in enumerate(panels):
        top, left = k // COLUMNS * (height + GAP), k % COLUMNS * (width + GAP)
        grid[top : top + height, left : left + width] = panel
    return grid


def _free(folder: Path, stem: str, ending: str) -> Path:
    """A path in a folder that no file has: `stem`, or else `stem-2`, `stem-3`, ..."""
    path, number = folder / f"{stem}{ending}", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}{ending}", number + 1
    return path
