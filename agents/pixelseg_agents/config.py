"""Hyperparameters: those that every pixel agent has, and PA3C's."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pixelseg_agents.learning.looking import WHOLE, spelt
from pixelseg_agents.learning.schedule import TrainingSchedule
from pixelseg_env import OptionError, did_you_mean

START_BIAS = {("absorbing", "masked"): 4.0, ("absorbing", "stacked"): 4.0, ("restorable", "masked"): 2.0}

# An agent that may redraw a map, and sees it, must meet maps other than f(0) from the start: after long training
# on one-step episodes it takes a carved map for another picture, and flickers (measured: benchmarks/LOG.md).
HORIZONS = {("restorable", "stacked"): (2, 3, 10)}

# What goes with a policy gradient. The natural one leaves a policy that is wrong no rest, so it needs no entropy bonus.
POLICY_DEFAULTS: dict[str, dict[str, Any]] = {
    "vanilla": {"exploration": 0.0, "logit_limit": 0.0, "entropy_coefficient": 0.02, "equal_steps": False},
    "natural": {"exploration": 0.1, "logit_limit": 4.0, "entropy_coefficient": 0.0, "equal_steps": True},
}

LATER_BACKGROUND_WEIGHT = 0.25
DISCOUNT = 0.95
# Where a later look sees more than the first and cannot bring back what is gone, the first one has to be careful: an
# object's pixel that it removes costs three times what background pays, and at the second look, which counts twice in
# learning, one and a half times. The discount makes up for what counts twice. For two looks: a third one gains on some
# patients and loses on others (measured: benchmarks/LOOKING.md).
CAREFUL = {"gamma": DISCOUNT / 2, "final_foreground_weight": 3.0, "later_background_weight": 2.0}
EQUATION_12 = re.compile(r"(?:\d[\w.+-]*\*)?(?:squared_error|sign)")  # the same on maps of 0 and 1; or times a number


@dataclass(frozen=True)
class AgentConfig:
    """Hyperparameters that every pixel agent has.

    Raises:
        OptionError: a value is not valid.
    """

    agent: ClassVar[str] = "an agent"
    default_horizons: ClassVar[tuple[int, ...]] = (1, 3, 10)
    first_share: ClassVar[float] = 0.6
    # What is expected of a value, for messages.
    meanings: ClassVar[dict[str, str]] = {
        "look": 'expected "whole", "closer", values in brackets behind it, or module:name',
        "network": "expected a registered network's name, or module:name",
        "norm": 'expected "group" or "none"',
        "learning_rate_schedule": 'expected "linear", "epochs" or "constant"',
        "gamma": "expected a number from 0 to 1",
        "horizons": "expected whole numbers of at least 1",
        "precision": 'expected "fp32", "bf16" or "auto"',
        "horizon_shares": "expected as many positive numbers as horizons",
        "missing_sequences": "expected a number from 0 to 1, and 0 without augmentation",
        "missing_stand_in": "expected a channel, from 0, and missing_sequences above 0, for else nothing is replaced",
    }

    network: str | None = None
    """A segmentation network in place of the agent's own: a name that `pixelseg networks` lists, or module:name; None:
    its own."""
    look: str = "whole"
    """How it looks at an observation: whole, or closer: the whole image first, then a window of what is left, in 64x64
    pixels; closer(side=32, margin=1.5, ...) changes that; or module:name of a Look of one's own."""
    width: float = 0.25
    """Scales the network's channels; 1 is the publication's size."""
    norm: Literal["group", "none"] = "group"
    """Normalisation after every 3x3 convolution."""
    learning_rate: float = 1e-3
    """Of Adam, at the start."""
    learning_rate_schedule: Literal["linear", "epochs", "constant"] = "linear"
    """linear: to zero at the end; epochs: x0.9 every 25 epochs, as published."""
    gamma: float | None = None
    """Discount; None: 0.95, but half of it for an agent that looks closer in two steps, the second of which weighs
    twice as much."""
    horizons: tuple[int, ...] = ()
    """Training horizons t_max, one after the other; 10 alone is the published constant; none: by task
    (1 3 10, PA3C 1 2 10, or 2 3 10 for restorable and stacked)."""
    horizon_shares: tuple[float, ...] = ()
    """Share of the planned steps per horizon; none: 60 % for the first (PixelRL: 30 %), the rest alike for the
    others."""
    foreground_weight: float | Literal["ratio"] | None = None
    """Factor on object pixels' rewards at the start; ratio: background per foreground pixel of the set; None: ratio
    under Eq. 12, whose imbalance it mends, and 1 under any other reward."""
    final_foreground_weight: float | None = None
    """What that factor falls to, geometrically, at 80 % of the steps; 1 is plain Eq. 12; None: 1, but 3 for an agent
    that looks closer in two steps where zero is final, so that its first look is careful."""
    later_background_weight: float | None = None
    """Factor on background pixels' rewards from the second step on; None: by task (under Eq. 12 where zero is final
    0.25, and 2 for an agent that looks closer in two steps; else 1). Ten looks are ten chances to lose a pixel: at 0.25
    a later step zeroes one that is background at odds above 4."""
    augmentation: bool = True
    """Flips, rotations by 90 degrees and brightness."""
    missing_sequences: float = 0.0
    """Part of augmentation: share of the images in which some channels are replaced by another one, as data sets do
    where an MR sequence is missing."""
    missing_stand_in: int | None = None
    """Which channel, from 0, replaces them: 1, FLAIR, is what the data set brain has in place of a missing sequence;
    none: any, drawn for each image."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm; 0: off."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """What passes of training are computed in. auto: whatever is fastest here and gives the same gradients, measured
    with a few passes and remembered; it chooses channels_last too. Prediction is always fp32."""
    channels_last: bool = False
    """A pixel's channels lie beside each other in memory, which is faster on some machines."""
    compile: bool = False
    """Compile the network (torch.compile): a minute at the start, and for every other size or batch."""

    def __post_init__(self) -> None:
        if isinstance(self.look, str):
            object.__setattr__(self, "look", spelt(self.look))  # what is left to the task goes by its name
        for item in dataclasses.fields(self):
            wanted, value = str(item.type), getattr(self, item.name)
            if value is None and ("None" in wanted or "Optional" in wanted):
                continue
            if "tuple" in wanted and not isinstance(value, tuple):
                raise OptionError(f"{item.name}={value!r}: expected a tuple of numbers, such as (10,)")
            if value == "ratio" and "ratio" in wanted:
                continue
            if "float" in wanted and "tuple" not in wanted and not isinstance(value, (int, float)):
                raise OptionError(f"{item.name}={value!r}: expected a number")
            if wanted in ("int", "int | None") and (not isinstance(value, int) or isinstance(value, bool)):
                raise OptionError(f"{item.name}={value!r}: expected a whole number")
            if wanted in ("bool", "bool | None") and not isinstance(value, bool):
                raise OptionError(f"{item.name}={value!r}: expected True or False")
        for name, valid in self._checks().items():
            if not valid:
                raise OptionError(
                    f"{name}={getattr(self, name)!r} is not valid: {self.meanings.get(name, 'out of range')}"
                )

    def _checks(self) -> dict[str, bool]:
        """Whether each value is valid."""
        return {
            "network": self.network is None or (isinstance(self.network, str) and self.network != ""),
            "look": isinstance(self.look, str) and self.look != "",
            "width": 0 < self.width < math.inf,
            "norm": self.norm in ("group", "none"),
            "learning_rate": 0 < self.learning_rate < math.inf,
            "learning_rate_schedule": self.learning_rate_schedule in ("linear", "epochs", "constant"),
            "gamma": self.gamma is None or 0 <= self.gamma <= 1,
            "horizons": all(isinstance(h, int) and h >= 1 for h in self.horizons),
            "horizon_shares": (not self.horizons or len(self.horizon_shares) in (0, len(self.horizons)))
            and all(share > 0 for share in self.horizon_shares),
            "foreground_weight": self.foreground_weight in (None, "ratio") or float(self.foreground_weight or 0) > 0,
            "final_foreground_weight": self.final_foreground_weight is None or self.final_foreground_weight > 0,
            "later_background_weight": self.later_background_weight is None or self.later_background_weight > 0,
            "missing_sequences": 0 <= self.missing_sequences <= self.augmentation,
            "missing_stand_in": self.missing_stand_in is None
            or (self.missing_stand_in >= 0 and self.missing_sequences > 0),
            "max_gradient_norm": self.max_gradient_norm >= 0,
            "precision": self.precision in ("fp32", "bf16", "auto"),
        }

    def for_task(self, transition: str, observation: str) -> Self:
        """A copy in which what is left to the task (`horizons`, ...) is spelt out.

        Args:
            transition: of the environment.
            observation: of the environment.

        Returns:
            The copy.
        """
        horizons = self.horizons or HORIZONS.get((transition, observation), self.default_horizons)
        weights = self._weights_for(transition, max(horizons))
        spelt_out = dataclasses.replace(self, horizons=horizons, **weights)
        return dataclasses.replace(spelt_out, horizon_shares=spelt_out.shares)

    def _weights_for(self, transition: str, steps: int) -> dict[str, Any]:
        """Of `gamma`, `final_foreground_weight` and `later_background_weight` those that are left to the task."""
        found = {"gamma": DISCOUNT, "final_foreground_weight": 1.0, "later_background_weight": 1.0}
        left = [name for name in found if getattr(self, name) is None]
        if transition == "absorbing" and self.look == WHOLE:  # a later look sees the same, and less of it
            found["later_background_weight"] = LATER_BACKGROUND_WEIGHT
        elif transition == "absorbing" and steps == 2 and len(left) == 3 and self.foreground_weight in (None, "ratio"):
            found = CAREFUL
        return {name: found[name] for name in left}

    def for_reward(self, reward: str | None) -> Self:
        """A copy in which weights that belong to Eq. 12 are off, if the reward is another and they were not asked for.

        Args:
            reward: the name of the environment's; None: not known, which is taken for Eq. 12.

        Returns:
            The copy, or the configuration itself where nothing changes.
        """
        if reward is None or EQUATION_12.fullmatch(reward):
            return self
        names = ("foreground_weight", "final_foreground_weight", "later_background_weight")
        off: dict[str, Any] = {name: 1.0 for name in names if getattr(self, name) is None}
        return dataclasses.replace(self, **off) if off else self

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the planned steps of each horizon, spelt out."""
        if self.horizon_shares or len(self.horizons) < 2:
            return self.horizon_shares or (1.0,)
        rest = (1 - self.first_share) / (len(self.horizons) - 1)
        return (self.first_share, *(rest,) * (len(self.horizons) - 1))

    def schedule(self, total_updates: int) -> TrainingSchedule:
        """The plan of a training of `total_updates` updates."""
        return TrainingSchedule(total_updates, self.horizons, self.shares)

    def replace(self, **changes: Any) -> Self:
        """A copy with some hyperparameters changed.

        Raises:
            OptionError: a name is not known, or a value not valid.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise OptionError(f"{self.agent} has no hyperparameter {name!r}.{did_you_mean(name, known)}")
        if len(changes.get("horizons", ())) not in (0, len(self.horizon_shares)):
            changes = {"horizon_shares": ()} | changes
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            OptionError: a name is not known, or a value not valid.
        """
        found = values | {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        # What versions took that did not look so closely.
        switches = [item.name for item in dataclasses.fields(cls) if str(item.type) == "bool"]
        found |= {name: bool(found[name]) for name in switches if found.get(name) in (0, 1)}
        if not found.get("missing_sequences", 0) and "missing_stand_in" in found:
            found["missing_stand_in"] = None
        return cls().replace(**found)


@dataclass(frozen=True)
class PolicyConfig(AgentConfig):
    """Hyperparameters of an agent with a policy and a value for every pixel."""

    meanings: ClassVar[dict[str, str]] = AgentConfig.meanings | {
        "preview_every": "expected a whole number of at least 0",
        "workers": "expected a whole number of at least 0",
        "policy_gradient": 'expected "vanilla" or "natural"',
        "exploration": "expected a number from 0 to 1; above 0 with the natural gradient, which divides by it",
        "logit_limit": "expected a number of at least 0",
        "entropy_coefficient": "expected a number of at least 0",
    }

    start_bias: float | None = None
    """Log-odds of "keep" at the start; None: by task (0 where the first horizon is 1)."""
    policy_gradient: Literal["vanilla", "natural"] = "vanilla"
    """What a sampled action's advantage does to a pixel's policy. vanilla: the likelihood-ratio gradient, as published;
    natural: that divided by the policy's Fisher information, so that a policy which is certain, and wrong, still
    learns."""
    exploration: float | None = None
    """Share of the training's actions that are drawn uniformly; None: 0, with the natural gradient 0.1."""
    logit_limit: float | None = None
    """Log-odds beyond which a policy is not pushed any further; 0: none; None: none, with the natural gradient 4."""
    entropy_coefficient: float | None = None
    """Weight of the policy's entropy, which keeps it from settling too early; None: 0.02, with the natural gradient
    0."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    preview_every: int = 0
    """Every so many updates, one at the next t_max of `horizons`, which is then not new when its turn comes; 0:
    none."""
    workers: int = 0
    """Processes that train at the same time on shared parameters, each with its own environment and one share of the
    processor (asynchronous, as published); 0: one after the other, which the same seed repeats exactly."""

    def schedule(self, total_updates: int) -> TrainingSchedule:
        """The plan of a training of `total_updates` updates."""
        return TrainingSchedule(total_updates, self.horizons, self.shares, self.preview_every)

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {
            "preview_every": isinstance(self.preview_every, int) and self.preview_every >= 0,
            "workers": self.workers >= 0,
            "policy_gradient": self.policy_gradient in POLICY_DEFAULTS,
            "exploration": self.exploration is None
            or (0 <= self.exploration <= 1 and (self.exploration > 0 or self.policy_gradient != "natural")),
            "logit_limit": self.logit_limit is None or self.logit_limit >= 0,
            "entropy_coefficient": self.entropy_coefficient is None or self.entropy_coefficient >= 0,
            "value_coefficient": self.value_coefficient >= 0,
        }

    def for_task(self, transition: str, observation: str) -> Self:
        """As `AgentConfig`'s, with `start_bias` and what goes with the policy gradient."""
        spelt_out = super().for_task(transition, observation)
        usual = POLICY_DEFAULTS[self.policy_gradient].items()
        open_ones: dict[str, Any] = {name: value for name, value in usual if getattr(self, name, value) is None}
        spelt_out = dataclasses.replace(spelt_out, **open_ones)
        if self.start_bias is not None:
            return spelt_out
        # A one-step episode needs no bias; a longer one must not zero the image before it is learnt from.
        bias = START_BIAS.get((transition, observation), 0.0) if spelt_out.horizons[0] > 1 else 0.0
        return dataclasses.replace(spelt_out, start_bias=bias)


@dataclass(frozen=True)
class PA3CConfig(PolicyConfig):
    """Hyperparameters of PA3C. `PA3CConfig.published()` gives the publication's settings, as far as it states them.

    At `width=1` the network has 7.061 M parameters, with `detail=False` and `head_stride=2` the published 7.143 M.
    """

    agent: ClassVar[str] = "PA3C"
    # What the publication states, as far as it is known here. Where its words can be read in two ways, the reading
    # that learns better is kept: `sam_form`, `dilate_every_layer` and `finest` are the others (benchmarks/LOOKING.md).
    stated: ClassVar[dict[str, Any]] = {
        "width": 1.0,
        "norm": "none",
        "detail": False,
        "learning_rate_schedule": "epochs",
        "horizons": (10,),
        "foreground_weight": 1.0,
        "final_foreground_weight": 1.0,
        "later_background_weight": 1.0,
        "augmentation": False,
    }
    # What describes PA3C's own network, and nothing about another one.
    of_own_network: ClassVar[tuple[str, ...]] = (
        *("sam", "dilation", "sam_form", "dilate_every_layer", "finest"),
        *("blocks", "head_stride", "detail"),
    )
    # The second step is first met as the last of an episode, where keeping a pixel pays at once (benchmarks/LOG.md).
    default_horizons: ClassVar[tuple[int, ...]] = (1, 2, 10)
    meanings: ClassVar[dict[str, str]] = PolicyConfig.meanings | {
        "blocks": "expected 2, 3 or 4, or 1 with detail=False",
        "head_stride": "expected 1, 2, 4 or 8",
        "sam_form": 'expected "attention" or "softmax", the latter with sam=True',
        "dilate_every_layer": "expected False where dilation=False",
        "finest": "expected 1, or 2 with detail=False and head_stride of 2 or more",
        "reward_map_convolution": "expected 0 (off) or an odd kernel size",
        "reward_map_on": 'expected "returns", or "values" with reward_map_convolution above 0',
    }

    sam: bool = True
    """Spatial attention on conv4-3 (ablation: off)."""
    dilation: bool = True
    """Dilated convolutions (ablation: off)."""
    sam_form: Literal["attention", "softmax"] = "attention"
    """How Eq. 1 is read: attention among positions, or softmax(W * f + f) as it is printed."""
    dilate_every_layer: bool = False
    """No 3x3 convolution but the last has a dilation below 2: another reading of the publication."""
    finest: int = 1
    """The first block works at 1/finest of the resolution, 1 or 2; 2: scales of 1/2 to 1/16, another reading of the
    publication (with detail=False)."""
    blocks: int = 4
    """Blocks of the trunk, 1 to 4; with 1, no SAM and no dilation a pixel sees its neighbourhood, and what
    the normalisation shares."""
    head_stride: int = 4
    """The heads work at 1/head_stride of the resolution: 1, 2, 4 or 8."""
    detail: bool = True
    """The trunk's first block joins behind the heads, at full resolution."""
    equal_steps: bool | None = None
    """Whether every step of an episode weighs the same, however few pixels are left in it, or every decision of a
    pixel does; None: decisions, with the natural gradient steps."""
    reward_map_convolution: int = 0
    """Side of the learnable kernel of Eq. 8, odd; 0: off."""
    reward_map_on: Literal["returns", "values"] = "returns"
    """What Eq. 8's kernel w weighs: the neighbours' returns, R(t) = r(t) + gamma w * R(t+1), or their values,
    R(t) = r(t) + gamma w * V(s(t+1)), one step ahead, as PixelRL prints it (Furuta et al. 2019)."""
    recompute: bool | None = None
    """Keep no step's activations: every pass is done again for its gradient, so that memory hardly grows with t_max,
    for 1.3 to 1.45 times the time. None: where they would take more than half of the free memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network is None:
            return
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in self.of_own_network and value != item.default:
                raise OptionError(
                    f"{item.name}={value!r} describes {self.agent}'s own network, in whose place network="
                    f"{self.network!r} was asked for; leave one of the two out"
                )

    def replace(self, **changes: Any) -> Self:
        """As `AgentConfig`'s. Given another network, the published settings leave behind what describes their own."""
        published = type(self)(**self.stated)
        if changes.get("network") is not None and dataclasses.asdict(self) == dataclasses.asdict(published):
            own = {item.name: item.default for item in dataclasses.fields(self) if item.name in self.of_own_network}
            changes = own | changes
        return super().replace(**changes)

    def _checks(self) -> dict[str, bool]:
        kernel = self.reward_map_convolution
        return super()._checks() | {
            "blocks": self.blocks in (1, 2, 3, 4) and self.blocks > self.detail,
            "sam_form": self.sam_form in ("attention", "softmax")[: 1 + self.sam],
            "dilate_every_layer": self.dilation >= self.dilate_every_layer,
            "finest": self.finest in (1, 2) and not (self.finest == 2 and (self.detail or self.head_stride == 1)),
            "head_stride": self.head_stride in (1, 2, 4, 8),
            "reward_map_convolution": kernel == 0 or (kernel > 0 and kernel % 2 == 1),
            "reward_map_on": self.reward_map_on in ("returns", "values")[: 1 + (kernel > 0)],
        }

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The publication's settings as far as it states them: t_max = 10 throughout, plain Eq. 12 rewards.

        Not in it: the learnable convolution of Eq. 8, whose size is not known here (`reward_map_convolution`).
        Expect little: with few passes it hardly leaves the start, see README.
        """
        return cls(**cls.stated).replace(**changes)
