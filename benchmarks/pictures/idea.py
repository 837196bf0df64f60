"""Draws the README's picture: an agent early in its training, and what its decisions earn, pixel by pixel.

python -m benchmarks.pictures.idea --out examples/images/idea.png     half a minute on one core
"""

import argparse

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pixelseg_agents import PA3C
from pixelseg_env import PixelSegVectorEnv

STEPS = 5
SHOWN = (1, 2, 3, 5)
IMAGES = 3
KEPT, GONE, RIGHT, WRONG = "#ffffff", "#282c34", "#56B4E9", "#D55E00"  # Okabe and Ito: safe for colour-blind readers
MEANING = {
    KEPT: "kept",
    RIGHT: "removed in this step, rightly: reward +1",
    WRONG: "removed in this step, wrongly: reward −1",
    GONE: "removed earlier",
}


def trained(updates: int) -> PA3C:
    """An agent that has begun to learn: it knows the object, and still hesitates."""
    env = PixelSegVectorEnv(8, "phantom", split="train", horizon=STEPS)
    return PA3C(env, seed=0, horizons=(1, STEPS), horizon_shares=(0.6, 0.4)).learn(updates)


def panel(before: NDArray[np.uint8], after: NDArray[np.uint8], reward: NDArray[np.float32]) -> NDArray[np.float64]:
    """What one step did: the maps before and after it, and its rewards, all (H, W); RGB (H, W, 3) in [0, 1]."""
    removed = before > after
    conditions = [after == 1, removed & (reward > 0), removed & (reward < 0)]
    rgb = [np.array(matplotlib.colors.to_rgb(colour)) for colour in (KEPT, RIGHT, WRONG, GONE)]
    return np.select([c[..., None] for c in conditions], rgb[:3], rgb[3])


def draw(agent: PA3C, path: str) -> list[list[float]]:
    """Plays one episode on unseen images, sampling decisions as in training, and draws it.

    Returns:
        The Dice coefficient of every image after each step that is shown.
    """
    env = PixelSegVectorEnv(IMAGES, "phantom", split="test", horizon=STEPS)
    observation, info = env.reset(seed=0)
    images, targets = observation[:, 0].copy(), info["target"].copy()
    figure = Figure(figsize=(9, 4.75), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(IMAGES, len(SHOWN) + 3)
    scores: list[list[float]] = [[] for _ in range(IMAGES)]
    for k in range(IMAGES):
        axes[k, 0].imshow(images[k], cmap="gray", vmin=0, vmax=1)
        axes[k, 1].imshow(np.ones((*targets[k].shape, 3)))
    before, column = info["segmentation"].copy(), 2
    for step in range(1, STEPS + 1):
        actions, _ = agent.predict(observation, deterministic=False)
        observation, _, _, _, info = env.step(actions)
        if step in SHOWN:
            for k in range(IMAGES):
                axes[k, column].imshow(panel(before[k], info["segmentation"][k], info["reward_map"][k]))
                axes[k, column].set_xlabel(f"Dice {info['dice'][k]:.2f}", fontsize=8, labelpad=2)
                scores[k].append(float(info["dice"][k]))
            column += 1
        before = info["segmentation"].copy()
    for k in range(IMAGES):
        axes[k, -1].imshow(images[k], cmap="gray", vmin=0, vmax=1)
        axes[k, -1].contour(before[k], [0.5], colors=["#E69F00"], linewidths=1.2)
        axes[k, -1].contour(targets[k], [0.5], colors=[RIGHT], linewidths=1.2)
    titles = ["image", "before", *(f"step {step}" for step in SHOWN), "result and truth"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")
    legend = [Patch(facecolor=colour, edgecolor="#999999", label=label) for colour, label in MEANING.items()]
    legend += [Patch(facecolor="#E69F00", label="result (outline)"), Patch(facecolor=RIGHT, label="truth (outline)")]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.985))  # type: ignore[union-attr,call-arg]  # titles were cut off
    figure.savefig(path, dpi=160)
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=100, help="of the training")
    parser.add_argument("--out", default="idea.png", help="the picture")
    options = parser.parse_args()
    torch.manual_seed(0)
    for row in draw(trained(options.updates), options.out):
        print("Dice " + ", ".join(f"{dice:.3f}" for dice in row))
