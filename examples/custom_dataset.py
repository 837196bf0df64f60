"""A data set of your own: a loader, a split by patient, and an agent that learns from it to tell rings from discs.

python examples/custom_dataset.py       half a minute; a number behind it: how many updates
pixelseg train --dataset examples.custom_dataset:load --dataset-option patients=40 --size 32 --out runs/rings
"""

import sys

import numpy as np

from pixelseg_agents import PA3C, KeepAll, Otsu, evaluate, table
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset, register_dataset


def load(data, size, fit, keep_empty, patients=30):
    """Four images of each patient, with a ring, which is the object, and a disc as bright as that, which is not."""
    rng, (height, width) = np.random.default_rng(0), size or (32, 32)
    rows, columns = np.mgrid[:height, :width]
    images, masks = [], []
    for _ in range(4 * patients):
        centres = rng.uniform([(0.25, 0.25), (0.25, 0.65)], [(0.75, 0.35), (0.75, 0.75)])  # one left, one right
        ring, disc = (np.hypot(rows - y * height, columns - x * width) / width for y, x in rng.permutation(centres))
        mask = (ring > 0.07) & (ring < 0.17)
        images.append(np.clip(0.3 + 0.4 * (mask | (disc < 0.15)) + rng.normal(0, 0.1, mask.shape), 0, 1))
        masks.append(mask)
    cases = [f"patient {k // 4:03d}" for k in range(len(images))]  # images of one patient never part
    return SegmentationDataset.from_arrays(np.array(images), np.array(masks), cases=cases, name="rings")


if __name__ == "__main__":
    register_dataset("rings", load, files=False)
    train, test = (PixelSegVectorEnv(8, "rings", split=part, size=32, horizon=2) for part in ("train", "test"))
    print(f"{len(train.dataset)} images to learn from, {len(test.dataset)} of other patients to be judged on")
    agent = PA3C(train, seed=0, width=0.1).learn(int(sys.argv[1]) if sys.argv[1:] else 150)
    rows = {"PA3C": agent, "Otsu": Otsu(), "keep everything": KeepAll()}
    print(table({name: evaluate(predictor, test) for name, predictor in rows.items()}))
