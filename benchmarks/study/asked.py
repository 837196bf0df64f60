"""A protocol of which only what was asked for is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.grid.cells import Protocol
from pixelseg_agents.evaluation import JudgeAt
from pixelseg_env import OptionError

DEFAULT = Protocol(size=64, passes=12_000)
"""Where there are no records yet, of what is not asked for."""


@dataclass(frozen=True)
class Asked:
    """As the flags of `run`. What is left out is as in the records; without any, 64 pixels and 12,000 passes."""

    size: int | None = None
    """Side of the images in pixels."""
    width: float | None = None
    """Scales the channels of the networks."""
    batch: int | None = None
    """Images per network pass."""
    passes: int | None = None
    """Images that go through a network while learning."""
    horizon: int | None = None
    """Steps of the test episodes."""
    device: str | None = None
    """Where agents train."""
    split_seed: int | None = None
    """Seed of the deal of patients."""
    judge_at: JudgeAt | None = None
    """Where maps are judged: native or size."""

    def protocol(self, recorded: Mapping[str, Any] | None, folder: Path) -> Protocol:
        """The protocol that was asked for.

        Args:
            recorded: that of the records in the folder; None: there are none.
            folder: theirs.

        Raises:
            OptionError: the records were made by another, and those of two cannot stand in one table.
        """
        known = DEFAULT if recorded is None else Protocol.of_record(recorded)
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        found = dataclasses.replace(known, **wanted)
        if recorded is not None and found != known:
            differs = [name for name, value in wanted.items() if getattr(known, name) != value]
            here, there = (
                ", ".join(f"--{name.replace('_', '-')} {getattr(one, name)}" for name in differs)
                for one in (found, known)
            )
            raise OptionError(
                f"{here}: the records in {folder} were made with {there}; leave it out to see them, or give others "
                "a folder of their own with --records"
            )
        return found
