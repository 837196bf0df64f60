"""The PettingZoo view: the library's own checks, and the same trajectory as `PixelSegEnv`, agent by agent."""

from __future__ import annotations

import gc
import math
import pickle
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pettingzoo
import pytest
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils.conversions import parallel_to_aec
from stable_baselines3 import PPO

import pixelseg_env
from pixelseg_env import ActionError, OptionError, PixelSegEnv, SegmentationDataset
from pixelseg_env.views.pettingzoo import PixelSegParallelEnv
from pixelseg_env.views.windows import agent_names, windows
from tests.helpers.env import INFO_KEYS, REWARDS, TASKS, assert_same, copied, random_actions, small_set, vandalise
from tests.helpers.fresh import CONTEXT

H, W = 12, 9
STEP_COSTS = 3  # times its five dictionaries, at most
UNKNOWN_OPTION = "reset.*'options' is not known and ignored"  # parallel_api_test passes it to every environment


def make(**options: Any) -> PixelSegParallelEnv:
    return pixelseg_env.parallel_env(**{"dataset": small_set(), "horizon": 3, "view": 3, **options})


def joint(env: PixelSegParallelEnv, action: Any) -> dict[str, int]:
    return dict(zip(env.possible_agents, action.reshape(-1).tolist(), strict=True))


def episode(env: PixelSegParallelEnv, seed: int | None, actions: Any, **options: Any) -> list[Any]:
    results: list[Any] = [env.reset(seed=seed, options=options)]
    for action in actions:
        if env.agents:
            results.append(env.step(joint(env, action)))
    assert not env.agents
    return results


@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_the_librarys_own_checks(transition: str, observation: str) -> None:
    options = {"transition": transition, "observation": observation}
    for reward in REWARDS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=f".*{UNKNOWN_OPTION}")
            parallel_api_test(make(**options, reward=reward, horizon=4))
    parallel_seed_test(lambda: make(**options, reward=reward, horizon=4))


def test_the_librarys_checks_notice_a_broken_view() -> None:
    class Immortal(PixelSegParallelEnv):
        def step(self, actions: Any) -> Any:
            result = super().step(actions)
            self.agents = list(self.possible_agents)
            return result

    with pytest.raises(AssertionError), pytest.warns(UserWarning, match=UNKNOWN_OPTION):
        parallel_api_test(Immortal(small_set(), horizon=2))


def test_turn_by_turn_through_the_librarys_conversion() -> None:
    data = small_set(height=4, width=3)
    with pytest.warns(UserWarning, match=UNKNOWN_OPTION):
        api_test(parallel_to_aec(make(dataset=data)), num_cycles=100)
    seed_test(lambda: parallel_to_aec(make(dataset=data)), num_cycles=10)
    state_test(parallel_to_aec(make(dataset=data)), make(dataset=data))


def test_registry_and_function_make_the_same() -> None:
    options = {"dataset": small_set(), "horizon": 2, "view": 7}
    made = pettingzoo.make("parallel", "PixelSegEnv-v0", **options)
    assert type(made) is type(pixelseg_env.parallel_env(**options)) is PixelSegParallelEnv
    assert "PixelSegEnv-v0" in pettingzoo.parallel_registry
    assert pettingzoo.make("parallel", "PixelSegEnv").horizon == 10, "without a version: the newest"
    assert_same(
        episode(made, 3, random_actions((H, W), 2)),
        episode(pixelseg_env.parallel_env(**options), 3, random_actions((H, W), 2)),
    )
    assert str(made) == "PixelSegEnv-v0"
    assert callable(pixelseg_env.parallel_env), "no module has taken the function's place"


@pytest.mark.parametrize("missing", ["pettingzoo", "pettingzoo.env_registry"])
def test_without_pettingzoo(missing: str) -> None:
    """The package works without PettingZoo, and the view with one that has no registry (before 1.27)."""
    code = f"""
import sys
sys.modules[{missing!r}] = None
if {missing!r} != "pettingzoo":
    import types
    from importlib.util import find_spec
    package = sys.modules["pettingzoo"] = types.ModuleType("pettingzoo")
    package.__path__ = list(find_spec_path)
    from pettingzoo.utils.env import ParallelEnv
    package.ParallelEnv = ParallelEnv
import pixelseg_env
assert pixelseg_env.PixelSegEnv(size=16, count=12).reset(seed=0)
try:
    agents = pixelseg_env.parallel_env(size=16, count=12).possible_agents
except pixelseg_env.views.DependencyNotInstalled as error:
    print(error)
else:
    print(len(agents))
"""
    code = code.replace("find_spec_path", repr(list(pettingzoo.__path__)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = 'pip install "pixelseg-env[pettingzoo]"' if missing == "pettingzoo" else "256"
    assert expected in done.stdout


def numbers(info: dict[str, Any], transition: str, y: int, x: int) -> dict[str, Any]:
    """What the agent of a pixel is told, from what the environment says of the image."""
    gone = transition == "absorbing" and info["segmentation"][y, x] == 0
    mask = np.array([1, not gone], np.int8)
    plain = {key: info[key].item() for key in INFO_KEYS - {"reward_map", "segmentation", "target"}}
    return plain | {"action_mask": mask}


@pytest.mark.parametrize(("transition", "observation"), TASKS)
@pytest.mark.parametrize("reward", [*REWARDS, lambda f, g, target: (g - 0.3 * f * target) * np.linspace(0, 1, W)])
@pytest.mark.parametrize("view", [1, 5])
def test_is_the_single_environment_agent_by_agent(transition: str, observation: str, reward: Any, view: int) -> None:
    options = {"dataset": small_set(), "transition": transition, "observation": observation, "reward": reward}
    ours, single = make(**options, view=view), PixelSegEnv(**options, horizon=3)
    border = view // 2
    for number in range(3):  # the second and third episode go on with the generator
        seed = 8 if number == 0 else None
        action = None
        for action in [None, *random_actions((H, W), 3, seed=number)]:
            if action is None:
                (seen, infos), (whole, info) = ours.reset(seed=seed), single.reset(seed=seed)
            else:
                before = copied(action)
                seen, rewards, terminated, truncated, infos = ours.step(joint(ours, action))
                whole, mean, ended, cut, info = single.step(before)
                assert set(map(type, rewards.values())) == {float}
                assert list(rewards.values()) == info["reward_map"].reshape(-1).tolist()
                assert sum(rewards.values()) / len(rewards) == pytest.approx(mean, abs=1e-6)
                assert terminated == dict.fromkeys(ours.possible_agents, ended)
                assert truncated == dict.fromkeys(ours.possible_agents, cut)
                assert ours.agents == ([] if ended else ours.possible_agents)
                assert list(rewards) == ours.possible_agents
            assert list(seen) == list(infos) == ours.possible_agents
            np.testing.assert_array_equal(ours.state(), whole)
            padded = np.pad(whole, ((0, 0), (border, border), (border, border)))
            for y in range(H):
                for x in range(W):
                    assert_same(seen[f"pixel_{y}_{x}"], padded[:, y : y + view, x : x + view])
                    assert_same(infos[f"pixel_{y}_{x}"], numbers(info, transition, y, x))
            assert_same(ours.info, info)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 3),
    view=st.integers(0, 4).map(lambda k: 2 * k + 1),
    task=st.sampled_from(TASKS),
    seed=st.integers(0, 2**31),
    horizon=st.integers(1, 4),
)
def test_any_size_and_view(
    height: int, width: int, channels: int, view: int, task: tuple[str, str], seed: int, horizon: int
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, channels, height, width)).astype(np.uint8)
    masks = rng.integers(0, 2, (3, height, width)).astype(np.uint8)
    data = SegmentationDataset("any", images, masks, ("a", "b", "c"), np.arange(3))
    options = {"dataset": data, "transition": task[0], "observation": task[1], "horizon": horizon}
    ours, single = pixelseg_env.parallel_env(view=view, **options), PixelSegEnv(**options)
    actions = random_actions((height, width), horizon, seed=seed)
    results = episode(ours, seed, actions)
    single.reset(seed=seed)
    total = np.zeros(height * width)
    for action, (seen, rewards, _, _, infos) in zip(actions, results[1:], strict=True):
        whole, _, _, _, info = single.step(action)
        assert_same(infos[ours.possible_agents[-1]], numbers(info, task[0], -1, -1))
        for agent, window in seen.items():
            assert ours.observation_space(agent).contains(window)
        centre = np.stack(list(seen.values()))[:, :, view // 2, view // 2]
        np.testing.assert_array_equal(centre.T.reshape(whole.shape), whole)
        total += list(rewards.values())
    f0, g = np.ones((height, width)), info["target"].astype(float)
    expected = (f0 - g) ** 2 - (info["segmentation"] - g) ** 2  # Eq. 12 telescopes
    np.testing.assert_array_equal(total.reshape(height, width), expected)


@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_seeds_over_whole_episodes(transition: str, observation: str) -> None:
    """`parallel_seed_test` checks one step; here two environments go through five episodes of six steps."""
    options = {"transition": transition, "observation": observation, "horizon": 6}

    def rollout(seed: int) -> list[Any]:
        env = make(**options)
        return [
            copied(episode(env, seed if number == 0 else None, random_actions((H, W), 6, seed=number)))
            for number in range(5)
        ]

    first = rollout(4)
    assert_same(first, rollout(4))
    drawn = {result[0][1]["pixel_0_0"]["index"] for result in first}
    assert len(drawn) > 1, "the episodes show several images"
    with pytest.raises(AssertionError):
        assert_same(first, rollout(5))


def test_action_spaces_are_seeded_for_whole_episodes() -> None:
    def rollout() -> list[Any]:
        env, results = make(horizon=5), []
        env.reset(seed=1)
        env.action_space(env.agents[0]).seed(9)
        while env.agents:
            results.append(env.step({agent: env.action_space(agent).sample() for agent in env.agents}))
        return results

    assert_same(rollout(), rollout())


def test_reset_options() -> None:
    env = make()
    for options, length in (({"horizon": 1}, 1), ({}, 3), ({"horizon": np.int64(5), "index": 4}, 5), (None, 3)):
        _, infos = env.reset(seed=0, options=options)
        assert env.agents == env.possible_agents
        if options and "index" in options:
            assert infos["pixel_3_3"]["index"] == 4
            np.testing.assert_array_equal(env.info["target"], small_set().masks[4])
        ends = [env.step(joint(env, np.ones((H, W), int)))[2]["pixel_0_0"] for _ in range(length)]
        assert ends == [False] * (length - 1) + [True]
    for options, message in (({"index": 6}, "index=6"), ({"horizon": 0}, "horizon=0")):
        with pytest.raises(OptionError, match=message):
            env.reset(options=options)
    with pytest.warns(UserWarning, match="'indx' is not known and ignored.*Did you mean 'index'"):
        env.reset(options={"indx": 1})


def test_spaces_are_shared_objects() -> None:
    env = make(observation="stacked", view=7)
    assert env.observation_space("pixel_0_0") is env.observation_space("pixel_11_8")
    assert env.observation_space("pixel_0_0") == spaces.Box(0, 1, (3, 7, 7), np.float32)
    assert env.action_space("pixel_0_0") is env.action_space("pixel_11_8")
    assert env.action_space("pixel_0_0") == spaces.Discrete(2)
    assert env.state_space == PixelSegEnv(small_set(), observation="stacked").observation_space
    assert env.max_num_agents == H * W
    for space in (env.observation_space, env.action_space):
        with pytest.raises(OptionError, match=r"agent='pixel_12_0' is not known; expected .*pixel_0_0 to pixel_11_8"):
            space("pixel_12_0")


@pytest.mark.parametrize("view", [0, 2, -1, True, 3.0, "5", None])
def test_view_must_be_odd(view: Any) -> None:
    with pytest.raises(OptionError, match=r"view=.*expected an odd number"):
        make(view=view)


def test_option_names_are_checked() -> None:
    with pytest.raises(OptionError, match="Did you mean 'view'"):
        pixelseg_env.parallel_env(veiw=3)
    with pytest.raises(OptionError, match="render_mode"):
        make(render_mode="ascii")
    assert pixelseg_env.parallel_env(small_set(), horizon=np.int64(2), view=np.int64(3)).view == 3


def changed(actions: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {**actions, **others}


ALL = dict.fromkeys(agent_names((H, W)), 1)
NUMBER = r"expected 0 \(zero\) or 1 \(keep\), got "
WRONG_ACTIONS: list[tuple[Any, str]] = [
    ({}, r"one of each of the 108 agents pixel_0_0 to pixel_11_8, got 0; missing 108 \('pixel_0_0', ...\), unknown 0$"),
    ({k: v for k, v in ALL.items() if k != "pixel_3_4"}, r"got 107; missing 1 \('pixel_3_4'\), unknown 0"),
    (changed(ALL, pixel_12_0=1), r"got 109; missing 0, unknown 1 \('pixel_12_0'\)"),
    (changed({k: v for k, v in ALL.items() if k != "pixel_3_4"}, pixel_3_9=0), r"\('pixel_3_4'\).*\('pixel_3_9'\)"),
    ({**ALL, 0: 1}, r"unknown 1 \(0\)"),
    (np.ones((H, W), int), "expected a dictionary by agent, got type ndarray"),
    (None, "got type NoneType"),
    (changed(ALL, pixel_11_8=2), f"pixel_11_8: {NUMBER}2 "),
    (changed(ALL, pixel_1_0=-1), f"pixel_1_0: {NUMBER}-1 "),
    (changed(ALL, pixel_1_0=256), f"pixel_1_0: {NUMBER}256 "),
    (changed(ALL, pixel_1_0=10**30), f"pixel_1_0: {NUMBER}10"),
    (changed(ALL, pixel_1_0=np.int8(-1)), f"pixel_1_0: {NUMBER}.*int8"),
    (changed(ALL, pixel_1_0=1.0), rf"pixel_1_0: {NUMBER}1.0 \(float\)"),
    (changed(ALL, pixel_1_0="1"), rf"pixel_1_0: {NUMBER}'1' \(str\)"),
    (changed(ALL, pixel_1_0=b"1"), rf"pixel_1_0: {NUMBER}.*\(bytes\)"),
    (changed(ALL, pixel_1_0=None), rf"pixel_1_0: {NUMBER}None \(NoneType\)"),
    (changed(ALL, pixel_1_0=np.float32(1)), rf"pixel_1_0: {NUMBER}.*\(float32\)"),
    (changed(ALL, pixel_1_0=np.ones(2, int)), rf"pixel_1_0: {NUMBER}.*\(ndarray\)"),
    (changed(ALL, pixel_0_5=np.True_, pixel_1_0=7), f"pixel_1_0: {NUMBER}7"),
]


@pytest.mark.parametrize(("actions", "message"), WRONG_ACTIONS, ids=[message[:40] for _, message in WRONG_ACTIONS])
def test_wrong_actions_are_refused_and_change_nothing(actions: Any, message: str) -> None:
    env, twin = make(), make()
    for one in (env, twin):
        one.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(actions)
    right = joint(env, random_actions((H, W), 1)[0])
    assert_same(env.step(right), twin.step(right))


@pytest.mark.parametrize("kind", [bool, np.bool_, np.int8, np.uint8, np.int64, np.asarray])
def test_any_whole_number_and_any_order_will_do(kind: Any) -> None:
    action = random_actions((H, W), 1)[0]
    env, twin = make(), make()
    for one in (env, twin):
        one.reset(seed=0)
    mixed = {agent: kind(value) for agent, value in reversed(joint(env, action).items())}
    assert_same(env.step(mixed), twin.step(joint(twin, action)))


def test_a_step_needs_a_reset() -> None:
    env = make(horizon=1)
    for call in (env.state, lambda: env.step(joint(env, np.ones((H, W), int)))):
        with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
            call()
    assert env.agents == []
    episode(env, 0, random_actions((H, W), 1))
    for actions in ({}, joint(env, np.ones((H, W), int))):
        with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
            env.step(actions)
    env.reset()
    assert env.num_agents == H * W


@pytest.mark.parametrize(("transition", "observation"), TASKS)
def test_what_was_handed_out_neither_changes_nor_changes_the_environment(transition: str, observation: str) -> None:
    for spoil in (False, True):
        env, twin = (make(transition=transition, observation=observation) for _ in range(2))
        handed = []
        given, expected = env.reset(seed=1), twin.reset(seed=1)
        for action in random_actions((H, W), 3):
            assert_same(given, expected)
            handed.append((given, copied(given)))
            own = joint(env, action)
            if spoil:
                for info in given[-1].values():
                    assert not info["action_mask"].flags.writeable
                    info.clear()
                vandalise(env.info)
                vandalise(env.state())
                env.agents.append("pixel_99_99")
                env.possible_agents.reverse()
            given, expected = env.step(own), twin.step(joint(twin, action))
            if spoil:
                own.clear()
                env.possible_agents.reverse()
        if not spoil:
            for result, snapshot in handed:
                assert_same(result, snapshot)


def test_windows_are_views_that_nobody_can_write_to() -> None:
    env = make()
    seen, infos = env.reset(seed=0)
    assert np.shares_memory(seen["pixel_3_3"], seen["pixel_3_4"])
    assert not np.shares_memory(seen["pixel_3_3"], env.state())
    with pytest.raises(ValueError, match="read-only"):
        seen["pixel_3_3"][...] = 0
    infos["pixel_3_3"]["own"] = 1
    assert "own" not in infos["pixel_3_4"], "every agent's dictionary is its own"


def test_maps_of_several_labels_go_through_the_pixels_once_a_label() -> None:
    names = agent_names((2, 2, 3))
    assert names[:4] == ("pixel_0_0_0", "pixel_0_0_1", "pixel_0_0_2", "pixel_0_1_0")
    assert names[6] == "pixel_1_0_0"
    assert len(set(names)) == 12
    env = pixelseg_env.parallel_env(dataset="phantom", size=32, count=10, labels=2, horizon=2, view=3)
    seen, _ = env.reset(seed=0)
    assert len(seen) == 2 * 32 * 32
    around = windows(env.state(), 3)
    for label, y, x in np.ndindex(2, 32, 32):
        window = seen[f"pixel_{label}_{y}_{x}"]
        np.testing.assert_array_equal(window[:-2], around[y, x])
        assert window[-2:, 1, 1].tolist() == [label == 0, label == 1]


def test_frames_and_pickles() -> None:
    env, single = make(render_mode="rgb_array"), PixelSegEnv(small_set(), horizon=3, render_mode="rgb_array")
    assert env.render_mode == "rgb_array"
    env.reset(seed=0)
    single.reset(seed=0)
    action = random_actions((H, W), 1)[0]
    env.step(joint(env, action))
    single.step(action)
    np.testing.assert_array_equal(env.render(), single.render())
    twin = pickle.loads(pickle.dumps(env))
    assert_same(env.step(joint(env, action)), twin.step(joint(twin, action)))
    env.close()
    env.close()


def step_and_dictionaries(size: int) -> tuple[float, float]:
    """Seconds that a step of size^2 agents takes, and seconds of five dictionaries of so many entries.

    Both are measured in turn, with the destruction of the last result outside, and the least that each has taken
    counts: what else the machine does only ever adds, and not to both alike (a median came out between 2.2 and
    7.4 beside two busy processes). So a ratio that is too high is measured further, up to fifteen times as long.
    """
    env = pixelseg_env.parallel_env(size=size, count=12, horizon=10**6)
    env.reset(seed=0)
    names, values = env.possible_agents, list(range(env.num_agents))
    actions = joint(env, random_actions((size, size), 1)[0])

    def seconds(function: Any) -> float:
        start = time.perf_counter()
        result = function()
        spent = time.perf_counter() - start
        del result
        return spent

    gc.collect()
    step = dictionaries = math.inf
    for _ in range(15):
        for _ in range(80):
            step = min(step, seconds(lambda: env.step(actions)))
            dictionaries = min(dictionaries, seconds(lambda: [dict(zip(names, values, strict=True)) for _ in range(5)]))
        if step / dictionaries <= STEP_COSTS:
            break
    return step, dictionaries


@pytest.mark.parametrize("size", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_a_step_costs_at_most_three_times_its_five_dictionaries(size: int) -> None:
    """The API demands five dictionaries a step; what else a step does may cost twice as much again.

    A fresh process measures: behind a thousand other tests, on the heap that they leave, 2.2 to 2.5 became up to 3.1.
    """
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
        step, dictionaries = pool.submit(step_and_dictionaries, size).result()
    assert 1 < step / dictionaries <= STEP_COSTS


def test_supersuit_converts_it_and_stable_baselines3_trains_on_it() -> None:
    """The usual chain of multi-agent users. SuperSuit's vector environment has no `seed`, so PPO gets none."""
    supersuit = pytest.importorskip("supersuit", reason="SuperSuit is not installed")
    env = pixelseg_env.parallel_env(dataset="phantom", size=16, count=20, view=5, horizon=2)
    vector = supersuit.pettingzoo_env_to_vec_env_v1(env)
    assert vector.num_envs == 256
    both = supersuit.concat_vec_envs_v1(vector, 2, num_cpus=0, base_class="stable_baselines3")
    model = PPO("MlpPolicy", both, n_steps=4, batch_size=512, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(2 * 4 * 512)
    assert any(not (one == two).all() for one, two in zip(before, model.policy.parameters(), strict=True))


def test_infos_are_numbers_whatever_the_size() -> None:
    env = pixelseg_env.parallel_env(size=64, count=12)
    _, infos = env.reset(seed=0)
    each = [sum(getattr(value, "nbytes", 8) for value in info.values()) for info in infos.values()]
    assert max(each) <= 64
    assert {type(value) for info in infos.values() for value in info.values()} <= {int, float, np.ndarray}


def test_eight_actions_a_pixel() -> None:
    env = pixelseg_env.parallel_env(small_set(), transition="additive", horizon=2)
    single = PixelSegEnv(small_set(), transition="additive", horizon=2)
    assert env.action_space("pixel_0_0") == spaces.Discrete(8)
    env.reset(seed=0)
    single.reset(seed=0)
    action = np.random.default_rng(0).integers(0, 8, (H, W)).astype(np.int8)
    *_, infos = env.step(joint(env, action))
    assert_same(env.info, single.step(action)[-1])
    assert infos["pixel_0_0"]["action_mask"].tolist() == [1] * 8
    with pytest.raises(ActionError, match="expected 0 to 7, got 8"):
        env.step(joint(env, np.full((H, W), 8)))


def test_time_is_in_every_window_and_the_rest_is_the_same() -> None:
    plain, timed = make(horizon=3), make(horizon=3, observe_time=True)
    assert timed.observation_space("pixel_0_0").shape == (3, 3, 3)
    (before, _), (seen, _) = plain.reset(seed=0), timed.reset(seed=0)
    for step, left in enumerate((3, 2, 1, 0)):
        assert_same(seen["pixel_5_4"][:-1], before["pixel_5_4"])
        assert (seen["pixel_5_4"][-1] == (np.float32(1 / left) if left else 0)).all()
        if step < 3:
            before, seen = (env.step(joint(env, np.ones((H, W), int)))[0] for env in (plain, timed))


def test_what_libraries_ask_a_parallel_environment_for() -> None:
    env = make()
    with pytest.raises(ResetNeeded, match="info before"):
        _ = env.info
    env.reset(seed=7)
    assert env.np_random_seed == 7
    assert isinstance(env.np_random, np.random.Generator)
    assert env.observation_spaces == dict.fromkeys(env.possible_agents, env.observation_space("pixel_0_0"))
    assert env.action_spaces["pixel_0_1"] is env.action_space("pixel_0_1")
    env.horizon = 1
    env.reset()
    assert env.step(joint(env, np.ones((H, W), int)))[2]["pixel_0_0"], "the next episode has one step"
    with pytest.raises(OptionError, match="actions cannot be chosen"):
        make(actions="flat")
    env.reset()
    env.close()
    for use in (env.reset, lambda: env.step(joint(env, np.ones((H, W), int)))):
        with pytest.raises(ClosedEnvironmentError, match="make a new one"):
            use()


def test_torchrl_wraps_it() -> None:
    torchrl = pytest.importorskip("torchrl.envs", reason="TorchRL is not installed")
    env = torchrl.PettingZooWrapper(make(horizon=2), use_mask=False)
    rollout = env.rollout(2)  # it groups agents by their names up to the last number: a group for each row
    assert rollout["pixel_0", "observation"].shape == (2, W, 2, 3, 3)
    assert rollout["pixel_11", "info", "dice"].shape[:2] == (2, W)
