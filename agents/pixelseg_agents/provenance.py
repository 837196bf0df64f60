"""Where a result comes from: time, versions, commit, hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "pixelseg-env",
    "pixelseg-agents",
    "torch",
    "numpy",
    "gymnasium",
    "stable-baselines3",
    "opencv-python",
    "nibabel",
    "pillow",
    "tifffile",
    "imagecodecs",
)
BFLOAT16 = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 BF16"))  # flags of Linux; the faster first


def provenance() -> dict[str, Any]:
    """Time, package versions, commit and hardware of this process."""
    return {
        "started": now(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": _commit(),
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def processor() -> str:
    """The processor's name, and the instructions for bfloat16 that it has: AMX, or AVX-512 BF16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    has = [name for flag, name in BFLOAT16 if flag in facts.get("flags", "").split()]
    return (facts.get("model name") or platform.machine()) + "".join(f" with {name}" for name in has[:1])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source that runs, "-dirty" if it has changed; None for an installed copy, or without git."""
    here = Path(__file__).resolve().parent
    if "site-packages" in here.parts:  # a repository around it would be another project's
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("describe", "--always", "--abbrev=12")
        # Records are what a benchmark writes; new ones change nothing about the source.
        source = (":(top)", ":(top,exclude)benchmarks/records")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *source)
    except (OSError, subprocess.SubprocessError):
        return None
    return (commit + "-dirty" * bool(changed)) or None
