"""A file of an agent gives the masks that the agent gives, in onnxruntime, for any number and size of images."""

from __future__ import annotations

import json
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelseg_agents import (
    PA3C,
    KeepAll,
    SegmentationNetwork,
    Supervised,
    agent_class,
    export,
    export_onnx,
    registered_agents,
)
from pixelseg_agents.cli import main
from pixelseg_agents.cli.export import preparation
from pixelseg_agents.evaluation import play
from pixelseg_agents.export import ExportError
from pixelseg_agents.learning.looking import WHOLE
from pixelseg_agents.networks import registered_networks
from pixelseg_env import OptionError, PixelSegVectorEnv, SegmentationDataset, load_dataset
from pixelseg_env.dynamics import OBSERVATIONS, TRANSITIONS
from tests.helpers.cli import train_tiny

ModelProto = pytest.importorskip("onnx", reason='needs the extra: pip install "pixelseg-agents[onnx]"').ModelProto
onnxruntime = pytest.importorskip("onnxruntime", reason='needs the extra: pip install "pixelseg-agents[onnx]"')

SMALL = {"width": 0.03, "device": "cpu", "seed": 3}
LARGE = ("swin-unet", "transunet")  # thousands of nodes: 5 and more seconds each
KIN = (
    "unet-31m",
    "unet++",
    "unet3+",
    "attention-unet",
    "resunet++",
    "double-dqn",
    "amp-drl",
)  # do nothing that their next of kin do not


def environment(count: int = 2, size: Any = 16, labels: int = 1, horizon: int = 3, **rules: Any) -> PixelSegVectorEnv:
    """Phantoms."""
    dataset = load_dataset("phantom", split="all", size=size, count=max(count, 2), labels=labels)
    return PixelSegVectorEnv(count, dataset, split="all", horizon=horizon, **rules)


def played(agent: Any, env: PixelSegVectorEnv, horizon: int) -> NDArray[np.uint8]:
    *_, (_, _, _, info) = play(agent, env, horizon)
    return np.asarray(info["segmentation"])


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would wait in busy loops
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def masks(path: Path, images: Any) -> NDArray[np.uint8]:
    floats = images.astype(np.float32) / np.float32(255)
    return np.asarray(session(path).run(["mask"], {"image": floats})[0])


CLOSER = "closer(side=16, smallest=12, border=1, context=True)"
TASKS = [(*task, *more, WHOLE) for task in product(TRANSITIONS, OBSERVATIONS) for more in ((False, 1), (True, 2))]
TASKS += [
    ("absorbing", "stacked", True, 1, CLOSER),
    ("restorable", "masked", False, 2, "closer(side=16, smallest=6, border=1, windows=2)"),
]


@pytest.mark.parametrize(("transition", "observation", "observe_time", "labels", "look"), TASKS)
def test_masks_are_those_of_the_environments_episode(
    transition: str, observation: str, observe_time: bool, labels: int, look: str, tmp_path: Path
) -> None:
    """Of a batch and a size that it was not traced at, after steps that differ from each other."""
    rules: dict[str, Any] = {"transition": transition, "observation": observation, "observe_time": observe_time}
    env = environment(labels=labels, **rules)
    agent = PA3C(env, look=look, blocks=2, sam=False, horizons=(1,), **SMALL).learn(2)
    with torch.no_grad():  # so that steps differ: what is left of the image and of the time decides
        for head in agent.network.policy.modules():
            if isinstance(head, nn.Conv2d):
                head.weight.mul_(1.5)
    done = export_onnx(agent, tmp_path / "model.onnx", 3)
    assert (done.size, done.differing) == (None, 0)
    env = environment(3, (37, 53), labels, **rules)
    wanted = played(agent, env, 3)
    found = masks(done.path, env.dataset.images)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted.mean() < 1


class Fading(nn.Module):
    """A policy that keeps what is brighter than the mean of what is left."""

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        seen = observation[:, 0]
        kept = (seen > 0).sum(dim=(1, 2), keepdim=True).clamp_min(1)
        logits = seen - seen.sum(dim=(1, 2), keepdim=True) / kept
        return logits, logits


def test_the_loop_ends_with_the_horizon_or_where_nothing_changes(tmp_path: Path) -> None:
    agent = PA3C(environment(), **SMALL)
    agent.parts["network"] = Fading()
    env = environment(3, (37, 53))
    found = []
    for horizon in (1, 3, 100):
        export_onnx(agent, tmp_path / "model.onnx", horizon, overwrite=True)
        found.append(masks(tmp_path / "model.onnx", env.dataset.images))
        np.testing.assert_array_equal(found[-1], played(agent, environment(3, (37, 53), horizon=horizon), horizon))
        assert ("Loop" in {node.op_type for node in _nodes(tmp_path / "model.onnx")}) == (horizon > 1)
    sums = [int(one.sum()) for one in found]
    assert sums[0] > sums[1] > sums[2]


class Late(nn.Module):
    """A policy that removes what is dark at the last step, and nothing before."""

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        seen, left = observation[:, 0], observation[:, -1]
        logits = torch.where(left > 0.9, seen - 0.5, torch.ones_like(seen))
        return logits, logits


def test_the_loop_goes_on_after_a_step_without_change_where_time_is_observed(tmp_path: Path) -> None:
    agent = PA3C(environment(observe_time=True), **SMALL)
    agent.parts["network"] = Late()
    env = environment(3, (37, 53), observe_time=True)
    *first, last = (info["segmentation"] for *_, info in play(agent, env, 3))
    assert all(one.all() for one in first)
    assert 0 < last.mean() < 1
    export_onnx(agent, tmp_path / "model.onnx", 3)
    np.testing.assert_array_equal(masks(tmp_path / "model.onnx", env.dataset.images), last)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in KIN)) for n in registered_agents()])
def test_every_agent_is_exported(name: str, tmp_path: Path) -> None:
    rules = {"transition": "additive", "observation": "stacked"} if name == "pixelrl" else {}
    agent = agent_class(name)(environment(**rules), **SMALL)
    done = export_onnx(agent, tmp_path / "model.onnx", 2)
    env = environment(3, (37, 53), horizon=2, **rules)
    # A pixel that round-off decides leads to some others at the next step, on one processor and not on another.
    assert np.mean(masks(done.path, env.dataset.images) != played(agent, env, 2)) < 0.01
    kinds = {node.op_type for node in _nodes(done.path)}
    assert not {one for one in kinds if one.startswith("Random")}, "the decision is the likeliest"


def _nodes(path: Path) -> Any:
    import onnx

    graphs = [onnx.load(path).graph]
    while graphs:
        for node in graphs.pop().node:
            yield node
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def test_first_maps_of_a_supervised_network_are_in_the_file(tmp_path: Path) -> None:
    coarse = Supervised(environment(), **SMALL)
    rules = {"transition": "additive", "observation": "stacked", "start": coarse.probability}
    agent = agent_class("pixelrl")(environment(**rules), **SMALL)
    done = export_onnx(agent, tmp_path / "model.onnx", 2, start=coarse)
    env = environment(3, (37, 53), horizon=2, **rules)
    np.testing.assert_array_equal(masks(done.path, env.dataset.images), played(agent, env, 2))
    with pytest.raises(OptionError, match="expected a supervised agent, got PixelRL"):
        export_onnx(agent, tmp_path / "other.onnx", 2, start=agent)
    with pytest.raises(OptionError, match="need transition='additive'"):
        export_onnx(coarse, tmp_path / "other.onnx", 2, start=coarse)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE + KIN)) for n in registered_networks()]
)
def test_every_network_is_exported(name: str, tmp_path: Path) -> None:
    """For any batch, and for any size but those whose attention is traced for one."""
    if name in (*LARGE, "attention-unet", "nnunet"):
        pytest.importorskip("monai")
    agent = Supervised(environment(), network=name, **SMALL)
    done = export_onnx(agent, tmp_path / "model.onnx", 1, size=(24, 40))
    assert done.size == ((24, 40) if name in LARGE else None)
    for size in ((24, 40), (1, 3), (37, 53))[: 1 if name in LARGE else 3]:
        images = np.random.default_rng(0).integers(0, 256, (3, 1, *size)).astype(np.uint8)
        noise = SegmentationDataset.from_arrays(images, np.ones((3, *size), np.uint8))
        env = PixelSegVectorEnv(3, noise, split="all", horizon=1)
        wanted = played(agent, env, 1)
        wrong = np.count_nonzero(masks(done.path, env.dataset.images) != wanted)
        assert wrong <= 1e-3 * wanted.size, size


class LooksAtTheSize(SegmentationNetwork):
    """What a graph that was traced cannot know: another function in small images."""

    label, source, features = "Size", "tests", 1

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        self.layer = nn.Conv2d(channels, 1, 1)

    def decode(self, observation: Tensor) -> Tensor:
        features: Tensor = self.layer(observation) - 0.3
        return features if observation.shape[-1] > 60 else -features

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return [self.decode(observation)]


class Unknown(LooksAtTheSize):
    """An operator that ONNX has not."""

    def decode(self, observation: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(self.layer(observation)[..., :16, :16])


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    return "own_networks"


def test_a_network_that_cannot_be_traced_for_any_size_gets_the_size_trained_on(own: str, tmp_path: Path) -> None:
    agent = Supervised(environment(), network=f"{own}:LooksAtTheSize", **SMALL)
    with pytest.raises(ExportError, match="cannot be written for images of any size"):
        export_onnx(agent, tmp_path / "model.onnx", 1)
    assert not list(tmp_path.iterdir())
    done = export_onnx(agent, tmp_path / "model.onnx", 1, size=16)
    assert done.size == (16, 16)
    assert "other masks than the agent" in done.why
    env = environment(3, 16, horizon=1)
    np.testing.assert_array_equal(masks(done.path, env.dataset.images), played(agent, env, 1))
    assert session(done.path).get_modelmeta().custom_metadata_map["size"] == "16x16"


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    own: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Supervised(environment(), network=f"{own}:Unknown", **SMALL)
    with pytest.raises(ExportError, match=r"U-Net, supervised: cannot be written as ONNX .*matrix_exp"):
        export_onnx(agent, tmp_path / "model.onnx", 1, size=16)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(agent, "device", torch.device("cuda"))
    with pytest.raises(ExportError, match=r'is on cuda; export what load\(..., device="cpu"\) gives'):
        export_onnx(agent, tmp_path / "model.onnx", 1)
    with pytest.raises(ExportError, match="keep everything: has no network in PyTorch"):
        export_onnx(KeepAll(), tmp_path / "model.onnx", 1)
    for path in ("model.pt", "model"):
        with pytest.raises(OptionError, match=r"expected a file that ends in \.onnx"):
            export_onnx(agent, tmp_path / path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("own", "wrong", "first", "accepted"),
    [(100, 300, 0, True), (100, 500, 0, False), (0, 20, 0, False), (100, 300, 50, False)],
)
def test_round_off_is_told_from_a_file_that_does_something_else(
    own: int, wrong: int, first: int, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the last digit of an image does to the agent's own masks, and by its first step."""
    images = np.full((1, 1, 40, 100), 0.5, np.float32)

    def flipped(count: int) -> NDArray[np.uint8]:
        return (np.arange(4000) < count).astype(np.uint8).reshape(1, 40, 100)

    def plays(agent: Any, start: Any, horizon: int, seen: NDArray[np.float32]) -> NDArray[np.uint8]:
        return flipped(own if horizon > 1 and (seen > images).any() else 0)

    monkeypatch.setattr(export, "_played", plays)
    monkeypatch.setattr(export, "_model", lambda *_: ModelProto())
    monkeypatch.setattr(export, "_runner", lambda _: lambda _: flipped(first))
    assert export._round_off(None, None, 5, None, images, flipped(0), wrong) is accepted


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_the_libraries_it_says_what_to_install(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = PA3C(environment(), **SMALL)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExportError, match=r'pip install "pixelseg-agents\[onnx\]"'):
        export_onnx(agent, tmp_path / "model.onnx", 1)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train_tiny(out, "--observe-time", updates=5) == 0
    return out


def test_the_command_writes_a_file_that_says_what_it_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "model.onnx"
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["export", str(run), str(path)]) == 0
    said = capsys.readouterr()
    assert "same masks in onnxruntime" in said.out
    assert "PA3C, 2 step(s), for images of any size" in said.out
    assert said.err == ""
    facts = session(path).get_modelmeta().custom_metadata_map
    assert (facts["agent"], facts["transition"], facts["observation"]) == ("PA3C", "absorbing", "masked")
    assert (facts["horizon"], facts["channels"], facts["trained_size"]) == ("2", "1", "16x16")
    assert (json.loads(facts["label_names"]), json.loads(facts["observe_time"])) == (["object"], True)
    assert (facts["dataset"], json.loads(facts["dataset_options"])) == ("phantom", {"count": 12})
    assert facts["prepare"] == preparation("phantom", {}, 1, (16, 16))
    assert {"torch", "pixelseg-agents"} <= json.loads(facts["versions"]).keys()


def test_a_file_is_replaced_only_when_asked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"mine")
    assert main(["export", str(run), str(path)]) == 2
    assert "exists; choose another file, or allow to replace it (--overwrite" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"
    assert main(["export", str(run), str(path), "--overwrite", "--checkpoint", "best", "--horizon", "1"]) == 0
    facts = session(path).get_modelmeta().custom_metadata_map
    assert (facts["horizon"], facts["checkpoint"]) == ("1", "best")
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["otsu", "m.onnx"], "otsu: a reference, which has no network"),
        (["nowhere", "m.onnx"], "nowhere: no such run"),
        ([".", "m.onnx"], "not a run folder"),
        (["RUN", "m.pth"], "m.pth: expected a file that ends in .onnx"),
        (["RUN", "folder.onnx"], "folder.onnx: is a folder"),
        (["RUN", "m.onnx", "--horizon", "0"], "horizon"),
    ],
)
def test_wrong_input_is_named(
    words: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    capsys.readouterr()
    assert main(["export", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_run_whose_network_is_gone_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    config["arguments"]["hyper"]["network"] = "gone_module:Net"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    assert main(["export", str(tmp_path), str(tmp_path / "m.onnx")]) == 2
    assert "its network cannot be had" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("folder", {"white": 1023}, 3, (8, 9)), ("red, green, blue", "1023, cut at 1", "resized to 8x9")),
        (("brain", {"fit": "crop"}, 1, (8, 8)), ("grey", "255", "around the centre to 8x8")),
        (
            ("brain", {"scaling": "percentiles"}, 3, None),
            ("each channel", "0.5th percentile", "all images of the case"),
        ),
        (("nifti", {}, 2, None), ("0.5th percentile",)),
        (("mine:load", {}, 2, None), ("as data set mine:load reads its files",)),
    ],
)
def test_how_images_are_prepared_is_said(arguments: tuple[Any, ...], words: tuple[str, ...]) -> None:
    said = preparation(*arguments)
    assert all(word in said for word in words), said
