"""A visitor's files: read as the loaders read them, refused in plain words, and gone afterwards."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelseg_agents.lab.uploads import LARGEST_FILE, read_upload
from pixelseg_env import DataError

Files = tuple[Path, Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A picture and its mask, both good."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 15:30] = 255
    paths = tmp_path / "scan.png", tmp_path / "scan truth.PNG"
    for path, array in zip(paths, (pixels, mask), strict=True):
        Image.fromarray(array).save(path, "PNG")
    return paths


def test_a_good_pair_becomes_one_image_of_the_labs_size(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Path] = []
    made = tempfile.TemporaryDirectory

    def watched(**options: str) -> tempfile.TemporaryDirectory[str]:
        folder = made(**options)
        kept.append(Path(folder.name))
        return folder

    monkeypatch.setattr(tempfile, "TemporaryDirectory", watched)
    found = read_upload(*files, 32)
    assert found.image_shape == (1, 32, 32)
    assert 0 < found.masks.mean() < 0.2
    assert len(kept) == 1
    assert kept[0].is_relative_to(tempfile.gettempdir())
    assert not kept[0].exists()


def refused(image: Path | None, mask: Path | None, tmp_path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_upload(image, mask, 32)
    told = str(error.value)
    assert str(tmp_path) not in told
    assert tempfile.gettempdir() + "/" not in told
    return told


def test_what_is_missing_is_said(files: Files, tmp_path: Path) -> None:
    assert "mask is missing" in refused(files[0], None, tmp_path)
    assert "picture is missing" in refused(None, files[1], tmp_path)


def test_wrong_files_are_refused_by_the_visitors_own_names(files: Files, tmp_path: Path) -> None:
    image, mask = files
    bad = tmp_path / "notes.png"
    bad.write_bytes(b"not a picture at all")
    assert "notes.png" in refused(bad, mask, tmp_path)
    bad = tmp_path / "script.svg"
    bad.write_text("<svg/>")
    assert "script.svg" in refused(image, bad, tmp_path)
    cut = tmp_path / "cut.png"
    cut.write_bytes(image.read_bytes()[:-200])
    assert "cut.png" in refused(cut, mask, tmp_path)
    grey = refused(image, image, tmp_path)  # a picture is no mask
    assert "scan.png" in grey
    assert "two values" in grey
    other = tmp_path / "other size.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(other)
    refused(image, other, tmp_path)


def test_what_is_too_large_is_refused_before_it_is_unpacked(files: Files, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(files[0].read_bytes() + b"0" * LARGEST_FILE)
    assert "expected at most 5" in refused(large, files[1], tmp_path)
    bomb = tmp_path / "bomb.png"  # 36 million pixels in a few kilobytes
    content = io.BytesIO()
    Image.new("1", (6000, 6000)).save(content, "PNG")
    bomb.write_bytes(content.getvalue())
    assert len(content.getvalue()) < 50_000
    assert "6000 x 6000" in refused(bomb, files[1], tmp_path)
    stack = tmp_path / "stack.tif"
    pages = [Image.fromarray(np.full((40, 50), k, np.uint8)) for k in range(3)]
    pages[0].save(stack, save_all=True, append_images=pages[1:])
    refused(stack, files[1], tmp_path)
