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
Q_LEARNERS = (Learner("dqn"), Learner("double-dqn"), Learner("dueling-dqn"))
PIXELRL = Learner("pixelrl")
LEARNERS = (
    PA3C,
    AC,
    *Q_LEARNERS,
    PIXELRL,
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


# The publication's other systems: networks trained on labels, and what is built on them. As published, but for the
# width; the loss is cross-entropy for all, with deep supervision where the original has it. With these widths 12,000
# passes of 64x64 take minutes each on one core; tables have a column for them.
def _network(network: str, label: str, width: float) -> Learner:
    return Learner(f"supervised-{network}", "supervised", label=label, hyper={"network": network, "width": width})


# As published, but for the width: the loss is cross-entropy for all, with deep supervision where the original has it.
NETWORKS_BY_LABELS = (
    _network("fcn8s", "FCN-8s", 0.25),
    _network("unet-31m", "U-Net (31 M)", 0.25),
    _network("attention-unet", "Attention U-Net", 0.25),
    _network("resunet++", "ResUNet++", 0.125),
    _network("unet++", "U-Net++", 0.125),
    _network("unet3+", "U-Net3+", 0.125),
    _network("nnunet", "nnU-Net's network", 0.25),
    _network("swin-unet", "Swin-Unet", 0.25),
    _network("transunet", "TransUNet", 0.25),
)
AMP_DRL = Learner("amp-drl", hyper={"width": 0.25})
PIXELRL_ON_UNET3P = Learner(
    "pixelrl-unet3+", "pixelrl", label="PixelRL from U-Net3+", start={"network": "unet3+", "width": 0.125}
)
SYSTEMS = (*NETWORKS_BY_LABELS, AMP_DRL, PIXELRL_ON_UNET3P)

# Learners with another's network, which have the hyperparameters of the learner. They stand in a table of their own.
PA3C_ON_UNET = Learner("pa3c-on-unet", "benchmarks.study.crossed:PA3COnUNet", tuned_as="pa3c")
AC_ON_PA3C = Learner("ac-on-pa3c", "benchmarks.study.crossed:ACOnPA3C", tuned_as="ac")
UNET_STEPS = Learner("unet-steps", "benchmarks.study.crossed:SteppedUNet", hyper=TWIN.hyper)
CROSSED = (PA3C_ON_UNET, AC_ON_PA3C, UNET_STEPS)

EXTRACTORS = ("unet", "unet3+")
"""Networks whose features the subject's two heads can have in place of its own network's."""

STEP_BY_STEP = (AC, AC_ON_PA3C, *Q_LEARNERS)
"""Who takes a gradient step after each step of a batch of episodes; all others take one an update."""
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
