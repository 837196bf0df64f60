"""The catalogue as a table in Markdown, for the documentation and `pixelseg rewards list`."""

from __future__ import annotations

from pixelseg_env.rewards.registry import registered_rewards, resolve_reward

COLUMNS = ("reward", "r(t) of a pixel", "source", "range", "telescopes", "how it is hacked")


def catalogue_table() -> str:
    """Markdown, a row for each registered reward with what is known of it; those that are there to be hacked come last.

    One of a third party's that says nothing of itself has its name alone.
    """
    known = {name: resolve_reward(name).facts for name in registered_rewards()}
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for name, facts in sorted(known.items(), key=lambda item: bool(item[1].hack)):
        span = "" if facts.range is None else f"{facts.range[0]:.3g} to {facts.range[1]:.3g}"
        telescopes = {True: "yes", False: "no", None: ""}[facts.telescopes]
        formula = f"`{facts.formula}`" if facts.formula else ""
        rows.append((f"`{name}`", formula, facts.source, span, telescopes, facts.hack))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
