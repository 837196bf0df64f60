"""Where the objects of maps lie: a box around them, or around each of several that lie far apart.

All of a batch at once, without a look at the numbers, so that a GPU is never waited for and a trace holds for any map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def boxes_of(kept: Tensor, count: int = 1, least: int = 1) -> Tensor:
    """The box of what maps keep, cut where nothing is kept for long, until there are `count` boxes.

    A cut goes along the longest run of empty rows or columns between what is kept, of all boxes so far. Of runs of the
    same length that part a map differently none is cut, for a mirrored map has to be cut alike.

    Args:
        kept: bool (B, H, W).
        count: N, the most boxes.
        least: the fewest empty rows or columns that are cut.

    Returns:
        float32 (B, N, 4): first row, last row and one more, first column, last column and one more, of boxes that do
        not overlap; where there are fewer, first and last are the same.
    """
    parts = kept[:, None]
    for _ in range(count - 1):
        parts = _cut(parts, least)
    return torch.stack([*_extent(parts.any(3)), *_extent(parts.any(2))], dim=-1)


def mostly(kept: Tensor, reach: int) -> Tensor:
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


def nearest(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which box every pixel is nearest to.

    Args:
        boxes: see `boxes_of`.
        size: (H, W).

    Returns:
        float32 (B, N, H, W): 1 at the pixels that are nearest to a box, 0 at the others; of M that are equally near,
        each has 1 / M.
    """
    top, bottom, left, right = boxes.unbind(-1)
    away = _away(top, bottom, size[0])[..., None] + _away(left, right, size[1])[:, :, None]
    away = torch.where((bottom > top)[..., None, None], away, torch.inf)
    found = (away == away.amin(1, keepdim=True)).float()
    return found / found.sum(1, keepdim=True)


def _cut(parts: Tensor, least: int) -> Tensor:
    """Parts of maps, bool (B, n, H, W), and one more that was cut off, empty where nothing could be."""
    (rows, row), (columns, column) = _runs(parts.any(3)), _runs(parts.any(2))
    longest = torch.maximum(rows.amax((1, 2)), columns.amax((1, 2)))[:, None, None]
    by_rows, by_columns = rows == longest, columns == longest
    below = parts & _from(row, by_rows)[..., None]
    beside = parts & _from(column, by_columns)[:, :, None]
    across, down = by_rows.flatten(1).sum(1), by_columns.flatten(1).sum(1)
    # One cut, or one each way that part the same: what lies below is what lies beside, or is all else of that part.
    differ, other = below != beside, parts & by_rows.any(2)[..., None, None]
    alike = ~differ.flatten(1).any(1) | ~(differ != other).flatten(1).any(1)
    clear = (across + down == 1) | ((across == 1) & (down == 1) & alike)
    clear = (clear & (longest[:, 0, 0] >= least))[:, None, None, None]
    some = (across > 0)[:, None, None, None]
    off = ((some & below) | (~some & beside)) & clear
    return torch.cat([parts & ~off, off.any(1, keepdim=True)], dim=1)


def _runs(there: Tensor) -> tuple[Tensor, Tensor]:
    """The empty lines between those of (B, n, L) that hold something: how many, and which line comes after them.

    Returns:
        float32 (B, n, L) each, in the order of the lines, filled up with 0 and L.
    """
    lines = torch.arange(there.shape[-1], device=there.device).float()
    end = lines[-1] + 1
    after = torch.where(there, lines, end).sort(-1).values
    before = torch.cat([after[..., :1], after[..., :-1]], dim=-1)
    return torch.where(after < end, (after - before - 1).clamp_min(0), 0), after


def _from(line: Tensor, there: Tensor) -> Tensor:
    """The lines, bool (B, n, L), from the first of `line` on where something is `there`; none if nothing is."""
    lines = torch.arange(line.shape[-1], device=line.device).float()
    return lines >= torch.where(there, line, lines[-1] + 1).amin(-1, keepdim=True)


def _extent(there: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last line of those that hold something, and one more: float32, alike if none does."""
    lines = torch.arange(there.shape[-1], device=there.device).float()
    first = torch.where(there, lines, lines[-1] + 1).amin(-1)
    return first, torch.maximum(first, torch.where(there, lines + 1, lines[0]).amax(-1))


def _away(first: Tensor, last: Tensor, length: int) -> Tensor:
    """Squares of the distances from `length` lines to boxes, (B, N, length)."""
    lines = torch.arange(length, device=first.device).float()
    return torch.maximum(first[..., None] - lines, lines - (last[..., None] - 1)).clamp_min(0) ** 2
