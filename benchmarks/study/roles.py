"""Is one network enough for both looks? A learner with one for each; LOG.md has what came out.

An agent of its own for the grid: `--agents benchmarks.study.roles:NetworkPerLook --settings look-careful-2-heavier`.
All else is as in `PA3COnUNet`, the operations of every look included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.study.crossed import PA3COnUNet


class NetworkPerLook(PA3COnUNet):
    """Images of which nothing is zeroed yet go through one network, all others through another.

    The second begins as a copy of the first, when episodes first have two looks.
    """

    name = "PA3C on AC's network, one for each look"
    _copied = False

    def _make_parts(self) -> dict[str, nn.Module]:
        return super()._make_parts() | {"later": super()._make_parts()["network"]}

    def _update(self, horizon: int, weight: Any) -> int:
        if horizon > 1 and not self._copied:
            self.parts["later"].load_state_dict(self.parts["network"].state_dict())
            self._copied = True
        return super()._update(horizon, weight)

    def _forward(self, observation: Tensor, part: str = "network", method: str | None = None) -> Any:
        later = (self.task.kept(observation) == 0).flatten(1).any(1)
        if not later.any():
            return super()._forward(observation, part, method)
        found = super()._forward(observation, "later", method)
        if later.all():
            return found
        first = super()._forward(observation, part, method)
        if isinstance(found, Tensor):
            return _of_each(later, found, first)
        return tuple(_of_each(later, one, other) for one, other in zip(found, first, strict=True))


def _of_each(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(where.view(-1, *(1,) * (one.ndim - 1)), one, other)
