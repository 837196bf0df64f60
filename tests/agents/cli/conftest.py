"""Commands draw figures after every training; the test of a complete run folder looks at them, the others need none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.figures import undrawn


@pytest.fixture(scope="module", autouse=True)
def figures_are_left_blank() -> Iterator[None]:
    """For all that a file of tests trains and evaluates, its fixtures too."""
    with undrawn():
        yield
