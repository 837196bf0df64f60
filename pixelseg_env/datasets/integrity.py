"""Is an image file complete? Decoders differ in whether they tell; the file's own bookkeeping always does."""

from __future__ import annotations

import struct

_TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # strips, tiles


def find_damage(content: bytes) -> str:
    """Looks for missing bytes.

    OpenCV returns some cut-off files as images whose missing part is blank, with at most a line on
    stderr, and which ones it does so for changes with its version.

    Args:
        content: the whole file.

    Returns:
        What is missing, as the rest of a sentence, or an empty string. A file of no known format gets the
        benefit of the doubt: the decoder will refuse it.
    """
    if content.startswith(b"\x89PNG"):
        return "" if b"IEND" in content else "its end marker (IEND) is missing: it is cut off"
    if content.startswith(b"\xff\xd8"):
        # An embedded preview has an end marker of its own, but before the picture's start of scan.
        complete = content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda") >= 0
        return "" if complete else "its end marker (EOI) is missing: it is cut off"
    if content[:4] in (b"II*\x00", b"MM\x00*"):
        return _tiff_damage(content)
    if content.startswith(b"BM") and len(content) >= 6:
        (size,) = struct.unpack_from("<I", content, 2)
        return f"it says it has {size} bytes and has {len(content)}: it is cut off" if size > len(content) else ""
    return ""


def _tiff_damage(content: bytes) -> str:
    order = "<" if content[:2] == b"II" else ">"
    try:
        (position,) = struct.unpack_from(order + "I", content, 4)
        (entries,) = struct.unpack_from(order + "H", content, position)
        tags = {}
        for i in range(entries):
            tag, kind, count = struct.unpack_from(order + "HHI", content, position + 2 + 12 * i)
            if tag in _OFFSETS or tag in _COUNTS:
                tags[tag] = _tiff_values(content, order, position + 2 + 12 * i + 8, kind, count)
    except struct.error:
        return "its directory lies beyond the end of the file: it is cut off"
    for offset_tag, count_tag in zip(_OFFSETS, _COUNTS, strict=True):
        for offset, count in zip(tags.get(offset_tag, ()), tags.get(count_tag, ()), strict=False):
            if offset + count > len(content):
                return f"its pixels need {offset + count} bytes and it has {len(content)}: it is cut off"
    return ""


def _tiff_values(content: bytes, order: str, position: int, kind: int, count: int) -> tuple[int, ...]:
    letter = {3: "H", 4: "I", 16: "Q"}.get(kind)
    if letter is None:
        return ()
    if count * _TIFF_TYPES[kind] > 4:
        (position,) = struct.unpack_from(order + "I", content, position)
    return struct.unpack_from(f"{order}{count}{letter}", content, position)
