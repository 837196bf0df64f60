"""Three lessons: hack it, shape it, weigh it. Each is a few steps that the lab does for the reader, and a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixelseg_agents.lab.rewards import GAINS_ONLY


@dataclass(frozen=True)
class Step:
    """One step of a lesson.

    Attributes:
        text: what to do and to look at, Markdown.
        button: what the button says that does it.
        rules: of `Rules`, to be set.
        who: a strategy that then plays an episode from its beginning; None: the actions stay as they are.
        train: whether a training begins.
        goes_on: whether one that was begun before is watched on.
    """

    text: str
    button: str
    rules: Mapping[str, Any] = field(default_factory=dict)
    who: str | None = None
    train: bool = False
    goes_on: bool = False


@dataclass(frozen=True)
class Lesson:
    """A lesson; its question has one right answer.

    Attributes:
        title: two words.
        aim: what it shows, one sentence.
        steps: in their order.
        question: at its end.
        answers: to choose from.
        right: the number of the right one.
        why: what is told with it, Markdown.
    """

    title: str
    aim: str
    steps: tuple[Step, ...]
    question: str
    answers: tuple[str, ...]
    right: int
    why: str


FREE = {"transition": "restorable", "observation": "stacked", "horizon": 4, "gamma": 1.0}
ONCE = {"transition": "absorbing", "observation": "masked", "horizon": 1, "gamma": 1.0}
FARMED = "squared_error + (boundary).clip(0, None)"

HACK = Lesson(
    "Hack it",
    "A reward that only praises can be earned without getting better.",
    (
        Step(
            "Every step decides every pixel anew, and the reward is **max(gain, 0)**: a pixel that becomes right "
            "earns 1, one that becomes wrong loses nothing. That sounds kind. First an honest player, who knows the "
            "truth and keeps exactly the object. *Look at the reward so far, and at Dice.*",
            "Play the honest way",
            FREE | {"reward": GAINS_ONLY},
            "truth",
        ),
        Step(
            "Now a cheat: **flip every pixel, at every step**. Whatever was wrong becomes right, and earns 1; then it "
            "is made wrong for nothing, to earn again. *The reward so far is 2.0 for every pixel. And Dice?*",
            "Flip everything",
            FREE | {"reward": GAINS_ONLY},
            "flip",
        ),
        Step(
            "Nobody told a learner of that trick. Train one on this reward and watch: at first it learns to remove the "
            "background, as it should, and then **the return goes on rising while Dice does not**. (Give it a minute.)",
            "Train on gains only",
            FREE | {"reward": GAINS_ONLY, "gamma": 0.95},
            train=True,
        ),
        Step(
            "Let losses count: **squared error** is gain and loss alike. The agent that has learnt to cheat goes on "
            "training under it. *What becomes of the return, and of the flicker?*",
            "Let losses count",
            FREE | {"reward": "squared_error", "gamma": 0.95},
            goes_on=True,
        ),
    ),
    "What closes the loophole?",
    ("Shorter episodes", "A loss that costs as much as the gain pays", "A larger network"),
    1,
    "There and back then adds up to nothing: the sum over an episode depends on its first and its last map alone. "
    "Shorter episodes leave a smaller loophole, and a larger network finds it sooner.",
)

SHAPE = Lesson(
    "Shape it",
    "A bonus is harmless if it adds up to a difference between the end and the beginning.",
    (
        Step(
            "**Squared error** (Eq. 12) pays for each step how much a pixel's error fell. Without a discount the "
            "sum is the error of the first map minus that of the last. Watch four flips: *each step earns much, or "
            "costs as much; what is left after the fourth?*",
            "Flip four times",
            FREE | {"reward": "squared_error"},
            "flip",
        ),
        Step(
            "Add a bonus: **squared error + Dice gain**. The Dice gain, too, is a difference of what comes after and "
            "before. The same flips are scored again, at once: *still nothing*. Such a bonus can make learning easier, "
            "and does not change which mask is worth most at the end.",
            "Add the Dice gain",
            FREE | {"reward": "squared_error + dice_gain"},
        ),
        Step(
            "Another bonus: praise for pixels **near the boundary that become right**, without blame for those that "
            "become wrong. *The same four flips now earn something*: the map is where it was, and the reward is not.",
            "Praise at the boundary",
            FREE | {"reward": FARMED},
        ),
        Step(
            "One trap is left. With a **discount** below 1 the difference does not cancel: what is lost later counts "
            "less than what was gained before. *The flips earn something even by squared error plus Dice gain.* "
            "Shaping that keeps the optimum for any discount pays gamma times the potential after a step, minus that "
            "before it.",
            "Discount by 0.5",
            FREE | {"reward": "squared_error + dice_gain", "gamma": 0.5},
        ),
    ),
    "Without a discount: which bonus leaves the best final mask the best?",
    (
        "The Dice gain of each step",
        "0.1 for every pixel that changes",
        "The boundary's gains, without its losses",
    ),
    0,
    "It telescopes to Dice at the end minus Dice at the beginning, and so ranks final masks as Dice does. The two "
    "others pay for moving to and fro.",
)

WEIGH = Lesson(
    "Weigh it",
    "Nine pixels in ten are background: by the mean, the object hardly matters.",
    (
        Step(
            "One step, plain **squared error**. Be lazy: **zero everything**. *The reward is large, nearly all that "
            "can be had, and Dice is 0.*",
            "Zero everything",
            ONCE | {"reward": "squared_error"},
            "zero",
        ),
        Step(
            "Train on it and watch the share of kept pixels. *The first thing that a learner finds is that emptiness "
            "pays*; how long it stays there depends on luck and on the entropy bonus.",
            "Train unweighted",
            ONCE | {"reward": "squared_error"},
            train=True,
        ),
        Step(
            "Let an object pixel count **as much as ten others**: balanced(10). The lazy mask is scored again. *It is "
            "worth less than half.*",
            "Weigh by 10, zero everything",
            ONCE | {"reward": "balanced(10)"},
            "zero",
        ),
        Step(
            "Train with that weight. *It finds the object*, and keeps too much around it. Then move the slider "
            "**Object weight** on the left while it trains: up, and it keeps more; down, and it keeps less.",
            "Train with weight 10",
            ONCE | {"reward": "balanced(10)"},
            train=True,
        ),
    ),
    "An object pixel weighs 10 times a background pixel. From which probability of being object on should a pixel "
    "be kept?",
    ("From 50 %", "From about 9 %", "From about 91 %"),
    1,
    "Keeping a pixel of probability p is worth 10 p, removing it 1 - p. They are equal at p = 1/11, about 9 %: a "
    "weight moves the optimum, which is why PA3C lets its own fall to 1 while it trains.",
)

LESSONS = (HACK, SHAPE, WEIGH)
