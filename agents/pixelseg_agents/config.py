"""PA3C's hyperparameters."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from pixelseg_env import OptionError
from pixelseg_env.errors import did_you_mean

START_BIAS = {("absorbing", "masked"): 4.0, ("absorbing", "stacked"): 4.0, ("restorable", "masked"): 2.0}

# An agent that may redraw a map, and sees it, must meet maps other than f(0) from the start: after long training
# on one-step episodes it takes a carved map for another picture, and flickers (measured: benchmarks/LOG.md).
HORIZONS = {("restorable", "stacked"): (2, 3, 10)}

LATER_BACKGROUND_WEIGHT = 0.25


@dataclass(frozen=True)
class PA3CConfig:
    """Hyperparameters of PA3C. `PA3CConfig.published()` gives the publication's settings, as far as it states them."""

    width: float = 0.25
    """Scales the network's channels; 1 is the publication's size (7.146 M; 7.143 M with --head-stride 2)."""
    sam: bool = True
    """Spatial attention on conv4-3 (ablation: off)."""
    dilation: bool = True
    """Dilated convolutions (ablation: off)."""
    norm: str = "group"
    """Normalisation after every 3x3 convolution: "group" or "none"."""
    head_stride: int = 4
    """The heads work at 1/head_stride of the resolution: 1, 2, 4 or 8."""
    start_bias: float | None = None
    """Log-odds of "keep" at the start; None: by task (0 where the first horizon is 1)."""

    learning_rate: float = 1e-3
    """Of Adam, at the start."""
    learning_rate_schedule: str = "linear"
    """"linear" (to zero at the end), "epochs" (x0.9 every 25 epochs, as published) or "constant"."""
    gamma: float = 0.95
    """Discount."""
    horizons: tuple[int, ...] = ()
    """Training horizons t_max, one after the other; 10 alone is the published constant; none: by task
    (1 3 10, or 2 3 10 for restorable and stacked)."""
    horizon_shares: tuple[float, ...] = ()
    """Share of the network passes per horizon; none: 60 % for the first, the rest alike for the others."""
    entropy_coefficient: float = 0.02
    """Weight of the policy's entropy, which keeps it from settling too early."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    foreground_weight: float | None = None
    """Factor on object pixels' rewards at the start; None: background per foreground pixel of the set."""
    final_foreground_weight: float = 1.0
    """What that factor falls to, geometrically, at 80 % of the passes; 1 is plain Eq. 12."""
    later_background_weight: float | None = None
    """Factor on background pixels' rewards from the second step on; None: by task (0.25 where zero is final).
    Ten looks are ten chances to lose a pixel: at 0.25 a later step zeroes one that is background at odds above 4."""
    reward_map_convolution: int = 0
    """Side of the learnable kernel of Eq. 8, odd; 0: off."""
    augmentation: bool = True
    """Flips, rotations by 90 degrees and brightness."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm; 0: off."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            wanted, value = item.type, getattr(self, item.name)
            if "tuple" in wanted and not isinstance(value, tuple):
                raise OptionError(f"{item.name}={value!r}: expected a tuple of numbers, such as (10,)")
            if "float" in wanted and "tuple" not in wanted and not isinstance(value, (int, float, type(None))):
                raise OptionError(f"{item.name}={value!r}: expected a number")
        checks = {
            "width": 0 < self.width < math.inf,
            "norm": self.norm in ("group", "none"),
            "head_stride": self.head_stride in (1, 2, 4, 8),
            "learning_rate": 0 < self.learning_rate < math.inf,
            "learning_rate_schedule": self.learning_rate_schedule in ("linear", "epochs", "constant"),
            "gamma": 0 <= self.gamma <= 1,
            "horizons": all(isinstance(h, int) and h >= 1 for h in self.horizons),
            "horizon_shares": (not self.horizons or len(self.horizon_shares) in (0, len(self.horizons)))
            and all(share > 0 for share in self.horizon_shares),
            "entropy_coefficient": self.entropy_coefficient >= 0,
            "value_coefficient": self.value_coefficient >= 0,
            "foreground_weight": self.foreground_weight is None or self.foreground_weight > 0,
            "final_foreground_weight": self.final_foreground_weight > 0,
            "later_background_weight": self.later_background_weight is None or self.later_background_weight > 0,
            "reward_map_convolution": self.reward_map_convolution == 0
            or (self.reward_map_convolution > 0 and self.reward_map_convolution % 2 == 1),
            "max_gradient_norm": self.max_gradient_norm >= 0,
        }
        for name, valid in checks.items():
            if not valid:
                raise OptionError(f"{name}={getattr(self, name)!r} is not valid: {_MEANING.get(name, 'out of range')}")

    def for_task(self, transition: str, observation: str) -> PA3CConfig:
        """A copy in which what is left to the task (`horizons`, `start_bias`, ...) is spelt out.

        Args:
            transition: of the environment.
            observation: of the environment.
        """
        task = transition, observation
        horizons = self.horizons or HORIZONS.get(task, (1, 3, 10))
        bias = self.start_bias
        if bias is None:
            # A one-step episode needs no bias; a longer one must not zero the image before it is learnt from.
            bias = START_BIAS.get(task, 0.0) if horizons[0] > 1 else 0.0
        later = self.later_background_weight
        if later is None:
            later = LATER_BACKGROUND_WEIGHT if transition == "absorbing" else 1.0
        return dataclasses.replace(self, horizons=horizons, start_bias=bias, later_background_weight=later)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the network passes of each horizon, spelt out."""
        if self.horizon_shares or len(self.horizons) < 2:
            return self.horizon_shares or (1.0,)
        return (0.6, *(0.4 / (len(self.horizons) - 1),) * (len(self.horizons) - 1))

    @classmethod
    def published(cls, **changes: Any) -> PA3CConfig:
        """The publication's settings as far as it states them: t_max = 10 throughout, plain Eq. 12 rewards.

        Not in it: the learnable convolution of Eq. 8, whose size is not known here (`reward_map_convolution`).
        Expect little: with few passes it hardly leaves the start, see README.
        """
        settings: dict[str, Any] = {
            "width": 1.0,
            "norm": "none",
            "learning_rate_schedule": "epochs",
            "horizons": (10,),
            "foreground_weight": 1.0,
            "final_foreground_weight": 1.0,
            "later_background_weight": 1.0,
            "augmentation": False,
        }
        return cls(**(settings | changes))

    def replace(self, **changes: Any) -> PA3CConfig:
        """A copy with some hyperparameters changed.

        Raises:
            OptionError: a name is not known, or a value not valid.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise OptionError(f"PA3C has no hyperparameter {name!r}.{did_you_mean(name, known)}")
        if len(changes.get("horizons", ())) not in (0, len(self.horizon_shares)):
            changes = {"horizon_shares": ()} | changes
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PA3CConfig:
        """The inverse of `to_dict`.

        Raises:
            OptionError: a name is not known, or a value not valid.
        """
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls().replace(**(values | lists))


_MEANING = {
    "norm": 'expected "group" or "none"',
    "head_stride": "expected 1, 2, 4 or 8",
    "learning_rate_schedule": 'expected "linear", "epochs" or "constant"',
    "gamma": "expected a number from 0 to 1",
    "horizons": "expected whole numbers of at least 1",
    "horizon_shares": "expected as many positive numbers as horizons",
    "reward_map_convolution": "expected 0 (off) or an odd kernel size",
}
