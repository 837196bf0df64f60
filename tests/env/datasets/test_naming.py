"""Patients, slices and folders in the names of files."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env import SegmentationDataset
from pixelseg_env.datasets import LeftOutWarning, load_dataset, survey_dataset
from pixelseg_env.datasets.naming import UnclearPatientsWarning, whole
from pixelseg_env.errors import DataError


def load(root: Path, **options: object) -> SegmentationDataset:
    return load_dataset("folder", root, **{"split": "all", "size": None, **options})  # type: ignore[arg-type]


def said(root: Path, **options: object) -> tuple[SegmentationDataset, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(root, **options)
    return data, [str(one.message) for one in caught if one.category is UnclearPatientsWarning]


@pytest.mark.parametrize(
    ("names", "cases", "told"),
    [
        ([f"img_{k:03d}" for k in range(5)], 5, True),
        ([f"{kind}_{k}" for kind in ("COVID", "Normal") for k in range(12)], 24, True),
        ([f"{kind}_{k}" for kind in ("COVID", "Normal") for k in range(6)], 12, True),
        ([f"{kind}_{k}" for kind in ("COVID-19", "Normal") for k in range(6)], 12, True),
        ([f"{kind}_{k}" for kind in ("T1", "T2") for k in range(6)], 2, True),
        ([f"{kind}_{k}" for kind in ("T1", "T2", "FLAIR") for k in range(4)], 3, True),
        ([f"{kind}_{k}" for kind in ("benign", "malignant", "normal") for k in range(8)], 3, True),
        ([f"{kind}_{k}" for kind in ("glioma", "meningioma", "notumor", "pituitary") for k in range(12)], 4, True),
        # Nothing tells these from kinds.
        ([f"{name}_{k}" for name in ("smith", "jones", "li", "roy") for k in range(3)], 4, True),
        ([f"scan2020_{k}" for k in range(8)], 1, True),
        ([f"la_00{p}_{k}" for p in range(3) for k in range(3)], 3, False),
        ([f"p{k}" for k in range(4)], 4, True),
        ([f"scan7_{k}" for k in range(12)], 1, True),
    ],
)
def test_what_is_taken_for_a_patient(tmp_path: Path, names: list[str], cases: int, told: bool) -> None:
    data, texts = said(files.write_folder(tmp_path, tuple(names)))
    assert len(set(data.cases)) == cases
    assert len(texts) == told
    if cases < len(names):
        assert all("All images of one stay together" in text for text in texts)
    assert all("case_pattern=" in text and "pixelseg check" in text for text in texts)
    _, texts = said(tmp_path, case_pattern="(.+)")
    assert texts == []


def test_names_with_very_long_numbers(tmp_path: Path) -> None:
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.1002252872223656636786668"
    names = (f"{uid}36860", f"{uid}36861", "p_12345678901234567890", f"q_{2**63 - 1}", f"r_{2**63}")
    data = load(files.write_folder(tmp_path, names))
    assert len(set(data.cases)) == 5
    assert data.slices.dtype == np.int64
    assert whole(str(2**63 - 1)) == 2**63 - 1
    (tmp_path / "t.csv").write_text(f"image,mask,patient,slice\n{uid}36860.png,{uid}36860_mask.png,a,{2**63}\n")
    with pytest.raises(DataError, match="line 2: the slice is 9223372036854775808; expected a number up to"):
        load_dataset("table", tmp_path / "t.csv")


def test_composed_and_decomposed_accents_are_one_name(tmp_path: Path) -> None:
    for form, ending in (("NFC", ".png"), ("NFD", "_mask.png")):
        for name in ("café", "naïve", "überall"):
            pixels = files.blob_mask() if "mask" in ending else np.full((12, 16), 30, np.uint8)
            files.write(tmp_path / "x.png", pixels).rename(tmp_path / (unicodedata.normalize(form, name) + ending))
    assert load(tmp_path).cases == ("café", "naïve", "überall")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    try:
        for k in range(3):
            for ending, pixels in ((b".png", np.full((12, 16), 30, np.uint8)), (b"_mask.png", files.blob_mask())):
                os.rename(files.write(tmp_path / "x.png", pixels), root + b"/caf\xe9-%d" % k + ending)
    except OSError:
        pytest.skip("this file system has no such names")
    data = load(tmp_path)
    assert len(set(data.cases)) == 3
    assert all(case.encode("utf-8") for case in data.cases)  # can be written to any file
    assert data.cases[0] == r"caf\xe9-0"


def test_sub_folders_are_patients_but_parts_are_not(tmp_path: Path) -> None:
    for place in ("p1/a", "p1/b", "p2/a", "p3/deep/a"):
        files.write(tmp_path / f"d/images/{place}.png", np.full((12, 16), 30, np.uint8))
        files.write(tmp_path / f"d/masks/{place}_mask.png", files.blob_mask())
    files.write(tmp_path / "d/images/.ipynb_checkpoints/x.png", np.full((12, 16), 30, np.uint8))
    data, texts = said(tmp_path / "d")
    assert data.cases == ("p1", "p1", "p2", "p3/deep")
    assert data.slices.tolist() == [0, 1, 0, 0]
    assert texts == []
    for place in ("train/x7_1", "train/x7_2", "val/x7_1"):
        files.write(tmp_path / f"e/images/{place}.png", np.full((12, 16), 30, np.uint8))
        files.write(tmp_path / f"e/masks/{place}.png", files.blob_mask())
    for place in ("benign/a", "benign/b", "malignant/a", "malignant/b", "normal/a", "normal/b"):
        files.write(tmp_path / f"g/images/{place}.png", np.full((12, 16), 30, np.uint8))
        files.write(tmp_path / f"g/masks/{place}.png", files.blob_mask())
    assert "count as 3 patient(s) only (benign, malignant, normal)" in said(tmp_path / "g")[1][0]
    assert load(tmp_path / "e").cases == ("train/x7", "train/x7", "val/x7")
    for patient in ("p1", "p2", "p3"):
        files.write(tmp_path / f"f/{patient}/images/1.png", np.full((12, 16), 30, np.uint8))
        files.write(tmp_path / f"f/{patient}/masks/1.png", files.blob_mask())
    assert load(tmp_path / "f").cases == ("p1", "p2", "p3")
    (tmp_path / "h/train/site").mkdir(parents=True)
    (tmp_path / "f").rename(tmp_path / "h/train/site/b")
    assert load(tmp_path / "h").cases == ("site/b/p1", "site/b/p2", "site/b/p3")


def test_no_folder_is_half_read(tmp_path: Path) -> None:
    for name in ("a", "sub/b"):
        files.write(tmp_path / f"images/{name}.png", np.full((12, 16), 30, np.uint8))
    files.write(tmp_path / "masks/a.png", files.blob_mask())
    with pytest.raises(DataError, match=r"sub/b\.png: its mask is missing"):
        load(tmp_path)
    files.write(tmp_path / "masks/sub/b.png", files.blob_mask())
    assert len(load(tmp_path)) == 2


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        (["p2/images/a"], "put the images"),  # as an unlabelled test set
        (["p2/a", "p2/a_mask"], r"give \S+p2 as further"),
        (["a", "a_mask"], "put the images"),
        (["p1/imgs/b", "p1/labels/b"], "put the images"),
        (["p1/more/images/b", "p1/more/masks/b", "p1/b"], "table"),
    ],
)
def test_what_a_layout_has_no_place_for_is_named(tmp_path: Path, more: list[str], advice: str) -> None:
    for place in ("p1/images/a", "p1/masks/a", *more):
        mask = "mask" in place or "labels" in place
        files.write(tmp_path / f"{place}.png", files.blob_mask() if mask else np.full((12, 16), 30, np.uint8))
    for root, lost in ((tmp_path, more), (tmp_path / "p1", [one[3:] for one in more if one.startswith("p1/")])):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert len(load(root)) == 1
        texts = [str(one.message) for one in caught if one.category is LeftOutWarning]
        assert len(texts) == bool(lost)
        for text in texts:
            assert f"{len(lost)} image file(s) are left out" in text
            assert all(f"{place}.png" in text for place in lost)
        if root == tmp_path:
            assert re.search(advice, texts[0])
    assert texts == [text for text in survey_dataset("folder", tmp_path / "p1", size=8).warnings if "left out" in text]
    if "further" in advice:
        with warnings.catch_warnings():
            warnings.simplefilter("error", LeftOutWarning)
            assert len(load_dataset("folder", [tmp_path, tmp_path / "p2"], split="all", size=None)) == 2


def test_brackets_spaces_and_capitals(tmp_path: Path) -> None:
    root = files.write_folder(tmp_path / "a [1] b", ("x [2]", "y (3)", "z"), suffix=".PNG")
    assert load(root).cases == ("x [2]", "y (3)", "z")
