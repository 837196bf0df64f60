"""`PixelSegEnv`: one image, one segmentation map, every pixel an agent."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from pixelseg_env.arrays import Array, mean
from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.datasets.registry import check_option_names
from pixelseg_env.draws import Horizon, Order, check_horizon, draw_horizon
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import check_choice
from pixelseg_env.facts import TaskFacts
from pixelseg_env.metrics import map_dice
from pixelseg_env.rendering import Viewer, render_frame
from pixelseg_env.rewards import RewardFunction
from pixelseg_env.task import (
    DEFAULT_SIZE,
    DataPath,
    Start,
    check_action,
    check_reset_options,
    make_task,
    written_spec,
)

RENDER_MODES = ("human", "rgb_array")


class PixelSegEnv(TaskFacts, gym.Env[NDArray[np.float32], NDArray[np.int8]]):
    """
    ## Description

    Segmentation as a game of many agents. Every pixel of an image decides, at every step, whether it
    is *zero* (background) or *keep* (object). An episode starts from the segmentation map f(0) = 1, the
    whole image, and lasts `horizon` steps. The process is that of Liu et al., "Pixel level deep
    reinforcement learning for accurate and robust medical image segmentation", Scientific Reports 15
    (2025), doi 10.1038/s41598-025-92117-2 (PixelDRL-MG).

    With the image I, the ground truth G, the map f(t) and the joint action a(t) (`"additive"` is PixelRL's process: it
    refines the maps of `start`):

    | `transition`              | map after step t     | meaning                                                      |
    | ------------------------- | -------------------- | ------------------------------------------------------------ |
    | `"absorbing"` (default)   | f(t) = f(t-1) a(t)   | zero is final, keep does nothing: the object is carved out   |
    | `"restorable"`            | f(t) = a(t)          | every pixel is decided anew; keep brings a zeroed pixel back |
    | `"additive"`              | f(t-1) + d[a(t)]     | f holds probabilities, in [0, 1]; cut at 0.5 it segments     |

    ## Action Space

    `MultiBinary((H, W))`, int8: 0 = zero, 1 = keep, one decision a pixel. With `"additive"`
    `MultiDiscrete` of the same shape: 0 to 7 add -1, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4 and 1.

    Libraries that take no `MultiBinary((H, W))` find the same decisions in one row, image row by image row:

    | `actions`         | space                                            | for                                     |
    | ----------------- | ------------------------------------------------ | --------------------------------------- |
    | `"map"` (default) | `MultiBinary((H, W))`, `MultiDiscrete` of 8      |                                         |
    | `"flat"`          | `MultiBinary(H W)`, int8; `MultiDiscrete` of 8   | Stable-Baselines3, RLlib                |
    | `"multidiscrete"` | `MultiDiscrete([2] * H W)`, int64; of 8          | skrl, TorchRL's `GymEnv`, MaskablePPO   |

    With the last two, whole numbers that are floats will do. `action_masks()` tells which actions make a difference,
    as sb3-contrib's `MaskablePPO` asks: a pixel that has become zero under `"absorbing"` has only "zero" left.

    ## Observation Space

    | `observation`          | space                              | content                                    |
    | ---------------------- | ---------------------------------- | ------------------------------------------ |
    | `"masked"` (default)   | `Box(0, 1, (C, H, W), float32)`    | X(t) = I f(t): zeroed pixels are black     |
    | `"stacked"`            | `Box(0, 1, (C + 1, H, W), float32)`| I, and f(t) as the last channel            |

    `observe_time=True` adds a plane behind them, 1 / steps left everywhere: 1 before the last decision, 0 after it. The
    horizon ends the episode, so without it the state is not fully observed (as a decision process it is not Markov).

    ## Reward

    A float, the mean of the reward map r(t) over all pixels (Eq. 7). The map is `info["reward_map"]`;
    agents that decide pixel by pixel learn from it. With `reward_output="map"` the reward is the map itself, float32
    (H, W), so that wrappers that compute with arrays (`TransformReward`, `ClipReward`) work on every pixel's reward.
    `reward_space` declares it. (Gymnasium's `NormalizeReward`, its `NumpyToTorch` of a single environment and its
    `SyncVectorEnv` take numbers alone, and the checker of `gym.make` warns, which `disable_env_checker=True` ends;
    `gym.make_vec` makes an environment that returns maps of shape (B, H, W).)

    | `reward`                     | r(t) of a pixel                                                               |
    | ---------------------------- | ----------------------------------------------------------------------------- |
    | `"squared_error"` (default)  | Eq. 12: (f(t-1) - G)^2 - (f(t) - G)^2                                          |
    | `"sign"`                     | its sign                                                                      |
    | `"balanced"`                 | Eq. 12, times 10 on object pixels (`reward=balanced(w)` for another factor)   |
    | `"cross_entropy"`            | the fall of the pixel's cross-entropy, for maps of probabilities              |
    | `"dice_gain"`                | Dice(f(t), G) - Dice(f(t-1), G), the same for every pixel                     |
    | `"boundary"`                 | Eq. 12 within two pixels of the object's boundary, 0 elsewhere                |
    | `"boundary_weighted"`        | Eq. 12, times 1 to 11, the more the nearer to the boundary                    |
    | `"intensity_error"`          | Eq. 12 on intensities: (m f(t-1) - G)^2 - (m f(t) - G)^2, m: mean channel   |
    | `"plus_minus_one"`           | 1 where f(t) = G, -1 elsewhere                                                |
    | `"difference"`               | the pixel's own part of the image's Dice: its stake is 1 on the object, and   |
    |                              | D / (2 - D) elsewhere, D = Dice(f(t), G)                                      |
    | `"sparse"`                   | nothing before the last step, which pays for all (`sparse("dice")`, ...)      |
    | `"shaping"`                  | gamma P(f(t)) - P(f(t-1)) of a potential P, to be added to another reward     |
    | `"gain_only"`,               | for teaching: each can be earned without segmenting anything;                 |
    | `"hits_only"`,               | `pixelseg rewards check gain_only --transition restorable` shows how          |
    | `"keep_bonus"`               |                                                                               |
    | a function                   | `(previous, current, target) -> map`, see below                               |
    | `"module:name"`              | the function, or class, of that name                                          |

    Rewards compose, as objects (`0.7 * squared_error + 0.3 * boundary`, `.clip(-1, 1)`, `.scale(2)`; see
    `pixelseg_env.rewards`) and as text (`"0.7*squared_error + 0.3*my_module:bonus"`).

    A function of your own gets the three maps, 0 and 1 as int32 (H, W) (in the vector environment (B, H, W)), and
    returns a map of numbers. It asks for more by naming it after them: `step` (t, from 1), `steps_left`, `horizon`,
    `image` (float32 (C, H, W)) and `action`, as in `def late(previous, current, target, step, horizon)`.
    `pixelseg_env.rewards.check_reward` tells whether it keeps the rules.

    ## Starting State

    An image from the data set, and f(0) = 1 (but see `start`). With `order="random"` (default) it is drawn uniformly
    with the environment's own generator, each time anew; `"shuffled"` shows every image once before any twice, in an
    order drawn for each epoch; `"sequential"` shows them as they lie in the data set. `reset(seed=...)` begins a new
    epoch, and an image that `options` names is none of it.

    ## Episode End

    The horizon is part of the task, so step `horizon` *terminates* the episode. It is never truncated.

    `horizon` may be several numbers, `horizon=(1, 3, 10)`, of which each episode draws one with the environment's own
    generator, or a function of the episode's number (from 0, counted over the environment's life). It can be set
    between episodes, `env.unwrapped.horizon = 5` or `env.set_wrapper_attr("horizon", 5)`, and counts from the next
    `reset` on. `spec.max_episode_steps` is the longest that the environment was made with (None with a function), so
    that `TimeAwareObservation` works; an environment that is made *from that spec* has Gymnasium's `TimeLimit` around
    it, which calls the last step of the longest episode truncated, too.

    ## Information

    `reset` and `step` return the same keys:

    | key            | value                                                                        |
    | -------------- | ---------------------------------------------------------------------------- |
    | `reward_map`   | float32 (H, W), r(t); zeros after `reset`                                    |
    | `segmentation` | uint8 (H, W), f(t), cut at 0.5 with `"additive"`                             |
    | `probability`  | float32 (H, W), f(t); with `"additive"` only                                 |
    | `target`       | uint8 (H, W), G: for rewards and evaluation, not for a policy to look at     |
    | `dice`         | float64, Dice of f(t) and G                                                  |
    | `slice`        | int64, the slice's number within the case                                    |
    | `index`        | int64, the image's place in the data set, and of its patient in `cases`      |
    | `step`         | int64, t                                                                     |
    | `horizon`      | int64, steps of this episode: it ends when `step` gets there                 |

    The numbers are NumPy's, as TorchRL's info reader wants them; `int(info["step"])` is Python's own.

    ## Reset Options

    `reset(seed=..., options={"index": k, "horizon": h})`: the image at position k of the data set, and
    an episode of h steps (this one episode only). Both are optional.

    ## Arguments

    ```python
    import gymnasium as gym
    import pixelseg_env

    env = gym.make("PixelSegEnv-v0", dataset="brain", data="kaggle_3m", split="train", size=128)
    ```

    Args:
        dataset: `"phantom"`, `"brain"`, `"cardiac"`, `"folder"`, a name given to `register_dataset`, or
            a `SegmentationDataset` (used whole unless `split` is given; another `size` than its own, `fit` and
            `keep_empty` are refused).
        data: the folder of the data set, or several; default: the variable `PIXELSEG_DATA`. The phantom
            set needs none.
        split: `"train"` (default of a named data set), `"val"`, `"test"` or `"all"`; 70/10/20 % of the
            patients.
        size: side length, (H, W), or None for the native size where all images share it; default 64.
        horizon: steps of an episode, t_max; or several, or a function, see Episode End.
        transition: see Description.
        observation: see Observation Space.
        reward: see Reward.
        render_mode: None, `"rgb_array"` or `"human"`.
        start: f(0) of `"additive"`: float32 maps (N, H, W), one per image of the data set, or a function that
            makes them of images float32 (B, C, H, W), such as a network's; default: 1 everywhere. With `"absorbing"`
            also `"image"`: 1 where a channel of the image is not 0. Together with the reward `"intensity_error"` that
            is another literal reading of the publication, see there.
        observe_time: whether observations have a plane that shows the steps left, see Observation Space.
        actions: `"map"`, `"flat"` or `"multidiscrete"`, see Action Space.
        reward_output: `"mean"` or `"map"`, see Reward.
        order: `"random"`, `"shuffled"` or `"sequential"`, see Starting State.
        **dataset_options: further options of `pixelseg_env.datasets.load_dataset` (`fit`, `split_by`,
            `split_seed`, `fractions`, `keep_empty`) and of the data set's loader (such as
            `channels="flair"` of `brain`).

    Raises:
        OptionError: an option's name or value is not known; the message names the nearest valid one. A name that is not
            known is a `TypeError` as well.
        DataError: a file or folder cannot be used; the message names it.

    ## Version History

    * v0: first version.
    """  # noqa: D415 (Gymnasium's form: the docstring is the documentation page and begins with a heading)

    _spec: EnvSpec | None = None
    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # type: ignore[misc]

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
        start: Start = None,
        observe_time: bool = False,
        actions: str = "map",
        reward_output: str = "mean",
        order: str = "random",
        **dataset_options: Any,
    ) -> None:
        check_option_names(dataset, dataset_options, PixelSegEnv.__init__)
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
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
        self.render_mode = render_mode
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self.reward_space = self.task.reward_space
        self._order = Order(order, len(self.dataset))
        self._episodes = 0  # begun so far
        self._step_count = -1  # -1: not reset yet
        self._episode_horizon = 0
        self._viewer: Viewer | None = None
        self._closed = False

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """How Gymnasium made this environment; its reward is text, where it has one, so that `to_json` can write it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = written_spec(spec, self.task)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode; see the class for `options`.

        Args:
            seed: begins the environment's generator anew; None: it goes on.
            options: `index` and `horizon`, see the class, Reset Options.

        Returns:
            Observation float32 (C', H, W), and the infos that the class lists.

        Raises:
            OptionError: an option is not known, or out of range.
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        self._check_open()
        chosen = check_reset_options(options)
        if "index" in chosen:
            self.dataset.check_index(chosen["index"])
        if "horizon" in chosen:
            check_horizon(chosen["horizon"])
        super().reset(seed=seed)
        if seed is not None:
            self._order.restart()
        if "index" not in chosen or self.task.order == "random":
            # Drawn even when the caller names the image, so that the generator's state does not depend on it.
            drawn = int(self._order.draw([self.np_random], np.ones(1, np.bool_))[0])
        horizon = draw_horizon(self.task.horizon, self.np_random, self._episodes)
        index = int(chosen["index"]) if "index" in chosen else drawn
        self._index, self._episode_horizon = index, int(chosen.get("horizon", horizon))
        self._episodes += 1
        images, targets = self.dataset.batch([self._index])
        self._image, self._target = images[0], targets[0]
        self._segmentation = self.task.first_maps(np.array([index]))[0]
        self._previous: NDArray[Any] | None = None
        self._step_count = 0
        if self.render_mode == "human":
            self.render()
        return self._observe(), self._info(np.zeros(self.task.map_shape, np.float32))

    def step(  # type: ignore[override]  # a map of rewards, where it is asked for
        self, action: NDArray[np.int8]
    ) -> tuple[NDArray[np.float32], float | NDArray[np.float32], bool, bool, dict[str, Any]]:
        """Applies one joint action.

        Args:
            action: (H, W) of 0 (zero) and 1 (keep), integers or booleans; (H W,) with other `actions` than "map".

        Returns:
            Observation, mean reward (or its map), terminated, truncated (always False), info.

        Raises:
            ActionError: the action has the wrong shape, type or value.
            gymnasium.error.ResetNeeded: the episode has ended, or `reset` was never called.
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        self._check_open()
        if self._step_count < 0:
            raise gym.error.ResetNeeded("step() before reset(): call reset() first")
        if self._step_count >= self._episode_horizon:
            raise gym.error.ResetNeeded(
                f"step() after the end: the episode ended at step {self._episode_horizon}; call reset()"
            )
        task = self.task
        chosen = task.folded(check_action(action, task.action_shape, task.choices, task.actions != "map"))
        self._previous = self._segmentation
        step, horizon = self._step_count + 1, self._episode_horizon
        self._segmentation, reward_map = self.task.advance(
            self._previous, chosen, self._target, self._image, step, horizon
        )
        self._step_count = step
        if self.render_mode == "human":
            self.render()
        # The map in the info is another array: a wrapper may change the reward in place.
        whole = task.reward_output == "map"
        reward = reward_map.copy() if whole else float(mean(reward_map, reward_map.ndim))
        terminated = self._step_count >= self._episode_horizon
        return self._observe(), reward, terminated, False, self._info(reward_map)

    def _observe(self) -> Array:
        return self.task.observe(self._image, self._segmentation, self._episode_horizon - self._step_count)

    def _info(self, reward_map: NDArray[np.float32]) -> dict[str, Any]:
        # Copies: what one call returned must not change with the next.
        graded = self.task.graded
        segmentation = decided(self._segmentation) if graded else self._segmentation.copy()
        return {
            "reward_map": reward_map,
            "segmentation": segmentation,
            **({"probability": self._segmentation.copy()} if graded else {}),
            "target": self._target.copy(),
            **self._scores(segmentation),
            # NumPy's own numbers: readers of infos, such as TorchRL's, ask every value for its type.
            "slice": np.int64(self.dataset.slices[self._index]),
            "index": np.int64(self._index),
            "step": np.int64(self._step_count),
            "horizon": np.int64(self._episode_horizon),
        }

    def _scores(self, segmentation: Array) -> dict[str, Any]:
        dice = map_dice(segmentation, self._target)
        whole = {"dice": np.float64(dice.mean())}
        return whole if dice.ndim == 0 else whole | {"label_dice": dice}

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make a difference now, as `MaskablePPO` asks: bool (H W choices,), pixel by pixel.

        Raises:
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        if self._step_count < 0:
            raise gym.error.ResetNeeded("action_masks() before reset(): call reset() first")
        return self.task.allowed(self._segmentation).reshape(-1)

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Draws image, map (pixels changed by the last step in red) and contours.

        Returns:
            uint8 (H', W', 3) for `render_mode="rgb_array"`, None for `"human"` (a window) or no mode.

        Raises:
            gymnasium.error.ClosedEnvironmentError: after `close`.
            gymnasium.error.ResetNeeded: `reset` was never called.
        """
        self._check_open()
        if self.render_mode is None:
            gym.logger.warn('render() without a render_mode does nothing; use gym.make(..., render_mode="rgb_array")')
            return None
        if self._step_count < 0:
            raise gym.error.ResetNeeded("render() before reset(): call reset() first")
        frame = render_frame(
            self._image,
            decided(self._segmentation),
            self._target,
            None if self._previous is None else decided(self._previous),
            step=self._step_count,
            horizon=self._episode_horizon,
        )
        if self.render_mode == "rgb_array":
            return frame
        if self._viewer is None:
            self._viewer = Viewer()
        self._viewer.show(frame)
        return None

    def close(self) -> None:
        """Closes the window, if there is one; nothing but another `close` may follow."""
        self._closed = True
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def _check_open(self) -> None:
        if self._closed:
            raise gym.error.ClosedEnvironmentError("the environment has been closed; make a new one")
