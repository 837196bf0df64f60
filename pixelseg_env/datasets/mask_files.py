"""Writing masks as image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.pages import as_stored
from pixelseg_env.errors import OptionError

_TIFF = (".tif", ".tiff")
_ORIENTATION = 274


def encode_masks(masks: NDArray[np.uint8], name: str, orientation: int = 1) -> bytes:
    """Masks as an image file of 0 and 255.

    Args:
        masks: uint8 (N, H, W) of 0 and 1, upright.
        name: of the file.
        orientation: of the image that they belong to, as EXIF counts.

    Raises:
        OptionError: there are several, and the file is no TIFF.
    """
    ending = Path(name).suffix.lower()
    if ending in _TIFF:
        return encode_tiff(masks * np.uint8(255), orientation)
    pixels = np.ascontiguousarray(as_stored(masks, orientation, (-2, -1))) * np.uint8(255)
    if len(pixels) > 1:
        raise OptionError(f"{name}: the masks of {len(pixels)} pages need a file that ends in {' or '.join(_TIFF)}")
    from PIL import Image

    more: dict[str, Any] = {}
    if orientation > 1 and ending == ".png":
        more["exif"] = Image.Exif()
        more["exif"][_ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, {".bmp": "BMP"}.get(ending, "PNG"), **more)
    return buffer.getvalue()


def encode_tiff(maps: NDArray[Any], orientation: int = 1) -> bytes:
    """Maps (N, H, W), upright, as the pages of a TIFF file, which notes the orientation of their image."""
    import tifffile

    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(as_stored(maps, orientation, (-2, -1)))
    note = [(_ORIENTATION, 3, 1, orientation, True)] if orientation > 1 else []
    tifffile.imwrite(buffer, pixels, photometric="minisblack", compression="zlib", metadata=None, extratags=note)
    return buffer.getvalue()
