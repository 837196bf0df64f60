"""Guessing layouts, and telling what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tests.helpers.data as files
from pixelseg_env.datasets import guess_dataset, load_dataset, survey_dataset
from pixelseg_env.errors import DataError, OptionError


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "side")
    for place in ("p1/images/a", "p1/masks/a"):
        files.write(tmp_path / f"each/{place}.png", files.blob_mask())
    for name in "ab":
        files.write(tmp_path / f"two/images/{name}.png", files.blob_mask())
        files.write(tmp_path / f"two/masks/{name}.png", files.blob_mask())
    files.write_brain(tmp_path / "lgg", cases=1)
    files.write_cardiac(tmp_path / "heart", cases=1)
    (tmp_path / "pairs.csv").write_text("image,mask")
    expected = {
        "side": "folder",
        "two": "folder",
        "each": "folder",
        "lgg": "brain",
        "lgg/kaggle_3m": "brain",
        "heart": "nifti",
    }
    for place, name in (expected | {"pairs.csv": "table"}).items():
        found, reason = guess_dataset([tmp_path / place])
        assert found == name, place
        assert Path(place).name in reason
    with pytest.raises(DataError, match=r"side as folder, .*heart as nifti"):
        guess_dataset([tmp_path / "side", tmp_path / "heart"])
    (tmp_path / "empty").mkdir()
    for place, message in (("gone", "does not exist"), ("empty", "no known layout"), ("side/a.png", "is a file")):
        with pytest.raises(DataError, match=message):
            guess_dataset([tmp_path / place])


def test_dicom_folders_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    files.write_dicom(tmp_path / "images/p0", np.zeros((4, 4, 2), np.uint16))
    files.write_dicom(tmp_path / "masks/p0", np.ones((4, 4, 2), np.uint16))
    assert guess_dataset([tmp_path])[0] == "dicom"


def test_what_the_files_hold(tmp_path: Path) -> None:
    files.write_folder(tmp_path, tuple(f"p{k}_1" for k in range(10)))
    files.write(tmp_path / "p3_1.png", np.full((12, 16), 24, np.uint8))  # as p4_1
    files.write(tmp_path / "p5_1_mask.png", np.zeros((12, 16), np.uint8))
    files.write(tmp_path / "p6_1.png", np.full((8, 16, 3), (1, 2, 3), np.uint8))
    files.write(tmp_path / "p6_1_mask.png", files.blob_mask(8))
    survey = survey_dataset("folder", tmp_path, size=8)
    facts = survey.files
    assert facts is not None
    assert facts.images == 10
    assert facts.sizes == {"12x16": 9, "8x16": 1}
    assert facts.kinds == {"1 x uint8": 9, "3 x uint8": 1}
    assert (facts.low, facts.high) == (1, 29)
    assert list(facts.values) == [0, 255]
    assert facts.values[255] == pytest.approx(9 * 25 / (9 * 192 + 128))
    assert facts.empty == survey.empty == 1
    assert [[path.name for path in group] for group in facts.duplicates] == [["p3_1.png", "p4_1.png"]]
    assert facts.example == (tmp_path / "p0_1.png", "p0", 1)
    assert facts.problems == ()
    assert any("copies" in warning for warning in survey.warnings)
    assert survey.dataset is not None
    assert len(survey.dataset) == 10


@pytest.mark.parametrize("keep_empty", [False, True])
@pytest.mark.parametrize("split_by", ["patient", "slice"])
def test_parts_are_those_that_training_gets(tmp_path: Path, split_by: str, keep_empty: bool) -> None:
    files.write_brain(tmp_path, cases=7, slices=4)
    options = {"size": 8, "split_by": split_by, "split_seed": 3, "keep_empty": keep_empty}
    survey = survey_dataset("brain", tmp_path, **options)  # type: ignore[arg-type]
    assert survey.empty == 7
    for split, part in survey.parts.items():
        data = load_dataset("brain", tmp_path, split=split, **options)  # type: ignore[arg-type]
        assert (part.images, part.patients) == (len(data), len(set(data.cases)))
        assert part.pixels == pytest.approx(data.masks.mean())
    assert list(survey.parts) == ["train", "val", "test"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    files.write_folder(tmp_path, tuple("abcde"))
    files.cut(tmp_path / "b.png")
    files.cut(tmp_path / "d_mask.png")
    files.write(tmp_path / "e.png", np.zeros((9, 16), np.uint8))
    survey = survey_dataset("folder", tmp_path, size=8)
    assert survey.dataset is None
    assert survey.parts == {}
    assert "_mask.png" in survey.error or ".png" in survey.error
    assert survey.files is not None
    problems = survey.files.problems
    assert len(problems) == 3
    assert all(name in text for name, text in zip(("b.png", "d_mask.png", "e.png: is 9x16"), problems, strict=True))


def test_names_that_tell_no_patient(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "own", tuple("abcd"))
    assert any("patient of its own" in text for text in survey_dataset("folder", tmp_path / "own", size=8).warnings)
    kinds = files.write_folder(tmp_path / "kinds", tuple(f"{kind}_{k}" for kind in ("sick", "well") for k in range(12)))
    seen = survey_dataset("folder", kinds, size=8)
    assert any("patient of its own (e.g. sick_0.png as 'sick_0')" in text for text in seen.warnings)
    assert seen.dataset is not None
    assert len(set(seen.dataset.cases)) == 24
    said = survey_dataset("folder", kinds, size=8, case_pattern="^[a-z]+")
    assert not any("patient" in text for text in said.warnings)
    clear = files.write_folder(tmp_path / "clear", tuple(f"p{k}_{z}" for k in range(4) for z in range(3)))
    warnings = survey_dataset("folder", clear, size=8).warnings
    assert not any("patient" in text for text in warnings), warnings
    few = survey_dataset("folder", files.write_folder(tmp_path / "few", ("a_1", "a_2")), size=8)
    assert few.parts == {}
    assert "cannot split 2 case" in few.error
    assert few.dataset is not None


def test_volumes_and_sets_without_files(tmp_path: Path) -> None:
    survey = survey_dataset("nifti", files.write_nnunet(tmp_path), size=8, labels=(1, 2))
    assert survey.files is not None
    assert survey.files.sizes == {"12x10x4": 4}
    assert survey.files.kinds == {"2 x float32": 4}
    assert list(survey.files.values) == [0, 1, 2]
    assert survey.empty == 8
    phantom = survey_dataset("phantom", size=16, count=10)
    assert phantom.files is None
    assert [part.images for part in phantom.parts.values()] == [7, 1, 2]
    with pytest.raises(OptionError, match="no option 'cuont'"):
        survey_dataset("phantom", cuont=3)
