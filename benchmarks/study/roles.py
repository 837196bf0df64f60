"""Is one network enough for both looks? Learners with one for each, or with its scales; LOG.md has what came out.

Agents of their own for the grid: `--agents benchmarks.study.roles:NetworkPerLook --settings look-careful-2-heavier`,
and `benchmarks.study.roles:ScalesPerLook`. All else is as in `PA3COnUNet`, the operations of every look included.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
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
        later = _later(self, observation)
        if not later.any():
            return super()._forward(observation, part, method)
        found = super()._forward(observation, "later", method)
        if later.all():
            return found
        first = super()._forward(observation, part, method)
        if isinstance(found, Tensor):
            return _of_each(later, found, first)
        return tuple(_of_each(later, one, other) for one, other in zip(found, first, strict=True))


class ScalesPerLook(PA3COnUNet):
    """One network, but the scale and shift of every normalisation are other ones where something is zeroed.

    No more operations, hardly more parameters (0.3 %), and no choice between networks to wait for on a GPU.
    """

    name = "PA3C on AC's network, scales for each look"
    _roles: list[Tensor]

    def _make_parts(self) -> dict[str, nn.Module]:
        parts = super()._make_parts()
        roles = self.__dict__.setdefault("_roles", [])  # one for good: parts are made again to count their bytes
        network = parts["network"]
        for path, layer in list(network.named_modules()):
            if isinstance(layer, nn.GroupNorm):
                parent, _, name = path.rpartition(".")
                setattr(network.get_submodule(parent), name, _NormPerRole(layer, roles))
        return parts

    def _forward(self, observation: Tensor, part: str = "network", method: str | None = None) -> Any:
        self._roles[:] = [_later(self, observation).float()[:, None]]
        return super()._forward(observation, part, method)


class _NormPerRole(nn.Module):
    """A group normalisation, and what an image's role adds to its scale and shift.

    Args:
        norm: which is replaced.
        roles: at every pass one tensor, (B, 1), 1 for an image of the second role.
    """

    def __init__(self, norm: nn.GroupNorm, roles: list[Tensor]) -> None:
        super().__init__()
        self.norm, self._roles = norm, roles
        self.scale, self.shift = (nn.Parameter(torch.zeros(norm.num_channels)) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) normalised, as their images' roles have it."""
        role = features.new_zeros(len(features), 1)
        if self._roles and len(self._roles[0]) == len(features):  # as many also where bytes are counted
            role = self._roles[0].to(role)
        found = F.group_norm(features, self.norm.num_groups, None, None, self.norm.eps)
        scale, shift = self.norm.weight + role * self.scale, self.norm.bias + role * self.shift
        return torch.addcmul(shift[..., None, None], found, scale[..., None, None])


def _later(agent: PA3COnUNet, observation: Tensor) -> Tensor:
    """The images of which something is zeroed, bool (B,)."""
    return (agent.task.kept(observation) == 0).flatten(1).any(1)


def _of_each(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(where.view(-1, *(1,) * (one.ndim - 1)), one, other)
