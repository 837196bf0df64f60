"""`PixelSegVectorEnv` does what single environments do, and what Gymnasium's SyncVectorEnv makes of them."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pixelseg_env import ActionError, OptionError, PixelSegEnv, PixelSegVectorEnv, SegmentationDataset
from pixelseg_env.dynamics import TRANSITIONS
from tests.helpers.env import INFO_KEYS, REWARDS, TASKS, assert_same, copied, random_actions, small_set, vandalise

MODES = tuple(AutoresetMode)
B = 3


def make(**options: Any) -> PixelSegVectorEnv:
    env = gym.make_vec("PixelSegEnv-v0", num_envs=B, **{"dataset": small_set(), "horizon": 3, **options})
    assert isinstance(env, PixelSegVectorEnv)
    return env


def make_sync(mode: AutoresetMode, **options: Any) -> SyncVectorEnv:
    options = {"dataset": small_set(), "horizon": 3, **options}
    return SyncVectorEnv([lambda: gym.make("PixelSegEnv-v0", **options)] * B, autoreset_mode=mode)


def only_marked(infos: dict[str, Any]) -> dict[str, Any]:
    """Infos with what their masks do not mark taken out: there, the values mean nothing."""
    result: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_"):
            result[key] = value
        elif isinstance(value, dict):
            result[key] = only_marked(value)
        else:
            assert len(value) == B
            result[key] = [value[i] for i in np.flatnonzero(infos[f"_{key}"])]
    return result


def assert_agree(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    """Equal, but for the reward map of a step with a reset in it: ours is the step's, theirs that of the reset, 0."""
    theirs = copy.deepcopy(theirs)
    for i in np.flatnonzero(theirs[-1].get("_final_info", ())):
        assert not theirs[-1]["reward_map"][i].any()
        theirs[-1]["reward_map"][i] = theirs[-1]["final_info"]["reward_map"][i]
    assert_same((*ours[:-1], only_marked(ours[-1])), (*theirs[:-1], only_marked(theirs[-1])))
    for infos in (ours[-1], ours[-1].get("final_info", {})):
        for key, value in infos.items():
            if not isinstance(value, dict):
                assert isinstance(value, np.ndarray), key
    for key, value in theirs[-1].items():
        if not isinstance(value, dict):
            assert ours[-1][key].dtype == value.dtype, key


def actions_like(env: Any, steps: int, seed: int = 0) -> Any:
    return random_actions(env.action_space.shape, steps, seed)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("transition", "observation"), TASKS)
@pytest.mark.parametrize("reward", REWARDS)
def test_agrees_with_sync_vector_env(mode: AutoresetMode, transition: str, observation: str, reward: str) -> None:
    options = {"transition": transition, "observation": observation, "reward": reward}
    ours, theirs = make(autoreset_mode=mode, **options), make_sync(mode, **options)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    assert_agree(ours.reset(seed=11), theirs.reset(seed=11))
    ended = 0
    for t, actions in enumerate(actions_like(ours, 11)):
        result = ours.step(actions)
        assert_agree(result, theirs.step(actions))
        assert ours.observation_space.contains(result[0])
        ended += int(result[2].sum())
        if mode == AutoresetMode.DISABLED and result[2].any():
            # Two of three images at first, so that from then on the episodes no longer end together.
            mask = np.array([True, False, True]) if t == 2 else result[2]
            partial = ours.reset(options={"reset_mask": mask})
            assert_agree(partial, theirs.reset(options={"reset_mask": mask}))
            if t == 2:
                with pytest.raises(ResetNeeded, match=r"images \[1\] have ended"):
                    ours.step(actions)
                rest = np.array([False, True, False])
                seeds = [None, 5, None]
                assert_agree(
                    ours.reset(seed=seeds, options={"reset_mask": rest, "horizon": 4}),
                    theirs.reset(seed=seeds, options={"reset_mask": rest, "horizon": 4}),
                )
    assert ended >= 6


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_episodes_of_unlike_lengths_agree_too(mode: AutoresetMode) -> None:
    ours, theirs = make(autoreset_mode=mode, horizon=4), make_sync(mode, horizon=4)
    for env in (ours, theirs):
        env.reset(seed=2)
    both = []
    for env in (ours, theirs):
        for i, h in enumerate((1, 2, 5)):  # SyncVectorEnv hands one option to all, so one image after the other
            last = env.reset(options={"reset_mask": np.arange(B) == i, "horizon": h})
        both.append(last)
    assert_agree(*both)
    seen = set()
    for actions in actions_like(ours, 12, seed=4):
        result = ours.step(actions)
        assert_agree(result, theirs.step(actions))
        seen.add(tuple(result[2].tolist()))
    assert len(seen) > 3, "the test needs steps at which some images end and others do not"


@pytest.mark.parametrize("size", [(12, 9), (96, 101)])  # the larger sums over more pixels than NumPy's buffer holds
def test_is_the_single_environment_image_by_image(size: tuple[int, int]) -> None:
    data = small_set(height=size[0], width=size[1])

    def soft(previous: Any, current: Any, target: Any) -> Any:
        y, x = np.ogrid[: size[0], : size[1]]
        return (current - 0.3 * previous * target) * np.sin(y + 3.1 * x).astype(np.float32)

    several = make(dataset=data, reward=soft)
    singles = [PixelSegEnv(dataset=data, reward=soft, horizon=3) for _ in range(B)]
    observation, infos = several.reset(seed=9)
    firsts = [env.reset(seed=9 + i) for i, env in enumerate(singles)]
    for i, (one, info) in enumerate(firsts):
        assert_same(observation[i], one)
        assert infos["index"][i] == info["index"]
    for t, actions in enumerate(actions_like(several, 8)):
        result = several.step(actions)
        for i, env in enumerate(singles):
            if t % 4 == 3:  # NextStep: three steps, then one that resets
                one, info = env.reset()
                expected = (one, 0.0, False, False, info)
            else:
                expected = env.step(actions[i])
            given = (result[0][i], *(result[k][i].item() for k in (1, 2, 3)))
            assert_same(given, expected[:4], f"step {t} image {i}")
            for key in INFO_KEYS:
                np.testing.assert_array_equal(result[4][key][i], expected[4][key])


def test_make_vec_declares_the_autoreset_mode() -> None:
    assert make().metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    for mode in MODES:
        assert make(autoreset_mode=mode).metadata["autoreset_mode"] is mode
        assert make(autoreset_mode=mode.value).metadata["autoreset_mode"] is mode
    assert PixelSegVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP, "not the class's own"
    with pytest.raises(OptionError, match="Did you mean 'SameStep'"):
        make(autoreset_mode="samestep")
    sync = gym.make_vec("PixelSegEnv-v0", num_envs=2, vectorization_mode="sync", dataset=small_set())
    assert isinstance(sync.unwrapped, SyncVectorEnv)


def test_gymnasium_wrappers_accept_it() -> None:
    from gymnasium.wrappers.vector import RecordEpisodeStatistics

    env = RecordEpisodeStatistics(make())
    env.reset(seed=0)
    for actions in actions_like(env, 3):
        infos = env.step(actions)[4]
    assert infos["episode"]["l"].tolist() == [3] * B


def test_index_and_horizon_for_all_or_for_each() -> None:
    env = make()
    for index, cases in ((3, ["case1"] * 3), ([5, 0, 2], ["case2", "case0", "case1"])):
        _, infos = env.reset(options={"index": index})
        assert [small_set().cases[k] for k in infos["index"]] == cases
        assert_same(infos["target"], small_set().masks[np.broadcast_to(index, (B,))])
    for horizon, lengths in ((2, [2, 2, 2]), (np.array([1, 4, 2]), [1, 4, 2])):
        env = make(autoreset_mode="SameStep")
        env.reset(seed=0, options={"horizon": horizon})
        first = np.full(B, -1)
        for t, actions in enumerate(actions_like(env, 4), start=1):
            ended = env.step(actions)[2]
            first[ended & (first < 0)] = t
        assert first.tolist() == lengths


def test_partial_reset_leaves_the_others_alone() -> None:
    env, twin = make(autoreset_mode="Disabled", horizon=9), make(autoreset_mode="Disabled", horizon=9)
    for one in (env, twin):
        one.reset(seed=0)
        one.step(actions_like(one, 1)[0])
    mask = np.array([False, True, False])
    observation, infos = env.reset(options={"reset_mask": mask, "index": np.array([99, 4, -5]), "horizon": 2})
    for key in INFO_KEYS:
        assert_same(infos[f"_{key}"], mask)
    assert infos["step"].tolist() == [1, 0, 1]
    assert infos["index"][1] == 4
    assert (infos["segmentation"][1] == 1).all()
    np.testing.assert_array_equal(observation[1], small_set().images[4].astype(np.float32) / np.float32(255))
    for t, actions in enumerate(actions_like(env, 2, seed=8)):
        ours, theirs = env.step(actions), twin.step(actions)
        for i in (0, 2):
            assert_same(ours[0][i], theirs[0][i])
            assert ours[1][i] == theirs[1][i]
            assert ours[4]["step"][i] == theirs[4]["step"][i] == t + 2
    assert ours[2].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 6}, "index=6"),
        ({"index": [0, 1, -1]}, "index=-1"),
        ({"index": [0, 1]}, r"index: expected a whole number or one per image, shape \(3,\), got shape \(2,\)"),
        ({"index": 1.0}, "index: expected a whole number"),
        ({"horizon": [1, 2, 0]}, "horizon=.*at least 1"),
        ({"horizon": True}, "horizon: expected a whole number"),
        ({"reset_mask": [True, False]}, r"reset_mask: expected a boolean array of shape \(3,\)"),
        ({"reset_mask": np.array([1, 0, 1])}, "reset_mask: expected a boolean"),
        ({"reset_mask": np.zeros(3, bool)}, "at least one True"),
        ({"resetmask": np.ones(3, bool)}, "Did you mean 'reset_mask'"),
    ],
)
def test_reset_options_are_checked_and_a_refused_reset_changes_nothing(options: dict[str, Any], message: str) -> None:
    env, twin = make(), make()
    for one in (env, twin):
        one.reset(seed=0)
    with pytest.raises(OptionError, match=message):
        env.reset(seed=5, options={"horizon": 1, **options})
    for actions in actions_like(env, 5):
        assert_same(env.step(actions), twin.step(actions))


def test_seeds() -> None:
    env = make()
    plain = env.reset(seed=4)
    assert_same(env.reset(seed=[4, 5, 6]), plain)
    assert_same(env.reset(seed=np.array([4, 5, 6])), plain)  # type: ignore[arg-type]
    assert_same(env.reset(seed=np.int64(4)), plain)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="one per image, 3, got 2"):
        env.reset(seed=[1, 2])
    drawn = [env.reset()[1]["target"].tobytes() for _ in range(12)]
    assert len(set(drawn)) > 6, "no seed: the generators go on"
    env.reset(seed=4)
    assert drawn == [env.reset()[1]["target"].tobytes() for _ in range(12)]


def test_a_refused_first_reset_does_not_count() -> None:
    env = make()
    with pytest.raises(ResetNeeded, match="before"):
        env.step(np.ones((B, 12, 9), np.int8))
    with pytest.raises(ResetNeeded, match="reset all images once"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(OptionError, match="index"):
        env.reset(options={"index": 77})
    with pytest.raises(ResetNeeded, match="before"):
        env.step(np.ones((B, 12, 9), np.int8))
    with pytest.raises(ResetNeeded, match="before"):
        make(render_mode="rgb_array").render()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.ones((12, 9), np.int8), r"expected shape \(3, 12, 9\)"),
        (np.ones((2, 12, 9), np.int8), r"got \(2, 12, 9\)"),
        (np.ones((3, 12, 9)), "got type float64"),
        (np.full((3, 12, 9), 3), "found 3"),
        (np.arange(3 * 12 * 9).reshape(3, 12, 9) % 2 - 1, "found -1"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(actions: Any, message: str) -> None:
    env, twin = make(), make()
    for one in (env, twin):
        one.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(actions)
    right = actions_like(env, 1)[0]
    assert_same(env.step(right.astype(bool)), twin.step(right))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_what_was_handed_out_neither_changes_nor_changes_the_environment(
    mode: AutoresetMode, transition: str, observation: str
) -> None:
    options = {"transition": transition, "observation": observation, "autoreset_mode": mode, "horizon": 2}
    for spoil in (False, True):
        env, twin = make(**options), make(**options)
        handed: list[tuple[Any, Any]] = []
        given, expected = env.reset(seed=1), twin.reset(seed=1)
        for t, actions in enumerate(actions_like(env, 9)):
            assert_same(given, expected)
            handed.append((given, copied(given)))
            if spoil:
                vandalise(given)
            own = actions.copy()
            if t == 4:
                mask, index = np.array([True, False, True]), np.array([1, 2, 3])
                given = env.reset(options={"reset_mask": mask, "index": index})
                mask[...], index[...] = False, 0
                expected = twin.reset(
                    options={"reset_mask": np.array([True, False, True]), "index": np.array([1, 2, 3])}
                )
            else:
                given, expected = env.step(own), twin.step(actions)
            own[...] = 0
        if not spoil:
            for given, snapshot in handed:
                assert_same(given, snapshot)


def test_whole_episodes_follow_the_transition() -> None:
    for transition in TRANSITIONS:
        env = make(transition=transition, horizon=5)
        env.reset(seed=0)
        before = np.ones((B, 12, 9), np.uint8)
        for actions in actions_like(env, 5):
            infos = env.step(actions)[4]
            before = TRANSITIONS[transition](before, actions.astype(np.uint8))
            np.testing.assert_array_equal(infos["segmentation"], before)
        assert 0 < before.mean() < 1


def test_frames() -> None:
    env = make(render_mode="rgb_array")
    single = PixelSegEnv(dataset=small_set(), render_mode="rgb_array", horizon=3)
    env.reset(seed=0, options={"index": [0, 1, 2]})
    single.reset(seed=0, options={"index": 1})
    for actions in [None, *actions_like(env, 2)]:
        if actions is not None:
            env.step(actions)
            single.step(actions[1])
        frames = env.render()
        assert len(frames) == B
        np.testing.assert_array_equal(frames[1], single.render())
    assert make().render() is None
    with pytest.raises(OptionError, match="render_mode"):
        make(render_mode="human")


@pytest.mark.parametrize("count", [0, -1, 2.0, "2", True])
def test_number_of_images(count: Any) -> None:
    with pytest.raises(OptionError, match="num_envs"):
        PixelSegVectorEnv(num_envs=count, dataset=small_set())


def test_one_image_only() -> None:
    data = SegmentationDataset(
        "one", np.full((1, 1, 1, 1), 255, np.uint8), np.ones((1, 1, 1), np.uint8), ("a",), np.zeros(1, np.int64)
    )
    env = gym.make_vec("PixelSegEnv-v0", num_envs=1, dataset=data, horizon=1)
    env.reset(seed=0)
    observation, reward, terminated, _, _ = env.step(np.zeros((1, 1, 1), np.int8))
    assert (observation.item(), reward.item(), terminated.item()) == (0.0, -1.0, True)
