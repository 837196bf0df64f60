"""All registered networks: counts, shapes, gradients, learning; and each agent on a network of another's."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixelseg_agents import AC, DQN, PA3C, DoubleDQN, DuelingDQN, Otsu, PixelRL, Supervised, evaluate, load_agent
from pixelseg_agents.checkpoint import CheckpointError
from pixelseg_agents.cli import main
from pixelseg_agents.cli.runs import open_run
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.networks import (
    ActorCriticHeads,
    QHeads,
    SegmentationNetwork,
    build_network,
    network_class,
    parameter_count,
    register_network,
    registered_networks,
)
from pixelseg_agents.networks.registry import NETWORKS
from pixelseg_env import OptionError, PixelSegError
from tests.helpers.figures import undrawn

# Parameters at width 1 of 3 channels and 1 label; the publication's millions stand at each class.
COUNTS = {
    "unet": 7_765_985,
    "unet-31m": 31_031_745,
    "fcn8s": 128_955_715,
    "attention-unet": 31_740_337,
    "resunet++": 14_482_564,
    "unet++": 47_176_132,
    "unet3+": 26_989_637,
    "nnunet": 33_461_829,
    "swin-unet": 27_168_132,
    "transunet": 105_322_001,
}
# Where the published count is another, by how much at most, and why.
DIFFER = {
    "attention-unet": 0.03,  # MONAI's gates
    "nnunet": 0.1,  # planned for other data
}
NARROW = 1 / 16
EVERY = pytest.mark.parametrize("name", COUNTS)
AGENTS = [PA3C, AC, DQN, DoubleDQN, DuelingDQN, Supervised]


def narrow(name: str, channels: int = 2, **options: Any) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_network(name, channels, NARROW, **options)


# ------------------------------------------------------------------------------------------------ the list


def test_every_registered_network_is_tested_here() -> None:
    assert tuple(COUNTS) == registered_networks()


@EVERY
def test_counts(name: str) -> None:
    with torch.device("meta"):
        found = parameter_count(build_network(name, 3))
    published = network_class(name).published
    assert found == COUNTS[name]
    assert published is not None
    # Published with two decimals, some of them cut off instead of rounded.
    assert abs(found / 1e6 - published) < max(0.045, published * DIFFER.get(name, 0))


@EVERY
@pytest.mark.parametrize(
    ("channels", "labels", "batch", "height", "width"),
    [(1, 1, 1, 5, 3), (2, 3, 2, 33, 47), (3, 1, 1, 40, 24), (4, 2, 1, 17, 65)],
)
def test_shapes(name: str, channels: int, labels: int, batch: int, height: int, width: int) -> None:
    kind, image = network_class(name), torch.rand(batch, channels, height, width)
    network = narrow(name, channels, labels=labels)
    with torch.no_grad():
        outputs, logits = network.outputs(image), network(image)
    assert [one.shape for one in outputs] == [(batch, labels, height, width)] * len(kind.output_weights)
    assert logits.shape == ((batch, height, width) if labels == 1 else (batch, labels, height, width))
    assert logits.isfinite().all()
    assert network.labels == labels


@EVERY
def test_the_smallest_image_is_as_stated(name: str) -> None:
    side = network_class(name).smallest
    network = narrow(name)
    assert network(torch.rand(1, 2, side, side)).shape == (1, side, side)
    if side > 1:
        with pytest.raises(OptionError, match=str(side)):
            network(torch.rand(1, 2, side - 1, side - 1))


def without_gradient(network: nn.Module, result: Tensor) -> list[str]:
    result.square().sum().backward()
    return [name for name, parameter in network.named_parameters() if parameter.grad is None]


@EVERY
@pytest.mark.parametrize("labels", [0, 2])
def test_no_parameter_is_unused(name: str, labels: int) -> None:
    network, image = narrow(name, labels=labels), torch.rand(2, 2, 32, 32)
    if labels == 0:
        features = network.decode(image)
        assert features.shape == (2, network.features, 32, 32)
        assert without_gradient(network, features) == []
    else:
        assert without_gradient(network, torch.stack(network.outputs(image))) == []


def test_a_parameter_that_is_unused_would_be_found() -> None:
    network = narrow("unet")  # with a head that `decode` does not use
    assert without_gradient(network, network.decode(torch.rand(1, 2, 16, 16))) == ["output.weight", "output.bias"]


# ------------------------------------------------------------------------------------------------ learning


def phantoms(split: str) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=8, split=split, size=32, count=100, horizon=1)


@pytest.fixture(scope="module")
def sets() -> tuple[Any, Any]:
    return phantoms("train"), phantoms("test").unwrapped


def score(agent: Any, env: Any) -> float:
    return float(evaluate(agent, env).metrics["DICE"].mean())


class Idle(Supervised):
    """The optimizer never steps."""

    def _descend(self, loss: Tensor) -> float:
        return 0.0


# As much as each needs, at a width at which it is cheap: width, learning rate, updates.
LEARNING: dict[str, tuple[float, float, int]] = {
    "unet": (1 / 16, 5e-3, 20),
    "unet-31m": (1 / 16, 5e-3, 30),
    "fcn8s": (1 / 16, 5e-3, 40),
    "attention-unet": (1 / 16, 5e-3, 20),
    "resunet++": (1 / 16, 5e-3, 45),
    "unet++": (1 / 8, 3e-3, 25),
    "unet3+": (1 / 8, 3e-3, 15),
    "nnunet": (1 / 8, 1e-2, 40),
    "swin-unet": (1 / 8, 3e-3, 30),
    "transunet": (1 / 8, 3e-3, 20),
}


# Kin of the U-Net and of FCN-8s, which are in every run of the tests. The others learn an image by heart in each.
KIN = {"unet-31m", "attention-unet", "resunet++", "unet++", "unet3+", "transunet", "swin-unet", "nnunet"}


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one in KIN)) for one in COUNTS])
def test_each_learns_what_thresholding_cannot_and_a_broken_one_does_not(name: str, sets: tuple[Any, Any]) -> None:
    torch.set_num_threads(1)
    train, test = sets
    bar = score(Otsu(), test) + 0.15
    width, rate, updates = LEARNING[name]
    options: dict[str, Any] = {"width": width, "learning_rate": rate, "loss": "both", "seed": 0, "device": "cpu"}
    idle = Idle(train, network=name, **options).learn(1)  # as after any number of updates
    assert score(idle, test) < bar
    learnt = score(Supervised(train, network=name, **options).learn(updates), test)
    print(f"{name}: {learnt:.3f}, bar {bar:.3f}")
    assert learnt > bar


# ------------------------------------------------------------------------------------------------ under agents


def small_env(**options: Any) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=20, **options)


def half(images: Any) -> Any:
    return np.full((len(images), 16, 16), 0.5, np.float32)


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.network.state_dict().items(), other.network.state_dict().items(), strict=True)
    return all(name == second and torch.equal(a, b) for (name, a), (second, b) in pairs)


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("kind", AGENTS)
def test_every_agent_trains_and_loads_on_a_network_of_anothers(kind: Any, labels: int, tmp_path: Path) -> None:
    name = "unet" if labels == 2 else "attention-unet"
    env = small_env(labels=labels)
    quick = {"learning_starts": 2, "replay_size": 20} if issubclass(kind, DQN) else {}
    agent = kind(env, network=name, width=NARROW, device="cpu", **quick)
    before = {key: value.clone() for key, value in agent.network.state_dict().items()}
    agent.learn(2)
    moved = [key for key, value in agent.network.state_dict().items() if not torch.equal(value, before[key])]
    assert len(moved) > 0.7 * len(before)
    loaded = load_agent(agent.save(tmp_path / "agent"), env=env, device="cpu")
    assert loaded.config.network == name
    assert network_class(name).label in loaded.title
    assert same(agent, loaded)
    observation = env.reset(seed=1)[0]
    assert np.array_equal(agent.predict(observation)[0], loaded.predict(observation)[0])
    assert same(agent.learn(3), loaded.learn(3)) or issubclass(kind, DQN)  # whose replay starts anew


def test_pixelrl_on_a_network_of_anothers(tmp_path: Path) -> None:
    env = small_env(transition="additive", observation="stacked", start=half)
    agent = PixelRL(env, network="unet", width=NARROW, device="cpu").learn(1)
    assert agent.network(torch.rand(2, agent.channels, 16, 16))[0].shape == (2, 8, 16, 16)
    assert same(agent, load_agent(agent.save(tmp_path / "agent"), device="cpu"))


@pytest.mark.parametrize("name", ["unet", "unet++"])
def test_heads(name: str) -> None:
    image = torch.rand(2, 2, 17, 20)
    torch.manual_seed(1)
    heads = ActorCriticHeads(narrow(name, labels=0), labels=3, start_bias=4.0)
    logits, values = heads(image)
    assert logits.shape == values.shape == (2, 3, 17, 20)
    assert without_gradient(heads, logits + values) == []
    with torch.no_grad():
        heads.policy.bias -= 4.0  # type: ignore[operator]
        torch.testing.assert_close(heads(image)[0] + 4, logits)
    logits, values = ActorCriticHeads(narrow(name, labels=0), actions=8)(image)
    assert (logits.shape, values.shape) == ((2, 8, 17, 20), (2, 17, 20))
    for dueling in (False, True):
        assert QHeads(narrow(name, labels=0), dueling=dueling)(image).shape == (2, 2, 17, 20)
        assert QHeads(narrow(name, labels=0), dueling=dueling, labels=3)(image).shape == (2, 2, 3, 17, 20)


class Silent(SegmentationNetwork):
    """Features that a ReLU has left at 0 in the left half."""

    label = source = "test"

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.features, self.labels = 4, labels

    def decode(self, observation: Tensor) -> Tensor:
        features = torch.ones(1, 4, 2, 4)
        features[..., :2] = 0
        return features

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return [self.decode(observation)[:, : self.labels]]


def test_where_all_features_are_silent_every_weight_of_a_head_moves_the_logit() -> None:
    heads = ActorCriticHeads(Silent(labels=0))
    heads(torch.zeros(1, 3, 2, 4))[0][0, 0, 0].backward()
    assert heads.policy.weight.grad is not None
    assert (heads.policy.weight.grad.abs() > 0.5).all()
    assert (heads.policy(Silent(labels=0).decode(torch.zeros(1)))[0, 0, 0, 0] == heads.policy.bias).all(), "can fail"


def test_options_of_pa3cs_own_network_are_refused_beside_another() -> None:
    for changed in ({"sam": False}, {"dilation": False}, {"blocks": 3}, {"head_stride": 2}, {"detail": False}):
        with pytest.raises(OptionError, match=next(iter(changed))):
            PA3CConfig(network="unet", **changed)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match=next(iter(changed))):
            PA3CConfig(network="unet").replace(**changed)
    published = PA3CConfig.published().replace(network="unet")  # whose detail=False the user has not asked for
    assert (published.detail, published.norm, published.horizons) == (True, "none", (10,))
    assert published == PA3CConfig.published(network="unet")
    with pytest.raises(OptionError, match="detail"):
        PA3CConfig.published().replace(network="unet", detail=False)
    for wrong in ("", 3):
        with pytest.raises(OptionError, match="registered network"):
            PA3CConfig(network=wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ others' networks


class Tiny(SegmentationNetwork):
    """One layer, two heads."""

    label, source, output_weights = "Tiny", "test", (1.0, 0.5)

    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__()
        self.features, self.labels = 4, labels
        self.layer = nn.Conv2d(channels, 4, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(4, labels, 1) for _ in range(2) if labels)

    def decode(self, observation: Tensor) -> Tensor:
        features: Tensor = self.layer(observation).relu()
        return features

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return [head(self.decode(observation)) for head in self.heads]


class Half(Tiny):
    """Half the resolution."""

    def decode(self, observation: Tensor) -> Tensor:
        return super().decode(observation)[..., ::2, ::2]


class Fewer(Tiny):
    """Fewer channels than it says."""

    def decode(self, observation: Tensor) -> Tensor:
        return super().decode(observation)[:, :3]

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return [self.decode(observation)] * 2


class NotANumber(Tiny):
    """NaN in one pixel."""

    def decode(self, observation: Tensor) -> Tensor:
        features = super().decode(observation)
        return features.masked_fill(torch.eye(*features.shape[-2:], dtype=torch.bool), torch.nan)


class NoDecode(SegmentationNetwork):
    label = source = "test"

    def outputs(self, observation: Tensor) -> list[Tensor]:
        return []


class NoLabel(Tiny):
    """No constructor for labels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)


class NoFeatures(Tiny):
    def __init__(self, channels: int = 3, width: float = 1.0, *, norm: str = "group", labels: int = 1) -> None:
        super().__init__(channels, width, norm=norm, labels=labels)
        del self.features


class Plain(nn.Conv2d):
    """A module that has nothing of the contract."""


def test_a_network_is_registered() -> None:
    register_network("tiny", Tiny)
    try:
        assert network_class("tiny") is Tiny
        assert Supervised(small_env(), network="tiny", device="cpu").learn(1).title == "Tiny, supervised"
        for wrong, said in ((("tiny", Tiny), "registered already"), (("a:b", Tiny), "colon"), (("", Tiny), "name")):
            with pytest.raises(OptionError, match=said):
                register_network(*wrong)
        register_network("tiny", Tiny, overwrite=True)
    finally:
        del NETWORKS["tiny"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NoDecode, r"lacks decode\(\)"),
        (NoLabel, r"has to take \(channels, width"),
        (Plain, "lacks label, source, published.*decode.*outputs"),
        (dict, "expected a torch.nn.Module"),
        (len, "expected a torch.nn.Module"),
    ],
)
def test_what_a_class_lacks_is_said(kind: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        register_network("mine", kind)


def test_what_only_its_making_shows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "mine", NoFeatures)
    with pytest.raises(OptionError, match="`features`"):
        build_network("mine", 3)
    with pytest.raises(OptionError, match="Did you mean 'unet3\\+'"):
        build_network("unet3", 3)


@pytest.mark.parametrize("library", ["monai", "einops"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "attention-unet", f"needs_{library}:Any")
    monkeypatch.setattr(sys, "meta_path", [Missing(library), *sys.meta_path])
    with pytest.raises(OptionError, match=rf'needs {library}.*pip install "pixelseg-agents\[networks\]"'):
        network_class("attention-unet")


class Missing:
    """Modules that ask for a library which is not there."""

    def __init__(self, library: str) -> None:
        self.library = library

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == f"needs_{self.library}":
            raise ModuleNotFoundError(f"No module named '{self.library}.x'", name=f"{self.library}.x")


# ------------------------------------------------------------------------------------------------ command line

PLUGIN = Path(__file__).read_text(encoding="utf-8")
PLUGIN = (
    "from torch import Tensor, nn\nfrom pixelseg_agents.networks import SegmentationNetwork\n\n\n"
    + PLUGIN[PLUGIN.index("class Tiny(") : PLUGIN.index("class NoDecode(")]
)
TRAIN = [
    "train", "--network", "own_net:Tiny", "--updates", "2", "--size", "16", "--batch", "2", "--eval-every", "0",
    "--dataset-option", "count=20", "--log", "none", "--preset", "whole",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a network of the reader's own."""
    (tmp_path / "own_net.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    yield tmp_path
    sys.modules.pop("own_net", None)


@undrawn()
def test_a_run_with_somebodys_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--agent", "pa3c", "--out", "run"]) == 0
    assert "PA3C, on Tiny" in capsys.readouterr().out
    # A run's own configuration names it, as it does an agent of somebody's.
    sys.modules.pop("own_net")
    assert open_run(Path("run")).load_agent().title == "PA3C, on Tiny"
    # A file alone does not have anything imported.
    sys.modules.pop("own_net")
    file = Path(shutil.copy("run/checkpoint.safetensors", "alone.safetensors"))
    with pytest.raises(CheckpointError, match="network='own_net:Tiny'"):
        load_agent(file)
    assert "own_net" not in sys.modules
    capsys.readouterr()
    options = ["--split", "val", "--dataset", "phantom", "--size", "16", "--dataset-option", "count=20"]
    assert main(["evaluate", str(file), *options]) == 2
    assert "put the run's config.json beside the file" in capsys.readouterr().err
    (folder / "copy").mkdir()
    for name in ("checkpoint.safetensors", "config.json"):  # as it says
        shutil.copy(f"run/{name}", f"copy/{name}")
    assert main(["evaluate", "copy/checkpoint.safetensors", *options]) == 0
    sys.modules.pop("own_net")
    assert load_agent(file, network="own_net:Tiny").title == "PA3C, on Tiny"
    assert load_agent(file).config.network == "own_net:Tiny", "it is imported now"
    sys.modules.pop("own_net")
    (folder / "own_net.py").unlink()
    for words in (["evaluate", "run"], ["train", "--resume", "run", "--updates", "9"]):
        capsys.readouterr()
        assert main(words) == 2
        assert "its network cannot be had" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["supervised", "pa3c", "ac", "dueling-dqn"])
def test_networks_that_break_the_contract_are_named(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, said in (
        (Half, r"test_registry:Half: (decode|forward)\(\) returned shape .*8, 8\), expected .*16, 16\)"),
        (Fewer, r"test_registry:Fewer: (decode|outputs|forward)\(\) returned shape .*3, 16, 16\), expected \(2, "),
        (NotANumber, "its network gives numbers that are not finite"),
    ):
        if (kind, agent) == (Fewer, "supervised"):
            continue  # its own heads are its own matter
        monkeypatch.setitem(NETWORKS, "mine", kind)
        words = list(TRAIN)
        words[words.index("own_net:Tiny")] = "mine"
        assert main([*words, "--agent", agent, "--out", str(tmp_path / "run")]) == 2
        assert re.search(said, capsys.readouterr().err)
        assert not (tmp_path / "run").exists()


def test_a_trained_network_of_which_a_number_is_not_finite_decides_nothing() -> None:
    env = small_env()
    agent = DQN(env, network="unet", width=NARROW, device="cpu")
    observation = env.reset(seed=0)[0]
    agent.predict(observation)
    with torch.no_grad():
        next(agent.network.parameters()).fill_(torch.nan)
    with pytest.raises(PixelSegError, match=r"DQN, on U-Net: .*not finite"):
        agent.predict(observation)


def test_wrong_networks_leave_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (
        ("own_net:Nobody", "has no 'Nobody'"),
        ("no_such:Net", "cannot be imported"),
        ("unet3", "Did you mean 'unet3+'"),
        ("own_net:nn.Conv2d", "lacks"),
    ):
        words = list(TRAIN)
        words[words.index("own_net:Tiny")] = name
        assert main([*words, "--out", "run"]) == 2
        assert said in capsys.readouterr().err
        assert not (folder / "run").exists()
