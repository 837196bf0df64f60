"""Checkpoints: what is written comes back; what is not ours is refused, by name."""

from __future__ import annotations

import errno
import json
import os
import pickletools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pixelseg_agents import checkpoint as module
from pixelseg_agents.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from pixelseg_agents.files import write_atomically
from pixelseg_env import PixelSegError

SETTINGS: dict[str, Any] = {"config": {"width": 0.25, "horizons": [1, 3]}, "updates": 7, "none": None, "name": "ä"}


def example(value: float = 1.0) -> Checkpoint:
    tensors = {
        "a": torch.full((2, 3), value),
        "step": torch.tensor(5.0),
        "int": torch.arange(4),
        "half": torch.ones(2, dtype=torch.float16),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "leaf": torch.nn.Parameter(torch.randn(2)),
        "empty": torch.zeros(0),
    }
    return Checkpoint("PA3C", SETTINGS, tensors)


def test_round_trip(tmp_path: Path) -> None:
    written = example()
    path = save_checkpoint(tmp_path / "deep" / "agent", written)
    assert path == tmp_path / "deep" / "agent.safetensors"
    for name in (path, tmp_path / "deep" / "agent", str(path)):
        read = load_checkpoint(name)
        assert read.algorithm == "PA3C"
        assert read.settings == SETTINGS
        assert set(read.tensors) == set(written.tensors)
        for key, tensor in written.tensors.items():
            assert read.tensors[key].dtype == tensor.dtype
            assert torch.equal(read.tensors[key], tensor), key
    assert save_checkpoint(tmp_path / "v1.5", written).name == "v1.5.safetensors", "a dot is no suffix"
    assert [p.name for p in tmp_path.glob("deep/*")] == ["agent.safetensors"], "no temporary file stays"


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path / "agent", example(1))

    def full_disk(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(CheckpointError, match=r"agent\.safetensors: cannot be written \(no space"):
        save_checkpoint(path, example(2))
    monkeypatch.undo()
    assert load_checkpoint(path).tensors["a"][0, 0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["agent.safetensors"]


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power failure would leave an empty one."""
    done: list[str] = []
    synchronise, replace = os.fsync, os.replace

    def fsync(file: int) -> None:
        done.append(f"fsync {os.fstat(file).st_size}")
        synchronise(file)

    def replaced(source: Path, goal: Path) -> None:
        done.append("replace")
        replace(source, goal)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    write_atomically(tmp_path / "a", b"12345")
    assert done == ["fsync 5", "replace"]


def test_settings_that_are_not_json_leave_the_old_file(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "agent", example(1))
    with pytest.raises(TypeError):
        save_checkpoint(path, Checkpoint("PA3C", {"env": object()}, {}))
    assert load_checkpoint(path).tensors["a"][0, 0] == 1


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert path.name in str(caught.value)
    assert isinstance(caught.value, PixelSegError)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_cut_off_file(tmp_path: Path, share: float) -> None:
    path = save_checkpoint(tmp_path / "agent", example())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "damaged or not a safetensors file")


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x80\x04K\x01.", b"\xff" * 4096])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    refused(path, "damaged or not a safetensors file")


def test_missing_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "gone.safetensors", "no such checkpoint")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "no such checkpoint")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a PixelSeg checkpoint"),
        ({"format": None}, "not a PixelSeg checkpoint"),
        ({"version": str(module.VERSION + 1)}, "written by a newer version"),
        ({"version": "new"}, "damaged"),
        ({"settings": "{"}, "damaged"),
        ({"settings": "[1]"}, "damaged"),
        ({"settings": None}, "damaged"),
        ({"algorithm": None}, "damaged"),
    ],
)
def test_foreign_newer_and_incomplete_headers(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    header = {"format": module.FORMAT, "version": "1", "algorithm": "PA3C", "settings": json.dumps(SETTINGS)}
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, path, metadata=header)
    assert load_checkpoint(path).settings == SETTINGS
    merged = {key: value for key, value in (header | changes).items() if value is not None}
    save_file({"a": torch.ones(2)}, path, metadata=merged)
    refused(path, message)


def test_no_pickle_in_the_file(tmp_path: Path) -> None:
    content = save_checkpoint(tmp_path / "agent", example()).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__")["format"] == module.FORMAT
    end = max(entry["data_offsets"][1] for entry in header.values())
    assert len(content) == 8 + length + end, "header and tensors, nothing else"
    with pytest.raises((ValueError, UnicodeDecodeError, IndexError)):
        list(pickletools.genops(content))
