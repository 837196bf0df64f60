"""Figures that are made but not drawn: drawing takes most of the time of a training of a few updates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

BLANK = cv2.imencode(".png", np.full((1, 1), 255, np.uint8))[1].tobytes()
DRAWING = Figure.savefig


def _leave_blank(figure: Figure, file: IO[bytes], **options: Any) -> None:
    file.write(BLANK)


@contextmanager
def undrawn() -> Iterator[None]:
    """Every figure is made of what it shows, and saved as one white pixel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _leave_blank)
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Figures are drawn, where they would otherwise be left blank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", DRAWING)
        yield
