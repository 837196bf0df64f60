"""Losses of supervised agents: by their formulas, against MONAI's, over several heads."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor

from pixelseg_agents import Otsu, Supervised, SupervisedConfig, evaluate
from pixelseg_agents.learning.losses import LOSSES, cross_entropy, dice_loss, weighted_mean
from pixelseg_env import OptionError


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), (torch.rand(shape, generator=generator) < 0.3).float()


@pytest.mark.parametrize("labels", [1, 3])
def test_dice_is_monais(labels: int) -> None:
    logits, target = batch(4, labels, 8, 9)
    target[0] = 0  # an image without the object
    wanted = DiceLoss(sigmoid=True)(logits, target)
    ours = (logits, target) if labels > 1 else (logits[:, 0], target[:, 0])
    torch.testing.assert_close(dice_loss(*ours), wanted)


def test_dice_of_pixels_that_play() -> None:
    logits, target = batch(2, 6, 6)
    playing = torch.zeros(2, 6, 6)
    playing[:, :3] = 1
    torch.testing.assert_close(dice_loss(logits, target, None, playing), dice_loss(logits[:, :3], target[:, :3]))
    perfect = (target * 2 - 1) * 50
    assert dice_loss(perfect, target) < 1e-4
    assert dice_loss(-perfect, target) > 0.99
    assert dice_loss(torch.full((1, 4, 4), -200.0), torch.zeros(1, 4, 4)) == 0


def test_both_is_the_sum_and_weights_are_cross_entropys() -> None:
    logits, target = batch(2, 5, 5)
    weights = 1 + 3 * target
    both = LOSSES["both"](logits, target, weights, None)
    assert torch.equal(both, cross_entropy(logits, target, weights) + dice_loss(logits, target))
    assert LOSSES["dice"](logits, target, weights, None) == dice_loss(logits, target)
    assert torch.equal(
        LOSSES["cross-entropy"](logits, target, weights, None),
        F.binary_cross_entropy_with_logits(logits, target, weight=weights),
    )


def test_weighted_mean() -> None:
    values = [torch.tensor(value) for value in (1.0, 2.0, 4.0)]
    assert weighted_mean(values, (1, 0.5, 0.5)) == 2
    assert weighted_mean(values[:1], (0.3,)) is values[0]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        weighted_mean(values, (1, 2))


def phantoms(split: str) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=8, split=split, size=32, count=60, horizon=1)


def test_deep_supervision_trains_every_head_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Supervised(phantoms("train"), network="unet3+", width=1 / 16, device="cpu", augmentation=False)
    image, target = torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32)
    losses = [cross_entropy(one, target, torch.ones_like(one)) for one in agent._outputs(image)]
    assert len(losses) == 5
    monkeypatch.setattr(type(agent.network), "output_weights", (1.0, 0.0, 0.0, 0.0, 1.0))
    assert torch.isclose(weighted_mean(losses, agent._output_weights), (losses[0] + losses[4]) / 2)
    before = {name: value.clone() for name, value in agent.network.heads.named_parameters()}
    agent.learn(1)
    moved = {name[0] for name, value in agent.network.heads.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"0", "4"}


@pytest.mark.parametrize("loss", ["dice", "both"])
def test_each_loss_trains(loss: str) -> None:
    torch.set_num_threads(1)
    test = phantoms("test").unwrapped
    agent = Supervised(phantoms("train"), loss=loss, width=0.125, learning_rate=3e-3, seed=0, device="cpu").learn(30)
    found, otsu = (float(evaluate(one, test).metrics["DICE"].mean()) for one in (agent, Otsu()))
    assert found > otsu + 0.2
    assert agent.config.to_dict()["loss"] == loss


def test_settings() -> None:
    with pytest.raises(OptionError, match="'cross-entropy', 'dice', 'both'"):
        SupervisedConfig(loss="focal")  # type: ignore[arg-type]
    for weight in ({"foreground_weight": 3.0}, {"foreground_weight": None}, {"final_foreground_weight": 2.0}):
        with pytest.raises(OptionError, match="loss='dice'"):
            SupervisedConfig(loss="dice", **weight)  # type: ignore[arg-type]
        SupervisedConfig(loss="both", **weight)  # type: ignore[arg-type]
