"""Gradient steps that earlier records do not say are those that a training takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.grid.running import train
from benchmarks.study.gradient_steps import gradient_steps, steps_of, teaching
from benchmarks.study.reading import Records
from tests.helpers.grid import TINY, cell, record


def test_they_are_those_that_were_counted(done: Path) -> None:
    trained = [one for one in map(record, sorted(done.glob("*.json"))) if "image_passes" in one]
    assert {"ac", "pa3c", "dqn", "pixelrl", "unet"} <= {one["cell"]["agent"] for one in trained}
    for one in trained:
        counted = one.pop("gradient_steps")
        assert gradient_steps(one) == counted, one["name"]


@pytest.mark.parametrize("agent", ["double-dqn", "ac-on-pa3c"])
def test_a_replay_that_starts_anew_waits_again(agent: str) -> None:
    longer = dataclasses.replace(
        cell(agent, setting="horizons-1-2-10"), protocol=dataclasses.replace(TINY, passes=2000)
    )
    one = train(longer).about
    counted = one.pop("gradient_steps")
    batches = one["environment_steps"] // TINY.batch
    assert gradient_steps(one | {"cell": longer.to_json()}) == counted
    assert counted == batches - (3 * 7 if agent == "double-dqn" else 0)  # of three t_max, seven for 64 transitions


def test_of_other_peoples_agents_they_are_known_if_they_were_counted() -> None:
    one = {"cell": {"agent": "examples.own_agent:Threshold"}, "updates": 5}
    assert gradient_steps(one) is None
    assert steps_of([one]) is None
    assert steps_of([one | {"gradient_steps": 15}]) == 15


def test_the_table_says_what_the_records_say(done: Path) -> None:
    records = Records(record(path) for path in sorted(done.glob("*.json")))
    made = teaching(records, "T")
    (five,) = records.get("pa3c", "t_max-5")
    passes, steps, each, *_ = made.rows["PA3C, trained at t_max 5"]
    assert (passes, steps) == (five["image_passes"], five["gradient_steps"])
    assert each == passes / steps
    both = records.get("ac")
    assert made.rows["AC"][4] == pytest.approx(np.mean([one["test"]["summary"]["dice_by_step"][-1] for one in both]))
    assert "U-Net, supervised" in made.apart
    assert not any("Otsu" in name for name in made.rows)
