"""Which pixels come out of each kind of image file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

import tests.helpers.data as files
from pixelseg_env.datasets import (
    DimImagesWarning,
    SegmentationDataset,
    TransparencyWarning,
    file_reader,
    load_dataset,
)
from pixelseg_env.datasets.files import encode_mask
from pixelseg_env.datasets.image_files import open_image, page_count, read_pages
from pixelseg_env.datasets.mask_files import encode_masks
from pixelseg_env.datasets.pages import as_stored, upright
from pixelseg_env.errors import DataError, OptionError


def noise(*shape: int, top: int = 256, dtype: type = np.uint8) -> NDArray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes"])
def test_tiff_of_any_codec_and_layout(tmp_path: Path, codec: str | None, layout: str) -> None:
    for dtype in (np.uint8, np.uint16):
        pixels = noise(40, 50, 3, top=np.iinfo(dtype).max, dtype=dtype)
        more: dict = {"strips": {"rowsperstrip": 7}, "tiles": {"tile": (32, 32)}, "planes": {}}[layout]
        stored = np.moveaxis(pixels, -1, 0) if layout == "planes" else pixels
        planes = {"planarconfig": "separate"} if layout == "planes" else {}
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", compression=codec, **planes, **more)
        (page,) = read_pages(tmp_path / "a.tif")
        np.testing.assert_array_equal(page, pixels)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_channel_of_a_tiff_is_kept(tmp_path: Path, count: int) -> None:
    for name in "abc":
        tifffile.imwrite(
            tmp_path / f"{name}.tif", noise(12, 16, count), photometric="minisblack", planarconfig="contig"
        )
        files.write(tmp_path / f"{name}_mask.png", files.blob_mask())
    data = load_dataset("folder", tmp_path, split="all", size=None)
    np.testing.assert_array_equal(data.images[0], np.moveaxis(noise(12, 16, count), -1, 0))
    if count != 3:
        with pytest.raises(DataError, match=rf"expected 1 or 3 channels, got {count}; say channels=all"):
            load_dataset("folder", tmp_path, split="all", size=None, channels="grey")


def test_kinds_that_viewers_turn_into_grey_and_colours(tmp_path: Path) -> None:
    colours = noise(20, 24, 3)
    bits = colours[..., 0] > 128
    indexed = Image.fromarray(colours).quantize(16)
    for name, picture, options in (
        ("bits.png", Image.fromarray(bits), {}),
        ("bits.tif", Image.fromarray(bits), {"compression": "group4"}),
        ("indexed.png", indexed, {}),
        ("indexed.gif", indexed, {}),
        ("indexed.tif", indexed, {}),
        ("a.webp", Image.fromarray(colours), {"lossless": True}),
        ("a.ppm", Image.fromarray(colours), {}),
        ("a.pgm", Image.fromarray(colours[..., 0]), {}),
        ("jpeg.tif", Image.fromarray(colours), {"compression": "jpeg"}),
        ("cmyk.tif", Image.fromarray(colours).convert("CMYK"), {}),
        ("cmyk.jpg", Image.fromarray(colours).convert("CMYK"), {}),
    ):
        picture.save(tmp_path / name, **options)
        seen = Image.open(tmp_path / name)
        wanted = np.asarray(seen.convert("L" if seen.mode in ("1", "L") else "RGB"))
        (page,) = open_image(tmp_path / name).pages
        np.testing.assert_array_equal(page.pixels, wanted, err_msg=name)
        if seen.mode == "P":
            np.testing.assert_array_equal(page.numbers, np.asarray(seen), err_msg=name)
    tifffile.imwrite(tmp_path / "white.tif", colours[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_pages(tmp_path / "white.tif")[0], 255 - colours[..., 0])


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    deep = noise(9, 8, 3, top=65536, dtype=np.uint16)
    for ending in (".png", ".tif"):
        files.write(tmp_path / f"c{ending}", deep)
        np.testing.assert_array_equal(read_pages(tmp_path / f"c{ending}")[0], deep)
    for ending in (".png", ".tif", ".pgm"):
        files.write(tmp_path / f"g{ending}", deep[..., 0])
        np.testing.assert_array_equal(read_pages(tmp_path / f"g{ending}")[0], deep[..., 0])


def test_webp_is_lossless_whatever_stands_before_its_pixels(tmp_path: Path) -> None:
    for more in ({}, {"icc_profile": b"x" * 501}, {"exif": Image.Exif().tobytes()}):
        for lossless in (True, False):
            Image.fromarray(noise(12, 16, 3)).save(tmp_path / "a.webp", lossless=lossless, **more)
            assert open_image(tmp_path / "a.webp").lossy != lossless


def test_what_is_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.fromarray(noise(8, 8)), Image.fromarray(255 - noise(8, 8))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a\.gif: expected one picture, got an animation \(GIF\) of 2"):
        open_image(tmp_path / "a.gif")
    Image.fromarray(noise(8, 8, 3)).convert("YCbCr").save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: its colours are YCBCR; expected grey, RGB"):
        open_image(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for side in (8, 11):
            writer.write(noise(side, side), photometric="minisblack", metadata=None)
    with pytest.raises(DataError, match=r"b\.tif: expected pages of one size, got 8x8, 11x11"):
        open_image(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "c.tif", noise(8, 8), compression="lzw")

    def missing(self: object, key: object) -> object:
        raise KeyError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(type(tifffile.TIFF.DECOMPRESSORS), "__getitem__", missing)
    with pytest.raises(DataError, match=r"c\.tif: its pixels are compressed with LZW, .*pip install imagecodecs"):
        open_image(tmp_path / "c.tif")


# ---------------------------------------------------------------- stacks


def test_pages_of_a_stack_are_slices_of_a_case(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (4, 5, 12, 16)).astype(np.uint8)
    masks = (rng.random((4, 5, 12, 16)) < 0.3).astype(np.uint8)
    masks[0, 2] = 0
    for k, (image, mask) in enumerate(zip(images, masks, strict=True)):
        tifffile.imwrite(tmp_path / f"s_{k}.tif", image, photometric="minisblack", metadata=None)
        tifffile.imwrite(tmp_path / f"s_{k}_mask.tif", mask * 255, photometric="minisblack", metadata=None)
    data = load_dataset("folder", tmp_path, split="all", size=None)
    kept = [(k, z) for k in range(4) for z in range(5) if (k, z) != (0, 2)]
    assert list(zip(data.cases, data.slices.tolist(), strict=True)) == [(f"s_{k}", z) for k, z in kept]
    for position, (k, z) in enumerate(kept):
        np.testing.assert_array_equal(data.images[position, 0], images[k, z])
        np.testing.assert_array_equal(data.masks[position], masks[k, z])
    one = load_dataset("folder", tmp_path, split="all", size=None, case_pattern="^s", keep_empty=True)
    assert set(one.cases) == {"s"}
    assert one.slices.tolist() == list(range(20))
    tifffile.imwrite(tmp_path / "s_3_mask.tif", masks[3, :2] * 255, photometric="minisblack", metadata=None)
    with pytest.raises(DataError, match=r"s_3\.tif: the image has 5 page\(s\) but its mask .* has 2"):
        load_dataset("folder", tmp_path, split="all", size=None)


@pytest.mark.parametrize("order", [1, -1])
def test_pages_of_two_depths_are_refused(tmp_path: Path, order: int) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (noise(12, 16), noise(12, 16).astype(np.uint16) * 257)[::order]:
            writer.write(page)
    with pytest.raises(DataError, match=r"a\.tif: expected pages of one depth, got uint(8 and uint16|16 and uint8)"):
        open_image(tmp_path / "a.tif")


def test_pages_of_microscopes(tmp_path: Path) -> None:
    voxels = noise(3, 2, 12, 16, top=60000, dtype=np.uint16)
    for name, kind in (("a.tif", {"imagej": True}), ("a.ome.tif", {"ome": True})):
        tifffile.imwrite(tmp_path / name, voxels, metadata={"axes": "ZCYX"}, **kind)
        assert page_count(tmp_path / name) == 3
        pages = read_pages(tmp_path / name)
        np.testing.assert_array_equal(np.stack(pages), np.moveaxis(voxels, 1, -1))
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:  # a thumbnail is no page
        writer.write(noise(20, 24), photometric="minisblack", metadata=None)
        writer.write(noise(7, 8), photometric="minisblack", subfiletype=1, metadata=None)
    assert len(read_pages(tmp_path / "b.tif")) == page_count(tmp_path / "b.tif") == 1


@pytest.mark.parametrize("kind", [{"metadata": None}, {"imagej": True, "metadata": {"axes": "ZYX"}}])
def test_a_stack_that_is_cut_off_is_refused(tmp_path: Path, kind: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(5, 20, 24), photometric="minisblack", **kind)
    whole = (tmp_path / "a.tif").read_bytes()
    for share in (0.2, 0.5, 0.8, 0.93):
        (tmp_path / "a.tif").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=r"a\.tif"):
            open_image(tmp_path / "a.tif")


# ---------------------------------------------------------------- damage


def test_damage_within_a_file_is_refused(tmp_path: Path) -> None:
    pixels = noise(64, 64, 3)
    files.write(tmp_path / "a.png", pixels)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 0x55
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: .*the checksum of its part 'IDAT' is wrong"):
        open_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.repeat(pixels, 4, 0), photometric="rgb", compression="lzw")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[0].dataoffsets[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[start + 40 : start + 60] = b"\xff" * 20
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: .*could not be decoded"):
        open_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="rgb", rowsperstrip=8)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tag = file.pages[0].tags[279]
    for wrong, message in ((0, "a part of its pixels is not there"), (9_000_000, "cut off"), (5, "decoded")):
        content = bytearray((tmp_path / "b.tif").read_bytes())
        size = {3: 2, 4: 4}[int(tag.dtype)]
        number = min(wrong, 65535 if size == 2 else wrong).to_bytes(size, "little")
        content[tag.valueoffset + 2 * size : tag.valueoffset + 3 * size] = number
        (tmp_path / "c.tif").write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_image(tmp_path / "c.tif")


def shades() -> NDArray:
    """A picture (61, 67, 3) of slow changes and a few edges."""
    rows, columns = np.mgrid[:61, :67]
    return np.stack([(rows * 3 + columns) % 256, columns * 3, rows * columns // 16 % 256], -1).astype(np.uint8)


def damaged(content: bytes, start: int) -> list[bytes]:
    """Bytes of a file zeroed, and deleted, at several places."""
    found = []
    for share in (0.2, 0.4, 0.6, 0.8):
        at = start + int((len(content) - start) * share)
        found += [content[:at] + bytes(30) + content[at + 30 :], content[:at] + content[at + 20 :]]
    return found


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 60, "subsampling": 0}, {"quality": 90, "grey": True}])
def test_a_damaged_scan_of_a_jpeg_is_refused(tmp_path: Path, options: dict) -> None:
    pixels, options = shades(), dict(options)
    Image.fromarray(pixels[..., 0] if options.pop("grey", False) else pixels).save(tmp_path / "a.jpg", **options)
    whole = (tmp_path / "a.jpg").read_bytes()
    for same in (whole, whole + b"rest", whole[:-2] + b"\0\0\0\xff\xff\xd9"):  # filled up, as some programs do
        (tmp_path / "a.jpg").write_bytes(same)
        open_image(tmp_path / "a.jpg")
    for content in damaged(whole, whole.index(b"\xff\xda") + 14):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.jpg: .*(damaged|cut off)"):
            open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("codec", ["lzw", "packbits", "jpeg"])
@pytest.mark.parametrize("more", [{}, {"rowsperstrip": 16}, {"tile": (32, 32)}])
def test_a_damaged_part_of_a_tiff_is_refused(tmp_path: Path, codec: str, more: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", shades(), photometric="rgb", compression=codec, **more)
    whole = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    assert read_pages(tmp_path / "a.tif")[0].shape == (61, 67, 3)
    end, middle = start + length, start + length // 2
    (tmp_path / "a.tif").write_bytes(whole[:middle] + whole[middle + 20 : end] + bytes(20) + whole[end:])
    with pytest.raises(DataError, match=r"a\.tif: .*(unpacks to|codes (end|go on)|could not be decoded)"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("colour", [0, 127, 128, 255])
def test_even_jpegs_are_whole(tmp_path: Path, colour: int) -> None:
    for shape in ((8, 8), (17, 33, 3), (1, 1), (64, 64)):
        for more in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
            Image.fromarray(np.full(shape, colour, np.uint8)).save(tmp_path / "a.jpg", **more)
            assert read_pages(tmp_path / "a.jpg")[0].shape[:2] == shape[:2]


def test_png_pixels_are_as_many_as_the_header_says(tmp_path: Path) -> None:
    # Pillow leaves the rest black. Interlaced: seven passes over an image of 5x3, the third of which is empty.
    passes = [(1, 1), (1, 1), (1, 1), (3, 1), (2, 2), (5, 1)]
    seven = zlib.compress(b"".join((b"\0" + bytes(columns)) * rows for columns, rows in passes))
    for width, height, interlaced, packed, whole in (
        (7, 5, 0, zlib.compress(bytes(8 * 5)), True),
        (7, 6, 0, zlib.compress(bytes(8 * 5)), False),
        (5, 3, 1, seven, True),
        (5, 5, 1, seven, False),
    ):
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
        parts = [header, b"IDAT" + packed, b"IEND"]
        chunks = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in parts]
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        if whole:
            assert read_pages(tmp_path / "a.png")[0].shape == (height, width)
        else:
            with pytest.raises(DataError, match=r"a\.png: .*its pixels need \d+ bytes and it has \d+"):
                open_image(tmp_path / "a.png")


def test_a_png_without_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IEND\xaeB`\x82")  # found by fuzzing
    with pytest.raises(DataError, match=r"a\.png: .*its header is missing"):
        open_image(tmp_path / "a.png")


def test_png_pixels_have_a_checksum_of_their_own(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 40, 3) // 4 * 4).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    at = whole.index(b"IDAT")
    length = int.from_bytes(whole[at - 4 : at])
    for change in (0.3, 0.6, 0.9, 1.0):
        packed = bytearray(whole[at + 4 : at + 4 + length])
        packed[min(int(length * change), length - 1)] ^= 0x55
        part = b"IDAT" + bytes(packed)
        (tmp_path / "a.png").write_bytes(
            whole[:at] + part + zlib.crc32(part).to_bytes(4) + whole[at + 8 + length :]  # the part's checksum is right
        )
        with pytest.raises(DataError, match=r"a\.png: .*compressed pixels are damaged"):
            open_image(tmp_path / "a.png")


def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = np.array([12000, 12000], "<i4").tobytes()
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.bmp: says that it is 12000x12000 pixels, but has"):
        open_image(tmp_path / "a.bmp")


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_pixels_are_turned_as_a_viewer_does(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(noise(20, 28, 3))
    picture.save(tmp_path / f"a{ending}", exif=exif, **({"lossless": True} if ending == ".webp" else {}))
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"a{ending}")))
    np.testing.assert_array_equal(read_pages(tmp_path / f"a{ending}")[0], wanted)


@given(st.integers(-1, 12), st.integers(1, 4), st.integers(1, 4))
def test_turning_is_undone(orientation: int, height: int, width: int) -> None:
    pixels = np.arange(2 * height * width).reshape(2, height, width)
    np.testing.assert_array_equal(as_stored(upright(pixels, orientation, (1, 2)), orientation, (1, 2)), pixels)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_a_mask_lies_on_the_files_own_pixels(tmp_path: Path, ending: str) -> None:
    mask = (noise(3, 5) > 128).astype(np.uint8)
    path = tmp_path / f"m{ending}"
    path.write_bytes(encode_masks(mask[None], path.name, 6))
    np.testing.assert_array_equal(files_own(path), np.rot90(mask) * 255)
    if ending != ".bmp":  # it notes its orientation, so that it is read upright
        np.testing.assert_array_equal(read_pages(path)[0], mask * 255)
    with pytest.raises(OptionError, match=r"m\.png: the masks of 2 pages need a file that ends in \.tif"):
        encode_masks(np.stack([mask, mask]), "m.png")
    path.write_bytes(encode_mask(mask[None], path.name))
    np.testing.assert_array_equal(read_pages(path)[0], mask * 255)


def files_own(path: Path) -> NDArray:
    """The pixels as they are stored."""
    if path.suffix == ".tif":
        return tifffile.imread(path)
    return np.asarray(Image.open(path))


# ---------------------------------------------------------------- brightness


def dim(root: Path, top: int, dtype: type = np.uint16) -> Path:
    for k, name in enumerate("abcd"):
        image = np.full((12, 16), top // (k + 1), dtype)
        files.write(root / f"{name}.png", image)
        files.write(root / f"{name}_mask.png", files.blob_mask())
    return root


@pytest.mark.parametrize(("top", "white"), [(900, 1023), (4095, 4095), (4096, 16383), (16384, 65535), (65535, 65535)])
def test_white_of_sixteen_bit_files_is_one_for_the_set(tmp_path: Path, top: int, white: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_dataset("folder", dim(tmp_path, top), split="all", size=None)
    np.testing.assert_allclose(data.images[:, 0, 0, 0], [top // (k + 1) / white for k in range(4)], rtol=1e-5)
    said = [str(one.message) for one in caught if one.category is DimImagesWarning]
    assert len(said) == (white < 65535)
    assert all(f"white={white}" in text for text in said)
    again = load_dataset("folder", tmp_path, split="all", size=None, white=65535)
    np.testing.assert_allclose(again.images[:, 0, 0, 0], [top // (k + 1) / 65535 for k in range(4)], rtol=1e-5)


def test_white_of_eight_bit_files(tmp_path: Path) -> None:
    for name in "abcd":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((12, 16), 0.00861, np.float32))
        files.write(tmp_path / f"{name}_mask.png", files.blob_mask())
    with pytest.warns(DimImagesWarning, match=r"brightest pixel is 0\.00861 of 1, all but black.*white=0\.00861"):
        load_dataset("folder", tmp_path, split="all", size=None)
    for name in "abcd":
        (tmp_path / f"{name}.tif").unlink()
    with pytest.warns(DimImagesWarning, match=r"1023 is taken for white, and they are all but black: try white=20"):
        load_dataset("folder", dim(tmp_path, 20), split="all", size=None)
    with pytest.warns(DimImagesWarning, match=r"brightest pixel is 12 of 255.*white=12"):
        data = load_dataset("folder", dim(tmp_path, 12, np.uint8), split="all", size=None)
    assert data.images.max() == 12
    bright = load_dataset("folder", tmp_path, split="all", size=None, white=12)
    assert bright.images[:, 0, 0, 0].tolist() == [255, 128, 85, 64]
    for bad in (0, -1, "12", True, float("nan")):
        for name in ("folder", "brain"):
            with pytest.raises(OptionError, match="expected a positive number"):
                load_dataset(name, tmp_path, white=bad)


def test_what_the_warning_advises_can_be_said_to_every_loader(tmp_path: Path) -> None:
    """Dark brain images, and arrays: one rule for all, and the advice of the warning is taken."""
    root = files.write_brain(tmp_path)
    for path in sorted(root.rglob("*_?.tif")):
        files.write(path, np.full((12, 16, 3), 4, np.uint8))
    with pytest.warns(DimImagesWarning, match=r"brightest pixel is 4 of 255.*white=4$"):
        load_dataset("brain", root, split="all", size=None)
    masks = np.ones((2, 12, 16), np.uint8)
    arrays = np.full((2, 12, 16), 3, np.uint8), np.full((2, 12, 16), 2000, np.uint16), np.full((2, 12, 16), 4096)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bright = load_dataset("brain", root, split="all", size=None, white=4)
        said = [
            SegmentationDataset.from_arrays(one, masks, white=w) for one, w in zip(arrays, (3, 4000, 8192), strict=True)
        ]
        bits = SegmentationDataset.from_arrays(arrays[1], masks, white=65535).images.max()
    assert bright.images.min() == 255
    assert file_reader("brain").read(path, None, "resize", 3, {"white": 4}).images.min() == 255
    assert [float(one.images.max()) for one in said] == [255, 0.5, 0.5]
    assert bits == pytest.approx(2000 / 65535)
    with pytest.warns(DimImagesWarning, match=r"'arrays': the brightest pixel is 3 of 255.*white=3$"):
        assert SegmentationDataset.from_arrays(arrays[0], masks).images.max() == 3
    with pytest.warns(DimImagesWarning, match=r"brightest pixel is 2000: 4095 is taken for white"):
        found = SegmentationDataset.from_arrays(arrays[1], masks)
    assert found.white == 4095
    assert found.images.max() == pytest.approx(2000 / 4095)
    with pytest.raises(DataError, match=r"found 4096 to 4096; .*white=4095"):
        SegmentationDataset.from_arrays(arrays[2], masks)
    with pytest.raises(OptionError, match="expected a positive number"):
        SegmentationDataset.from_arrays(arrays[0], masks, white=0)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_transparency_of_images_is_told(tmp_path: Path, ending: str) -> None:
    """Colours as stored; a cut-out whose surroundings nobody sees must not be trained on unnoticed."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 12, 16, 3)).astype(np.uint8)
    alpha = np.full((4, 12, 16, 1), 255, np.uint8)
    for k, name in enumerate("abcd"):
        Image.fromarray(np.concatenate([colours[k], alpha[k]], axis=2)).save(tmp_path / f"{name}{ending}")
        files.write(tmp_path / f"{name}_mask.png", files.blob_mask())

    def read() -> tuple[SegmentationDataset, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = load_dataset("folder", tmp_path, split="all", size=None)
            file_reader("folder").read(tmp_path / f"c{ending}", None, "resize", 3, {})
        return data, [str(one.message) for one in caught if one.category is TransparencyWarning]

    opaque, said = read()
    assert not said
    for name, k in (("b", 1), ("c", 2)):
        alpha[k, 0, 0] = 200
        Image.fromarray(np.concatenate([colours[k], alpha[k]], axis=2)).save(tmp_path / f"{name}{ending}")
    partly, said = read()
    np.testing.assert_array_equal(partly.images, opaque.images)
    (whole_set, single) = said
    assert whole_set.startswith(f"data set 'folder': {tmp_path / f'b{ending}'}, {tmp_path / f'c{ending}'}: transparent")
    assert single.startswith(f"{tmp_path / f'c{ending}'}: transparent in parts; the colours are taken as stored")


def test_pages_of_damaged_directories_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting may never end where the second directory is not whole, before or at which tifffile gives up or not."""
    whole = io.BytesIO()
    tifffile.imwrite(whole, np.zeros((3, 8, 8), np.uint8), photometric="minisblack", metadata=None)
    content = bytearray(whole.getvalue())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, len(content) - 1)  # where the second begins
    (tmp_path / "a.tif").write_bytes(content)

    def never(path: Path) -> int:
        raise AssertionError("it was counted")

    monkeypatch.setattr("pixelseg_env.datasets.tiff_files.count_pages", never)
    assert page_count(tmp_path / "a.tif") == 1
    called: list[Path] = []
    monkeypatch.setattr("pixelseg_env.datasets.tiff_files.count_pages", lambda path: called.append(path) or 3)
    (tmp_path / "b.tif").write_bytes(whole.getvalue())
    assert page_count(tmp_path / "b.tif") == 3
    assert called


@pytest.mark.parametrize(("kind", "number", "place"), [("gif", "<HH", 6), ("bmp", "<ii", 18)])
def test_a_file_of_a_few_bytes_is_no_large_picture(tmp_path: Path, kind: str, number: str, place: int) -> None:
    """Of kinds that cannot say "all alike" in a few bytes; to make room for such pixels takes memory."""
    buffer, path = io.BytesIO(), tmp_path / f"a.{kind}"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    path.write_bytes(content)
    assert read_pages(path)[0].shape[:2] == (64, 64)
    struct.pack_into(number, content, place, 14096, 4193)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.{kind}: .*4193x14096 pixels"):
        read_pages(path)
