"""Names, options, sizes and third-party sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env import PixelSegEnv
from pixelseg_env.datasets import (
    LargeDatasetWarning,
    SegmentationDataset,
    file_reader,
    load_dataset,
    memory,
    register_dataset,
    registered_datasets,
    registry,
)
from pixelseg_env.datasets.problems import FilesError
from pixelseg_env.errors import DataError, OptionError


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_loaders", dict(registry._loaders))
    monkeypatch.delenv("PIXELSEG_DATA", raising=False)
    return


def tiny(count: int = 10) -> SegmentationDataset:
    masks = np.ones((count, 4, 4), np.uint8)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    return SegmentationDataset("tiny", images, masks, tuple(f"c{i}" for i in range(count)), np.arange(count))


def test_builtin_names() -> None:
    assert registered_datasets() == ("brain", "cardiac", "dicom", "folder", "hecktor", "nifti", "phantom", "table")


def test_third_party_set_gets_what_was_asked_for(tmp_path: Path) -> None:
    seen: dict[str, object] = {}

    @register_dataset("mine")
    def load_mine(
        data: list[Path], size: tuple[int, int] | None, fit: str, keep_empty: bool, tone: int = 1
    ) -> SegmentationDataset:
        seen.update(data=data, size=size, fit=fit, keep_empty=keep_empty, tone=tone)
        return tiny()

    data = load_dataset("mine", tmp_path, split="val", size=(4, 6), fit="crop", keep_empty=True, tone=3)
    assert seen == {"data": [tmp_path], "size": (4, 6), "fit": "crop", "keep_empty": True, "tone": 3}
    assert len(data) == 1
    assert "mine" in registered_datasets()
    with pytest.raises(OptionError, match=r"no option 'tones'.*Did you mean 'tone'"):
        load_dataset("mine", tmp_path, tones=3)


def test_a_name_is_taken_once_only() -> None:
    with pytest.raises(OptionError, match="registered already"):
        register_dataset("brain", lambda *_: tiny())
    register_dataset("brain", lambda *_: tiny(), files=False, overwrite=True)
    assert load_dataset("brain", split="all").name == "tiny"
    with pytest.raises(OptionError, match="callable"):
        register_dataset("other", 3)  # type: ignore[call-overload]


def test_made_data_set_is_split_too() -> None:
    whole = tiny()
    assert load_dataset(whole, split="all") is whole
    parts = [load_dataset(whole, split=s) for s in ("train", "val", "test")]
    assert [len(p) for p in parts] == [7, 1, 2]
    for part in parts:  # pixels, names and numbers stay together
        assert [f"c{v}" for v in part.images[:, 0, 0, 0]] == list(part.cases) == [f"c{n}" for n in part.slices]
    with pytest.raises(OptionError, match="loaded already"):
        load_dataset(whole, data="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "phantim"}, r"dataset='phantim' is not known.*Did you mean 'phantom'"),
        ({"name": 3}, "is not known"),
        ({"split": "trian"}, "Did you mean 'train'"),
        ({"split_by": "pateint"}, "Did you mean 'patient'"),
        ({"fit": "reszie"}, "Did you mean 'resize'"),
        ({"fractions": (1, 1, 1)}, "add up to 1"),
        ({"size": 0}, "positive"),
        ({"size": (4, 5, 6)}, "positive"),
        ({"size": 4.5}, "positive"),
        ({"size": True}, "positive"),
        ({"cuont": 3}, r"no option 'cuont'.*Did you mean 'count'"),
        ({"spilt": "test"}, r"Did you mean 'split'"),
    ],
)
def test_unknown_names_and_values(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load_dataset(**{"name": "phantom", "size": 16, **changes})  # type: ignore[arg-type]


def test_options_are_checked_before_the_files() -> None:
    for changes in ({"split": "trian"}, {"fractions": (1, 1, 1)}, {"channels_": "flair"}):
        with pytest.raises(OptionError):
            load_dataset("brain", "/does/not/exist", **changes)  # type: ignore[arg-type]


def test_no_data_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"pass data=<folder> or set .*PIXELSEG_DATA"):
        load_dataset("brain")
    with pytest.raises(DataError, match="holds no path"):
        load_dataset("brain", [])


def test_path_that_does_not_exist_or_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIXELSEG_DATA", "gone")
    with pytest.raises(DataError, match=rf"gone: does not exist \(looked up from {tmp_path}\); .*from PIXELSEG_DATA"):
        load_dataset("folder")
    with pytest.raises(DataError, match=r"nowhere: does not exist"):
        load_dataset("folder", tmp_path / "nowhere")
    file = files.write(tmp_path / "x.png", files.blob_mask())
    with pytest.raises(DataError, match=r"x\.png: is a file; expected the folder"):
        load_dataset("folder", file)


def test_environment_variable_names_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = files.write_folder(tmp_path / "one", ("a", "b"))
    two = files.write_folder(tmp_path / "two", ("c",))
    monkeypatch.setenv("PIXELSEG_DATA", f"{one}{registry.os.pathsep}{two}")
    assert load_dataset("folder", split="all", size=8).cases == ("a", "b", "c")
    assert load_dataset("folder", two, split="all", size=8).cases == ("c",), "data= goes first"
    monkeypatch.setenv("PIXELSEG_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="PIXELSEG_DATA"):
        load_dataset("folder")


def test_large_sets_are_announced_before_their_pixels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LARGE_BYTES", 3 * 2 * 64)
    files.write_folder(tmp_path, ("a", "b", "c"))
    load_dataset("folder", tmp_path, split="all", size=8)
    files.cut(tmp_path / "c.png")
    with pytest.warns(LargeDatasetWarning, match="GiB"), pytest.raises(DataError, match=r"c\.png"):
        load_dataset("folder", tmp_path, split="all", size=9)


def test_resize_keeps_image_and_mask_in_place(tmp_path: Path) -> None:
    # A bright band on black, mask equal to it. Its edges fall within the blocks of 8 rows that become one: OpenCV's
    # plain nearest neighbour would take each block's first row and shift the mask up.
    for name, top in (("a", 3), ("b", 13), ("c", 21)):
        band = np.zeros((64, 64), np.uint8)
        band[top : top + 32] = 255
        files.write(tmp_path / f"{name}.png", band)
        files.write(tmp_path / f"{name}_mask.png", band)
    for size, fit in ((8, "resize"), (128, "resize"), ((16, 40), "resize"), (40, "crop"), (80, "crop")):
        data = load_dataset("folder", tmp_path, split="all", size=size, fit=fit)
        assert data.image_shape == (1, *((size, size) if isinstance(size, int) else size))
        assert np.array_equal(data.images[:, 0] > 127, data.masks == 1), (size, fit)
    native = load_dataset("folder", tmp_path, split="all", size=None)
    cropped = load_dataset("folder", tmp_path, split="all", size=40, fit="crop")
    padded = load_dataset("folder", tmp_path, split="all", size=80, fit="crop")
    assert native.image_shape == (1, 64, 64)
    assert np.array_equal(cropped.images, native.images[..., 12:52, 12:52])
    assert np.array_equal(padded.masks[:, 8:72, 8:72], native.masks)
    assert padded.masks.sum() == native.masks.sum()


def test_a_tiny_object_survives_resizing_at_its_place(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[8, 40] = 255  # between the samples of every eighth pixel
    files.write(tmp_path / "a.png", mask)
    files.write(tmp_path / "a_mask.png", mask)
    data = load_dataset("folder", tmp_path, split="all", size=8)
    assert np.argwhere(data.masks[0]).tolist() == [[1, 5]]


def test_native_size_needs_one_size(tmp_path: Path) -> None:
    files.write_folder(tmp_path, ("a", "b", "c"))
    files.write(tmp_path / "odd.png", np.zeros((9, 7), np.uint8))
    files.write(tmp_path / "odd_mask.png", files.blob_mask(9, 7, 2, 2, 3))
    with pytest.raises(DataError, match=r"3 are 12x16 and .*odd\.png is 9x7"):
        load_dataset("folder", tmp_path, size=None)
    assert len(load_dataset("folder", tmp_path, split="all", size=8)) == 4


# ---------------------------------------------------------------- module:name, readers, and what is imported

PLUGIN = """
import numpy as np
from pixelseg_env.datasets import ImageReader, SegmentationDataset, register_dataset

def load_plain(data, size, fit, keep_empty, tone=5):
    images = np.full((4, 1, 4, 4), tone, np.uint8)
    return SegmentationDataset.from_arrays(images, np.ones((4, 4, 4), np.uint8), name=f"plain {len(data)}")

@register_dataset("known", reader=ImageReader(pixels=lambda path, planes, tone=5: np.full((2, 2), tone, np.uint8)))
def load_known(data, size, fit, keep_empty, tone=5):
    return load_plain(data, size, fit, keep_empty, tone)

not_a_loader = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"plugin_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_module_and_name_of_a_loader(plugin: str, tmp_path: Path) -> None:
    data = load_dataset(f"{plugin}:load_plain", split="train", tone=9)
    assert data.name == "plain 0"
    assert len(data) == 2
    assert data.images.max() == 9
    assert load_dataset(f"{plugin}:load_plain", tmp_path).name == "plain 1"
    with pytest.raises(OptionError, match=r"no option 'tune'.*Did you mean 'tone'"):
        load_dataset(f"{plugin}:load_plain", tune=9)
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(f"{plugin}:load_plain", tmp_path / "gone")
    for name, message in ((":", "expected module:name"), (f"{plugin}:nothing", "has no"), ("no_such:x", "imported")):
        with pytest.raises(OptionError, match=message):
            load_dataset(name)
    with pytest.raises(OptionError, match=r"expected a loader, .* got int"):
        load_dataset(f"{plugin}:not_a_loader")
    env = PixelSegEnv(f"{plugin}:load_plain", tone=9, size=None)
    assert env.reset(seed=0)[0].max() == pytest.approx(9 / 255)


def test_a_module_says_how_its_files_are_read(plugin: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"load_plain' does not say how one file .*register_dataset.*folder"):
        file_reader(f"{plugin}:load_plain")
    reader = file_reader(f"{plugin}:load_known")
    file = reader.read(tmp_path / "x.png", (3, 4), "resize", 1, {"tone": 7, "fit": "resize"})
    assert file.images.shape == (1, 1, 3, 4)
    assert set(file.images.ravel()) == {7}
    assert file.restore(np.ones((1, 3, 4), np.uint8)).shape == (1, 2, 2)
    with pytest.raises(DataError, match="no folder was given"):  # as it was registered
        load_dataset(f"{plugin}:load_known")


def test_a_set_that_does_not_say_how_it_is_read(tmp_path: Path) -> None:
    register_dataset("mine", lambda *_: tiny(), files=False)
    with pytest.raises(
        OptionError, match=r"'mine' does not say how .*brain, cardiac, dicom, folder, hecktor, nifti, phantom"
    ):
        file_reader("mine")
    for name in registered_datasets():
        assert name == "mine" or file_reader(name).endings
    pixels = load_dataset("phantom", size=16, count=10).images[:1]
    path = files.write(tmp_path / "saved.png", pixels[0, 0])
    assert np.array_equal(file_reader("phantom").read(path, None, "resize", 1, {}).images, pixels)


def test_a_loader_of_the_wrong_type_is_named() -> None:
    register_dataset("bad", lambda data, size, fit, keep_empty: (np.zeros(3),), files=False)
    with pytest.raises(DataError, match="'bad': expected its loader to return a SegmentationDataset, got tuple"):
        load_dataset("bad")
    with pytest.raises(OptionError, match=r"reader .* must be a FileReader"):
        register_dataset("worse", lambda *_: tiny(), reader=3)  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="without a colon"):
        register_dataset("a:b", lambda *_: tiny())


def test_heavy_libraries_are_imported_when_needed() -> None:
    code = (
        "import sys, pixelseg_env.datasets as d\n"
        "heavy = {'cv2', 'nibabel', 'pydicom', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "d.load_dataset('phantom', size=16, count=10)\n"
        "assert heavy & set(sys.modules) <= {'cv2'}, heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_loader_with_other_parameters_is_explained() -> None:
    register_dataset("no_parameters", lambda: None, files=False, overwrite=True)  # type: ignore[arg-type, return-value]
    with pytest.raises(OptionError, match=r"cannot be called as loader\(data, size, fit, keep_empty"):
        load_dataset("no_parameters")


@pytest.mark.parametrize("length", [10, 150, 5000])
def test_many_problems_are_listed_as_far_as_they_can_be_read(length: int) -> None:
    problems = [f"{k} " + "x" * length for k in range(40)]
    error = FilesError(problems)
    assert error.problems == tuple(problems)
    listed = [line for line in str(error).splitlines() if "xx" in line]
    assert 1 <= len(listed) <= 20
    assert str(error).endswith(f"and {40 - len(listed)} more")
    assert len(str(error)) < 4100 or len(listed) == 1
