"""`pixelseg export-nnunet`: a data set as nnU-Net reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import PAIRS, Switch, parse
from pixelseg_agents.cli.guessing import which_dataset
from pixelseg_agents.cli.options import SizeFlag, parse_pairs
from pixelseg_agents.nnunet import FOLDERS, SPLITS, export_nnunet
from pixelseg_env import OptionError, SegmentationDataset, load_dataset
from pixelseg_env.datasets import SizesDifferError

DESCRIPTION = """\
Writes a data set in nnU-Net's raw layout, with the patients for training, validation and test that all commands here
have: Dataset501_Name with imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json. Images are
2-dimensional, hold the values that agents see here (8 bits in most data sets), and keep their own size unless --size
says otherwise.

Examples:
  pixelseg export-nnunet my_images --out nnUNet_raw
  pixelseg export-nnunet scans/ --dataset nifti --dataset-option labels=1,2 --size 256 --number 502 --name Scans
  pixelseg export-nnunet phantom --out nnUNet_raw
"""

RAW = "nnUNet_raw"
FILES = "Image files: auto (png where the images have 8 bits), png or nifti."
CHANNELS = "A name for each channel. nnU-Net normalises by them: CT and noNorm have a meaning of their own."


@dataclass(frozen=True)
class ExportArguments:
    """Arguments of `pixelseg export-nnunet`."""

    data: Positional[Annotated[tuple[Path, ...], arg(metavar="DATA [DATA ...]", help_behavior_hint="")]] = ()
    """Folders of one data set, tables (.csv) of images and masks, or phantom."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: $nnUNet_raw)")] = None
    """nnU-Net's folder of raw data sets."""
    number: int = 501
    """nnU-Net's number of the data set, 1 to 999."""
    name: Annotated[str, arg(help_behavior_hint="(default: the data set's)")] = ""
    """Its name there: letters, digits, - and _."""
    dataset: Annotated[str | None, arg(metavar="STR", help_behavior_hint="(default: guessed)")] = None
    """Which data set the files are, a registered name or module:name."""
    dataset_option: Annotated[tuple[str, ...], arg(metavar=PAIRS, help_behavior_hint="")] = ()
    """The data set's own options; see pixelseg train --help."""
    size: SizeFlag = None
    """Every image becomes SIDE x SIDE or H x W pixels; none keeps the native size."""
    split_by: Literal["patient", "slice"] = "patient"
    """What is dealt out to train, val and test."""
    split_seed: int = 0
    """Seed of that deal; the same as in training here, to compare."""
    files: Annotated[Literal["auto", "png", "nifti"], arg(help=FILES)] = "auto"
    channels: Annotated[tuple[str, ...], arg(metavar="NAME [NAME ...]", help=CHANNELS, help_behavior_hint="")] = ()
    overwrite: Switch = False
    """Replace an earlier export of the same number and name."""


def main(words: list[str]) -> int:
    """Runs the command; returns the exit code."""
    arguments = parse(ExportArguments, words, "export-nnunet", DESCRIPTION)
    raw = os.environ.get(RAW) if arguments.out is None else arguments.out
    if not raw:
        raise OptionError(f"export-nnunet: where to? Expected --out FOLDER, or the variable {RAW} that nnU-Net reads")
    name, reason, data = which_dataset("export-nnunet", arguments.data, arguments.dataset)
    parts, own_sizes = _parts(arguments, name, data)
    done = export_nnunet(
        parts,
        raw,
        arguments.number,
        arguments.name,
        arguments.files,
        arguments.channels,
        arguments.split_by,
        arguments.overwrite,
        own_sizes,
    )
    counts = ", ".join(
        f"{len(part)} {what} image(s) of {len(set(part.cases))} patient(s)" for what, part in parts.items()
    )
    sizes = {"x".join(map(str, one)) for part in parts.values() for one in part.native_sizes}
    shape = "x".join(map(str, parts["train"].image_shape))
    shape = f"{parts['train'].image_shape[0]} channel(s) of {len(sizes)} sizes in" if own_sizes else shape
    classes = len(done.label_sets) - 1
    print(f"data set  {name} ({reason})")
    print(f"written   {done.folder}: {counts}; {shape} pixels, {classes} class(es), {done.ending}")
    print(f"next      nnUNetv2_plan_and_preprocess -d {arguments.number} -c 2d")
    print(f"          cp {done.folder / SPLITS} $nnUNet_preprocessed/{done.folder.name}/")
    print(f"          nnUNetv2_train {arguments.number} 2d 0  (fold 0 is our training and validation)")
    return 0


def _parts(
    arguments: ExportArguments, name: str, data: tuple[Path, ...]
) -> tuple[dict[str, SegmentationDataset], bool]:
    """The parts of the data set that are not empty by its `fractions`, and whether margins bring them to one size."""
    options = parse_pairs(arguments.dataset_option)
    split: dict[str, Any] = {"split_by": arguments.split_by, "split_seed": arguments.split_seed}
    if "fractions" in options:
        split["fractions"] = options["fractions"]
    source: dict[str, Any] = {"data": list(data) or None, "split": "all", **options, **split}
    own_sizes = False
    try:
        whole = load_dataset(name, size=arguments.size, **source)
    except SizesDifferError as error:  # here one array holds them; nnU-Net takes each as it is
        own_sizes = True
        whole = load_dataset(name, size=error.largest, **(source | {"fit": "crop"}))
    shares = split.get("fractions", (1, 1, 1))
    return {
        part: load_dataset(whole, split=part, **split) for part, share in zip(FOLDERS, shares, strict=True) if share > 0
    }, own_sizes
