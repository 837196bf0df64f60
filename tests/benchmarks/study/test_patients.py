"""The figure of patients shows each of them once, the worst on top, and marks who lacks a sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile

from benchmarks.records import write_record
from benchmarks.study.patients import draw, equal_channels, main, read, scores_of
from pixelseg_env import DataError, OptionError
from tests.helpers.data import write_brain


def write(folder: Path, name: str, scores: dict[str, list[float]], **cell: object) -> None:
    """A record of so many images of patients."""
    about = {"dataset": "brain", "agent": "pa3c", "setting": "default", "seed": 0, "fold": None}
    about |= {"protocol": {"passes": 9}} | cell
    cases = [case for case, values in scores.items() for _ in values]
    images = {"case": cases, "DICE": [one for values in scores.values() for one in values]}
    write_record(folder / f"{name}.json", {"cell": about, "test": {"images": images}})


def test_patients_of_all_folds_stand_in_one_figure_the_worst_on_top(tmp_path: Path) -> None:
    write(tmp_path, "a", {"b": [0.5], "a": [0.2, 0.4]}, fold=0)
    write(tmp_path, "b", {"b": [0.3], "a": [0.9, 0.9]}, fold=0, seed=1)
    write(tmp_path, "c", {"c": [0.1]}, fold=1)
    write(tmp_path, "d", {"a": [1.0]}, fold=0, agent="ac", setting="once")
    write_record(tmp_path / "val.json", {"cell": {"dataset": "other"}, "val": {}})
    scores = scores_of(read([tmp_path]))
    pa3c, ac = scores.values()
    assert pa3c == {"a": [pytest.approx(0.3), 0.9], "b": [0.5, 0.3], "c": [0.1]}
    assert ac == {"a": [1.0]}
    assert draw(scores, tmp_path / "out.png", {"c"}) == ["c", "b", "a"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert list(scores_of(read([tmp_path], ["once"])).values()) == [{"a": [1.0]}]
    write(tmp_path, "longer", {"a": [1.0]}, fold=0, protocol={"passes": 99})
    assert [name.split(", ")[-1] for name in scores_of(read([tmp_path], ["default"]))] == ["9 passes", "99 passes"]
    for settings in (["never"], ()):
        write(tmp_path, "e", {"a": [1.0]}, dataset="cardiac")
        with pytest.raises(DataError, match="found none" if settings else "brain and cardiac"):
            read([tmp_path], settings)


def test_the_command_tells_who_is_missed_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "a", {"b": [0.5], "a": [0.1]})
    write(tmp_path, "b", {"b": [0.5], "a": [0.4]}, seed=1)
    write(tmp_path, "c", {"b": [0.9], "a": [0.3]}, agent="ac")
    monkeypatch.setattr("sys.argv", ["patients", str(tmp_path), "--out", str(tmp_path / "out.png")])
    main()
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "a, missed in some trainings: PA3C, default 0.10 to 0.40; AC, default 0.30"
    assert last.count("missed") == 1, "b is not"


def test_a_picture_of_no_kind_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["patients", str(tmp_path / "gone"), "--out", str(tmp_path / "out.bmpx")])
    with pytest.raises(OptionError, match=r"no picture ends in \.bmpx"):
        main()


def test_patients_with_a_stand_in_are_told_from_their_images(tmp_path: Path) -> None:
    """One equal slice is not enough: the sequence must be missing in all."""
    write_brain(tmp_path, cases=3)
    first, second, _ = sorted((tmp_path / "kaggle_3m").iterdir())
    for path in (*first.glob("*_?.tif"), *second.glob("*_2.tif")):
        image = tifffile.imread(path)
        image[..., 2] = image[..., 1]
        tifffile.imwrite(path, image)
    assert equal_channels("brain", [tmp_path]) == {first.name}
