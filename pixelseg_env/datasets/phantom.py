"""A generated set of MRI-like pictures: no files, seeded, and not to be solved by a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelseg_env.datasets.base import SegmentationDataset
from pixelseg_env.datasets.folder import READER
from pixelseg_env.datasets.memory import allocate
from pixelseg_env.errors import OptionError

__all__ = ["READER", "draw_phantom", "load_phantom"]  # a phantom that was saved is read as an image of 'folder'

MIN_SIDE = 16
NATIVE_SIZE = (64, 64)

TISSUE, DARK, LESION = 0.36, 0.16, 0.44
GRAIN, NOISE = 0.13, 0.035
RIM = 0.09  # thickness of the bright rim, in half-widths of the picture
WAVES = np.array([0.16, 0.12, 0.08, 0.05, 0.04], np.float32)  # largest amplitudes of an outline's waves 2 to 6
REACH = 1.0 + float(WAVES.sum())  # no outline goes further than this, in radii

Field = NDArray[np.float32]
Shape = Callable[[Field, Field], Field]


def load_phantom(
    data: list[Path],
    size: tuple[int, int] | None,
    fit: str,
    keep_empty: bool,
    count: int = 400,
    seed: int = 0,
    labels: int = 1,
) -> SegmentationDataset:
    """Draws `count` pictures that look like slices through a head.

    A bright rim encloses mottled tissue with two dark cavities. In the tissue lie three kinds of bright or grainy
    things, and **the object is the one that is bright and grainy at once**:

    - the object: an irregular outline (radial Fourier series), 5.5 to 11.5 % of the picture, bright, its
      brightness jumping from pixel to pixel (standard deviation 0.13 of full scale);
    - a smooth decoy: like the object in outline, size and mean brightness, without grain;
    - a grainy decoy: grain like the object's, but the tissue's brightness;
    - four to eight vessels: small smooth bright discs; and the rim: a smooth bright band.

    So neither brightness nor grain tells the object, yet both show within a few pixels, and a small convolutional
    net has all it needs. A multiplicative bias field (0.75 to 1.2) and Rician noise, as in MRI, lie
    over all of it. Otsu's threshold takes the head for the object (Dice about 0.25).

    With `labels=2` the object is an organ with a lesion inside: a smooth darker spot of 8 to 16 % of its area. The
    organ's mask holds the lesion's, so the labels overlap; everything else is drawn as with one label.

    Item k depends on `seed` and k only, not on `count`; at another size it is the same scene with grain and noise
    of its own, because these are drawn pixel by pixel.

    Args:
        data: not used.
        size: (H, W), 16 or more each; None is 64x64. An oblong picture shows a stretched scene.
        fit: not used, pictures are drawn at their size.
        keep_empty: not used, every picture has an object.
        count: N, the number of pictures; each is a case of its own, "phantom_0000" and so on.
        seed: another seed gives other pictures.
        labels: 1, or 2 for organ and lesion.

    Returns:
        The whole set, C = 1, uint8.

    Raises:
        OptionError: `count`, `seed` or `labels` is not valid, or the size is too small.
    """
    del data, fit, keep_empty
    for option, value, least in (("count", count, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise OptionError(f"{option}={value!r} is not valid; expected a whole number of {least} or more")
    if labels not in (1, 2) or isinstance(labels, bool):
        raise OptionError(f"labels={labels!r}: data set 'phantom' has 1 label, or 2: organ and lesion")
    height, width = size or NATIVE_SIZE
    if min(height, width) < MIN_SIDE:
        raise OptionError(
            f"size={(height, width)} is too small for data set 'phantom'; expected {MIN_SIDE} or more on each side"
        )
    images, masks = allocate("phantom", count, 1, height, width, np.uint8, labels)
    for k in range(count):
        images[k, 0], masks[k] = draw_phantom(seed, k, height, width, labels)
    cases = tuple(f"phantom_{k:04d}" for k in range(count))
    names = ("organ", "lesion") if labels == 2 else ()
    return SegmentationDataset("phantom", images, masks, cases, np.zeros(count, np.int64), names)


def draw_phantom(
    seed: int, k: int, height: int, width: int, labels: int = 1
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws picture k of a seed.

    Coordinates run from -1 to 1 along each side, whatever the size.

    Args:
        seed: of the set.
        k: which picture.
        height: H.
        width: W.
        labels: 1, or 2 for an organ with a lesion in it.

    Returns:
        The picture, uint8 (H, W), and its mask, uint8 (H, W) of 0 and 1, or (2, H, W).
    """
    rng = np.random.default_rng((seed, k))
    # The scene is drawn from the generator before anything whose number of values depends on the size.
    body = rng.uniform(0.82, 0.93, 2)  # half axes (y, x)
    radius = math.sqrt(rng.uniform(0.055, 0.115) * 4 / math.pi)
    bright = float(rng.uniform(0.62, 0.72))
    angle = float(rng.uniform(0, 2 * math.pi))
    turns = angle + np.array([0, 1, -1]) * rng.uniform(1.8, 2.6, 3)
    radii = radius * np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.6, 0.8)])
    # A thing's distance from the middle, as a share of the body's half axis: never over the rim.
    distances = np.clip(0.86 - 1.12 * radii / body.min(), 0, None) * (rng.uniform(0.6, 1.0), 1.0, 1.0)
    (target, decoy, patch) = (
        (*_at(body, float(turn), float(distance)), _blob(float(r), rng))
        for turn, distance, r in zip(turns, distances, radii, strict=True)
    )
    cavities = rng.uniform((0.16, 0.06, 0.08), (0.26, 0.10, 0.14))
    vessels = rng.uniform(size=(int(rng.integers(4, 9)), 3))
    bias = rng.uniform(0.75, 1.2, (3, 3)).astype(np.float32)
    coarse = rng.standard_normal((7, 7), dtype=np.float32)
    fine = rng.standard_normal((17, 17), dtype=np.float32)

    canvas = _Canvas(height, width)
    grain = GRAIN * rng.standard_normal((height, width), dtype=np.float32)
    tissue = TISSUE + 0.05 * canvas.spread(coarse) + 0.03 * canvas.spread(fine)
    # Painted from back to front: air, rim, tissue, cavities, decoys, vessels, object.
    canvas.paint(0, 0, 1, _ellipse(*body), bright)
    canvas.paint(0, 0, 1, _ellipse(*(body - RIM)), tissue)
    for side in (-1, 1):
        canvas.paint(0.0, side * cavities[2], 0.3, _ellipse(cavities[0], cavities[1]), DARK)
    canvas.paint(*patch[:2], radii[2] * REACH, patch[2], tissue + grain)
    canvas.paint(*decoy[:2], radii[1] * REACH, decoy[2], bright)
    for turn, distance, thickness in vessels:
        spot = _at(body, 2 * math.pi * turn, 0.8 * math.sqrt(distance))
        canvas.paint(*spot, 0.15, _ellipse(*[0.05 + 0.05 * thickness] * 2), bright)
    mask = canvas.paint(*target[:2], radii[0] * REACH, target[2], bright + grain)

    if labels == 2:
        lesion = _inside(target[2], radii[0], np.random.default_rng((seed, k, 1)))  # leaves the scene as it was
        mask = np.stack([mask, canvas.paint(*target[:2], radii[0] * REACH, lesion, LESION)])

    picture = canvas.picture * canvas.spread(bias)
    noise = NOISE * rng.standard_normal((2, height, width), dtype=np.float32)
    picture = np.hypot(picture + noise[0], noise[1])  # the magnitude of a complex signal: Rician, as in MRI
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8), mask


class _Canvas:
    """A picture that shapes are painted on, each within its own window (most of the time goes there)."""

    def __init__(self, height: int, width: int) -> None:
        self.picture: Field = np.zeros((height, width), np.float32)
        self._y: Field = ((2 * np.arange(height, dtype=np.float32) + 1) / np.float32(height) - 1)[:, None]
        self._x: Field = ((2 * np.arange(width, dtype=np.float32) + 1) / np.float32(width) - 1)[None]
        self._pixels = min(height, width) / 2  # per unit: turns a distance into coverage

    def paint(self, cy: float, cx: float, reach: float, shape: Shape, value: float | Field) -> NDArray[np.uint8]:
        """Paints a shape over what is there, with partial coverage at its edge.

        Args:
            cy: its centre.
            cx: its centre.
            reach: how far it goes from there at most.
            shape: (y, x) from the centre -> distance to the outline, positive inside.
            value: brightness, a number or (H, W).

        Returns:
            uint8 (H, W), 1 where a pixel's centre lies inside.
        """
        rows, columns = self._window(self._y[:, 0], cy, reach), self._window(self._x[0], cx, reach)
        distance = shape(self._y[rows] - np.float32(cy), self._x[:, columns] - np.float32(cx))
        part = self.picture[rows, columns]
        over = value[rows, columns] if isinstance(value, np.ndarray) else np.float32(value)
        part += np.clip(distance * np.float32(self._pixels) + np.float32(0.5), 0, 1) * (over - part)
        inside = np.zeros(self.picture.shape, np.uint8)
        inside[rows, columns] = distance > 0
        return inside

    def spread(self, grid: Field) -> Field:
        """A smooth field (H, W) from a few values."""
        height, width = self.picture.shape
        return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)

    @staticmethod
    def _window(axis: Field, centre: float, reach: float) -> slice:
        margin = 2 / len(axis)
        start, stop = np.searchsorted(axis, (centre - reach - margin, centre + reach + margin))
        return slice(int(start), int(stop))


def _at(body: NDArray[np.float64], angle: float, distance: float) -> tuple[float, float]:
    """The point in a direction, at a share of the body's half axis."""
    return float(body[0]) * distance * math.sin(angle), float(body[1]) * distance * math.cos(angle)


def _inside(organ: Shape, radius: float, rng: np.random.Generator) -> Shape:
    """A smaller blob near the middle of another, cut off at its outline."""
    size, distance, angle = rng.uniform((0.28, 0.0, 0.0), (0.40, 0.15, 2 * math.pi))
    spot = _blob(float(radius * size), rng)
    dy = np.float32(radius * distance * math.sin(angle))
    dx = np.float32(radius * distance * math.cos(angle))
    return lambda y, x: np.minimum(spot(y - dy, x - dx), organ(y, x))


def _ellipse(height: float, width: float) -> Shape:
    """An ellipse of two half axes."""
    tall, wide = np.float32(height), np.float32(width)
    return lambda y, x: (1 - np.hypot(y / tall, x / wide)) * min(tall, wide)


def _blob(radius: float, rng: np.random.Generator) -> Shape:
    """An irregular outline: a circle plus waves of random amplitude and phase."""
    amplitudes = rng.uniform(0, 1, len(WAVES)).astype(np.float32) * WAVES
    phases = rng.uniform(0, 2 * math.pi, len(WAVES)).astype(np.float32)

    def distance(y: Field, x: Field) -> Field:
        angle = np.arctan2(y, x)
        outline = np.ones_like(angle)
        for order, (amplitude, phase) in enumerate(zip(amplitudes, phases, strict=True), start=2):
            outline += amplitude * np.cos(np.float32(order) * angle + phase)
        return np.float32(radius) * outline - np.hypot(y, x)

    return distance
