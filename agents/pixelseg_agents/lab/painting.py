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


def canvas_value(session: Session) -> str:
    """What the canvas shows, as JSON: brightness, map and truth of the step that is looked at."""
    episode = session.episode
    grey = np.rint(episode.image.mean(axis=0) * 255).astype(np.uint8)
    fields = {"image": grey, "map": session.segmentation, "target": episode.target}
    height, width = grey.shape
    return json.dumps(
        {
            "height": height,
            "width": width,
            "final": session.rules.transition == "absorbing",
            "over": session.over,
            "step": session.at,
            **{
                name: base64.b64encode(np.ascontiguousarray(field).tobytes()).decode() for name, field in fields.items()
            },
        }
    )


def read_painting(data: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The joint action that a browser sends, uint8 (H, W).

    Args:
        data: a text of H W digits, 0 and 1, row by row. It comes from outside: anything may stand there.
        shape: (H, W).

    Raises:
        OptionError: it is something else.
    """
    count = shape[0] * shape[1]
    if not isinstance(data, str) or len(data) != count or set(data) - {"0", "1"}:
        raise OptionError(f"the painting does not fit the image of {shape[0]} x {shape[1]} pixels; paint it again")
    return (np.frombuffer(data.encode("ascii"), np.uint8) - ord("0")).reshape(shape)


TEMPLATE = (Path(__file__).parent / "canvas.html").read_text(encoding="utf-8")
SCRIPT = (Path(__file__).parent / "canvas.js").read_text(encoding="utf-8")
