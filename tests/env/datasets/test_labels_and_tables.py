"""Several labels of image files, and tables of files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env.datasets import SegmentationDataset, load_dataset
from pixelseg_env.errors import DataError, OptionError


def load(name: str, data: Path | list[Path], **options: Any) -> SegmentationDataset:
    return load_dataset(name, data, **{"split": "all", "size": None, **options})


def numbers() -> np.ndarray:
    mask = np.zeros((12, 16), np.uint8)
    mask[2:8, 3:9], mask[4:6, 5:7] = 1, 2
    return mask


def write_numbered(root: Path) -> Path:
    files.write_folder(root)
    for name in "abc":
        files.write(root / f"{name}_mask.png", numbers())
    return root


@pytest.mark.parametrize("labels", [(1, 2), [1, 2], "1,2", np.array([1, 2])])
def test_values_of_a_mask_are_labels(tmp_path: Path, labels: Any) -> None:
    data = load("folder", write_numbered(tmp_path), labels=labels)
    assert data.label_names == ("label 1", "label 2")
    assert data.masks.shape == (3, 2, 12, 16)
    for k in range(2):
        assert np.array_equal(data.masks[1, k], numbers() == k + 1)
    assert load("folder", tmp_path, labels=(1, 2), size=6).masks.shape == (3, 2, 6, 6)


def indexed_png(pixels: np.ndarray, palette: list[tuple[int, int, int]] | None = None, bits: int = 8) -> bytes:
    """A PNG file, with a palette, or grey of few bits, written by hand."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape
    digits = np.unpackbits(pixels.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in digits)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, 0))
    colours = chunk(b"PLTE", bytes(value for colour in palette for value in colour)) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + header + colours + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("palette", [[(0, 0, 0), (128, 0, 0), (0, 128, 0)], [(0, 0, 0), (9, 9, 9), (200, 200, 200)]])
def test_positions_in_a_palette_are_labels(tmp_path: Path, palette: list[tuple[int, int, int]]) -> None:
    expected = load("folder", write_numbered(tmp_path), labels=(1, 2)).masks
    for name in "abc":
        (tmp_path / f"{name}_mask.png").write_bytes(indexed_png(numbers(), palette))
    assert np.array_equal(load("folder", tmp_path, labels=(1, 2)).masks, expected)


@pytest.mark.parametrize("kind", ["2 bits", "4 bits", "pgm", "plain pgm", "deep pgm"])
def test_values_of_few_bits_are_labels(tmp_path: Path, kind: str) -> None:
    expected = load("folder", write_numbered(tmp_path), labels=(1, 2)).masks
    digits = " ".join(map(str, numbers().ravel())).encode()
    content, ending = {
        "2 bits": (indexed_png(numbers(), bits=2), "png"),
        "4 bits": (indexed_png(numbers(), bits=4), "png"),
        "pgm": (b"P5\n# of a program\n16 12\n2\n" + numbers().tobytes(), "pgm"),
        "plain pgm": (b"P2 16 12 2\n" + digits, "pgm"),
        "deep pgm": (b"P5 16 12 300\n" + numbers().astype(">u2").tobytes(), "pgm"),
    }[kind]
    for name in "abc":
        (tmp_path / f"{name}_mask.png").unlink()
        (tmp_path / f"{name}_mask.{ending}").write_bytes(content)
    assert np.array_equal(load("folder", tmp_path, labels=(1, 2)).masks, expected)
    with pytest.raises(DataError, match=r"none holds 7 or 8 \(found 0, 1, 2\)"):
        load("folder", tmp_path, labels=(7, 8))


def test_folders_of_masks_are_labels_and_may_overlap(tmp_path: Path) -> None:
    for name in "abc":
        files.write(tmp_path / f"images/{name}.png", np.full((12, 16), 30, np.uint8))
        files.write(tmp_path / f"masks/organ/{name}.png", files.blob_mask(side=6))
        files.write(tmp_path / f"masks/lesion/{name}_mask.png", files.blob_mask(top=5, side=2))
    data = load("folder", tmp_path, labels=("organ", "lesion"))
    assert data.label_names == ("organ", "lesion")
    assert np.array_equal(data.masks[2, 0] * 255, files.blob_mask(side=6))
    assert np.array_equal(data.masks[2, 1] * 255, files.blob_mask(top=5, side=2))
    assert load("folder", tmp_path, labels="lesion,organ").label_names == ("lesion", "organ")
    with pytest.raises(DataError, match=r"masks.liver: no such folder.*found lesion, organ"):
        load("folder", tmp_path, labels=("organ", "liver"))
    files.write(tmp_path / "masks/lesion/b_mask.png", files.blob_mask(10, 16))
    with pytest.raises(DataError, match=r"lesion.b_mask\.png: this mask is 10x16 but .*organ.b\.png"):
        load("folder", tmp_path, labels=("organ", "lesion"))
    for name in "abc":
        files.write(tmp_path / f"masks/lesion/{name}_mask.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(DataError, match="no mask of 'lesion' holds an object"):
        load("folder", tmp_path, labels=("organ", "lesion"))


def test_labels_that_cannot_be(tmp_path: Path) -> None:
    write_numbered(tmp_path)
    for bad in ((1,), (1, 1), (0, 1), 2, "12", (1, "organ"), ("organ",), ("organ", "organ"), (1, 2.5)):
        with pytest.raises(OptionError, match="two or more different"):
            load("folder", tmp_path, labels=bad)
    with pytest.raises(OptionError, match="leave threshold and invert out"):
        load("folder", tmp_path, labels=(1, 2), threshold=3)
    with pytest.raises(DataError, match="no label file holds the value 7"):
        load("folder", tmp_path, labels=(1, 7))
    with pytest.raises(DataError, match=r"labels=.* are folders of masks"):
        load("folder", tmp_path, labels=("organ", "lesion"))
    colour = np.zeros((12, 16, 3), np.uint8)
    colour[3:5, 3:5, 0] = 255
    files.write(tmp_path / "b_mask.png", colour)
    with pytest.raises(DataError, match=r"b_mask\.png: expected numbers of labels.*got colours"):
        load("folder", tmp_path, labels=(1, 2))
    (tmp_path / "b_mask.png").unlink()
    files.write(tmp_path / "b_mask.jpg", numbers())
    with pytest.raises(DataError, match=r"b_mask\.jpg: jpeg blurs"):
        load("folder", tmp_path, labels=(1, 2))


# ---------------------------------------------------------------- tables


def write_table(root: Path, text: str, name: str = "pairs.csv") -> Path:
    files.write_folder(root / "files", ("a_1", "a_2", "b_1"))
    path = root / name
    path.write_text(text, encoding="utf-8")
    return path


ROWS = ["files/a_1.png,files/a_1_mask.png", "files/a_2.png,files/a_2_mask.png", "files/b_1.png,files/b_1_mask.png"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_columns_of_a_table(tmp_path: Path, between: str, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["Image, mask,comment,patient,SLICE", f"{ROWS[0]},x,one,7", "", f"{ROWS[1]},,two,3", f"{ROWS[2]},,one,2"]
    path = write_table(tmp_path, mark + "\r\n".join(lines).replace(",", between))
    monkeypatch.chdir(tmp_path.parent)
    data = load("table", path)
    assert data.cases == ("one", "one", "two")
    assert data.slices.tolist() == [2, 7, 3]
    assert data.images[:, 0, 0, 0].tolist() == [22, 20, 21]
    assert np.array_equal(data.masks[0] * 255, files.blob_mask())


def test_table_without_patients_reads_them_in_the_names(tmp_path: Path) -> None:
    path = write_table(tmp_path, "\n".join(["image,mask", *ROWS]))
    assert load("table", path).cases == ("a", "a", "b")
    assert load("table", path).slices.tolist() == [1, 2, 1]
    assert load("table", path, case_pattern="(.+)").cases == ("a_1", "a_2", "b_1")
    whole = ROWS[0].replace("files", str(tmp_path / "files"))
    other = write_table(tmp_path / "other", "\n".join(["image,mask,patient", f"{whole},z"]))
    assert load("table", other).cases == ("z",)


def test_columns_of_labels(tmp_path: Path) -> None:
    path = write_table(tmp_path, "\n".join(["image,organ,Lesion", *(f"{row},files/a_1_mask.png" for row in ROWS)]))
    files.write(tmp_path / "files/a_1_mask.png", files.blob_mask(side=3))
    data = load("table", path, labels=("organ", "Lesion"))
    assert data.label_names == ("organ", "Lesion")
    assert data.masks.sum(axis=(2, 3)).tolist() == [[9, 9], [25, 9], [25, 9]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"names the columns image and mask.*got nothing"),
        ("image,masks\n", r"got image, masks; mask is missing"),
        ("image,mask\n\n", "holds no row"),
        ("image,mask\nfiles/a_1.png\n", r"line 2: expected 2 cells, got 1"),
        (f"image,mask\n{ROWS[0]}\nnowhere.png,files/a_1_mask.png", r"line 3: .*nowhere\.png in column 'image' is no"),
        (f"image,mask\n{ROWS[0]}\n{ROWS[0]}", r"line 3: .*a_1\.png is in .*line 2 already"),
        (f"image,mask,slice\n{ROWS[0]},x", "line 2: the slice is 'x'"),
        (f"image,mask,patient\n{ROWS[0]},", "line 2: the patient is empty"),
    ],
)
def test_table_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = write_table(tmp_path, text)
    with pytest.raises(DataError, match=message):
        load("table", path)


def test_table_is_a_file_of_its_kind(tmp_path: Path) -> None:
    path = write_table(tmp_path, "image,mask")
    with pytest.raises(DataError, match=r"is a folder; expected a \.csv or \.tsv file"):
        load("table", tmp_path)
    with pytest.raises(DataError, match=r"a_1\.png: is of another kind; expected a \.csv"):
        load("table", path.parent / "files/a_1.png")
    with pytest.raises(DataError, match=r"pass data=<file>"):
        load_dataset("table")
    path.write_bytes("image,mask\nä".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        load("table", path)


@pytest.mark.parametrize(
    "row",
    [
        '"' + "a" * 200_000 + '",b.png',  # csv's own limit
        "a" * 5000 + ",b.png",  # longer than a name may be
        "a\x00b.png,b.png",
    ],
)
def test_a_row_of_nonsense_is_refused_briefly(tmp_path: Path, row: str) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f"image,mask\n{row}\n")
    with pytest.raises(DataError, match=r"pairs\.csv, line 2") as refused:
        load_dataset("table", data=table)
    assert len(str(refused.value)) < 1000
