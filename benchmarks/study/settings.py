"""What a cell may be: learners and named settings. An agent that is in `pixelseg_agents.registry` is known already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.study.crossed import ACOnPA3C, PA3COnUNet
from benchmarks.study.twin import SteppedTwin, SupervisedTwin
from pixelseg_agents import PA3CConfig

REFERENCES = ("random", "keep-all", "otsu", "oracle")
TWINS = {"twin-plain": SupervisedTwin, "twin-steps": SteppedTwin}
# Learners with another's network, and whose hyperparameters they have.
CROSSED = {"pa3c-on-unet": PA3COnUNet, "ac-on-pa3c": ACOnPA3C}
TUNED_AS = {"pa3c-on-unet": "pa3c", "ac-on-pa3c": "ac"}
ACTOR_CRITICS = ("pa3c", "ac")
Q_LEARNERS = ("dqn", "double-dqn", "dueling-dqn")
REFINERS = {"pixelrl": "squared_error", "pixelrl-cross-entropy": "cross_entropy"}  # and their rewards
COARSE = 0.25  # share of the passes that goes to the U-Net whose maps a refiner starts from
LEARNERS = (*ACTOR_CRITICS, *Q_LEARNERS, *REFINERS, "unet", *TWINS)
LOOK_ONCE = ("unet", "twin-plain")
SUPERVISED = ("unet", *TWINS)
# A field of 22 x 22 pixels, but for what the normalisation shares.
SMALL_FIELD = {"sam": False, "dilation": False, "blocks": 1, "head_stride": 2, "detail": False}
PUBLISHED = {name: value for name, value in PA3CConfig.stated.items() if name != "width"}
# Hyperparameters that change nothing about these learners.
IDLE: tuple[tuple[tuple[str, ...], set[str]], ...] = (
    (SUPERVISED, {"entropy_coefficient", "exploration_end", "foreground_weight"}),
    (LOOK_ONCE, {"horizons", "later_background_weight", "preview_every"}),
    (tuple(REFINERS), {"later_background_weight"}),
)


@dataclass(frozen=True)
class Setting:
    """One way to train and judge an agent; what it does not name is as in `default`.

    Attributes:
        hyper: changes to the agent's hyperparameters; those that an agent does not have do not apply to it.
        env: changes to the environment.
        shots: how many training images the agent gets, drawn with the cell's seed; None: all.
        judged: steps of the test episodes. The metrics are those after step `horizon`, the curve goes on (Fig. 7).
        passes: share of the budget of network passes.
        parts: what the trained agent is judged on; the search never looks at test patients.
        tuned: whether the hyperparameters that the search has found apply.
    """

    hyper: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    shots: int | None = None
    judged: int = 15
    passes: float = 1.0
    parts: tuple[str, ...] = ("val", "test")
    tuned: bool = True


TUNING: dict[str, Any] = {"passes": 0.5, "tuned": False, "parts": ("val",)}
TRYING: dict[str, Any] = {"tuned": False, "parts": ("val",)}
SETTINGS: dict[str, Setting] = {
    "default": Setting(),
    # Table 3
    "no-sam": Setting(hyper={"sam": False}),
    "no-dilation": Setting(hyper={"dilation": False}),
    "no-sam-no-dilation": Setting(hyper={"sam": False, "dilation": False}),
    # Table 4
    "50-shot": Setting(shots=50),
    "100-shot": Setting(shots=100),
    # Fig. 7: trained at one t_max; the last is also the default without its horizon schedule
    "t_max-1": Setting(hyper={"horizons": (1,)}),
    "t_max-5": Setting(hyper={"horizons": (5,)}),
    "t_max-10": Setting(hyper={"horizons": (10,)}),
    "horizons-1-2-10": Setting(hyper={"horizons": (1, 2, 10)}),
    "horizons-1-3-10": Setting(hyper={"horizons": (1, 3, 10)}),
    # What this project added to the publication, one at a time
    "no-foreground-weight": Setting(hyper={"foreground_weight": 1.0}),
    "no-augmentation": Setting(hyper={"augmentation": False}),
    "no-later-background-weight": Setting(hyper={"later_background_weight": 1.0}),
    "no-normalisation": Setting(hyper={"norm": "none"}),
    "previews": Setting(hyper={"preview_every": 10}),
    # Where steps may earn their cost
    "dice-gain": Setting(env={"reward": "dice_gain"}),
    "restorable": Setting(env={"transition": "restorable"}),
    "stacked": Setting(env={"observation": "stacked"}),
    "restorable-stacked": Setting(env={"transition": "restorable", "observation": "stacked"}),
    "small-field": Setting(hyper=SMALL_FIELD),
    "small-field-restorable-stacked": Setting(
        hyper=SMALL_FIELD, env={"transition": "restorable", "observation": "stacked"}
    ),
    # The publication's way in one thing at a time, and in all but the width
    "no-detail": Setting(hyper={"detail": False}),
    "learning-rate-epochs": Setting(hyper={"learning_rate_schedule": "epochs"}),
    "reward-map-convolution": Setting(hyper={"reward_map_convolution": 9}),
    "published": Setting(hyper=PUBLISHED, tuned=False),
    # The search for hyperparameters, on validation patients and with half of the passes (with a quarter, no agent
    # gets through its horizon schedule: benchmarks/LOG.md)
    "tune-default": Setting(**TUNING),
    "tune-learning-rate-low": Setting(hyper={"learning_rate": 5e-4}, **TUNING),
    "tune-learning-rate-high": Setting(hyper={"learning_rate": 2e-3}, **TUNING),
    "tune-exploration-low": Setting(hyper={"entropy_coefficient": 0.005, "exploration_end": 0.005}, **TUNING),
    "tune-exploration-high": Setting(hyper={"entropy_coefficient": 0.05, "exploration_end": 0.1}, **TUNING),
    # Tried after the search and all runs, for five learners had won with its highest learning rate
    "beyond-learning-rate": Setting(hyper={"learning_rate": 4e-3}, **TUNING),
    # Attempts to improve PA3C, over folds of the patients that are not tested on
    "try-default": Setting(**TRYING),
    "try-half-heads": Setting(hyper={"head_stride": 2}, **TRYING),
    "try-full-heads": Setting(hyper={"head_stride": 1}, **TRYING),
    "try-small-field": Setting(hyper=SMALL_FIELD, **TRYING),
    "try-small-value-loss": Setting(hyper={"value_coefficient": 0.1}, **TRYING),
}
SEARCH = tuple(name for name in SETTINGS if name.startswith("tune-"))
