"""What all tests share: a slow machine is no fault of the code, so no example of hypothesis has a time limit."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # some of the environments that test other libraries do without it
    from hypothesis import settings

    if settings.default is not None and settings.default.deadline is not None:  # mutants have a profile of their own
        settings.register_profile("pixelseg", deadline=None)
        settings.load_profile("pixelseg")
