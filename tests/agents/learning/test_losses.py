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
from pixelseg_agents.learning.losses import LOSSES, cross_entropy, dice_loss, losses_of_looks, weighted_mean
from pixelseg_agents.team import ALONE, Team
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


def test_cross_entropy_of_pixels_that_play_is_their_mean() -> None:
    logits, target = batch(2, 5, 5)
    weights, playing = 1 + 3 * target, torch.zeros(2, 5, 5)
    playing[:, 1:3] = 1
    plain = weights * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    found = cross_entropy(logits, target, weights, playing)
    torch.testing.assert_close(found, plain[:, 1:3].mean())
    torch.testing.assert_close(
        LOSSES["both"](logits, target, weights, playing), found + dice_loss(logits, target, None, playing)
    )
    one = torch.zeros_like(playing)
    one[0, 0, 0] = 1
    torch.testing.assert_close(cross_entropy(logits, target, weights, one), plain[0, 0, 0])
    assert cross_entropy(logits, target, weights, torch.zeros_like(playing)) == 0


class Half(Team):
    """One of two processes, which the other one's pixels are known to."""

    def total(self, value: Tensor) -> Tensor:
        return value.new_tensor(30)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("whole", [True, False])
def test_what_two_processes_find_adds_up_to_the_loss_of_all_images(name: str, whole: bool) -> None:
    logits, target = batch(4, 5, 5)
    playing = None if whole else torch.zeros(4, 5, 5)
    if playing is not None:
        playing[:3, :2] = 1
    arguments = [logits, target, 1 + 3 * target, playing]
    halves = [[None if a is None else a[part] for a in arguments] for part in (slice(2), slice(2, None))]
    found = sum(LOSSES[name](*half, team=Half(rank, 2)) for rank, half in enumerate(halves))
    torch.testing.assert_close(found, LOSSES[name](*arguments))


class Looks:
    """Episodes of four looks, in which a pixel that was found to be background plays no more."""

    def __init__(self, target: Tensor) -> None:
        self.foreground, self.playing, self.steps = target, torch.ones_like(target), 0

    @property
    def over(self) -> bool:
        return self.steps >= 4

    @property
    def observation(self) -> Tensor:
        return self.playing[:, None] * (self.steps + 1)

    def step(self, keep: Tensor) -> None:
        self.playing, self.steps = self.playing * keep, self.steps + 1


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("horizon", "count"), [(1, 1), (3, 3), (9, 4)])
def test_every_look_has_a_loss(horizon: int, count: int, whole: bool) -> None:
    scale, (_, target) = torch.randn(2, 6, 6), batch(2, 6, 6)
    scale[:, 0, 0] = 0  # neither likely nor unlikely is background
    seen: list[Tensor] = []

    def outputs_of(observation: Tensor) -> list[Tensor]:
        seen.append(observation)
        return [scale * observation[:, 0], observation[:, 0] - 1]

    options: dict[str, Any] = {"whole": whole, "loss": cross_entropy, "output_weights": (1.0, 0.5)}
    found = losses_of_looks(outputs_of, Looks(target), horizon, 3.0, **options)  # type: ignore[arg-type]
    assert len(found) == len(seen) == count
    weights = 1 + 2 * target
    for number, (loss, observation) in enumerate(zip(found, seen, strict=True)):
        playing = (scale > 0).float() if number else torch.ones_like(target)  # the first output decides
        assert torch.equal(observation[:, 0], playing * (number + 1))
        first, second = (
            cross_entropy(one, target, weights, None if whole else playing)
            for one in (scale * observation[:, 0], observation[:, 0] - 1)
        )
        torch.testing.assert_close(loss, (first + second / 2) / 1.5)


def test_a_loss_of_ones_own_hears_of_a_team_where_there_is_one() -> None:
    heard: list[Any] = []

    def own(logits: Tensor, target: Tensor, weights: Tensor, playing: Tensor | None, **options: Any) -> Tensor:
        heard.append(options)
        return logits.mean()

    target = batch(2, 6, 6)[1]
    for team in (ALONE, Half(1, 2)):
        options: dict[str, Any] = {"whole": True, "loss": own, "team": team}
        (loss,) = losses_of_looks(lambda seen: [2 * seen[:, 0]], Looks(target), 1, 1.0, **options)  # type: ignore[arg-type]
        assert loss == 2
    assert heard == [{}, {"team": Half(1, 2)}]


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
