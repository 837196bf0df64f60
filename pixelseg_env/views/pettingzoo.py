"""`PixelSegParallelEnv`: `PixelSegEnv` as PettingZoo sees it, every pixel an agent of its own.

The module is not named after `pixelseg_env.parallel_env`: importing a submodule of that name would put
the module in the function's place.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.datasets.registry import check_option_names
from pixelseg_env.draws import Horizon
from pixelseg_env.env import RENDER_MODES, PixelSegEnv
from pixelseg_env.errors import ActionError, OptionError, did_you_mean, shown
from pixelseg_env.rewards import RewardFunction
from pixelseg_env.task import DEFAULT_SIZE, RESET_OPTIONS, DataPath, Start, meaning
from pixelseg_env.views.windows import agent_names, check_view, label_windows, window_channels

Floats = NDArray[np.float32]
Info = dict[str, Any]
NUMBERS = ("dice", "label_dice", "slice", "index", "step", "horizon")
Stepped = tuple[dict[str, Floats], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]]


class PixelSegParallelEnv(ParallelEnv[str, Floats, int]):  # type: ignore[misc]
    """`PixelSegEnv` for PettingZoo: one agent per pixel, each with its own window, action and reward.

    `pixelseg_env.parallel_env(...)` makes one, and so does
    `pettingzoo.make("parallel", "PixelSegEnv-v0", ...)`. The process is that of `PixelSegEnv`, which does
    the work: given the same seed and the same joint action, both go through the same trajectory.

    ## Agents

    The agent that decides over row y and column x is `"pixel_y_x"`, and `possible_agents` lists them row by
    row, so that `array.reshape(-1)` of any map (H, W) is in the order of the agents. All of them live until
    the horizon, where all terminate and `agents` becomes empty; none is ever truncated.

    ## Action Space

    `Discrete(2)`: 0 = zero, 1 = keep. `step` wants an action of every agent. With `transition="additive"`
    `Discrete(8)`, the amounts that `PixelSegEnv` lists.

    ## Observation Space

    `Box(0, 1, (C', view, view), float32)`, the `view` x `view` window of the observation of `PixelSegEnv`
    (C', H, W) around the agent's pixel, zero beyond the image's border (with L > 1 labels L channels more, ones in
    that of the agent's own label). The windows of a step are
    read-only views of one padded array: copy what is to be changed, or kept for long without its neighbours.
    `state()` is the whole observation. All agents share one space object each, and its generator.

    ## Reward

    r_i(t), the pixel's own entry of the reward map, as a float. The mean over the agents is the reward
    of `PixelSegEnv`.

    ## Information

    Every agent receives a dictionary of its own, of numbers alone:

    | key           | value                                                                                     |
    | ------------- | ----------------------------------------------------------------------------------------- |
    | `dice`, `slice`, `index`, `step`, `horizon` | of the whole image, as in `PixelSegEnv`                     |
    | `action_mask` | int8 (2,), or (8,): 1 = the action makes a difference; read-only, shared by agents alike  |

    Under `"absorbing"` a pixel that has become zero has only "zero" left.

    What is as large as the image is there once: `info` is what `PixelSegEnv` says of the last `reset` or `step`
    (`reward_map`, `segmentation`, `target`, ...), `state()` the whole observation. The patient is
    `dataset.cases[index]`.

    ## Reset Options

    `index` and `horizon`, as in `PixelSegEnv`. Others are ignored with a warning, because PettingZoo's own
    `parallel_api_test` passes one that no environment knows.

    Args:
        dataset: as in `PixelSegEnv`, like everything down to `render_mode`.
        data: folder or folders of the data set.
        split: `"train"`, `"val"`, `"test"` or `"all"`.
        size: side length, (H, W), or None for the native size.
        horizon: steps of an episode; can be set between episodes, too.
        transition: `"absorbing"`, `"restorable"` or `"additive"`.
        observation: `"masked"` or `"stacked"`.
        reward: name of a reward function, or a function.
        render_mode: None, `"rgb_array"` or `"human"`.
        view: side of the window, an odd number.
        start: f(0) of `"additive"`.
        observe_time: whether the steps left are a plane of the windows.
        order: `"random"`, `"shuffled"` or `"sequential"`.
        **dataset_options: further options of the data set.

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "name": "PixelSegEnv-v0",
        "render_modes": list(RENDER_MODES),
        "render_fps": PixelSegEnv.metadata["render_fps"],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        dataset: str | SegmentationDataset = "phantom",
        data: DataPath = None,
        split: str | None = None,
        size: int | tuple[int, int] | None = DEFAULT_SIZE,
        horizon: Horizon = 10,
        transition: str = "absorbing",
        observation: str = "masked",
        reward: str | RewardFunction = "squared_error",
        render_mode: str | None = None,
        view: int = 5,
        start: Start = None,
        observe_time: bool = False,
        order: str = "random",
        **dataset_options: Any,
    ) -> None:
        for name in ("actions", "reward_output"):
            if name in dataset_options:
                raise OptionError(
                    f"parallel_env: {name} cannot be chosen here, for every pixel acts and earns by itself"
                )
        check_option_names(dataset, dataset_options, PixelSegParallelEnv.__init__)
        self.view = check_view(view)
        self._env = PixelSegEnv(
            dataset,
            data,
            split,
            size,
            horizon,
            transition,
            observation,
            reward,
            render_mode,
            start,
            observe_time,
            order=order,
            **dataset_options,
        )
        self.render_mode = render_mode
        self._names = agent_names(self._env.task.map_shape)
        self._keys = frozenset(self._names)
        self.possible_agents = list(self._names)
        self.agents: list[str] = []
        channels = window_channels(self._env.task.observation_shape[0], self.dataset.labels)
        self.state_space = self._env.observation_space
        self._observation_space = spaces.Box(0.0, 1.0, (channels, self.view, self.view), np.float32)
        self._action_space = spaces.Discrete(self._env.task.choices)
        # What a zeroed pixel may do, and what a kept one: shared by all that are alike.
        self._masks = [frozen_mask(allowed) for allowed in self._env.task.allowed(np.arange(2))]
        self._state: Floats
        self._info: Info

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self._env.dataset

    @property
    def horizon(self) -> Horizon:
        """Steps of an episode, as `PixelSegEnv.horizon`; what is set counts from the next `reset` on."""
        return self._env.horizon

    @horizon.setter
    def horizon(self, horizon: Horizon) -> None:
        self._env.horizon = horizon

    @property
    def info(self) -> Info:
        """What `PixelSegEnv` says of the last `reset` or `step`, its maps among it.

        Raises:
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        if not hasattr(self, "_info"):
            raise gym.error.ResetNeeded("info before reset(): call reset() first")
        return dict(self._info)

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that images are drawn with."""
        return self._env.np_random

    @property
    def np_random_seed(self) -> int | None:
        """The seed that it was made with."""
        return self._env.np_random_seed

    @property
    def observation_spaces(self) -> dict[str, spaces.Box]:
        """Every agent's observation space: one object for all."""
        return dict.fromkeys(self._names, self._observation_space)

    @property
    def action_spaces(self) -> dict[str, spaces.Discrete]:
        """Every agent's action space: one object for all."""
        return dict.fromkeys(self._names, self._action_space)

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of an agent's window: the same object for all.

        Raises:
            OptionError: there is no such agent.
        """
        self._check_agent(agent)
        return self._observation_space

    def action_space(self, agent: str) -> spaces.Discrete:  # type: ignore[override]
        """`Discrete(2)`, or `Discrete(8)`: the same object for all.

        Raises:
            OptionError: there is no such agent.
        """
        self._check_agent(agent)
        return self._action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Floats], dict[str, Info]]:
        """Starts an episode; see the class for `options`.

        Returns:
            Windows float32 (C', view, view) and infos, by agent.

        Raises:
            OptionError: an option's value is out of range.
        """
        for name in options or {}:
            if name not in RESET_OPTIONS:
                gym.logger.warn(
                    f"reset(options=...): {name!r} is not known and ignored; "
                    f"expected {', '.join(map(repr, RESET_OPTIONS))}.{did_you_mean(name, RESET_OPTIONS)}"
                )
        known = {name: value for name, value in (options or {}).items() if name in RESET_OPTIONS}
        self._state, info = self._env.reset(seed=seed, options=known)
        self.agents = list(self._names)
        return self._windows(), self._infos(info)

    def step(self, actions: Mapping[str, int]) -> Stepped:  # type: ignore[override]
        """Applies the action of every agent at once.

        Args:
            actions: 0 (zero) or 1 (keep), or with "additive" 0 to 7, of every agent, in any order.

        Returns:
            Windows float32 (C', view, view), rewards, terminated, truncated (always False) and infos, by agent.

        Raises:
            ActionError: an agent's action is missing, or not 0 or 1, or there is no such agent. The episode
                stays where it was.
            gymnasium.error.ResetNeeded: the episode has ended, or `reset` was never called.
        """
        self._env._check_open()
        if not self.agents:
            raise gym.error.ResetNeeded("step() without agents: the episode has ended or not begun; call reset()")
        self._state, _, terminated, truncated, info = self._env.step(self._joint(actions).view(np.int8))
        if terminated:
            self.agents = []
        return (
            self._windows(),
            dict(zip(self._names, info["reward_map"].reshape(-1).tolist(), strict=True)),
            dict.fromkeys(self._names, terminated),
            dict.fromkeys(self._names, truncated),
            self._infos(info),
        )

    def state(self) -> Floats:
        """The whole observation of `PixelSegEnv`, a new float32 array (C', H, W).

        Raises:
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        if not hasattr(self, "_state"):
            raise gym.error.ResetNeeded("state() before reset(): call reset() first")
        return self._state.copy()

    def render(self) -> NDArray[np.uint8] | None:
        """As `PixelSegEnv.render`: uint8 (H', W', 3) for `"rgb_array"`, a window for `"human"`."""
        return self._env.render()

    def close(self) -> None:
        """Closes the window, if there is one."""
        self._env.close()

    def _windows(self) -> dict[str, Floats]:
        rows = label_windows(self._state, self.view, self.dataset.labels)
        return dict(zip(self._names, chain.from_iterable(chain.from_iterable(rows)), strict=True))

    def _infos(self, info: Info) -> dict[str, Info]:
        self._info = info
        given = {key: info[key] for key in NUMBERS if key in info}
        numbers = {key: one.item() if isinstance(one, np.generic) else one for key, one in given.items()}
        kinds = [numbers | {"action_mask": mask} for mask in self._masks]
        kept = map(kinds.__getitem__, info["segmentation"].reshape(-1).tolist())
        # A dictionary for each agent: wrappers such as SuperSuit's write every agent's own entries into it.
        return dict(zip(self._names, map(dict.copy, kept), strict=True))

    def _joint(self, actions: Mapping[str, int]) -> NDArray[np.uint8]:
        """The joint action, uint8 of the map's shape, from every agent's."""
        if not isinstance(actions, Mapping):
            raise ActionError(f"actions: expected a dictionary by agent, got type {type(actions).__name__}")
        if actions.keys() != self._keys:
            raise ActionError(self._wrong_agents(actions))
        values, choices = list(map(actions.__getitem__, self._names)), self._env.task.choices
        try:
            joint = bytes(values)  # converts and checks in one pass: whole numbers from 0 to 255 and nothing else
        except (TypeError, ValueError):
            joint = bytes(_decision(name, value, choices) for name, value in zip(self._names, values, strict=True))
        array = np.frombuffer(joint, np.uint8)
        if array.max() >= choices:
            for name, value in zip(self._names, values, strict=True):
                _decision(name, value, choices)
        return array.reshape(self._env.task.map_shape)

    def _wrong_agents(self, actions: Mapping[str, int]) -> str:
        missing = [name for name in self._names if name not in actions]
        unknown = [name for name in actions if name not in self._keys]
        return (
            f"actions: expected one of each of the {len(self._names)} agents {self._names[0]} to {self._names[-1]}, "
            f"got {len(actions)}; missing {len(missing)}{_first(missing)}, unknown {len(unknown)}{_first(unknown)}"
        )

    def _check_agent(self, agent: str) -> None:
        if agent not in self._keys:
            raise OptionError(
                f"agent={shown(agent)} is not known; expected one of {self._names[0]} to {self._names[-1]}"
            )


def frozen_mask(allowed: NDArray[np.bool_]) -> NDArray[np.int8]:
    """An action mask as PettingZoo has it, int8 of 0 and 1, read-only."""
    mask = allowed.astype(np.int8)
    mask.flags.writeable = False
    return mask


def _decision(agent: str, value: Any, choices: int) -> int:
    """One agent's action as an int; arrays and tensors of one whole number will do.

    Raises:
        ActionError: it is no choice.
    """
    try:
        action = int(value) if isinstance(value, np.bool_) else operator.index(value)
    except TypeError:
        action = -1
    if not 0 <= action < choices:
        raise ActionError(
            f"action of {agent}: expected {meaning(choices)}, got {shown(value)} ({type(value).__name__})"
        )
    return action


def _first(names: list[Any]) -> str:
    return f" ({names[0]!r}{', ...' if len(names) > 1 else ''})" if names else ""
