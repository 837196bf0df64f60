"""Is an image file complete? Decoders differ in whether they tell; the file's own bookkeeping always does."""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # strips, tiles
_WIDTH, _HEIGHT, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 277, 278, 284, 322, 323
_READ = {*_OFFSETS, *_COUNTS, _WIDTH, _HEIGHT, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT}
MOST_PAGES = 1 << 16
# No codec for pictures packs more pixels than this into a byte; small files may claim what they like.
PACKED, SMALL = 4000, 1 << 26
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PIECE = 1 << 20  # bytes that are unpacked at once
Content = bytes | mmap.mmap


def is_lie(claimed: int, there: int, small: int = SMALL) -> bool:
    """Whether a file of so many bytes cannot hold the bytes of pixels that its header claims, beyond a few."""
    return claimed > small and claimed > PACKED * there


def find_damage(content: bytes) -> str:
    """Looks for missing bytes, and in PNG files, which have checksums, for wrong ones.

    Decoders return some cut-off files as images whose missing part is blank, with at most a line on
    stderr, and which ones they do so for changes with their version.

    Args:
        content: the whole file.

    Returns:
        What is missing, as the rest of a sentence, or an empty string. A file of no known format gets the
        benefit of the doubt: the decoder will refuse it.
    """
    if content.startswith(b"\x89PNG"):
        return _png_damage(content)
    if content.startswith(b"\xff\xd8"):
        # An embedded preview has an end marker of its own, but before the picture's start of scan.
        complete = content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda") >= 0
        return "" if complete else "its end marker (EOI) is missing: it is cut off"
    if content[:4] in TIFF_MAGIC:
        return _tiff_damage(content)
    if content.startswith(b"BM") and len(content) >= 6:
        (size,) = struct.unpack_from("<I", content, 2)
        return _short(size, content)
    if content.startswith(b"RIFF") and len(content) >= 8:
        (size,) = struct.unpack_from("<I", content, 4)
        return _short(size + 8, content)
    if content.startswith(b"GIF8"):
        return "" if b";" in content[-16:] else "its end marker is missing: it is cut off"
    return ""


def _short(size: int, content: bytes) -> str:
    return f"it says it has {size} bytes and has {len(content)}: it is cut off" if size > len(content) else ""


def _png_damage(content: bytes) -> str:
    if len(content) < 33 or content[12:16] != b"IHDR":
        return "its header is missing: it is cut off, or damaged"
    position, pixels = 8, _Unpacked()
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 12 + length
        if end > len(content):
            break
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        name = content[position + 4 : position + 8]
        if checksum != zlib.crc32(content[position + 4 : end - 4]):
            return f"the checksum of its part {name.decode('latin-1')!r} is wrong: it is damaged"
        if name == b"IDAT" and not pixels.add(content[position + 8 : end - 4]):
            return "its compressed pixels are damaged"
        if name == b"IEND":
            needed = _png_size(content)
            if pixels.ended and pixels.size >= needed:
                return ""
            return f"its pixels need {needed} bytes and it has {pixels.size}: it is damaged"
        position = end
    return "its end marker (IEND) is missing: it is cut off"


class _Unpacked:
    """The compressed pixels of a PNG file, of which only the size is kept; at its end the stream has a checksum."""

    def __init__(self) -> None:
        self.size = 0
        self._stream = zlib.decompressobj()

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def add(self, packed: bytes) -> bool:
        """Unpacks a further part; False where it is damaged."""
        try:
            while packed and not self.ended:
                self.size += len(self._stream.decompress(packed, PIECE))
                packed = self._stream.unconsumed_tail
        except zlib.error:
            return False
        return True


def _png_size(content: bytes) -> int:
    """How many bytes the pixels of a PNG file are, with the one that each row begins with."""
    width, height, bits, kind, *_, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    pixel = bits * {2: 3, 4: 2, 6: 4}.get(kind, 1)
    # Of each pass: the first column and row, and the steps to the next.
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = ((-(-max(width - x, 0) // across), -(-max(height - y, 0) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + -(-columns * pixel // 8)) for columns, rows in sides if columns)


# ---------------------------------------------------------------- TIFF


@dataclass(frozen=True)
class _Layout:
    """How numbers are written: byte order, and whether positions have 4 bytes or, in BigTIFF, 8."""

    order: str
    big: bool

    @classmethod
    def of(cls, content: Content) -> _Layout:
        return cls("<" if content[:2] == b"II" else ">", 43 in content[2:4])

    def number(self, content: Content, position: int, wide: bool = True) -> int:
        """A position (wide), or a number of entries."""
        letter = "Q" if self.big else "I" if wide else "H"
        if position > len(content):  # it may be beyond what the machine counts with
            raise struct.error
        return int(struct.unpack_from(self.order + letter, content, position)[0])


def _tiff_damage(content: bytes) -> str:
    try:
        for number, tags in enumerate(_directories(content)):
            damage = _page_damage(tags, len(content))
            if damage:
                return f"page {number + 1}: {damage}" if number else damage
    except struct.error:
        return "a part of its directories is empty or lies beyond the end of the file: it is cut off, or damaged"
    except _LoopError:
        return "its directories lead back to themselves: it is damaged"
    return ""


def has_pages(content: Content) -> bool:
    """Whether the directories of a TIFF file are whole: who counts the pages of one whose are not may never end."""
    try:
        for _ in _directories(content):
            pass
    except (struct.error, _LoopError):
        return False
    return True


class _LoopError(Exception):
    pass


def _directories(content: Content) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags that are needed here, page by page."""
    layout = _Layout.of(content)
    step, count_size = (20, 8) if layout.big else (12, 2)
    position = layout.number(content, 8 if layout.big else 4)
    seen: set[int] = set()
    while position:
        if position in seen or len(seen) > MOST_PAGES:
            raise _LoopError
        seen.add(position)
        entries = layout.number(content, position, wide=False)
        start = position + count_size
        if start + entries * step > len(content):
            raise struct.error
        yield dict(_tags(content, layout, range(start, start + entries * step, step)))
        position = layout.number(content, start + entries * step)


def _tags(content: Content, layout: _Layout, places: range) -> Iterator[tuple[int, tuple[int, ...]]]:
    for at in places:
        tag, kind = struct.unpack_from(layout.order + "HH", content, at)
        if tag not in _READ or kind not in _LETTERS:
            continue
        count = layout.number(content, at + 4)
        here = at + (12 if layout.big else 8)
        if count * _TIFF_TYPES[kind] > (8 if layout.big else 4):
            here = layout.number(content, here)
        if not count or here + count * _TIFF_TYPES[kind] > len(content):
            raise struct.error
        yield tag, struct.unpack_from(f"{layout.order}{count}{_LETTERS[kind]}", content, here)


def _page_damage(tags: dict[int, tuple[int, ...]], size: int) -> str:
    for offset_tag, count_tag in zip(_OFFSETS, _COUNTS, strict=True):
        offsets, counts = tags.get(offset_tag, ()), tags.get(count_tag, ())
        for offset, count in zip(offsets, counts, strict=False):
            if offset + count > size:
                return f"its pixels need {offset + count} bytes and it has {size}: it is cut off"
            if not (offset and count):
                return "a part of its pixels is not there: it was never written, or is damaged"
        expected = _parts(tags, tiled=offset_tag == _OFFSETS[1])
        if offsets and expected and len(offsets) != expected:
            return f"its pixels lie in {len(offsets)} part(s), where its size needs {expected}: it is damaged"
    return ""


def _parts(tags: dict[int, tuple[int, ...]], tiled: bool) -> int:
    """How many strips or tiles a page needs; 0 where it does not tell."""
    height, width = tags.get(_HEIGHT, (0,))[0], tags.get(_WIDTH, (0,))[0]
    planes = tags.get(_SAMPLES, (1,))[0] if tags.get(_PLANAR, (1,))[0] == 2 else 1
    if tiled:
        high, wide = tags.get(_TILE_HEIGHT, (0,))[0], tags.get(_TILE_WIDTH, (0,))[0]
        return math.ceil(height / high) * math.ceil(width / wide) * planes if high and wide else 0
    rows = tags.get(_ROWS, (height,))[0]
    return math.ceil(height / min(rows, height)) * planes if height and rows else 0
