"""`pixelseg networks`: counts, operations, JSON, and a library that is not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pixelseg_agents import SegmentationNetwork
from pixelseg_agents.cli import main
from pixelseg_agents.cli.networks import described
from pixelseg_agents.networks.registry import NETWORKS


class OneLayer(SegmentationNetwork):
    """A 3x3 convolution to 2 features and a 1x1 head; it cannot be made without memory."""

    label, source, published, smallest = "One layer", "nobody", 1.5, 3

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.features, self.labels = 2, labels
        self.layer, self.head = nn.Conv2d(channels, 2, 3, padding=1), nn.Conv2d(2, labels, 1)
        self.start = float(torch.ones(3).sum())  # nothing on device "meta" has a value

    def decode(self, observation: Tensor) -> Tensor:
        features: Tensor = self.layer(observation)
        return features

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return [self.head(self.decode(observation))]


def test_operations_and_parameters_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "one-layer", OneLayer)
    assert described("one-layer") == {
        "name": "one-layer",
        "label": "One layer",
        "source": "nobody",
        "parameters": 3 * 9 * 2 + 2 + 2 + 1,
        "published": 1.5,
        "gflop": 2 * (3 * 9 * 2 + 2) * 256**2 / 1e9,
        "smallest": 3,
    }


# Billions of multiplications and additions that were measured elsewhere.
@pytest.mark.parametrize(("name", "macs"), [("unet-31m", 48), ("fcn8s", 22), ("resunet++", 71), ("unet++", 135)])
def test_operations_are_those_known(name: str, macs: float) -> None:
    assert described(name)["gflop"] == pytest.approx(2 * macs, rel=0.03)


def test_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "networks.json"
    assert main(["networks", "unet", "unet-31m", "--json", str(file)]) == 0
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("| unet | U-Net | 7,765,985 | 7.77 M | 24.1 | 1 |")
    assert "31,031,745" in second
    assert head.count("|") == first.count("|") == second.count("|")
    rows = json.loads(file.read_text())
    assert [row["name"] for row in rows] == ["unet", "unet-31m"]
    assert main(["networks", "unet", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == rows[:1]
    assert main(["networks", "unett"]) == 2
    assert "Did you mean 'unet'" in capsys.readouterr().err


def test_a_missing_library_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "monai" or "attention_unet" in name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "monai", None)
    kept: dict[str, Any] = {name: NETWORKS[name] for name in ("unet", "attention-unet")}
    monkeypatch.setattr("pixelseg_agents.cli.networks.registered_networks", lambda: tuple(kept))
    assert main(["networks"]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert "7,765,985" in first
    assert 'pip install "pixelseg-agents[networks]"' in second
    assert main(["networks", "attention-unet"]) == 2
    assert main(["train", "--agent", "ac", "--network", "attention-unet", "--out", "never"]) == 2
    assert 'pip install "pixelseg-agents[networks]"' in capsys.readouterr().err
