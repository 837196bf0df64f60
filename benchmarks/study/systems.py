"""The systems of the publication's Table 2 that are networks trained by cross-entropy, and those built on them.

Widths are chosen so that 12,000 passes of 64x64 take a few minutes each on one core; a table has a column for them.
"""

from __future__ import annotations

from benchmarks.grid.catalogue import Learner


def _network(network: str, label: str, width: float) -> Learner:
    return Learner(f"supervised-{network}", "supervised", label=label, hyper={"network": network, "width": width})


# As published, but for the width: the loss is cross-entropy for all, with deep supervision where the original has it.
NETWORKS = (
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
SYSTEMS = (*NETWORKS, AMP_DRL, PIXELRL_ON_UNET3P)
