"""The three lessons, start to finish, in Chromium: every step shows what it says, and the question is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pixelseg_agents.lab.lessons import HACK, LESSONS, SHAPE, WEIGH, Lesson
from tests.lab.browser.using import SECONDS, picture, says, told

CURVES = """() => {
  const plot = document.querySelector('#learning .js-plotly-plot');
  return plot?.data ? plot.data.map((line) => Array.from(line.y)) : [[], []];
}"""
Curves = tuple[list[float], list[float]]


def begin(page: Any, lesson: Lesson) -> None:
    page.locator("#lesson-choice label").nth(LESSONS.index(lesson) + 1).click()


def do(page: Any, lesson: Lesson, number: int) -> None:
    """Does a step, counted from 0, and waits until it is done; the next step is turned to by the next call."""
    if number:
        page.click("#lesson-next")
    says(page, "#lesson-text", f"{lesson.title}, step {number + 1} of {len(lesson.steps)}")
    step, before = lesson.steps[number], len(curves(page)[0])
    if step.who is not None:  # the step before may have ended with the same numbers, which would be read too early
        page.get_by_role("tab", name="Play").click()
        page.click("#restart")
        says(page, "#summary", "0 of ")
    page.click("#lesson-do")
    page.wait_for_function(
        "(t) => document.querySelector('#expression textarea, #expression input').value === t", arg=step.rules["reward"]
    )
    if step.train:
        page.wait_for_selector("#standing .training")
        page.wait_for_function(f"(n) => (({CURVES})()[0].length || n) < n", arg=before or 10**6)  # a new one
    if step.who is not None:
        says(page, "#summary", f"{step.rules['horizon']} of {step.rules['horizon']}")
    picture(page, f"lesson-{LESSONS.index(lesson) + 1}-{number + 1}")


def curves(page: Any) -> Curves:
    """Return and Dice of the training so far, from the plot."""
    earned, dice = page.evaluate(CURVES)
    return earned, dice


def learnt(page: Any, enough: Callable[[list[float], list[float]], bool]) -> Curves:
    """Waits until a training has shown something, and returns its curves up to there."""
    ends = time.monotonic() + 4 * SECONDS
    while True:
        earned, dice = curves(page)
        if enough(earned, dice):
            return earned, dice
        assert time.monotonic() < ends, (earned[-5:], dice[-5:], page.inner_text("#standing"))
        page.wait_for_timeout(300)


def answer(page: Any, lesson: Lesson) -> None:
    page.click("#lesson-next")
    says(page, "#lesson-text", f"{lesson.title}: a question")
    answers = page.locator("#lesson-answer label")
    answers.nth((lesson.right + 1) % 3).click()
    says(page, "#lesson-verdict", "Not that one")
    answers.nth(lesson.right).click()
    says(page, "#lesson-verdict", "Right")
    picture(page, f"lesson-{LESSONS.index(lesson) + 1}-answer")


@pytest.fixture(autouse=True)
def left_as_it_was(visitor: Any) -> Any:
    visitor.trouble.clear()
    yield
    visitor.locator("#lesson-choice label").first.click()
    visitor.get_by_role("tab", name="Train").click()
    visitor.click("#train-stop")
    visitor.get_by_role("tab", name="Play").click()
    assert visitor.trouble == []


def test_hack_it_the_return_rises_while_dice_stays_low_until_losses_count(visitor: Any) -> None:
    begin(visitor, HACK)
    do(visitor, HACK, 0)
    honest = told(visitor, "Reward so far")
    assert told(visitor, "Dice") == 1
    assert 0.5 < honest < 1
    do(visitor, HACK, 1)
    assert told(visitor, "Reward so far") == 2
    assert told(visitor, "Dice") < 0.3
    do(visitor, HACK, 2)
    earned, dice = learnt(
        visitor, lambda earned, _: bool(earned) and earned[-1] > 1.2
    )  # no honest player can have that
    assert dice[-1] < 0.4
    assert earned[-1] > 1.5 * earned[0]
    assert dice[-1] < dice[0] + 0.2
    do(visitor, HACK, 3)
    says(visitor, "#learning", "reward changed")
    after, _ = learnt(visitor, lambda now, _: len(now) > len(earned) and now[-1] < 1)
    assert after[: len(earned)] == earned  # the same agent went on
    answer(visitor, HACK)


def test_shape_it_what_telescopes_is_earned_by_no_detour(visitor: Any) -> None:
    begin(visitor, SHAPE)
    do(visitor, SHAPE, 0)
    assert abs(told(visitor, "Step's reward")) > 0.5
    assert told(visitor, "Reward so far") == 0
    do(visitor, SHAPE, 1)
    assert told(visitor, "Reward so far") == 0
    dice = told(visitor, "Dice")
    do(visitor, SHAPE, 2)
    assert told(visitor, "Reward so far") > 0.05
    do(visitor, SHAPE, 3)
    assert told(visitor, "Reward so far") > 0.05
    assert told(visitor, "Dice") == dice  # it is the same trajectory, judged four times
    answer(visitor, SHAPE)


def test_weigh_it_emptiness_pays_until_objects_weigh_more(visitor: Any) -> None:
    begin(visitor, WEIGH)
    do(visitor, WEIGH, 0)
    lazy = told(visitor, "Reward so far")
    assert lazy > 0.7
    assert told(visitor, "Dice") == 0
    do(visitor, WEIGH, 1)
    learnt(visitor, lambda _, dice: bool(dice) and min(dice) < 0.01)
    do(visitor, WEIGH, 2)
    assert told(visitor, "Reward so far") < lazy / 2
    do(visitor, WEIGH, 3)
    _, dice = learnt(visitor, lambda _, dice: bool(dice) and max(dice) > 0.3)
    assert min(dice) > 0.05  # it never was empty
    answer(visitor, WEIGH)
