"""Does the compressed part of a jpeg end where its pixels do? Jpeg has no checksum, and its decoder tells nothing."""

from __future__ import annotations

from typing import Any

_SCAN, _END = 0xDA, 0xD9
_SEQUENTIAL = (0xC0, 0xC1)  # kinds of frames that are written in one go
_RESTARTS = range(0xD0, 0xD8)
# A decoder wants to have 8 bytes more than it needs. If it uses them, it writes other pixels than the file's.
_AHEAD = b"\x5a" * 8
_LAST = 32  # rows, more than are written at once


def find_scan_damage(content: bytes, picture: Any, tile: Any) -> str:
    """Looks whether the codes of the last pixels are the last codes of the file.

    A byte that is lost, or changed so that codes after it mean something else, moves all that follows: the decoder
    then runs out of bytes, or has some left. It is fed a part of the file here, to see when it writes the last rows.
    Damage that leaves as many codes as before, as within one block of 8x8 pixels, is not found.

    Args:
        content: the file.
        picture: its decoded picture (Pillow's).
        tile: how Pillow decodes it, `picture.tile` before it was loaded.

    Returns:
        What is wrong, as the rest of a sentence, or an empty string; also where nothing can be told, as of
        progressive files, which a decoder reads to the end before it writes a pixel.
    """
    end = _end_of_scan(content)
    if not end:
        return ""
    if not _is_written(content[:end] + _AHEAD, picture, tile):
        return "the codes end before the pixels do: a part of them is missing or damaged"
    # Some programs fill up with equal bytes.
    needed = len(content[: end - 1].rstrip(content[end - 1 : end]))
    if _is_written(content[:needed], picture, tile):
        return "the codes go on after the last pixel: a part of them is damaged"
    return ""


def _end_of_scan(content: bytes) -> int:
    """Where the only scan of a sequential file ends; 0 for other files."""
    position, sequential = 2, False
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return 0
        kind = content[position + 1]
        if kind == 0xFF:  # filling
            position += 1
            continue
        sequential = sequential or kind in _SEQUENTIAL
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
        if kind == _SCAN:
            break
    if not sequential:
        return 0
    while True:
        position = content.find(b"\xff", position)
        if position < 0 or position + 2 > len(content):
            return 0
        if content[position + 1] not in (0, *_RESTARTS):
            break
        position += 2
    end = position
    while content[position + 1 : position + 2] == b"\xff":
        position += 1
    # Another scan follows: each has a part of the colours.
    return 0 if content.find(bytes((0xFF, _SCAN)), position, content.find(bytes((0xFF, _END)), position)) > 0 else end


def _is_written(content: bytes, picture: Any, tile: Any) -> bool:
    """Whether a decoder that gets these bytes writes the last rows of the picture."""
    from PIL import Image, ImageChops

    name, extent, offset, arguments = tile
    canvas = ImageChops.invert(picture)  # every pixel differs from what is to be written
    decoder = Image._getdecoder(picture.mode, name, arguments, getattr(picture, "decoderconfig", ()))
    decoder.setimage(canvas.im, extent)
    decoder.decode(content[offset:])
    last = (0, max(picture.height - _LAST, 0), picture.width, picture.height)
    return bool(canvas.crop(last).tobytes() == picture.crop(last).tobytes())
