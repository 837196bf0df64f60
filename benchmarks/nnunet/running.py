"""One training of the real nnU-Net: our data go out as files, its masks come back as files, our code judges them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.grid.cells import Cell, is_done, record_path
from benchmarks.grid.running import Trained, judge
from benchmarks.nnunet.masks import PredictedMasks
from benchmarks.records import read_record, write_record
from pixelseg_agents.files import read_json
from pixelseg_agents.nnunet import NnUNetData, export_nnunet
from pixelseg_agents.provenance import provenance
from pixelseg_env import DataError, OptionError

RUNNER = Path(__file__).with_name("runner.py")
PYTHON = Path(".venv-nnunet/bin/python")
NUMBER, NAME = 501, "PixelSeg"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
LOG = "nnunet.log"
SHOWN = 15  # lines of what nnU-Net said, when it fails


@dataclass(frozen=True)
class Budget:
    """How much nnU-Net may train; its own default is 1000 epochs of 250 iterations."""

    epochs: int = 10
    """Its learning rate falls, and it validates, once in each."""
    iterations: int = 0
    """Of training in each epoch; 0: those that take the protocol's number of network passes."""
    validation_iterations: int = 2
    """In each epoch, for its own log."""
    threads: int = 1
    """Of torch."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "iterations" else 1
            if value < least:
                raise OptionError(f"--{field.name.replace('_', '-')} {value}: expected {least} or more")


def check_environment(python: Path) -> str:
    """The version of nnunetv2 in another environment.

    Raises:
        OptionError: there is no such Python, or nnU-Net is not installed there.
    """
    advice = "`make .venv-nnunet/installed` makes nnU-Net's environment, in .venv-nnunet"
    code = "import importlib.metadata as m; print(m.version('nnunetv2'))"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OptionError(f"--python {python}: cannot be run ({error}); {advice}") from error
    if done.returncode:
        raise OptionError(f"--python {python}: nnunetv2 is not installed there; {advice}")
    return done.stdout.strip()


def is_finished(folder: Path, cell: Cell, budget: Budget) -> bool:
    """Whether a training's record is there.

    Raises:
        OptionError: it was made with other options, or with another budget.
        DataError: it is damaged.
    """
    if not is_done(folder, cell):
        return False
    before = read_record(record_path(folder, cell)).get("asked")
    if before != dataclasses.asdict(budget):
        raise OptionError(
            f"{record_path(folder, cell)}: was made with another budget ({before}; now {dataclasses.asdict(budget)}); "
            "choose another --out, or remove the record"
        )
    return True


def run_training(cell: Cell, budget: Budget, python: Path, out: Path, work: Path, command: str = "") -> Path:
    """Exports, trains, predicts, judges, and writes the record.

    Args:
        cell: data, seed and fold; of its protocol, size, passes, device and split count, for nnU-Net plans the rest.
        budget: how much it trains.
        python: of nnU-Net's environment.
        out: folder of the records.
        work: an empty or missing folder, for some gigabytes at most: data, checkpoint, log, masks.
        command: for the record.

    Returns:
        The record's path.

    Raises:
        DataError: nnU-Net failed; the message ends with what it said.
    """
    made = provenance()  # now: the source may have changed when the training is over
    parts = {part: cell.parts[part] for part in ("train", "val", "test")}
    data = export_nnunet(parts, work / FOLDERS[0], NUMBER, NAME)
    answer = run_nnunet(_request(cell, budget, data, work), python, work)
    agent = PredictedMasks()
    for part in ("val", "test"):
        agent.add(parts[part], data.masks(part, work / "masks" / part))
    spent = answer["budget"]
    facts = dataclasses.asdict(cell.learner.facts)
    facts["label"] = f"{facts['label']}, {spent['updates']:,} updates of {spent['batch']} images"
    record: dict[str, Any] = {"name": cell.name, "cell": cell.to_json(), "facts": facts}
    record |= {"asked": dataclasses.asdict(budget), "config": answer["plan"], "parameters": answer["parameters"]}
    record |= {"updates": spent["updates"], "image_passes": spent["passes"], "image_visits": spent["passes"]}
    record |= {"environment_steps": 0, "curve": [], "seconds": answer["seconds"]}
    record |= judge(cell, Trained(agent=agent))
    record |= {"peak_mib": answer["peak_mib"]}
    record |= {"budget": spent, "other_seconds": answer["other_seconds"], "nnunet_log": answer["log"]}
    record |= {"command": command, "nnunet_versions": answer["versions"]}
    path = record_path(out, cell)
    write_record(path, record | made, lines=True)
    return path


def _request(cell: Cell, budget: Budget, data: NnUNetData, work: Path) -> dict[str, Any]:
    """What `runner` reads."""
    said: dict[str, Any] = {
        "number": NUMBER,
        "dataset": data.folder.name,
        "passes": cell.protocol.passes,
        "seed": cell.seed,
        "device": cell.protocol.device,
        "predict": {part: data.images[part] for part in ("val", "test")},
        "masks": str(work / "masks"),
    }
    return dataclasses.asdict(budget) | said


def run_nnunet(request: dict[str, Any], python: Path, work: Path) -> dict[str, Any]:
    """Runs `runner` in the other environment.

    Args:
        request: a `Budget` as a dictionary; number and name of the data set in `work`; passes, seed, device; the images
            to predict by part, and the folder for their masks.
        python: of nnU-Net's environment.
        work: where `FOLDERS` lie, and where its log goes.

    Returns:
        The answer: budget, plan, parameters, seconds, log, memory, versions.

    Raises:
        DataError: it failed; the message ends with what it said.
    """
    asked, answered, log = work / "request.json", work / "answer.json", work / LOG
    asked.write_text(json.dumps(request), encoding="utf-8")
    variables = {name: str(work / name) for name in FOLDERS} | {"OMP_NUM_THREADS": str(request["threads"])}
    # Not our packages: the other environment must not find them by chance.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    began = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        child = subprocess.Popen(
            [str(python), str(RUNNER), str(asked), str(answered)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=inherited | variables,
        )
        try:
            code = child.wait()
        finally:  # also when this process is stopped
            child.kill()
    if code or not answered.exists():
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = "\n".join(said[-SHOWN:])
        raise DataError(f"nnU-Net failed after {time.perf_counter() - began:.0f} s (exit code {code}):\n{last}")
    return dict(read_json(answered))


def shown_command(words: Sequence[str] | None = None) -> str:
    """The command line, absolute paths by their last name alone: a record tells nothing of a machine's folders."""
    given = sys.argv[1:] if words is None else words
    short = (Path(word).name if Path(word).is_absolute() else word for word in given)
    return " ".join(["python -m benchmarks", *short])
