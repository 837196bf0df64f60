"""Rewards as objects: arithmetic, clip and scale, on NumPy and torch; their text, and the way back."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import types
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv, balanced, register_reward, rewards
from pixelseg_env.rewards import Reward, as_reward, boundary, dice_gain, registry, resolve_reward, sign, squared_error
from tests.helpers.env import random_actions, small_set


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REWARDS", dict(registry._REWARDS))


def own(previous: Any, current: Any, target: Any) -> Any:
    """A third party's: it costs to keep a pixel."""
    return -1 * current


@dataclasses.dataclass
class Toll:
    """A third party's, with parameters."""

    price: float = 1.0
    only: str = "kept"

    def __call__(self, previous: Any, current: Any, target: Any) -> Any:
        return -self.price * (current if self.only == "kept" else 1 - current)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:name` of this file, whatever pytest calls it; and a module of a user's."""
    theirs = types.ModuleType("their_rewards")
    theirs.bonus, theirs.Toll, theirs.seven = own, Toll, 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_rewards", theirs)
    monkeypatch.setitem(sys.modules, own.__module__, sys.modules[__name__])


def maps(seed: int = 0, shape: tuple[int, ...] = (3, 6, 5)) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [(rng.random(shape) < 0.5).astype(np.uint8) for _ in range(3)]


leaves = st.sampled_from([squared_error, sign, dice_gain, boundary, balanced(), balanced(2.5), as_reward(own)])
factors = st.floats(-8, 8).map(lambda x: round(x, 3))


def compounds(inner: st.SearchStrategy[Reward]) -> st.SearchStrategy[Reward]:
    return st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
        st.tuples(inner, factors).map(lambda pair: pair[1] * pair[0]),
        st.tuples(inner, st.floats(0.25, 8)).map(lambda pair: pair[0] / pair[1]),
        st.tuples(inner, factors, st.floats(0, 3)).map(lambda three: three[0].clip(three[1], three[1] + three[2])),
        inner.map(lambda one: one.clip(high=0.5)),
    )


@settings(max_examples=60, deadline=None)
@given(reward=st.recursive(leaves, compounds, max_leaves=5), seed=st.integers(0, 99))
def test_a_reward_is_read_back_from_its_text_pickled_and_the_same_on_torch(reward: Reward, seed: int) -> None:
    arrays = maps(seed)
    earned = reward(*arrays)
    assert (earned.dtype, earned.shape) == (np.float32, (3, 6, 5))
    for twin in (resolve_reward(str(reward)), pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        np.testing.assert_array_equal(twin(*arrays), earned)
        assert twin == reward
        assert hash(twin) == hash(reward)
    assert repr(reward) == str(reward)
    tensor = reward(*(torch.from_numpy(one) for one in arrays))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), earned, rtol=1e-5, atol=1e-5)


def test_arithmetic_is_that_of_the_maps() -> None:
    arrays = maps()
    s, d, kept = squared_error(*arrays), dice_gain(*arrays), arrays[1].astype(np.float32)
    cases = [
        (np.float32(0.7) * s + np.float32(0.3) * d, 0.7 * squared_error + 0.3 * dice_gain),
        (s - d, squared_error - dice_gain),
        (-s, -squared_error),
        (s / 4, squared_error / 4),
        (s * 3, squared_error.scale(3)),
        (s * 3, np.float64(3) * squared_error),
        (s * 6, (3 * squared_error).scale(2)),
        (s - kept, own + squared_error),
        (np.clip(3 * s, -1, 2), (3 * squared_error).clip(-1, 2)),
        (np.clip(s, 0, None), squared_error.clip(0)),
        (s - kept, squared_error + own),
        (-kept - s, own - squared_error),
        (s + d, sum([squared_error, dice_gain])),
    ]
    for expected, reward in cases:
        np.testing.assert_allclose(reward(*arrays), expected, rtol=1e-6)
    largest = float(np.finfo(np.float32).max)
    assert squared_error.scale(largest)(*arrays).max() == np.float32(largest)


def test_what_is_no_reward_is_refused() -> None:
    without_text = type("WithoutText", (Reward,), {"__call__": own})
    without_map = type("WithoutMap", (Reward,), {"to_spec": lambda self: "mine"})
    for wrong in (
        lambda: squared_error + 1,
        lambda: 1 + squared_error,
        lambda: squared_error * sign,
        lambda: 1 / squared_error,
        without_text,
        without_map,
    ):
        with pytest.raises(TypeError):
            wrong()
    for wrong, words in (
        (lambda: squared_error / 0, "other than 0"),
        (lambda: squared_error * float("nan"), "finite"),
        (lambda: squared_error.scale(1e39), "finite"),
        (lambda: squared_error.clip(), "neither"),
        (lambda: squared_error.clip(2, 1), "lower bound first"),
        (lambda: squared_error.clip("a"), "finite number"),  # type: ignore[arg-type]
        (lambda: as_reward(3), "expected a function"),
        (lambda: as_reward(type("Needy", (), {"__init__": lambda self, x: None})), "class without arguments"),
    ):
        with pytest.raises(OptionError, match=words):
            wrong()


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("squared_error", squared_error),
        ("balanced", balanced()),
        ("balanced(20)", balanced(20)),
        ("balanced(foreground_weight=20)", balanced(20)),
        (" 0.7*squared_error+0.3*boundary", 0.7 * squared_error + 0.3 * boundary),
        ("(sign - dice_gain).clip(-1, 1).scale(2)", (sign - dice_gain).clip(-1, 1).scale(2)),
        ("sign.clip(high=0.5)", sign.clip(high=0.5)),
        ("-sign/2", -sign / 2),
        ("their_rewards:bonus", as_reward(own)),
        ("0.5*their_rewards:bonus + sign", 0.5 * as_reward(own) + sign),
        ("their_rewards:Toll", as_reward(Toll())),
        ("their_rewards:Toll(3, only='lost') * 2", 2 * as_reward(Toll(3, "lost"))),
        ("(their_rewards:bonus).clip(0, 1)", as_reward(own).clip(0, 1)),
        ("their_rewards:Toll(3, only='a:b')", as_reward(Toll(3, "a:b"))),
    ],
)
def test_text_is_read(text: str, reward: Reward) -> None:
    assert resolve_reward(text) == reward
    assert resolve_reward(resolve_reward(text).to_spec()) == reward


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("squared_eror", "Did you mean 'squared_error'"),
        ("0.5*squared_eror + sign", "Did you mean 'squared_error'"),
        ("0.5 squared_error", "cannot be read"),
        ("", "cannot be read"),
        ("3", "is a number"),
        ("sign + 1", "added to rewards"),
        ("sign * sign", "multiplied by numbers"),
        ("1/0 * sign", "multiplied by numbers"),
        ("squared_error(3)", "takes no parameters"),
        ("balanced(-1)", "foreground_weight"),
        ("balanced(1, 2)", "positional argument"),
        ("balanced(sign)", "a number or text as a parameter"),
        ("sign.clip(0, 1, 2)", "positional argument"),
        ("__import__('os').getcwd()", "not understood"),
        ("sign.__class__", "not understood"),
        ("[sign]", "not understood"),
        ("sign if sign else sign", "not understood"),
        ("nowhere:bonus", "cannot be imported"),
        ("their_rewards:bonsu", "check the spelling"),
        ("their_rewards:seven", "expected a function"),
        ("-" * 5000 + "sign", "cannot be read"),
    ],
)
def test_text_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve_reward(text)
    assert words in str(caught.value)


def test_registered_names_stand_in_expressions_and_come_back() -> None:
    register_reward("my-own", lambda p, c, t: -1 * c)
    register_reward("toll", Toll)
    arrays = maps()
    for text in ("0.5*'my-own' + sign", "toll(2) + sign", "my-own", "toll"):
        reward = resolve_reward(text)
        np.testing.assert_array_equal(resolve_reward(reward.to_spec())(*arrays), reward(*arrays))
    assert str(resolve_reward("toll(2)")) == "toll(2)"
    with pytest.raises(OptionError, match=r"cannot be written down.*register_reward"):
        (sign + (lambda p, c, t: c)).to_spec()
    assert "lambda" in repr(as_reward(lambda p, c, t: c))


def test_what_leads_back_to_a_function_or_an_object_is_its_text() -> None:
    module = own.__module__
    assert as_reward(Toll(2.5, None)).to_spec() == f"{module}:Toll(2.5, None)"  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="cannot be written down"):
        as_reward(Toll([2.5])).to_spec()  # type: ignore[arg-type]

    def paid(previous: Any, current: Any, target: Any) -> Any:
        return 1 * current

    theirs: Any = sys.modules["their_rewards"]
    paid.__module__, paid.__qualname__ = "their_rewards", "paid"
    theirs.paid = as_reward(paid)  # as a decorator leaves it
    assert as_reward(paid).to_spec() == "their_rewards:paid"
    theirs.paid = as_reward(own)  # another one has taken the name
    with pytest.raises(OptionError, match="cannot be written down"):
        as_reward(paid).to_spec()


@pytest.mark.parametrize(
    ("reward", "text"),
    [
        (balanced(20), "balanced(20)"),
        (balanced, "balanced(10)"),
        (0.7 * squared_error + 0.3 * dice_gain, "0.7*squared_error + 0.3*dice_gain"),
        ("0.5*sign", "0.5*sign"),
    ],
)
def test_specs_go_through_json(reward: Any, text: str) -> None:
    options: dict[str, Any] = {"reward": reward, "size": 16, "count": 20, "horizon": 2}
    one = gym.make("PixelSegEnv-v0", **options)
    assert one.spec is not None
    written = one.spec.to_json()
    assert json.loads(written)["kwargs"]["reward"] == text
    other = gym.make(EnvSpec.from_json(written))
    many = gym.make_vec("PixelSegEnv-v0", num_envs=2, **options)
    assert many.spec is not None
    again = gym.make_vec(EnvSpec.from_json(many.spec.to_json()))
    assert one.unwrapped.reward == other.unwrapped.reward == again.unwrapped.reward == many.unwrapped.reward  # type: ignore[attr-defined]
    for env in (one, other):
        env.reset(seed=1)
    action = random_actions((16, 16), 1)[0]
    np.testing.assert_array_equal(one.step(action)[4]["reward_map"], other.step(action)[4]["reward_map"])


def test_a_spec_with_a_nameless_function_is_made_but_not_written() -> None:
    env = gym.make("PixelSegEnv-v0", reward=lambda p, c, t: c, size=16, count=20)
    assert env.spec is not None
    with pytest.raises(TypeError, match="not JSON serializable"):
        env.spec.to_json()
    assert PixelSegEnv(size=16, count=20).spec is None


def test_composed_rewards_in_every_environment() -> None:
    reward = (0.7 * squared_error + 0.3 * boundary - as_reward(own)).clip(-1, 1)
    options: dict[str, Any] = {"dataset": small_set(), "horizon": 3}
    single = PixelSegEnv(reward=reward, **options)
    batches = [
        PixelSegVectorEnv(2, reward=reward, **options),
        PixelSegVectorEnv(2, reward=str(reward), backend="torch", **options),
        pickle.loads(pickle.dumps(PixelSegVectorEnv(2, reward=copy.deepcopy(reward), **options))),
    ]
    for env in (single, *batches):
        env.reset(seed=4)
    for action in random_actions((12, 9), 3):
        expected = single.step(action)[4]["reward_map"]
        assert np.unique(expected).size > 1
        for env in batches:
            found = env.step(np.stack([action, action]))[4]["reward_map"]
            np.testing.assert_allclose(np.asarray(found)[0], expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(1, 7), width=st.integers(1, 7))
def test_boundary_by_its_definition(seed: int, height: int, width: int) -> None:
    previous, current, target = maps(seed, (height, width))
    pixels = [(i, j) for i in range(height) for j in range(width)]
    near = np.array([
        any(target[k, m] != target[i, j] for k, m in pixels if abs(i - k) + abs(j - m) <= 2) for i, j in pixels
    ]).reshape(height, width)  # fmt: skip
    expected = rewards.squared_error(previous, current, target) * near
    np.testing.assert_array_equal(boundary(previous, current, target), expected)
    found = boundary(*(torch.from_numpy(one) for one in (previous, current, target)))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_reward_with_defaults_composes_without_parentheses_too() -> None:
    for made, wanted in (
        (balanced(), "balanced(10)"),
        (0.3 * balanced, "0.3*balanced(10)"),
        (balanced / 2, "0.5*balanced(10)"),
        (squared_error + balanced, "squared_error + balanced(10)"),
        (balanced + sign, "balanced(10) + sign"),
        (balanced - sign, "balanced(10) - 1*sign"),
        (own + balanced, f"{own.__module__}:own + balanced(10)"),
        (own - balanced, f"{own.__module__}:own - 1*balanced(10)"),
        (-balanced, "-1*balanced(10)"),
        (balanced.clip(-1, 1), "(balanced(10)).clip(-1, 1)"),
        (balanced.scale(2), "2*balanced(10)"),
        (balanced(3).clip(-1, 1), "(balanced(3)).clip(-1, 1)"),
    ):
        assert str(made) == repr(made) == wanted
        assert resolve_reward(wanted) == made


def test_a_plug_in_has_the_methods_of_a_reward() -> None:
    module = f"{__name__}:own" if ":" not in __name__ else ""
    read = resolve_reward(f"({module}).clip(-1, 1)")
    assert str(resolve_reward(f"{module}.clip(-1, 1)")) == str(read)
    assert str(resolve_reward(f"{module}.scale(2) + sign")) == str(resolve_reward(f"2*{module} + sign"))
