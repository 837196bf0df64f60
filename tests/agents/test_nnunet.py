"""nnU-Net's raw layout: what is written, the way back, folds by patient, and that nothing is replaced unasked."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import tests.helpers.data as files
from pixelseg_agents.cli import main
from pixelseg_agents.nnunet import export_nnunet, read_nnunet
from pixelseg_env import DataError, OptionError, PixelSegError, SegmentationDataset, load_dataset

KINDS = (("images", "_0000"), ("labels", ""))
SPLITS = ("train", "val", "test")


def parts_of(dataset: SegmentationDataset) -> dict[str, SegmentationDataset]:
    return {part: load_dataset(dataset, split=part) for part in SPLITS}


def some(
    labels: int = 1, channels: int = 1, dtype: type = np.uint8, patients: int = 12, overlap: bool = True
) -> SegmentationDataset:
    """Noise of three slices a patient, 12x10 pixels."""
    rng = np.random.default_rng(labels)
    count = 3 * patients
    values = rng.integers(0, 256, (count, channels, 12, 10))
    images: NDArray[Any] = values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(np.float32)
    masks = rng.integers(0, 2, (count, labels, 12, 10)).astype(np.uint8)
    if not overlap:
        masks &= np.cumsum(masks, axis=1) == 1
    cases = [f"patient {k // 3}" for k in range(count)]
    return SegmentationDataset.from_arrays(images, masks[:, 0] if labels == 1 else masks, cases, list(range(count)))


def pixels(path: Path) -> NDArray[Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_layout_holds_every_channel_and_label_of_every_image(tmp_path: Path) -> None:
    dataset = some(channels=3)
    parts = parts_of(dataset)
    done = export_nnunet(parts, tmp_path / "raw", 7, "Noise", channels=("T1", "FLAIR", "T2"))
    root = tmp_path / "raw/Dataset007_Noise"
    assert done.folder == root
    assert sorted(path.name for path in root.iterdir()) == sorted(
        ["imagesTr", "labelsTr", "imagesTs", "labelsTs", "dataset.json", "splits_final.json", "cases.csv"]
    )
    assert [path for path in (tmp_path / "raw").iterdir() if path != root] == []
    about = json.loads((root / "dataset.json").read_text())
    assert about["channel_names"] == {"0": "T1", "1": "FLAIR", "2": "T2"}
    assert about["labels"] == {"background": 0, "object": 1}
    assert (about["numTraining"], about["file_ending"]) == (len(parts["train"]) + len(parts["val"]), ".png")
    for part, dataset in parts.items():
        which = "Ts" if part == "test" else "Tr"
        for k, name in enumerate(done.images[part]):
            for channel in range(3):
                assert (pixels(root / f"images{which}/{name}_{channel:04d}.png") == dataset.images[k, channel]).all()
            assert (pixels(root / f"labels{which}/{name}.png") == dataset.masks[k]).all()
    assert len(list((root / "imagesTr").iterdir())) == 3 * len(list((root / "labelsTr").iterdir()))
    assert len(list((root / "imagesTs").iterdir())) == 3 * len(parts["test"])
    with (root / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows if row["part"] == "test"] == list(parts["test"].cases)
    assert [int(row["slice"]) for row in rows if row["part"] == "val"] == parts["val"].slices.tolist()


def test_folds_are_by_patient_and_the_first_is_ours(tmp_path: Path) -> None:
    parts = parts_of(some())
    done = export_nnunet(parts, tmp_path)
    case = {n: c for p, names in done.images.items() for n, c in zip(names, parts[p].cases, strict=True)}
    folds = json.loads((done.folder / "splits_final.json").read_text())
    assert len(folds) == 5
    assert sorted(folds[0]["train"]) == sorted(done.images["train"])
    assert sorted(folds[0]["val"]) == sorted(done.images["val"])
    learnt = {*done.images["train"], *done.images["val"]}
    for fold in folds:
        assert {*fold["train"], *fold["val"]} == learnt
        assert not {case[n] for n in fold["train"]} & {case[n] for n in fold["val"]}
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(learnt)  # each validates once


def test_by_slice_the_folds_are_by_slice(tmp_path: Path) -> None:
    dataset = some(patients=1)
    parts = {part: load_dataset(dataset, split=part, split_by="slice") for part in SPLITS}
    done = export_nnunet(parts, tmp_path, split_by="slice")
    fold, other = json.loads((done.folder / "splits_final.json").read_text())
    assert (fold["train"], fold["val"]) == (list(done.images["train"]), list(done.images["val"]))
    assert other == {"train": fold["val"], "val": fold["train"]}


def test_without_validation_patients_all_folds_are_dealt_of_those_for_training(tmp_path: Path) -> None:
    dataset = some()
    done = export_nnunet({"train": dataset}, tmp_path)
    folds = json.loads((done.folder / "splits_final.json").read_text())
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(done.images["train"])
    assert not (done.folder / "imagesTs").exists()


@pytest.mark.parametrize("kind", ["png", "nifti"])
@pytest.mark.parametrize(("labels", "overlap"), [(1, True), (3, False), (3, True)])
def test_masks_come_back_as_they_were(kind: str, labels: int, overlap: bool, tmp_path: Path) -> None:
    parts = parts_of(some(labels, overlap=overlap))
    written = export_nnunet(parts, tmp_path, files=kind)
    about = json.loads((written.folder / "dataset.json").read_text())
    assert list(about["labels"].values()) == list(range(8 if labels == 3 and overlap else labels + 1))
    again = read_nnunet(written.folder)
    assert again == written
    for part, dataset in parts.items():
        found = again.masks(part, written.folder / ("labelsTs" if part == "test" else "labelsTr"))
        assert found.dtype == np.uint8
        assert found.shape == dataset.masks.shape
        assert (found == dataset.masks).all()


@given(st.lists(st.text("aA0é_-. /:", max_size=4), min_size=2, max_size=6))
@settings(max_examples=40, deadline=None)
def test_every_image_gets_a_file_of_its_own_whatever_its_patient_is_called(names: list[str]) -> None:
    from pixelseg_agents.nnunet import _image_names

    count = len(names)
    shape = np.zeros((count, 8, 8), np.uint8)
    dataset = SegmentationDataset.from_arrays(shape, shape, names, [0] * count)
    found = _image_names({"train": dataset, "test": dataset})
    together = [name.lower() for some in found.values() for name in some]
    assert len(set(together)) == 2 * count
    assert all(name.isascii() and not set(name) & set('/\\:*?"<>| ') and name[0] not in ".-" for name in together)


def test_images_of_more_than_eight_bits_are_nifti_which_our_own_loader_reads(tmp_path: Path) -> None:
    parts = parts_of(some(channels=2, dtype=np.float32))
    done = export_nnunet(parts, tmp_path)
    assert done.ending == ".nii.gz"
    with pytest.raises(OptionError, match="more than 8 bits"):
        export_nnunet(parts, tmp_path, 502, files="png")
    read = load_dataset("nifti", data=done.folder, split="all", size=None)
    assert read.image_shape == (2, 12, 10)
    order = {name: k for k, name in enumerate(read.cases)}
    for part in ("train", "val"):
        for k, name in enumerate(done.images[part]):
            assert (read.masks[order[name]] == parts[part].masks[k]).all()


def test_names_that_mean_something_to_nnunet_are_no_labels(tmp_path: Path) -> None:
    dataset = some(2, overlap=False)
    named = SegmentationDataset(
        "x", dataset.images, dataset.masks, dataset.cases, dataset.slices, ("Background", "ignore")
    )
    done = export_nnunet(parts_of(named), tmp_path)
    labels = json.loads((done.folder / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "label Background": 1, "label ignore": 2}


def test_predicted_files_that_are_missing_or_of_another_data_set_are_refused(tmp_path: Path) -> None:
    done = export_nnunet(parts_of(some()), tmp_path)
    labels = done.folder / "labelsTs"
    first = labels / f"{done.images['test'][0]}.png"
    Image.fromarray(np.full((12, 10), 2, np.uint8)).save(first)
    with pytest.raises(DataError, match=r"holds the label 2; expected 0 to 1"):
        done.masks("test", labels)
    first.write_bytes(first.read_bytes()[:30])
    with pytest.raises(DataError, match="expected a mask that nnU-Net has predicted"):
        done.masks("test", labels)
    (done.folder / "cases.csv").unlink()
    with pytest.raises(DataError, match="export again"):
        read_nnunet(done.folder)


def test_nothing_is_replaced_unasked_and_nothing_that_is_not_ours(tmp_path: Path) -> None:
    parts = parts_of(some())
    done = export_nnunet(parts, tmp_path, name="One")
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="exists; choose another"):
        export_nnunet(parts, tmp_path, name="One")
    with pytest.raises(OptionError, match="Dataset501_One already"):
        export_nnunet(parts, tmp_path, name="Two")
    assert {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()} == before
    export_nnunet({"train": parts["test"]}, tmp_path, name="One", overwrite=True)
    assert not (done.folder / "imagesTs").exists()
    shutil.rmtree(done.folder)
    done.folder.mkdir()
    (done.folder / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="was not written by"):
        export_nnunet(parts, tmp_path, name="One", overwrite=True)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pixelseg_agents.nnunet._cases", full)
    with pytest.raises(OSError, match="No space"):
        export_nnunet(parts_of(some()), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 0}, "expected 1 to 999"),
        ({"number": 1000}, "expected 1 to 999"),
        ({"name": "a b"}, "expected letters"),
        ({"name": "../x"}, "expected letters"),
        ({"files": "jpg"}, "files='jpg'"),
        ({"channels": ("a", "b")}, r"expected 1 name\(s\)"),
        ({"split_by": "volume"}, "split_by='volume'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PixelSegError, match=message):
        export_nnunet(parts_of(some()), tmp_path / "raw", **options)
    assert not (tmp_path / "raw").exists()


def test_a_part_that_nnunet_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected the parts train, val and test, got all"):
        export_nnunet({"all": some()}, tmp_path)


# ---------------------------------------------------------------- the command


def test_the_command_writes_brain_at_its_own_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_brain(tmp_path / "lgg", cases=10)
    raw = tmp_path / "raw"
    assert main(["export-nnunet", str(tmp_path / "lgg"), "--out", str(raw), "--name", "LGG"]) == 0
    out = capsys.readouterr().out
    assert "14 train image(s) of 7 patient(s), 2 val image(s) of 1 patient(s), 4 test image(s) of 2 patient(s)" in out
    assert "3x12x16 pixels, 1 class(es), .png" in out
    done = read_nnunet(raw / "Dataset501_LGG")
    parts = parts_of(load_dataset("brain", data=tmp_path / "lgg", split="all", size=None))
    assert (done.masks("test", done.folder / "labelsTs") == parts["test"].masks).all()
    assert main(["export-nnunet", str(tmp_path / "lgg"), "--out", str(raw), "--name", "LGG"]) == 2
    assert "exists" in capsys.readouterr().err
    words = ["--out", str(raw), "--name", "LGG", "--overwrite", "--size", "8", "--files", "nifti"]
    assert main(["export-nnunet", str(tmp_path / "lgg"), *words]) == 0
    assert "3x8x8 pixels, 1 class(es), .nii.gz" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["folder", "cardiac", "nnunet", "phantom"])
def test_the_command_takes_any_data_set(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    words = {"folder": [], "cardiac": [], "nnunet": ["labels=1,2"], "phantom": ["labels=2", "count=12"]}[layout]
    data = tmp_path / "data"
    if layout == "folder":
        files.write_folder(data, tuple("abcdefgh"))
    elif layout == "cardiac":
        files.write_cardiac(data, cases=5)
    elif layout == "nnunet":
        files.write_nnunet(data, cases=5)
    options = ["--dataset-option", *words] if words else []
    source = "phantom" if layout == "phantom" else str(data)
    assert main(["export-nnunet", source, "--number", "12", *options]) == 0
    (folder,) = (tmp_path / "raw").iterdir()
    done = read_nnunet(folder)
    assert done.labels == (2 if words else 1)
    assert all(len(done.images[part]) for part in SPLITS)


@pytest.mark.parametrize("layout", ["folder", "nifti"])
def test_images_of_several_sizes_keep_them(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    sizes = {f"p{k:02}": (12 + k % 3, 15 - k // 2 % 4) for k in range(10)}
    whole = {case: rng.integers(0, 256, size).astype(np.uint8) for case, size in sizes.items()}
    masks = {case: (image > 99).astype(np.uint8) for case, image in whole.items()}
    for case, image in whole.items():
        if layout == "folder":
            files.write(tmp_path / f"data/{case}.png", image)
            files.write(tmp_path / f"data/{case}_mask.png", masks[case] * 255)
        else:
            files.write_nifti(tmp_path / f"data/imagesTr/{case}_0000.nii.gz", image[..., None])
            files.write_nifti(tmp_path / f"data/labelsTr/{case}.nii.gz", masks[case][..., None])
    words = ["--dataset", layout, "--out", str(tmp_path / "raw"), "--name", "A"]
    assert main(["export-nnunet", str(tmp_path / "data"), *words]) == 0
    assert f"1 channel(s) of {len(set(sizes.values()))} sizes in pixels" in capsys.readouterr().out
    done = read_nnunet(tmp_path / "raw/Dataset501_A")
    seen = 0
    for part, end in (("train", "Tr"), ("val", "Tr"), ("test", "Ts")):
        for name in done.images[part]:
            case, seen = name[:3], seen + 1
            image, label = (pixels(done.folder / f"{kind}{end}/{name}{_}.png") for kind, _ in KINDS)
            assert np.array_equal(label, masks[case])
            assert layout == "nifti" or np.array_equal(image, whole[case])
            assert image.shape == sizes[case]
            assert np.corrcoef(image.ravel(), whole[case].ravel())[0, 1] > 0.99
    assert seen == len(sizes)
    with pytest.raises(DataError, match="export with a --size"):
        done.masks("train", done.folder / "labelsTr")


def test_a_part_without_share_is_left_out(tmp_path: Path) -> None:
    words = ["phantom", "--dataset-option", "count=10", "fractions=[0.8,0.2,0]", "--out", str(tmp_path)]
    assert main(["export-nnunet", *words]) == 0
    assert set(read_nnunet(tmp_path / "Dataset501_Phantom").images) == {"train", "val"}


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert main(["export-nnunet", "phantom"]) == 2
    assert "expected --out FOLDER, or the variable nnUNet_raw" in capsys.readouterr().err.replace(
        "Expected", "expected"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["export-nnunet", "phantom", "--out", ""]) == 2
    assert "where to? Expected --out FOLDER" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        assert main(["export-nnunet", "phantom", "--out", out]) == 2
        assert f"{out}: file is a file; expected a folder: choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert main(["export-nnunet", "--out", "x"]) == 2
    assert "export-nnunet: nothing to look at" in capsys.readouterr().err
