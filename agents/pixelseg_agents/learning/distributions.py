"""The two kinds of policy that a pixel may have, on maps of logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelseg_agents.learning.distributed import rand


class _Policy:
    """What both have: `choices`, how many actions a pixel has."""

    choices: int

    def behaviour(self, probability: Tensor, exploration: float) -> Tensor:
        """What an action's probability becomes when a share of the actions is uniform."""
        return (1 - exploration) * probability + exploration / self.choices if exploration else probability


class Bernoulli(_Policy):
    """Two actions: one logit per pixel, the log-odds of *keep* against *zero*; logits (..., [L,] H, W)."""

    outputs = 1
    choices = 2

    def sample(self, logits: Tensor, generator: torch.Generator, exploration: float = 0.0) -> Tensor:
        """Draws actions, bool, of the logits' shape; a share `exploration` of them uniformly."""
        return rand(logits.shape, generator) < self.behaviour(logits.sigmoid(), exploration)

    def mode(self, logits: Tensor) -> Tensor:
        """The likelier actions."""
        return logits > 0

    def log_probability(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log pi(a), of the logits' shape."""
        return -F.binary_cross_entropy_with_logits(logits, actions.to(logits.dtype), reduction="none")

    def score(self, logits: Tensor, actions: Tensor) -> Tensor:
        """The log-odds of the actions, of the logits' shape."""
        return logits * (2 * actions.to(logits.dtype) - 1)

    def entropy(self, logits: Tensor) -> Tensor:
        """The entropy of every pixel's policy, in nats."""
        return F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")


class Categorical(_Policy):
    """K actions: K logits per pixel, in the dimension before the map's; logits (..., K, H, W)."""

    def __init__(self, outputs: int) -> None:
        self.outputs = self.choices = outputs

    def sample(self, logits: Tensor, generator: torch.Generator, exploration: float = 0.0) -> Tensor:
        """Draws actions, uint8 (..., H, W), by the Gumbel-max trick; a share `exploration` of them uniformly."""
        uniform = rand(logits.shape, generator).clamp_min(1e-12)
        if exploration:
            logits = self.behaviour(logits.softmax(dim=-3), exploration).log()
        return (logits - (-uniform.log()).log()).argmax(dim=-3).to(torch.uint8)

    def mode(self, logits: Tensor) -> Tensor:
        """The likeliest actions, uint8 (..., H, W)."""
        return logits.argmax(dim=-3).to(torch.uint8)

    def log_probability(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log pi(a), (..., H, W)."""
        return logits.log_softmax(dim=-3).gather(-3, actions.long().unsqueeze(-3)).squeeze(-3)

    def score(self, logits: Tensor, actions: Tensor) -> Tensor:
        """The actions' logits above the mean of all, (..., H, W)."""
        taken = logits.gather(-3, actions.long().unsqueeze(-3)).squeeze(-3)
        return taken - logits.mean(dim=-3)

    def entropy(self, logits: Tensor) -> Tensor:
        """The entropy of every pixel's policy, in nats, (..., H, W)."""
        logs = logits.log_softmax(dim=-3)
        return -(logs.exp() * logs).sum(dim=-3)
