"""The real nnU-Net (`nnunetv2`), planned, trained and run in an environment of its own, and judged as all others are.

`running` exports a cell's data, starts `runner` with the other environment's Python, and judges the masks that it
leaves.
"""

from benchmarks.grid.catalogue import Learner, Study

MODULE = "benchmarks.nnunet"
NAME = "nnunetv2"
STUDY = Study(learners=(Learner(NAME, f"{MODULE}.masks:PredictedMasks"),))
