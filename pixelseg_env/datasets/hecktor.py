"""PET or CT with tumours of head and neck, in the layout of the HECKTOR 2020 challenge; a preset of `nifti`.

The data have to be asked for at the challenge, and were not at hand when this was written. What is taken for granted of
them: names, places and columns as the challenge's own code has them (`voreille/hecktor` on GitHub), and boxes in the
coordinates of ITK, whose x and y run against those of NIfTI.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.files import FileImages, below
from pixelseg_env.datasets.native import OWN_PIXELS
from pixelseg_env.datasets.nifti import VolumeReader
from pixelseg_env.datasets.nifti_files import (
    SUFFIXES,
    Geometry,
    encode_like,
    on_grid,
    read_geometry,
    read_volume,
    same_grid,
    sampled,
    volume_name,
)
from pixelseg_env.datasets.pairs import Pair
from pixelseg_env.datasets.problems import SHOWN
from pixelseg_env.datasets.volumes import Source, channel_slices, check_axis, load_volumes
from pixelseg_env.errors import DataError, OptionError, check_choice

MODALITIES = ("pt", "ct")
LABEL = "_ct_gtvt"  # the primary tumour, drawn on the CT
BOXES = "*bbox*.csv"  # hecktor2020_bbox_training.csv, bbox.csv
COLUMNS = ("x1", "x2", "y1", "y2", "z1", "z2")
SPACING = (1.0, 1.0, 1.0)  # of what is cut out, as in the challenge's own example
CUT_OUT = "the pixels that were cut out of the files' boxes at 1 mm"
SPLINE = 3  # the order of its interpolation
_FILE = re.compile(r"(?P<case>.+)_(?P<modality>pt|ct)", re.IGNORECASE)


def load_hecktor(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    modality: str = "pt",
    boxes: bool | None = None,
    axis: int = 2,
) -> SegmentationDataset:
    """Reads slices of `<case>_pt.nii.gz` and `<case>_ct_gtvt.nii.gz`, in a folder for each case or all in one.

    Where a table of bounding boxes lies with them (`hecktor2020_bbox_training.csv`: PatientID, x1, x2, y1, y2, z1, z2
    in millimetres), what is inside a case's box is sampled at 1 mm, the image by cubic splines and the label by the
    nearest voxel, as the challenge's example does; what was cut out is also what agents are judged on (`predict` brings
    masks back to the file). Files that were cut out already stay as they are. Without boxes the
    label, which lies on the grid of the CT, is brought to the image's grid by the nearest voxel.

    Args:
        data: folders, such as `hecktor_train` or the `hecktor_nii` in it.
        size: (H, W) of the slices, or None for the native size.
        fit: "resize" or "crop".
        keep_empty: keep slices without tumour.
        modality: "pt" (PET) or "ct".
        boxes: True: cut out the boxes, which must be there; False: take whole volumes; None: cut out where there are
            boxes.
        axis: along which the slices lie, see `load_nifti`.

    Returns:
        The whole set, C = 1, uint8.

    Raises:
        OptionError: an option is not valid.
        DataError: a file is missing or damaged, or says nothing of its place; a case has no box; see `load_volumes`.
    """
    if boxes not in (None, True, False):
        raise OptionError(f"boxes={boxes!r} is not valid; expected true, false or none")
    pairs = list_files(data, modality)
    known = {} if boxes is False else _read_boxes([root for top in data for root in (top, top.parent)])
    if boxes and not known:
        raise DataError(f"{data[0]}: no table of bounding boxes, {BOXES}, found in it or beside it; give boxes=false")
    missing = sorted({pair.case for pair in pairs} - known.keys()) if known else []
    if missing:
        raise DataError(f"{pairs[0].image.parent}: no box of case {missing[0]!r}; add it to the table, or boxes=false")
    own = {pair.case: read_geometry(pair.image) for pair in pairs}
    grids = {case: _grid_of(geometry, known.get(case)) for case, geometry in own.items()}
    cut_out = {case: grids[case] is not geometry for case, geometry in own.items()}

    def image(pair: Pair) -> list[NDArray[Any]]:
        return [_on(read_volume(pair.image), pair.image, grids[pair.case], SPLINE)]

    def label(pair: Pair) -> NDArray[Any]:
        return _label_on(pair, grids[pair.case])

    def pixels(pair: Pair) -> str:
        return CUT_OUT if cut_out[pair.case] else OWN_PIXELS

    source = Source(image, label, lambda pair: grids[pair.case].spacing, check_axis(axis), pixels)
    return load_volumes("hecktor", pairs, source, size, fit, keep_empty)


def list_files(data: list[Path], modality: str = "pt") -> list[Pair]:
    """Finds the images of a modality, and their labels."""
    check_choice("modality", modality, MODALITIES)
    return [pair for root in data for pair in _find_pairs(root, modality)]


def _find_pairs(root: Path, modality: str) -> list[Pair]:
    pairs = []
    for mask in below(root):
        name = volume_name(mask)
        if not (mask.name.lower().endswith(SUFFIXES) and name.lower().endswith(LABEL)):
            continue
        case = name[: -len(LABEL)]
        images = [path for s in SUFFIXES if (path := mask.with_name(f"{case}_{modality}{s}")).is_file()]
        if not images:
            raise DataError(f"{mask.with_name(f'{case}_{modality}.nii.gz')}: is missing; add it or remove {mask.name}")
        pairs.append(Pair(images[0], mask, case, 0))
    if not pairs:
        raise DataError(
            f"{root}: no <case>{LABEL}.nii.gz found; expected the training folder of HECKTOR 2020, with "
            f"<case>_pt.nii.gz and <case>_ct.nii.gz beside each"
        )
    return pairs


def _read_boxes(folders: Sequence[Path]) -> dict[str, tuple[float, ...]]:
    """Case to x1, x2, y1, y2, z1, z2 in millimetres; nothing where there is no table."""
    found: dict[str, tuple[float, ...]] = {}
    for path in dict.fromkeys(path for folder in folders for path in sorted(folder.glob(BOXES))):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                for row in csv.DictReader(file):
                    values = tuple(float(row[name]) for name in COLUMNS)
                    if not all(math.isfinite(v) for v in values) or not all(
                        0 < values[k + 1] - values[k] <= 1000 for k in (0, 2, 4)
                    ):
                        raise ValueError(f"no box: {values}")
                    found.setdefault(row["PatientID"].strip(), values)
        except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
            raise DataError(
                f"{path}: expected a table with the columns PatientID, {', '.join(COLUMNS)} in millimetres "
                f"({repr(error)[:SHOWN]}); correct it, or take whole volumes with boxes=false"
            ) from error
    return found


def _grid_of(own: Geometry, box: tuple[float, ...] | None) -> Geometry:
    """The grid that a case is sampled on: 1 mm in its box, or the image's own."""
    if box is None:
        return own
    x1, x2, y1, y2, z1, z2 = box
    shape = tuple(
        math.ceil((high - low) / width) for low, high, width in zip((x1, y1, z1), (x2, y2, z2), SPACING, strict=True)
    )
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = -x1, -y1, z1
    grid = Geometry(shape, affine, SPACING)
    return own if same_grid(own, grid) else grid


def _on(volume: NDArray[Any], path: Path, grid: Geometry, order: int) -> NDArray[Any]:
    own = read_geometry(path)
    if same_grid(own, grid):
        return volume
    return sampled(volume, own, grid, order, path)


def _label_on(pair: Pair, grid: Geometry) -> NDArray[Any]:
    label, own = read_volume(pair.mask), read_geometry(pair.mask)
    if own.shape == grid.shape:
        try:
            return on_grid(label, own, grid, pair.mask, pair.image)
        except DataError:  # of the same shape by chance
            pass
    return sampled(label, own, grid, 0, pair.mask)


# ---------------------------------------------------------------- one file, for predict


@dataclass(frozen=True)
class HecktorReader(VolumeReader):
    """Reads one image as the data set does, and brings masks back to its own voxels."""

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """See `FileReader.read`."""
        axis, match = check_axis(options.get("axis", 2)), _FILE.fullmatch(volume_name(path))
        folders = () if options.get("boxes") is False else (path.parent, *list(path.parent.parents)[:2])
        own = read_geometry(path)
        grid = _grid_of(own, _read_boxes(folders).get(match["case"] if match else volume_name(path)))
        volume = np.moveaxis(_on(read_volume(path), path, grid, SPLINE), axis, -1)
        native = volume.shape[0], volume.shape[1]
        images = channel_slices([volume], range(volume.shape[2]), size or native, fit)

        def encode(masks: NDArray[Any], name: str) -> bytes:
            back = np.moveaxis(masks, 0, axis)
            if grid is not own:
                back = sampled(back, grid, own, 0 if masks.dtype == np.uint8 else 1, path)
            return encode_like(path, np.ascontiguousarray(back), name)

        return FileImages(images, native, fit, encode, encode)

    def find(self, folder: Path, planes: int, options: Mapping[str, Any]) -> list[Path]:
        """See `FileReader.find`; images of the modality alone."""
        ending = f"_{check_choice('modality', options.get('modality', 'pt'), MODALITIES)}"
        return [path for path in below(folder) if self.is_input(path) and volume_name(path).lower().endswith(ending)]


READER = HecktorReader()
