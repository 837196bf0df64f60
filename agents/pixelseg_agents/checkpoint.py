"""Checkpoints: one safetensors file, its settings as JSON in the header; no pickle, never half written."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pixelseg_agents.files import parse_json, reason, write_atomically
from pixelseg_env import PixelSegError

FORMAT = "pixelseg-agents"
VERSION = 1
LONGEST_NAME = 200  # of an agent; what is longer is damage

CHECKPOINT = "checkpoint.safetensors"  # in a run's folder, the last
BEST = "best.safetensors"  # in a run's folder, the best on validation patients


class CheckpointError(PixelSegError):
    """A checkpoint that is missing, damaged, or not one of ours."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        algorithm: the agent's name, such as "PA3C".
        settings: JSON-ready values.
        tensors: named tensors.
    """

    algorithm: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint under a temporary name, then renames it.

    Args:
        path: the file; `.safetensors` is appended when it has no suffix.
        checkpoint: what to write.

    Returns:
        The path that was written.
    """
    target = checkpoint_path(path)
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "algorithm": checkpoint.algorithm,
        "settings": json.dumps(checkpoint.settings),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    try:
        write_atomically(target, save(tensors, metadata=header))
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error.strerror}); choose another place") from error
    return target


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or of a newer version.
    """
    target = checkpoint_path(path)
    if not target.is_file():
        raise CheckpointError(f"{target}: no such checkpoint; expected a .safetensors file written by save()")
    try:
        with safe_open(target, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(
                    f"{target}: a safetensors file, but not a PixelSeg checkpoint "
                    f"(format {reprlib.repr(header.get('format'))}, expected {FORMAT!r})"
                )
            if int(header.get("version", 0)) > VERSION:
                raise CheckpointError(
                    f"{target}: written by a newer version (format {reprlib.repr(header['version'])}, this one reads "
                    f"up to {VERSION}); update pixelseg-agents"
                )
            algorithm, settings = header["algorithm"], parse_json(header["settings"])
            if not isinstance(settings, dict):
                raise ValueError("its settings are not a dictionary")
            if len(algorithm) > LONGEST_NAME:
                raise ValueError(f"its agent's name has {len(algorithm)} characters")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return Checkpoint(algorithm, settings, tensors)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{target}: damaged or not a safetensors file ({reason(error)}); restore it from a copy, or train again"
        ) from error


def checkpoint_path(path: str | Path) -> Path:
    """The file that a checkpoint is written to: a path with the suffix."""
    target = Path(path)
    return target if target.suffix == ".safetensors" else target.with_name(target.name + ".safetensors")
