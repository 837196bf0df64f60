"""What an update has to say, left on the device until the update is over.

Who reads a number at once waits until a GPU has computed it, and the GPU then waits for what comes next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelseg_agents.team import Team


class Notes:
    """Named scalars of one update."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._values: list[Tensor] = []

    def add(self, name: str, value: Tensor) -> None:
        """Keeps a scalar, of which each process that trains together has found its part of a sum."""
        self._names.append(name)
        self._values.append(value.detach().double())

    def read(self, team: Team) -> list[tuple[str, float]]:
        """What was kept, in its order, and forgets it; the device is waited for once."""
        names, values = self._names, self._values
        self._names, self._values = [], []
        if not values:
            return []
        return list(zip(names, team.total(torch.stack(values)).tolist(), strict=True))
