"""How an agent looks at an observation: what its networks are shown of it, and where what they say belongs.

A look stands between an agent and its networks. It may show them less than the whole observation, or the same in
another resolution; what they give back it spreads over all pixels, so that agent and environment notice nothing.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pixelseg_agents.learning.boxes import boxes_of, mostly, nearest
from pixelseg_agents.learning.resampling import cut_out, spread_back
from pixelseg_env import OptionError, resolve

LARGEST = 4096  # pixels of a look's side
MOST = 16  # windows of a look
FARTHEST = 1e9  # pixels of a window, or sides of a box: beyond every image, and far within float32
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

    @property
    def passes(self) -> int:
        """How often a network passes one observation."""
        return 1

    def squares(self, kept: Tensor) -> Tensor | None:
        """The N squares of each image that are looked at: row and column of their first pixel's edge, and side.

        Args:
            kept: where a map keeps something, bool (B, H, W).

        Returns:
            float32 (B, N, 3), in pixels; edges may lie between two pixels, or outside of an image that is not square.
            None: all is seen.
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

    With several `windows` the box is cut between objects that lie apart, see `boxes_of`: by at least as many rows or
    columns that hold nothing as such a neighbourhood has. Each object gets a window, all in one batch, and decides the
    pixels that are nearest to its box. **N windows cost N passes at every look**, at the first one too, and where there
    are fewer objects: an image then has its first window again, of which nothing is made. Who waited for the numbers
    of objects would wait for the GPU.

    With the observation `"masked"` a pixel that is 0 in every channel counts as removed.

    Args:
        side: height and width that a network sees, in pixels; an image that is smaller is enlarged.
        margin: the window's side, in sides of the box.
        border: pixels that the window has around that.
        smallest: the side of the smallest window, in pixels; a look cannot show what the image does not have.
        context: whether the whole image stays in view beside the window, as channels more.
        windows: the most windows at one look.

    Raises:
        OptionError: one is out of range.
    """

    side: int = 64
    margin: float = 1.25
    border: float = 4.0
    smallest: float = 48.0
    context: bool = False
    windows: int = 1
    own_planes: ClassVar[int] = 1  # channels of its own: how large the window is

    def __post_init__(self) -> None:
        for name, valid, wanted in (
            ("side", isinstance(self.side, int) and 8 <= self.side <= LARGEST, f"a whole number of 8 to {LARGEST}"),
            ("margin", _is_number(self.margin) and self.margin >= 1, f"a number of 1 to {FARTHEST:,.0f}"),
            ("border", _is_number(self.border) and self.border >= 0, f"a number of 0 to {FARTHEST:,.0f}"),
            ("smallest", _is_number(self.smallest) and self.smallest >= 1, f"a number of 1 to {FARTHEST:,.0f}"),
            ("context", isinstance(self.context, bool), "True or False"),
            ("windows", type(self.windows) is int and 1 <= self.windows <= MOST, f"a whole number of 1 to {MOST}"),
        ):
            if not valid:
                raise OptionError(f"look: {name}={getattr(self, name)!r}: expected {wanted}")

    def inputs(self, channels: int) -> int:
        """The observation's channels, again with `context`, and the window's size."""
        return channels * (1 + self.context) + self.own_planes

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """The side of a window, twice."""
        return self.side, self.side

    @property
    def passes(self) -> int:
        """As many as windows."""
        return self.windows

    def squares(self, kept: Tensor) -> Tensor:
        """See `Look.squares`; of an empty map the whole image, of fewer objects than windows the first one again."""
        return self._squares(self._boxes(kept), (kept.shape[-2], kept.shape[-1]))

    def _boxes(self, kept: Tensor) -> Tensor:
        """The boxes that windows are made for, see `boxes_of`."""
        reach = max(1, round(self.smallest / 12)) if self.smallest < LARGEST else 1
        solid = kept & mostly(kept, reach)
        solid = solid | (kept & ~solid.flatten(1).any(1)[:, None, None])  # an object of a few pixels
        return boxes_of(solid, self.windows, 1 + 2 * reach)

    def _squares(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        top, bottom, left, right = boxes.unbind(-1)
        longest = _longest(*size)
        box = torch.maximum(bottom - top, right - left)
        side = (box * self.margin + 2 * self.border).clamp_min(float(self.smallest))
        side = torch.where(box > 0, torch.minimum(side, longest), longest)
        squares = [_edge(top, bottom, side, size[0]), _edge(left, right, side, size[1]), side]
        found = torch.stack(squares, dim=-1)
        return torch.where((box > 0)[..., None], found, found[:, :1])

    def __call__(self, network: Network, observation: Tensor, kept: Tensor) -> Any:
        """What a network makes of the windows, spread back over the images."""
        boxes, size = self._boxes(kept), (observation.shape[-2], observation.shape[-1])
        squares = self._squares(boxes, size).flatten(0, 1)  # (B N, 3)
        seen = [cut_out(self._each_window(observation), squares, self.side)]
        if self.context:
            whole = self._squares(torch.zeros_like(boxes[:, :1]), size)[:, 0]
            seen.append(self._each_window(cut_out(observation, whole, self.side)))
        share = (squares[:, 2] / _longest(*size)).view(-1, 1, 1, 1)
        seen.append(share.expand(-1, self.own_planes, self.side, self.side))
        found = _each(network(torch.cat(seen, dim=1)), lambda one: spread_back(one, squares, size))
        if self.windows == 1:
            return found
        shares = nearest(boxes, size)
        return _each(found, lambda one: _joined(one, shares))

    def _each_window(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as often as they have windows, (B N, C, H, W)."""
        return images[:, None].expand(-1, self.windows, -1, -1, -1).flatten(0, 1)


def check_spread(look: Look, found: Any, observation: Tensor) -> None:
    """Refuses what a look made if it is not of every pixel of an observation.

    Args:
        look: which made it.
        found: a tensor, or a tuple or list of them.
        observation: (B, C, H, W).

    Raises:
        OptionError: it is none of these, or a tensor is not (B, ..., H, W).
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return  # sizes are tensors then
    if isinstance(found, (tuple, list)):
        for one in found:
            check_spread(look, one, observation)
        return
    if not isinstance(found, Tensor):
        raise OptionError(
            f"look {type(look).__name__}: gave {type(found).__name__}; expected what the network gives, a tensor, or a "
            "tuple or list of them, spread over all pixels"
        )
    count, _, *size = observation.shape
    if found.ndim < 3 or len(found) != count or list(found.shape[-2:]) != size:
        raise OptionError(
            f"look {type(look).__name__}: gave a tensor {tuple(found.shape)} for an observation "
            f"{tuple(observation.shape)}; expected ({count}, ..., {size[0]}, {size[1]}): a look spreads what the "
            "network gives over all pixels"
        )


def _joined(found: Tensor, shares: Tensor) -> Tensor:
    """What the windows of an image say, (B N, ..., H, W), each by its share of the pixels, (B, N, H, W)."""
    shares = shares.reshape(*shares.shape[:2], *(1,) * (found.ndim - 3), *shares.shape[2:])
    return (found.reshape(-1, shares.shape[1], *found.shape[1:]) * shares).sum(1)


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
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= FARTHEST


# ---------------------------------------------------------------- names

WHOLE = "whole"
LOOKS: dict[str, type[Look]] = {WHOLE: WholeImage, "closer": Closer}
_FORM = re.compile(r"([^()]+)(?:\((.*)\))?")


def spelt(text: str) -> str:
    """A look's text without what says nothing: `" whole() "` is `"whole"`."""
    return re.sub(r"^([^()]*?)\s*\(\s*\)$", r"\1", text.strip())


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
        raise OptionError(f"look={text!r}: {error}; {_takes(name, kind)}") from error
    if not isinstance(found, Look):
        raise OptionError(f"look={text!r}: expected a Look (pixelseg_agents.Look), got {type(found).__name__}")
    if type(found).__call__ is Look.__call__:
        raise OptionError(f"look={text!r}: expected a subclass of Look that defines __call__, see its docstring")
    return found


def _takes(name: str, kind: Any) -> str:
    """What may be given to a look, for an error."""
    try:
        values = list(inspect.signature(kind).parameters)
    except (TypeError, ValueError):  # no class, or written in C
        return "expected a Look (pixelseg_agents.Look)"
    return f"{name} takes {', '.join(values) or 'no values'}"


def _values(text: str, inside: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):  # f(...)() is another
            raise ValueError
        found = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg is not None}
        if len(found) < len(call.keywords):  # **values, or a name twice
            raise ValueError
        return found
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise OptionError(f'look={text!r}: expected the form "closer(side=32, margin=1.5)"') from error
