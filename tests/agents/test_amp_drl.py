"""AMP-DRL: boxes are where they should be, the masking agent learns what it is paid for, and fine-tuning works."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import KVWriter, Logger
from torch import Tensor

from pixelseg_agents import load_agent
from pixelseg_agents.amp_drl import AMPDRL
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.learning.masking import Boxes, MaskReplay
from pixelseg_agents.networks import parameter_count
from pixelseg_agents.networks.unet import UNet31M
from pixelseg_agents.references import Otsu
from pixelseg_env import OptionError

UPDATES = 190
SMALL = {"width": 0.0625, "learning_rate": 3e-3, "device": "cpu", "seed": 0}


def phantoms(split: str, num_envs: int = 8, size: int = 16) -> Any:
    return gym.make_vec("PixelSegEnv-v0", num_envs=num_envs, split=split, size=size, count=100)


@given(
    grid=st.integers(1, 6),
    share=st.floats(0.05, 1.0),
    height=st.integers(6, 40),
    width=st.integers(6, 40),
    data=st.data(),
)
def test_a_box_is_a_rectangle_around_its_cell(grid: int, share: float, height: int, width: int, data: Any) -> None:
    boxes = Boxes(grid, (share, 1.0))
    assert len(boxes) == 2 * grid**2
    place = data.draw(st.integers(0, grid**2 - 1))
    mask = boxes.masks(torch.tensor([place, place + grid**2]), height, width)
    rows, columns = (mask[0].amax(dim=axis) for axis in (1, 0))
    assert torch.equal(mask[0], rows[:, None] * columns[None]), "a rectangle"
    for line, side, cell in ((rows, height, place // grid), (columns, width, place % grid)):
        inside = torch.nonzero(line)[:, 0]
        assert len(inside) == inside[-1] - inside[0] + 1, "without gaps"
        assert 1 <= len(inside) <= share * side + 2
        centre = (cell + 0.5) / grid * side
        assert inside[0] - 0.5 <= centre <= inside[-1] + 1.5, "around the centre of the cell"
    assert (mask[1] >= mask[0]).all(), "the larger box holds the smaller one"


def test_the_replay_gives_back_what_was_put_in() -> None:
    replay = MaskReplay(4, 2)
    for first in (0, 3):
        index = np.arange(first, first + 3)
        replay.add(index, torch.stack([torch.from_numpy(10 * index + k) for k in (0, 1)], 1), torch.ones(3, 2) * first)
    assert len(replay) == 4
    index, chosen, reward, step = replay.sample(50, torch.Generator().manual_seed(0))
    assert set(index) == {2, 3, 4, 5}, "the oldest have given way"
    assert (chosen[:, 0].numpy() == 10 * index).all()
    assert ((reward[:, 0] == 3).numpy() == (index >= 3)).all()
    assert set(step.tolist()) == {0, 1}


class Corner(AMPDRL):
    """Only the upper left quarter is hard to reconstruct, whatever the network does."""

    def _reconstruct(self, observation: Tensor, image: Tensor, hidden: Tensor) -> Tensor:
        error = torch.zeros_like(hidden)
        error[:, : error.shape[1] // 2, : error.shape[2] // 2] = 1.0
        return error


@pytest.mark.parametrize("mask_reward", ["hard", "easy"])
def test_the_masking_agent_learns_what_it_is_paid_for(mask_reward: str) -> None:
    options = {"mask_reward": mask_reward, "grid": 2, "sizes": (0.5,), "boxes": 1, "mask_target_update": 10}
    agent = Corner(phantoms("train"), pretraining_share=0.99, **options, **SMALL).learn(40)
    image = torch.from_numpy(phantoms("test").reset(seed=0)[0])
    best = agent._values(image, torch.zeros_like(image[:, 0])).argmax(dim=1)
    assert (best == 0).all() if mask_reward == "hard" else (best != 0).all()


class Lines(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_pretraining_reconstructs_and_fine_tuning_segments(tmp_path: Any) -> None:
    lines = Lines()
    env = phantoms("train", size=24)
    agent = AMPDRL(env, boxes=1, **SMALL).learn(UPDATES, logger=Logger(None, [lines]), log_interval=UPDATES // 10)
    losses = [row["pretrain/loss"] for row in lines.rows if "pretrain/loss" in row]
    assert len(losses) == 3, "0.3 of the updates"
    assert losses[-1] < losses[0] * 0.8, "what is hidden is reconstructed better"
    planned = agent.passes_per_update(1) * UPDATES * 8
    assert agent.passes == pytest.approx(planned, rel=0.02)
    test = phantoms("test", 15, size=24).unwrapped
    learnt, otsu = (float(evaluate(one, test, horizon=1).metrics["DICE"].mean()) for one in (agent, Otsu()))
    assert learnt > otsu + 0.2
    agent.save(tmp_path / "agent.safetensors")
    again = load_agent(tmp_path / "agent.safetensors", device="cpu")
    assert again.title == "AMP-DRL"
    seen = test.reset(seed=0)[0]
    assert (again.predict(seen)[0] == agent.predict(seen)[0]).all()


def test_an_interrupted_pretraining_goes_on_where_fine_tuning_begins(tmp_path: Any) -> None:
    """At the border between the parts, where the replay no longer matters, it is the same to the bit."""
    whole = AMPDRL(phantoms("train"), **SMALL).learn(20)
    part = AMPDRL(phantoms("train"), **SMALL)
    part.learn(20, callback=lambda agent: agent.updates < part.pretraining_updates)
    assert part.updates == part.pretraining_updates == 6
    part.save(tmp_path / "part.safetensors")
    again = AMPDRL.load(tmp_path / "part.safetensors", env=phantoms("train"), device="cpu").learn(20)
    for one, two in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_longer_plan_does_not_pre_train_again(tmp_path: Any) -> None:
    agent = AMPDRL(phantoms("train"), **SMALL).learn(10)
    agent.save(tmp_path / "agent.safetensors")
    again = AMPDRL.load(tmp_path / "agent.safetensors", env=phantoms("train"), device="cpu")
    again._pretrain = None  # type: ignore[method-assign, assignment]  # it would fail
    assert again.learn(40).pretraining_updates == 3


def test_size_and_options() -> None:
    agent = AMPDRL(phantoms("train"), width=0.125, device="cpu")
    assert parameter_count(agent.network) == parameter_count(UNet31M(1, 0.125)), "what decides is the U-Net alone"
    for name, value in (("pretraining_share", 1.0), ("boxes", 0), ("sizes", (0.0,)), ("mask_reward", "none")):
        with pytest.raises(OptionError, match=name):
            AMPDRL(phantoms("train"), **{name: value})
