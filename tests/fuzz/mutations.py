"""Seeded ways to spoil a file: blind ones for any bytes, and ones that know a format and keep its checksums right.

A mutator is `mutator(content, others, rng) -> content`. A blind change mostly ends at a format's first checksum; those
that know the format get behind it, to the sizes, counts and types that a decoder believes.
"""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutator = Callable[[bytes, Sequence[bytes], random.Random], bytes]

EXTREMES = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    10**40,
    "",
    "a",
    "\x00",
    "../../..",
    "é" * 300,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, "a", None],
    {"a": [1]},
)
DEEP = 3000  # levels; Python's own limit is 1000
LARGE = 20_000  # characters of a value that is not repeated any more: twice is enough for gigabytes
BOMB = gzip.compress(bytes(96 << 20), 9, mtime=0)  # 96 MiB of zeros in 94 KiB


# ---------------------------------------------------------------- any bytes


def truncate(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def flip_bits(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if spoilt:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def flip_head(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Headers are at the front, so more than a fair share of what is changed should lie there."""
    return flip_bits(content[:64], others, rng) + content[64:]


def overwrite_bytes(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    at, length = rng.randrange(len(content) + 1), rng.choice((1, 2, 4, 16, 256))
    new = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return content[:at] + new + content[at + length :]


def overwrite_number(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """An extreme, in either byte order, mostly near the front."""
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    number = (rng.choice(EXTREMES) & ((1 << 8 * width) - 1)).to_bytes(width, order)  # type: ignore[arg-type]
    at = rng.randrange(min(len(content), rng.choice((64, 400, len(content) or 1))) + 1)
    return content[:at] + number + content[at + width :]


def splice(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def duplicate(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    one, two = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:two] + content[one:two] * rng.choice((1, 1, 3, 20)) + content[two:]


def remove(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 2, 4, 32, 512)) :]


def append(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    return content + rng.choice((rng.randbytes(17), bytes(4096), content, rng.choice(others)))


def replace_all(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    return rng.choice((b"", b"\x00", b"\n", rng.randbytes(300), b"\xff" * 4096, content[::-1], content[:16]))


BLIND: tuple[Mutator, ...] = (
    truncate,
    flip_bits,
    flip_head,
    overwrite_bytes,
    overwrite_number,
    splice,
    duplicate,
    remove,
    append,
    replace_all,
)


# ---------------------------------------------------------------- PNG


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes a chunk, or the order of chunks, under right checksums."""
    chunks = _chunks(content)
    k = rng.randrange(len(chunks))
    name, body = chunks[k]
    what = rng.randrange(6)
    if what == 0:  # sizes and pixel type
        head = bytearray(chunks[0][1])
        if rng.random() < 0.7:
            side = rng.choice((0, 1, 3, 13, 4096, 20000, 65535, 2**24, 2**31 - 1, 2**32 - 1))
            struct.pack_into(">I", head, rng.choice((0, 4)), side)
        else:
            head[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = chunks[0][0], bytes(head)
    elif what == 1:
        chunks[k] = name, rng.choice(BLIND)(body, [body], rng)
    elif what == 2:
        chunks.insert(rng.randrange(len(chunks) + 1), (name, body))
    elif what == 3:
        del chunks[k]
    elif what == 4:
        rng.shuffle(chunks)
    else:  # pixels that unpack to other than was announced
        data = b"".join(part for kind, part in chunks if kind == b"IDAT")
        rows = zlib.decompress(data) if data else b""
        rows = rng.choice((rows[: len(rows) // 2], rows * 3, rows + bytes(1 << 20), flip_bits(rows, others, rng)))
        chunks = [item for item in chunks if item[0] != b"IDAT"]
        chunks.insert(-1, (b"IDAT", zlib.compress(rows)))
    spoilt = content[:8]
    for kind, part in chunks:
        spoilt += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    return spoilt


# ---------------------------------------------------------------- JPEG


def jpeg(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes a segment: its length, or what stands in it; the frame's size above all."""
    places, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        places.append(at)
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    if not places:
        return flip_bits(content, others, rng)
    frames = [place for place in places if content[place + 1] in (0xC0, 0xC1, 0xC2)]
    spoilt = bytearray(content)
    if frames and rng.random() < 0.4:
        value = rng.choice((0, 1, 17, 20000, 65500, 65535))
        struct.pack_into(">H", spoilt, frames[0] + rng.choice((5, 7)), value)
        return bytes(spoilt)
    place = rng.choice(places)
    if rng.random() < 0.3:
        struct.pack_into(">H", spoilt, place + 2, rng.choice((0, 1, 2, 3, 255, 65535)))
        return bytes(spoilt)
    end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    body = content[place + 4 : end]
    if rng.random() < 0.3:
        return content[:place] + content[place:end] * rng.choice((0, 2, 40)) + content[end:]
    return content[: place + 4] + flip_bits(body, others, rng) + content[end:]


# ---------------------------------------------------------------- TIFF


def tiff(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes an entry of the first directory: tag, type, count or value; or where the next directory lies."""
    order = "<" if content[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", content, 4)
        (entries,) = struct.unpack_from(order + "H", content, start)
        spoilt = bytearray(content)
        entry = start + 2 + 12 * rng.randrange(max(1, entries))
        extreme = rng.choice(EXTREMES) & 0xFFFFFFFF
        what = rng.randrange(7)
        if what == 0:
            struct.pack_into(order + "H", spoilt, entry + 2, rng.choice((0, 1, 2, 3, 4, 5, 9, 11, 12, 16, 255, 65535)))
        elif what == 1:
            struct.pack_into(order + "I", spoilt, entry + 4, extreme)
        elif what in (2, 3):
            struct.pack_into(order + "I", spoilt, entry + 8, extreme)
        elif what == 4:  # a directory that leads back to itself, or nowhere
            place = rng.choice((start, 0, 8, len(content), extreme))
            struct.pack_into(order + "I", spoilt, start + 2 + 12 * entries, place)
        elif what == 5:
            struct.pack_into(order + "H", spoilt, entry, rng.choice((256, 257, 258, 259, 262, 277, 284, 317, 322, 339)))
        else:  # width, length, bits, compression, photometric, samples, rows a strip, planes
            wanted = rng.choice((256, 257, 258, 259, 262, 277, 278, 284, 317, 339))
            value = rng.choice((0, 1, 2, 3, 5, 6, 7, 8, 16, 32, 64, 1000, 20000, 32773, 65535, extreme))
            for k in range(entries):
                at = start + 2 + 12 * k
                tag, kind = struct.unpack_from(order + "HH", content, at)
                if tag == wanted:
                    struct.pack_into(order + "I" if kind == 4 else order + "H", spoilt, at + 8, _fit(value, kind))
        return bytes(spoilt)
    except struct.error:
        return flip_bits(content, others, rng)


def _fit(value: int, kind: int) -> int:
    return value & (0xFFFFFFFF if kind == 4 else 0xFFFF)


# ---------------------------------------------------------------- NIfTI


def nifti(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes a field of a NIfTI-1 header: dimensions, type, offset, scaling, orientation, extensions."""
    spoilt = bytearray(content)
    if len(spoilt) < 352:
        return flip_bits(content, others, rng)
    what = rng.randrange(8)
    small = rng.choice((0, 1, 2, 3, 4, 5, 7, 8, -1, -5, 100, 32767, -32768))
    if what in (0, 1):
        struct.pack_into("<h", spoilt, 40 + 2 * rng.randrange(8), small)
    elif what == 2:
        kinds = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 9999)
        struct.pack_into("<hh", spoilt, 70, rng.choice(kinds), rng.choice((0, 1, 8, 16, 32, 64, 128)))
    elif what == 3:
        offset = rng.choice((0.0, -1.0, 347.0, 352.5, 1e9, 1e30, float("nan"), float("inf")))
        struct.pack_into("<f", spoilt, 108, offset)
    elif what == 4:
        scale = rng.choice((0.0, float("nan"), float("inf"), 1e38, -1e38, 1e-40))
        struct.pack_into("<f", spoilt, rng.choice((112, 116)), scale)
    elif what == 5:  # pixel sizes, quaternion, affine
        odd = rng.choice((0.0, float("nan"), float("inf"), 1e38, -1.0, 2.0))
        struct.pack_into("<f", spoilt, rng.choice((*range(76, 108, 4), *range(256, 328, 4))), odd)
        struct.pack_into("<hh", spoilt, 252, rng.choice((0, 1, 2, 99, -1)), rng.choice((0, 1, 2, 99, -1)))
    elif what == 6:  # an extension of a size that is none
        size = rng.choice((0, 1, 8, 16, 2**31 - 1, -16))
        spoilt[348:352] = b"\x01\x00\x00\x00"
        spoilt[352:352] = struct.pack("<ii", size, rng.choice((0, 2, 4, 6)))
    else:
        spoilt[344:348] = rng.choice((b"n+1\x00", b"ni1\x00", b"n+2\x00", bytes(4), b"abcd"))
    return bytes(spoilt)


def packed(inner: Mutator) -> Mutator:
    """A mutator of what lies in a gzip file, which is then packed again; or of the packing."""

    def mutate(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
        chance = rng.random()
        if chance < 0.03:
            return content + BOMB
        if chance < 0.1:  # lengths and checksums at the end
            return content[:-8] + struct.pack("<II", rng.getrandbits(32), rng.choice(EXTREMES) & 0xFFFFFFFF)
        plain = [gzip.decompress(other) for other in (content, *others) if other[:2] == b"\x1f\x8b"]
        mutator = inner if rng.random() < 0.7 else rng.choice(BLIND)
        return gzip.compress(mutator(plain[0], plain[1:] or plain, rng), 1, mtime=0)

    return mutate


# ---------------------------------------------------------------- DICOM


def dicom(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes the type, length or value of an element (explicit types, little endian)."""
    places, at = [], 132
    while at + 8 <= len(content):
        long = content[at + 4 : at + 6] in (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN")
        length = int.from_bytes(content[at + 8 : at + 12] if long else content[at + 6 : at + 8], "little")
        places.append((at, 12 if long else 8, length))
        at += (12 if long else 8) + length
    if not places:
        return flip_bits(content, others, rng)
    at, head, length = rng.choice(places)
    end = at + head + length
    spoilt = bytearray(content)
    what = rng.randrange(6)
    if what == 0:
        spoilt[at + 4 : at + 6] = rng.choice((b"OB", b"OW", b"SQ", b"UN", b"DS", b"IS", b"US", b"UI", b"AT", b"??"))
    elif what == 1:
        width = 4 if head == 12 else 2
        number = rng.choice(EXTREMES) & ((1 << 8 * width) - 1)
        spoilt[at + head - width : at + head] = number.to_bytes(width, "little")
    elif what == 2:
        texts = (
            b"",
            b"0",
            b"-1",
            b"nan",
            b"inf",
            b"1e309",
            b"a\\b",
            b"1\\2\\3\\4\\5\\6\\7",
            b"99999999999",
            b"\xff\xfe",
        )
        text = rng.choice(texts)
        spoilt[at + head : end] = text.ljust(min(length, 1 << 20), b" ")[:length]
    elif what == 3:
        spoilt[at + head : end] = flip_bits(content[at + head : end], others, rng)
    elif what == 4:
        spoilt[at:end] = content[at:end] * rng.choice((0, 2, 5))
    else:
        number = rng.choice((0, 1, 2, 3, 8, 12, 16, 32, 64, 4096, 65535))
        spoilt[at + head : at + head + 2] = number.to_bytes(2, "little")
    return bytes(spoilt)


# ---------------------------------------------------------------- text


def json_text(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes a value somewhere in JSON: its type, its presence, its depth; or the text, in ways that are odd."""
    try:
        value = json.loads(content)
    except ValueError:
        return flip_bits(content, others, rng)
    chance = rng.random()
    if chance < 0.04:
        return rng.choice((b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP))
    if chance < 0.06:
        return b"1" * 5000
    if chance < 0.1:
        return json.dumps(value).encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = _confused(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.05:  # a value as deep as nothing can print
        text = text.replace("null", "[" * DEEP + "]" * DEEP, 1)
    return text.encode()


def _confused(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        what = rng.random()
        if what < 0.08:
            return {name: item for name, item in value.items() if name != key}
        if what < 0.12:
            return value | {rng.choice(("", "x", "__class__", key + " ", "é")): rng.choice(ODD_VALUES)}
        return value | {key: _confused(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        k = rng.randrange(len(value))
        if rng.random() < 0.15:
            many = value * 2000 if len(json.dumps(value)) < LARGE else value
            return rng.choice((value[:k], value * 3, value[::-1], many))
        return [*value[:k], _confused(value[k], rng), *value[k + 1 :]]
    if isinstance(value, str) and value and rng.random() < 0.4:
        many = value * 1000 if len(value) < LARGE else value
        return rng.choice((value.upper(), value + "\x00", many, value[1:], " " + value, value + ":x"))
    if isinstance(value, int | float) and rng.random() < 0.4:
        return rng.choice((-value, value * 1000, value * 10**9, str(value), [value], value + 1, float(value)))
    return rng.choice(ODD_VALUES)


def yaml_text(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """What YAML has beyond JSON: aliases, tags, types, keys that are no text."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
    )
    extras = (
        bomb,
        "updates: &a [*a]\n",
        "updates: !!python/object/apply:os.getcwd []\n",
        "updates: 2001-01-01\n",
        "updates: !!binary aGVsbG8=\n",
        "updates: !!set {a, b}\n",
        "1: 2\n",
        "task: {1: 2}\n",
        "? [a, b]\n: c\n",
        "<<: {updates: 1}\n",
        "updates: .nan\nseed: 0o17\n",
        "updates: 1\nupdates: 2\n",
        "--- 1\n--- 2\n",
        "updates: " + "[" * DEEP + "]" * DEEP + "\n",
        "\t- x\n",
        "updates: 999999999999999999999999999999\n",
        "updates: 1:30:00\n",
        "updates: \x00\n",
    )
    extra = rng.choice(extras).encode()
    return rng.choice((extra, content + extra, extra + content))


def csv_text(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Quotes, separators, ends of line, encodings and cells as no one means them."""
    text = content.decode("utf-8", "replace")
    lines = text.splitlines() or [""]
    k = rng.randrange(len(lines))
    cells = lines[k].split(",")
    c = rng.randrange(len(cells))
    odd = ("", '"', '"a', "a\x00b", "../" * 50, "/", ".", "~", "x" * 140_000, "é", "\u2028", "-1", "1e9", "9" * 5000)
    what = rng.randrange(8)
    if what < 3:
        cells[c] = rng.choice(odd)
        lines[k] = ",".join(cells)
    elif what == 3:
        lines[k] = rng.choice((lines[k] + ",", "," + lines[k], '"' + lines[k], lines[k].replace(",", '","'), lines[0]))
    elif what == 4:
        lines.insert(k, rng.choice(("", ",,,,", "#", lines[k], '"' * 7, "\x0c", "\x1c", "\x85")))
    elif what == 5:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "cp500")))
    elif what == 6:
        return text.replace("\n", rng.choice(("\r", "\r\n", "\n\n", "\x00\n", "\v", "\x1e"))).encode()
    else:
        return text.replace(",", rng.choice((";", "\t", ",,", '",', "|", ' , "'))).encode()
    return "\n".join(lines).encode()


# ---------------------------------------------------------------- checkpoints


def safetensors(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes the header: its length, its entries, or the settings that lie in it as JSON in JSON."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        return flip_bits(content, others, rng)
    data = content[8 + length :]
    what = rng.random()
    if what < 0.1:
        number = rng.choice((*EXTREMES, length - 1, length + 1)) & (2**64 - 1)
        return number.to_bytes(8, "little") + content[8:]
    if what < 0.65:
        about = header["__metadata__"]
        about["settings"] = json_text(about["settings"].encode(), others, rng).decode("utf-8", "replace")
    elif what < 0.75:
        about = header["__metadata__"]
        name = rng.choice(list(about))
        about[name] = str(rng.choice(("", "0", "-1", "nan", "99", "1.5", "x", "9" * 5000, "PA3C", "AC", "\x00")))
    elif what < 0.95:
        names = [name for name in header if name != "__metadata__"]
        name = rng.choice(names)
        entry = header[name]
        field = rng.randrange(5)
        if field == 0:
            entry["shape"] = _confused(entry["shape"], rng)
        elif field == 1:
            entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "?", None))
        elif field == 2:
            entry["data_offsets"] = _confused(entry["data_offsets"], rng)
        elif field == 3:
            del header[name]
        else:
            header[rng.choice(("x", "network.x", "optimizer.9999.step", "optimizer.a.b", ""))] = header.pop(name)
    else:
        data = rng.choice((b"\xff" * len(data), flip_bits(data, others, rng), data + bytes(100), data[:-1]))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def mutated(content: bytes, others: Sequence[bytes], special: Sequence[Mutator], rng: random.Random) -> bytes:
    """One mutation, now and then several: two times in three by a mutator that knows the format, if there is one."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        mutator = rng.choice(special if special and rng.random() < 0.65 else BLIND)
        try:
            content = mutator(content, others or [content], rng)
        except (
            IndexError,
            ValueError,
            struct.error,
            zlib.error,
            OSError,
            EOFError,
            LookupError,
            TypeError,
            RecursionError,
        ):
            content = flip_bits(content, others, rng)  # an earlier mutation left nothing that this one understands
    return content
