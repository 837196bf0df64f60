"""The parts of the page that are text: where one is, metrics by step, lessons, and the strips of a training."""

from __future__ import annotations

from html import escape

import numpy as np

from pixelseg_agents.lab.figures import png, thumbnail
from pixelseg_agents.lab.lessons import Lesson
from pixelseg_agents.lab.session import Session
from pixelseg_agents.lab.training import Look
from pixelseg_env.metrics import HIGHER_IS_BETTER

STATES = {
    "waiting": "Waiting for a free place to train",
    "training": "Training",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
}


def summary(session: Session) -> str:
    """Where the visitor is, and what it is worth, in a line of numbers."""
    episode, at = session.shown, session.at
    dice = episode.scores()["DICE"][at]
    earned = episode.earned()[at - 1] if at else 0.0
    changed = int(episode.changed(at).sum())
    numbers = (
        ("Step", f"{at} of {session.rules.horizon}", ""),
        ("Dice", f"{dice:.3f}", "dice"),
        ("Step's reward", f"{earned:+.3f}" if at else "–", "reward"),
        ("Reward so far", f"{episode.totals()[at]:+.3f}" if at else "–", "reward"),
        ("Pixels changed", f"{changed:,}" if at else "–", ""),
    )
    cells = "".join(
        f'<div class="number {kind}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, kind in numbers
    )
    return f'<div role="status" aria-label="This step"><dl class="numbers">{cells}</dl></div>'


def metrics_table(session: Session) -> str:
    """Every metric after every step."""
    episode = session.shown
    scores, earned, totals = episode.scores(), episode.earned(), episode.totals()
    head = "".join(f"<th scope='col'>{_heading(name)}</th>" for name in scores)
    rows = []
    for t in range(episode.steps + 1):
        cells = "".join(f"<td>{values[t]:.3f}</td>" for values in scores.values())
        reward = f"<td>{earned[t - 1]:+.3f}</td><td>{totals[t]:+.3f}</td>" if t else "<td>–</td><td>–</td>"
        here = " class='here' aria-current='step'" if t == session.at else ""
        rows.append(f"<tr{here}><th scope='row'>{t}</th>{reward}{cells}</tr>")
    return (
        "<div class='scroll' tabindex='0' role='region' aria-label='Metrics of every step'><table class='metrics'>"
        "<thead><tr><th scope='col'>step</th><th scope='col'>reward</th>"
        f"<th scope='col'>so far</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heading(name: str) -> str:
    shown = {"DICE": "Dice"}.get(name, name)
    return escape(shown if HIGHER_IS_BETTER.get(name, True) else f"{shown} px")


def message(text: str) -> str:
    """What went wrong, or nothing."""
    return f'<p class="trouble" role="alert">{escape(text)}</p>' if text else ""


EMPTY = (
    '<p class="empty">Nothing was trained yet. Press <strong>Train</strong>: return and Dice are drawn here as they '
    "rise or fall, and the agent's steps on two pictures below.</p>"
)


def training_line(state: str, why: str, looks: list[Look]) -> str:
    """How a training stands."""
    parts = [f"<strong>{STATES[state]}.</strong>"]
    if looks:
        last = looks[-1]
        parts.append(
            f"{last.updates} updates, {last.seconds:.0f} s: return {last.earned:+.3f}, Dice {last.dice:.3f}, "
            f"{last.keep:.0%} of the pixels kept."
        )
    return f'<p class="standing {state}" role="status">{" ".join(parts)} {escape(why)}</p>'


def film(looks: list[Look], target: np.ndarray, image: np.ndarray, count: int = 2) -> str:
    """The last episode on pictures that the agent does not learn from: image, truth, and the map after every step.

    Args:
        looks: of the training.
        target: uint8 (N, H, W).
        image: float32 (N, C, H, W).
        count: pictures that are shown.
    """
    if not looks:
        return ""
    maps = looks[-1].maps
    rows = []
    for k in range(min(count, len(maps))):
        steps = [_cell("truth", thumbnail(target[k]))]
        for t in range(1, maps.shape[1]):
            steps.append(_cell(f"step {t}", thumbnail(maps[k, t], maps[k, t - 1])))
        rows.append(f'<div class="film">{_cell("image", _grey(image[k]))}{"".join(steps)}</div>')
    hint = "White is kept, dark is zeroed, red changed in that step."
    return f"<h3>The agent at work</h3><p class='hint'>{hint}</p>{''.join(rows)}"


def _cell(caption: str, address: str) -> str:
    return f'<figure><img src="{address}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _grey(image: np.ndarray) -> str:
    return png(np.rint(image.mean(axis=0) * 255).astype(np.uint8))


def lesson_text(lesson: Lesson | None, step: int) -> str:
    """A lesson's step, as Markdown."""
    if lesson is None:
        return ""
    if step >= len(lesson.steps):
        return f"#### {lesson.title}: a question\n\n{lesson.question}"
    return f"#### {lesson.title}, step {step + 1} of {len(lesson.steps)}\n\n{lesson.steps[step].text}"
