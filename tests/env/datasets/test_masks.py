"""A mask means what a person sees who opens it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import tests.helpers.data as files
from pixelseg_env.datasets import WhiteIsZeroWarning
from pixelseg_env.datasets.masks import luminance, read_masks
from pixelseg_env.errors import DataError

TRUE = files.blob_mask(32, 32, 8, 9, 12) // 255


def save(path: Path, pixels: NDArray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def read(path: Path, **options: object) -> NDArray[np.uint8]:
    (mask,), _ = read_masks(path, **options)  # type: ignore[arg-type]
    return mask


def test_threshold_is_on_luminance(tmp_path: Path) -> None:
    viridis = np.array([[68, 1, 84], [253, 231, 36]], np.uint8)
    path = save(tmp_path / "m.png", viridis[TRUE])
    np.testing.assert_array_equal(read(path, threshold=127), TRUE)
    with pytest.raises(
        DataError, match=r"2 colours \(\(68, 1, 84\), \(253, 231, 36\)\).*threshold=122 or another.*labels="
    ):
        read(path)
    red = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)  # luminance 76
    path = save(tmp_path / "r.png", red[TRUE])
    assert read_masks(path)[1] == (255, 0, 0)
    np.testing.assert_array_equal(read(path), TRUE)
    np.testing.assert_array_equal(read(path, threshold=75), TRUE)
    assert not read(path, threshold=76).any()


@settings(max_examples=30)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_luminance_is_what_pillow_calls_grey(red: int, green: int, blue: int) -> None:
    colour = np.array([[[red, green, blue]]], np.uint8)
    assert abs(float(luminance(colour)[0, 0]) - Image.fromarray(colour).convert("L").getpixel((0, 0))) <= 1


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 0, 128), (128, 128, 128)])
def test_a_jpeg_is_cut_halfway_between_its_two_levels(tmp_path: Path, colour: tuple, quality: int) -> None:
    table = np.array([(0, 0, 0), colour], np.uint8)
    path = save(tmp_path / "m.jpg", table[TRUE], quality=quality)
    wrong = np.count_nonzero(read(path) != TRUE)
    assert wrong <= 0.1 * TRUE.sum(), wrong


def test_a_jpeg_of_other_levels(tmp_path: Path) -> None:
    three = TRUE * 255
    three[2:7, 2:30] = 128
    with pytest.raises(DataError, match=r"m\.jpg: expected a mask of two grey levels, got 3 .*threshold="):
        read(save(tmp_path / "m.jpg", three, quality=95))
    lines = np.zeros((64, 64), np.uint8)
    lines[:, 10:12], lines[20:22] = 127, 127
    lines[:, 40:42], lines[50:52] = 255, 255
    small = np.zeros((64, 64), np.uint8)
    small[10:40, 10:40], small[48:52, 48:52] = 255, 128
    for thin_level in (lines, small):
        with pytest.raises(DataError, match=r"m\.jpg: expected a mask of two grey levels, got 3 \(0, 12[78], 255\)"):
            read(save(tmp_path / "m.jpg", thin_level, quality=95))
    equal = np.zeros((64, 64, 3), np.uint8)
    equal[10:40, 10:40], equal[10:40, 45:60] = (255, 0, 0), (0, 130, 0)
    with pytest.raises(DataError, match=r"m\.jpg: expected a mask of two colours, black and one other, got 3"):
        read(save(tmp_path / "m.jpg", equal, quality=90))
    for level, middle in ((1, "(0.5|1)"), (20, "1[0-4]")):  # as dark as blur may be
        with pytest.raises(DataError, match=rf"m\.jpg: .*too much alike.*threshold={middle} or"):
            read(save(tmp_path / "m.jpg", TRUE * np.uint8(level)))
    assert np.count_nonzero(read(tmp_path / "m.jpg", threshold=10) != TRUE) <= 10
    gradient = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 64, 0)
    with pytest.raises(DataError, match=r"a gradient from .*threshold="):
        read(save(tmp_path / "m.jpg", gradient, quality=95))
    assert not read(save(tmp_path / "m.jpg", np.zeros((16, 16), np.uint8))).any()
    assert read(save(tmp_path / "m.jpg", np.full((16, 16), 255, np.uint8))).all()
    thin = np.zeros((32, 32), np.uint8)
    thin[:, 15] = 255
    np.testing.assert_array_equal(read(save(tmp_path / "m.jpg", thin, quality=95)), thin // 255)
    # What matters is the compression, not the name.
    Image.fromarray(np.stack([TRUE * 255] * 3, -1)).save(tmp_path / "m.tif", compression="jpeg", quality=90)
    assert np.count_nonzero(read(tmp_path / "m.tif") != TRUE) <= 10


def test_a_mask_in_the_transparency(tmp_path: Path) -> None:
    white, black = np.full((32, 32, 3), 255, np.uint8), np.zeros((32, 32, 3), np.uint8)
    for ending in (".png", ".tif"):
        for colour in (white, black):
            path = save(tmp_path / f"m{ending}", np.dstack([colour, TRUE * 255]))
            np.testing.assert_array_equal(read(path), TRUE)
        assert not read(save(tmp_path / f"m{ending}", np.dstack([white, TRUE * 0]))).any()
        # Opaque everywhere, or colours that vary: the colours are the mask.
        assert not read(save(tmp_path / f"m{ending}", np.dstack([black, TRUE * 0 + 255]))).any()
        shape = np.dstack([TRUE * 255] * 3 + [255 - TRUE * 0])
        np.testing.assert_array_equal(read(save(tmp_path / f"m{ending}", shape)), TRUE)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_what_is_transparent_is_no_object(tmp_path: Path, ending: str) -> None:
    opaque, there = (TRUE * 255)[..., None], TRUE[..., None] > 0
    for inside in (0, (255, 0, 0)):  # on white that nobody sees
        colours = np.where(there, np.array(inside, np.uint8), np.uint8(255))
        colours = np.broadcast_to(colours, (32, 32, 3))
        np.testing.assert_array_equal(read(save(tmp_path / f"m{ending}", np.dstack([colours, opaque]))), TRUE)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)  # cut out
    path = save(tmp_path / f"m{ending}", np.dstack([picture, opaque]))
    for threshold in (None, 127):
        np.testing.assert_array_equal(read(path, threshold=threshold), TRUE)
    # An object on a field of view: outside it nothing is seen.
    field = np.zeros((32, 32), np.uint8)
    field[2:30, 2:30] = 255
    shape = np.dstack([np.where(field > 0, TRUE * 255, 255).astype(np.uint8)] * 3 + [field])
    np.testing.assert_array_equal(read(save(tmp_path / f"m{ending}", shape)), TRUE)
    # Transparency that is 0 everywhere was lost on the way.
    lost = np.dstack([TRUE * 255] * 3 + [TRUE * 0])
    np.testing.assert_array_equal(read(save(tmp_path / f"m{ending}", lost)), TRUE)


def test_advice_for_floats_helps(tmp_path: Path) -> None:
    import tifffile

    soft = TRUE * np.float32(0.9) + np.float32(0.05)
    soft[0, 0] = 0
    tifffile.imwrite(tmp_path / "m.tif", soft)
    with pytest.raises(DataError, match=r"threshold=0\.475 or another"):
        read(tmp_path / "m.tif")
    np.testing.assert_array_equal(read(tmp_path / "m.tif", threshold=0.475), TRUE)
    tifffile.imwrite(tmp_path / "m.tif", -TRUE.astype(np.int8))
    with pytest.raises(DataError, match=r"threshold=-0\.5 or another grey level, with invert=true"):
        read(tmp_path / "m.tif")
    np.testing.assert_array_equal(read(tmp_path / "m.tif", threshold=-0.5, invert=True), TRUE)
    tifffile.imwrite(tmp_path / "m.tif", np.where(TRUE > 0, 1, np.float32("nan")))
    with pytest.raises(DataError, match=r"m\.tif: .*found 1, nan; write 0"):
        read(tmp_path / "m.tif")


def test_a_mask_whose_file_says_that_0_is_white(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "m.tif", TRUE > 0)  # so tifffile writes booleans, and viewers show them
    with pytest.warns(WhiteIsZeroWarning, match="invert=true"):
        np.testing.assert_array_equal(read(tmp_path / "m.tif"), 1 - TRUE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read(tmp_path / "m.tif", invert=True), TRUE)
        tifffile.imwrite(tmp_path / "m.tif", TRUE)
        np.testing.assert_array_equal(read(tmp_path / "m.tif"), TRUE)


def test_gif_float_and_many_channels(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(save(tmp_path / "m.gif", TRUE * 255)), TRUE)
    files.write(tmp_path / "m.tif", TRUE * np.float32(0.9999999))
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), TRUE)
    import tifffile

    tifffile.imwrite(tmp_path / "c.tif", np.stack([TRUE] * 5, -1), photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=r"c\.tif: expected a mask in grey or colours, got 5 channels"):
        read(tmp_path / "c.tif")


def test_pages_with_different_values_are_refused(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "m.tif", np.stack([TRUE, TRUE * 2]), photometric="minisblack", metadata=None)
    with pytest.raises(DataError, match=r"m\.tif: the object is 1 in one page and 2 in another"):
        read_masks(tmp_path / "m.tif")
