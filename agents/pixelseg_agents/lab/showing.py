"""What the page shows of a visitor's game."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pixelseg_agents.lab import figures, views
from pixelseg_agents.lab.lessons import LESSONS
from pixelseg_agents.lab.painting import canvas_value
from pixelseg_agents.lab.rewards import as_sliders
from pixelseg_agents.lab.visitors import UPLOAD, Host, Visitor
from pixelseg_env import PixelSegError

NONE = "none"  # no further term
SHOWN_TERMS = 3
REACH = 2  # of their weights, either way
LOW, HIGH = 1, 40  # of the weight of objects


def show(host: Host, visitor: Visitor, trouble: str = "") -> dict[str, Any]:
    """What the parts of the page become that depend on a visitor's game.

    Args:
        host: what whoever started the lab has chosen.
        visitor: see `Visitor`; that a lesson asks for a tab is forgotten, so that it is shown once.
        trouble: what went wrong just now, if anything.

    Returns:
        By name: a value, or a component of Gradio with what changes about it.
    """
    session = visitor.session
    episode, at, rules = session.shown, session.at, session.rules
    try:
        thoughts = session.thoughts(visitor.actor())
    except PixelSegError as error:
        thoughts, trouble = session.thoughts(None), trouble or str(error)
    titles = [*host.datasets, *([UPLOAD] if visitor.uploaded is not None else [])]
    labels = [(name, number) for number, name in enumerate(session.dataset.label_names)]
    plain = {
        "trouble": gr.HTML(views.message(trouble), visible=bool(trouble)),
        "dataset": gr.Dropdown(titles, value=visitor.title),
        "label": gr.Dropdown(labels, value=session.label, visible=len(labels) > 1),
        "index": gr.Slider(maximum=max(1, len(session.dataset) - 1), value=session.index),
        "transition": rules.transition,
        "observation": rules.observation,
        "horizon": rules.horizon,
        "gamma": rules.gamma,
        "expression": rules.reward,
        "who": who_acts(visitor),
        "at": gr.Slider(maximum=max(1, episode.steps), value=at),
        "summary": views.summary(session),
        "canvas": canvas_value(session),
        "picture": figures.picture(episode, at, thoughts),
        "map": figures.map_figure(episode, at),
        "reward": figures.reward_figure(episode, at),
        "return": figures.return_figure(episode, at),
        "curves": figures.curves(episode, at),
        "metrics": views.metrics_table(session),
    }
    fields = {"value": thoughts.value, "entropy": thoughts.entropy, "seen": thoughts.seen}
    drawn = {"value": figures.value_figure, "entropy": figures.entropy_figure, "seen": figures.seen_figure}
    for name, field in fields.items():
        plain[f"{name}_panel"] = gr.Column(visible=field is not None)
        plain[name] = None if field is None else drawn[name](field)
    plain |= _sliders(rules.reward) | show_lesson(visitor)
    visitor.tab = None  # once: afterwards it is the visitor's to choose
    return plain


def who_acts(visitor: Visitor) -> Any:
    """The choice of who acts."""
    return gr.Dropdown([(title, key) for key, title in visitor.actors().items()], value=visitor.who)


def _sliders(reward: str) -> dict[str, Any]:
    """The sliders as they would have written a reward; where they could not have, they stay as they are."""
    found = as_sliders(reward)
    if found is None or len(found[0]) > SHOWN_TERMS:
        return {}
    terms, weight, gains_only = found
    if not LOW <= weight <= HIGH or any(abs(size) > REACH for _, size in terms):
        return {}
    names = [name for name, _ in terms]
    plain: dict[str, Any] = {"gains_only": gains_only}
    plain["object_weight"] = gr.Slider(value=weight, visible="balanced" in names)
    for number in range(SHOWN_TERMS):
        there = number < len(terms)
        plain[f"term{number}"] = names[number] if there else NONE
        plain[f"weight{number}"] = (
            gr.Slider(value=terms[number][1], visible=True) if there else gr.Slider(visible=False)
        )
    return plain


def show_lesson(visitor: Visitor) -> dict[str, Any]:
    """What the card with the lesson becomes, and the tab that its step asks for."""
    lesson, step = visitor.lesson, visitor.step
    if lesson is None:
        return {"lesson": -1, "lesson_body": gr.Column(visible=False), "verdict": gr.Markdown(visible=False)}
    asked = step >= len(lesson.steps)
    answers = [(text, number) for number, text in enumerate(lesson.answers)]
    return {
        "lesson": LESSONS.index(lesson),
        "lesson_body": gr.Column(visible=True),
        "lesson_text": views.lesson_text(lesson, step),
        "answer": gr.Radio(answers, value=None, visible=asked),
        "verdict": gr.Markdown(visible=False),
        "lesson_back": gr.Button(interactive=step > 0),
        "lesson_do": gr.Button("Do it" if asked else lesson.steps[step].button, visible=not asked),
        "lesson_next": gr.Button("To the question" if step == len(lesson.steps) - 1 else "Next", visible=not asked),
        "tabs": gr.skip() if visitor.tab is None else gr.Tabs(selected=visitor.tab),
    }
