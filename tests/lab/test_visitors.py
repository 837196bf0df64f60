"""Visitors: each has a game of their own, trains within limits, and leaves nothing that goes on."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from pixelseg_agents.lab.episode import Rules
from pixelseg_agents.lab.lessons import FARMED, HACK, LESSONS, SHAPE, WEIGH
from pixelseg_agents.lab.painting import canvas_value, read_painting
from pixelseg_agents.lab.rewards import checked, offered
from pixelseg_agents.lab.training import Settings, Training, look
from pixelseg_agents.lab.visitors import TRAINED, Host, Visitor, Visitors
from pixelseg_agents.references import KeepAll
from pixelseg_env import OptionError, load_dataset
from pixelseg_env.dynamics import AMOUNTS


@pytest.fixture(scope="module")
def host() -> Host:
    return Host({"Phantoms": load_dataset("phantom", split="all", size=32, count=3)}, rewards=offered(), visitors=2)


def wait(until: Callable[[], bool], seconds: float = 120.0) -> None:
    ends = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def test_two_visitors_do_not_touch_each_other(host: Host) -> None:
    visitors = Visitors(host)
    first, second = visitors.of("a"), visitors.of("b")
    first.session.act("zero")
    first.reward("2*sign")
    assert visitors.of("a") is first
    assert second.session.at == 0
    assert second.session.rules.reward == "squared_error"
    visitors.of("c")  # more than are remembered: the one who was away longest goes
    assert len(visitors) == 2
    assert visitors.of("c").session.at == 0
    assert visitors.of("a").session.at in (0, 1)
    visitors.clear()
    assert len(visitors) == 0


def test_what_a_visitor_may_not_do_changes_nothing(host: Host) -> None:
    visitor = Visitors(host).of("a")
    before = visitor.session.rules
    for wrong in (
        lambda: visitor.reward("os:system"),
        lambda: visitor.choose("No such set", 0),
        lambda: visitor.choose("Phantoms", 99),
        lambda: visitor.choose("Your own", 0),
        lambda: visitor.rules(horizon=10_000),
        lambda: read_painting("2" * 1024, visitor.session),
        lambda: read_painting("0" * 1023, visitor.session),
        lambda: read_painting(["0"] * 1024, visitor.session),
        lambda: read_painting(None, visitor.session),
        lambda: visitor.session.show_label(1),
    ):
        with pytest.raises(OptionError):
            wrong()
    visitor.who = "run 0"
    with pytest.raises(OptionError, match="nobody"):
        visitor.actor()
    assert visitor.session.rules == before


def test_what_is_painted_is_what_is_played(host: Host) -> None:
    session = Visitors(host).of("a").session
    assert '"step": 0' in canvas_value(session)
    painted = np.random.default_rng(0).integers(0, 2, (32, 32), np.uint8)
    session.paint(read_painting("".join(map(str, painted.ravel())), session))
    assert np.array_equal(session.segmentation, painted)


def test_amounts_that_are_painted_are_added_and_what_is_left_alone_goes_its_own_way(host: Host) -> None:
    session = Visitors(host).of("a").session
    session.change(transition="additive")
    told = json.loads(canvas_value(session))
    assert tuple(told["amounts"]) == AMOUNTS
    idle = np.frombuffer(base64.b64decode(told["idle"]), np.uint8)
    before = session.episode.levels[0]
    assert np.array_equal(np.array(AMOUNTS)[idle] > 0, before.ravel() >= 0.5)  # so that nothing is decided anew
    painted = idle.copy()
    painted[:40] = 6  # +0.4
    session.paint(read_painting("".join(map(str, painted)), session))
    added = session.episode.levels[1].ravel()
    assert np.allclose(added[:40], np.minimum(1, before.ravel()[:40] + 0.4))
    assert np.array_equal(session.segmentation.ravel()[40:], before.ravel()[40:] >= 0.5)
    with pytest.raises(OptionError, match="does not fit"):
        read_painting("8" * 1024, session)


def test_a_training_goes_on_changes_and_ends_and_its_agent_acts(host: Host) -> None:
    visitor = Visitors(host).of("a")
    visitor.rules(horizon=1)
    visitor.train()
    training = visitor.training
    assert training is not None
    wait(lambda: len(training.progress()[2]) >= 2)
    visitor.reward("balanced(10)")  # while it trains
    wait(lambda: training.progress()[2][-1].reward == "balanced(10)")
    looks = training.progress()[2]
    assert looks[0].reward == "squared_error"
    assert [one.updates for one in looks] == sorted({one.updates for one in looks})  # it has not begun anew
    with pytest.raises(OptionError, match="only reward and gamma"):
        training.change(horizon=3)
    visitor.stop()
    training.thread.join(60)
    assert training.progress()[0] == "stopped"
    assert TRAINED in visitor.actors()
    visitor.who = TRAINED
    visitor.session.act(visitor.actor())
    assert visitor.session.thoughts(visitor.actor()).value is not None


def test_a_visitor_who_leaves_ends_the_training(host: Host) -> None:
    visitors = Visitors(host)
    visitors.of("a").train()
    training = visitors.of("a").training
    assert training is not None
    visitors.leave("a")
    visitors.leave("a")  # twice, as a browser may say it
    training.thread.join(60)
    assert not training.alive


def test_a_training_that_nobody_watches_ends_and_one_that_waits_does_too(host: Host) -> None:
    turns = threading.Semaphore(0)
    waiting = Training(Settings(Rules(horizon=1)), turns=turns)
    assert waiting.progress()[0] == "waiting"
    waiting.stop()
    waiting.thread.join(10)
    assert waiting.progress()[0] == "stopped"
    unseen = Training(Settings(Rules(horizon=1)), seconds=300, unseen=0.0)
    unseen.thread.join(120)
    assert not unseen.alive
    assert "Nobody watched" in unseen.progress()[1]


def test_a_training_that_cannot_begin_says_why() -> None:
    training = Training(Settings(Rules(reward="no_such_reward")))
    training.thread.join(60)
    state, why, _ = training.progress()
    assert state == "failed"
    assert "no_such_reward" in why


def test_a_look_is_the_discounted_return_of_an_episode() -> None:
    pictures = load_dataset("phantom", split="all", size=32, count=2)
    found = look(KeepAll(), pictures, Rules("restorable", reward="dice_gain", horizon=3))
    assert found.earned == pytest.approx(0)
    assert found.keep == 1
    assert found.maps.shape == (2, 4, 32, 32)


# ---------------------------------------------------------------- lessons: what they claim is so


def done(host: Host, lesson: int, *, trained: bool = False) -> list[tuple[float, float]]:
    """Total reward and final Dice after each step of a lesson, which is done start to finish."""
    visitor = Visitor(host, threading.Semaphore(0))  # a training waits and learns nothing
    visitor.begin(lesson)
    found = []
    for step in LESSONS[lesson].steps:
        checked(step.rules["reward"], host.rewards)
        visitor.do_step()
        assert (visitor.training is not None and visitor.training.alive) or not step.train
        episode = visitor.session.episode
        found.append((float(episode.totals()[-1]), float(episode.scores()["DICE"][-1])))
        visitor.turn(1)
    visitor.turn(1)
    assert visitor.step == len(LESSONS[lesson].steps)
    visitor.do_step()  # at the question there is nothing to do
    visitor.stop()
    return found


def test_hack_it_the_cheat_earns_more_than_the_honest(host: Host) -> None:
    honest, cheat, *_ = done(host, LESSONS.index(HACK))
    assert honest[1] == pytest.approx(1)
    assert honest[0] < 1
    assert cheat == (pytest.approx(2), pytest.approx(0.11, abs=0.1))


def test_shape_it_only_what_is_no_difference_can_be_earned_by_flipping(host: Host) -> None:
    plain, shaped, farmed, discounted = (total for total, _ in done(host, LESSONS.index(SHAPE)))
    assert plain == pytest.approx(0, abs=1e-6)
    assert shaped == pytest.approx(0, abs=1e-6)
    assert farmed > 0.05
    assert discounted > 0.05
    assert FARMED in {step.rules["reward"] for step in SHAPE.steps}


def test_weigh_it_emptiness_pays_until_objects_weigh_more(host: Host) -> None:
    plain, _, weighed, _ = done(host, LESSONS.index(WEIGH))
    assert plain[1] == pytest.approx(0, abs=1e-3)
    assert plain[0] > 0.7
    assert weighed[0] < plain[0] / 2


def test_every_question_has_an_answer() -> None:
    for lesson in LESSONS:
        assert 0 <= lesson.right < len(lesson.answers)
        assert len(set(lesson.answers)) == len(lesson.answers) == 3
