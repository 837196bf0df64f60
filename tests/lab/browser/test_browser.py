"""What visitors do, in Chromium: play, paint, change the reward, upload, learn, and leave."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelseg_agents.lab.uploads import LARGEST_FILE
from tests.lab.browser.using import SECONDS, picture, says, told

AXE = os.environ.get("AXE", "")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1360, "height": 900}


def anew(page: Any, steps: int) -> None:
    page.get_by_role("tab", name="Play").click()
    page.click("#restart")
    says(page, "#summary", f"0 of {steps}")


def test_play_walk_and_judge_again(visitor: Any) -> None:
    anew(visitor, 5)
    visitor.click("#act-all")
    says(visitor, "#summary", "5 of 5")
    assert visitor.locator("#metrics tbody tr").count() == 6
    before = visitor.locator("#metrics tbody tr").nth(1).locator("td").first.inner_text()
    visitor.click("#back")
    says(visitor, "#summary", "4 of 5")
    visitor.click("#forward")
    says(visitor, "#summary", "5 of 5")
    visitor.fill("#expression textarea, #expression input", "2*squared_error")
    visitor.press("#expression textarea, #expression input", "Enter")
    visitor.wait_for_function(
        "(t) => document.querySelectorAll('#metrics tbody tr')[1].querySelector('td').innerText !== t", arg=before
    )
    after = visitor.locator("#metrics tbody tr").nth(1).locator("td").first.inner_text()
    assert float(after) == pytest.approx(2 * float(before), abs=0.002)
    says(visitor, "#summary", "5 of 5")  # the same trajectory
    assert visitor.trouble == []


def test_a_pixels_numbers_show_under_the_pointer(visitor: Any) -> None:
    visitor.get_by_role("tab", name="Play").click()
    plot = visitor.locator("#panel-picture .js-plotly-plot")
    plot.scroll_into_view_if_needed()
    ends = time.monotonic() + SECONDS
    while visitor.locator("#panel-picture .hovertext").count() == 0:  # a picture that is drawn anew forgets the pointer
        assert time.monotonic() < ends
        box = plot.bounding_box()
        visitor.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3 + time.monotonic() % 5)
        visitor.wait_for_timeout(300)
    told = visitor.locator("#panel-picture .hovertext").first.text_content()
    for word in ("row", "column", "brightness", "truth", "map", "reward", "return"):
        assert word in told


def test_paint_by_mouse_and_by_keyboard(visitor: Any) -> None:
    anew(visitor, 5)
    canvas = visitor.locator("#canvas canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    visitor.mouse.move(box["x"] + 20, box["y"] + 20)
    visitor.mouse.down()
    visitor.mouse.move(box["x"] + 60, box["y"] + 20, steps=5)
    visitor.mouse.up()
    visitor.click("#canvas .paint-take")
    says(visitor, "#summary", "1 of 5")
    picture(visitor, "play")
    changed = visitor.locator("#summary .number").last.locator("dd").inner_text()
    assert int(changed) >= 10
    visitor.wait_for_function("document.querySelector('#canvas .paint-take').innerText.includes('2')")
    canvas.focus()
    for key in ("z", "ArrowDown", "ArrowDown", "Space", "ArrowRight", "Space", "Enter"):
        visitor.keyboard.press(key)
    says(visitor, "#summary", "2 of 5")
    assert int(visitor.locator("#summary .number").last.locator("dd").inner_text()) >= 4
    assert visitor.trouble == []


def test_modules_and_nonsense_are_refused_in_words(visitor: Any) -> None:
    for text in ("os:system", "__import__('os').getcwd()", "no_such_reward"):
        visitor.fill("#expression textarea, #expression input", text)
        visitor.press("#expression textarea, #expression input", "Enter")
        visitor.wait_for_selector("#trouble [role=alert]")
        says(visitor, "#trouble", "reward")
        visitor.fill("#expression textarea, #expression input", "squared_error")
        visitor.press("#expression textarea, #expression input", "Enter")
        visitor.wait_for_selector("#trouble [role=alert]", state="detached")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.png" for name in ("picture", "mask", "large", "broken")}
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(found["picture"])
    Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), 15)).save(found["mask"])
    found["large"].write_bytes(bytes(LARGEST_FILE + 1))
    found["broken"].write_bytes(b"no picture")
    return found


def test_uploads_good_wrong_and_too_large(visitor: Any, files: dict[str, Path], lab: Any) -> None:
    visitor.get_by_text("Upload your own").click()

    def send(image: Path, mask: Path) -> None:
        for place, path in (("image", image), ("mask", mask)):
            visitor.set_input_files(f"#upload-{place} input[type=file]", str(path))
            says(visitor, f"#upload-{place}", path.stem)
        visitor.click("#upload-send")

    send(files["picture"], files["broken"])
    says(visitor, "#trouble", "broken.png")
    assert "/" not in visitor.inner_text("#trouble").replace("and/or", "")
    visitor.wait_for_selector("#upload-image input[type=file]", state="attached")
    send(files["picture"], files["mask"])
    visitor.wait_for_selector("#trouble [role=alert]", state="detached")
    says(visitor, "#summary", "0 of 5")
    gone = os.environ["GRADIO_TEMP_DIR"]
    assert not [path for path in Path(gone).rglob("*.png") if path.stem in ("picture", "mask", "broken")]
    visitor.wait_for_selector("#upload-image input[type=file]", state="attached")
    visitor.set_input_files("#upload-image input[type=file]", str(files["large"]))
    visitor.get_by_text("maximum", exact=False).first.wait_for()
    assert not [path for path in Path(gone).rglob("*") if path.is_file() and path.stat().st_size > LARGEST_FILE]
    visitor.get_by_text("Upload your own").click()
    visitor.wait_for_timeout(1000)
    visitor.trouble.clear()  # the browser, too, says that it was refused, and that what was read is gone


def test_a_slider_that_moves_by_keys_judges_again_at_once_and_goes_into_the_training(visitor: Any) -> None:
    anew(visitor, 5)
    visitor.click("#act-all")
    says(visitor, "#summary", "5 of 5")
    earned = told(visitor, "Reward so far")
    visitor.get_by_role("tab", name="Train").click()
    visitor.click("#train-start")
    visitor.wait_for_selector("#learning .js-plotly-plot")
    visitor.locator("#weight-0 input[type=range]").focus()
    for _ in range(5):
        visitor.keyboard.press("ArrowRight")
    visitor.wait_for_function(
        "() => document.querySelector('#expression textarea, #expression input').value === '1.5*squared_error'"
    )
    assert visitor.evaluate("document.activeElement.type") == "range"  # one may go on
    says(visitor, "#learning", "reward changed")
    visitor.click("#train-stop")
    visitor.wait_for_selector("#standing .stopped")
    visitor.get_by_role("tab", name="Play").click()
    assert told(visitor, "Reward so far") == pytest.approx(1.5 * earned, abs=0.002)
    visitor.fill("#expression textarea, #expression input", "squared_error")
    visitor.press("#expression textarea, #expression input", "Enter")
    visitor.wait_for_function("() => document.querySelector('#weight-0 input[type=range]').value === '1'")


def choose(page: Any, where: str, name: str) -> None:
    page.click(f"{where} input")
    page.get_by_role("option", name=name).click()


def test_an_agent_of_a_run_acts_and_what_it_thinks_and_sees_is_shown(visitor: Any) -> None:
    anew(visitor, 5)
    for name in ("value", "entropy", "seen"):
        assert visitor.locator(f"#panel-{name}").count() == 0
    choose(visitor, "#who", "Run tiny")
    for name in ("value", "entropy", "seen"):
        visitor.wait_for_selector(f"#panel-{name} .js-plotly-plot")
    visitor.click("#act")
    says(visitor, "#summary", "1 of 5")
    assert visitor.evaluate("document.querySelector('#panel-picture .js-plotly-plot').layout.shapes.length") == 1
    picture(visitor, "agent")
    choose(visitor, "#who", "Threshold")
    visitor.wait_for_selector("#panel-value", state="detached")


def test_amounts_are_painted_where_maps_hold_probabilities(visitor: Any) -> None:
    anew(visitor, 5)
    choose(visitor, "#transition", "additive")
    visitor.wait_for_selector("#canvas select:visible")
    visitor.locator("#canvas canvas").focus()
    for key in ("z", "+", "Space", "Enter"):  # -1, then -0.4
        visitor.keyboard.press(key)
    says(visitor, "#summary", "1 of 5")
    shown = "document.querySelector('#panel-map .js-plotly-plot')._fullData[0].z"
    levels = visitor.evaluate(f"Array.from({shown}, (row) => Array.from(row)).flat()")
    picture(visitor, "additive")
    assert sorted({round(float(one), 2) for one in levels}) == [0.6, 1]
    choose(visitor, "#transition", "absorbing")
    visitor.wait_for_selector("#canvas .paint-kind:visible")
    assert visitor.trouble == []


def test_one_of_several_labels_is_shown(visitor: Any) -> None:
    assert visitor.locator("#label").count() == 0
    choose(visitor, "#dataset", "Two labels")
    visitor.wait_for_selector("#label")
    whole = told(visitor, "Dice")
    choose(visitor, "#label", "lesion")
    visitor.wait_for_function("(d) => document.querySelector('#summary .dice dd').innerText !== d", arg=f"{whole:.3f}")
    assert told(visitor, "Dice") < whole
    choose(visitor, "#dataset", "Phantoms")
    visitor.wait_for_selector("#label", state="detached")


def test_a_phone_shows_everything_without_scrolling_sideways(visitor: Any) -> None:
    visitor.get_by_role("tab", name="Play").click()
    visitor.set_viewport_size(PHONE)
    visitor.wait_for_timeout(1500)  # pictures take their new size
    picture(visitor, "phone-before")
    try:
        wide = visitor.evaluate(
            "Array.from(document.querySelectorAll('#columns *')).filter((e) => e.offsetWidth > innerWidth)"
            ".map((e) => e.tagName + '#' + e.id + '.' + e.className + ' ' + e.offsetWidth).slice(0, 8)"
        )
        assert visitor.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], wide
        for place in ("#canvas canvas", "#panel-picture", "#panel-return", "#act-all", "#lesson-choice"):
            box = visitor.locator(place).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"]
            assert box["width"] > 60
        picture(visitor, "phone")
    finally:
        visitor.set_viewport_size(DESKTOP)


@pytest.mark.parametrize("how", [{"viewport": DESKTOP}, {"viewport": PHONE}, {"color_scheme": "dark"}], ids=str)
def test_contrast_and_names_by_axe(arrive: Callable[..., Any], how: dict[str, Any]) -> None:
    if not Path(AXE).is_file():
        pytest.skip("axe-core is not here; AXE=.../axe.min.js, which make test-lab fetches by npm")
    page = arrive(**how)
    page.fill("#expression textarea, #expression input", "no_such_reward")
    page.press("#expression textarea, #expression input", "Enter")
    page.wait_for_selector("#trouble [role=alert]")
    page.locator("#lesson-choice label").nth(1).click()
    says(page, "#lesson-text", "step 1")
    page.add_script_tag(content=Path(AXE).read_text())
    for tab in ("Play", "Train"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        found = page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa']}).then((r) => r.violations.filter((v) => "
            "['serious', 'critical'].includes(v.impact)).map((v) => v.id + ': ' + v.nodes.map((n) => "
            "n.target.join(' ') + ' ' + (n.any[0]?.message ?? '')).join(' | ')))"
        )
        assert found == []
    page.context.close()


def test_two_visitors_at_once_and_one_who_leaves_while_training(
    visitor: Any, arrive: Callable[..., Any], lab: Any
) -> None:
    anew(visitor, int(re.search(r"of (\d+)", visitor.inner_text("#summary"))[1]))
    other = arrive()
    other.click("#act")
    says(other, "#summary", "1 of 5")
    says(visitor, "#summary", "0 of")  # untouched
    other.get_by_role("tab", name="Train").click()
    other.click("#train-start")
    other.wait_for_selector("#standing .training")
    going_on = [one.training for one in lab.visitors.all() if one.training is not None and one.training.alive]
    assert len(going_on) == 1
    there = len(lab.visitors)
    other.context.close()
    ends = time.monotonic() + 120
    while going_on[0].alive:
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert going_on[0].progress()[1] == "You stopped it."  # not only because nobody asked about it any more
    assert len(lab.visitors) < there
