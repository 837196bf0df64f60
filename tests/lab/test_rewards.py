"""What a visitor types: arithmetic of allowed names, and nothing else gets through to where modules are imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_agents.lab.rewards import GAINS_ONLY, LONGEST_TEXT, WORDS, as_sliders, checked, offered, written
from pixelseg_env import OptionError, registered_rewards
from pixelseg_env.rewards import resolve_reward
from pixelseg_env.rewards.built_in import CATALOGUE

NAMES = offered()


@pytest.mark.parametrize(
    "text",
    [
        "squared_error",
        "0.7*squared_error - dice_gain/2",
        "balanced(20)",
        "keep_bonus(0.3)",
        "-sign + balanced",
        GAINS_ONLY,
    ],
)
def test_names_and_arithmetic_are_let_through(text: str) -> None:
    assert checked(f"  {text} ", NAMES) == text


def test_every_reward_has_a_word_and_only_those() -> None:
    assert set(WORDS) == set(CATALOGUE)
    assert [name for name in offered() if name in WORDS] == list(WORDS)
    assert max(map(len, WORDS.values())) <= 26  # what the menu has room for


@pytest.mark.parametrize(
    "text",
    [
        "os:system",
        "os:system('ls')",
        "'os:system'",
        '"squared_error"',
        "__import__('os').system('ls')",
        "squared_error.__class__",
        "(lambda: sign)()",
        "[sign for sign in (1, 2)]",
        "squared_error.clip(open('x'), 1)",
        "squared_error.clip(low=0)",
        "sign('os:system')",
        "balanced('os:system')",
        "balanced(foreground_weight=2)",
        "no_such_name",
        "9**9**9*sign",
        "1e300*sign",
        "1001*sign",
        "True*sign",
        "1 + 1",
        "sign if sign else sign",
        "sign; sign",
        "",
        "(" * 60 + "sign" + ")" * 60 + "+sign" * 40,
        "-" * 150 + "sign",
        "sign\x00",
        "sign" + " " * LONGEST_TEXT + "+ sign",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="reward"):
        checked(text, NAMES)


@settings(max_examples=100, deadline=None)
@given(st.text("sign+-*/().:'\"_ 0123456789clipbanedosytm", max_size=40))
def test_whatever_is_typed_is_a_reward_or_an_error_for_the_visitor(text: str) -> None:
    try:
        found = checked(text, NAMES)
    except OptionError:
        return
    resolve_reward(found)
    assert ":" not in found


def test_a_module_is_not_even_imported_unless_the_host_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted_for_lab.py").write_text(
        "def bonus(previous, current, target):\n    return current - previous\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for text in ("planted_for_lab:bonus", "2*planted_for_lab:bonus", "balanced('planted_for_lab:bonus')"):
        with pytest.raises(OptionError):
            checked(text, NAMES)
    assert "planted_for_lab" not in sys.modules
    names = offered(["planted_for_lab:bonus"])
    assert checked("sign + 2*planted_for_lab:bonus", names) == "sign + 2*planted_for_lab:bonus"
    with pytest.raises(OptionError):
        checked("planted_for_lab:other", names)
    with pytest.raises(OptionError):
        checked("planted_for_lab:bonus.__globals__", names)
    with pytest.raises(OptionError, match="module:name"):
        offered(["squared_error"])


@given(
    st.lists(st.tuples(st.sampled_from(registered_rewards()), st.floats(-3, 3).map(lambda x: round(x, 1))), min_size=1),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_sliders_write_what_is_read_back_as_the_same_sum(terms: list[tuple[str, float]], gains_only: bool) -> None:
    terms = terms[:3]
    if all(weight == 0 for _, weight in terms):
        with pytest.raises(OptionError, match="every weight is 0"):
            written(terms)
        return
    text = written(terms, 4, gains_only)
    kept = [(name, weight) for name, weight in terms if weight]
    factor = 4 if "balanced" in dict(kept) else 10
    assert as_sliders(text) == (kept, factor, gains_only)
    total: object = 0
    for name, weight in terms:
        if weight:
            part = resolve_reward("balanced(4)" if name == "balanced" else name)
            total = total + (part if weight == 1 else weight * part)  # type: ignore[operator]
    wanted = total.clip(0, None) if gains_only else total  # type: ignore[attr-defined]
    assert str(resolve_reward(checked(text, NAMES))).replace("1*", "").replace("--", "") == str(wanted).replace(
        "1*", ""
    ).replace("--", "")


@pytest.mark.parametrize(
    "text", ["balanced(2) + balanced(3)", "sign/2", "(sign).clip(-1, 1)", "2*(sign + sign)", "-(sign)"]
)
def test_what_sliders_cannot_write_leaves_them_alone(text: str) -> None:
    assert as_sliders(checked(text, NAMES)) is None


def test_the_rewards_of_lessons_show_on_the_sliders() -> None:
    assert as_sliders(GAINS_ONLY) == ([("squared_error", 1.0)], 10.0, True)
    assert as_sliders("balanced(10)") == ([("balanced", 1.0)], 10.0, False)
    assert as_sliders("squared_error + 2*a.b:c") == ([("squared_error", 1.0), ("a.b:c", 2.0)], 10.0, False)
