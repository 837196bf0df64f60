"""How `predict` reads one file of a data set, and brings masks back to where the file came from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.fitting import brought_back, fit_image
from pixelseg_env.datasets.mask_files import encode_masks

Masks = NDArray[np.uint8]
Values = NDArray[np.float32]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label")


@dataclass(frozen=True)
class FileImages:
    """What an agent sees of one file, and the way back.

    Attributes:
        images: (N, C, H, W), uint8 or float32 in [0, 1], as the data set holds them: one for an image file, one
            for each slice of a volume.
        native: (H, W) of the file's own images.
        fit: "resize" or "crop", how they were brought to the size of `images`.
        encode: (masks uint8 (N, H, W) of the native size, the name of their file) -> that file's content.
        encode_values: the same for float32 maps in [0, 1], as TIFF or NIfTI; None where it is not known.
    """

    images: NDArray[Any]
    native: tuple[int, int]
    fit: str
    encode: Callable[[Masks, str], bytes]
    encode_values: Callable[[Values, str], bytes] | None = None

    def restore(self, masks: Masks) -> Masks:
        """Brings masks uint8 (N, H, W), or (N, L, H, W), back to the file's own size."""
        return brought_back(masks, self.native, self.fit)

    def restore_values(self, values: Values) -> Values:
        """Brings maps float32 (N, H, W) back to the file's own size: enlarged linearly, or 0 around a crop."""
        return np.stack([fit_image(one, self.native, self.fit)[0] for one in values])


@dataclass(frozen=True)
class FileReader:
    """Reads single files as a data set would; a base class, and each of its methods may be overridden.

    Attributes:
        endings: of the names that it reads, in lower case.
        mask_endings: of the names that masks may get.
    """

    endings: tuple[str, ...] = ()
    mask_endings: tuple[str, ...] = ()

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """Reads one input.

        Args:
            path: of the file.
            size: (H, W) of the agent's images; None: the file's own.
            fit: "resize" or "crop".
            planes: C, how many channels the agent was trained on.
            options: the data set's own options, as in training.

        Returns:
            Its images, and how masks of them go back to the file's own pixels.

        Raises:
            DataError: the file cannot be read as images of this data set.
        """
        raise NotImplementedError

    def is_input(self, path: Path) -> bool:
        """Whether a path is something to read; hidden files, such as macOS's `._x.png`, are not."""
        return path.is_file() and path.name.lower().endswith(self.endings) and not path.name.startswith(".")

    def find(self, folder: Path, planes: int, options: Mapping[str, Any]) -> list[Path]:
        """Lists the inputs below a folder, without the masks beside them, sorted."""
        found = [path for path in below(folder) if self.is_input(path)]
        return without_masks(folder, found, str(options.get("mask_suffix", "_mask")), self.stem)

    def siblings(self, path: Path, mask_suffix: str) -> list[Path]:
        """Lists the inputs in a file's own folder, itself among them, without the masks beside them, sorted."""
        found = sorted(one for one in path.parent.iterdir() if self.is_input(one))
        return without_masks(path.parent, found, mask_suffix, self.stem)

    def stem(self, path: Path) -> str:
        """The file's name without its ending."""
        ending = max((e for e in self.endings if path.name.lower().endswith(e)), key=len, default="")
        return path.name[: len(path.name) - len(ending)]

    def mask_name(self, path: Path, planes: int, options: Mapping[str, Any]) -> str:
        """What the mask of a file is called in a folder of masks."""
        return path.name


@dataclass(frozen=True)
class ImageReader(FileReader):
    """Reads files of one image each.

    Attributes:
        pixels: `pixels(path, planes, **options)` -> the image as the data set holds it, (H, W) or (H, W, C), uint8
            or float32 in [0, 1]; of the set's options it gets those that it names.
    """

    endings: tuple[str, ...] = IMAGE_SUFFIXES
    mask_endings: tuple[str, ...] = (".png", ".tif", ".tiff", ".bmp")  # lossless: a mask of 0 and 255 stays one
    pixels: Callable[..., Any] | None = None

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """See `FileReader.read`."""
        if self.pixels is None:
            raise NotImplementedError("ImageReader needs pixels=, a function")
        image = self.pixels(path, planes, **named(self.pixels, options))
        native = image.shape[0], image.shape[1]
        return FileImages(np.ascontiguousarray(fit_image(image, size or native, fit)[None]), native, fit, encode_mask)

    def mask_name(self, path: Path, planes: int, options: Mapping[str, Any]) -> str:
        """The same name for tiffs, .png for other images."""
        return path.name if path.suffix.lower() in self.mask_endings[1:3] else path.with_suffix(".png").name


def named(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a function has parameters for; all, where it takes any."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return dict(options)
    return {p.name: options[p.name] for p in parameters[2:] if p.name in options}


def below(folder: Path) -> list[Path]:
    """What lies in a folder and its sub-folders, sorted, without hidden ones such as `.ipynb_checkpoints`."""
    found = sorted(folder.rglob("*"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def encode_mask(masks: Masks, name: str) -> bytes:
    """One mask, uint8 (1, H, W), as an image file of 0 and 255."""
    return encode_masks(masks, name)


def without_masks(root: Path, paths: list[Path], suffix: str, stem: Callable[[Path], str]) -> list[Path]:
    """Leaves out `x_mask.png` beside `x.png`, and a folder `masks` beside a folder `images`.

    Args:
        root: the folder that was searched.
        paths: what was found in it.
        suffix: what a mask's name has after its image's; empty where masks have the same name.
        stem: gives a file's name without its ending.
    """
    names = {path.parent / stem(path) for path in paths}

    def is_mask(path: Path) -> bool:
        if suffix and stem(path).endswith(suffix) and path.parent / stem(path).removesuffix(suffix) in names:
            return True
        inner = [folder for folder in path.parents if folder != root and root in folder.parents]
        return any(
            folder.name.lower() in MASK_FOLDERS
            and any(sibling.is_dir() and sibling.name.lower() in IMAGE_FOLDERS for sibling in folder.parent.iterdir())
            for folder in inner
        )

    return [path for path in paths if not is_mask(path)]
