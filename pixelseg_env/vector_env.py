"""`PixelSegVectorEnv`: a batch of images stepped as one batch of arrays."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from pixelseg_env.arrays import Array, mean, to_numpy
from pixelseg_env.backend import make_backend
from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.datasets.registry import check_option_names
from pixelseg_env.draws import Horizon, Order, check_horizon, check_horizons, draw_horizon
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import OptionError, check_choice, did_you_mean, shown
from pixelseg_env.facts import TaskFacts
from pixelseg_env.metrics import map_dice
from pixelseg_env.rendering import render_frame
from pixelseg_env.rewards import RewardFunction
from pixelseg_env.task import (
    DEFAULT_SIZE,
    RESET_OPTIONS,
    DataPath,
    Start,
    check_reset_options,
    make_task,
    written_spec,
)

Infos = dict[str, Any]


class PixelSegVectorEnv(TaskFacts, VectorEnv[Array, Array, Array]):
    """`num_envs` copies of `PixelSegEnv` stepped together, without a loop over the images.

    `gym.make_vec("PixelSegEnv-v0", num_envs=8, ...)` makes one. Process, spaces, rewards and arguments
    are those of `PixelSegEnv`; every array has a leading dimension B = `num_envs`. Given the same seeds
    and actions, image i goes through the same trajectory as a single environment reset with `seed + i`.

    `infos` holds the keys of the single environment as arrays (`reward_map` float32 (B, H, W),
    `segmentation` and `target` uint8 (B, H, W), `dice` float64 (B,), `slice`, `index`, `step` and `horizon`
    int64 (B,)) and, as in Gymnasium, for each key a boolean mask `_key` (B,) that tells which images it speaks of:
    after a partial reset those that were reset, otherwise all. The patients are `dataset.cases[k] for k in index`.

    **A trap of resets within the step** (`"SameStep"`): what a step returns belongs to two episodes. Observation and
    infos are those of the new one where one has begun; `final_obs` and `final_info` are the last of the old one, and
    `dice`, `segmentation` or `step` of the step just made are there. Rewards, `terminated` and `infos["reward_map"]`
    are always those of the step just made, here and in `final_info` alike, so that the map's mean is the reward.

    With `order="shuffled"` or `"sequential"` the images of the batch share one epoch: each episode that begins takes
    the next. Then, and only then, image i does not go through what a single environment of seed `seed + i` does.

    As Gymnasium's own vector environments have them, `get_attr`, `set_attr` and `call` speak of the images one by one,
    and `np_random_seed` and `np_random` are tuples (B,). `env.horizon = h` holds for all images,
    `env.set_attr("horizon", [1, 3, 10])` for each its own, from the next episode on, also of one that begins by itself.

    Reset options: `index` and `horizon`, a number or one per image, and `reset_mask`, a boolean array
    (B,) that resets only the images it marks (at least one); the others go on as they were.

    Args:
        num_envs: images in the batch, B.
        autoreset_mode: what happens after an image's episode has ended, as Gymnasium defines it:
            `"NextStep"` (the next `step` ignores that image's action and resets it), `"SameStep"`
            (reset within the step; the last observation and info are in `final_obs`, `final_info`) or
            `"Disabled"` (the caller resets with `reset_mask`).
        backend: `"numpy"`, or `"torch"`: images, targets and maps live on `device`, and observations, rewards,
            `terminated`, `truncated` and the infos `reward_map`, `segmentation`, `target` and `dice` are tensors
            there; what the host counts anyway (`slice`, `index`, `step`, `horizon`, the masks `_key`) stays
            NumPy. A step moves nothing to the host (a reward function of the caller's own costs one look at whether
            its numbers are finite). Gymnasium's wrappers that compute with NumPy need `"numpy"`. Trajectories equal
            those of `"numpy"` to the last bit (means and the reward `"cross_entropy"`, which takes logarithms,
            within 1e-6).
        device: of the torch backend, `"cpu"`, `"cuda"`, `"cuda:1"`.
        max_episode_steps: what `gym.make_vec` hands over from a spec. The horizon ends episodes, so nothing is done
            with it; one that is less than the horizon is refused.
        **dataset_options: as those of `PixelSegEnv`, and so are all arguments that are not named here.

    Bytes that a step must touch, per pixel, for an image of C channels observed masked: it reads the action (1),
    the map before (1), the target (1) and the image (4 C), and writes the map (1), the reward map (4), the
    observation (4 C) and the copies of map and target in `infos` (2).

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """

    _spec: EnvSpec | None = None
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | SegmentationDataset = "phantom",
        data: DataPath = None,
        split: str | None = None,
        size: int | tuple[int, int] | None = DEFAULT_SIZE,
        horizon: Horizon = 10,
        transition: str = "absorbing",
        observation: str = "masked",
        reward: str | RewardFunction = "squared_error",
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        backend: str = "numpy",
        device: str = "cpu",
        start: Start = None,
        observe_time: bool = False,
        actions: str = "map",
        reward_output: str = "mean",
        order: str = "random",
        max_episode_steps: int | None = None,
        **dataset_options: Any,
    ) -> None:
        check_option_names(dataset, dataset_options, PixelSegVectorEnv.__init__)
        if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
            raise OptionError(f"num_envs={shown(num_envs)}: expected a whole number of at least 1")
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        if not isinstance(autoreset_mode, AutoresetMode):
            modes = {mode.value: mode for mode in AutoresetMode}
            autoreset_mode = modes[check_choice("autoreset_mode", autoreset_mode, modes)]
        self.task = make_task(
            dataset,
            data,
            split,
            size,
            horizon,
            transition,
            observation,
            reward,
            start,
            observe_time,
            actions,
            reward_output,
            order,
            **dataset_options,
        )
        longest = self.task.max_episode_steps
        if max_episode_steps is not None and (longest is None or max_episode_steps < longest):
            raise OptionError(
                f"max_episode_steps={shown(max_episode_steps)}: the horizon ends episodes and is {shown(longest)}; "
                "choose a shorter horizon"
            )
        self._backend = make_backend(backend, device, self.task)
        self.num_envs = num_envs = int(num_envs)
        self.render_mode = render_mode
        self.autoreset_mode = autoreset_mode
        self.metadata = {**type(self).metadata, "autoreset_mode": autoreset_mode}  # type: ignore[misc]
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.single_reward_space = self.task.reward_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.reward_space = batch_space(self.single_reward_space, num_envs)
        self._action_shape = (num_envs, *self.task.action_shape)
        self._map_shape = (num_envs, *self.task.map_shape)
        self._order = Order(order, len(self.dataset))
        self._plans: list[Horizon] = [self.task.horizon] * num_envs
        self._episodes = np.zeros(num_envs, np.int64)  # begun so far
        self._started = False  # whether a reset has been made
        self._generators: list[np.random.Generator] = []  # empty until the first reset
        self._seeds: list[int] = []
        self._image: Array
        self._target: Array
        self._segmentation: Array
        self._previous: Array
        self._index: NDArray[np.int64]
        self._horizons: NDArray[np.int64]
        self._steps: NDArray[np.int64]

    @property
    def backend(self) -> str:
        """`"numpy"` or `"torch"`."""
        return self._backend.name

    @property
    def device(self) -> str:
        """Where the arrays are: `"cpu"`, `"cuda:0"`, ..."""
        return str(self._backend.device)

    @property
    def index(self) -> NDArray[np.int64]:
        """Which image of the data set each episode shows, int64 (B,), a copy."""
        if not self._started:
            raise gym.error.ResetNeeded("index before reset(): call reset() first")
        return self._index.copy()

    def draw(self, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """Images and targets of the data set, wherever the environment's arrays live.

        Args:
            index: B positions in the data set.

        Returns:
            New arrays: images float32 (B, C, H, W) in [0, 1], targets uint8 (B, [L,] H, W).
        """
        self._check_open()
        return self._backend.draw(np.asarray(index, np.int64))

    def _horizon_was_set(self) -> None:
        self._plans = [self.task.horizon] * self.num_envs

    @property  # type: ignore[misc]  # to be read only
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]  # as SyncVectorEnv's
        """The generator of each image."""
        self._ensure_generators()
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as SyncVectorEnv's
        """The seed that each image's generator was made with."""
        self._ensure_generators()
        return tuple(self._seeds)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """How Gymnasium made this environment; its reward is text, where it has one, so that `to_json` can write it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = written_spec(spec, self.task)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Reads an attribute of each image's environment, or calls it.

        What the batch has once (`dataset`, `transition`, a method) comes once for each image; a method is called once.

        Args:
            name: of the attribute or method.
            *args: what the method gets.
            **kwargs: likewise.

        Returns:
            One for each image.

        Raises:
            OptionError: `name` steps or closes an environment: the images are stepped together.
            AttributeError: there is no such attribute.
        """
        if name in ("reset", "step", "close"):
            raise OptionError(f"call({name!r}): the images are stepped together; call {name}() of the environment")
        own = {
            "horizon": lambda: tuple(self._plans),
            "np_random": lambda: self.np_random,
            "np_random_seed": lambda: self.np_random_seed,
            "render": self.render,
            "action_masks": self.action_masks,
        }
        if name in own:
            each: Any = own[name]()
            return tuple([None] * self.num_envs if each is None else each)
        if name in ("observation_space", "action_space", "reward_space"):
            name = f"single_{name}"
        value = getattr(self, name)
        return (value(*args, **kwargs) if callable(value) else value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each image's environment; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute: `horizon` of each image (a list or tuple holds one for each), any other of all at once.

        Args:
            name: of the attribute.
            values: one for all images, or a list or tuple of one for each.

        Raises:
            OptionError: a list or tuple of another length, or unlike values of an attribute that the images share.
            AttributeError: there is no such attribute, or it cannot be set.
        """
        if not hasattr(self, name):  # a slip would otherwise be kept, and change nothing
            known = [one for one in dir(self) if not one.startswith("_")]
            raise AttributeError(f"set_attr({name!r}): there is no such attribute.{did_you_mean(name, known)}")
        several = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(several) != self.num_envs:
            raise OptionError(
                f"set_attr({name!r}): expected one value, or a list of {self.num_envs}, one per image, "
                f"got {len(several)}"
            )
        if name == "horizon":
            self._plans = [check_horizons(one) for one in several]
            if all(plan == self._plans[0] for plan in self._plans):
                self.task = replace(self.task, horizon=self._plans[0])
            return
        if any(one is not several[0] and one != several[0] for one in several):
            raise OptionError(f"set_attr({name!r}): the images share it; give one value")
        setattr(self, name, several[0])

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make a difference now, bool (B, H W choices), pixel by pixel; see `PixelSegEnv`.

        Raises:
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        self._check_open()
        if not self._started:
            raise gym.error.ResetNeeded("action_masks() before reset(): call reset() first")
        return self.task.allowed(self._segmentation).reshape(self.num_envs, -1)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, Infos]:
        """Starts an episode in every image, or in those that `options["reset_mask"]` marks.

        Args:
            seed: an int (image i is seeded with `seed + i`), or one per image.
            options: see the class.

        Returns:
            Observations float32 (B, C', H, W), and infos.

        Raises:
            OptionError: an option is not known, out of range or of the wrong shape.
            ActionError: on CUDA, an action since the last reset held other values than 0 and 1.
            gymnasium.error.ClosedEnvironmentError: after `close`.
            gymnasium.error.ResetNeeded: a partial reset before the first whole one.
        """
        self._check_open()
        self._backend.check()
        chosen = check_reset_options(options, (*RESET_OPTIONS, "reset_mask"))
        mask = self._check_mask(chosen.get("reset_mask"))
        if not mask.all() and not self._started:
            raise gym.error.ResetNeeded("reset_mask before the first reset(): reset all images once")
        index, horizon = chosen.get("index"), chosen.get("horizon")
        if index is not None:
            index = self._per_image("index", index)
            for value in (int(index[mask].min()), int(index[mask].max())):
                self.dataset.check_index(value)
        if horizon is not None:
            horizon = self._per_image("horizon", horizon)
            check_horizon(horizon[mask].min())
        self._seed(seed, mask)
        self._begin(mask, index, horizon)
        return self._observe(), self._infos(self._backend.zeros(self._map_shape), mask)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, Infos]:
        """Applies one joint action to every image.

        Args:
            actions: (B, [L,] H, W) of 0 (zero) and 1 (keep), integers or booleans, NumPy or, with the torch
                backend, a tensor; (B, [L] H W) with other `actions` than "map".

        Returns:
            Observations float32 (B, C', H, W), mean rewards float64 (B,), or with `reward_output="map"` float32
            (B, [L,] H, W), terminated and truncated (always False) bool (B,), infos.

        Raises:
            ActionError: wrong shape, type or value.
            gymnasium.error.ResetNeeded: `reset` was never called, or, without autoreset, an image's
                episode has ended.
        """
        self._check_open()
        if not self._started:
            raise gym.error.ResetNeeded("step() before reset(): call reset() first")
        chosen = self._backend.action(actions, self._action_shape)
        ended = self._ended
        if self.autoreset_mode == AutoresetMode.DISABLED and ended.any():
            raise gym.error.ResetNeeded(
                f"step() after the end: the episodes of images {np.flatnonzero(ended).tolist()} have ended; "
                'call reset(options={"reset_mask": mask})'
            )
        self._previous = self._segmentation
        steps = self._steps + 1
        self._segmentation, reward_map = self.task.advance(
            self._previous, chosen, self._target, self._image, steps, self._horizons
        )
        self._steps = steps
        if ended.any():  # only with NextStep: these images begin anew and ignore their action
            self._begin(ended)
            reward_map = self._backend.replaced(reward_map, ended, 0)
        # The map in the infos is another array: a wrapper may change the reward in place.
        whole = self.task.reward_output == "map"
        rewards = self._backend.copy(reward_map) if whole else mean(reward_map, len(self._map_shape) - 1)
        terminated = self._ended
        ends = self._backend.host(terminated), self._backend.host(np.zeros(self.num_envs, np.bool_))
        everyone = np.ones(self.num_envs, np.bool_)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and terminated.any():
            final_obs = np.full(self.num_envs, None, dtype=object)
            observations = self._observe()
            for i in np.flatnonzero(terminated):
                final_obs[i] = observations[i]
            final_info = self._infos(reward_map, terminated)
            self._begin(terminated)
            infos = self._infos(self._backend.copy(reward_map), everyone)
            infos |= {"final_obs": final_obs, "_final_obs": terminated.copy()}
            infos |= {"final_info": final_info, "_final_info": terminated.copy()}
            return self._observe(), rewards, *ends, infos
        return self._observe(), rewards, *ends, self._infos(reward_map, everyone)

    def close_extras(self, **kwargs: Any) -> None:
        """Gives the memory back, on the device too."""
        for name in ("_image", "_target", "_segmentation", "_previous"):
            self.__dict__.pop(name, None)
        self._started = False
        self._backend.close()

    def _check_open(self) -> None:
        if self.closed:
            raise gym.error.ClosedEnvironmentError("the environment has been closed; make a new one")

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """One uint8 (H', W', 3) frame per image for `render_mode="rgb_array"`, otherwise None.

        Raises:
            gymnasium.error.ClosedEnvironmentError: after `close`.
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        self._check_open()
        if self.render_mode is None:
            return None
        if not self._started:
            raise gym.error.ResetNeeded("render() before reset(): call reset() first")
        return tuple(
            render_frame(
                to_numpy(self._image[i]),
                to_numpy(decided(self._segmentation[i])),
                to_numpy(self._target[i]),
                to_numpy(decided(self._previous[i])) if self._steps[i] else None,
                step=int(self._steps[i]),
                horizon=int(self._horizons[i]),
            )
            for i in range(self.num_envs)
        )

    @property
    def _ended(self) -> NDArray[np.bool_]:
        return np.asarray(self._steps >= self._horizons)

    def _check_mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        array = to_numpy(mask)
        if array.shape != (self.num_envs,) or array.dtype != np.bool_ or not array.any():
            raise OptionError(
                f"reset_mask: expected a boolean array of shape ({self.num_envs},) with at least one True, "
                f"got shape {array.shape}, type {array.dtype}, {np.count_nonzero(array)} True"
            )
        return array

    def _per_image(self, name: str, value: Any) -> NDArray[np.int64]:
        array = to_numpy(value)
        if array.dtype.kind not in "iu" or array.shape not in ((), (self.num_envs,)):
            raise OptionError(
                f"{name}: expected a whole number or one per image, shape ({self.num_envs},), "
                f"got shape {array.shape}, type {array.dtype}"
            )
        return np.broadcast_to(array.astype(np.int64), (self.num_envs,))

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            try:
                seeds = [None if one is None else operator.index(one) for one in seed]
            except TypeError as error:
                raise OptionError(f"seed={shown(seed)}: expected a whole number, or one per image ({error})") from error
        if len(seeds) != self.num_envs:
            raise OptionError(f"seed: expected one per image, {self.num_envs}, got {len(seeds)}")
        if mask.all() and any(one is not None for one in seeds):
            self._order.restart()
        for i in np.flatnonzero(mask):
            if seeds[i] is not None and self._generators:
                self._generators[i], self._seeds[i] = np_random(seeds[i])
        if not self._generators:
            self._make_generators(seeds)

    def _make_generators(self, seeds: list[int | None]) -> None:
        made = [np_random(one) for one in seeds]
        self._generators, self._seeds = [one for one, _ in made], [seed for _, seed in made]

    def _ensure_generators(self) -> None:
        if not self._generators:
            self._make_generators([None] * self.num_envs)

    def _begin(
        self,
        mask: NDArray[np.bool_],
        index: NDArray[np.int64] | None = None,
        horizon: NDArray[np.int64] | None = None,
    ) -> None:
        """Starts new episodes where the mask is True.

        Arrays are replaced, never written to: infos of earlier steps may still hold them.
        """
        drawn = self._index if self._started else np.zeros(self.num_envs, np.int64)
        if index is None or self.task.order == "random":
            # Drawn even when the caller names the images, so that the generators' state does not depend on it.
            drawn = self._order.draw(self._generators, mask)
        steps = np.ones(self.num_envs, np.int64)
        for i in np.flatnonzero(mask):
            steps[i] = draw_horizon(self._plans[i], self._generators[i], int(self._episodes[i]))
        self._episodes = self._episodes + mask
        self._started = True
        new_index = drawn if index is None else index
        new_horizon = steps if horizon is None else horizon
        if mask.all():
            self._index, self._horizons = new_index.copy(), new_horizon.copy()
            self._image, self._target = self._backend.draw(self._index)
            self._segmentation = self._backend.first_maps(self._index)
            self._previous = self._segmentation
            self._steps = np.zeros(self.num_envs, np.int64)
        else:
            self._index = np.where(mask, new_index, self._index)
            self._horizons = np.where(mask, new_horizon, self._horizons)
            images, targets = self._backend.draw(self._index[mask])
            replaced = self._backend.replaced
            self._image, self._target = replaced(self._image, mask, images), replaced(self._target, mask, targets)
            first = self._backend.first_maps(self._index[mask])
            self._segmentation = replaced(self._segmentation, mask, first)
            self._previous = replaced(self._previous, mask, first)
            self._steps = np.where(mask, 0, self._steps)

    def _observe(self) -> Array:
        return self.task.observe(self._image, self._segmentation, self._horizons - self._steps)

    def _infos(self, reward_map: Array, mask: NDArray[np.bool_]) -> Infos:
        graded = self.task.graded
        segmentation = decided(self._segmentation) if graded else self._backend.copy(self._segmentation)
        infos = {
            "reward_map": reward_map,
            "segmentation": segmentation,
            **({"probability": self._backend.copy(self._segmentation)} if graded else {}),
            "target": self._backend.copy(self._target),
            **self._scores(segmentation),
            "slice": self.dataset.slices[self._index],
            "index": self._index.copy(),
            "step": self._steps.copy(),
            "horizon": self._horizons.copy(),
        }
        return infos | {f"_{key}": mask.copy() for key in infos}

    def _scores(self, segmentation: Array) -> Infos:
        dice = map_dice(segmentation, self._target)
        return {"dice": dice} if dice.ndim == 1 else {"dice": dice.mean(-1), "label_dice": dice}
