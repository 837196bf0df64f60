"""Image files below a folder that its layout has no place for: they are named, so that no set is half read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pixelseg_env.datasets.files import IMAGE_FOLDERS, MASK_FOLDERS
from pixelseg_env.datasets.image_files import is_image_file
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.problems import first_of
from pixelseg_env.errors import PixelSegError

Find = Callable[[Path], Sequence[tuple[Path, str, Sequence[Path]]]]
SHOWN = 3  # files and folders that a message names


class LeftOutWarning(UserWarning):
    """Image files are not read; it names them, and says how to include them."""


def walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Image files in a folder and below; a link that leads back to a folder above it is not followed."""
    here = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        if is_image_file(path):
            yield path
        elif path.is_dir() and not path.name.startswith(".") and path.resolve() not in here:
            yield from walk(path, here)


def warn_of_unpaired(name: str, root: Path, left: Sequence[Path], why: str) -> None:
    """Says which files of a folder are not read, for a layout of pairs.

    Args:
        name: the data set's name.
        root: the folder.
        left: the files; none: nothing is said.
        why: what they lack, and what to do.

    Warns:
        LeftOutWarning: there are such files.
    """
    if left:
        named = first_of([path.relative_to(root) for path in left], SHOWN)
        text = f"data set {name!r}: {root}: {named}: not read, for {why}"
        warnings.warn(text, LeftOutWarning, stacklevel=2)


def warn_of_left_out(
    name: str, data: Sequence[Path], pairs: Sequence[Pair], find: Find, only_labels: bool = False
) -> None:
    """Says which image files are not read, a warning for each folder.

    Args:
        name: the data set's name.
        data: the folders.
        pairs: what is read.
        find: folder -> an image, its place and its masks each; raises what is wrong with the folder.
        only_labels: some labels were named; masks of others are left out on purpose.

    Warns:
        LeftOutWarning: there are such files.
    """
    used = {path for pair in pairs for path in (*pair.images, *pair.masks)}
    for root in data:
        left = [path.relative_to(root) for path in walk(root) if path not in used]
        if only_labels:
            left = [path for path in left if path.parts[0].lower() not in MASK_FOLDERS]
        if left:
            text = _told(root, left, sum(root in pair.image.parents for pair in pairs), find)
            warnings.warn(f"data set {name!r}: {text}", LeftOutWarning, stacklevel=2)


def _told(root: Path, left: Sequence[Path], read: int, find: Find) -> str:
    folders = sorted({path.parts[0] for path in left if len(path.parts) > 1})
    whole = [
        folder
        for folder in folders
        if _reads(root / folder, {root / path for path in left if path.parts[0] == folder}, find)
    ]
    advice = []
    if whole:
        listed = ", ".join(str(root / folder) for folder in whole[:SHOWN]) + (", ..." if len(whole) > SHOWN else "")
        advice.append(f"give {listed} as further data paths")
    if len(whole) < len(folders) or any(len(path.parts) == 1 for path in left):
        advice.append(
            f"put the images and their masks into the folders '{IMAGE_FOLDERS[0]}' and '{MASK_FOLDERS[0]}' that are "
            "read, or list all files in a table (data set 'table')"
        )
    files = ", ".join(path.as_posix() for path in left[:SHOWN]) + (", ..." if len(left) > SHOWN else "")
    return (
        f"{root}: {len(left)} image file(s) are left out ({files}); read are the {read} image(s) in folders of images "
        f"with a folder of masks beside each. To include them, {'; '.join(advice)}"
    )


def _reads(folder: Path, files: set[Path], find: Find) -> bool:
    """Whether a folder that is read by itself gives all of some files below it."""
    try:
        found = find(folder)
    except PixelSegError:
        return False
    return files <= {path for image, _, masks in found for path in (image, *masks)}
