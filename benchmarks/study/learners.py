"""The study's learners, in the order of its tables: here alone they stand by name.

Label, family, whether supervised and whether it looks once are facts of a learner's class; here is what cannot be told
from it. A new row of the tables is a line here; an agent in `pixelseg_agents.registry` takes part without one.
"""

from __future__ import annotations

from benchmarks.grid.catalogue import Learner
from pixelseg_agents.references import REFERENCES as KNOWN

REFERENCES = tuple(Learner(name) for name in KNOWN)

PA3C, AC = Learner("pa3c"), Learner("ac")
UNET = Learner("unet", "supervised", colour="#999999")
TWIN = Learner(
    "twin-plain",
    "benchmarks.study.twin:SupervisedTwin",
    hyper={"foreground_weight": 1.0, "final_foreground_weight": 1.0},
    colour="#0072B2",
)
STEPPED_TWIN = Learner("twin-steps", "benchmarks.study.twin:SteppedTwin", hyper=TWIN.hyper, colour="#882255")
LEARNERS = (
    PA3C,
    AC,
    Learner("dqn"),
    Learner("double-dqn"),
    Learner("dueling-dqn"),
    Learner("pixelrl"),
    Learner(
        "pixelrl-cross-entropy",
        "pixelrl",
        label="PixelRL, cross-entropy",
        hyper={"foreground_weight": "ratio"},  # as under Eq. 12
        env={"reward": "cross_entropy"},
    ),
    UNET,
    TWIN,
    STEPPED_TWIN,
)

# Learners with another's network, which have the hyperparameters of the learner. They stand in a table of their own.
PA3C_ON_UNET = Learner("pa3c-on-unet", "benchmarks.study.crossed:PA3COnUNet", tuned_as="pa3c")
AC_ON_PA3C = Learner("ac-on-pa3c", "benchmarks.study.crossed:ACOnPA3C", tuned_as="ac")
CROSSED = (PA3C_ON_UNET, AC_ON_PA3C)

SUBJECT = PA3C
"""Whom the study is about: the others are compared with it, and its variants have tables."""
SAME_NETWORK = (SUBJECT, TWIN, STEPPED_TWIN)
NETWORKS = ("PA3C's network", "U-Net")
LEARNING = {
    "PA3C's learning": (PA3C, PA3C_ON_UNET),
    "AC's learning": (AC_ON_PA3C, AC),
    "cross-entropy": (TWIN, UNET),
}
"""How it is learnt, and the learners that do so on each of `NETWORKS`."""
