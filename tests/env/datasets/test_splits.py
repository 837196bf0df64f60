"""Splits: a partition, the same every time, patients kept together, the order of files without meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelseg_env.datasets import split_indices
from pixelseg_env.errors import DataError, OptionError

CASES = st.lists(st.integers(0, 12).map(lambda n: f"case_{n}"), min_size=3, max_size=60).filter(
    lambda cases: len(set(cases)) >= 3
)


@given(CASES, st.integers(0, 1000), st.sampled_from(["patient", "slice"]))
def test_parts_are_a_partition_without_an_empty_part(cases: list[str], seed: int, by: str) -> None:
    slices = list(range(len(cases)))
    parts = [split_indices(cases, slices, split, by, seed) for split in ("train", "val", "test")]
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(len(cases)))
    assert np.array_equal(split_indices(cases, slices, "all", by, seed), np.arange(len(cases)))


@given(CASES, st.integers(0, 1000))
def test_no_patient_is_in_two_parts(cases: list[str], seed: int) -> None:
    parts = [{cases[i] for i in split_indices(cases, None, s, "patient", seed)} for s in ("train", "val", "test")]
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])


@given(CASES, st.integers(0, 1000), st.sampled_from(["patient", "slice"]), st.randoms())
def test_order_of_items_does_not_matter(cases: list[str], seed: int, by: str, random: object) -> None:
    items = [(case, number) for number, case in enumerate(cases)]
    mixed = items.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    chosen = []
    for order in (items, mixed):
        names, numbers = zip(*order, strict=True)
        chosen.append({order[i] for i in split_indices(names, numbers, "test", by, seed)})
    assert chosen[0] == chosen[1]


def test_shares_and_seed() -> None:
    cases = [f"c{i}" for i in range(100)]
    parts = {split: split_indices(cases, None, split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [70, 10, 20]
    assert np.array_equal(parts["test"], split_indices(cases, None, "test"))
    assert not np.array_equal(parts["test"], split_indices(cases, None, "test", split_seed=1))
    assert not np.array_equal(parts["test"], np.arange(80, 100)), "the split must be shuffled"


def test_by_slice_mixes_a_patient_over_parts() -> None:
    cases = ["one"] * 10
    assert [len(split_indices(cases, range(10), s, "slice")) for s in ("train", "val", "test")] == [7, 1, 2]


def test_own_fractions() -> None:
    cases = [f"c{i}" for i in range(10)]
    assert len(split_indices(cases, None, "train", fractions=(0.5, 0.0, 0.5))) == 5
    with pytest.raises(DataError, match="share in fractions"):
        split_indices(cases, None, "val", fractions=(0.5, 0.0, 0.5))


def test_too_few_patients_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"2 case \(patient\)s into 3 parts.*split_by='slice'.*leak"):
        split_indices(["a", "b", "b"], None, "train")
    with pytest.raises(DataError, match="2 images into 3 parts"):
        split_indices(["a", "b"], None, "train", "slice")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("split", "tset", "Did you mean 'test'"),
        ("split_by", "patients", "Did you mean 'patient'"),
        ("split_seed", -1, "0 or more"),
        ("split_seed", 1.5, "0 or more"),
        ("fractions", (0.5, 0.1), "three shares"),
        ("fractions", (0.5, 0.6, 0.1), "add up to 1"),
        ("fractions", (1.2, -0.3, 0.1), "0 or more"),
        ("fractions", None, "three shares"),
    ],
)
def test_wrong_option(option: str, value: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        split_indices(["a", "b", "c"], **{option: value})  # type: ignore[arg-type]
