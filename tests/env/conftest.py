"""The environment's tests run with the environment alone: those that ask the agents too wait until they are there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

HERE = Path(__file__).parent
NEEDS = ("pixelseg_agents", "benchmarks", "torch", "torchrl", "stable_baselines3", "pettingzoo")


def _missing() -> list[str]:
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def _asks_for(path: Path, names: list[str]) -> bool:
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(line.startswith((f"import {name}", f"from {name}")) for line in lines for name in names)


collect_ignore = [str(path) for path in HERE.rglob("test_*.py") if _asks_for(path, _missing())]
