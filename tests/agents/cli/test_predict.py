from __future__ import annotations

import io
import itertools
import os
import sys
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pixelseg_agents import PA3C
from pixelseg_agents.cli import main
from pixelseg_agents.cli.predict import FilePredictor
from pixelseg_agents.cli.probabilities import probabilities
from pixelseg_agents.cli.runs import write_config
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.networks.pa3c import PA3CNetwork
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset, load_dataset, register_dataset
from pixelseg_env.datasets import ImageReader, registry
from pixelseg_env.datasets.fitting import fit_mask
from tests.helpers.cli import config_of, train_tiny
from tests.helpers.data import cut, write, write_brain, write_cardiac, write_dicom, write_nifti, write_nnunet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    phantoms = load_dataset("phantom", split="all", size=16, count=6)
    for k in range(6):
        write(root / f"data/images/p{k}.png", phantoms.images[k, 0])
        write(root / f"data/masks/p{k}.png", phantoms.masks[k] * 255)
    words = ["--dataset", "folder", "--data", str(root / "data")]
    assert train_tiny(root / "run", data=words, updates=2) == 0
    return root / "run"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "image.png", picture(21, 30))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return load_dataset("phantom", split="all", size=(height, width), count=1).images[0, 0].astype(np.uint8)


def read(path: Path) -> NDArray[np.uint8]:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask is not None, path
    return np.asarray(mask)


def test_mask_is_the_environments_episode_brought_back_to_size(run: Path, image: Path, tmp_path: Path) -> None:
    """Against the evaluation of the same image as a data set, scaled back by nearest neighbour."""
    out = tmp_path / "out.png"
    assert main(["predict", str(run), str(image), "-o", str(out), "--horizon", "3"]) == 0
    write(tmp_path / "set/image.png", picture(21, 30))
    write(tmp_path / "set/image_mask.png", np.eye(21, 30, dtype=np.uint8))
    env = PixelSegVectorEnv(1, "folder", data=tmp_path / "set", split="all", size=16, horizon=3)
    expected = evaluate(PA3C.load(run / "checkpoint.safetensors"), env).maps(0)[-1]
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(read(out), 255 * fit_mask(expected, (21, 30), "resize"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_formats(suffix: str, run: Path, tmp_path: Path) -> None:
    source = write(tmp_path / f"x{suffix}", picture(24, 18))
    assert main(["predict", str(run), str(source), "-o", str(tmp_path / "out")]) == 0
    mask = read(tmp_path / "out" / ("x.tif" if suffix == ".tif" else "x.png"))
    assert mask.shape == (24, 18)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}


def test_native_size_differs_from_training_size_and_needs_no_rescaling(run: Path, image: Path, tmp_path: Path) -> None:
    assert main(["predict", str(run), str(image), "-o", str(tmp_path / "a.png")]) == 0
    assert main(["predict", str(run), str(image), "-o", str(tmp_path / "b.png"), "--native"]) == 0
    agent = PA3C.load(run / "checkpoint.safetensors")
    direct = FilePredictor(agent, None, horizon=2).segment(picture(21, 30)[None, None])[0]
    np.testing.assert_array_equal(read(tmp_path / "b.png"), 255 * direct)
    assert not np.array_equal(read(tmp_path / "a.png"), read(tmp_path / "b.png"))


def test_folders_keep_their_layout_and_leave_masks_out(run: Path, tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.tif", "sub/b_mask.tif", "c_mask.png"):
        write(tmp_path / "in" / name, picture(16, 16))
    out = tmp_path / "in/out"  # inside: the second time, masks are not taken for images
    for more in ([], ["--overwrite"]):
        assert main(["predict", str(run), str(tmp_path / "in"), "-o", str(out), *more]) == 0
        found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
        assert found == ["a.png", "c_mask.png", "sub/b.tif"]


def geometry(path: Path, dtype: type = np.int16, compressed: bool = True) -> nib.Nifti1Image:
    """A volume with an oblique affine, odd voxels and differing qform and sform codes."""
    rng = np.random.default_rng(0)
    affine = np.array([[-1.2, 0.1, 0, 5], [0.1, 0.9, 0, -3], [0, 0, 2.5, 7], [0, 0, 0, 1]], np.float64)
    volume = nib.Nifti1Image(rng.integers(-100, 900, (14, 11, 5)).astype(dtype), affine)
    volume.header.set_xyzt_units("mm", "sec")
    volume.set_sform(affine, code=4)
    volume.set_qform(affine, code=1, strip_shears=True)
    nib.save(volume, path)
    return nib.load(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_volume_keeps_affine_and_header_geometry(ending: str, run: Path, tmp_path: Path) -> None:
    source, target = tmp_path / f"v{ending}", tmp_path / f"mask{ending}"
    volume = geometry(source)
    assert main(["predict", str(run), str(source), "-o", str(target), "--dataset", "nifti"]) == 0
    mask = nib.load(target)
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == volume.shape
    np.testing.assert_array_equal(mask.affine, volume.affine)
    for name in ("pixdim", "qform_code", "sform_code", "xyzt_units", "srow_x", "quatern_b", "qoffset_x", "dim"):
        np.testing.assert_array_equal(mask.header[name], volume.header[name], err_msg=name)
    values = np.asanyarray(mask.dataobj)
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 1}


def test_volume_is_normalised_as_in_training(tmp_path: Path) -> None:
    """The slices that the data set holds, segmented directly, are the predicted volume's slices."""
    data = write_cardiac(tmp_path / "task")
    run = tmp_path / "run"
    assert train_tiny(run, data=["--dataset", "cardiac", "--data", str(data)], updates=2) == 0
    assert main(["evaluate", str(run)]) == 0
    out = tmp_path / "masks"
    assert main(["predict", str(run), *map(str, sorted((data / "imagesTr").iterdir())), "-o", str(out)]) == 0
    dataset = load_dataset("cardiac", data=data, split="all", size=16, keep_empty=True)
    segmented = FilePredictor(PA3C.load(run / "checkpoint.safetensors"), (16, 16), horizon=2).segment(dataset.images)
    assert 0 < segmented.mean() < 1
    for k, (case, number) in enumerate(zip(dataset.cases, dataset.slices, strict=True)):
        slices = np.asanyarray(nib.load(out / f"{case}.nii.gz").dataobj)
        np.testing.assert_array_equal(slices[..., number], fit_mask(segmented[k], (12, 10), "resize"))


@pytest.mark.parametrize(("option", "channels"), [("channels=all", 3), ("channels=flair", 1)])
def test_channels_are_those_of_the_runs_data_set(option: str, channels: int, tmp_path: Path) -> None:
    data, run = write_brain(tmp_path / "lgg"), tmp_path / "run"
    words = ["--dataset", "brain", "--data", str(data), "--dataset-option", option]
    assert train_tiny(run, data=words, updates=1) == 0
    agent = PA3C.load(run / "checkpoint.safetensors")
    assert agent.channels == channels
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    write(tmp_path / "x.tif", pixels)
    assert main(["predict", str(run), str(tmp_path / "x.tif"), "-o", str(tmp_path / "m.tif")]) == 0
    seen = np.moveaxis(pixels, -1, 0) if channels == 3 else pixels[..., 1][None]
    expected = FilePredictor(agent, None, horizon=2).segment(np.ascontiguousarray(seen[None]))[0]
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), 255 * expected)


def test_crop_is_put_back_where_it_came_from(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    config = config_of(run)
    config["arguments"]["task"]["dataset_option"] = ["fit=crop"]
    write_config(other, config)
    (other / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    pixels = picture(26, 20)
    write(tmp_path / "x.png", pixels)
    assert main(["predict", str(other), str(tmp_path / "x.png"), "-o", str(tmp_path / "m.png")]) == 0
    agent = PA3C.load(run / "checkpoint.safetensors")
    expected = np.zeros((26, 20), np.uint8)
    expected[5:21, 2:18] = FilePredictor(agent, None, horizon=2).segment(pixels[None, None, 5:21, 2:18])[0]
    assert expected.any()
    np.testing.assert_array_equal(read(tmp_path / "m.png"), 255 * expected)


def test_episodes_of_a_volume_do_not_depend_on_the_batch(run: Path) -> None:
    agent = PA3C.load(run / "checkpoint.safetensors")
    images = load_dataset("phantom", split="all", size=16, count=5).images
    one, two = (FilePredictor(agent, None, horizon=2, batch=batch).segment(images) for batch in (1, 3))
    np.testing.assert_array_equal(one, two)


def stack(path: Path, pages: int) -> Path:
    images = load_dataset("phantom", split="all", size=16, count=pages).images[:, 0]
    tifffile.imwrite(path, images.astype(np.uint8), photometric="minisblack", metadata=None)
    return path


def test_slices_in_batches_give_the_masks_of_one_slice_at_a_time(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, found, passes = stack(tmp_path / "s.tif", 5), {}, []
    decide = PA3CNetwork.decide
    monkeypatch.setattr(PA3CNetwork, "decide", lambda self, seen: passes.append(len(seen)) or decide(self, seen))
    for batch in (1, 3):
        passes.clear()
        out = tmp_path / f"{batch}.tif"
        assert main(["predict", str(run), str(source), "-o", str(out), "--batch", str(batch), "--horizon", "10"]) == 0
        found[batch] = tifffile.imread(out)
        assert max(passes) == batch
    assert found[1].shape == (5, 16, 16)
    assert 0 < found[1].mean() < 255
    np.testing.assert_array_equal(found[1], found[3])


class Terminal(io.StringIO):
    """What is shown on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "more", "terminal", "shown"),
    [(0.3, [], True, True), (0.3, ["--log", "none"], True, False), (1e-6, [], True, False), (0.3, [], False, False)],
    ids=["long", "none", "short", "in-a-log"],
)
def test_progress_is_shown_of_what_takes_long(
    seconds: float,
    more: list[str],
    terminal: bool,
    shown: bool,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By a clock that goes on at every look at it; in a log a line comes after half a minute."""
    screen, clock = Terminal() if terminal else io.StringIO(), itertools.count()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("tqdm.std.time", lambda: seconds * next(clock))
    write(tmp_path / "in/x.png", picture(16, 16))
    stack(tmp_path / "in/s.tif", 5)
    words = ["predict", str(run), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--batch", "2", *more]
    assert main(words) == 0
    text = screen.getvalue()
    assert ("s.tif: " in text and "/5 slices [" in text) == shown
    assert ("files: " in text and "/2 files [" in text) == shown
    assert bool(text) == shown
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        str(tmp_path / "out" / name) for name in ("s.tif", "x.png")
    ]


def refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *words]) == 2
    assert message in capsys.readouterr().err


def test_existing_output_is_refused_unless_overwrite(
    run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"mine")
    refused([str(run), str(image), "-o", str(out)], f"{out}: exists", capsys)
    assert out.read_bytes() == b"mine"
    for name, which in (("checkpoint", []), ("checkpoint", ["last"]), ("best", ["best"])):
        words = ["--checkpoint", *which] if which else []
        assert main(["predict", str(run), str(image), "-o", str(out), "--overwrite", *words]) == 0
        kind = "best" if name == "best" else "last"
        said = f"{run / name}.safetensors, the {kind} checkpoint of the run\n"
        assert said in capsys.readouterr().out, "which agent made the mask"
    assert read(out).shape == (21, 30)
    assert {path.name for path in tmp_path.iterdir()} == {"image.png", "out.png"}


def test_input_is_never_overwritten(run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = image.read_bytes()
    for out in (image, tmp_path, tmp_path / "sub/../image.png"):
        refused([str(run), str(image), "-o", str(out), "--overwrite"], "never overwritten", capsys)
    link = tmp_path / "link.png"
    link.symlink_to(image)
    refused([str(run), str(image), "-o", str(link), "--overwrite"], "never overwritten", capsys)
    assert image.read_bytes() == content


def test_wrong_inputs_are_named(run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, text = tmp_path / "out", tmp_path / "a.txt"
    text.write_text("x")
    broken = cut(write(tmp_path / "broken.png", picture(40, 40)))
    short = cut(write_nifti(tmp_path / "short.nii.gz", np.zeros((8, 8, 4), np.int16)))
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (tmp_path / "absent.png", text, broken, short, empty):
        refused([str(run), str(source), "-o", str(out)], str(source), capsys)
    same = write(tmp_path / "image.jpg", picture(16, 16))
    refused([str(run), str(image), str(same), "-o", str(out)], "both write", capsys)
    refused([str(run), str(image), "-o", str(tmp_path / "m.jpg")], "m.jpg", capsys)
    refused([str(run), str(image), "-o", str(tmp_path / "m.nii")], "m.nii", capsys)
    refused([str(run), str(image), str(same), "-o", str(text)], "is a file", capsys)
    refused([str(run), str(image), "-o", str(out), "--horizon", "0"], "horizon=0", capsys)
    refused([str(run), "-o", str(out)], "no input", capsys)
    assert not out.exists()


def test_volume_for_an_agent_of_three_channels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = PA3C(PixelSegVectorEnv(1, three_channels()), width=0.03)
    agent.save(tmp_path / "agent")
    geometry(tmp_path / "v.nii.gz")
    words = [str(tmp_path / "agent.safetensors"), str(tmp_path / "v.nii.gz"), "-o", str(tmp_path / "m.nii.gz")]
    refused([*words, "--size", "16", "--dataset", "nifti"], "v.nii.gz: gives 1 channel", capsys)


def test_bare_checkpoint_needs_a_size(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PA3C(PixelSegVectorEnv(1, three_channels()), width=0.03).save(tmp_path / "agent")
    words = [str(tmp_path / "agent.safetensors"), str(image), "-o", str(tmp_path / "m.png")]
    refused(words, "give --size", capsys)
    assert main(["predict", *words, "--size", "16"]) == 0
    assert read(tmp_path / "m.png").shape == (21, 30)


def three_channels() -> SegmentationDataset:
    grey = load_dataset("phantom", split="all", size=16, count=2)
    return SegmentationDataset("rgb", np.repeat(grey.images, 3, axis=1), grey.masks, grey.cases, grey.slices)


# ---------------------------------------------------------------- readers


def test_files_of_a_registered_set_are_read_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set that inverts its images: predict must see what training saw (0.882), not the plain file (0.118)."""
    monkeypatch.setattr(registry, "_loaders", dict(registry._loaders))
    masks = np.zeros((10, 16, 16), np.uint8)
    masks[:, 4:9, 4:9] = 1
    trained = np.full((10, 1, 16, 16), 225, np.uint8)

    def load(data: list[Path], size: object, fit: str, keep_empty: bool) -> SegmentationDataset:
        return SegmentationDataset.from_arrays(trained, masks)

    register_dataset("inverted", load, files=False)
    run, source = tmp_path / "run", write(tmp_path / "x.png", np.full((16, 16), 30, np.uint8))
    assert train_tiny(run, data=["--dataset", "inverted"], updates=1) == 0
    refused([str(run), str(source), "-o", str(tmp_path / "m.png")], "register_dataset(..., reader=", capsys)

    seen: list[float] = []
    segment = FilePredictor.segment

    def watched(predictor: FilePredictor, images: NDArray) -> NDArray[np.uint8]:
        seen.append(float(images.mean() / 255))
        return segment(predictor, images)

    monkeypatch.setattr(FilePredictor, "segment", watched)
    reader = ImageReader(pixels=lambda path, planes: 255 - read(path))
    register_dataset("inverted", load, files=False, overwrite=True, reader=reader)
    assert main(["predict", str(run), str(source), "-o", str(tmp_path / "m.png")]) == 0
    assert main(["predict", str(run), str(source), "-o", str(tmp_path / "n.png"), "--dataset", "folder"]) == 0
    assert seen == pytest.approx([0.882, 0.118], abs=1e-3)


def test_a_set_reads_its_own_kinds_of_files_only(
    run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    geometry(tmp_path / "v.nii.gz")
    out = ["-o", str(tmp_path / "out")]
    refused([str(run), str(tmp_path / "v.nii.gz"), *out], "data set 'folder' reads these only, --dataset", capsys)
    refused([str(run), str(image), *out, "--dataset", "nifti"], "kinds .nii.gz, .nii", capsys)
    assert not (tmp_path / "out").exists()


def test_a_dot_does_not_make_a_file_of_a_folder(run: Path, image: Path, tmp_path: Path) -> None:
    assert main(["predict", str(run), str(image), "-o", str(tmp_path / "masks.v1")]) == 0
    assert read(tmp_path / "masks.v1/image.png").shape == (21, 30)


def test_masks_in_a_folder_of_their_own_are_no_inputs(run: Path, tmp_path: Path) -> None:
    for place in ("images/a.png", "images/b.png", "masks/a.png", "masks/b.png"):
        write(tmp_path / "in" / place, picture(16, 16))
    assert main(["predict", str(run), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["images/a.png", "images/b.png"]


def test_channels_in_files_of_their_own_become_one_mask(tmp_path: Path) -> None:
    data, run, out = write_nnunet(tmp_path / "task"), tmp_path / "run", tmp_path / "out"
    words = ["--dataset", "nifti", "--data", str(data), "--dataset-option", "labels=1,2"]
    assert train_tiny(run, data=words, updates=1) == 0
    assert main(["predict", str(run), str(data), "-o", str(out)]) == 0
    names = sorted(path.name for path in (out / "imagesTr").iterdir())
    assert names == sorted(f"bts_{c:03d}_{label}.nii.gz" for c in range(4) for label in ("core", "oedema"))
    dataset = load_dataset("nifti", data=data, split="all", size=16, keep_empty=True, labels=(1, 2))
    agent = PA3C.load(run / "checkpoint.safetensors")
    segmented = FilePredictor(agent, (16, 16), horizon=2).segment(dataset.images)
    for k, (case, number) in enumerate(zip(dataset.cases, dataset.slices, strict=True)):
        for position, label in enumerate(("oedema", "core")):
            slices = np.asanyarray(nib.load(out / f"imagesTr/{case}_{label}.nii.gz").dataobj)
            np.testing.assert_array_equal(slices[..., number], fit_mask(segmented[k, position], (12, 10), "resize"))


def test_a_dicom_series_becomes_a_volume(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydicom")
    volume = np.random.default_rng(0).integers(0, 900, (12, 10, 3)).astype(np.uint16)
    for name in ("p0", "p1"):
        write_dicom(tmp_path / "in" / name, volume)
    words = ["predict", str(run), "--dataset", "dicom", "-o"]
    assert main([*words, str(tmp_path / "one.nii.gz"), str(tmp_path / "in/p0")]) == 0
    assert main([*words, str(tmp_path / "all"), str(tmp_path / "in")]) == 0
    one, other = nib.load(tmp_path / "one.nii.gz"), nib.load(tmp_path / "all/p1.nii.gz")
    assert one.shape == (12, 10, 3)
    assert one.affine[2, 2] == pytest.approx(3.0)
    np.testing.assert_array_equal(np.asanyarray(one.dataobj), np.asanyarray(other.dataobj))


# ---------------------------------------------------------------- stacks, turned files, what else is written


def test_a_stack_becomes_a_stack_of_masks(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = np.stack([picture(24, 18), np.flipud(picture(24, 18)), picture(24, 18) // 2])
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="minisblack", metadata=None)
    assert main(["predict", str(run), str(tmp_path / "s.tif"), "-o", str(tmp_path / "out")]) == 0
    masks = tifffile.imread(tmp_path / "out/s.tif")
    assert masks.shape == (3, 24, 18)
    for k, page in enumerate(pages):
        write(tmp_path / "one.png", page)
        words = ["predict", str(run), str(tmp_path / "one.png"), "-o", str(tmp_path / "m.png"), "--overwrite"]
        assert main(words) == 0
        np.testing.assert_array_equal(masks[k], read(tmp_path / "m.png"))
    refused([str(run), str(tmp_path / "s.tif"), "-o", str(tmp_path / "s.png")], "3 pages need a file that ends", capsys)


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_the_mask_of_a_turned_file_lies_on_its_own_pixels(run: Path, tmp_path: Path, orientation: int) -> None:
    shown = picture(24, 18)
    turns = {3: Image.ROTATE_180, 5: Image.TRANSPOSE, 6: Image.ROTATE_90, 8: Image.ROTATE_270}
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(shown).transpose(turns[orientation]).save(tmp_path / "turned.png", exif=exif)
    write(tmp_path / "upright.png", shown)
    out = tmp_path / "out"
    words = [str(tmp_path / "turned.png"), str(tmp_path / "upright.png"), "-o", str(out)]
    assert main(["predict", str(run), *words]) == 0
    upright = Image.open(out / "upright.png")
    stored = np.asarray(Image.open(out / "turned.png"))
    np.testing.assert_array_equal(stored, np.asarray(upright.transpose(turns[orientation])))
    assert np.unique(stored).size == 2
    assert Image.open(out / "turned.png").getexif()[274] == orientation  # and viewers turn it as they turn the image


def test_a_broken_file_does_not_stop_the_others(
    run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "in" / name, picture(40, 40))
    write(tmp_path / "in/.ipynb_checkpoints/a.png", picture(40, 40))
    cut(tmp_path / "in/b.png")
    words = ["predict", str(run), str(tmp_path / "in"), "-o", str(tmp_path / "masks.v1")]
    assert main(words) == 1
    assert sorted(path.name for path in (tmp_path / "masks.v1").iterdir()) == ["a.png", "c.png"]
    error = capsys.readouterr().err
    assert "1 of 3 inputs have no mask" in error
    assert "b.png: expected a whole image file" in error.rpartition("no mask")[2]
    for name in ("a.png", "c.png"):
        cut(tmp_path / "in" / name)
    assert main([*words, "--overwrite"]) == 2


def test_memory_that_is_short_is_told(
    run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(*rest: object, **named: object) -> None:
        np.empty(1 << 62, np.uint8)  # raises MemoryError at once

    monkeypatch.setattr("pixelseg_agents.cli.predict.segment", segment)
    refused(
        [str(run), str(image), "-o", str(tmp_path / "m.png"), "--size", "40x30"],
        f"{image}: memory is too short for its images at 40x30 pixels",
        capsys,
    )


def test_overlay(run: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), str(image), "-o", str(tmp_path / "m.png"), "--overlay"]) == 0
    mask, overlay = read(tmp_path / "m.png"), cv2.imread(str(tmp_path / "m_overlay.png"))
    assert overlay is not None
    assert overlay.shape == (21, 30, 3)
    coloured = np.ptp(overlay.astype(int), axis=-1) > 0
    assert coloured.any()
    assert not coloured[mask == 0].any()  # the rim of the object, and nothing else
    np.testing.assert_array_equal(overlay[~coloured][:, 0], picture(21, 30)[~coloured])
    refused([str(run), str(image), "-o", str(tmp_path / "n.png"), "--overlay", "--horizon", "0"], "horizon=0", capsys)
    (tmp_path / "o_overlay.png").write_bytes(b"mine")
    refused([str(run), str(image), "-o", str(tmp_path / "o.png"), "--overlay"], "o_overlay.png: exists", capsys)


def test_probabilities_are_of_keeping_at_every_step(run: Path, image: Path, tmp_path: Path) -> None:
    words = ["predict", str(run), str(image), "--native", "--probabilities", "--horizon", "2"]
    assert main([*words, "-o", str(tmp_path / "m.png")]) == 0
    found = tifffile.imread(tmp_path / "m_probability.tif")
    assert found.dtype == np.float32
    agent = PA3C.load(run / "checkpoint.safetensors")
    pixels = picture(21, 30)[None, None].astype(np.float32) / np.float32(255)
    first = agent.keep_probability(pixels)
    kept = agent.predict(pixels)[0][:, None]
    expected = first * agent.keep_probability(pixels * kept)
    np.testing.assert_allclose(found, expected[0], rtol=1e-4, atol=1e-6)
    assert (found[read(tmp_path / "m.png") == 0] < 0.5).all()


def test_probabilities_of_a_volume(run: Path, tmp_path: Path) -> None:
    volume = geometry(tmp_path / "v.nii.gz")
    words = ["predict", str(run), str(tmp_path / "v.nii.gz"), "--dataset", "nifti", "--probabilities"]
    assert main([*words, "--overlay", "-o", str(tmp_path / "m.nii.gz")]) == 0
    sure = nib.load(tmp_path / "m_probability.nii.gz")
    assert sure.get_data_dtype() == np.float32
    assert sure.shape == volume.shape
    np.testing.assert_array_equal(sure.affine, volume.affine)
    values = np.asanyarray(sure.dataobj)
    assert 0 <= values.min() < values.max() <= 1
    assert (tmp_path / "m_overlay.png").exists()


@pytest.mark.parametrize("batch", [1, 3])
def test_probabilities_are_of_every_step_where_nothing_changes_any_more(batch: int) -> None:
    """Playing leaves out the passes of such steps; their probabilities belong to the product."""
    images = load_dataset("phantom", split="all", size=16, count=5).images
    agent = PA3C(PixelSegVectorEnv(1, size=16, count=20), width=0.06, device="cpu", seed=3)
    found = probabilities(
        agent, images, 10, batch, lambda one: FilePredictor(one, None, 10, batch=batch).segment(images)
    )
    maps, expected = np.ones((5, 1, 16, 16), np.float32), np.ones((5, 16, 16), np.float32)
    unchanged = 0
    for _ in range(10):
        seen, before = images / np.float32(255) * maps, maps
        expected *= agent.keep_probability(seen)
        maps = maps * agent.predict(seen)[0][:, None]
        unchanged += np.array_equal(maps, before)
    assert unchanged
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_names_that_a_console_cannot_show(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="cp1252"))
    source = write(tmp_path / "x.png", picture(16, 16)).rename(tmp_path / "\u5fc3\u810f.png")
    assert main(["predict", str(run), str(source), "-o", str(tmp_path / "out")]) == 0
    sys.stdout.flush()
    assert rb"\u5fc3\u810f.png" in buffer.getvalue()
    assert (tmp_path / "out/\u5fc3\u810f.png").exists()
    latin = tmp_path / os.fsdecode(b"caf\xe9.png")  # an old archive's name, which is no UTF-8
    try:
        write(tmp_path / "y.png", picture(16, 16)).rename(latin)
    except OSError:  # file systems that allow none
        return
    assert main(["predict", str(run), str(latin), "-o", str(tmp_path / "out")]) == 0
    sys.stdout.flush()
    assert rb"caf\udce9.png" in buffer.getvalue()
    assert (tmp_path / "out" / latin.name).exists()


def test_a_run_scales_files_by_percentiles_as_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one slice that is given, `predict` takes those of its patient, and `evaluate` those of other data."""
    data, run = write_brain(tmp_path / "data"), tmp_path / "run"
    options = ["--dataset-option", "scaling=percentiles"]
    assert train_tiny(run, data=["--dataset", "brain", "--data", str(data), *options], updates=1) == 0
    assert config_of(run)["arguments"]["task"]["dataset_option"] == ["scaling=percentiles"]
    assert main(["evaluate", str(run), "--split", "all"]) == 0
    trained_on = load_dataset("brain", data, split="all", size=16, scaling="percentiles")
    case, seen = trained_on.cases[0], []
    monkeypatch.setattr(FilePredictor, "segment", lambda _, images: seen.append(images) or images[:, 0] > 0)
    path = data / "kaggle_3m" / case / f"{case}_2.tif"
    assert main(["predict", str(run), str(path), "-o", str(tmp_path / "mask.tif")]) == 0
    np.testing.assert_array_equal(seen[0], trained_on.images[:1])
