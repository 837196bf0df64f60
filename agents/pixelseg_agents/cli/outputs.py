"""Which mask file belongs to which input; everything is checked before the first pixel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixelseg_env import DataError, OptionError
from pixelseg_env.datasets import FileReader


class Predictor(Protocol):
    """What decides which files are read, and how many masks each gets; see `FilePredictor`."""

    @property
    def dataset(self) -> str: ...  # noqa: D102  # told at FilePredictor

    @property
    def options(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def reader(self) -> FileReader: ...  # noqa: D102

    @property
    def channels(self) -> int: ...  # noqa: D102

    @property
    def label_names(self) -> tuple[str, ...]: ...  # noqa: D102


OVERLAY, SURE = "overlay", "probability"  # what may be written beside a mask


@dataclass(frozen=True)
class Job:
    """One input and where its mask goes."""

    source: Path
    target: Path


def plan(
    predictor: Predictor, inputs: Sequence[Path], out: Path, overwrite: bool, extras: Sequence[str] = ()
) -> list[Job]:
    """Pairs every input with its output.

    Args:
        predictor: tells what is an input, what its mask is called, and the labels, of which several make one file
            each, see `label_targets`.
        inputs: files, or folders that are searched with their subfolders (which `out` then has as well).
        out: a file for a single input; otherwise a folder.
        overwrite: whether an output may exist.
        extras: what else is written beside each mask.

    Raises:
        DataError: an input is missing or of an unknown kind, or an output exists.
        OptionError: outputs clash with each other or with an input, or `out` is of the wrong kind; the data set does
            not say how its files are read.
    """
    reader = predictor.reader
    if not inputs:
        raise OptionError(f"predict: no input given; expected files of the kinds {_kinds(reader)}, or folders of them")
    found = [item for entry in inputs for item in _files(predictor, entry, out)]
    # An ending of letters means a file, if of the wrong kind; out.v1 is a folder.
    named = out.name.lower().endswith(reader.mask_endings) if inputs[0].is_dir() else out.suffix[1:].isalpha()
    if len(inputs) == len(found) == 1 and named and not out.is_dir():
        jobs = [Job(found[0][0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise OptionError(f"-o {out}: is a file; expected a folder for the masks")
        jobs = [
            Job(source, out / place.parent / reader.mask_name(source, predictor.channels, predictor.options))
            for source, place in found
        ]
    _check(predictor, jobs, overwrite, extras)
    return jobs


def label_targets(reader: FileReader, target: Path, labels: Sequence[str]) -> list[Path]:
    """Where the mask of each label goes: `target`, or with several labels `<name>_<label><ending>` each."""
    if len(labels) == 1:
        return [target]
    return [beside(reader, target, label.replace(" ", "-")) for label in labels]


def beside(reader: FileReader, target: Path, what: str) -> Path:
    """`<name>_<what><ending>` beside a mask: of an overlay .png, of probabilities .tif for images; else its own."""
    own = max((e for e in reader.mask_endings if target.name.lower().endswith(e)), key=len, default=target.suffix)
    stem = target.name[: len(target.name) - len(own)]
    ending = target.name[len(stem) :]
    if what == OVERLAY:
        ending = ".png"
    elif what == SURE and ".tif" in reader.mask_endings:
        ending = ".tif"
    return target.with_name(f"{stem}_{what}{ending}")


def _kinds(reader: FileReader) -> str:
    return ", ".join(reader.endings)


def _files(predictor: Predictor, entry: Path, out: Path) -> list[tuple[Path, Path]]:
    """What is read of one argument, and its place below `out`."""
    if not entry.is_dir():
        return [(entry, Path(entry.name))]
    goal, root = out.resolve(), entry.resolve()
    found = [
        path
        for path in predictor.reader.find(entry, predictor.channels, predictor.options)
        if goal == root or goal not in path.resolve().parents
    ]
    if not found:
        raise DataError(
            f"{entry}: no file of data set {predictor.dataset!r} found; expected files of the kinds "
            f"{_kinds(predictor.reader)}{_advice(predictor)}"
        )
    return [(path, path.relative_to(entry)) for path in found]


def _advice(predictor: Predictor) -> str:
    return f"; data set {predictor.dataset!r} reads these only, --dataset names another whose files yours are"


def _check(predictor: Predictor, jobs: Sequence[Job], overwrite: bool, extras: Sequence[str]) -> None:
    reader = predictor.reader
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if not job.source.exists():
            raise DataError(f"{job.source}: no such file")
        if not reader.is_input(job.source):
            raise DataError(f"{job.source}: expected a file of the kinds {_kinds(reader)}{_advice(predictor)}")
        if not job.target.name.lower().endswith(reader.mask_endings):
            endings = " or ".join(reader.mask_endings)
            raise OptionError(
                f"-o {job.target}: the mask of {job.source.name} must end in {endings}; if a folder is meant, create "
                "it first"
            )
        masks = label_targets(reader, job.target, predictor.label_names)
        for target in (*masks, *(beside(reader, mask, extra) for mask in masks for extra in extras)):
            goal = target.resolve()
            if goal in taken:
                raise OptionError(f"{taken[goal]} and {job.source} would both write {target}; predict them apart")
            taken[goal] = job.source
            if goal in sources:
                raise OptionError(f"{target}: is an input and is never overwritten; choose another -o")
            if target.is_dir():
                raise OptionError(f"{target}: is a folder")
            if target.exists() and not overwrite:
                raise DataError(f"{target}: exists; choose another -o, or add --overwrite")
