"""A TorchRL training loop: collector, probabilistic actor, and a policy gradient of every pixel's own reward.

python benchmarks/third_party/torchrl_reinforce.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import tyro
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.modules import ProbabilisticActor

from pixelseg_agents.evaluation import evaluate, table
from pixelseg_agents.references import KeepAll, Otsu
from pixelseg_env import PixelSegVectorEnv, balanced
from pixelseg_env.views import PixelSegTorchRLEnv


@dataclass
class Options:
    """How long, and where."""

    batches: int = 300
    """Batches of 16 one-step episodes."""
    device: str = "cpu"
    """cpu or cuda; the batch never leaves it."""
    seed: int = 0
    """Of network and images."""


class PixelBernoulli(torch.distributions.Bernoulli):
    """One Bernoulli decision per pixel, whose samples are the environment's int8 actions."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws 0 (zero) and 1 (keep)."""
        return torch.bernoulli(self.probs.expand(*sample_shape, *self.probs.shape)).to(torch.int8)

    @property
    def deterministic_sample(self) -> Tensor:
        """The likelier action."""
        return (self.logits > 0).to(torch.int8)


def network() -> nn.Module:
    """Five dilated convolutions: one logit per pixel."""
    layers: list[nn.Module] = []
    for inputs, dilation in ((1, 1), (24, 1), (24, 2), (24, 4)):
        layers += [nn.Conv2d(inputs, 24, 3, padding=dilation, dilation=dilation), nn.GroupNorm(4, 24), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(24, 1, 1), nn.Flatten(1, 2))


class Predictor:
    """The trained network with Stable-Baselines3's `predict`."""

    def __init__(self, actor: nn.Module) -> None:
        self.actor = actor

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=True):  # type: ignore[no-untyped-def]  # noqa: D102
        logits = self.actor(torch.as_tensor(observation))
        return (logits > 0).to(torch.int8).numpy(), state


def main(options: Options) -> tuple[float, float]:
    """Trains; returns the mean Dice on held-out phantoms and that of "keep everything"."""
    torch.manual_seed(options.seed)
    env = PixelSegTorchRLEnv(16, device=options.device, size=32, horizon=1, reward=balanced(8.0))
    env.set_seed(options.seed)
    net = network().to(options.device)
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["logits"]),
        spec=env.action_spec,
        in_keys=["logits"],
        distribution_class=PixelBernoulli,
        return_log_prob=False,
    )
    optimizer = torch.optim.Adam(actor.parameters(), lr=3e-3)
    collector = Collector(env, actor, frames_per_batch=16, total_frames=16 * options.batches)
    for batch in collector:
        logits = net(batch["observation"].flatten(0, 1))
        chosen = batch["action"].flatten(0, 1).float()
        reward = batch["next", "reward_map"].flatten(0, 1)
        policy = torch.distributions.Bernoulli(logits=logits)
        log_probability, entropy = policy.log_prob(chosen), policy.entropy()  # type: ignore[no-untyped-call]
        loss = -(log_probability * (reward - reward.mean())).mean() - 0.02 * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    collector.shutdown()
    test = PixelSegVectorEnv(8, "phantom", split="test", size=32, horizon=1)
    rows = {"TorchRL": evaluate(Predictor(net.cpu()), test), "Otsu": evaluate(Otsu(), test)}
    rows["keep everything"] = evaluate(KeepAll(), test)
    print(table(rows))
    learnt, keep = (float(rows[name].metrics["DICE"].mean()) for name in ("TorchRL", "keep everything"))
    return learnt, keep


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
