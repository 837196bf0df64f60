"""What the tests of the page have in common: how long they wait, what they read, and pictures to be looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

SECONDS = float(os.environ.get("LAB_TIMEOUT", "60"))  # to wait for anything; more on a busy machine
PICTURES = os.environ.get("LAB_PICTURES", "")  # a folder
NUMBER = """(name) => Array.from(document.querySelectorAll('#summary .number'))
  .find((one) => one.querySelector('dt').innerText === name).querySelector('dd').innerText"""


def says(page: Any, where: str, text: str) -> None:
    """Waits until an element holds a text."""
    page.wait_for_function("([e, t]) => document.querySelector(e)?.textContent.includes(t)", arg=[where, text])


def told(page: Any, name: str) -> float:
    """One of the numbers on top of the game."""
    return float(page.evaluate(NUMBER, name).replace(",", ""))


def picture(page: Any, name: str) -> None:
    """Leaves a screenshot, where one is asked for: to be looked at."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)
