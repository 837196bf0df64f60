from __future__ import annotations

import argparse
import errno
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch

import pixelseg_agents
from pixelseg_agents import AMPDRL, PA3C, CheckpointError, TrainingError
from pixelseg_agents.checkpoint import load_checkpoint
from pixelseg_agents.cli import main
from pixelseg_agents.cli.progress import ProgressCSV
from pixelseg_agents.cli.runs import held
from pixelseg_agents.cli.session import Session
from pixelseg_agents.cli.task import TaskArguments
from pixelseg_agents.team import Team
from tests.helpers.cli import PHANTOM, TINY, config_of, rows_of, train_tiny

CHECKPOINT = "checkpoint.safetensors"
TIMING = "time/updates_per_second"


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A suite that a shell has put in the background ignores SIGINT, and its children would."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten updates without interruption."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train_tiny(folder, updates=10) == 0
    return folder


def stop_at(update: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT, kind: Any = PA3C) -> None:
    """Sends this process a signal in the middle of an update."""
    original = kind._update

    def interrupted(self: Any, *arguments: Any) -> Any:
        if self.updates == update - 1:
            signal.raise_signal(number)
        return original(self, *arguments)

    monkeypatch.setattr(kind, "_update", interrupted)


def assert_same_run(one: Path, other: Path) -> None:
    first, second = load_checkpoint(one / CHECKPOINT), load_checkpoint(other / CHECKPOINT)
    assert first.settings == second.settings
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    rows = [[{k: v for k, v in row.items() if k != TIMING} for row in rows_of(folder)] for folder in (one, other)]
    assert rows[0] == rows[1]
    assert (one / "evaluation.json").read_text() == (other / "evaluation.json").read_text()


# Within a row, at its end, at the very end.
@pytest.mark.parametrize("update", [3, pytest.param(4, marks=pytest.mark.slow), 10])
def test_interrupted_and_resumed_equals_uninterrupted(
    update: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(update, patch)
        assert train_tiny(run, updates=10) == 130
    assert f"pixelseg train --resume {run}" in capsys.readouterr().out
    card = (run / "README.md").read_text()
    assert f"**Not finished**: {update} of 10 updates" in card
    assert f"`pixelseg train --resume {run}` goes on" in card
    assert PA3C.load(run / CHECKPOINT).updates == update
    assert (run / "learning_curve.png").exists() == (update >= 4)
    assert not (run / "evaluation.json").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(["train", "--resume", str(run)]) == 0
    assert "Not finished" not in (run / "README.md").read_text()
    assert config_of(run)["resumed"][0]["updates"] == update
    assert_same_run(run, whole)


def test_a_pretraining_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log has nothing yet that the learning curve draws."""
    run, more = tmp_path / "run", ["--agent", "amp-drl", "--pretraining-share", "0.9", "--mask-batch", "4"]
    with monkeypatch.context() as patch:
        stop_at(5, patch, kind=AMPDRL)
        assert train_tiny(run, *more, "--eval-every", "0", updates=8) == 130
    assert len(rows_of(run)) == 1
    assert main(["train", "--resume", str(run), "--log", "none"]) == 0
    assert (run / "learning_curve.png").exists()


def test_run_that_was_killed_resumes_from_its_last_checkpoint(whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Rows beyond the checkpoint are written again, not twice; half a row does not matter."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(6, patch)
        assert train_tiny(run, updates=10) == 130
    lines = (run / "progress.csv").read_text().splitlines()
    beyond = ",".join("8" if name == "time/updates" else "0.5" for name in lines[0].split(","))
    (run / "progress.csv").write_text("\n".join([*lines, beyond, beyond[:5]]))
    assert main(["train", "--resume", str(run)]) == 0
    assert_same_run(run, whole)


def test_killed_between_two_files_it_counts_no_evaluation_twice(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores are written before the checkpoint, so there may be some that it does not know yet."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(6, patch)
        assert train_tiny(run, updates=10) == 130
    shutil.copy(whole / "validation.json", run)
    assert main(["train", "--resume", str(run)]) == 0
    assert (run / "validation.json").read_text() == (whole / "validation.json").read_text()
    one, other = (load_checkpoint(folder / "best.safetensors").settings for folder in (run, whole))
    assert one == other


def test_how_the_scores_went_is_read_from_older_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, more = tmp_path / "run", ["--eval-every", "4", "--patience", "2"]
    assert train_tiny(run, *more, updates=4) == 0
    (run / "validation.json").write_text(json.dumps({"best": {"updates": 4, "dice": 1.0}, "without_gain": 1}))
    assert main(["train", "--resume", str(run), "--updates", "20", "--log", "none"]) == 0
    assert "after 8 of 20 updates" in capsys.readouterr().out


def test_what_a_killed_writing_left_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train_tiny(run, updates=2) == 0
    left, own = run / f".{CHECKPOINT}.{'0a' * 16}", run / ".notes.txt"
    for path in (left, own):
        path.write_bytes(b"half")
    assert main(["train", "--resume", str(run), "--updates", "3", "--log", "none"]) == 0
    assert not left.exists()
    assert own.exists()


def forked(words: list[str], disk: float = 0.0) -> int:
    """Begins a command in a process of its own, with a disk that takes `disk` seconds more; returns its number."""
    process = os.fork()
    if not process:
        try:
            sync = os.fsync
            os.fsync = lambda file: (time.sleep(disk), sync(file))[1]
            os._exit(main(words))
        finally:
            os._exit(99)
    return process


def ended(process: int) -> int | None:
    """Waits for a process; its exit code, None if it was killed."""
    _, status = os.waitpid(process, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def half_written(checkpoint: Path) -> set[Path]:
    """What the writing of a checkpoint has not given its name yet."""
    return set(checkpoint.parent.glob(f".{CHECKPOINT}.*"))


def killed(words: list[str], checkpoint: Path, rng: random.Random, writing: bool) -> tuple[int | None, bool]:
    """Runs a command and kills it a moment after its checkpoint was written for the first, second or third time.

    Args:
        words: the command's.
        checkpoint: its file.
        rng: of the moment.
        writing: then it is killed as soon as it is seen to write the next one.

    Returns:
        Its exit code, None if it was killed; and whether a checkpoint was being written then.
    """
    process, writings = forked(words, disk=0.01), rng.randrange(1, 4)
    last = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    left = half_written(checkpoint)  # of the kill before, until it is removed

    def runs() -> bool:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    while writings and runs():
        found = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        writings, last = writings - (found != last), found
        time.sleep(0.001)
    if writing:
        while half_written(checkpoint) <= left and runs():
            time.sleep(0.001)
    else:
        time.sleep(rng.uniform(0, 0.03))  # an update and its writing take about as long
    os.kill(process, signal.SIGKILL)
    return ended(process), not half_written(checkpoint) <= left


@pytest.mark.parametrize(
    ("agent", "kills"),
    [("pa3c", 4), pytest.param("pa3c", 50, marks=pytest.mark.slow), pytest.param("dqn", 50, marks=pytest.mark.slow)],
)
def test_killed_at_any_moment_it_goes_on_to_the_same_weights(agent: str, kills: int, tmp_path: Path) -> None:
    """`kill -9`, again and again, in the writing of files too, for it is saved after every update."""
    torch.set_num_threads(1)
    more = ["--agent", agent, "--save-every", "0", "--updates", str(3 * kills), *PHANTOM]
    more += ["--learning-starts", "4", "--replay-size", "16"] if agent == "dqn" else []
    begin = ["train", *TINY, *more]
    assert ended(forked([*begin, "--out", str(tmp_path / "whole")])) == 0
    run = tmp_path / "run"
    rng = random.Random(7)
    before, words = 0, [*begin, "--out", str(run)]
    in_writing = 0
    for number in range(kills):
        code, wrote = killed(words, run / CHECKPOINT, rng, writing=number % 2 == 1)
        assert code in (None, 0)
        in_writing += wrote
        if not (run / "config.json").exists():
            continue  # killed before there was anything to go on from
        words = ["train", "--resume", str(run), "--log", "none"]
        updates = load_checkpoint(run / CHECKPOINT).settings["updates"] if (run / CHECKPOINT).exists() else 0
        assert updates >= before, "what was saved once is not lost"
        before = updates
        if code == 0:
            break
    if not (run / "evaluation.json").exists():
        assert ended(forked(words)) == 0
    assert not half_written(run / CHECKPOINT)
    assert in_writing, "no kill fell in the writing of a checkpoint"
    one, other = (load_checkpoint(folder / CHECKPOINT).tensors for folder in (tmp_path / "whole", run))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert before > kills / 2


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with held(run):
        assert train_tiny(run) == 2
        assert "another process is training there" in capsys.readouterr().err
        assert ended(forked(["train", *TINY, *PHANTOM, "--out", str(run)])) == 2
    assert not run.exists()
    assert train_tiny(run) == 0
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with held(run):
        assert main(["train", "--resume", str(run), "--updates", "9", "--log", "none"]) == 2
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_that_ended_while_another_loaded_its_data_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, load = tmp_path / "run", TaskArguments.load
    before: dict[Path, bytes] = {}
    others: list[bool] = []

    def late(self: TaskArguments, *splits: str) -> Any:
        others.append(True)
        if len(others) == 1:
            assert train_tiny(run) == 0
            before.update({path: path.read_bytes() for path in run.iterdir() if path.is_file()})
        return load(self, *splits)

    with monkeypatch.context() as patch:
        patch.setattr(TaskArguments, "load", late)
        assert train_tiny(run, "--seed", "5") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_killed_before_its_first_checkpoint_a_run_begins_anew(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(PA3C, "save", killed)
        assert train_tiny(run, updates=10) == 2
    assert main(["train", "--resume", str(run), "--log", "none"]) == 0
    assert_same_run(run, whole)
    for path in (run / CHECKPOINT, run / "evaluation.json"):
        path.unlink()
    kept = (run / "progress.csv").read_bytes()
    assert main(["train", "--resume", str(run), "--log", "none"]) == 2, "of a run that had begun its log is kept"
    assert (run / "progress.csv").read_bytes() == kept


def test_memory_that_ends_at_the_first_pass_is_told_as_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def short(self: Any, observation: Any, deterministic: bool) -> Any:
        raise MemoryError

    monkeypatch.setattr(PA3C, "_keep", short)
    assert train_tiny(tmp_path / "run") == 2
    assert re.search(r"out of memory: .* MiB .*Make size, batch or width smaller", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_full_at_the_report_says_that_the_training_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(folder: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "cases.png"))

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("pixelseg_agents.cli.training.write_report", full)
        assert train_tiny(run) == 2
    error = capsys.readouterr().err
    assert "cases.png: No space left on device. The training is done and saved" in error
    assert f"pixelseg train --resume {run}" in error
    assert main(["train", "--resume", str(run), "--log", "none"]) == 0
    assert (run / "evaluation.json").exists()


@pytest.mark.parametrize(("size", "command"), [(1, "`pixelseg train"), (2, "`torchrun --nproc-per-node 2 -m pixelseg")])
def test_the_way_back_is_that_of_as_many_processes(size: int, command: str, tmp_path: Path) -> None:
    agent = PA3C(gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=12), width=0.03, device="cpu")
    arguments = argparse.Namespace(log="none", tensorboard="off", wandb=None, save_every=60)
    session = Session(agent, arguments, tmp_path, team=Team(0, size))
    assert command in session._way_back()


def test_a_full_disk_is_told_and_what_was_saved_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train_tiny(run, updates=3) == 0
    write, saved = Path.write_bytes, (run / CHECKPOINT).read_bytes()

    def full(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["train", "--resume", str(run), "--updates", "6", "--log", "none"]) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "Traceback" not in error
    monkeypatch.undo()
    assert (run / CHECKPOINT).read_bytes() == saved
    assert not [path for path in run.iterdir() if ".safetensors." in path.name]
    assert main(["train", "--resume", str(run), "--updates", "6", "--log", "none"]) == 0


NOBODY, CANNOT = 65534, 77  # a user without rights; an exit code


def unprivileged(work: Callable[[], int], *needed: Path) -> int | None:
    """The exit code of some work in a process that may write where its user may, as root may everywhere."""
    process = os.fork()
    if not process:
        try:
            if os.geteuid() == 0:
                try:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                except OSError:
                    os._exit(CANNOT)
            readable = all(os.access(path, os.R_OK) for path in (*needed, Path(pixelseg_agents.__file__)))
            os._exit(work() if readable else CANNOT)
        finally:
            os._exit(99)
    code = ended(process)
    if code == CANNOT:
        pytest.skip("root's rights cannot be given up here")
    return code


@pytest.fixture
def unwritable(whole: Path) -> Iterator[Path]:
    """A folder with a run and an empty folder, where nothing can be written; beside it one that is open to all."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own is closed to other users
        folder = Path(name) / "closed"
        shutil.copytree(whole, folder / "run")
        (folder / "empty").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (folder.parent / "open").mkdir()
        (folder.parent / "open").chmod(0o777)
        folder.parent.chmod(0o755)
        yield folder


def test_folders_that_cannot_be_written_to_are_named(
    unwritable: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is computed, and nothing is left there."""
    torch.set_num_threads(1)
    monkeypatch.setattr("pixelseg_agents.cli.evaluate.evaluate_all", lambda *_: os._exit(98))
    monkeypatch.setattr("pixelseg_agents.cli.render.watch", lambda *_: os._exit(98))
    agent, before = PA3C.load(unwritable / "run" / CHECKPOINT, device="cpu"), sorted(unwritable.rglob("*"))
    train, run = ["train", *TINY, *PHANTOM, "--updates", "1", "--out"], str(unwritable / "run")

    def saved() -> int:
        try:
            agent.save(unwritable / "agent")
        except CheckpointError as error:
            print(error, file=sys.stderr)
            return 2
        return 0

    for work, named in (
        (lambda: main([*train, str(unwritable / "new/run")]), "new/run: cannot be written (PP); choose another folder"),
        (lambda: main([*train, str(unwritable / "empty")]), "empty: cannot be written (PP); choose another folder"),
        (lambda: main(["train", "--resume", run, "--updates", "20"]), "run: cannot be written (PP)"),
        (lambda: main(["evaluate", run]), "run/evaluation-test: cannot be written (PP); choose another --out"),
        (
            lambda: main(["evaluate", run, "--out", str(unwritable / "run/config.json/a")]),
            "run/config.json/a: cannot be written (Not a directory); choose another --out",
        ),
        (
            lambda: main(
                ["evaluate", run, "--out", str(unwritable.parent / "open/a"), "--json", str(unwritable / "a.json")]
            ),
            f"{unwritable}: cannot be written (PP); choose another --json",
        ),
        (
            lambda: main(["render", run, "--out", str(unwritable / "run/config.json/a.png")]),
            "run/config.json: cannot be written (Not a directory); choose another --out",
        ),
        (saved, "agent.safetensors: cannot be written (PP)"),
    ):
        assert unprivileged(work, unwritable / "run/config.json") == 2, named
        told = capfd.readouterr().err
        assert named.replace("PP", "Permission denied") in told
        assert str(unwritable) in told
        assert "Traceback" not in told
    assert sorted(unwritable.rglob("*")) == before
    assert not list((unwritable.parent / "open").iterdir())


def test_a_training_that_blows_up_says_how_to_see_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, losses = tmp_path / "run", PA3C._losses

    def infinite(self: PA3C, *batch: Any) -> Any:
        found = losses(self, *batch)
        return found | {"loss": found["loss"] * (math.inf if self.updates == 4 else 1)}

    monkeypatch.setattr(PA3C, "_losses", infinite)
    for words in (["train", *TINY, *PHANTOM, "--updates", "6", "--out", str(run)], ["train", "--resume", str(run)]):
        assert main([*words, "--save-every", "0"]) == 2
        error = capsys.readouterr().err
        assert "update 5: the gradient is not finite" in error
        assert "phantom" in error
        assert f"The checkpoint of update 4 is kept: `pixelseg train --resume {run}`" in error
        assert PA3C.load(run / CHECKPOINT).updates == 4


def test_resume_with_more_updates_keeps_every_row(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train_tiny(run, updates=5) == 0
    before = rows_of(run)
    assert main(["train", "--resume", str(run), "--updates", "9", "--log", "none"]) == 0
    assert [float(row["time/updates"]) for row in rows_of(run)] == [4, 5, 8, 9]
    assert rows_of(run)[:2] == before
    assert PA3C.load(run / CHECKPOINT).updates == 9
    assert config_of(run)["arguments"]["updates"] == 9


def test_periodic_checkpoints_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = PA3C._update

    def looking(self: PA3C, *arguments: Any) -> None:
        seen.append(load_checkpoint(tmp_path / "run" / CHECKPOINT).settings["updates"])
        return original(self, *arguments)

    monkeypatch.setattr(PA3C, "_update", looking)
    assert train_tiny(tmp_path / "run", "--save-every", "0", updates=3) == 0
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--width", "0.5"], "--width"),
        (["--size", "32", "--seed", "4"], "--seed, --size"),
        (["--dataset-option", "count=20"], "--dataset-option"),
        (["--out", "elsewhere"], "--out"),
        (["--updates", "4"], "--updates 4"),
        ([], "larger --updates"),
    ],
)
def test_resume_refuses_what_conflicts(
    words: list[str], message: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert main(["train", "--resume", str(whole), *words]) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_run_that_was_too_large_goes_on_with_recompute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is what the message about memory tells to do."""
    run, original = tmp_path / "run", PA3C._update
    passes: list[int] = []

    def full(self: PA3C, horizon: int, weight: Any) -> int:
        if self.config.recompute is None and self.updates == 3:
            raise TrainingError("out of memory: x, or set recompute=True")
        passes.append(original(self, horizon, weight) // (2 * horizon))
        return 2 * horizon * passes[-1]

    monkeypatch.setattr(PA3C, "_update", full)
    assert train_tiny(run) == 2
    assert main(["train", "--resume", str(run), "--recompute", "True", "--log", "none"]) == 0
    assert passes == [1] * 3 + [2] * 6, "from the checkpoint of update 0"
    config = json.loads((run / "config.json").read_text())
    assert config["arguments"]["hyper"]["recompute"] is config["in_force"]["recompute"] is True
    assert PA3C.load(run / CHECKPOINT).config.recompute is True
    capsys.readouterr()
    assert train_tiny(tmp_path / "ac", "--agent", "ac") == 0
    assert main(["train", "--resume", str(tmp_path / "ac"), "--width", "0.5"]) == 2
    assert "--save-every, --data)" in capsys.readouterr().err


def test_resume_refuses_changed_data(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (whole / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"images": ', '"images": 9'))
    (tmp_path / CHECKPOINT).write_bytes((whole / CHECKPOINT).read_bytes())
    assert main(["train", "--resume", str(tmp_path), "--updates", "20"]) == 2
    assert "has changed" in capsys.readouterr().err


def test_run_folder_can_be_moved(tmp_path: Path) -> None:
    assert train_tiny(tmp_path / "before", updates=2) == 0
    (tmp_path / "before").rename(tmp_path / "after")
    assert main(["train", "--resume", str(tmp_path / "after"), "--updates", "3"]) == 0
    assert not (tmp_path / "before").exists()


def test_existing_run_is_not_overwritten(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / CHECKPOINT).read_bytes()
    assert train_tiny(whole) == 2
    assert "choose another --out, or --resume" in capsys.readouterr().err
    assert (whole / CHECKPOINT).read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    assert train_tiny(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("file", [CHECKPOINT, "config.json"])
def test_damaged_run_is_named(
    command: str, file: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (CHECKPOINT, "config.json"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    damaged = tmp_path / file
    damaged.write_bytes(damaged.read_bytes()[:-60])
    words = {"train": ["--resume", str(tmp_path), "--updates", "20"], "evaluate": [str(tmp_path)]}
    predict = [str(tmp_path), str(whole / "cases.png"), "-o", str(tmp_path / "mask.png")]
    assert main([command, *words.get(command, predict)]) == 2
    assert str(damaged) in capsys.readouterr().err
    assert not (tmp_path / "mask.png").exists()


def test_progress_file_drops_no_row_when_a_column_is_added(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    log = ProgressCSV(path, 0)
    for step, extra in ((1, {}), (2, {"eval/dice": 0.5}), (3, {})):
        log.write({"time/updates": step, **extra}, {})
    log.close()
    assert [(row["time/updates"], row["eval/dice"]) for row in rows_of(tmp_path)] == [
        ("1", ""),
        ("2", "0.5"),
        ("3", ""),
    ]
    log = ProgressCSV(path, 2)
    log.write({"time/updates": 4, "eval/dice": 0.25}, {})
    log.close()
    assert [row["time/updates"] for row in rows_of(tmp_path)] == ["1", "2", "4"]


def start(run: Path) -> subprocess.Popen[str]:
    """A training of the installed command that would last for hours, once it has written its first row."""
    words = ["train", *TINY, *PHANTOM, "--updates", "1000000", "--eval-every", "0", "--log", "stdout"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("pixelseg"), *words, "--out", str(run)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (run / "progress.csv").exists() or (run / "progress.csv").stat().st_size == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_real_ctrl_c_leaves_a_usable_run(tmp_path: Path) -> None:
    """And until then tables are shown, as asked for, instead of a bar."""
    run = tmp_path / "run"
    process = start(run)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"pixelseg train --resume {run}" in out
    assert "| train/" in out
    assert "update/s" not in err
    assert "Traceback" not in err
    assert PA3C.load(run / CHECKPOINT).updates >= float(rows_of(run)[-1]["time/updates"]) >= 4
    assert (run / "learning_curve.png").is_file()


def test_termination_is_as_gentle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(2, monkeypatch, signal.SIGTERM)
    assert train_tiny(tmp_path / "run") == 143
    assert PA3C.load(tmp_path / "run" / CHECKPOINT).updates == 2


def test_second_ctrl_c_aborts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"

    def stuck(self: PA3C, *arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr(PA3C, "_update", stuck)
    assert train_tiny(run) == 130
    assert PA3C.load(run / CHECKPOINT).updates == 0
    assert "**Not finished**: 0 of 6 updates" in (run / "README.md").read_text(), "aborted: from its beginning"


def test_a_run_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its relative paths start where the training was begun."""
    (tmp_path / "elsewhere").mkdir()
    for i in range(10):
        mask = np.zeros((16, 16), np.uint8)
        mask[4 : 8 + i % 3, 4:10] = 255
        (tmp_path / "d").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"d/p{i}.png"), mask // 2 + 40)
        cv2.imwrite(str(tmp_path / f"d/p{i}_mask.png"), mask)
    monkeypatch.chdir(tmp_path)
    assert train_tiny(Path("run"), data=["--dataset", "folder", "--data", "d"], updates=2) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", "../run"]) == 0
    assert main(["train", "--resume", "../run", "--updates", "3", "--log", "none"]) == 0
    os.rename(tmp_path / "d", tmp_path / "gone")
    capsys.readouterr()
    assert main(["evaluate", "../run"]) == 2
    assert str(tmp_path / "d") in capsys.readouterr().err


def test_a_report_of_other_data_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert train_tiny(run, updates=2) == 0
    usual = run / "evaluation-test"
    assert main(["evaluate", str(run)]) == 0
    first = json.loads((usual / "evaluation.json").read_text())
    assert first["about"]["images"] == len(first["per_case"])
    assert main(["evaluate", str(run), "--batch", "1"]) == 0  # the same data: replaced
    assert not (run / "evaluation-test-2").exists()
    assert main(["evaluate", str(run), "--dataset-option", "count=20"]) == 0
    assert json.loads((usual / "evaluation.json").read_text())["about"] == first["about"]
    assert json.loads((run / "evaluation-test-2/evaluation.json").read_text())["about"]["options"] == ["count=20"]
    capsys.readouterr()
    assert main(["evaluate", str(run), "--dataset-option", "count=21", "--out", str(usual)]) == 2
    assert "report of other data" in capsys.readouterr().err


def test_an_agent_that_is_used_for_longer_than_it_was_trained_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_tiny(tmp_path / "short", "--horizon", "5", updates=2) == 0
    said = capsys.readouterr()
    assert "at most 2 step(s)" in said.err
    assert "--horizon 2" in said.out
    assert train_tiny(tmp_path / "fine", updates=2) == 0
    assert "at most" not in capsys.readouterr().err


@pytest.mark.parametrize("device", ["mps", "gpu", "meta"])
def test_a_device_that_is_not_there_is_an_error(
    tmp_path: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_tiny(tmp_path / "run", "--device", device, updates=2) == 2
    assert f"device='{device}'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
