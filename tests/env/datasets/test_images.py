"""The brain and folder layouts: what is read, in which order, and each way in which files can be wrong."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env.datasets import load_dataset
from pixelseg_env.datasets.integrity import find_damage
from pixelseg_env.errors import DataError, OptionError


def load(name: str, root: Path | list[Path], **options: object):
    return load_dataset(name, root, **{"split": "all", "size": None, **options})  # type: ignore[arg-type]


def test_brain_reads_channels_cases_and_slices_in_order(tmp_path: Path) -> None:
    data = load("brain", files.write_brain(tmp_path))
    assert data.image_shape == (3, 12, 16)
    assert data.images.dtype == np.uint8
    assert len(data) == 8
    assert list(data.slices) == [2, 3] * 4
    assert data.cases[2:4] == ("TCGA_XX_0001_19990101",) * 2
    assert data.images[2, :, 0, 0].tolist() == [22, 112, 212]  # pre-contrast, FLAIR, post-contrast
    assert np.array_equal(data.masks[0] * 255, files.blob_mask())
    flair = load("brain", tmp_path / "kaggle_3m", channels="flair")
    assert np.array_equal(flair.images, data.images[:, 1:2])


def test_brain_with_endings_in_capitals(tmp_path: Path) -> None:
    expected = load("brain", files.write_brain(tmp_path))
    for path in tmp_path.rglob("*.tif"):
        path.rename(path.with_suffix(".TIF"))
    data = load("brain", tmp_path)
    assert np.array_equal(data.images, expected.images)
    assert np.array_equal(data.masks, expected.masks)


def test_brain_keep_empty_and_join(tmp_path: Path) -> None:
    files.write_brain(tmp_path / "one", cases=2)
    kept = load("brain", tmp_path / "one", keep_empty=True)
    assert list(kept.slices) == [1, 2, 3] * 2
    assert not kept.masks[0].any()
    assert kept.masks[1].any()
    # Slices 4 and 5 of the same case in a second folder belong to it; the same slice twice is refused.
    second = tmp_path / "two"
    for path in (tmp_path / "one").rglob("*_3*.tif"):
        target = second / path.relative_to(tmp_path / "one").with_name(path.name.replace("_3", "_4"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert list(load("brain", [tmp_path / "one", second]).slices) == [2, 3, 4] * 2
    with pytest.raises(DataError, match=r"_1\.tif and .*_1\.tif are both slice 1 of case"):
        load("brain", [tmp_path / "one", tmp_path / "one"])


def test_brain_images_of_empty_slices_are_not_decoded(tmp_path: Path) -> None:
    files.write_brain(tmp_path)
    for path in tmp_path.rglob("*_1.tif"):
        path.write_text("no image")
    assert len(load("brain", tmp_path)) == 8
    with pytest.raises(DataError, match=r"_1\.tif"):
        load("brain", tmp_path, keep_empty=True)


def test_brain_layout_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image found"):
        load("brain", tmp_path)
    files.write_brain(tmp_path)
    with pytest.raises(OptionError, match="Did you mean 'flair'"):
        load("brain", tmp_path, channels="flare")
    case = tmp_path / "kaggle_3m" / "TCGA_XX_0000_19990101"
    mask = case / f"{case.name}_2_mask.tif"
    content = mask.read_bytes()
    mask.unlink()
    with pytest.raises(DataError, match=r"_2\.tif: its mask .*_2_mask\.tif is missing"):
        load("brain", tmp_path)
    mask.write_bytes(content)
    image = case / f"{case.name}_2.tif"
    files.write(image, np.zeros((12, 16), np.uint8))
    with pytest.raises(DataError, match=r"expected 3 channels"):
        load("brain", tmp_path)
    image.unlink()
    with pytest.raises(DataError, match=r"_2_mask\.tif: this mask has no image"):
        load("brain", tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg"])
def test_folder_side_by_side(tmp_path: Path, suffix: str) -> None:
    data = load("folder", files.write_folder(tmp_path, suffix=suffix))
    assert data.cases == ("a", "b", "c")
    assert data.image_shape == (1, 12, 16)
    assert data.images[:, 0, 0, 0].tolist() == [20, 21, 22]
    assert np.array_equal(data.masks[0] * 255, files.blob_mask())


@pytest.mark.parametrize(("images", "masks", "suffix"), [("images", "masks", ""), ("image", "label", "_mask")])
def test_folder_in_two_folders(tmp_path: Path, images: str, masks: str, suffix: str) -> None:
    files.write(tmp_path / images / "x_1.jpg", np.full((12, 16), 9, np.uint8))
    files.write(tmp_path / masks / f"x_1{suffix}.png", files.blob_mask())
    data = load("folder", tmp_path)
    assert data.cases == ("x",)
    assert list(data.slices) == [1]
    assert data.masks.sum() == 25


def test_folder_cases(tmp_path: Path) -> None:
    files.write_folder(tmp_path, ("la_003_1064", "la_003_1065", "la_004_1001", "solo"))
    data = load("folder", tmp_path)
    assert data.cases == ("la_003", "la_003", "la_004", "solo")
    assert data.slices.tolist() == [1064, 1065, 1001, 0]
    own = load("folder", tmp_path, case_pattern=r"^(?P<case>la|solo)(_\d+_\d*(?P<slice>\d\d))?")
    assert own.cases == ("la", "la", "la", "solo")
    assert own.slices.tolist() == [1, 64, 65, 0]
    with pytest.raises(DataError, match=r"solo\.png: case_pattern"):
        load("folder", tmp_path, case_pattern=r"(la)_")
    with pytest.raises(OptionError, match="not a regular expression"):
        load("folder", tmp_path, case_pattern="(")


def test_folder_colour_and_depth(tmp_path: Path) -> None:
    colour = np.zeros((12, 16, 3), np.uint8)
    colour[:] = (250, 100, 5)
    files.write(tmp_path / "a.png", colour)
    files.write(tmp_path / "a_mask.png", files.blob_mask())
    assert load("folder", tmp_path).images[0, :, 0, 0].tolist() == [250, 100, 5]
    assert load("folder", tmp_path, channels="grey").image_shape == (1, 12, 16)
    files.write(tmp_path / "b.png", np.full((12, 16), 7, np.uint8))
    files.write(tmp_path / "b_mask.png", files.blob_mask())
    assert load("folder", tmp_path, channels="rgb").images[1, :, 0, 0].tolist() == [7, 7, 7]
    files.write(tmp_path / "b.png", np.full((12, 16), 13107, np.uint16))
    with pytest.raises(DataError, match=r"b\.png: .*uint16, but .*a\.png has .*uint8"):
        load("folder", tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a_mask.png").unlink()
    data = load("folder", tmp_path, white=65535)
    assert data.images.dtype == np.float32
    assert np.allclose(data.images, 0.2)
    files.write(tmp_path / "b.tif", np.full((12, 16), 0.25, np.float32))
    (tmp_path / "b.png").unlink()
    assert np.allclose(load("folder", tmp_path).images, 0.25)
    files.write(tmp_path / "b.tif", np.full((12, 16), -1, np.float32))
    with pytest.raises(DataError, match=r"b\.tif: expected float pixels of 0 or more"):
        load("folder", tmp_path)
    files.write(tmp_path / "b.tif", np.full((12, 16), 200, np.float32))
    with pytest.raises(DataError, match=r"expected float pixels in \[0, 1\], found 200.*white="):
        load("folder", tmp_path)
    assert np.allclose(load("folder", tmp_path, white=400).images, 0.5)


def test_folder_mask_values(tmp_path: Path) -> None:
    files.write_folder(tmp_path)
    three = files.blob_mask()
    three[0, :3] = 128
    files.write(tmp_path / "b_mask.png", three)
    with pytest.raises(DataError, match=r"b_mask\.png: expected a mask of two values.*0, 128, 255.*threshold="):
        load("folder", tmp_path)
    assert load("folder", tmp_path, threshold=128).masks[1].sum() == 25
    assert load("folder", tmp_path, threshold=0).masks[1].sum() == 28
    files.write(tmp_path / "b_mask.png", files.blob_mask() // 255 * 2)
    with pytest.raises(DataError, match=r"b_mask\.png: its object has the value 2, but 255 in .*a_mask\.png"):
        load("folder", tmp_path)
    for name in "abc":
        files.write(tmp_path / f"{name}_mask.png", files.blob_mask() // 255)
    assert load("folder", tmp_path).masks[0].sum() == 25
    assert load("folder", tmp_path, invert=True).masks[0].sum() == 12 * 16 - 25
    with pytest.raises(OptionError, match="whole number"):
        load("folder", tmp_path, threshold="half")
    assert load("folder", tmp_path, threshold=0.5).masks[0].sum() == 25


def test_folder_colour_mask(tmp_path: Path) -> None:
    files.write_folder(tmp_path)
    mask = np.zeros((12, 16, 3), np.uint8)
    mask[:2, :, 0] = 255
    for name in "abc":
        files.write(tmp_path / f"{name}_mask.png", mask)
    assert load("folder", tmp_path).masks[0].sum() == 32
    mask[5, :, 1] = 255  # green is not red: a second class
    files.write(tmp_path / "c_mask.png", mask)
    with pytest.raises(DataError, match=r"c_mask\.png: expected a mask of two values"):
        load("folder", tmp_path)


def test_folder_layout_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image found"):
        load("folder", tmp_path)
    files.write_folder(tmp_path)
    with pytest.raises(DataError, match=r"a\.png: its mask is missing; expected a_seg"):
        load("folder", tmp_path, mask_suffix="_seg")
    (tmp_path / "b_mask.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: its mask is missing; expected b_mask"):
        load("folder", tmp_path)
    (tmp_path / "b.png").unlink()
    (tmp_path / "c.png").unlink()
    with pytest.raises(DataError, match=r"c_mask\.png: this mask has no image"):
        load("folder", tmp_path)
    files.write(tmp_path / "c.png", np.zeros((12, 16), np.uint8))
    files.write(tmp_path / "c.jpg", np.zeros((12, 16), np.uint8))
    with pytest.raises(DataError, match=r"c\.png: the same name as c\.jpg"):
        load("folder", tmp_path)


def test_image_and_mask_of_different_size(tmp_path: Path) -> None:
    files.write_folder(tmp_path)
    files.write(tmp_path / "b.png", np.zeros((10, 16), np.uint8))
    with pytest.raises(DataError, match=r"b\.png: the image is 10x16 but its mask .*b_mask\.png is 12x16"):
        load("folder", tmp_path, size=8)


def test_all_masks_empty(tmp_path: Path) -> None:
    files.write_folder(tmp_path)
    for name in "abc":
        files.write(tmp_path / f"{name}_mask.png", np.zeros((12, 16), np.uint8))
    for keep_empty in (False, True):
        with pytest.raises(DataError, match="all 3 masks are empty"):
            load("folder", tmp_path, keep_empty=keep_empty)


def test_text_that_is_named_png(tmp_path: Path) -> None:
    files.write_folder(tmp_path)
    (tmp_path / "b.png").write_text("this is no picture")
    with pytest.raises(DataError, match=r"b\.png: expected an image .* could not be decoded"):
        load("folder", tmp_path)
    (tmp_path / "b.png").write_text("")
    with pytest.raises(DataError, match=r"b\.png: expected an image"):
        load("folder", tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_truncated_image(tmp_path: Path, suffix: str, share: float) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    files.write(tmp_path / f"a{suffix}", picture)
    files.write(tmp_path / "a_mask.png", files.blob_mask(64, 64))
    assert len(load("folder", tmp_path)) == 1
    files.cut(tmp_path / f"a{suffix}", share)
    with pytest.raises(DataError, match=rf"a\{suffix}: expected"):
        load("folder", tmp_path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_truncated_tiff_with_its_directory_first(tmp_path: Path, order: str) -> None:
    # The form of Kaggle's files: only the pixels are cut off, the directory that a decoder reads first is whole.
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    header = (b"II*\0" if order == "<" else b"MM\0*") + np.array(8, order + "u4").tobytes()
    entries = [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 16, 300), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 16, 364)]
    data = header + np.array(len(entries), order + "u2").tobytes()
    for tag, kind, count, value in entries:
        data += np.array([tag, kind], order + "u2").tobytes() + np.array(count, order + "u4").tobytes()
        small = np.array([value, 0], order + "u2") if kind == 3 else np.array(value, order + "u4")
        data += small.tobytes()
    data = data.ljust(300, b"\0")
    data += (
        np.array([428 + 768 * i for i in range(16)], order + "u4").tobytes()
        + np.array([768] * 16, order + "u4").tobytes()
    )
    path = tmp_path / "a.tif"
    path.write_bytes(data + pixels.tobytes())
    files.write(tmp_path / "a_mask.png", files.blob_mask(64, 64))
    assert np.array_equal(load("folder", tmp_path, channels="rgb").images[0], np.moveaxis(pixels, -1, 0))
    whole = path.read_bytes()
    for missing in (1, 700, 6000, len(whole) - 200):
        path.write_bytes(whole[:-missing])
        with pytest.raises(DataError, match=r"a\.tif: expected a whole image file, but .* cut off"):
            load("folder", tmp_path)


def tiff(entries: list[tuple[int, int, int, int]], following: int = 0, rest: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory; entries are tag, kind, count and value."""
    made = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for entry in entries:
        made += struct.pack("<HHII", *entry)
    return made + struct.pack("<I", following) + rest


PLAIN = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 134)]
PLAIN += [(277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 16)]
PIXELS = bytes(range(40))


@pytest.mark.parametrize(
    "content",
    [
        tiff([(256, 3, 0, 4), *PLAIN[1:]], rest=PIXELS),  # a width of no numbers
        tiff(PLAIN, following=8, rest=PIXELS),  # a directory that leads to itself
        tiff([(254, 4, 1, 0)], rest=PIXELS),  # a page without pixels
        b"II+\0\x08\0\0\0" + b"\xff" * 8 + PIXELS,  # BigTIFF, whose directory is nowhere
    ],
)
def test_tiffs_that_fuzzing_found_are_refused(content: bytes, tmp_path: Path) -> None:
    files.write(tmp_path / "a_mask.png", 255 * np.eye(4, dtype=np.uint8))
    image = tmp_path / "a.tif"
    image.write_bytes(tiff(PLAIN, rest=PIXELS))
    assert load("folder", tmp_path).images.shape == (1, 1, 4, 4), "what they are made of is whole"
    image.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif"):
        load("folder", tmp_path)


@files.needs_real_data
def test_real_brain() -> None:
    roots = [files.REAL_DATA / "lgg_kaggle_3m", files.REAL_DATA / "lgg_tumour_slices"]
    data = load("brain", roots, size=32)
    assert len(data) == 745
    assert len(set(data.cases)) == 64
    assert data.masks.any(axis=(1, 2)).all()
    index = 300
    path = next(
        root.joinpath("kaggle_3m", data.cases[index])
        for root in roots
        if root.joinpath("kaggle_3m", data.cases[index]).is_dir()
    )
    stored = cv2.imread(str(path / f"{path.name}_{data.slices[index]}.tif"), cv2.IMREAD_UNCHANGED)
    expected = cv2.resize(stored[..., ::-1].copy(), (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(data.images[index], np.moveaxis(expected, -1, 0))


@files.needs_real_data
def test_real_folders() -> None:
    heart = load("folder", files.REAL_DATA / "msd_heart_jpeg_sample", size=128)
    assert len(heart) == 10
    assert set(heart.cases) == {"la_003", "la_004", "la_005"}
    assert heart.image_shape[0] == 1
    assert 70 < heart.class_ratio < 1000
    membranes = load("folder", files.REAL_DATA / "isbi2012_em", invert=True)
    assert len(membranes) == 16
    assert membranes.image_shape == (1, 512, 512)
    assert 0.17 < membranes.masks.mean() < 0.27


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_damage_is_found_without_the_decoder(suffix: str) -> None:
    # Which cut-off files a decoder refuses depends on its version; older ones fill the rest with grey.
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = cv2.imencode(suffix, picture)[1].tobytes()
    assert find_damage(content) == ""
    assert find_damage(content + b"padding") == ""
    for share in (0.3, 0.7, 0.97):
        assert "cut off" in find_damage(content[: int(len(content) * share)])
