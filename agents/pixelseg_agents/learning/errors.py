"""What a training raises that cannot go on."""

from __future__ import annotations

from pixelseg_env import PixelSegError


class TrainingError(PixelSegError):
    """A training that cannot go on."""
