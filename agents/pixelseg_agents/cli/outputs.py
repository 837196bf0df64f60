"""Which mask file belongs to which input; everything is checked before the first pixel is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelseg_env import DataError, OptionError
from pixelseg_env.datasets.image_files import IMAGE_SUFFIXES, is_image_file
from pixelseg_env.datasets.nifti import SUFFIXES as VOLUME_SUFFIXES
from pixelseg_env.datasets.nifti import volume_name

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # lossless: a mask of 0 and 255 stays one


@dataclass(frozen=True)
class Job:
    """One input and where its mask goes."""

    source: Path
    target: Path


def is_volume(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def plan(
    inputs: Sequence[Path], out: Path, overwrite: bool, mask_suffix: str = "_mask", labels: Sequence[str] = ("object",)
) -> list[Job]:
    """Pairs every input with its output.

    Args:
        inputs: files, or folders that are searched with their subfolders (which `out` then has as well).
        out: a file for a single input file; otherwise a folder.
        overwrite: whether an output may exist.
        mask_suffix: in folders, `x<mask_suffix>.png` beside `x.png` is a mask and left out.
        labels: what is segmented; several make one file each, see `label_targets`.

    Raises:
        DataError: an input is missing or of an unknown kind, or an output exists.
        OptionError: outputs clash with each other or with an input, or `out` is of the wrong kind.
    """
    if not inputs:
        raise OptionError("predict: no input given; expected images, NIfTI volumes, or folders of them")
    single = len(inputs) == 1 and not inputs[0].is_dir() and not out.is_dir() and bool(out.suffix)
    if single:
        jobs = [Job(inputs[0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise OptionError(f"-o {out}: is a file; expected a folder for the masks")
        jobs = []
        for entry in inputs:
            found = _files(entry, out, mask_suffix) if entry.is_dir() else [(entry, Path(entry.name))]
            jobs += [Job(source, out / _mask_name(place)) for source, place in found]
    _check([Job(job.source, target) for job in jobs for target in label_targets(job.target, labels)], overwrite)
    return jobs


def label_targets(target: Path, labels: Sequence[str]) -> list[Path]:
    """Where the mask of each label goes: `target`, or with several labels `<name>_<label><ending>` each."""
    if len(labels) == 1:
        return [target]
    ending = target.name[len(_stem(target)) :]
    return [target.with_name(f"{_stem(target)}_{label.replace(' ', '-')}{ending}") for label in labels]


def _files(root: Path, out: Path, mask_suffix: str) -> list[tuple[Path, Path]]:
    """Images and volumes below a folder, and their paths in it."""
    goal = out.resolve()
    found = [
        path
        for path in sorted(root.rglob("*"))
        if (is_image_file(path) or (is_volume(path) and path.is_file() and not path.name.startswith(".")))
        and (goal == root.resolve() or goal not in path.resolve().parents)
    ]
    names = {path.parent / _stem(path) for path in found}
    images = [path for path in found if not _is_mask(path, names, mask_suffix)]
    if not images:
        kinds = ", ".join((*IMAGE_SUFFIXES, *VOLUME_SUFFIXES))
        raise DataError(f"{root}: no image found; expected files of the kinds {kinds}")
    return [(path, path.relative_to(root)) for path in images]


def _is_mask(path: Path, names: set[Path], suffix: str) -> bool:
    stem = _stem(path)
    return bool(suffix) and stem.endswith(suffix) and path.parent / stem.removesuffix(suffix) in names


def _stem(path: Path) -> str:
    return volume_name(path) if is_volume(path) else path.stem


def _mask_name(path: Path) -> Path:
    """The same name for volumes and tiffs, .png for other images."""
    if is_volume(path) or path.suffix.lower() in (".tif", ".tiff"):
        return path
    return path.with_suffix(".png")


def _check(jobs: Sequence[Job], overwrite: bool) -> None:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if not job.source.is_file():
            raise DataError(f"{job.source}: no such file")
        if not is_volume(job.source) and job.source.suffix.lower() not in IMAGE_SUFFIXES:
            kinds = ", ".join((*IMAGE_SUFFIXES, *VOLUME_SUFFIXES))
            raise DataError(f"{job.source}: expected a file of one of the kinds {kinds}")
        endings = VOLUME_SUFFIXES if is_volume(job.source) else MASK_SUFFIXES
        if not job.target.name.lower().endswith(endings):
            raise OptionError(f"-o {job.target}: the mask of {job.source.name} must end in {' or '.join(endings)}")
        goal = job.target.resolve()
        if goal in taken:
            raise OptionError(f"{taken[goal]} and {job.source} would both write {job.target}; predict them apart")
        taken[goal] = job.source
        if goal in sources:
            raise OptionError(f"{job.target}: is an input and is never overwritten; choose another -o")
        if job.target.is_dir():
            raise OptionError(f"{job.target}: is a folder")
        if job.target.exists() and not overwrite:
            raise DataError(f"{job.target}: exists; choose another -o, or add --overwrite")
