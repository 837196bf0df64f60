"""Brain MRI with tumour masks, in the layout of Kaggle's `mateuszbuda/lgg-mri-segmentation`."""

from __future__ import annotations

import re
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.brightness import check_white, scaled
from pixelseg_env.datasets.image_files import read_pages
from pixelseg_env.datasets.masks import read_masks
from pixelseg_env.datasets.naming import plain, whole
from pixelseg_env.datasets.page_reader import PageReader
from pixelseg_env.datasets.pairs import Pair, load_pairs
from pixelseg_env.datasets.problems import for_each
from pixelseg_env.datasets.scaling import check_scaling, scaled_by_case
from pixelseg_env.datasets.transparency import warn_of_transparency
from pixelseg_env.errors import DataError, check_choice

_MASK = "_mask"
_ENDINGS = (".tif", ".tiff")
_NAME = re.compile(r"(?P<case>.+)_(?P<number>\d+)")


def load_brain(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    channels: str = "all",
    white: float | None = None,
    scaling: str = "white",
) -> SegmentationDataset:
    """Reads `<root>/[kaggle_3m/]<case>/<case>_<slice>.tif` and `..._mask.tif`.

    A case is a patient folder. Slices without tumour are left out unless `keep_empty`; their images are
    not even decoded, but for their patient's percentiles.

    Args:
        data: roots, each the folder that holds `kaggle_3m` or that folder itself.
        size: (H, W), or None for the native 256x256.
        fit: "resize" or "crop".
        keep_empty: keep slices without tumour.
        channels: "all" for C = 3 (pre-contrast, FLAIR, post-contrast, the order stored in the files) or "flair"
            for C = 1.
        white: the grey level that becomes 255, for images that do not reach it. Default: 255.
        scaling: "white", or "percentiles": each patient and channel by itself, so that over all slices of the patient,
            those without tumour too, the 0.5th percentile becomes 0 and the 99.5th 255, what volumes get in `nifti`.
            `predict` takes the slices that lie in the file's folder.

    Returns:
        The whole set, uint8 images.

    Raises:
        OptionError: `channels` is not known, or `white` not valid.
        DataError: see `load_pairs`; or an image has no mask, or a folder holds no such files.

    Warns:
        DimImagesWarning: the images are all but black.
        TransparencyWarning: images are transparent in parts; their colours are taken as stored.
    """
    check_choice("channels", channels, ("all", "flair"))
    level, transparent, by_case = check_white(white), list[Path](), check_scaling(scaling, white)
    image = partial(read_images, channels=channels, transparent=transparent)
    loaded = load_pairs("brain", list_files(data), size, fit, keep_empty, image, read_masks, (), level, by_case)
    warn_of_transparency(transparent, "brain")
    return loaded


def list_files(data: list[Path]) -> list[Pair]:
    """Finds the images and masks of all patients."""
    return list(chain.from_iterable(for_each(_find_pairs, data)))


def _find_pairs(root: Path) -> list[Pair]:
    folder = root / "kaggle_3m" if (root / "kaggle_3m").is_dir() else root
    stems: list[tuple[Path, str, dict[str, str]]] = []
    for case in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        # Stems without their endings, of which image and mask may have different ones: .tif, .TIF.
        names = {
            path.stem: path.name
            for path in sorted(case.iterdir())
            if path.suffix.lower() in _ENDINGS and not path.name.startswith(".")
        }
        stems += [(case, stem, names) for stem in sorted(names)]
    pairs = [pair for pair in for_each(_pair, stems) if pair is not None]
    if not pairs:
        raise DataError(
            f"{folder}: no image found; expected <case>/<case>_<slice>.tif and <case>/<case>_<slice>_mask.tif in it; "
            "point data= at the folder that holds 'kaggle_3m', or use the data set 'folder' for other layouts"
        )
    return pairs


def _pair(item: tuple[Path, str, dict[str, str]]) -> Pair | None:
    """The pair of a case's stem; None for a mask's, which comes with its image."""
    case, stem, names = item
    name = names[stem]
    if stem.endswith(_MASK):
        if stem.removesuffix(_MASK) in names:
            return None
        raise DataError(
            f"{case / name}: this mask has no image {stem.removesuffix(_MASK)}.tif; add it or remove the mask"
        )
    if stem + _MASK not in names:
        raise DataError(
            f"{case / name}: its mask {stem}{_MASK}.tif is missing; expected it beside the image: "
            "add it or remove the image"
        )
    match = _NAME.fullmatch(stem)
    if not match:
        raise DataError(
            f"{case / name}: expected a name of the form <case>_<slice>.tif; rename it, or use the data set 'folder'"
        )
    return Pair(case / name, case / names[stem + _MASK], plain(case.name), whole(match["number"]))


def read_images(path: Path, channels: str, transparent: list[Path] | None = None) -> list[NDArray[Any]]:
    """Reads one image with the channels that the data set holds, (H, W, 3) or, for "flair", (H, W).

    `transparent` gets the path, if a pixel is not opaque.

    Raises:
        DataError: the file is a stack, or holds other pixels.
    """
    pages = read_pages(path, transparent)
    if len(pages) > 1:
        raise DataError(f"{path}: expected one image, got {len(pages)} pages; use the data set 'folder' for stacks")
    pixels = pages[0]
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: expected 3 channels of 8 bits (pre-contrast, FLAIR, post-contrast), got shape {pixels.shape} "
            f"{pixels.dtype}; use the data set 'folder' for other images"
        )
    return [pixels if channels == "all" else np.ascontiguousarray(pixels[..., 1])]


def _read_for(
    path: Path, planes: int, channels: str = "all", white: float | None = None, scaling: str = "white"
) -> list[NDArray[Any]]:
    transparent: list[Path] = []
    pages: list[NDArray[Any]] = read_images(path, channels, transparent)
    warn_of_transparency(transparent)
    if check_scaling(scaling, white):
        return scaled_by_case(pages, _slices_beside(path), read_images, channels)
    return [scaled(page, check_white(white) or 255) for page in pages]


def _slices_beside(path: Path) -> list[Path]:
    """The images in a file's folder that are named as slices of the same patient; at least the file itself."""
    own = _NAME.fullmatch(path.stem)
    named = ((one, _NAME.fullmatch(one.stem)) for one in READER.siblings(path, _MASK))
    same = {one for one, match in named if own and match and match["case"] == own["case"]}
    return sorted({path} | {one for one in same if one.suffix.lower() in _ENDINGS})


READER = PageReader(pixels=_read_for)
