"""A visitor's own picture and mask: checked as the loaders check files, small, and never outside a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

from pixelseg_env import DataError, PixelSegError, SegmentationDataset, load_dataset

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LARGEST_FILE = 5 * 2**20  # bytes
MOST_PIXELS = 4096 * 4096
NAMES = ("picture", "picture_mask")


def read_upload(image: str | Path | None, mask: str | Path | None, size: int | tuple[int, int]) -> SegmentationDataset:
    """Reads a picture and its mask as the data set `folder` does.

    Args:
        image: where the server has put what was uploaded.
        mask: likewise; black is background, and one other value is object.
        size: (H, W), or a side, to which both are brought.

    Returns:
        A data set of one image.

    Raises:
        DataError: one is missing, too large, of another kind, damaged, or the two do not fit together. The message
            names the files as they were uploaded, and no folder of the server.
    """
    given = {"picture": image, "picture_mask": mask}
    for name, path in given.items():
        if path is None:
            what = "mask" if name == "picture_mask" else "picture"
            raise DataError(
                f"a {what} is missing; a reward compares with the truth, so expected a picture and its mask"
            )
        _check_file(Path(path))
    with tempfile.TemporaryDirectory(prefix="pixelseg-lab-") as folder:
        shown = {folder: "the upload"}
        for name, path in given.items():
            copy = Path(folder) / f"{name}{Path(str(path)).suffix.lower()}"
            shutil.copyfile(str(path), copy)
            shown[str(copy)] = Path(str(path)).name
        try:
            for name in shown:
                if name != folder:
                    _check_pixels(Path(name), shown[name])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of patients and brightness: this is one picture
                found = load_dataset("folder", data=folder, split="all", size=size)
        except PixelSegError as error:
            message = str(error)
            for path, name in sorted(shown.items(), key=lambda one: -len(one[0])):
                message = message.replace(path, name)
            raise DataError(message) from None
    if len(found) > 1:
        raise DataError(f"{Path(str(image)).name}: expected one picture, got a stack of {len(found)} pages")
    return found


def _check_file(path: Path) -> None:
    name = path.name
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{name}: expected a file that ends in {', '.join(ENDINGS)}")
    length = path.stat().st_size
    if length > LARGEST_FILE:
        raise DataError(f"{name}: has {length / 2**20:.1f} MB; expected at most {LARGEST_FILE / 2**20:g}")


def _check_pixels(path: Path, name: str) -> None:
    """Looks at a file's header alone: a small file may be unpacked to a very large picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
                pages = getattr(picture, "n_frames", 1)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(f"{name}: has far too many pixels; expected at most {MOST_PIXELS:,}") from None
        if path.suffix.startswith(".tif"):  # kinds of TIFF that Pillow does not know
            width, height, pages = _tiff_shape(path, name)
        else:
            raise DataError(f"{name}: is no picture that can be read; save it anew as png") from None
    if width * height * pages > MOST_PIXELS:
        raise DataError(f"{name}: has {width} x {height} pixels on {pages} page(s); expected at most {MOST_PIXELS:,}")


def _tiff_shape(path: Path, name: str) -> tuple[int, int, int]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            height, width = file.pages[0].shape[:2]
            return int(width), int(height), len(file.pages)
    except Exception:  # whatever a damaged file makes of it
        raise DataError(f"{name}: is no TIFF that can be read; save it anew as png") from None
