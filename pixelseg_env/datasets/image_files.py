"""Reading an image file of any kind, whole or not at all.

| kind | what comes out |
| --- | --- |
| png, bmp, ppm, pgm, webp | one page, 8 or 16 bits; grey or RGB, with its transparency apart |
| gif | the same, its palette resolved; an animation is refused |
| jpeg | one page, 8 bits; CMYK as RGB; of several pictures (MPO) the first, which viewers show |
| tiff | all pages of one size, 1 to 16 bits, any number of channels; see `tiff_files` |

Everywhere a palette is resolved, its positions kept as numbers of labels; the EXIF orientation is applied as a viewer
does; colours are taken as stored where a pixel is transparent, of which a warning tells (a mask's transparency counts,
see `read_masks`); and a file that is cut off or damaged is refused, whatever its decoder makes of it. How surely damage
inside a file is found depends on what its kind has to tell it by:

| kind | what tells of damage |
| --- | --- |
| png, and tiff with deflate or lzma | checksums: any damage is found |
| jpeg, also in tiff | the codes must end where the pixels do: most lost or changed bytes are found |
| tiff with LZW or PackBits, gif | the length of what is unpacked: as with jpeg |
| progressive jpeg, lossy webp, tiff with jpeg 2000, zstd or fax codes | what stops the decoder, and no more |
| bmp, ppm, pgm, tiff without compression | missing bytes only |
"""

from __future__ import annotations

import io
import mmap
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.files import IMAGE_SUFFIXES
from pixelseg_env.datasets.integrity import SMALL, TIFF_MAGIC, find_damage, has_pages, is_lie
from pixelseg_env.datasets.jpeg_scan import find_scan_damage
from pixelseg_env.datasets.pages import ImageFile, Page, turned
from pixelseg_env.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "PPM")
_SPELT_OUT = ("BMP", "DIB", "GIF", "PPM")  # have no way to say "all alike" in a few bytes
_HEADER = 1024  # bytes that a pgm's header has at most
_ORIENTATION = 274  # the tag's number in EXIF


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image file (hidden files, such as macOS's `._x.png`, are not)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def open_image(path: Path) -> ImageFile:
    """Decodes an image file.

    Raises:
        DataError: the file cannot be read, is cut off or damaged, is no image, or of a kind that is not read; it
            needs a codec that is not installed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check that the file exists and its rights"
        ) from error
    damage = find_damage(content)
    if damage:
        raise DataError(f"{path}: expected a whole image file, but {damage}; copy or download the file again")
    try:
        if content[:4] in TIFF_MAGIC:
            from pixelseg_env.datasets.tiff_files import decode_tiff

            return decode_tiff(content)
        return _decode(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise what they like
        raise DataError(
            f"{path}: expected an image ({', '.join(IMAGE_SUFFIXES)}), but it could not be decoded ({len(content)} "
            f"bytes; {error}); the file is damaged or is not an image: replace or remove it"
        ) from error


def read_pages(path: Path, transparent: list[Path] | None = None) -> list[NDArray[Any]]:
    """The pages of a file: (H, W) or (H, W, C) each, of 8 or 16 bits or float; transparency is dropped.

    Values of other depths, such as 12 bits, are brought to 8 or 16 bits.

    Args:
        path: the file.
        transparent: gets the path, if a pixel of the file is not opaque; see `warn_of_transparency`.

    Raises:
        DataError: see `open_image`; the pixels are of another type.
    """
    pages = []
    for page in open_image(path).pages:
        pixels = page.pixels
        if transparent is not None and page.alpha is not None and not np.all(page.alpha == page.white):
            transparent.append(path)
        if pixels.dtype not in (np.uint8, np.uint16, np.float32):
            raise DataError(f"{path}: expected 8-bit or 16-bit pixels, got {pixels.dtype}; convert the file")
        if pixels.dtype == np.uint16 and page.white < 65535:
            pixels = np.rint(pixels * (65535 / page.white)).astype(np.uint16)
        if pixels.dtype == np.float32 and not pixels.min(initial=0) >= 0:  # also false for NaN
            raise DataError(f"{path}: expected float pixels of 0 or more, found {pixels.min():g}; convert the file")
        pages.append(np.ascontiguousarray(pixels))
    return pages


def page_count(path: Path) -> int:
    """How many pages a file has, from its directories alone; 1 where it cannot be read, which its reader will say."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in TIFF_MAGIC:
                return 1
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # not its pixels
                if not has_pages(content):
                    return 1
        from pixelseg_env.datasets.tiff_files import count_pages

        return count_pages(path)
    except Exception:  # tifffile raises what it likes
        return 1


def _decode(content: bytes) -> ImageFile:
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
        frames = int(getattr(picture, "n_frames", 1))
        if frames > 1 and picture.format != "MPO":
            raise DataError(
                f"expected one picture, got an animation ({picture.format}) of {frames}; save them as files of their "
                "own, or as the pages of a TIFF"
            )
        width, height = picture.size
        small = 0 if picture.format in _SPELT_OUT else SMALL
        if is_lie(width * height * len(picture.getbands()), len(content), small):
            raise DataError(f"says that it is {height}x{width} pixels, but has {len(content)} bytes; it is damaged")
        orientation = _orientation(picture)
        tiles = list(getattr(picture, "tile", ()))
        picture.load()
        damage = find_scan_damage(content, picture, tiles[0]) if picture.format == "JPEG" and len(tiles) == 1 else ""
        if damage:
            raise DataError(f"expected a whole jpeg, but {damage}; copy the file again, or save it anew as png")
        lossy = picture.format in ("JPEG", "MPO") or (picture.format == "WEBP" and not _has_chunk(content, b"VP8L"))
        page = _deep(content) or _page(picture)
        white = _white_of(content)
        if white and page.numbers is None and page.pixels.ndim == 2:  # Pillow has stretched them
            page = replace(page, numbers=np.rint(page.pixels * (white / page.white)).astype(page.pixels.dtype))
    return ImageFile((turned(page, orientation),), orientation, lossy)


def _orientation(picture: Any) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # its EXIF block is damaged: viewers leave it alone, too
        return 1


def _page(picture: Any) -> Page:
    """One decoded picture, whatever its mode."""
    numbers = None
    if picture.mode == "P":
        numbers = np.array(picture)
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode == "PA":
        picture = picture.convert("RGBA")
    elif "transparency" in picture.info and picture.mode in ("1", "L", "RGB"):
        picture = picture.convert("RGBA" if picture.mode == "RGB" else "LA")
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")
    pixels = np.array(picture)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype.kind in "iu" and pixels.dtype != np.uint8 and pixels.min() >= 0 and pixels.max() <= 65535:
        pixels = pixels.astype(np.uint16)
    alpha = None
    if picture.mode in ("LA", "RGBA"):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return Page(pixels, 65535 if pixels.dtype == np.uint16 else 255, alpha, numbers)


def _has_chunk(content: bytes, name: bytes) -> bool:
    """Whether a RIFF file has a part of this name; profiles may stand before the pixels."""
    position = 12
    while position + 8 <= len(content):
        if content[position : position + 4] == name:
            return True
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return False


def _white_of(content: bytes) -> int:
    """The value of white in grey png of fewer than 8 bits, and pgm of other depths than 8 and 16; 0 in other files."""
    if content.startswith(b"\x89PNG"):
        return (1 << content[24]) - 1 if content[25] == 0 and content[24] < 8 else 0
    if not content.startswith((b"P2", b"P5")):
        return 0
    words = re.sub(rb"#[^\n]*", b"", content[2:_HEADER]).split(maxsplit=3)
    return int(words[2]) if len(words) > 2 and words[2].isdigit() else 0


def _deep(content: bytes) -> Page | None:
    """A PNG of 16 bits with several channels, of which Pillow would keep 8; None for any other file."""
    if not content.startswith(b"\x89PNG") or content[24] != 16 or content[25] not in (2, 4, 6):
        return None
    import cv2

    pixels = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
    if pixels.ndim == 2:
        return Page(pixels, 65535)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    colours = pixels[..., 2::-1]
    return Page(colours[..., 0] if content[25] == 4 else colours, 65535, alpha)
