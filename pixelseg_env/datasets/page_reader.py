"""How `predict` reads an image file of one page or several, and writes masks onto the file's own pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelseg_env.datasets.files import FileImages, ImageReader, Masks, named
from pixelseg_env.datasets.fitting import fit_image
from pixelseg_env.datasets.pages import as_stored
from pixelseg_env.errors import OptionError

_TIFF = (".tif", ".tiff")
_ORIENTATION = 274


@dataclass(frozen=True)
class PageReader(ImageReader):
    """Reads files of which `pixels` gives a list of pages, upright; masks are stacks of as many.

    A mask lies on the file's pixels as they are stored, and notes the same orientation as the file, so that viewers
    turn both alike.
    """

    def read(
        self, path: Path, size: tuple[int, int] | None, fit: str, planes: int, options: Mapping[str, Any]
    ) -> FileImages:
        """See `FileReader.read`."""
        from pixelseg_env.datasets.image_files import open_image

        if self.pixels is None:
            raise NotImplementedError("PageReader needs pixels=, a function")
        pages = self.pixels(path, planes, **named(self.pixels, options))
        native = pages[0].shape[0], pages[0].shape[1]
        images = np.stack([fit_image(page, size or native, fit) for page in pages])
        orientation = open_image(path).orientation

        def encode(masks: Masks, name: str) -> bytes:
            return encode_masks(masks, name, orientation)

        return FileImages(np.ascontiguousarray(images), native, fit, encode)


def encode_masks(masks: Masks, name: str, orientation: int = 1) -> bytes:
    """Masks as an image file of 0 and 255.

    Args:
        masks: uint8 (N, H, W) of 0 and 1, upright.
        name: of the file.
        orientation: of the image that they belong to, as EXIF counts.

    Raises:
        OptionError: there are several, and the file is no TIFF.
    """
    pixels = np.ascontiguousarray(as_stored(masks, orientation, (-2, -1))) * np.uint8(255)
    ending = Path(name).suffix.lower()
    buffer = io.BytesIO()
    if ending in _TIFF:
        import tifffile

        note = [(_ORIENTATION, 3, 1, orientation, True)] if orientation > 1 else []
        tifffile.imwrite(buffer, pixels, photometric="minisblack", compression="zlib", metadata=None, extratags=note)
        return buffer.getvalue()
    if len(pixels) > 1:
        raise OptionError(f"{name}: the masks of {len(pixels)} pages need a file that ends in {' or '.join(_TIFF)}")
    from PIL import Image

    more: dict[str, Any] = {}
    if orientation > 1 and ending == ".png":
        more["exif"] = Image.Exif()
        more["exif"][_ORIENTATION] = orientation
    Image.fromarray(pixels[0]).save(buffer, {".bmp": "BMP"}.get(ending, "PNG"), **more)
    return buffer.getvalue()
