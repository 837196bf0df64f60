"""Epochs: an environment's order is kept from update to update, though every update seeds it anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorWrapper

from pixelseg_agents import PA3C
from pixelseg_agents.learning.episodes import epoch_draw
from pixelseg_agents.registry import agent_class
from pixelseg_env import PixelSegVectorEnv
from tests.helpers.env import small_set

IMAGES, BATCH = 6, 4


class Watched(VectorWrapper[Any, Any, Any, Any]):
    """Notes which images each reset shows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(PixelSegVectorEnv(BATCH, small_set(IMAGES), horizon=1, **options))
        self.seen: list[int] = []

    def reset(self, **options: Any) -> Any:
        observation, infos = super().reset(**options)
        self.seen += infos["index"].tolist()
        return observation, infos


def agent(name: str, env: Any, seed: int = 0) -> Any:
    return agent_class(name)(env, seed=seed, device="cpu", width=0.03, horizons=(1,), horizon_shares=())


@pytest.mark.parametrize("name", ["pa3c", "dqn", "unet"])
def test_every_image_once_before_any_twice(name: str) -> None:
    env = Watched(order="shuffled")
    agent(name, env).learn(6)
    epochs = [env.seen[i : i + IMAGES] for i in range(0, 24, IMAGES)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(IMAGES))] * 4
    assert len(set(map(tuple, epochs))) > 1, "an order of each epoch"


@pytest.mark.parametrize("mode", ["Disabled", "SameStep"])
def test_a_resumed_training_goes_on_with_its_epoch(mode: str, tmp_path: Path) -> None:
    whole, first = (Watched(order="shuffled", autoreset_mode=mode) for _ in range(2))
    expected = agent("pa3c", whole).learn(6)
    began = agent("pa3c", first)
    began.learn(6, callback=lambda one: one.updates < 2)  # in the middle of an epoch
    second = Watched(order="shuffled", autoreset_mode=mode)
    resumed = PA3C.load(began.save(tmp_path / "a"), env=second, device="cpu").learn(6)
    assert first.seen + second.seen == whole.seen
    for one, other in zip(expected.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_other_orders() -> None:
    env = Watched(order="sequential")
    agent("pa3c", env).learn(3)
    assert env.seen == [*range(IMAGES), *range(IMAGES)]
    assert epoch_draw(PixelSegVectorEnv(BATCH, small_set(IMAGES)), 0, 0) is None
    seeds = [epoch_draw(Watched(order="shuffled"), 0, seed) for seed in range(8)]
    assert len({tuple(np.asarray(one).tolist()) for one in seeds}) > 1
    large = PixelSegVectorEnv(20, small_set(IMAGES), order="shuffled")
    drawn = epoch_draw(large, 4, 0)
    assert drawn is not None
    assert set(Counter(drawn[2:14].tolist()).values()) == {2}, "more images at once than there are"
