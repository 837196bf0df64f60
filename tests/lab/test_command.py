"""`pixelseg lab`: what it makes of its arguments, before anything is served."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pixelseg_agents import PA3C
from pixelseg_agents.cli.lab import MOST_IMAGES, LabArguments, made_host
from pixelseg_agents.cli.lab import main as lab
from pixelseg_agents.lab.serving import serve
from pixelseg_agents.lab.visitors import Visitors
from pixelseg_env import OptionError, PixelSegVectorEnv, load_dataset, registered_rewards


def test_by_itself_it_shows_phantoms_on_this_machine_alone() -> None:
    arguments = LabArguments(size=16)
    host = made_host(arguments)
    assert arguments.host == "127.0.0.1"
    assert list(host.datasets) == ["Phantoms"]
    assert host.datasets["Phantoms"].image_shape == (1, 16, 16)
    assert set(host.rewards) == set(registered_rewards())


def test_another_data_set_comes_first_and_is_not_shown_whole() -> None:
    arguments = LabArguments(size=16, dataset_option=("count=300",), split="all")
    host = made_host(arguments)
    assert len(next(iter(host.datasets.values()))) == MOST_IMAGES


def test_a_run_acts_and_its_checkpoint_alone_does_too(tmp_path: Path) -> None:
    data = load_dataset("phantom", split="all", size=16, count=2)
    PA3C(PixelSegVectorEnv(1, data), width=0.03, device="cpu").save(tmp_path / "mine.safetensors")
    host = made_host(LabArguments(size=16, runs=(tmp_path / "mine.safetensors",)))
    visitor = Visitors(host).of("a")
    visitor.who = "run 0"
    assert visitor.actors()["run 0"] == "Run mine.safetensors"
    visitor.session.act(visitor.actor())
    assert visitor.session.at == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--size", "8"], "--size 8: expected 16 to 128"),
        (["--port", "99999"], "--port"),
        (["--reward", "squared_error"], "module:name"),
        (["--reward", "no_such_module:bonus"], "no_such_module"),
        (["no/such/run"], "no such run"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_served(words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + told):
        lab(["--size", "16", *words] if "--size" not in words else words)


@pytest.mark.parametrize("package", ["gradio", "plotly"])
def test_without_the_extra_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == package else True if name in ("gradio", "plotly") else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(OptionError, match=rf"needs {package}.*pixelseg-agents\[lab\]"):
        serve(made_host(LabArguments(size=16)))
