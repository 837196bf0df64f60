"""The task that the single and the vector environment share: data, options, and one step of the process."""

from __future__ import annotations

import contextlib
import copy
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from pixelseg_env import dynamics
from pixelseg_env.arrays import Array, to_numpy
from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.datasets.registry import load_shared
from pixelseg_env.draws import ORDERS, Horizon, check_horizons, longest
from pixelseg_env.errors import ActionError, OptionError, check_choice, did_you_mean, shown
from pixelseg_env.rewards import Reward, RewardContext, RewardFunction, resolve_reward
from pixelseg_env.spaces import BinaryMap, ChoiceMap

# Maps float32 (N, [L,] H, W), one per image of the data set, or what makes them of images float32 (B, C, H, W).
Start = NDArray[np.float32] | Callable[[NDArray[np.float32]], Any] | str | None
START_BATCH = 16
DataPath = str | Path | list[str | Path] | list[str] | list[Path] | None
IMAGE = "image"  # f(0): the pixels that have an intensity
ACTIONS = ("map", "flat", "multidiscrete")
REWARD_OUTPUTS = ("mean", "map")
OF_A_NAMED_SET = ("fit", "keep_empty")  # options without a meaning for a data set that was made already


class _DefaultSize(int):
    """A size that nobody chose; beside a data set object it means nothing."""


DEFAULT_SIZE: int = _DefaultSize(64)


@dataclass(frozen=True)
class Task:
    """A data set and the rules of the decision process; made by `make_task`."""

    dataset: SegmentationDataset
    horizon: Horizon
    transition: str
    observation: str
    reward: Reward
    start: NDArray[Any] | None = None
    observe_time: bool = False
    actions: str = "map"
    reward_output: str = "mean"
    order: str = "random"

    @property
    def graded(self) -> bool:
        """Whether maps hold probabilities."""
        return self.transition in dynamics.GRADED

    @property
    def choices(self) -> int:
        """How many actions a pixel has."""
        return len(dynamics.AMOUNTS) if self.graded else 2

    @property
    def action_shape(self) -> tuple[int, ...]:
        """The shape of a joint action: that of a map, or one row with `actions` "flat" or "multidiscrete"."""
        return self.map_shape if self.actions == "map" else (math.prod(self.map_shape),)

    @property
    def action_space(self) -> spaces.Space[Any]:
        """`MultiBinary`, or `MultiDiscrete` where a pixel has eight choices or `actions` asks for it."""
        if self.actions == "multidiscrete":
            return ChoiceMap(np.full(self.action_shape, self.choices))
        if self.graded:
            kind: Any = np.int8
            return ChoiceMap(np.full(self.action_shape, self.choices), dtype=kind)
        return BinaryMap(self.action_shape if self.actions == "map" else self.action_shape[0])

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """`Box(0, 1, observation_shape, float32)`."""
        return spaces.Box(0.0, 1.0, self.observation_shape, np.float32)

    @property
    def reward_space(self) -> spaces.Box:
        """What a reward may be: any number, or any map of them."""
        if self.reward_output == "mean":
            return spaces.Box(-np.inf, np.inf, (), np.float64)
        return spaces.Box(-np.inf, np.inf, self.map_shape, np.float32)

    @property
    def max_episode_steps(self) -> int | None:
        """The steps of the longest episode; None where a function decides."""
        return longest(self.horizon)

    def folded(self, action: Array) -> Array:
        """A joint action ([B,] ...) as the environment's space has it, as a map ([B,] [L,] H, W)."""
        if self.actions == "map":
            return action
        return action.reshape((*action.shape[:-1], *self.map_shape))

    def allowed(self, maps: Array) -> NDArray[np.bool_]:
        """Which actions of a pixel make a difference, for learners that mask actions.

        Where zero is final, a pixel that has become zero is left "zero" alone: of one action a policy is certain, so
        the pixel has no entropy and gets no gradient. Otherwise every action is allowed.

        Args:
            maps: f(t), ([B,] [L,] H, W).

        Returns:
            bool ([B,] [L,] H, W, choices), on the host.
        """
        kept = to_numpy(maps)
        mask = np.ones((*kept.shape, self.choices), np.bool_)
        if self.transition == "absorbing":
            mask[..., 1] = kept != 0
        return mask

    def check_binary(self, view: str) -> None:
        """Raises OptionError, in the name of a view with two actions a pixel, where there are more."""
        if self.graded:
            raise OptionError(
                f"{view}: two actions a pixel, so expected transition='absorbing' or 'restorable', "
                f"got {self.transition!r}; use PixelSegEnv or PixelSegVectorEnv"
            )

    def first_maps(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """f(0) of images, uint8 or, if graded, float32 (B, [L,] H, W), a new array."""
        if self.start is not None:
            return self.start[index]
        return np.ones((len(index), *self.map_shape), np.float32 if self.graded else np.uint8)

    @property
    def observation_shape(self) -> tuple[int, int, int]:
        """(C, H, W), or (C + 1, H, W) when the map is stacked; with L labels (C L, H, W) or (C + L, H, W).

        One channel more where time is observed.
        """
        channels, height, width = self.dataset.image_shape
        labels = self.dataset.labels
        return dynamics.observation_channels(channels, self.observation, labels, self.observe_time), height, width

    @property
    def map_shape(self) -> tuple[int, ...]:
        """(H, W), or (L, H, W) with L > 1 labels."""
        return self.dataset.map_shape

    def observe(self, images: Array, segmentation: Array, steps_left: Any) -> Array:
        """The observation, float32 (..., C', H, W), of images (..., C, H, W) under maps (..., [L,] H, W).

        `steps_left`, a number or integers (...,), shows where time is observed.
        """
        left = steps_left if self.observe_time else None
        return dynamics.observe(images, segmentation, self.observation, left)

    def advance(
        self, previous: Array, action: Array, target: Array, image: Array, step: Any, horizon: Any
    ) -> tuple[Array, Array]:
        """One step.

        Args:
            previous: f(t-1), ([B,] [L,] H, W).
            action: a(t), uint8, likewise.
            target: G, uint8, likewise.
            image: I, float32 ([B,] C, H, W).
            step: t, a number, or of a batch int64 (B,); the next one where an episode has ended and is to begin anew.
            horizon: the episode's steps, likewise.

        Returns:
            f(t) and the reward map r(t), both new.
        """
        move = dynamics.GRADED[self.transition] if self.graded else dynamics.TRANSITIONS[self.transition]
        current = move(previous, action)
        context = None
        if self.reward.needs:
            context = RewardContext.of(np.minimum(step, horizon), horizon, image, action)
        return current, self.reward(previous, current, target, context)


def make_task(
    dataset: str | SegmentationDataset = "phantom",
    data: DataPath = None,
    split: str | None = None,
    size: int | tuple[int, int] | None = DEFAULT_SIZE,
    horizon: Horizon = 10,
    transition: str = "absorbing",
    observation: str = "masked",
    reward: str | RewardFunction = "squared_error",
    start: Start = None,
    observe_time: bool = False,
    actions: str = "map",
    reward_output: str = "mean",
    order: str = "random",
    **dataset_options: Any,
) -> Task:
    """Checks every option, loads the data and returns the task.

    Arguments are those of `PixelSegEnv`.

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """
    check_choice("transition", transition, dynamics.TRANSITIONS | dynamics.GRADED)
    check_choice("observation", observation, dynamics.OBSERVATIONS)
    check_choice("actions", actions, ACTIONS)
    check_choice("reward_output", reward_output, REWARD_OUTPUTS)
    check_choice("order", order, ORDERS)
    if not isinstance(observe_time, bool | np.bool_):
        raise OptionError(f"observe_time={shown(observe_time)}: expected True or False")
    earned = resolve_reward(reward)
    steps = check_horizons(horizon)
    _check_size(dataset, size, dataset_options)
    size = 64 if isinstance(size, _DefaultSize) else size
    loaded = load_shared(dataset, data=data, split=split, size=size, **dataset_options)
    first = None if start is None else _checked_start(start, transition, loaded)
    return Task(
        loaded, steps, transition, observation, earned, first, bool(observe_time), actions, reward_output, order
    )


def _check_size(dataset: str | SegmentationDataset, size: Any, options: dict[str, Any]) -> None:
    """Refuses what cannot be done to a data set that was made already."""
    if not isinstance(dataset, SegmentationDataset):
        return
    for name in OF_A_NAMED_SET:
        if name in options:
            raise OptionError(
                f"{name}={shown(options[name])} cannot be applied to data set {dataset.name!r}, which is loaded "
                f"already; hand it to load_dataset, or leave it out"
            )
    if size is None or isinstance(size, _DefaultSize):
        return
    own = dataset.image_shape[1:]
    wanted = (size, size) if np.ndim(size) == 0 else tuple(size)
    if wanted != own:
        raise OptionError(
            f"size={shown(size)} cannot be applied to data set {dataset.name!r}, which is loaded already with images "
            f"of {own[0]} x {own[1]} pixels; load it with that size, or leave size out"
        )


def written_spec(spec: EnvSpec | None, task: Task) -> EnvSpec | None:
    """An environment's spec in the form that `to_json` can write, with the steps of its longest episode.

    The reward becomes text, paths become strings, choices their names. A reward that has no text (a function without a
    name that can be imported) stays what it is, and `to_json` refuses it.
    """
    if spec is None:
        return None
    written = copy.copy(spec)
    written.kwargs = {name: _plain(value) for name, value in spec.kwargs.items()}
    if not isinstance(spec.kwargs.get("reward", ""), str):
        with contextlib.suppress(OptionError):
            written.kwargs["reward"] = task.reward.to_spec()
    written.max_episode_steps = task.max_episode_steps
    return written


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _checked_start(start: Any, transition: str, dataset: SegmentationDataset) -> NDArray[Any]:
    """The first maps (N, [L,] H, W), one per image of the data set: uint8, or if graded float32 in [0, 1]."""
    if isinstance(start, str):
        check_choice("start", start, (IMAGE,))
        if transition != "absorbing":
            raise OptionError(
                f"start={start!r}: a pixel without intensity is background for good, so expected "
                f"transition='absorbing', not {transition!r}"
            )
        return np.asarray(dynamics.with_intensity(dataset.images, dataset.labels))
    if transition not in dynamics.GRADED:
        raise OptionError(
            f"start: maps of probabilities need transition='additive', not {transition!r}, which starts from f(0) = 1"
        )
    if callable(start):
        batches = [np.arange(i, min(i + START_BATCH, len(dataset))) for i in range(0, len(dataset), START_BATCH)]
        start = np.concatenate([to_numpy(start(dataset.batch(batch)[0])) for batch in batches])
    maps = np.asarray(start)
    shape = (len(dataset), *dataset.map_shape)
    if maps.shape != shape or maps.dtype.kind != "f":
        raise OptionError(
            f"start: expected one map per image, floats of shape {shape}, got {maps.dtype} of shape {maps.shape}"
        )
    if not ((maps >= 0) & (maps <= 1)).all():  # NaN is neither
        raise OptionError(f"start: expected probabilities from 0 to 1, found {maps.min()} to {maps.max()}")
    return maps.astype(np.float32)


RESET_OPTIONS = ("index", "horizon")


def check_reset_options(options: dict[str, Any] | None, known: tuple[str, ...] = RESET_OPTIONS) -> dict[str, Any]:
    """Returns the options of `reset` as a new dictionary.

    Raises:
        OptionError: a name is not known.
    """
    for name in options or {}:
        if name not in known:
            raise OptionError(
                f"reset(options=...): {name!r} is not known; expected {', '.join(map(repr, known))}."
                f"{did_you_mean(name, known)}"
            )
    return dict(options or {})


def meaning(choices: int) -> str:
    """What the values of an action stand for, for messages."""
    return "0 (zero) or 1 (keep)" if choices == 2 else f"0 to {choices - 1}"


def check_action(action: Any, shape: tuple[int, ...], choices: int = 2, floats: bool = False) -> NDArray[np.uint8]:
    """Returns an action as a uint8 view or copy.

    Args:
        action: integers or booleans from 0 on; of two, 0 (zero) and 1 (keep).
        shape: the shape that it must have.
        choices: how many actions there are.
        floats: whether whole numbers will do that are floats, as Stable-Baselines3's policies draw them.

    Raises:
        ActionError: wrong shape, type or value.
    """
    try:
        array = np.asarray(action)
    except (TypeError, ValueError) as error:  # rows of unlike lengths, a tensor on another device
        raise ActionError(f"action: expected an array of shape {shape}: {error}") from error
    if array.shape != shape:
        raise ActionError(f"action: expected shape {shape}, one decision a pixel, got {array.shape}")
    if floats and array.dtype.kind == "f" and np.isin(array, np.arange(choices)).all():
        array = array.astype(np.uint8)
    if array.dtype.kind not in "biu":
        raise ActionError(f"action: expected integers {meaning(choices)}, got type {array.dtype}")
    # Seen as unsigned, a negative int8 is large: one pass finds every value that is not a choice.
    as_bytes = array.view(np.uint8) if array.dtype.itemsize == 1 else array
    if array.size and (as_bytes.max() >= choices or (as_bytes.dtype.kind == "i" and as_bytes.min() < 0)):
        wrong = array[(array < 0) | (array >= choices)]
        raise ActionError(f"action: expected only {meaning(choices)}, found {wrong.flat[0]}")
    return as_bytes if as_bytes.dtype == np.uint8 else array.astype(np.uint8)
