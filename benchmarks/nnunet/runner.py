"""What runs in nnU-Net's own environment: plan, preprocess, train, predict. It knows nothing of PixelSeg.

    python runner.py REQUEST.json ANSWER.json

The folders are those of nnU-Net's variables `nnUNet_raw`, `nnUNet_preprocessed` and `nnUNet_results`. `running` writes
one file and reads the other.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import random
import re
import resource
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGES = ("nnunetv2", "torch", "numpy", "batchgeneratorsv2", "dynamic-network-architectures")
CONFIGURATION = "2d"
RAW, PREPROCESSED, WORKERS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_n_proc_DA"  # names of variables


def plan(number: int, dataset: str) -> None:
    """Takes the data's fingerprint, plans, and preprocesses; our splits go where nnU-Net looks for them."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    extract_fingerprint_dataset(number, num_processes=1, check_dataset_integrity=True, verbose=False)
    _, plans = plan_experiment_dataset(number)
    preprocess_dataset(number, plans, configurations=(CONFIGURATION,), num_processes=(1,))
    raw, preprocessed = (Path(os.environ[name]) / dataset for name in (RAW, PREPROCESSED))
    shutil.copy(raw / "splits_final.json", preprocessed / "splits_final.json")


def make_trainer(dataset: str, fold: int, device: str) -> Any:
    """nnU-Net's own trainer, which has not begun."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = Path(os.environ[PREPROCESSED]) / dataset
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    about = json.loads((folder / "dataset.json").read_text())
    return nnUNetTrainer(plans, CONFIGURATION, fold, about, torch.device(device))


def budget(request: dict[str, Any], batch: int) -> dict[str, int]:
    """Epochs and iterations. Without a number of iterations: those that take the images that all others may look at."""
    epochs = request["epochs"]
    iterations = request["iterations"] or max(1, round(request["passes"] / batch / epochs))
    return {
        "epochs": epochs,
        "iterations": iterations,
        "batch": batch,
        "updates": epochs * iterations,
        "passes": epochs * iterations * batch,
        "validation_iterations": request["validation_iterations"],
    }


def predict(trainer: Any, request: dict[str, Any]) -> None:
    """Writes masks of the wanted images, with nnU-Net's own sliding window and mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    raw = Path(os.environ[RAW]) / request["dataset"]
    ending, channels = trainer.dataset_json["file_ending"], len(trainer.dataset_json["channel_names"])
    for part, names in request["predict"].items():
        source = raw / ("imagesTs" if part == "test" else "imagesTr")
        goal = Path(request["masks"]) / part
        goal.mkdir(parents=True)
        files = [[str(source / f"{name}_{channel:04d}{ending}") for channel in range(channels)] for name in names]
        predictor.predict_from_files_sequential(files, [str(goal / name) for name in names])


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Does all of it; returns what a record says of it."""
    torch.set_num_threads(request["threads"])
    began = time.perf_counter()
    os.environ[WORKERS] = "1"
    plan(request["number"], request["dataset"])
    planned = time.perf_counter()

    if request["device"] == "cpu":
        os.environ[WORKERS] = "0"  # augmentation in this process: its draws are then those of the seed
    random.seed(request["seed"])
    np.random.seed(request["seed"])
    torch.manual_seed(request["seed"])
    trainer = make_trainer(request["dataset"], 0, request["device"])
    spent = budget(request, trainer.configuration_manager.batch_size)
    trainer.num_epochs, trainer.num_iterations_per_epoch = spent["epochs"], spent["iterations"]
    trainer.num_val_iterations_per_epoch = spent["validation_iterations"]
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.run_training()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    predicting = time.perf_counter()
    predict(trainer, request)
    plans = trainer.configuration_manager.configuration
    logged = {
        name: trainer.logger.get_value(name, step=None) for name in ("train_losses", "val_losses", "mean_fg_dice")
    }
    return {
        "budget": spent,
        "plan": {name: plans[name] for name in ("patch_size", "batch_size", "normalization_schemes", "architecture")},
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "seconds": {"wall": wall, "cpu": cpu},
        "other_seconds": {"planning": planned - began, "prediction": time.perf_counter() - predicting},
        "log": {name: [float(value) for value in values] for name, values in logged.items()},
        "peak_mib": peak_mib(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
    }


def peak_mib() -> float:
    """The most memory this process had, as `grid.running` has it, which cannot be imported where this runs."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what a parent had when it forked
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def end_with(parent: int) -> None:
    """Ends this process when the one that started it has been killed: nobody would read the answer."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Reads the request, writes the answer."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    request = json.loads(Path(sys.argv[1]).read_text())
    answer = json.dumps(run(request))
    Path(sys.argv[2]).write_text(answer)


if __name__ == "__main__":  # nnU-Net starts processes, which import this file
    main()
