"""Draws what each reward of the catalogue pays for the same small episode, a picture each, for docs/rewards.md.

python -m benchmarks.pictures.rewards       a few seconds
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pixelseg_env.rewards import RewardContext, registered_rewards, resolve_reward

FOLDER = Path(__file__).parents[2] / "docs/images/rewards"
SIDE = 20
COLOURS = LinearSegmentedColormap.from_list("pays", ["#b34700", "#ffffff", "#005a8f"])  # orange: costs, blue: pays
OUTLINE = "#222222"

Maps = NDArray[np.uint8]
Pays = NDArray[np.float32]


def episode() -> tuple[NDArray[np.float32], Maps, list[Maps]]:
    """An image (1, H, W), the truth (H, W), and the maps of two steps, f(0) = 1 among them.

    The first step leaves out a part of the object and leaves a bright false part, and it keeps a rim. The second mends
    some of that, and spoils a little: it makes a hole, and brings back a corner.
    """
    rows, columns = np.mgrid[:SIDE, :SIDE]
    truth = ((rows - 11) / 6.2) ** 2 + ((columns - 7.5) / 5.2) ** 2 < 1
    rim = ((rows - 11) / 7.4) ** 2 + ((columns - 7.5) / 6.4) ** 2 < 1
    part = (rows < 9) & (columns < 8)
    false = (abs(rows - 5) < 3) & (abs(columns - 15) < 3)
    corner = (rows > 16) & (columns > 15)
    hole = (abs(rows - 12.5) < 1) & (abs(columns - 8.5) < 1)
    first = rim & ~part | false
    second = truth & ~(part & (rows < 7)) & ~hole | (false & (columns > 15)) | corner
    image = np.select([truth, false, corner], [0.7, 0.8, 0.3], 0.15)
    everything = np.ones((SIDE, SIDE), np.uint8)
    return (
        image[None].astype(np.float32),
        truth.astype(np.uint8),
        [everything, *(f.astype(np.uint8) for f in (first, second))],
    )


def paid(name: str) -> list[Pays]:
    """What a reward pays in each step of the episode, maps (H, W)."""
    image, truth, maps = episode()
    reward, steps = resolve_reward(name), len(maps) - 1
    contexts = [RewardContext.of(t, steps, image, maps[t]) for t in range(1, steps + 1)]
    return [np.asarray(reward(maps[t - 1], maps[t], truth, contexts[t - 1])) for t in range(1, steps + 1)]


def digest(name: str) -> str:
    """Of all that a picture shows; it is written into the file, so that a test can tell an old picture."""
    shown = [*episode()[2], *(np.round(one, 4) + 0.0 for one in paid(name))]
    return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in shown)).hexdigest()[:16]


def draw(name: str, path: Path) -> None:
    """Draws one reward: the maps before and after the second step, what it pays for it, and for both steps."""
    _, truth, maps = episode()
    first, second = paid(name)
    low, high = resolve_reward(name).facts.range or (-1, 1)
    most = max(-low, high)
    figure = Figure(figsize=(6.6, 2.05), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4)
    for axis, f, title in zip(axes, maps[1:], ("before", "after"), strict=False):
        axis.imshow(f, cmap="gray", vmin=-0.6, vmax=1)
        axis.set_title(title, fontsize=11)
    for axis, pays, title in ((axes[2], second, "this step pays"), (axes[3], first + second, "both steps paid")):
        drawn = axis.imshow(pays, cmap=COLOURS, vmin=-most, vmax=most)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(f"{pays.mean():+.3f} a pixel", fontsize=10)
    for axis in axes:
        axis.contour(truth, [0.5], colors=[OUTLINE], linewidths=1)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")
    axes[0].set_xlabel("outline: the truth", fontsize=10)
    bar: Any = figure.colorbar(drawn, ax=axes, ticks=[-most, 0, most], shrink=0.72, pad=0.01)
    bar.ax.set_yticklabels([f"{value:+.3g}" if value else "0" for value in (-most, 0, most)], fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None, "Description": digest(name)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help="rewards; all of the catalogue if none is named")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or registered_rewards():
        draw(name, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
