"""Where a network computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_agents.team import launched, local_device
from pixelseg_env import OptionError

LONGEST = 160  # characters of torch's own words in a message


def resolve_device(device: str | torch.device) -> torch.device:
    """Returns the device that a name stands for; "auto" is CUDA where there is one.

    Of several processes that were started together, each has a GPU of its own for "auto" and "cuda".

    Raises:
        OptionError: the device is not there, or the name is not known.
    """
    if device in ("auto", "cuda") and launched() and torch.cuda.is_available():
        return local_device()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise OptionError(f'device={device!r}: expected "auto", "cpu", "cuda" or "cuda:N"') from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f'device={device!r}: no CUDA device is available; use "cpu" or "auto"')
    try:
        torch.ones(1, device=chosen).sum().item()
    except Exception as error:  # whatever a device that is not there raises: a RuntimeError, an assertion, ...
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        if len(said) > LONGEST:  # torch lists every back end that it has
            said = said[:LONGEST].rsplit(" ", 1)[0] + " ..."
        raise OptionError(f'device={device!r}: cannot be used here ({said}); use "cpu" or "auto"') from error
    return chosen


def moved(array: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """A tensor or array on a device; the host does not wait for what a GPU has still to do.

    The numbers are read at once, so the array may change afterwards; on its own device a tensor stays the same one.
    """
    there = array if isinstance(array, Tensor) else torch.from_numpy(np.asarray(array))
    return there.to(device, non_blocking=device.type == "cuda")  # towards the host the copy would be read too early
