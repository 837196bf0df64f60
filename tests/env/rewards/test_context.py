"""What a reward may ask for: the step, the steps left, the horizon, the image, the action."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv

from pixelseg_env import OptionError, PixelSegEnv, PixelSegVectorEnv, register_reward
from pixelseg_env.rewards import RewardContext, as_reward, registry, squared_error
from tests.helpers.env import random_actions, small_set

SHAPE = (12, 9)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REWARDS", dict(registry._REWARDS))


def everything(
    previous: Any, current: Any, target: Any, step: Any, steps_left: Any, horizon: Any, image: Any, action: Any
) -> Any:
    """Names all that there is; nothing in it can be swapped without a change."""
    bright = image[..., 0, :, :]
    return (previous - current) * bright + step / horizon + 10 * steps_left + 0.5 * action - target


def late(previous: Any, current: Any, target: Any, *, step: Any, horizon: Any, factor: float = 2.0) -> Any:
    return squared_error(previous, current, target) * (step / horizon) * factor


def test_a_function_gets_what_it_names() -> None:
    assert as_reward(everything).needs == {"step", "steps_left", "horizon", "image", "action"}
    assert as_reward(late).needs == {"step", "horizon"}
    assert squared_error.needs == frozenset()
    assert (0.5 * as_reward(late).clip(0, 1) + squared_error).needs == {"step", "horizon"}
    env = PixelSegEnv(small_set(), reward=everything, horizon=3, transition="restorable")
    env.reset(seed=1)
    for t, action in enumerate(random_actions(SHAPE, 3), start=1):
        before, image, target = env._segmentation, env._image, env._target
        found = env.step(action)[4]
        change = before.astype(float) - found["segmentation"]
        expected = change * image[0] + t / 3 + 10 * (3 - t) + 0.5 * action - target
        np.testing.assert_allclose(found["reward_map"], expected, atol=1e-5)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_single_and_batch_agree(backend: str, mode: str) -> None:
    """Episodes of unlike lengths, so that steps and horizons differ within the batch; NextStep steps past the end."""
    several = PixelSegVectorEnv(
        3, small_set(), reward=everything, transition="restorable", backend=backend, autoreset_mode=mode
    )
    horizons, indices = [2, 3, 4], [0, 3, 5]
    several.reset(seed=0, options={"index": np.array(indices), "horizon": np.array(horizons)})
    singles = [PixelSegEnv(small_set(), reward=everything, transition="restorable") for _ in horizons]
    for env, index, horizon in zip(singles, indices, horizons, strict=True):
        env.reset(options={"index": index, "horizon": horizon})
    compared = 0
    for t in range(1, 5):
        actions = random_actions((3, *SHAPE), 1, seed=t)[0]
        infos = several.step(actions)[4]
        for i, (env, horizon) in enumerate(zip(singles, horizons, strict=True)):
            if t > horizon:
                continue
            maps = infos["reward_map"]
            if mode == "SameStep" and t == horizon:
                maps = infos["final_info"]["reward_map"]
            expected = env.step(actions[i])[4]["reward_map"]
            np.testing.assert_allclose(np.asarray(maps[i]), expected, rtol=1e-6, atol=1e-5)
            compared += 1
    assert compared == sum(horizons)


def test_counts_stay_in_range_where_an_episode_begins_anew() -> None:
    seen: list[tuple[int, int]] = []

    def watching(previous: Any, current: Any, target: Any, step: Any, steps_left: Any) -> Any:
        assert step.shape == steps_left.shape == (2, 1, 1)
        seen.append((int(step.max()), int(steps_left.min())))
        return 1 / (1 + steps_left) + 0 * target

    env = PixelSegVectorEnv(2, small_set(), reward=watching, horizon=2)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.ones((2, *SHAPE), np.int8))
    assert seen == [(1, 1), (2, 0), (2, 0), (1, 1), (2, 0)]


def test_shapes_with_labels_and_on_torch() -> None:
    action = np.zeros((2, 3, 4, 5), np.uint8)
    image = np.zeros((2, 1, 4, 5), np.float32)
    for convert in (np.asarray, torch.from_numpy):
        context = RewardContext.of(np.array([1, 2]), 5, convert(image), convert(action))
        for counts, values in ((context.step, [1, 2]), (context.steps_left, [4, 3]), (context.horizon, [5, 5])):
            assert type(counts) is type(convert(action))
            assert tuple(counts.shape) == (2, 1, 1, 1)
            assert str(counts.dtype).endswith("int64")
            assert counts.reshape(-1).tolist() == values
    steps = torch.tensor([3, 3])
    assert RewardContext.of(steps, torch.tensor([3, 4]), torch.from_numpy(image), torch.from_numpy(action)).steps_left[
        :, 0, 0, 0
    ].tolist() == [0, 1]
    one = RewardContext.of(2, 5, image[0], action[0])
    assert (one.step, one.steps_left, one.horizon) == (2, 3, 5)
    assert {type(one.step), type(one.steps_left), type(one.horizon)} == {int}


def test_what_the_environment_owns_cannot_be_written_to() -> None:
    def cheat(name: str) -> Callable[..., Any]:
        def reward(previous: Any, current: Any, target: Any, step: Any, image: Any, action: Any) -> Any:
            {"step": step, "image": image, "action": action}[name][...] = 0
            return 0 * target

        return reward

    for name in ("step", "image", "action"):
        for backend, error, words in (("numpy", ValueError, "read-only"), ("torch", OptionError, "wrote to them")):
            env = PixelSegVectorEnv(2, small_set(), reward=cheat(name), backend=backend)
            env.reset(seed=0)
            with pytest.raises(error, match=words):
                env.step(np.ones((2, *SHAPE), np.int8))


def test_a_context_is_asked_for_where_it_lacks() -> None:
    maps = [np.ones((2, 2), np.uint8)] * 3
    reward = 0.5 * as_reward(late) + squared_error
    with pytest.raises(OptionError, match=r"asks for horizon, step.*RewardContext\.of"):
        reward(*maps)
    with pytest.raises(OptionError, match="asks for horizon;"):
        reward(*maps, RewardContext(step=1))
    assert reward(*maps, RewardContext(step=1, horizon=2)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, c: c, "three maps first"),
        (lambda: 0, "three maps first"),
        (lambda p, c, step: c, "three maps first"),
        (lambda p, c, t, stp: c, "'stp' is not known.*step, steps_left, horizon, image, action"),
        (lambda p, c, t, *, tim: c, "'tim' is not known"),
        (lambda p, c, **others: c, "three maps first"),
        (lambda p, c, t, step, /: c, "'step' must not be positional-only"),
    ],
)
def test_wrong_signatures_are_refused_at_once(function: Any, words: str) -> None:
    for construct in (
        lambda: PixelSegEnv(small_set(), reward=function),
        lambda: PixelSegVectorEnv(2, small_set(), reward=function),
        lambda: register_reward("wrong", function),
    ):
        with pytest.raises(OptionError, match=words):
            construct()


def test_other_signatures_that_are_fine() -> None:
    class Callable_:  # noqa: N801
        def __call__(self, previous: Any, current: Any, target: Any, steps_left: Any = 3) -> Any:
            return current * steps_left

    for function, needs in (
        (lambda *maps: maps[1], set()),
        (lambda p, c, t, mine=3: c, set()),
        (lambda p, c, t, step=7: c, {"step"}),
        (lambda p, c, t, **others: c, set()),
        (np.maximum, set()),
        (max, set()),  # has no signature
        (Callable_(), {"steps_left"}),
    ):
        assert as_reward(function).needs == needs


def test_a_function_with_a_context_in_processes_of_their_own() -> None:
    """Sent to other processes, and pickled."""
    data = small_set()
    plain = PixelSegEnv(data, reward=late, horizon=2)
    twin = pickle.loads(pickle.dumps(plain))
    several = AsyncVectorEnv([lambda: PixelSegEnv(data, reward=late, horizon=2)] * 2)
    try:
        several.reset(seed=[5, 5])
        for env in (plain, twin):
            env.reset(seed=5)
        for action in random_actions(SHAPE, 2):
            expected = plain.step(action)[4]["reward_map"]
            np.testing.assert_array_equal(twin.step(action)[4]["reward_map"], expected)
            np.testing.assert_array_equal(several.step(np.stack([action] * 2))[4]["reward_map"][1], expected)
    finally:
        several.close()


def test_a_replay_computes_the_same_from_stored_transitions() -> None:
    """What an off-policy learner does: maps, action, step and image of a batch of unlike steps, given again."""
    env = PixelSegEnv(small_set(), reward=everything, horizon=3)
    stored = []
    for seed in range(2):
        _, info = env.reset(seed=seed)
        for action in random_actions(SHAPE, 3, seed=seed):
            before, image = info["segmentation"], env._image
            _, _, _, _, info = env.step(action)
            stored.append((before, info["segmentation"], info["target"], image, action.astype(np.uint8), info))
    previous, current, target, image, action = (np.stack([one[k] for one in stored]) for k in range(5))
    steps, horizons = (np.array([one[5][key] for one in stored]) for key in ("step", "horizon"))
    expected = np.stack([one[5]["reward_map"] for one in stored])
    context = RewardContext.of(steps, horizons, image, action)
    np.testing.assert_allclose(env.reward(previous, current, target, context), expected, atol=1e-6)
    tensors = [torch.from_numpy(one) for one in (previous, current, target, image, action)]
    context = RewardContext.of(torch.from_numpy(steps), 3, *tensors[3:])
    np.testing.assert_allclose(env.reward(*tensors[:3], context).numpy(), expected, atol=1e-5)
