"""What a data set holds, told before anyone trains on it."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.files import IMAGE_FOLDERS, IMAGE_SUFFIXES, MASK_FOLDERS
from pixelseg_env.datasets.fitting import Size
from pixelseg_env.datasets.left_out import LeftOutWarning, walk
from pixelseg_env.datasets.naming import UnclearPatientsWarning, unclear_patients
from pixelseg_env.datasets.pairs import Pair, in_threads
from pixelseg_env.datasets.registry import PathLike, check_option_names, list_files, load_dataset, missing, own_options
from pixelseg_env.datasets.splits import SPLITS, split_indices
from pixelseg_env.errors import DataError, PixelSegError

MOST_VALUES = 12
NIFTI_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class FileFacts:
    """What stands in the files themselves.

    Attributes:
        images: how many images or volumes there are.
        sizes: native size as text, such as "256x256" -> images.
        kinds: channels and type as text, such as "3 x uint8" -> images.
        low: smallest value of all images.
        high: largest value.
        values: value in the mask files -> share of their pixels; the most frequent, in order.
        more_values: how many further values there are.
        empty: images whose masks hold one value only.
        duplicates: groups of image files with equal content.
        example: a file, the case and the slice that its name was read as.
        problems: what is wrong, a line for each file.
    """

    images: int
    sizes: dict[str, int]
    kinds: dict[str, int]
    low: float
    high: float
    values: dict[float, float]
    more_values: int
    empty: int
    duplicates: tuple[tuple[Path, ...], ...]
    example: tuple[Path, str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What a split gets."""

    patients: int
    images: int
    pixels: float  # share of the pixels that are object


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes:
        name: the data set's name.
        dataset: all images, those without object too, at the size that training would see; None if it cannot be
            loaded.
        error: why it cannot be loaded, or empty.
        empty: images of `dataset` without object; training leaves them out unless keep_empty=true.
        files: what stands in the files; None where the data set does not list them.
        parts: "train", "val" and "test" -> what each would get; none, where the set cannot be split.
        warnings: what a person should look at.
    """

    name: str
    dataset: SegmentationDataset | None
    error: str = ""
    empty: int = 0
    files: FileFacts | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def guess_dataset(paths: Sequence[Path]) -> tuple[str, str]:
    """Guesses which data set files are from how they lie.

    Args:
        paths: folders, or tables.

    Returns:
        The data set's name, and why, as the rest of a sentence that begins with "because".

    Raises:
        DataError: a path does not exist, or nothing that is known lies there.
    """
    guesses = {path: _guess(Path(path).expanduser()) for path in paths}
    names = sorted({name for name, _ in guesses.values()})
    if len(names) > 1:
        listed = ", ".join(f"{path} as {name}" for path, (name, _) in guesses.items())
        raise DataError(f"expected data of one kind, got {listed}; give --dataset, or check them one by one")
    return next(iter(guesses.values()))


def _guess(path: Path) -> tuple[str, str]:
    if not path.exists():
        raise DataError(f"{missing(path)}; expected a folder of images, or a table (.csv)")
    if path.is_file():
        if path.suffix.lower() in (".csv", ".tsv"):
            return "table", f"{path.name} is a table"
        raise DataError(f"{path}: is a file; expected a folder of images, or a table (.csv) that names them")
    folders = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    if "imagestr" in folders:
        return "nifti", f"{path} holds imagesTr"
    if any(next(path.glob(f"{above}*_ct_gtvt.nii*"), None) for above in ("", "*/", "*/*/")):
        return "hecktor", f"{path} holds <case>_ct_gtvt.nii.gz"
    if "kaggle_3m" in folders or next(path.glob("*/*_mask.[tT][iI][fF]"), None):
        return "brain", f"{path} holds patient folders with <case>_<slice>_mask.tif"
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    masks = next((folders[name] for name in MASK_FOLDERS if name in folders), None)
    if images and masks:
        if any(_is_dicom_folder(entry) for entry in images.iterdir()):
            return "dicom", f"{images} holds folders of DICOM files"
        return "folder", f"{path} holds the folders {images.name} and {masks.name}"
    if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in path.iterdir()):
        return "folder", f"images lie in {path}"
    below = next(walk(path), None)
    if below is not None:  # such as <patient>/images and <patient>/masks
        return "folder", f"images lie below {path}, in {below.parent.relative_to(path)}"
    raise DataError(
        f"{path}: no known layout; expected images with masks beside them, folders 'images' and 'masks', imagesTr and "
        "labelsTr with NIfTI volumes, or patient folders of the brain set; name the data set with --dataset, or list "
        "the files in a table (.csv) with the columns image and mask"
    )


def _is_dicom_folder(path: Path) -> bool:
    if not path.is_dir():
        return False
    from pixelseg_env.datasets.dicom import series_files

    return bool(series_files(path))


def survey_dataset(
    name: str,
    data: PathLike | Sequence[PathLike] | None = None,
    size: Size = 64,
    split_by: str = "patient",
    split_seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    **options: Any,
) -> Survey:
    """Looks at the files of a data set, loads it, and deals it out as training would.

    Data that cannot be loaded are no error here: the survey tells what is wrong, of all files and not only the first.

    Args:
        name: see `load_dataset`.
        data: see `load_dataset`.
        size: see `load_dataset`.
        split_by: see `load_dataset`.
        split_seed: see `load_dataset`.
        fractions: see `load_dataset`.
        **options: the data set's own; see `load_dataset`.

    Returns:
        What was found.

    Raises:
        OptionError: an option is not valid.
        DataError: there is no such data.
    """
    check_option_names(name, options)
    keep_empty = bool(options.pop("keep_empty", False))
    pairs = list_files(name, data, **options)
    facts = None if pairs is None else _look_at(pairs)
    own = own_options(name) or ()
    told = "case_pattern" not in own or "case_pattern" in options
    unclear = "" if pairs is None or told else unclear_patients(pairs, [pair.case for pair in pairs])
    left_out: list[str] = []
    try:
        # With the empty ones, so that they can be counted and shown; training is told from it without a second look.
        with _told_later() as left_out:
            whole = load_dataset(
                name, data=data, split="all", size=size, split_by=split_by, split_seed=split_seed, fractions=fractions,
                keep_empty=True, **options,
            )  # fmt: skip
    except DataError as error:
        return Survey(name, None, str(error), files=facts, warnings=(*left_out, *_warn(facts, unclear)))
    full = whole.masks.reshape(len(whole), -1).any(axis=1)
    kept = whole if keep_empty or full.all() else whole.subset(np.flatnonzero(full))
    parts: dict[str, Part] = {}
    problem = ""
    for split, share in zip(SPLITS, fractions, strict=True):
        try:
            if share > 0:
                index = split_indices(kept.cases, kept.slices, split, split_by, split_seed, fractions)
                cases = {kept.cases[i] for i in index}
                parts[split] = Part(len(cases), len(index), float(kept.masks[index].mean()))
        except PixelSegError as error:
            problem = str(error)
    return Survey(
        name,
        whole,
        problem,
        int(np.count_nonzero(~full)),
        facts,
        {} if problem else parts,
        (*left_out, *_warn(facts, unclear)),
    )


@contextmanager
def _told_later() -> Iterator[list[str]]:
    """Keeps what loading warns of and a survey tells in its own place; yields the texts about files left out."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield found
        finally:
            found += [str(one.message) for one in caught if issubclass(one.category, LeftOutWarning)]
    for one in caught:
        if not issubclass(one.category, LeftOutWarning | UnclearPatientsWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _warn(facts: FileFacts | None, unclear: str) -> tuple[str, ...]:
    """What a person should look at: names that tell no patient, copies, odd sizes."""
    found = []
    if unclear:
        found.append(unclear)
    if facts and facts.duplicates:
        copies = sum(len(group) - 1 for group in facts.duplicates)
        first = " and ".join(map(str, facts.duplicates[0][:2]))
        found.append(f"{copies} image(s) are copies of others, e.g. {first}: in two splits they flatter the scores")
    if facts and len(facts.sizes) > 1:
        found.append(f"images have {len(facts.sizes)} sizes, so size=none is not possible")
    return tuple(found)


# ---------------------------------------------------------------- the files


@dataclass(frozen=True)
class _Look:
    """What one item's files hold."""

    size: str = ""
    kind: str = ""
    low: float = 0.0
    high: float = 0.0
    digest: str = ""
    values: dict[float, int] = field(default_factory=dict)
    empty: bool = False
    problem: str = ""


def _look_at(pairs: Sequence[Pair]) -> FileFacts:
    """Reads every file once."""
    looks = in_threads(_look, pairs)
    read = [look for look in looks if not look.problem]
    values: Counter[float] = Counter()
    groups: dict[str, list[Path]] = {}
    for pair, look in zip(pairs, looks, strict=True):
        values.update(look.values)
        if look.digest:
            groups.setdefault(look.digest, []).append(pair.image)
    return FileFacts(
        images=len(pairs),
        sizes=dict(Counter(look.size for look in read).most_common()),
        kinds=dict(Counter(look.kind for look in read).most_common()),
        low=min((look.low for look in read), default=0.0),
        high=max((look.high for look in read), default=0.0),
        values=dict(sorted((value, count / values.total()) for value, count in values.most_common(MOST_VALUES))),
        more_values=max(0, len(values) - MOST_VALUES),
        empty=sum(look.empty for look in read),
        duplicates=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        example=(pairs[0].image, pairs[0].case, pairs[0].number),
        problems=tuple(look.problem for look in looks if look.problem),
    )


def _look(pair: Pair) -> _Look:
    try:
        channels = [plane for path in pair.images for plane in _planes(path)]
        masks = [_merged(_planes(path)) for path in pair.masks]
    except DataError as error:
        return _Look(problem=str(error))
    shape, other = channels[0].shape, masks[0].shape
    digest = hashlib.sha256(str(shape).encode())
    values: Counter[float] = Counter()
    for channel in channels:
        digest.update(np.ascontiguousarray(channel).tobytes())
    for mask in masks:
        found, counts = np.unique(mask, return_counts=True)
        values.update({float(value): int(count) for value, count in zip(found, counts, strict=True)})
    return _Look(
        _size(shape),
        f"{len(channels)} x {channels[0].dtype}",
        min(float(channel.min()) for channel in channels),
        max(float(channel.max()) for channel in channels),
        digest.hexdigest(),
        dict(values),
        len(values) < 2,
        f"{pair.image}: is {_size(shape)}, but its mask {pair.mask} is {_size(other)}" if shape != other else "",
    )


def _merged(planes: list[NDArray[Any]]) -> NDArray[Any]:
    """A mask that was saved in colours, as its brightest channel."""
    return planes[0] if len(planes) == 1 else np.max(planes, axis=0)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _planes(path: Path) -> list[NDArray[Any]]:
    """The channels of a file of any kind that the built-in data sets have: images (H, W), or volumes (X, Y, Z)."""
    if path.is_dir():
        from pixelseg_env.datasets.dicom import read_series

        return [read_series(path)[0]]
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        from pixelseg_env.datasets.nifti_files import read_channels

        return read_channels(path)
    from pixelseg_env.datasets.image_files import open_image

    pages = [page.pixels for page in open_image(path).pages]
    if len(pages) == 1:
        return [pages[0]] if pages[0].ndim == 2 else list(np.moveaxis(pages[0], -1, 0))
    stack = np.stack(pages, -1)
    return [stack] if stack.ndim == 3 else list(np.moveaxis(stack, 2, 0))
