"""What a process does in the tests of data-parallel training: started twice by torchrun, and called once alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor

from pixelseg_agents import cli, learner
from pixelseg_agents.registry import agent_class
from pixelseg_agents.team import Team, joined

BATCH = 8  # of all processes
UPDATES = 4
LENGTH, MORE = 10, 12  # updates of a run of the command line, and when it has gone on
RUN = "--dataset phantom --size 24 --dataset-option count=30 --width 0.1 --eval-every 5 --tensorboard off --log none"
RUN += " --preset whole"

# The agents, with what makes this short, and which hyperparameters are counts per process.
AGENTS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "pa3c": ("pa3c", {"width": 0.1}, ()),
    "pa3c, recomputing": ("pa3c", {"width": 0.1, "recompute": True}, ()),
    "pa3c, convolution": ("pa3c", {"width": 0.1, "reward_map_convolution": 3}, ()),
    "ac": ("ac", {"width": 0.1, "learning_rate_schedule": "epochs"}, ()),
    "dqn": ("dqn", {"width": 0.1, "learning_starts": 8, "replay_batch": BATCH}, ("replay_batch",)),
    "double-dqn": ("double-dqn", {"width": 0.1, "learning_starts": 8, "replay_batch": BATCH}, ("replay_batch",)),
    "dueling-dqn": ("dueling-dqn", {"width": 0.1, "learning_starts": 8, "replay_batch": BATCH}, ("replay_batch",)),
    "pixelrl": ("pixelrl", {"width": 0.1}, ()),
    "supervised": ("supervised", {"width": 0.1, "loss": "both"}, ()),
    "amp-drl": (
        "amp-drl",
        {"width": 0.05, "mask_batch": BATCH, "boxes": 2, "pretraining_share": 0.5},
        ("mask_batch",),
    ),
}


class Rows(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(None, [])
        self.rows: list[dict[str, float]] = []

    def dump(self, step: int = 0) -> None:
        self.rows.append({k: float(v) for k, v in self.name_to_value.items() if not k.endswith("per_second")})
        self.name_to_value.clear()
        self.name_to_count.clear()


def train(key: str, team: Team) -> tuple[list[Tensor], list[dict[str, float]]]:
    """The gradients of every step of a short training, one after another in one tensor each, and its log."""
    name, settings, shared = AGENTS[key]
    task = {"transition": "additive", "observation": "stacked"} if name == "pixelrl" else {}
    env = gym.make_vec(
        "PixelSegEnv-v0", num_envs=BATCH // team.size, size=24, count=40, split="train", order="shuffled", **task
    )
    settings = settings | {count: settings[count] // team.size for count in shared}
    agent = agent_class(name)(env, seed=3, device="cpu", horizons=(1, 3), **settings)
    gradients: list[Tensor] = []
    step = agent.apply_gradients

    def kept() -> None:
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in agent._parameters]
        gradients.append(torch.cat([one.reshape(-1) for one in found]))
        step()

    agent.apply_gradients = kept
    log = Rows()
    with mock.patch.object(learner, "EPOCHS_PER_DECAY", 0.5):  # not 25, which would take long
        agent.learn(UPDATES, log_interval=1, logger=log, team=team)
    return gradients, log.rows


def run_words(batch: int, out: Path) -> list[str]:
    """What makes a run of the command line."""
    return [*RUN.split(), "--batch", str(batch), "--updates", str(LENGTH), "--out", str(out)]


def main(folder: Path) -> None:
    """Trains all agents, one run of the command line, and on with another; leaves what came of it in a folder."""
    torch.set_num_threads(1)
    with joined() as team:
        found = {key: train(key, team) for key in AGENTS}
        if team.first:
            torch.save({key: gradients for key, (gradients, _) in found.items()}, folder / "gradients.pt")
            (folder / "rows.json").write_text(json.dumps({key: rows for key, (_, rows) in found.items()}))
        words = run_words(BATCH // team.size, folder / "run")
        assert cli.main(["train", *words]) == 0
        assert cli.main(["train", "--resume", str(folder / "again"), "--updates", str(MORE)]) == 0
    # Threads that outlive the group may abort the process when it ends.
    assert not [name for name in map(_name_of, Path("/proc/self/task").glob("*/comm")) if "gloo" in name]


def _name_of(thread: Path) -> str:
    return thread.read_text() if thread.exists() else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
