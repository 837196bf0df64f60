"""What the page shows, without a browser: every part of it gets what fits the visitor's game."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pixelseg_agents import PA3C
from pixelseg_agents.lab.acting import Actor
from pixelseg_agents.lab.lessons import LESSONS
from pixelseg_agents.lab.rewards import offered
from pixelseg_agents.lab.visitors import Host, Visitor
from pixelseg_env import PixelSegVectorEnv, load_dataset

for package in ("gradio", "plotly"):
    pytest.importorskip(package, reason=f"{package} is not installed here; make test-lab has an environment with it")


@pytest.fixture(scope="module")
def host() -> Host:
    data = load_dataset("phantom", split="all", size=32, count=2)
    env = PixelSegVectorEnv(1, data, horizon=3)
    agent = PA3C(env, width=0.03, look="closer(side=16, smallest=8)", device="cpu")
    return Host({"Phantoms": data}, (Actor("Run tiny", agent),), offered(), (32, 32))


def test_every_part_gets_a_value_and_no_other(host: Host) -> None:
    from pixelseg_agents.lab.page import Page
    from pixelseg_agents.lab.showing import show

    page = Page(host)
    visitor = Visitor(host, threading.Semaphore(0))
    visitor.who = "run 0"
    visitor.begin(0)
    assert set(show(host, visitor)) <= set(page.shown)
    visitor.session.act(visitor.actor(), to_the_end=True)
    shown = show(host, visitor, "<b>oh</b>")
    assert set(page.shown) - set(shown) <= {"tabs"}
    assert "&lt;b&gt;oh" in shown["trouble"].value
    assert shown["value_panel"].visible
    assert np.array_equal(shown["reward"].data[0].z, visitor.session.episode.rewards[-1])
    assert np.array_equal(shown["return"].data[0].z, visitor.session.episode.returns()[-1])
    numbers = shown["picture"].data[0].customdata
    assert numbers.shape == (32, 32, 6)
    assert np.array_equal(numbers[..., 0], visitor.session.episode.target)
    assert len(shown["picture"].layout.shapes) == 1  # the window
    assert shown["seen"].data[0].z.shape == (16, 16)
    visitor.who = "flip"
    assert not show(host, visitor)["value_panel"].visible


def test_sliders_follow_the_reward_as_far_as_they_can(host: Host) -> None:
    from pixelseg_agents.lab.showing import NONE, show

    visitor = Visitor(host, threading.Semaphore(0))
    visitor.reward("0.5*sign - balanced(7)")
    shown = show(host, visitor)
    assert (shown["term0"], shown["term1"], shown["term2"]) == ("sign", "balanced", NONE)
    assert (shown["weight0"].value, shown["weight1"].value) == (0.5, -1.0)
    assert shown["object_weight"].value == 7
    visitor.reward("5*sign")  # beyond what they reach
    assert "term0" not in show(host, visitor)


def test_a_lesson_turns_to_its_tab_once(host: Host) -> None:
    from pixelseg_agents.lab.showing import show

    visitor = Visitor(host, threading.Semaphore(0))
    visitor.begin(0)
    visitor.step = 2
    visitor.do_step()
    assert show(host, visitor)["tabs"].selected == "train"
    assert getattr(show(host, visitor)["tabs"], "selected", None) is None  # a visitor may look at another
    visitor.step = len(LESSONS[0].steps)
    asked = show(host, visitor)
    assert asked["answer"].visible
    assert not asked["lesson_do"].visible
    visitor.stop()


def test_the_outline_of_a_mask_runs_along_its_pixels() -> None:
    from pixelseg_agents.lab.figures import outline

    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2] = 1
    x, y = outline(mask)
    assert len(x) == len(y) == 3 * 6  # the perimeter of 2 x 1 pixels, each edge with a gap behind it
    assert {one for one in x if one is not None} == {1.5, 2.5}
    assert {one for one in y if one is not None} == {0.5, 1.5, 2.5}
