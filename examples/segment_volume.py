"""From labelled volumes to the mask of a new one: NIfTI files in the Decathlon's layout, `train`, `predict`, a score.

python examples/segment_volume.py       a minute; a number behind it: how many updates
"""

import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from pixelseg_agents.cli import main
from pixelseg_env.metrics import volume_dice, volume_hd95

updates = sys.argv[1] if sys.argv[1:] else "150"
task, spacing = Path(tempfile.mkdtemp()), (1.5, 1.5, 3.0)  # a new folder; voxels in millimetres
for name in ("imagesTr", "labelsTr", "new"):
    (task / name).mkdir(parents=True, exist_ok=True)
rng, grid = np.random.default_rng(0), np.mgrid[:32, :32, :10]
for case in range(9):  # noisy volumes: an ellipsoid, which is the object, and a rod as bright as it is
    radii, centre = rng.uniform((5, 5, 3), (8, 8, 4)), rng.uniform((10, 10, 4), (14, 21, 5))
    truth = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) < 1
    rod = np.hypot(grid[0] - 26, grid[1] - rng.uniform(5, 26)) < 3
    image = 100 + 80 * (truth | rod) + rng.normal(0, 30, truth.shape)
    for folder, array in (("new" if case == 8 else "imagesTr", image), ("labelsTr", truth)):
        if folder != "labelsTr" or case < 8:
            volume = nibabel.Nifti1Image(array.astype(np.float32), np.diag((*spacing, 1)))
            nibabel.save(volume, task / folder / f"case_{case}.nii.gz")

options = ["--dataset", "nifti", "--data", str(task), "--size", "32", "--width", "0.1", "--preset", "whole"]
main(["train", *options, "--updates", updates, "--seed", "0", "--out", f"{task}/run"])
main(["predict", f"{task}/run", f"{task}/new/case_8.nii.gz", "-o", f"{task}/mask.nii.gz"])
found = nibabel.load(task / "mask.nii.gz").get_fdata()
for name, mask in {"PA3C": found, "keep everything": np.ones_like(found)}.items():
    print(f"{name}: Dice {volume_dice(mask, truth):.3f}, HD95 {volume_hd95(mask, truth, spacing):.1f} mm")
