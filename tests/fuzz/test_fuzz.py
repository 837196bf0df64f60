"""A thousand mutated files in continuous integration, what longer runs found, and whether the harness would tell."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelseg_agents import PA3C
from pixelseg_agents.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from pixelseg_agents.cli.config_file import with_config
from pixelseg_agents.cli.options import parse_pairs, parse_size
from pixelseg_agents.cli.runs import RunError, open_run
from pixelseg_agents.evaluation.results import EvaluationResult
from pixelseg_agents.registry import load_agent
from pixelseg_env import DataError, OptionError, PixelSegError, PixelSegVectorEnv
from tests.fuzz.mutations import BLIND, mutated
from tests.fuzz.run import Finding, fuzz, inputs, table
from tests.fuzz.targets import Target
from tests.helpers.env import small_set

ROOT = Path(__file__).resolve().parents[2]

# Kinds in which something is found that is not mended yet: their findings are printed, and fail no test. Keep it empty.
OPEN: tuple[str, ...] = ()

DEEP = "[" * 3000 + "]" * 3000


def test_a_thousand_inputs_of_all_kinds(tmp_path: Path) -> None:
    """In a process of its own: a fork of one that has threads may hang."""
    found, words = tmp_path / "findings", ["--count", "1000", "--jobs", "2"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'agents'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", *words, "--findings", str(found)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    assert "1000 inputs in" in done.stdout
    lines = found.read_text().splitlines()
    assert not [line for line in lines if not line[1:].startswith(OPEN)], done.stdout


# ---------------------------------------------------------------- the harness


def _crashing(folder: Path, content: bytes, rng: random.Random) -> None:
    """A loader with a fault of every kind; what the file says decides which."""
    path = folder / "spoilt"
    path.write_bytes(content)
    match content[:1]:
        case b"v":
            return
        case b"r":
            raise DataError(f"{path}: expected something else")
        case b"e":
            raise IndexError("list index out of range")
        case b"s":
            raise SystemExit(3)
        case b"n":
            raise DataError("something is wrong somewhere")
        case b"l":
            raise DataError(f"{path}: {[0] * 1000}")
        case b"m":
            bytearray(os.urandom(1 << 20) * 96)
        case b"a":
            torch.empty(1 << 45, dtype=torch.uint8)
        case b"h":
            time.sleep(60)
        case b"c":
            os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("letter", "outcome"),
    [
        ("v", "value"),
        ("r", "refused"),
        ("e", "error"),
        ("s", "error"),
        ("n", "message"),
        ("l", "message"),
        ("m", "memory"),
        ("a", "error"),
        ("h", "hang"),
        ("c", "crash"),
    ],
)
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, letter: str, outcome: str) -> None:
    monkeypatch.setattr("tests.fuzz.run.spoilt", lambda *rest: letter.encode())
    known = {"planted": Target([b"v"], _crashing)}
    counts, findings = fuzz(known, [("planted", 7), ("planted", 8)], jobs=1, seconds=1.0)
    assert counts == {("planted", outcome): 2}, "the run goes on after a crash or a hang"
    assert [(one.kind, one.number, one.outcome) for one in findings] == (
        [] if outcome in ("value", "refused") else [("planted", 7, outcome), ("planted", 8, outcome)]
    )
    assert str(Finding("png image", 3, "hang", "1 s")).startswith("'png image' 3 "), "what --only takes"
    assert outcome in table(counts)


def test_inputs_are_made_from_kind_and_number_alone() -> None:
    known = {
        "one": Target([b"v"], _crashing),
        "two": Target([b"v"], _crashing),
        "no": Target([], _crashing, reason="x"),
    }
    assert list(inputs(known, 4, 0)) == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]
    assert not {*inputs(known, 100, 0)} & {*inputs(known, 100, 1)}
    honest = [bytes(range(200)), b"x" * 300]

    def make(seed: int) -> bytes:
        return mutated(honest[0], honest[1:], (), random.Random(seed))

    assert [make(k) for k in range(50)] == [make(k) for k in range(50)]
    assert len({make(k) for k in range(50)}) > 40
    for mutator in BLIND:
        assert any(mutator(honest[0], honest, random.Random(k)) != honest[0] for k in range(5)), mutator
        mutator(b"", [b""], random.Random(0))


# ---------------------------------------------------------------- what was found


def _refused(error: type[PixelSegError], path: Path, action: Any) -> str:
    """The message, which names the file and is short."""
    with pytest.raises(error) as caught:
        action()
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize("content", [DEEP, '{"a": ' * 3000, "[]", "1", "null", '["ab"]', "\xff" * 5000])
def test_records_and_results(tmp_path: Path, content: str) -> None:
    from benchmarks.records import read_record

    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    _refused(DataError, path, lambda: read_record(path))
    _refused(DataError, path, lambda: EvaluationResult.load(path))


def test_text_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    from benchmarks.records import read_record

    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(65 << 20)  # takes no room on the disk, and would take some in memory
    reads: list[Callable[[], Any]] = [
        lambda: read_record(path),
        lambda: EvaluationResult.load(path),
        lambda: with_config(["--config", str(path)]),
    ]
    for read in reads:
        assert "at most 64 MiB of text, got 65 MiB" in _refused(PixelSegError, path, read)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("case", None),
        ("case", 3),
        ("slice", 1e308),
        ("slice", 2**63),
        ("slice", True),
        ("dice", "0.5"),
        ("dice_by_step", 0.5),
        ("dice_by_step", []),
        ("dice_by_step", [[0.5, 0.5]]),
        ("biou_by_step", [0.5, "x" * 5000]),
        ("return", [1.0]),
    ],
)
def test_results_of_wrong_types(tmp_path: Path, where: str, value: Any) -> None:
    row = {"case": "a", "slice": 0, "dice": 0.5, "return": 1.0, "dice_by_step": [0.1, 0.2], "biou_by_step": [0.1, 0.2]}
    content = {"summary": {"dataset": "x", "metrics": {"dice": {}}, "size": [4, 5]}, "per_case": [row]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    assert EvaluationResult.load(path).horizon == 2
    path.write_text(json.dumps(content | {"per_case": [row | {where: value}]}))
    _refused(DataError, path, lambda: EvaluationResult.load(path))
    for wrong in ({"size": [4]}, {"size": [4, "5"]}, {"dataset": None}, {"metrics": "dice"}):
        path.write_text(json.dumps(content | {"summary": content["summary"] | wrong}))  # type: ignore[operator]
        _refused(DataError, path, lambda: EvaluationResult.load(path))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 8)}]\n" for k in range(1, 12)
)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".json", DEEP),
        (".json", '{"updates": ' + DEEP[:100] + "0" + DEEP[-100:] + "}"),
        (".json", '{"task": {"a": {"b": 1}}}'),
        (".json", '{"\\u0000": 1}'),
        (".yaml", f"updates: {DEEP}"),
        (".yaml", f"updates: 1\nseed: {DEEP}"),
        (".yaml", BOMB),
        (".yaml", "updates: &a [*a]"),
        (".yaml", "task: {1: 2}"),
        (".yaml", "1: 2"),
        (".yaml", f"updates: 0x{'f' * 5000}"),
        (".yaml", "updates: 2001-13-01"),
    ],
)
def test_files_of_flags(tmp_path: Path, ending: str, content: str) -> None:
    if ending == ".yaml":
        pytest.importorskip("yaml")
    path = tmp_path / f"flags{ending}"
    path.write_text(content)
    before = time.process_time()
    _refused(OptionError, path, lambda: with_config(["--config", str(path)]))
    assert time.process_time() - before < 2, "PyYAML alone takes longer, and the more the deeper"


def test_options_of_many_digits_and_levels() -> None:
    with pytest.raises(OptionError, match="size="):
        parse_size("9" * 5000)
    assert parse_pairs([f"channels={DEEP}"]) == {"channels": DEEP}, "what is no JSON is text"


@pytest.mark.parametrize(
    "change",
    [
        {"task": []},
        {"task": {"size": "a"}},
        {"task": {"size": [1, 2, 3]}},
        {"task": {"size": 16_000_000_000}},
        {"task": {"coarse": "no such run"}},
        {"task": {"dataset": "no_such_module:x"}},
        {"task": {"horizon": 0}},
        {"task": {"horizon": "2"}},
        {"task": {"dataset": None}},
        {"task": {"dataset_option": ["x"]}},
        {"task": {"dataset_option": [1]}},
        {"task": {"data": [1]}},
        {"task": {"data": ["~nobody-of-this-name/x"]}},
        {"task": {"x" * 5000: 1}},
        {"task": {"horizon": 2**63}},
        {"task": {"coarse": "." * 5000}},
    ],
)
def test_configurations_of_runs(tmp_path: Path, change: dict[str, Any]) -> None:
    arguments = {"agent": "pa3c", "task": {"dataset": "phantom", "size": 16}} | change
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"arguments": arguments}))
    _refused(RunError, path, lambda: open_run(tmp_path).task)


def test_configurations_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content in (DEEP.encode(), json.dumps({"arguments": "x" * 5000}).encode("utf-32"), b"9" * 5000):
        path.write_bytes(content)
        _refused(RunError, path, lambda: open_run(tmp_path))
    coarse = {"agent": "pa3c", "task": {"dataset": "phantom", "coarse": "a"}}
    path.write_text(json.dumps({"arguments": coarse, "working_folder": "x" * 5000}))
    _refused(RunError, path, lambda: open_run(tmp_path).task)
    path.write_text(json.dumps({"arguments": {"agent": "no_such_module:x", "task": {}}}))
    _refused(OptionError, path, lambda: open_run(tmp_path).load_agent())


@pytest.fixture(scope="module")
def whole() -> Checkpoint:
    env = PixelSegVectorEnv(num_envs=2, dataset=small_set(), split="all", horizon=2)
    agent = PA3C(env, width=0.03, horizons=(1,), device="cpu")
    from pixelseg_agents.state import settings_of, tensors_of

    return Checkpoint(agent.name, settings_of(agent), tensors_of(agent))


@pytest.mark.parametrize(
    "change",
    [
        {"updates": float("inf")},
        {"updates": -1},
        {"passes": 1.5},
        {"episodes": "3"},
        {"channels": 0},
        {"channels": False},
        {"channels": 2**40},
        {"label_names": []},
        {"label_names": "object"},
        {"label_names": [None]},
        {"label_names": ["a"] * 5000},
        {"observation": "x"},
        {"config": {"width": 400.0}},
        {"config": {"width": 1e18}},
        {"config": []},
        {"seed": -(2**70)},
    ],
)
def test_settings_of_checkpoints(tmp_path: Path, whole: Checkpoint, change: dict[str, Any]) -> None:
    """A width of 400 is a network of terabytes: it is refused before memory is taken."""
    settings = whole.settings | change
    if isinstance(change.get("config"), dict):
        settings["config"] = whole.settings["config"] | change["config"]
    path = save_checkpoint(tmp_path / "agent", Checkpoint(whole.algorithm, settings, whole.tensors))
    _refused(CheckpointError, path, lambda: load_agent(path, device="cpu"))


def test_tensors_and_names_of_checkpoints(tmp_path: Path, whole: Checkpoint) -> None:
    path = save_checkpoint(tmp_path / "agent", whole)
    assert load_agent(path, device="cpu").updates == 0
    first = next(iter(whole.tensors))
    numbers = {name: torch.full_like(one, 3e38) for name, one in whole.tensors.items() if one.is_floating_point()}
    save_checkpoint(path, Checkpoint(whole.algorithm, whole.settings, whole.tensors | numbers))
    _refused(PixelSegError, path, lambda: load_agent(path, device="cpu").predict(torch.ones(2, 16, 16)))
    beyond = whole.tensors | {"optimizer.9999.step": torch.zeros(())}
    for tensors in ({}, whole.tensors | {first: torch.zeros(3, 3)}, whole.tensors | {"x": torch.zeros(1)}, beyond):
        save_checkpoint(path, Checkpoint(whole.algorithm, whole.settings, tensors))
        _refused(CheckpointError, path, lambda: load_agent(path, device="cpu"))
    save_checkpoint(path, Checkpoint("P" * 5000, whole.settings, whole.tensors))
    _refused(CheckpointError, path, lambda: load_agent(path, device="cpu"))
    deep = path.read_bytes().replace(b"P" * 5000, b"PA3C".ljust(5000))
    path.write_bytes(deep)
    _refused(CheckpointError, path, lambda: load_checkpoint(path))
