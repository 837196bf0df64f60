"""The study's named settings."""

from __future__ import annotations

from typing import Any

from benchmarks.grid.catalogue import Setting
from benchmarks.study.learners import EXTRACTORS
from pixelseg_agents import PA3CConfig

# A field of 22 x 22 pixels, but for what the normalisation shares.
SMALL_FIELD = {"sam": False, "dilation": False, "blocks": 1, "head_stride": 2, "detail": False}
PUBLISHED = {name: value for name, value in PA3CConfig.stated.items() if name != "width"}
TUNING: dict[str, Any] = {"passes": 0.5, "tuned": False, "parts": ("val",)}
INTENSITY = {"start": "image", "reward": "intensity_error"}  # another reading of the decision process
SCALED, FLAIR = {"scaling": "percentiles"}, {"channels": "flair"}  # options of the data set brain
AS_UNDER_12: dict[str, Any] = {"foreground_weight": "ratio", "later_background_weight": 0.25}  # other rewards have 1
TRYING: dict[str, Any] = {"tuned": False, "parts": ("val",)}


def _looking(
    look: str = "closer", observe_time: bool = True, trying: bool = True, transition: str = "absorbing", **hyper: Any
) -> Setting:
    """An agent that looks closer at images of 256x256 pixels, and one change to how; see `TRYING`."""
    rules = {"observation": "stacked"} | ({"observe_time": True} if observe_time else {})
    rules |= {} if transition == "absorbing" else {"transition": transition}
    plan = {"horizons": (1, 2), "horizon_shares": (0.4, 0.6), "later_background_weight": 1.0}
    plan |= {"gamma": 0.95, "final_foreground_weight": 1.0}
    return Setting(hyper={"look": look} | plan | hyper, env=rules, **(TRYING if trying else {"tuned": False}))


def _careful(k: int) -> dict[str, Any]:
    """What the first look removes of the object costs k times what it costs later.

    Later looks count k times, and what the background earns there is discounted as before, 1 now or 0.95 later.
    """
    return {"gamma": 0.95 / k, "final_foreground_weight": float(k), "later_background_weight": float(k)}


HEAVIER = _careful(2) | {"final_foreground_weight": 3.0}  # and the object weighs 1.5 at the second look
# As the data set brain does it: what a patient lacks is replaced by FLAIR, its second channel
AS_REPLACED: dict[str, Any] = {"missing_sequences": 0.33, "missing_stand_in": 1}
THRICE: dict[str, Any] = {"horizons": (1, 2, 3), "horizon_shares": (0.3, 0.4, 0.3)}  # with --horizon 3
NO_WINDOW = "closer(smallest=1000000)"
# For processors with AMX. Seeds 0 and 1 of one setting were run in both, to compare.
FASTER: dict[str, Any] = {"precision": "bf16"}


def _once(more: str = "", trying: bool = False, **hyper: Any) -> Setting:
    """One look at the whole image, on test patients or see `TRYING`, with --horizon 1."""
    values = ", ".join(filter(None, (more, "smallest=1000000")))
    about = TRYING if trying else {"tuned": False}
    return Setting(hyper={"look": f"closer({values})", "horizons": (1,)} | hyper, **about)


def _gradient(data: dict[str, Any] | None = None, **hyper: Any) -> Setting:
    """An agent that looks once, and what its advantages do, or how its images are read; see `TRYING`."""
    return Setting(hyper={"horizons": (1,)} | hyper, data=data or {}, **TRYING)


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
    "dice-gain": Setting(hyper=AS_UNDER_12, env={"reward": "dice_gain"}),
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
    # Looking closer, one change at a time, with --size 256 --horizon 2
    "look-closer": _looking(),
    "look-no-window": _looking("closer(smallest=1000000)"),
    "look-no-time": _looking(observe_time=False),
    "look-gamma-1": _looking(gamma=1.0),
    "look-gamma-0.8": _looking(gamma=0.8),
    "look-natural-gamma-0.8": _looking(policy_gradient="natural", gamma=0.8),
    "look-natural-gamma-0.2": _looking(policy_gradient="natural", gamma=0.2),
    "look-natural-gamma-0.2-explores-less": _looking(policy_gradient="natural", gamma=0.2, exploration=0.01),
    "look-restorable": _looking(transition="restorable"),
    "look-natural-restorable-gamma-0.2": _looking(transition="restorable", policy_gradient="natural", gamma=0.2),
    "look-tighter": _looking("closer(margin=1.1, border=2, smallest=40)"),
    "look-context": _looking("closer(context=True)"),
    "look-two-windows": _looking("closer(windows=2)"),  # two passes at every look, so half of the updates
    "look-later-background": _looking(later_background_weight=0.25),
    **{f"look-careful-{k}": _looking(**_careful(k)) for k in (2, 4, 8)},
    "look-careful-2-heavier": _looking(**HEAVIER),
    # Windows in 4 of 10 passes instead of 3: outlines may lag for want of practice
    "look-more-second-looks-careful": _looking(horizon_shares=(0.2, 0.8), **HEAVIER),
    "look-natural-careful-2": _looking(policy_gradient="natural", **_careful(2)),
    "look-natural-careful-2-heavier": _looking(policy_gradient="natural", **HEAVIER),
    "look-natural-careful-2-heavier-unequal": _looking(policy_gradient="natural", equal_steps=False, **HEAVIER),
    "look-no-window-careful-2-heavier": _looking(NO_WINDOW, **HEAVIER),
    "look-limit-careful-2-heavier": _looking(logit_limit=4.0, **HEAVIER),
    "look-careful-2-heavier-equal-steps": _looking(equal_steps=True, **HEAVIER),
    "look-careful-2-heavier-missing-third-flair": _looking(**HEAVIER, **AS_REPLACED),
    "look-no-time-careful-2-heavier": _looking(observe_time=False, **HEAVIER),
    "look-two-windows-careful-2-heavier": _looking("closer(windows=2)", **HEAVIER),
    "look-careful-2-heavier-wide": _looking(width=0.5, **HEAVIER),
    "look-equal-steps": _looking(equal_steps=True),  # the few pixels of a second look weigh as much as all of the first
    "look-once-90": _once("side=90", trying=True),
    "look-natural": _looking(policy_gradient="natural"),
    **{f"look-{name}": _looking(network=name) for name in EXTRACTORS},
    **{f"look-{name}-careful-2-heavier": _looking(network=name, **HEAVIER) for name in EXTRACTORS},
    # What was run once on test patients at width 0.5, on folds: one look that costs as much as two, and larger ones
    "look-once-90-wide": _once("side=90", trying=True, width=0.5),
    "look-90-careful-2-heavier-wide-bf16": _looking("closer(side=90)", width=0.5, **HEAVIER, **FASTER),
    "look-once-128-wide-bf16": _once("side=128", trying=True, width=0.5, **FASTER),
    "look-thrice-careful": _looking(**THRICE, **HEAVIER),
    "look-thrice": _looking(**THRICE),
    # Cross-entropy at both looks, see `careful.HeavierLabels`
    "look-by-labels": _looking(foreground_weight=1.0),
    "look-final-weight-2": _looking(final_foreground_weight=2.0),  # the second look throws away too much
    # Another reading of the decision process, beside the usual one, with the published settings and with PA3C's own
    "try-published": Setting(hyper=PUBLISHED, **TRYING),
    "try-published-intensity": Setting(hyper=PUBLISHED, env=INTENSITY, **TRYING),
    "try-published-intensity-norm": Setting(hyper=PUBLISHED | {"norm": "group"}, env=INTENSITY, **TRYING),
    "try-published-norm": Setting(hyper=PUBLISHED | {"norm": "group"}, **TRYING),
    "try-intensity": Setting(hyper=AS_UNDER_12, env=INTENSITY, **TRYING),
    "try-intensity-flair": Setting(hyper=AS_UNDER_12, env=INTENSITY, data=FLAIR, **TRYING),
    # Other readings of the publication's network, with --horizon 1
    "reading-no-detail": _gradient(detail=False),
    "reading-softmax": _gradient(sam_form="softmax"),
    "reading-dilate-every-layer": _gradient(dilate_every_layer=True),
    "reading-finest-2": _gradient(finest=2, detail=False),
    # Eq. 8 on what neighbours earn, and on what they are thought to be worth one step on: at least two steps, with
    # --horizon 2
    "reading-two-steps": _gradient(horizons=(1, 2)),
    "reading-convolution": _gradient(horizons=(1, 2), reward_map_convolution=9),
    "reading-convolution-on-values": _gradient(horizons=(1, 2), reward_map_convolution=9, reward_map_on="values"),
    # Patients whose missing sequences are replaced by another one, with --horizon 1; beside gradient-natural
    "missing-third": _gradient(policy_gradient="natural", missing_sequences=0.33),
    "missing-third-flair": _gradient(policy_gradient="natural", **AS_REPLACED),
    "scaled-percentiles": _gradient(SCALED, policy_gradient="natural"),
    "flair": _gradient(FLAIR, policy_gradient="natural"),
    "scaled-percentiles-flair": _gradient(SCALED | FLAIR, policy_gradient="natural"),
    "scaled-percentiles-missing-third": _gradient(SCALED, policy_gradient="natural", missing_sequences=0.33),
    # What the folds have settled, on test patients, with --size 256 --horizon 2
    "closer": _looking(trying=False),
    "closer-final-weight-2": _looking(trying=False, final_foreground_weight=2.0),
    **{f"closer-{side}": _looking(f"closer(side={side})", trying=False) for side in (32, 90, 128)},
    "closer-careful-2": _looking(trying=False, **_careful(2)),
    **{
        f"{name}-careful-2-heavier": _looking(look, trying=False, **HEAVIER)
        for name, look in {"closer": "closer", "closer-90": "closer(side=90)", "no-window": NO_WINDOW}.items()
    },
    "closer-by-labels": _looking(trying=False, foreground_weight=1.0),
    "closer-thrice-careful": _looking(trying=False, **THRICE, **HEAVIER),
    "no-window-32": _looking("closer(side=32, smallest=1000000)", trying=False),
    "once": _once(),
    # One look that costs as much as two of 32x32, 64x64, 90x90, 128x128
    **{f"once-{side}": _once(f"side={side}") for side in (45, 90, 128, 181)},
    # More compute, in bfloat16: at 256 the one look sees the image as it is; wide networks cost three times as much
    **{f"once-{side}-bf16": _once(f"side={side}", **FASTER) for side in (90, 128, 181, 256)},
    **{f"once-{side}-wide-bf16": _once(f"side={side}", width=0.5, **FASTER) for side in (64, 90, 128, 181, 256)},
    **{
        f"closer-{side}-careful-2-heavier-bf16": _looking(f"closer(side={side})", trying=False, **HEAVIER, **FASTER)
        for side in (64, 90, 128, 181)
    },
    "closer-careful-2-heavier-wide": _looking(trying=False, width=0.5, **HEAVIER),
    "closer-90-careful-2-heavier-wide": _looking("closer(side=90)", trying=False, width=0.5, **HEAVIER),
    "once-90-wide": _once("side=90", width=0.5),
    "no-time-careful-2-heavier": _looking(observe_time=False, trying=False, **HEAVIER),
    "no-window-careful-2-heavier-bf16": _looking(NO_WINDOW, trying=False, **HEAVIER, **FASTER),
    "no-window-bf16": _looking(NO_WINDOW, trying=False, **FASTER),
    **{
        f"closer-{side}-careful-2-heavier-wide-bf16": _looking(
            f"closer(side={side})", trying=False, width=0.5, **HEAVIER, **FASTER
        )
        for side in (64, 90, 128)
    },
    # Full width, which costs four times as much as half of it: from 7 GFLOP an image on it wants a GPU (make bench-gpu)
    **{
        f"closer-{side}-careful-2-heavier-full-bf16": _looking(
            f"closer(side={side})", trying=False, width=1.0, **HEAVIER, **FASTER
        )
        for side in (90, 128, 181, 256)
    },
    "closer-90-careful-2-heavier-full-slower-bf16": _looking(
        "closer(side=90)", trying=False, width=1.0, learning_rate=5e-4, **HEAVIER, **FASTER
    ),
    **{f"once-{side}-full-bf16": _once(f"side={side}", width=1.0, **FASTER) for side in (128, 181, 256)},
    "no-window": _looking("closer(smallest=1000000)", trying=False),
    # One look, and what moves the policy, one change at a time, with --horizon 1
    "gradient-vanilla": _gradient(),
    "gradient-vanilla-explores": _gradient(exploration=0.1),
    "gradient-vanilla-limit": _gradient(logit_limit=4.0),
    "gradient-vanilla-no-entropy": _gradient(entropy_coefficient=0.0),
    "gradient-natural": _gradient(policy_gradient="natural"),
    # Is it only that Adam's steps are of another size? It divides by the gradient's, so its rate alone sets that
    "gradient-vanilla-faster": _gradient(learning_rate=2e-3),
    "gradient-natural-slower": _gradient(policy_gradient="natural", learning_rate=5e-4),
    "gradient-natural-explores-less": _gradient(policy_gradient="natural", exploration=0.02),
    "gradient-natural-no-limit": _gradient(policy_gradient="natural", logit_limit=0.0),
    "gradient-natural-entropy": _gradient(policy_gradient="natural", entropy_coefficient=0.02),
}
SEARCH = tuple(name for name in SETTINGS if name.startswith("tune-"))
