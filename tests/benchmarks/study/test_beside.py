"""The table of differences between learners pairs what belongs together."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.study.beside import table
from pixelseg_env import DataError

Records = list[dict[str, Any]]


def records(agent: str, more: float, seeds: tuple[int, ...], fold: int | None = None) -> Records:
    """Six patients, who have 0.1 to 0.6 after the last step, and some more; other scores after the first."""
    cases = [f"p{k}" for k in range(6)]
    scores = {m: [[0.0] * 6, [0.1 * (k + 1) + more for k in range(6)]] for m in ("DICE", "BIoU", "HD95")}
    cell = {"dataset": "brain", "agent": agent, "setting": "closer", "fold": fold}
    return [
        {"cell": cell | {"seed": seed}, "test": {"images": {"case": cases}, "by_step": scores}, "val": {}}
        for seed in seeds
    ]


def test_only_the_trainings_of_both_are_compared() -> None:
    found = [
        *records("a", 0.06, (0, 1)),
        *records("a", 9.0, (2,)),
        *records("module:B", 0.0, (0, 1)),
        *records("module:B", 5.0, (3,)),
    ]
    head, _, row = table(found, "brain", "a:closer", ["module:B:closer"], "test").splitlines()
    assert head.startswith("| less | trainings | patients | Dice")
    by = "+0.060 (+0.060 to +0.060)"
    assert row == f"| module:B:closer | 2 | 6 | {by} | {by} | +0.1 (+0.1 to +0.1) | 1.0 and 1.0 |", "0.2 is not missed"


@pytest.mark.parametrize(
    ("one", "found", "said"),
    [
        ("c:closer", records("b", 0.0, (0,)), "c:closer: no record of brain with scores of test; there are b:closer"),
        ("a:closer", records("a", 0, (0,)) + records("b", 0, (1,)), "no training of the same seed and fold"),
        ("a:closer", records("a", 0, (0,)) + records("b", 0, (0,), fold=0), "no training of the same seed and fold"),
        ("a:closer", records("a", 0, (0, 0)), "two records of seed 0"),
        (
            "a:closer",
            [
                one | {"cell": one["cell"] | {"protocol": {"passes": n}}}
                for n in (1, 2)
                for one in records("a", 0, (n,))
            ],
            "a:closer: records with passes 1 and 2 cannot stand in one row",
        ),
        ("a:closer", [], "a:closer: no record of brain with scores of test; there are none"),
    ],
)
def test_what_cannot_be_compared_is_told(one: str, found: Records, said: str) -> None:
    with pytest.raises(DataError, match=said):
        table(found, "brain", one, ["b:closer"], "test")


def test_only_the_same_patients_are_compared() -> None:
    others = records("b", 0.0, (0,))
    others[0]["test"]["images"]["case"] = [f"q{k}" for k in range(6)]
    with pytest.raises(DataError, match="a:closer and b:closer: were judged on other images"):
        table([*records("a", 0.0, (0,)), *others], "brain", "a:closer", ["b:closer"], "test")


def test_learners_of_another_data_set_are_not_offered() -> None:
    found = records("a", 0.0, (0,))
    with pytest.raises(DataError, match="no record of cardiac with scores of test; there are none"):
        table(found, "cardiac", "a:closer", ["a:closer"], "test")


def test_folds_and_the_usual_split_are_rows_of_their_own() -> None:
    """They test on the same patients."""
    found = [*records("a", 0.06, (0,)), *records("a", 0.03, (0,), fold=0), *records("b", 0.0, (0,))]
    found += records("b", 0.0, (0,), fold=0)
    rows = table(found, "brain", "a:closer", ["b:closer"], "test").splitlines()[2:]
    assert [row[:44] for row in rows] == [
        "| b:closer, by fold | 1 | 6 | +0.030 (+0.030",
        "| b:closer, by split | 1 | 6 | +0.060 (+0.06",
    ]
    places = records("a", 0.06, (0,)) + records("b", 0.0, (0,))
    for one in places:
        one["cell"]["left_out"] = "SITE"
    assert len(table([*found, *places], "brain", "a:closer", ["b:closer"], "test").splitlines()) == 5


def test_trainings_of_several_settings_count_alike() -> None:
    other = records("b", 3.0, (1,))
    other[0]["cell"]["setting"] = "closer-bf16"
    found = [*records("a", 0.06, (0, 1)), *records("b", 0.0, (0,)), *other]
    _, _, row = table(found, "brain", "a:closer", ["b:closer+closer-bf16"], "test").splitlines()
    assert row.startswith("| b:closer+closer-bf16 | 2 | 6 | -1.440 (")
    other[0]["cell"]["seed"] = 0
    with pytest.raises(DataError, match="two records of seed 0"):
        table(found, "brain", "a:closer", ["b:closer+closer-bf16"], "test")
