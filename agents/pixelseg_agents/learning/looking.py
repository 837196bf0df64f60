"""How an agent looks at an observation: what its networks are shown of it, and where what they say belongs.

A look stands between an agent and its networks. It may show them less than the whole observation, or the same in
another resolution; what they give back it spreads over all pixels, so that agent and environment notice nothing.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from pixelseg_env import OptionError, resolve

LARGEST = 4096  # pixels of a look's side
Network = Callable[[Tensor], Any]  # of a batch (B, C', h, w): tensors (B, ..., h, w), or a tuple or list of them


class Look:
    """A way to look at observations. A subclass says what networks see, and puts what they give in its place.

    Looks have no state and know no images but those that they are given: neither target nor info.
    """

    def inputs(self, channels: int) -> int:
        """The channels that a network sees of an observation of so many."""
        return channels

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """The height and width that a network sees of an observation of this size."""
        return size

    def windows(self, kept: Tensor) -> Tensor | None:
        """The squares that are looked at, float32 (B, 3): row and column of their first pixel's edge, and side.

        Args:
            kept: where a map keeps something, bool (B, H, W).

        Returns:
            In pixels; edges may lie between two pixels, or outside of an image that is not square. None: all is seen.
        """
        return None

    def __call__(self, network: Network, observation: Tensor, kept: Tensor) -> Any:
        """What a network makes of what it is shown.

        Args:
            network: see `Network`.
            observation: float32 (B, C, H, W).
            kept: where the map keeps something (of several labels: any), bool (B, H, W), as the observation tells it.

        Returns:
            As the network gave it, but every tensor (B, ..., H, W).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class WholeImage(Look):
    """The whole observation as it is."""

    def __call__(self, network: Network, observation: Tensor, kept: Tensor) -> Any:
        """What a network makes of the observation."""
        return network(observation)


@dataclass(frozen=True)
class Closer(Look):
    """A square window of what is left, in a resolution of its own: at first the whole image, later the object.

    However large the image is, a look costs one pass of side x side pixels. The window is the box of what the map
    keeps, larger by a margin, square, and moved into the image where it would leave it. Pixels that stand alone in a
    map do not count: half of a pixel's neighbourhood, a sixth of the smallest window wide, has to be kept, too, or
    actions that are drawn by chance would make every window the whole image. What the network says about the window's
    edge holds for all that lies beyond.

    With the observation `"masked"` a pixel that is 0 in every channel counts as removed.

    Args:
        side: height and width that a network sees, in pixels; an image that is smaller is enlarged.
        margin: the window's side, in sides of the box.
        border: pixels that the window has around that.
        smallest: the side of the smallest window, in pixels; a look cannot show what the image does not have.
        context: whether the whole image stays in view beside the window, as channels more.

    Raises:
        OptionError: one is out of range.
    """

    side: int = 64
    margin: float = 1.25
    border: float = 4.0
    smallest: float = 48.0
    context: bool = False
    own_planes: ClassVar[int] = 1  # channels of its own: how large the window is

    def __post_init__(self) -> None:
        for name, valid, wanted in (
            ("side", isinstance(self.side, int) and 8 <= self.side <= LARGEST, f"a whole number of 8 to {LARGEST}"),
            ("margin", _is_number(self.margin) and self.margin >= 1, "a number of at least 1"),
            ("border", _is_number(self.border) and self.border >= 0, "a number of at least 0"),
            ("smallest", _is_number(self.smallest) and self.smallest >= 1, "a number of at least 1"),
            ("context", isinstance(self.context, bool), "True or False"),
        ):
            if not valid:
                raise OptionError(f"look: {name}={getattr(self, name)!r}: expected {wanted}")

    def inputs(self, channels: int) -> int:
        """The observation's channels, again with `context`, and the window's size."""
        return channels * (1 + self.context) + self.own_planes

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """The side of a window, twice."""
        return self.side, self.side

    def windows(self, kept: Tensor) -> Tensor:
        """See `Look.windows`; of an empty map the whole image."""
        height, width = kept.shape[-2:]
        longest = _longest(height, width)
        reach = max(1, round(self.smallest / 12)) if self.smallest < LARGEST else 1
        solid = kept & _mostly(kept, reach)
        solid = solid | (kept & ~solid.flatten(1).any(1)[:, None, None])  # an object of a few pixels
        (top, bottom), (left, right) = _extent(solid.any(2)), _extent(solid.any(1))
        box = torch.maximum(bottom - top, right - left)
        side = (box * self.margin + 2 * self.border).clamp_min(float(self.smallest))
        side = torch.where(box > 0, torch.minimum(side, longest), longest)
        return torch.stack([_edge(top, bottom, side, height), _edge(left, right, side, width), side], dim=1)

    def __call__(self, network: Network, observation: Tensor, kept: Tensor) -> Any:
        """What a network makes of the windows, spread back over the images."""
        windows, size = self.windows(kept), (observation.shape[-2], observation.shape[-1])
        seen = [cut_out(observation, windows, self.side)]
        if self.context:
            seen.append(cut_out(observation, self.windows(torch.zeros_like(kept)), self.side))
        share = (windows[:, 2] / _longest(*size)).view(-1, 1, 1, 1)
        seen.append(share.expand(-1, self.own_planes, self.side, self.side))
        return _each(network(torch.cat(seen, dim=1)), lambda found: spread_back(found, windows, size))


def cut_out(images: Tensor, windows: Tensor, side: int) -> Tensor:
    """Resamples a window of every image, bilinearly and without aliasing; outside of an image is 0.

    Args:
        images: float32 (B, C, H, W).
        windows: see `Look.windows`.
        side: S.

    Returns:
        float32 (B, C, S, S), with a gradient to the images.
    """
    step = (windows[:, 2] / side)[:, None]
    places = (torch.arange(side, device=images.device) + 0.5) * step - 0.5
    rows, columns = (
        _weights(windows[:, axis, None] + places, step, images.shape[-2 + axis], outside=0.0) for axis in (0, 1)
    )
    return rows[:, None] @ (images @ columns[:, None].transpose(-1, -2))


def spread_back(found: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Undoes `cut_out` for what a network found: every pixel of the image gets a value.

    Args:
        found: float32 (B, ..., S, S).
        windows: see `Look.windows`.
        size: (H, W).

    Returns:
        float32 (B, ..., H, W), with a gradient to `found`; beyond a window, the value at its nearest edge.
    """
    side = found.shape[-1]
    step = (side / windows[:, 2])[:, None]
    rows, columns = (
        _weights(
            (torch.arange(length, device=found.device) + 0.5 - windows[:, axis, None]) * step - 0.5, step, side, None
        )
        for axis, length in enumerate(size)
    )
    flat = found.flatten(1, -3) if found.ndim > 3 else found[:, None]
    spread = (rows[:, None] @ flat) @ columns[:, None].transpose(-1, -2)
    return spread.reshape(*found.shape[:-2], *size)


def _weights(places: Tensor, step: Tensor, count: int, outside: float | None) -> Tensor:
    """The share of each of `count` samples in values at other places, float32 (B, places, count).

    Args:
        places: (B, N), 0 is the middle of the first sample.
        step: between two places, (B, 1): where it is above 1, a place takes in all samples up to the next.
        count: of samples.
        outside: the factor on places that lie beyond the samples; None: they are worth what the nearest sample is.
    """
    inside = (places >= -0.5) & (places <= count - 0.5)
    places = places.clamp(0, count - 1)[:, :, None]
    shares = (1 - (torch.arange(count, device=places.device) - places).abs() / step[:, :, None].clamp_min(1)).relu()
    shares = shares / shares.sum(-1, keepdim=True)
    return shares if outside is None else torch.where(inside[:, :, None], shares, shares * outside)


def _mostly(kept: Tensor, reach: int) -> Tensor:
    """Where more of a pixel's neighbourhood is kept than not, bool (B, H, W).

    Votes are counted in whole numbers, as differences of running sums: exact, so that a tie is one however the image is
    turned, and the work does not grow with the neighbourhood.

    Args:
        kept: bool (B, H, W).
        reach: of the square around a pixel, to each side; what lies outside of the image has no vote.
    """
    across = 2 * reach + 1
    # Half the memory where no sum can be larger; ONNX has running sums of int32 alone.
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    short = not tracing and across * max(kept.shape[-2:]) < 2**15
    kind = torch.int16 if short else torch.int32
    votes = kept.to(kind) * 2 - 1
    for axis, edges in ((-2, (0, 0, reach + 1, reach)), (-1, (reach + 1, reach))):
        sums, length = pad(votes, edges).cumsum(axis, dtype=kind), votes.shape[axis]
        votes = sums.narrow(axis, across, length) - sums.narrow(axis, 0, length)
    return votes > 0


def _extent(there: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last line of those that hold something, and one more: float32 (B,) each, alike if none does."""
    lines = torch.arange(there.shape[1], device=there.device).float()
    first = torch.where(there, lines, lines[-1] + 1).amin(1)
    return first, torch.maximum(first, torch.where(there, lines + 1, lines[0]).amax(1))


def _edge(first: Tensor, last: Tensor, side: Tensor, length: int) -> Tensor:
    """Where a window of this side begins: around the box, inside of the image, or around the image if it is larger."""
    middle = torch.minimum(torch.maximum((first + last) / 2, side / 2), length - side / 2)
    return torch.where(side < length, middle, torch.as_tensor(length) / 2) - side / 2


def _longest(height: Any, width: Any) -> Tensor:
    """The longer side, a tensor: where an agent is traced sizes are, too, and must stay what they are computed from."""
    return torch.maximum(torch.as_tensor(height), torch.as_tensor(width)).float()


def _each(found: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(found, Tensor):
        return change(found)
    return type(found)(_each(one, change) for one in found)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# ---------------------------------------------------------------- names

WHOLE = "whole"
LOOKS: dict[str, type[Look]] = {WHOLE: WholeImage, "closer": Closer}
_FORM = re.compile(r"([^()]+)(?:\((.*)\))?")


@functools.lru_cache(maxsize=64)
def make_look(text: str) -> Look:
    """The look that a text stands for.

    Args:
        text: a name in `LOOKS` or `module:name` of a `Look`, with values in brackets: `"closer(side=32, margin=1.5)"`.

    Raises:
        OptionError: it cannot be read, is not known, or a value is not valid.
    """
    form = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if form is None:
        raise OptionError(f'look={text!r}: expected a name, such as "closer" or "closer(side=32)"')
    name, values = form[1].strip(), _values(text, form[2] or "")
    kind = resolve("look", name, LOOKS)
    try:
        found = kind(**values)
    except TypeError as error:
        raise OptionError(f"look={text!r}: {error}") from error
    if not isinstance(found, Look):
        raise OptionError(f"look={text!r}: expected a Look (pixelseg_agents.Look), got {type(found).__name__}")
    return found


def _values(text: str, inside: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise OptionError(f'look={text!r}: expected the form "closer(side=32, margin=1.5)"') from error
