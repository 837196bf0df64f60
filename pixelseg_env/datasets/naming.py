"""Patients and slices in the names of image files."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.errors import DataError, OptionError

_DEFAULT = re.compile(r"(?P<case>.+)_(?P<slice>\d+)$")
FEW, MANY = 3, 10  # so few patients with so many images each may be kinds of images
KINDS = 12  # and so many whose names no number tells apart
_NUMBER = re.compile(r"\d+")
LARGEST = (1 << 63) - 1  # slice numbers are int64
# Folders that tell a part of a data set, not a patient.
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
_ADVICE = (
    "say how names tell patients, e.g. case_pattern='^(?P<case>[^_]+)', or case_pattern='(.+)' if each image is a "
    "patient of its own, or list the files in a table with a column patient; `pixelseg check` shows what is read"
)


class UnclearPatientsWarning(UserWarning):
    """File names tell no clear patient; it says what was taken for one, and how to say it better."""


def plain(name: str) -> str:
    """A file's name as text: accents composed (macOS decomposes them), other bytes than UTF-8 as their hex codes."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def name_pairs(
    images: Sequence[tuple[Path, str]], case_pattern: str | None, pages: Callable[[Path], int]
) -> list[Pair]:
    """Reads case and slice in the names of images.

    Args:
        images: files, each with the sub-folder that it lies in, "" if none.
        case_pattern: see `load_folder`.
        pages: how many slices a file holds.

    Returns:
        A pair for each, whose mask is not known yet: it is the image's path.

    Raises:
        OptionError: the pattern is no regular expression.
        DataError: it does not match a name.
    """
    pattern = compiled(case_pattern)
    pairs = []
    for path, folder in images:
        stem = plain(path.stem)
        stack = pages(path) > 1
        case, number = read_name(path, pattern)
        if pattern is None and stack:
            case = stem
        if pattern is None and folder:
            parts = [part for part in folder.split("/") if part.lower() not in SPLIT_FOLDERS]
            # Below a folder such as `train` the file's name tells the patient; the folder keeps equal names apart.
            case = plain("/".join(parts)) if parts else f"{plain(folder)}/{case}"
        pairs.append(Pair(path, path, case, number, stack=stack))
    if pattern is None:
        pairs = _without_kinds(pairs)
    return _numbered(pairs)


def compiled(case_pattern: str | None) -> re.Pattern[str] | None:
    """The option as a pattern, None for the default.

    Raises:
        OptionError: it is no regular expression.
    """
    try:
        return None if case_pattern is None else re.compile(case_pattern)
    except (re.error, TypeError) as error:
        raise OptionError(f"case_pattern={case_pattern!r} is not a regular expression: {error}") from error


def read_name(image: Path, pattern: re.Pattern[str] | None) -> tuple[str, int]:
    """Case and slice in one file's name.

    Raises:
        DataError: the pattern does not match, or finds no number for the slice.
    """
    stem = plain(image.stem)
    digits = re.search(r"(\d+)$", stem)
    number = whole(digits[1]) if digits else 0
    match = (pattern or _DEFAULT).search(stem)
    if match is None:
        if pattern is None:
            return stem, number
        raise DataError(f"{image}: case_pattern={pattern.pattern!r} does not match the name {stem!r}; correct it")
    groups = match.groupdict()
    case = groups.get("case") or (match[1] if match.re.groups else None) or match[0]
    if groups.get("slice"):
        try:
            number = whole(groups["slice"])
        except ValueError:
            raise DataError(
                f"{image}: case_pattern={match.re.pattern!r} finds the slice {groups['slice']!r}; expected a number"
            ) from None
    return case, number


def whole(digits: str) -> int:
    """A slice's number; of the long numbers in series UIDs, which are names and not counts, the last digits."""
    number = int(digits[-19:])
    return number if number <= LARGEST else int(digits[-18:])


def _without_kinds(pairs: list[Pair]) -> list[Pair]:
    """Makes each image a patient of its own where what stands before the number is a word, such as img or COVID.

    So it is taken where no prefix is told from another by a number (as p1 and p2 are), and there is one only, without
    a digit, or two, or few with many images each.
    """
    # A folder's name, which may be a prefix's too, is left alone.
    prefixed = ((pair.case, _DEFAULT.search(plain(pair.image.stem))) for pair in pairs)
    counts = Counter(case for case, match in prefixed if match and match["case"] == case)
    if not counts or _any_counted(counts):
        return pairs
    if len(counts) == 1:
        # Of one image it makes no difference, and a number may be that of the only patient.
        words = max(counts.values()) > 1 and not _NUMBER.search(next(iter(counts)))
    else:
        words = min(counts.values()) >= (2 if len(counts) == 2 else MANY) and len(counts) <= FEW
    if not words:
        return pairs
    return [replace(pair, case=plain(pair.image.stem)) if pair.case in counts else pair for pair in pairs]


def _forms(cases: Iterable[str]) -> Counter[str]:
    """How many names there are of each form, which is a name with its numbers left open."""
    return Counter(_NUMBER.sub("0", case) for case in set(cases))


def _any_counted(cases: Iterable[str]) -> bool:
    """Whether any names differ by a number only, which counts patients; COVID-19 and Normal do not."""
    return any(count > 1 for count in _forms(cases).values())


def _numbered(pairs: list[Pair]) -> list[Pair]:
    """Counts the slices of a case anew where the numbers in its files' names do not tell them apart."""
    together: dict[str, list[Pair]] = {}
    for pair in pairs:
        together.setdefault(pair.case, []).append(pair)
    numbers: dict[Path, int] = {}
    for same in together.values():
        stems = {plain(pair.image.stem) for pair in same}
        # Equal names are of two folders: the same slice twice, which is told as an error elsewhere.
        if len({pair.number for pair in same}) < len(same) == len(stems):
            numbers |= {pair.image: k for k, pair in enumerate(same)}
    return [replace(pair, number=numbers.get(pair.image, pair.number)) for pair in pairs]


def unclear_patients(pairs: Sequence[Pair], cases: Sequence[str]) -> str:
    """What a person should know of how names were read, or an empty string.

    Args:
        pairs: the files.
        cases: the patient of each image.
    """
    counts = Counter(cases)
    if len(cases) < 2 or any(pair.stack for pair in pairs):
        return ""
    if len(counts) == len(cases):
        path = pairs[0].image
        return (
            f"every image counts as a patient of its own (e.g. {plain(path.name)} as {pairs[0].case!r}): if several "
            f"images are of one patient, they leak between the splits; {_ADVICE}"
        )
    several = len(cases) >= 2 * len(counts)
    few = len(counts) <= FEW and len(cases) >= MANY * len(counts)
    # Two cannot be dealt out to training, validation and test.
    unnumbered = len(counts) <= KINDS and min(_forms(counts).values()) == 1
    if few or (several and (len(counts) < FEW or unnumbered)):
        return (
            f"{len(cases)} images count as {len(counts)} patient(s) only ({', '.join(sorted(counts))}): are these "
            "patients, or kinds of images? All images of one stay together, in training, validation or test. "
            f"{_ADVICE[0].upper()}{_ADVICE[1:]}"
        )
    return ""


def warn_of_patients(name: str, pairs: Sequence[Pair]) -> None:
    """Says once for a load what was taken for a patient, where names do not tell clearly.

    Warns:
        UnclearPatientsWarning: they do not.
    """
    text = unclear_patients(pairs, [pair.case for pair in pairs])
    if text:
        warnings.warn(f"data set {name!r}: {text}", UnclearPatientsWarning, stacklevel=2)
