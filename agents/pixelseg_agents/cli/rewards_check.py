"""`pixelseg rewards check`: what a reward pays for, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from pixelseg_agents.cli.arguments import Switch, parse
from pixelseg_agents.files import check_target
from pixelseg_env.dynamics import decided
from pixelseg_env.rewards import Audit, Loophole, Played, Weights, audit_reward, resolve_reward

DESCRIPTION = """\
Tries a reward on small images before anyone trains with it: what a pixel can earn, whether detours pay (whether it
telescopes), what a missed pixel costs beside a false one, how long a step takes; and searches for a loophole, an
episode that earns as much as segmenting does, or more, without segmenting: by doing nothing, by flickering, by getting
worse. What is found is drawn in letters, and with --picture as a picture.

Exit code: 0, no loophole was found; 1, there is one; 2, the reward cannot be used at all.

Examples:
  pixelseg rewards check squared_error
  pixelseg rewards check gain_only --transition restorable --picture loophole.png
  pixelseg rewards check '0.7*squared_error + 0.3*dice_gain'
  pixelseg rewards check my_module:bonus --horizon 5
"""

PICTURES = (".png", ".svg", ".pdf")
WIDTH, TITLE = 100, 11
SAME = 0.005  # what is shown with two decimals is the same
LETTERS = "object #   background .   too much +   missed o"
KINDS = {
    "flicker": "pixels that change back and forth",
    "idle": "wrong pixels that are left as they are",
    "wrong": "pixels that are made wrong",
    "keep all": "keeping everything, that is doing nothing,",
    "zero all": "zeroing everything",
}


@dataclass(frozen=True)
class RewardCheckArguments:
    """Arguments of `pixelseg rewards check`."""

    reward: Positional[Annotated[str, arg(metavar="REWARD")]]
    """A name that pixelseg rewards list shows, module:name of your own, or an expression of these."""
    transition: Literal["absorbing", "restorable", "additive"] = "absorbing"
    """By which rules pixels play, as in pixelseg train: is zero final, is every pixel decided anew, or are maps
    probabilities?"""
    horizon: int = 10
    """Steps of an episode; loopholes are searched in shorter ones, too."""
    gamma: Annotated[
        float | None, arg(metavar="FLOAT", help_behavior_hint="(default: that of shaping in it, or 1)")
    ] = None
    """Discount of the returns that are compared."""
    picture: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: no picture)")] = None
    """Where to draw the loophole that was found, beside the episode that should earn most: .png, .svg or .pdf."""
    overwrite: Switch = False
    """Replace a picture that exists."""


def main(words: list[str]) -> int:
    """Runs the command; returns 1 where a loophole was found."""
    arguments: RewardCheckArguments = parse(RewardCheckArguments, words, "rewards check", DESCRIPTION)
    if arguments.picture is not None:
        check_target(arguments.picture, PICTURES, arguments.overwrite)
    reward = resolve_reward(arguments.reward)
    audit = audit_reward(reward, arguments.transition, arguments.horizon, arguments.gamma)
    for title, text in _lines(audit):
        print(textwrap.fill(text, WIDTH, initial_indent=f"{title:<{TITLE}}", subsequent_indent=" " * TITLE))
    found = audit.search.loophole
    if found is None:
        return 0
    print(f"\n{drawn(found)}")
    if arguments.picture is not None:
        from pixelseg_agents.evaluation.figures.loopholes import loophole_figure

        loophole_figure(found, f"{reward}, {arguments.transition}", arguments.picture)
        print(f"\nPicture: {arguments.picture}")
    return 1


def _lines(audit: Audit) -> Iterator[tuple[str, str]]:
    """What is printed, as a title and a text each."""
    facts, low, high = audit.reward.facts, *audit.range
    yield "reward", f"{audit.reward}{': ' * bool(facts.formula)}{facts.formula}{_source(facts.source)}"
    if facts.hack:
        yield "", f"It is here to be hacked. {facts.hack[0].upper()}{facts.hack[1:]}."
    yield "rules", "kept: the same twice, in a batch, and on torch where it is installed; it leaves its inputs alone"
    yield "range", f"a pixel earned {low:.3g} to {high:.3g} in a step"
    if audit.telescopes:
        yield "telescopes", "yes: what an episode earned depended on its first and last map alone, so no detour paid"
    else:
        apart = f"differed by up to {audit.detour:.3g} at one pixel"
        yield "telescopes", f"no: two episodes between the same maps {apart}, so the way counts"
    weighed = [_weighed(weights) for weights in audit.weights]
    for number, (weights, text) in enumerate(zip(audit.weights, weighed, strict=True)):
        if len(set(weighed)) > 1:
            yield "weighs" if number == 0 else "", f"object of {weights.object_share:.0%}: {text}"
    if len(set(weighed)) == 1:
        yield "weighs", weighed[0]
    pixel = audit.seconds / 64**2
    yield "cost", f"{audit.seconds * 1e3:.3g} ms a step for an image of 64x64, {pixel * 1e9:.3g} ns a pixel"
    yield "searched", _searched(audit)
    for text in audit.contradictions:
        yield "but", f"{text}: that is not so"
    yield _verdict(audit)


def _source(source: str) -> str:
    return f" ({source})" if source else ""


def _weighed(weights: Weights) -> str:
    """What one pixel counts."""
    return (
        f"in the first step, losing an object pixel {_counted(-weights.lost)}, removing a false one "
        f"{_counted(weights.removed)}; in the end, a missed pixel {_counted(-weights.missed)}, a false one "
        f"{_counted(-weights.false)}"
    )


def _counted(value: float) -> str:
    if abs(value) < SAME:
        return "costs nothing" if value <= 0 else "earns nothing"
    return f"{'earns' if value > 0 else 'costs'} {abs(value):.2f}"


def _searched(audit: Audit) -> str:
    search, rules = audit.search, audit.rules
    lengths = " and ".join(map(str, search.horizons))
    how = "a pixel's reward depends on that pixel alone" if search.pixelwise else "pixels depend on each other"
    everything = ", all that it can do was tried" if search.exhaustive and search.loophole is None else ""
    gamma = "" if rules.gamma == 1 else f", discounted by {rules.gamma:g}"
    return (
        f"{search.episodes} episodes of {lengths} steps on images of 6x6, {rules.transition}{gamma}; {how}{everything}"
    )


def _verdict(audit: Audit) -> tuple[str, str]:
    found = audit.search.loophole
    if found is None:
        certain = "no episode earns" if audit.search.exhaustive else "no episode was found that earns"
        return "SOUND", f"{certain} more than segmenting at once does without segmenting"
    steps = len(found.played.rewards)
    if found.earned > found.deserved + SAME:
        more = f"where segmenting at once earns {found.deserved:.3g}"
    else:
        more = "which is what segmenting earns"
    return "LOOPHOLE", (
        f"{KINDS[found.kind]} earn{'s' * found.kind.endswith('all')} {found.earned:.3g} a pixel in {steps} steps, "
        f"{more}; the episode ends with Dice {float(found.played.dice[0]):.2f}"
    )


def drawn(loophole: Loophole) -> str:
    """Both episodes in letters, step by step, with what a pixel earned."""
    rows = [LETTERS]
    for name, played in (("loophole", loophole.played), ("segmenting", loophole.honest)):
        rows += ["", *_episode(name, played)]
    return "\n".join(rows)


def _episode(name: str, played: Played) -> Iterator[str]:
    target = played.target[0]
    panels = [_letters(target, decided(maps)) for maps in played.maps[:, 0]]
    wide = max(len(panels[0][0]), 6) + 2
    heads = ["start", *(f"t = {t}" for t in range(1, len(panels)))]
    earned = ["", *(f"{value:+.2f}" for value in played.rewards[:, 0].mean(axis=(1, 2)))]
    yield f"{name:<{TITLE}}" + "".join(f"{head:<{wide}}" for head in heads).rstrip()
    for row in zip(*panels, strict=True):
        yield " " * TITLE + "".join(f"{part:<{wide}}" for part in row).rstrip()
    yield f"{'earned':<{TITLE}}" + "".join(f"{value:<{wide}}" for value in earned).rstrip()


def _letters(target: NDArray[np.uint8], maps: NDArray[np.uint8]) -> list[str]:
    """A map's rows: found, background, too much, missed."""
    return ["".join("o#"[kept] if actual else ".+"[kept] for actual, kept in zip(*pair, strict=True))
            for pair in zip(target.tolist(), maps.tolist(), strict=True)]  # fmt: skip
