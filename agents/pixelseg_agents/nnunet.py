"""Data sets in nnU-Net's raw layout, with our patient splits, and the way back from masks that it predicts.

    Dataset501_Brain/
      dataset.json        channels, labels, file ending; under "pixelseg" how label values are read
      splits_final.json   five folds of training and validation images, by patient; fold 0 is our own split
      cases.csv           which patient and slice each image is
      imagesTr/           <image>_0000.png, <image>_0001.png, ...: one file a channel
      labelsTr/           <image>.png
      imagesTs/ labelsTs/ the same of the test patients, of whom nnU-Net learns nothing

nnU-Net looks for `splits_final.json` in its folder of preprocessed data, so it has to be copied there before training.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.files import read_json, reason, write_atomically
from pixelseg_env import DataError, OptionError, SegmentationDataset, check_choice
from pixelseg_env.datasets import fit_image

Pixels = NDArray[Any]
Masks = NDArray[np.uint8]

DATASET, SPLITS, CASES = "dataset.json", "splits_final.json", "cases.csv"
FOLDERS = {"train": "Tr", "val": "Tr", "test": "Ts"}
FOLDS = 5
OURS = "pixelseg"  # our key in dataset.json
ENDINGS = {"png": ".png", "nifti": ".nii.gz"}
READERS = {".png": "NaturalImage2DIO", ".nii.gz": "SimpleITKIO"}
THICK = 999.0  # what nnU-Net takes for the thickness of a 2-D image: its first axis is then the one that has no extent
RESERVED = ("background", "ignore")  # names of labels that mean something to nnU-Net


@dataclass(frozen=True)
class NnUNetData:
    """A data set in nnU-Net's raw layout.

    Attributes:
        folder: such as `nnUNet_raw/Dataset501_Brain`.
        images: "train", "val" and "test" to the names of their images, in the order of the data set's items.
        label_sets: a label's value, from 0, to the positions of our labels that it stands for: (), (0,), (0, 1), ...
        labels: L, the number of our labels.
        ending: of all image files.
    """

    folder: Path
    images: Mapping[str, tuple[str, ...]]
    label_sets: tuple[tuple[int, ...], ...]
    labels: int
    ending: str

    def masks(self, part: str, folder: Path) -> Masks:
        """Reads the label files that nnU-Net has predicted for a part of the data.

        Args:
            part: "train", "val" or "test".
            folder: where `<image><ending>` lie.

        Returns:
            uint8 (N, H, W) of 0 and 1, or (N, L, H, W) with L > 1 labels.

        Raises:
            DataError: a file is missing or damaged, or holds a value that no label has; they are of several sizes.
        """
        table = np.zeros((len(self.label_sets), self.labels), np.uint8)
        for value, members in enumerate(self.label_sets):
            table[value, list(members)] = 1
        found = []
        for name in self.images[part]:
            path = folder / f"{name}{self.ending}"
            values = _read(path)
            if values.max(initial=0) >= len(table):
                raise DataError(
                    f"{path}: holds the label {values.max()}; expected 0 to {len(table) - 1}, as {DATASET} of "
                    f"{self.folder.name} says: it was predicted for another data set"
                )
            found.append(np.moveaxis(table[values], -1, 0))
        sizes = sorted({mask.shape[1:] for mask in found})
        if len(sizes) > 1:
            raise DataError(
                f"{folder}: masks of {len(sizes)} sizes, {sizes[0]} to {sizes[-1]}, which are no one array; export "
                "with a --size to have them so"
            )
        masks = np.stack(found)
        return np.ascontiguousarray(masks[:, 0] if self.labels == 1 else masks)


def export_nnunet(
    parts: Mapping[str, SegmentationDataset],
    raw: str | os.PathLike[str],
    number: int = 501,
    name: str = "",
    files: str = "auto",
    channels: Sequence[str] = (),
    split_by: str = "patient",
    overwrite: bool = False,
    own_sizes: bool = False,
) -> NnUNetData:
    """Writes a data set in nnU-Net's raw layout, whole or not at all.

    Labels that overlap are told apart by their combinations, each of which becomes a class: of an organ with a lesion
    in it, "organ" and "organ + lesion". So what nnU-Net predicts is brought back exactly.

    Args:
        parts: "train" and, where there are any, "val" and "test", without a patient in common.
        raw: the folder that nnU-Net knows as `nnUNet_raw`; missing folders are made.
        number: 1 to 999, nnU-Net's number of the data set.
        name: letters, digits, "-" and "_"; empty: the data set's own.
        files: "png" for images of 8 bits, "nifti", or "auto": png where the images allow it.
        channels: a name for each channel. nnU-Net normalises by them: "CT" by the intensities of all patients,
            "noNorm" not at all, any other name each image by itself.
        split_by: "patient" or "slice", what the folds are dealt by.
        overwrite: replace an earlier export of the same number and name.
        own_sizes: write each image at its file's size. The data set must have been brought to one size with
            `fit="crop"`, and one that all images fit into, so that nothing but their margins has been added.

    Returns:
        What has been written.

    Raises:
        OptionError: the number is taken, or an option is not valid.
        DataError: the folder exists, or the masks have more than 255 combinations of labels.
    """
    train = parts.get("train")
    if train is None or set(parts) - set(FOLDERS):
        raise OptionError(
            f"export to nnU-Net: expected the parts train, val and test, got {', '.join(parts) or 'none'}"
        )
    check_choice("split_by", split_by, ("patient", "slice"))
    goal = Path(raw) / _folder_name(number, name or _default_name(train.name))
    _check_free(goal, number, overwrite)
    ending = _ending(files, train)
    named = _channel_names(channels, train)
    images = _image_names(parts)
    label_sets = _label_sets(parts.values())
    folds = _folds(parts, images, split_by)
    temporary = goal.with_name(f".{goal.name}.{uuid.uuid4().hex}")
    try:
        for part, dataset in parts.items():
            _write_part(temporary, FOLDERS[part], dataset, images[part], label_sets, ending, own_sizes)
        about = _description(train, goal.name, named, label_sets, sum(len(images[p]) for p in parts if p != "test"))
        about |= {"file_ending": ending, "overwrite_image_reader_writer": READERS[ending]}
        for file, content in ((DATASET, about), (SPLITS, folds)):
            write_atomically(temporary / file, json.dumps(content, indent=1) + "\n")
        write_atomically(temporary / CASES, _cases(parts, images))
        if goal.exists():
            shutil.rmtree(goal)
        temporary.rename(goal)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return NnUNetData(goal, images, label_sets, train.labels, ending)


def read_nnunet(folder: str | os.PathLike[str]) -> NnUNetData:
    """Reads what `export_nnunet` returned from the folder that it wrote.

    Raises:
        DataError: it is no such folder.
    """
    root = Path(folder)
    try:
        about = read_json(root / DATASET)
        images: dict[str, list[str]] = {}
        with (root / CASES).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                images.setdefault(row["part"], []).append(row["image"])
        ours = about[OURS]
        return NnUNetData(
            root,
            {part: tuple(names) for part, names in images.items()},
            tuple(tuple(int(k) for k in members) for members in ours["label_sets"]),
            len(ours["labels"]),
            str(about["file_ending"]),
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{root}: expected a folder that `pixelseg export-nnunet` has written ({reason(error)}); export again"
        ) from error


# ---------------------------------------------------------------- names


def _folder_name(number: int, name: str) -> str:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 999:
        raise OptionError(f"number={number!r}: expected 1 to 999, which no other data set of nnU-Net has")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise OptionError(f"name={name!r}: expected letters, digits, '-' and '_', such as Brain")
    return f"Dataset{number:03d}_{name}"


def _default_name(dataset: str) -> str:
    """`brain` as Brain, `my_module:load` as MyModuleLoad."""
    words = re.findall(r"[A-Za-z0-9]+", dataset)
    return "".join(word[0].upper() + word[1:] for word in words) or "PixelSeg"


def _check_free(goal: Path, number: int, overwrite: bool) -> None:
    for place in (goal.parent, *goal.parent.parents):
        if place.exists() and not place.is_dir():
            raise OptionError(f"{goal.parent}: {place} is a file; expected a folder: choose another --out")
    for other in sorted(goal.parent.glob(f"Dataset{number:03d}_*")):
        if other.name != goal.name:
            raise OptionError(f"number={number}: is that of {other} already; give this data set another --number")
    if not goal.exists():
        return
    if not overwrite:
        raise DataError(f"{goal}: exists; choose another --number, --name or --out, or add --overwrite")
    try:
        ours = OURS in read_json(goal / DATASET)
    except (OSError, TypeError, ValueError):
        ours = False
    if not ours:
        raise DataError(
            f"{goal}: was not written by `pixelseg export-nnunet`, so it is not replaced; choose another --number or "
            "--name, or remove it yourself"
        )


def _image_names(parts: Mapping[str, SegmentationDataset]) -> dict[str, tuple[str, ...]]:
    """A name for each image that every file system takes: `<case>_<slice>`."""
    taken: set[str] = set()
    names: dict[str, tuple[str, ...]] = {}
    for part, dataset in parts.items():
        found = []
        for case, number in zip(dataset.cases, dataset.slices, strict=True):
            stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", case).lstrip(".-") or "case"
            name = plain = f"{stem}_{int(number):03d}"
            for again in itertools.count(2):
                if name.lower() not in taken:
                    break
                name = f"{plain}-{again}"
            taken.add(name.lower())
            found.append(name)
        names[part] = tuple(found)
    return names


def _channel_names(channels: Sequence[str], dataset: SegmentationDataset) -> dict[str, str]:
    count = dataset.image_shape[0]
    if channels and len(channels) != count:
        raise OptionError(
            f"channels={list(channels)}: expected {count} name(s), for the images have {count} channel(s)"
        )
    return {str(k): channels[k] if channels else f"channel {k}" for k in range(count)}


# ---------------------------------------------------------------- labels


def _label_sets(datasets: Iterable[SegmentationDataset]) -> tuple[tuple[int, ...], ...]:
    """Which of our labels each value stands for: none, each alone, and the combinations that occur."""
    seen: set[tuple[int, ...]] = set()
    labels = 1
    for dataset in datasets:
        labels = dataset.labels
        if labels > 1:
            pixels = np.moveaxis(dataset.masks, 1, -1).reshape(-1, labels)
            seen |= {tuple(np.flatnonzero(row).tolist()) for row in np.unique(pixels, axis=0)}
    if labels == 1:
        return ((), (0,))
    sets = tuple(sorted(seen - {()}, key=lambda members: (len(members), members)))
    if len(sets) > 255:
        raise DataError(
            f"{len(sets)} combinations of {labels} overlapping labels; nnU-Net's files hold 255 classes: export fewer "
            "labels at once"
        )
    return ((), *sets)


def _class_names(label_names: Sequence[str], label_sets: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Names of the classes, as dataset.json has them."""
    called = [f"label {name}" if name.lower() in RESERVED else name for name in label_names]
    return {" + ".join(called[k] for k in members) or "background": value for value, members in enumerate(label_sets)}


def _values(masks: Masks, label_sets: Sequence[tuple[int, ...]]) -> Masks:
    """One mask (H, W) or (L, H, W) as a map of values, uint8 (H, W)."""
    planes = masks if masks.ndim == 3 else masks[None]
    result = np.zeros(planes.shape[1:], np.uint8)
    for value, members in enumerate(label_sets):
        wanted = np.zeros(len(planes), np.uint8)
        wanted[list(members)] = 1
        result[(planes == wanted[:, None, None]).all(axis=0)] = value
    return result


# ---------------------------------------------------------------- folds


def _folds(
    parts: Mapping[str, SegmentationDataset], images: Mapping[str, tuple[str, ...]], split_by: str
) -> list[dict[str, list[str]]]:
    """Fold 0 is our split; the others validate on quarters of our training patients, as nnU-Net's five do together."""
    units: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {"train": [], "val": []}
    for part, listed in groups.items():
        if part not in parts:
            continue
        for case, name in zip(parts[part].cases, images[part], strict=True):
            unit = case if split_by == "patient" else name
            if unit not in units:
                listed.append(unit)
            units.setdefault(unit, []).append(name)
    held_out = [sorted(groups["val"])] if groups["val"] else []
    rest = sorted(groups["train"])
    order = np.random.default_rng(0).permutation(len(rest))
    quarters = [[rest[i] for i in order[k :: FOLDS - len(held_out)]] for k in range(FOLDS - len(held_out))]
    held_out += [sorted(quarter) for quarter in quarters if quarter and len(quarter) < len(units)]

    def names(wanted: Iterable[str]) -> list[str]:
        return [name for unit in wanted for name in units[unit]]

    return [{"train": names(sorted(units.keys() - set(validated))), "val": names(validated)} for validated in held_out]


# ---------------------------------------------------------------- files


def _ending(files: str, dataset: SegmentationDataset) -> str:
    check_choice("files", files, ("auto", *ENDINGS))
    eight_bits = dataset.images.dtype == np.uint8
    if files == "auto":
        files = "png" if eight_bits else "nifti"
    if files == "png" and not eight_bits:
        raise OptionError("files='png': these images have more than 8 bits, which png would lose; use nifti")
    return ENDINGS[files]


def _write_part(
    root: Path,
    which: str,
    dataset: SegmentationDataset,
    names: Sequence[str],
    label_sets: Sequence[tuple[int, ...]],
    ending: str,
    own_sizes: bool,
) -> None:
    images, labels = root / f"images{which}", root / f"labels{which}"
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        mask = dataset.native_mask(k) if own_sizes else dataset.masks[k]
        for channel, pixels in enumerate(dataset.images[k]):
            own = fit_image(pixels, (mask.shape[-2], mask.shape[-1]), "crop")[0]
            _write(images / f"{name}_{channel:04d}{ending}", own)
        _write(labels / f"{name}{ending}", _values(mask, label_sets))


def _write(path: Path, pixels: Pixels) -> None:
    """One picture (H, W); as NIfTI it is a volume of one slice, which the data set `nifti` reads as well."""
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray(pixels).save(path)
    else:
        import nibabel

        volume: Any = nibabel
        volume.save(volume.Nifti1Image(pixels[..., None], np.diag([1.0, 1.0, THICK, 1.0])), path)


def _read(path: Path) -> Masks:
    """The values (H, W) of a label file."""
    try:
        if path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as picture:
                values = np.asarray(picture)
        else:
            import nibabel

            volume: Any = nibabel
            values = np.asarray(volume.load(path).dataobj)[..., 0]
        if values.ndim != 2:
            raise ValueError(f"expected one plane, got shape {values.shape}")
    except Exception as error:  # decoders raise what they like
        raise DataError(
            f"{path}: expected a mask that nnU-Net has predicted ({reason(error)}); predict again"
        ) from error
    return values.astype(np.uint8)


def _description(
    dataset: SegmentationDataset,
    name: str,
    channels: Mapping[str, str],
    label_sets: Sequence[tuple[int, ...]],
    count: int,
) -> dict[str, Any]:
    """What stands in dataset.json."""
    return {
        "name": name,
        "channel_names": dict(channels),
        "labels": _class_names(dataset.label_names, label_sets),
        "numTraining": count,
        OURS: {
            "dataset": dataset.name,
            "labels": list(dataset.label_names),
            "label_sets": [list(members) for members in label_sets],
            "size": list(dataset.image_shape[1:]),
        },
    }


def _cases(parts: Mapping[str, SegmentationDataset], images: Mapping[str, tuple[str, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "part", "case", "slice"])
    for part, dataset in parts.items():
        writer.writerows(
            zip(images[part], itertools.repeat(part), dataset.cases, dataset.slices.tolist(), strict=False)
        )
    return out.getvalue()
