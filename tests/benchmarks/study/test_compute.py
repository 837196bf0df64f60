"""GFLOP of a record are those of its networks, and the table and the picture say what the records say."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from torch import nn

from benchmarks.records import write_record
from benchmarks.study import STUDY, accuracy, compute, compute_figure
from benchmarks.study.accuracy import by_judged, edge, on_the_edge, read, series, table
from benchmarks.study.compute import Compute
from benchmarks.study.operations import Operations, count
from benchmarks.study.reading import facts_of
from pixelseg_agents.networks import parameter_count
from pixelseg_env import DataError, OptionError, PixelSegVectorEnv

SIZE, SIDE, UPDATES, BATCH = 16, 8, 3, 2


def a_record(agent: str = "unet", setting: str = "default", steps: int = 1, **hyper: Any) -> dict[str, Any]:
    """What a training on phantoms would have said of itself."""
    learner, rules = STUDY.learner(agent), STUDY.setting(setting)
    env = PixelSegVectorEnv(BATCH, "phantom", size=SIZE, **rules.env)
    trained = learner.kind(env, **{"width": 0.125} | rules.hyper | hyper)
    passes = UPDATES * BATCH * int(trained.passes_per_update(trained.config.horizons[-1]))
    curve = [0.5 + 0.1 * step for step in range(steps)]
    summary = {"size": [SIZE, SIZE], "dice_by_step": curve, "biou_by_step": curve, "images": 3}
    metrics = {"HD95": {"mean": 9.0}}
    return {
        "name": f"phantom-{agent}-{setting}",
        "cell": {
            "dataset": "phantom",
            "data": [],
            "agent": agent,
            "setting": setting,
            "seed": 0,
            "fold": None,
            "tuned": {},
            "protocol": {"batch": BATCH, "width": 0.125, "size": SIZE, "passes": passes},
        },
        "config": json.loads(json.dumps(trained.config.to_dict())),
        "parameters": parameter_count(trained.network),
        "updates": UPDATES,
        "image_passes": passes,
        "test": {"summary": summary | {"metrics": metrics}, "images": {"case": ["a", "a", "b"], "slice": [1, 2, 1]}},
    }


def by_hand(network: nn.Module, seen: torch.Tensor) -> list[float]:
    """GFLOP of each convolution, from the shapes that go in and come out."""
    found: list[float] = []

    def convolved(layer: Any, given: Any, result: Any) -> None:
        places = given[0] if isinstance(layer, nn.ConvTranspose2d) else result
        found.append(2 * layer.weight.numel() * places[0, 0].numel() / 1e9)

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(convolved)
    network(seen)
    return found


@pytest.mark.parametrize("side", [0, SIDE])
def test_operations_are_those_of_the_networks(side: int) -> None:
    record = a_record(look=f"closer(side={side})" if side else "whole")
    env = PixelSegVectorEnv(1, "phantom", size=SIZE)
    agent = STUDY.learner("unet").kind(env, width=0.125, look=record["config"]["look"])
    layers = by_hand(agent.network, torch.zeros(1, agent.inputs, side or SIZE, side or SIZE))
    there = back = 0.0
    if side:  # two matrix products to cut a window out, and two to spread one map back
        there = 2 * (SIZE * SIZE * side + side * SIZE * side) / 1e9
        back = 2 * (SIZE * side * side + SIZE * side * SIZE) / 1e9
    found = count(record, "test")
    assert found.seen == (side or SIZE,) * 2
    assert found.looks == (pytest.approx(sum(layers) + there + back),)
    # Backward: as much for the weights, and as much for what came in, but for the image. Resampling has no weights.
    one = 3 * sum(layers) - layers[0] + there + 2 * back
    assert found.training == pytest.approx(record["image_passes"] * one)


def test_twice_the_looks_are_twice_the_operations_and_training_grows_with_its_passes() -> None:
    record = a_record("pa3c-on-unet", "look-closer", steps=2, look=f"closer(side={SIDE})")
    longer = copy.deepcopy(record)
    longer["test"]["summary"] |= {"dice_by_step": [0.5] * 4, "biou_by_step": [0.5] * 4}
    longer["image_passes"] *= 2
    two, four = count(record, "test"), count(longer, "test")
    assert len(two.looks) == 2
    assert sum(four.looks) == pytest.approx(2 * sum(two.looks))
    assert four.training == pytest.approx(2 * two.training)


def test_another_network_than_the_records_is_refused() -> None:
    record = a_record()
    record["parameters"] += 1
    with pytest.raises(DataError, match=r"phantom-unet-default: .* expected \d+ parameters"):
        count(record, "test")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1))
def test_the_edge_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    costs, scores = zip(*points, strict=True)
    found = edge(costs, scores)

    def beaten(one: int) -> bool:
        as_good = [i for i in range(len(points)) if costs[i] <= costs[one] and scores[i] >= scores[one]]
        return any(points[i] != points[one] for i in as_good)

    assert {points[i] for i in found} == {points[i] for i in range(len(points)) if not beaten(i)}
    assert np.all(np.diff([costs[i] for i in found]) > 0)
    assert np.all(np.diff([scores[i] for i in found]) > 0)


def seeds(tmp_path: Path) -> None:
    """Two seeds of a network that looks once, two folds of one that looks twice."""
    once, twice = a_record(), a_record("pa3c-on-unet", "look-closer", steps=2, look=f"closer(side={SIDE})")
    for seed, dice in ((0, 0.4), (1, 0.6)):
        once["cell"]["seed"], once["test"]["summary"]["dice_by_step"] = seed, [dice]
        write_record(tmp_path / f"once{seed}.json", once)
    for fold in (0, 1):
        twice["cell"]["fold"] = fold
        twice["test"]["images"]["case"] = [f"{fold}{case}" for case in "aab"]
        twice["test"]["summary"] |= {"dice_by_step": [0.1 + fold, 0.2 + fold], "images": 3 - 2 * fold}
        write_record(tmp_path / f"twice{fold}.json", twice)


def test_seeds_and_folds_become_points_with_their_range(tmp_path: Path) -> None:
    seeds(tmp_path)
    found = series(read([tmp_path], "test"), "test")
    once, twice = sorted(found, key=lambda one: len(one.points))
    assert once.points[0].scores["DICE"] == pytest.approx((0.5, 0.4, 0.6))
    assert once.seeds == 2
    assert [point.scores["DICE"][0] for point in twice.points] == pytest.approx([0.35, 0.45])  # by images: 3 and 1
    assert "HD95" not in twice.points[0].scores
    assert twice.points[1].scores["HD95"][0] == 9.0
    first, second = (point.cost["inference"] for point in twice.points)
    assert second == pytest.approx(2 * first)
    assert len(by_judged(found)) == 2  # other images, another table
    assert on_the_edge([twice], "inference", "DICE") == [(twice, point) for point in twice.points]
    assert on_the_edge([twice], "training", "DICE") == [(twice, twice.points[1])]
    lines = table(found).splitlines()
    assert any("| 1 |" in line and "**<u>0.500</u>** (0.400 to 0.600)" in line for line in lines)


def test_the_command_writes_numbers_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds(tmp_path / "records")
    out, figure = tmp_path / "out.json", tmp_path / "out.png"
    assert Compute((tmp_path / "records",), out=out, figure=figure).main() == 0
    assert "U-Net, supervised" in capsys.readouterr().out
    assert {len(one["points"]) for one in json.loads(out.read_text())["series"]} == {1, 2}
    assert imread(figure).std() > 0.1
    drawn: list[list[str]] = []
    monkeypatch.setattr(compute, "draw", lambda found, _: drawn.append([one.setting for one in found]))
    with pytest.raises(OptionError, match=r"c\.xyz: no picture ends in \.xyz; expected one of .*png"):
        Compute((tmp_path / "gone",), figure=tmp_path / "c.xyz").main()  # before anything is read
    left_out = Compute((tmp_path / "records",), out=out, figure=figure, undrawn=("look-closer",))
    assert left_out.main() == 0
    assert drawn == [["default"]]
    groups: list[int] = []
    styles = compute_figure._styles

    def counted(group: Any) -> Any:
        groups.append(len(group))
        return styles(group)

    monkeypatch.setattr(compute_figure, "_styles", counted)
    found = series(read([tmp_path / "records"], "test"), "test")
    compute_figure.draw(found, figure)
    assert groups == [1, 1], "where nothing stands beside anything, all is drawn"
    groups.clear()
    compute_figure.draw([*found, found[0]], figure)
    assert groups == [2], "else what stands alone is not"
    assert "look-closer" in capsys.readouterr().out  # the table has it all the same
    assert len(json.loads(out.read_text())["series"]) == 2
    for undrawn, said in (("look-thrice",), "no records of look-thrice"), (("default", "look-closer"), "nothing to"):
        with pytest.raises(OptionError, match=f"--undrawn: .*{said}"):
            Compute((tmp_path / "records",), undrawn=undrawn).main()
    with pytest.raises(DataError, match="--part val"):
        read([tmp_path / "records"], "val")
    with pytest.raises(DataError, match="each folder once"):
        series(read([tmp_path / "records"] * 2, "test"), "test")


def test_the_tables_of_the_results_are_those_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """All scores and rows. What was counted is taken from the table, for to count it all takes a minute.

    It is rounded there, so that costs can be equal which are not: who is on the edge is compared elsewhere.
    """
    here = Path(__file__).parents[3] / "benchmarks"
    told = (here / "LOOKING.md").read_text(encoding="utf-8")
    told = told[told.index("**Accuracy for compute, ") : told.index(accuracy.NOTE)].strip()
    costs: dict[tuple[str, str, str], list[list[str]]] = {}
    for part in told.split("**Accuracy for compute, ")[1:]:
        for line in part.splitlines():
            if line.startswith("| ") and not line.startswith(("| agent ", "| ---")):
                agent, setting, _, *cost = (cell.strip() for cell in line.split("|")[1:8])
                rows = costs.setdefault((part.split(",")[0], agent, setting), [])
                rows += [cost] if len(rows) < int(cost[1]) else []

    def counted(record: dict[str, Any], _: str) -> Operations:
        cell = record["cell"]
        rows = costs[cell["dataset"], facts_of(cell["agent"], record).label, cell["setting"]]
        height, width = map(int, rows[0][0].split("x"))
        looks = np.diff([0.0, *(float(row[2]) for row in rows)])
        return Operations(tuple(looks), 1000 * float(rows[0][3]), (height, width))

    records = read([here / "records/looking"], "test")
    cheap = next(one for one in records if one["name"] == "brain-unet-once-s0")
    once = costs["brain", "U-Net, supervised", "once"][0]
    assert [f"{count(cheap, 'test').looks[0]:.3f}", f"{count(cheap, 'test').training / 1000:.1f}"] == once[2:]
    monkeypatch.setattr(accuracy, "count", counted)
    made = table(series(records, "test")).removesuffix(accuracy.NOTE).strip()
    plain = [re.sub(r"\*\*|<u>|</u>", "", text).splitlines() for text in (made, told)]
    assert plain[0] == plain[1]
