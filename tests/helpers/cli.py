"""A run small enough for tests: 16x16 pictures, the narrowest network, a dozen updates."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pixelseg_agents.cli import main

TINY = ["--size", "16", "--width", "0.03", "--batch", "2", "--horizon", "2", "--horizons", "1", "2", "--device", "cpu"]
TINY += ["--log-interval", "4", "--eval-every", "5", "--log", "none", "--preset", "whole"]
PHANTOM = ["--dataset", "phantom", "--dataset-option", "count=12"]


def train_tiny(out: Path, *more: str, data: list[str] = PHANTOM, updates: int = 6) -> int:
    """Trains into `out`; returns the exit code."""
    return main(["train", *TINY, *data, "--updates", str(updates), "--out", str(out), *more])


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's progress.csv."""
    with (folder / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def config_of(folder: Path) -> dict[str, Any]:
    """A run's config.json."""
    return dict(json.loads((folder / "config.json").read_text()))
