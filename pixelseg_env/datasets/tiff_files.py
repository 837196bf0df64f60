"""Decoding TIFF: strips and tiles, one plane or several, stacks, and every codec that is installed."""

from __future__ import annotations

import io
import logging
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pixelseg_env.datasets.integrity import is_lie
from pixelseg_env.datasets.jpeg_scan import find_scan_damage
from pixelseg_env.datasets.pages import ImageFile, Page, turned
from pixelseg_env.errors import DataError

_ORIENTATION = 274
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_JPEG = (6, 7, 34892)
_LOSSY = (*_JPEG, 33003, 33004, 33005, 34712, 50001)  # jpeg 2000 and webp, too
_LZW, _PACKBITS = 5, 32773
_TRANSPARENT = (1, 2)  # kinds of extra samples


def decode_tiff(content: bytes) -> ImageFile:
    """Decodes all pages of a TIFF file.

    Pages of a stack, also the slices, times and positions of an ImageJ or OME file, follow each other in the file's
    order; its channels are channels. Smaller copies (thumbnails, pyramids) are left out. Grey of which 0 is white is
    turned around, as viewers do; 1, 2 and 4 bits become 8, with the values as they are for numbers of labels.

    Raises:
        DataError: pages differ in size or depth; the colours are of a kind that is not read; a codec is not installed;
            the file is damaged in a way that tifffile mends in silence.
        Exception: whatever tifffile raises for other damage.
    """
    with _Complaints() as complaints, tifffile.TiffFile(io.BytesIO(content)) as file:
        whole = _whole(file)
        needed = sum(int(np.prod(one.shape, dtype=np.int64)) * one.dtype.itemsize for one in whole)
        if is_lie(needed, len(content)):
            raise DataError(f"says that its pixels are {needed} bytes, but it has {len(content)}; it is damaged")
        pages = [page for one in whole for page in _pages(one)]
        for number, one in enumerate(page for series in whole for page in series.pages if page is not None):
            _check_parts(content, one, f"page {number + 1}: " if len(pages) > 1 else "")
        tag = file.pages.first.tags.get(_ORIENTATION)
        orientation = int(tag.value) if tag is not None else 1
        lossy = any(int(one.keyframe.compression) in _LOSSY for one in whole)
    if complaints.found:
        raise DataError(f"expected a whole TIFF file, but it is damaged ({complaints.found[0]}); copy it again")
    sizes = list(dict.fromkeys(page.pixels.shape for page in pages))
    if not all(np.prod(size) for size in sizes or [(0,)]):
        raise DataError("expected an image, but it has no pixels; it is damaged: copy it again")
    if len(sizes) > 1:
        listed = ", ".join("x".join(map(str, size)) for size in sizes[:5])
        raise DataError(f"expected pages of one size, got {listed}; save them as files of their own")
    kinds = list(dict.fromkeys(str(page.pixels.dtype) for page in pages))
    if len(kinds) > 1:  # white is another level in each
        raise DataError(f"expected pages of one depth, got {' and '.join(kinds)}; convert them, or save them apart")
    return ImageFile(tuple(turned(page, orientation) for page in pages), orientation, lossy)


def count_pages(path: Path) -> int:
    """How many pages `decode_tiff` would give."""
    with _Complaints(), tifffile.TiffFile(path) as file:
        return sum(
            math.prod(
                n
                for n, axis in zip(one.get_shape(squeeze=False), one.get_axes(squeeze=False), strict=True)
                if axis not in "CSYX"
            )
            for one in _whole(file)
        )


def _whole(file: Any) -> list[Any]:
    """The series of a file without the smaller copies."""
    every = list(file.series)
    return [one for one in every if not (one.keyframe.is_reduced or one.keyframe.is_mask)] or every


def _pages(series: Any) -> list[Page]:
    frame = series.keyframe
    photometric = int(frame.photometric)
    if photometric > _YCBCR or (photometric == _YCBCR and int(frame.compression) not in (*_JPEG, 50001, 34712)):
        raise DataError(f"its colours are {frame.photometric.name}; expected grey, RGB or a palette: convert the file")
    axes = series.get_axes(squeeze=False)
    try:
        voxels = series.asarray(squeeze=False, maxworkers=1)
    except ValueError as error:
        if "requires the" not in str(error) and "not supported" not in str(error):
            raise
        raise DataError(
            f"its pixels are compressed with {frame.compression.name}, whose codec is not there; pip install "
            "imagecodecs, or save the file uncompressed or with deflate"
        ) from error
    channels = [k for k, axis in enumerate(axes) if axis in "CS"]
    order = [k for k, axis in enumerate(axes) if axis not in "CSYX"]
    stack = voxels.transpose(*order, axes.index("Y"), axes.index("X"), *channels)
    height, width = voxels.shape[axes.index("Y")], voxels.shape[axes.index("X")]
    return [_page(one, frame, photometric) for one in stack.reshape(-1, height, width, _product(voxels, channels))]


def _check_parts(content: bytes, page: Any, where: str) -> None:
    """Refuses strips and tiles that are damaged in ways that tifffile mends in silence; the first that is."""
    frame = page.keyframe
    codec = int(frame.compression)
    if codec not in (_LZW, _PACKBITS, _JPEG[1]) or frame.imagedepth > 1:
        return
    for k, (start, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        part = content[start : start + count]
        damage = _jpeg_damage(frame, part) if codec == _JPEG[1] else _length_damage(frame, part, k)
        if damage:
            raise DataError(f"{where}expected a whole TIFF file, but in a strip or tile {damage}; copy it again")


def _length_damage(frame: Any, part: bytes, number: int) -> str:
    """LZW and PackBits have no checksum: that they unpack to a wrong length is all that tells of damage."""
    import imagecodecs

    unpack: Any = imagecodecs.lzw_decode if int(frame.compression) == _LZW else imagecodecs.packbits_decode
    (high, wide), height = frame.chunks[-3:-1] if len(frame.chunks) > 2 else frame.chunks, frame.imagelength
    samples = 1 if int(frame.planarconfig) == 2 else frame.samplesperpixel
    row = -(-wide * samples * frame.bitspersample // 8)
    rows = high if frame.is_tiled else min(high, height - number % -(-height // high) * high)
    length = len(unpack(part, out=row * high + 1))  # no more room than is needed
    if length in (row * rows, row * high):  # some programs fill up the last part
        return ""
    return f"{row * rows} bytes are needed, and it unpacks to {length}: it is damaged"


def _jpeg_damage(frame: Any, part: bytes) -> str:
    """Looks at a part as at a jpeg file, which it is together with the page's tables."""
    from PIL import Image

    tables = frame.jpegtables or b"\xff\xd8\xff\xd9"
    whole = tables[:-2] + part[2:]
    with Image.open(io.BytesIO(whole), formats=("JPEG",)) as picture:
        tiles = list(picture.tile)
        picture.load()
        return find_scan_damage(whole, picture, tiles[0])


def _product(voxels: NDArray[Any], axes: list[int]) -> int:
    return int(np.prod([voxels.shape[k] for k in axes], dtype=np.int64))


def _page(pixels: NDArray[Any], frame: Any, photometric: int) -> Page:
    """One page, from (H, W, C) as it is stored."""
    if photometric == _PALETTE:
        colours = np.moveaxis(np.asarray(frame.colormap), 0, -1)
        table = (colours >> 8).astype(np.uint8) if colours.max(initial=0) > 255 else colours.astype(np.uint8)
        return Page(table[pixels[..., 0]], 255, None, pixels[..., 0])
    alpha = None
    kinds = [int(kind) for kind in frame.extrasamples]
    if kinds and kinds[-1] in _TRANSPARENT and pixels.shape[2] > 1:
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
    elif photometric == _RGB and pixels.shape[2] == 4 and np.ptp(pixels[..., 3]) == 0:
        pixels = pixels[..., :3]  # padding
    bits = int(frame.bitspersample) if isinstance(frame.bitspersample, int) else 8 * pixels.dtype.itemsize
    numbers = None
    if pixels.dtype.kind == "b" or (pixels.dtype == np.uint8 and bits < 8):
        numbers = pixels[..., 0].astype(np.uint8)
        pixels = (pixels.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    white = 1.0 if pixels.dtype.kind == "f" else float((1 << max(bits, 8)) - 1)
    if photometric == _WHITE_IS_ZERO and pixels.dtype.kind == "u":
        pixels = (int(white) - pixels.astype(np.int64)).astype(pixels.dtype)
    if photometric == _CMYK:
        pixels = _from_cmyk(pixels)
    if pixels.dtype == np.float64:
        pixels = pixels.astype(np.float32)
    grey = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return Page(grey, white, alpha, numbers, white_is_zero=photometric == _WHITE_IS_ZERO)


def _from_cmyk(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8 or pixels.shape[2] != 4:
        raise DataError("its colours are CMYK in a form that is not read; expected RGB: convert the file")
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels), "CMYK").convert("RGB"))


class _Complaints(logging.Handler):
    """What tifffile logs, and reads on, while a block runs in this thread: a page that is lost is lost in silence."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message that tells of damage."""
        text = record.getMessage()
        if record.thread == self._thread and (
            record.levelno >= logging.ERROR or any(word in text for word in ("corrupt", "truncat", "invalid page"))
        ):
            self.found.append(text)

    def __enter__(self) -> _Complaints:
        logging.getLogger("tifffile").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("tifffile").removeHandler(self)
