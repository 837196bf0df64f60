"""`PixelSegEnv`: Gymnasium's contract, spaces, infos, options, errors, rendering."""

from __future__ import annotations

import copy
import gc
import os
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import tests.helpers.data as files
from pixelseg_env import ActionError, OptionError, PixelSegEnv, SegmentationDataset, load_dataset, register_dataset
from pixelseg_env.datasets import registry
from tests.helpers.env import INFO_KEYS, REWARDS, TASKS, assert_same, copied, random_actions, small_set, vandalise

# What check_env may say of this environment, each with the reason why it is no fault. None is needed.
EXPECTED_WARNINGS: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_loaders", dict(registry._loaders))
    monkeypatch.delenv("PIXELSEG_DATA", raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def checked(env: gym.Env[Any, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    unknown = [str(w.message) for w in caught if not any(part in str(w.message) for part in EXPECTED_WARNINGS)]
    assert not unknown


# Every transition and every observation once; the others of the four are slow.
@pytest.mark.parametrize(
    ("transition", "observation"),
    [pytest.param(*task, marks=[pytest.mark.slow] * (n in (1, 2))) for n, task in enumerate(TASKS)],
)
def test_check_env_with_every_reward(transition: str, observation: str) -> None:
    for reward in REWARDS:
        # check_env makes one environment of each render mode by itself; "human" waits for its frame rate.
        checked(
            gym.make("PixelSegEnv-v0", size=16, count=8, transition=transition, observation=observation, reward=reward)
        )


def test_check_env_on_constant_images() -> None:
    for value in (0, 255):
        images = np.full((3, 1, 8, 8), value, np.uint8)
        data = SegmentationDataset("flat", images, np.zeros((3, 8, 8), np.uint8), ("a", "b", "c"), np.arange(3))
        checked(gym.make("PixelSegEnv-v0", dataset=data))


def test_check_env_notices_a_broken_environment() -> None:
    class Shared(PixelSegEnv):
        def _observe(self) -> Any:
            self._shared = getattr(self, "_shared", super()._observe())
            return self._shared

    env = Shared(size=16, count=8)
    with pytest.raises(AssertionError):
        checked(env)


@pytest.mark.parametrize(("transition", "observation"), TASKS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_spaces_and_trajectory_by_the_definition(transition: str, observation: str, dtype: Any) -> None:
    data = small_set(dtype=dtype)
    env = gym.make("PixelSegEnv-v0", dataset=data, transition=transition, observation=observation, horizon=4)
    channels = 2 + (observation == "stacked")
    assert env.observation_space == gym.spaces.Box(0, 1, (channels, 12, 9), np.float32)
    assert env.action_space == gym.spaces.MultiBinary((12, 9))
    obs, info = env.reset(seed=3, options={"index": 4})
    image, target = data.images[4].astype(np.float32), data.masks[4]
    image = image / np.float32(255) if dtype == np.uint8 else image
    before = np.ones((12, 9), np.uint8)
    for t, action in enumerate([None, *random_actions((12, 9), 4)]):
        now, reward, terminated = before, 0.0, False
        if action is not None:
            obs, reward, terminated, truncated, info = env.step(action)
            assert type(reward) is float
            assert terminated is (t == 4)
            assert truncated is False
            now = (before & action if transition == "absorbing" else action).astype(np.uint8)
        assert set(info) == INFO_KEYS
        assert env.observation_space.contains(obs)
        shown = image * now if observation == "masked" else np.concatenate([image, now[None].astype(np.float32)])
        np.testing.assert_array_equal(obs, shown)
        reward_map = (before.astype(np.float32) - target) ** 2 - (now.astype(np.float32) - target) ** 2
        expected = {
            "reward_map": reward_map,
            "segmentation": now,
            "target": target,
            "dice": np.float64((2 * (now & target).sum() + 1e-4) / (now.sum() + target.sum() + 1e-4)),
            "slice": np.int64(5),
            "index": np.int64(4),
            "step": np.int64(t),
            "horizon": np.int64(4),
        }
        assert_same(info, expected)
        assert reward == pytest.approx(reward_map.mean(), abs=1e-7)
        before = now


def test_images_are_drawn_uniformly_by_the_seed() -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set())
    for seed in (0, 1):
        first = [env.reset(seed=seed if i == 0 else None)[1] for i in range(300)]
        again = [env.reset(seed=seed if i == 0 else None)[1] for i in range(300)]
        assert_same(first, again)
        drawn = [info["index"] for info in first]
        counts = [drawn.count(item) for item in set(drawn)]
        assert len(counts) == 6
        assert min(counts) > 25
    assert drawn != [env.reset(seed=0 if i == 0 else None)[1]["index"] for i in range(300)]


def test_naming_the_image_does_not_move_the_generator() -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set())
    env.reset(seed=5)
    plain = [env.reset()[1]["target"] for _ in range(5)]
    env.reset(seed=5, options={"index": 0})
    named = [env.reset()[1]["target"] for _ in range(5)]
    assert_same(plain, named)


def test_horizon_option_is_for_one_episode() -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set(), horizon=3)
    action = np.ones((12, 9), np.int8)
    for options, length in (({"horizon": 1}, 1), (None, 3), ({"horizon": np.int64(5)}, 5), ({}, 3)):
        env.reset(seed=0, options=options)
        ends = [env.step(action)[2] for _ in range(length)]
        assert ends == [False] * (length - 1) + [True]
        with pytest.raises(ResetNeeded, match=f"ended at step {length}"):
            env.step(action)
    assert env.unwrapped.horizon == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 6}, "index=6: expected a whole number from 0 to 5"),
        ({"index": -1}, "index=-1"),
        ({"index": 1.5}, "index=1.5"),
        ({"index": True}, "index=True"),
        ({"horizon": 0}, "horizon=0: expected a whole number of steps, at least 1"),
        ({"horizon": 2.5}, "horizon=2.5"),
        ({"horizon": True}, "horizon=True"),
        ({"horizn": 3}, "'horizn' is not known.*Did you mean 'horizon'"),
        ({"reset_mask": np.ones(1, bool)}, "'reset_mask' is not known"),
    ],
)
def test_reset_options_are_checked_and_a_refused_reset_changes_nothing(options: dict[str, Any], message: str) -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set(), horizon=4)
    twin = gym.make("PixelSegEnv-v0", dataset=small_set(), horizon=4)
    for one in (env, twin):
        one.reset(seed=0, options={"index": 0})
    with pytest.raises(OptionError, match=message):
        env.unwrapped.reset(options={"index": 5, **options})
    for action in random_actions((12, 9), 4):
        assert_same(env.step(action), twin.step(action))


def test_step_before_reset_and_render_before_reset() -> None:
    env = PixelSegEnv(dataset=small_set(), render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        env.step(np.ones((12, 9), np.int8))
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        env.render()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.ones((9, 12), np.int8), r"expected shape \(12, 9\), one decision a pixel, got \(9, 12\)"),
        (np.ones((1, 12, 9), np.int8), "expected shape"),
        (1, "expected shape"),
        (None, "expected shape"),
        ([[1], [1, 0]], "expected an array of shape"),
        (np.ones((12, 9), np.float32), "got type float32"),
        (np.full((12, 9), "1"), "expected integers"),
        (np.full((12, 9), 2, np.int8), "found 2"),
        (np.full((12, 9), -1, np.int8), "found -1"),
        (np.full((12, 9), -1, np.int64), "found -1"),
        (np.full((12, 9), 256, np.int64), "found 256"),
        (np.full((12, 9), 255, np.uint8), "found 255"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(action: Any, message: str) -> None:
    env = PixelSegEnv(dataset=small_set(), horizon=1)
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(action)
    assert env.step(np.ones((12, 9), np.int8))[2]


def test_all_integer_and_boolean_actions_mean_the_same() -> None:
    action = random_actions((12, 9), 1)[0]
    results = []
    wide = np.zeros((12, 18), np.int8)
    wide[:, ::2] = action
    kinds = (np.int8, np.uint8, np.bool_, np.int64, np.uint16, ">i4")
    for given in [*(action.astype(kind) for kind in kinds), action.tolist(), wide[:, ::2], np.asfortranarray(action)]:
        env = PixelSegEnv(dataset=small_set())
        env.reset(seed=0)
        results.append(env.step(given))
    for other in results[1:]:
        assert_same(results[0], other)


@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_what_was_handed_out_neither_changes_nor_changes_the_environment(transition: str, observation: str) -> None:
    for spoil in (False, True):
        env, twin = (
            PixelSegEnv(dataset=small_set(dtype=np.float32), transition=transition, observation=observation, horizon=3)
            for _ in range(2)
        )
        handed: list[tuple[Any, Any]] = []
        for _ in range(2):
            given, expected = env.reset(seed=1), twin.reset(seed=1)
            for action in [*random_actions((12, 9), 3), None]:
                assert_same(given, expected)
                handed.append((given, copied(given)))
                if spoil:
                    vandalise(given)
                if action is not None:
                    own = action.copy()
                    given, expected = env.step(own), twin.step(action)
                    own[...] = 0  # nor does the environment keep the caller's action
        if not spoil:
            for given, snapshot in handed:
                assert_same(given, snapshot)


def test_third_party_data_set_by_name() -> None:
    @register_dataset("mine", files=False)
    def load_mine(data: Any, size: Any, fit: str, keep_empty: bool, tone: int = 3) -> SegmentationDataset:
        image = np.full((4, 1, *size), tone, np.uint8)
        return SegmentationDataset("mine", image, image[:, 0] // tone, tuple("abcd"), np.arange(4))

    env = gym.make("PixelSegEnv-v0", dataset="mine", size=(4, 6), split="all", tone=51)
    assert env.reset(seed=0)[0] == pytest.approx(0.2)
    several = gym.make_vec("PixelSegEnv-v0", num_envs=3, dataset="mine", size=(4, 6), split="all", tone=51)
    assert several.reset(seed=0)[0] == pytest.approx(0.2)
    assert several.observation_space.shape == (3, 1, 4, 6)


def test_a_data_set_object_is_used_whole_unless_a_split_is_named() -> None:
    data = small_set(20)
    for make in (gym.make, gym.make_vec):
        whole = make("PixelSegEnv-v0", dataset=data).unwrapped
        assert whole.dataset is data, "neither cut nor copied"
        assert make("PixelSegEnv-v0", dataset=data, split="all").unwrapped.dataset is data
        for split, count in (("train", 14), ("val", 2), ("test", 4)):
            assert len(make("PixelSegEnv-v0", dataset=data, split=split).unwrapped.dataset) == count
        named = make("PixelSegEnv-v0", size=16, count=10).unwrapped
        assert len(named.dataset) == 7, "a named set is its training part"


def test_data_sets_are_not_copied_and_cannot_be_written_to() -> None:
    data = small_set(dtype=np.float32)
    assert copy.deepcopy(data) is data
    assert copy.copy(data) is data
    assert gym.make("PixelSegEnv-v0", dataset=data).spec.kwargs["dataset"] is data
    for array in (data.images, data.masks, data.slices):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    own = np.zeros((1, 1, 4, 4), np.float32)
    SegmentationDataset("own", own, np.zeros((1, 4, 4), np.uint8), ("a",), np.zeros(1, np.int64))
    own[...] = 1  # the caller's array itself stays the caller's
    assert data in [small_set(), data], "compared by identity: a comparison of arrays has no truth value"


def test_environments_share_one_copy_of_a_named_set() -> None:
    def make(**changes: Any) -> SegmentationDataset:
        return gym.make("PixelSegEnv-v0", **{"size": 16, "count": 10, **changes}).unwrapped.dataset

    first = make()
    assert make() is first
    assert make(horizon=3, reward="sign") is first
    assert gym.make_vec("PixelSegEnv-v0", num_envs=2, size=16, count=10).unwrapped.dataset is first
    for change in ({"split": "val"}, {"size": (16, 16)}, {"seed": 1}, {"count": 11}, {"split_seed": 1}):
        assert make(**change) is not first
    assert load_dataset("phantom", size=16, count=10) is not first, "the public loader loads"
    held = len(registry._shared)
    del first
    gc.collect()
    assert len(registry._shared) < held, "a set that nobody uses is let go"
    with pytest.raises(OptionError, match="size"):
        make(size=16.0)  # equal to 16, but not valid: the cache must not hide that


def test_changed_files_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_folder(tmp_path, ("a", "b", "c"))

    def make() -> SegmentationDataset:
        return gym.make("PixelSegEnv-v0", dataset="folder", data=tmp_path, split="all", size=8).unwrapped.dataset

    held = [make()]
    assert make() is not held[0], "files that were written a moment ago may change without a new time stamp"
    monkeypatch.setattr(registry, "SETTLED_SECONDS", -10.0)
    held.append(make())
    assert make() is held[-1]
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)  # a loop of links must end
    held.append(make())
    assert make() is held[-1]
    status = os.stat(tmp_path / "a.png")
    files.write(tmp_path / "a.png", np.full((12, 16), 99, np.uint8))
    os.utime(tmp_path / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` and archives do
    held.append(make())
    assert 99 in held[-1].images[0]
    files.write_folder(tmp_path, ("d",))
    assert len(make()) == 4
    (tmp_path / "d.png").unlink()
    (tmp_path / "d_mask.png").unlink()
    assert len(make()) == 3
    assert make() is not held[0]


def test_a_set_not_said_to_be_shareable_is_loaded_every_time() -> None:
    loads: list[int] = []

    def load_mine(data: Any, size: Any, fit: str, keep_empty: bool) -> SegmentationDataset:
        loads.append(1)
        return small_set()

    for share, count in ((False, 2), (True, 3)):
        register_dataset("mine", load_mine, files=False, overwrite=True, share=share)
        kept = [gym.make("PixelSegEnv-v0", dataset="mine") for _ in range(2)]
        assert len(loads) == count
        assert len(kept) == 2


@pytest.mark.parametrize(
    ("option", "nearest"),
    [("horizn", "horizon"), ("transitoin", "transition"), ("render_mod", "render_mode"), ("rewards", "reward"),
     ("splitby", "split_by"), ("keepempty", "keep_empty"), ("cuont", "count"), ("sead", "seed")],
)  # fmt: skip
def test_unknown_options_name_the_nearest(option: str, nearest: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(OptionError, match=f"no option '{option}'.*Did you mean '{nearest}'"):
            make("PixelSegEnv-v0", size=16, **{option: 5})
        if option not in ("cuont", "sead"):
            with pytest.raises(OptionError, match=f"loaded already, has no option '{option}'.*'{nearest}'"):
                make("PixelSegEnv-v0", dataset=small_set(), **{option: 5})
    with pytest.raises(OptionError, match="Did you mean 'autoreset_mode'"):
        gym.make_vec("PixelSegEnv-v0", size=16, autoreset_mod="Disabled")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transition": "absorbin"}, "Did you mean 'absorbing'"),
        ({"observation": "stack"}, "Did you mean 'stacked'"),
        ({"dataset": "phantm"}, "Did you mean 'phantom'"),
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"horizon": 0}, "at least 1"),
        ({"horizon": 1.5}, "at least 1"),
        ({"horizon": 2**63}, "at most 2,147,483,647"),
        ({"render_mode": "rgb"}, "Did you mean 'rgb_array'"),
    ],
)
def test_option_values_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PixelSegEnv(**{"size": 16, **changes})


def test_rgb_array_frames_show_step_and_change() -> None:
    env = gym.make("PixelSegEnv-v0", dataset=small_set(), render_mode="rgb_array", horizon=2)
    frames = []
    for horizon in (2, 3):
        env.reset(seed=0, options={"index": 1, "horizon": horizon})
        frames.append(env.render())
        env.step(np.zeros((12, 9), np.int8))
        frames.append(env.render())
    assert all(frame.dtype == np.uint8 and frame.shape == frames[0].shape for frame in frames)
    pairs = [(a, b) for a in range(4) for b in range(a)]
    assert all((frames[a] != frames[b]).any() for a, b in pairs), "step and horizon are written into the frame"


def test_human_window_opens_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    env = gym.make("PixelSegEnv-v0", dataset=small_set(), render_mode="human", horizon=1)
    env.reset(seed=0)
    assert pygame.display.get_init()
    env.step(np.ones((12, 9), np.int8))
    assert env.render() is None
    env.close()
    assert not pygame.display.get_init()
    env.close()


def test_an_environment_with_an_open_window_can_be_copied() -> None:
    env = PixelSegEnv(small_set(), render_mode="human", horizon=5)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    actions = random_actions((12, 9), 3)
    for action in actions:  # each has a window of its own, of which the process shows one at a time
        assert_same(env.step(action), twin.step(action))
    twin.close()
    env.step(actions[0])
    env.close()


def test_render_without_a_mode_warns() -> None:
    env = PixelSegEnv(dataset=small_set())
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
