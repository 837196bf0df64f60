"""The lab in a real browser: a server in this process, Debian's Chromium without a window, and one visitor for most."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pixelseg_agents import PA3C
from pixelseg_agents.lab.acting import Actor
from pixelseg_agents.lab.rewards import offered
from pixelseg_agents.lab.serving import serve
from pixelseg_agents.lab.visitors import Host
from pixelseg_env import PixelSegVectorEnv, load_dataset
from tests.lab.browser.using import SECONDS

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def lab() -> Iterator[Any]:
    """The page, served on a free port."""
    for package in ("gradio", "plotly", "playwright"):
        pytest.importorskip(
            package, reason=f"{package} is not installed here; make test-lab has an environment with it"
        )
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path; apt-get install chromium, or set CHROMIUM")
    one, two = (load_dataset("phantom", split="all", size=32, count=4, labels=labels) for labels in (1, 2))
    agent = PA3C(PixelSegVectorEnv(1, one, horizon=5), width=0.03, look="closer(side=16, smallest=8)", device="cpu")
    host = Host({"Phantoms": one, "Two labels": two}, (Actor("Run tiny", agent),), offered(), (32, 32), seconds=300)
    page = serve(host, port=0, block=False)
    yield page
    page.close()


@pytest.fixture(scope="session")
def browser(lab: Any) -> Iterator[Any]:
    """Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


REFUSED = ("upload_progress", "Response ")  # Gradio asks on about an upload that it has refused, and prints the answer


def complaint(said: Any) -> str:
    """What the console says of an error; "" if it is none, or none of ours."""
    told = f"{said.text} {said.location['url']}"
    return "" if said.type != "error" or any(word in told for word in REFUSED) else told


@pytest.fixture(scope="session")
def arrive(lab: Any, browser: Any) -> Callable[..., Any]:
    """Opens the page as somebody new; `trouble` of what is returned lists what the browser complained about."""

    def opened(**options: Any) -> Any:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.trouble = []
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("console", lambda said: page.trouble.append(told) if (told := complaint(said)) else None)
        page.goto(lab.address)
        page.wait_for_selector("#panel-return .js-plotly-plot")
        return page

    return opened


@pytest.fixture(scope="session")
def visitor(arrive: Callable[..., Any]) -> Any:
    """The one visitor of most tests; each leaves the page usable."""
    return arrive(viewport={"width": 1360, "height": 900})
