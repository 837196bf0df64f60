"""The canvas on which one paints zero and keep: by mouse, by finger, or by keyboard."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.lab.session import Session
from pixelseg_env import OptionError
from pixelseg_env.dynamics import AMOUNTS


def canvas_value(session: Session) -> str:
    """What the canvas shows, as JSON: brightness, map, truth and unpainted actions of the step that is looked at."""
    episode = session.shown
    grey, level = (
        np.rint(part * 255).astype(np.uint8) for part in (episode.image.mean(axis=0), episode.levels[session.at])
    )
    idle = session.idle[session.label] if session.idle.ndim == 3 else session.idle
    fields = {"image": grey, "map": session.segmentation, "level": level, "target": episode.target, "idle": idle}
    height, width = grey.shape
    return json.dumps(
        {
            "height": height,
            "width": width,
            "final": session.rules.transition == "absorbing",
            "amounts": AMOUNTS if session.rules.graded else None,
            "over": session.over,
            "step": session.at,
            **{
                name: base64.b64encode(np.ascontiguousarray(field).tobytes()).decode() for name, field in fields.items()
            },
        }
    )


def read_painting(data: Any, session: Session) -> NDArray[np.uint8]:
    """The actions of one label that a browser sends, uint8 (H, W).

    Args:
        data: a text of H W digits, 0 and 1 or the numbers of amounts, row by row. It comes from outside: anything may
            stand there.
        session: whose move it is.

    Raises:
        OptionError: it is something else.
    """
    shape = session.segmentation.shape
    choices = len(AMOUNTS) if session.rules.graded else 2
    if not isinstance(data, str) or len(data) != np.prod(shape) or set(data) - set("01234567"[:choices]):
        raise OptionError(f"the painting does not fit the image of {shape[0]} x {shape[1]} pixels; paint it again")
    return (np.frombuffer(data.encode("ascii"), np.uint8) - ord("0")).reshape(shape)


TEMPLATE = (Path(__file__).parent / "canvas.html").read_text(encoding="utf-8")
SCRIPT = (Path(__file__).parent / "canvas.js").read_text(encoding="utf-8")
