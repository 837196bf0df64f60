"""`PixelSegEnv`: one image, one segmentation map, every pixel an agent."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from pixelseg_env.arrays import Array, mean
from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.datasets.registry import check_option_names
from pixelseg_env.dynamics import decided
from pixelseg_env.errors import check_choice
from pixelseg_env.metrics import map_dice
from pixelseg_env.rendering import Viewer, render_frame
from pixelseg_env.rewards import Reward, RewardFunction
from pixelseg_env.task import DataPath, Start, check_action, check_horizon, check_reset_options, make_task, written_spec
from pixelseg_env.torchrl_spaces import announce

RENDER_MODES = ("human", "rgb_array")


class PixelSegEnv(gym.Env[NDArray[np.float32], NDArray[np.int8]]):
    """
    ## Description

    Segmentation as a game of many agents. Every pixel of an image decides, at every step, whether it
    is *zero* (background) or *keep* (object). An episode starts from the segmentation map f(0) = 1, the
    whole image, and lasts `horizon` steps. The process is that of Liu et al., "Pixel level deep
    reinforcement learning for accurate and robust medical image segmentation", Scientific Reports 15
    (2025), doi 10.1038/s41598-025-92117-2 (PixelDRL-MG).

    With the image I, the ground truth G, the map f(t) and the joint action a(t):

    | `transition`              | map after step t     | meaning                                                      |
    | ------------------------- | -------------------- | ------------------------------------------------------------ |
    | `"absorbing"` (default)   | f(t) = f(t-1) a(t)   | zero is final, keep does nothing: the object is carved out   |
    | `"restorable"`            | f(t) = a(t)          | every pixel is decided anew; keep brings a zeroed pixel back |
    | `"additive"`              | f(t-1) + d[a(t)]     | f holds probabilities, clipped to [0, 1]; cut at 0.5 it is   |
    |                           |                      | the segmentation. PixelRL's process, from `start`            |

    ## Action Space

    `MultiBinary((H, W))`, int8: 0 = zero, 1 = keep, one decision a pixel. With `"additive"`
    `MultiDiscrete` of the same shape: 0 to 7 add -1, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4 and 1.

    ## Observation Space

    | `observation`          | space                              | content                                    |
    | ---------------------- | ---------------------------------- | ------------------------------------------ |
    | `"masked"` (default)   | `Box(0, 1, (C, H, W), float32)`    | X(t) = I f(t): zeroed pixels are black     |
    | `"stacked"`            | `Box(0, 1, (C + 1, H, W), float32)`| I, and f(t) as the last channel            |

    ## Reward

    A float, the mean of the reward map r(t) over all pixels (Eq. 7). The map is `info["reward_map"]`;
    agents that decide pixel by pixel learn from it.

    | `reward`                     | r(t) of a pixel                                                               |
    | ---------------------------- | ----------------------------------------------------------------------------- |
    | `"squared_error"` (default)  | Eq. 12: (f(t-1) - G)^2 - (f(t) - G)^2                                          |
    | `"sign"`                     | its sign                                                                      |
    | `"balanced"`                 | Eq. 12, times 10 on object pixels (`reward=balanced(w)` for another factor)   |
    | `"cross_entropy"`            | the fall of the pixel's cross-entropy, for maps of probabilities              |
    | `"dice_gain"`                | Dice(f(t), G) - Dice(f(t-1), G), the same for every pixel                     |
    | `"boundary"`                 | Eq. 12 within two pixels of the object's boundary, 0 elsewhere                |
    | a function                   | `(previous, current, target) -> map`, see below                               |
    | `"module:name"`              | the function, or class, of that name                                          |

    Rewards compose, as objects (`0.7 * squared_error + 0.3 * boundary`, `.clip(-1, 1)`, `.scale(2)`; see
    `pixelseg_env.rewards`) and as text (`"0.7*squared_error + 0.3*my_module:bonus"`).

    A function of your own gets the three maps, 0 and 1 as int8 (H, W) (in the vector environment (B, H, W)), and
    returns a map of numbers. It asks for more by naming it after them: `step` (t, from 1), `steps_left`, `horizon`,
    `image` (float32 (C, H, W)) and `action`, as in `def late(previous, current, target, step, horizon)`.
    `pixelseg_env.rewards.check_reward` tells whether it keeps the rules.

    ## Starting State

    An image drawn uniformly from the data set with the environment's own generator, and f(0) = 1.

    ## Episode End

    The horizon is part of the task, so step `horizon` *terminates* the episode. It is never truncated.

    ## Information

    `reset` and `step` return the same keys:

    | key            | value                                                                        |
    | -------------- | ---------------------------------------------------------------------------- |
    | `reward_map`   | float32 (H, W), r(t); zeros after `reset`                                    |
    | `segmentation` | uint8 (H, W), f(t), cut at 0.5 with `"additive"`                             |
    | `probability`  | float32 (H, W), f(t); with `"additive"` only                                 |
    | `target`       | uint8 (H, W), G: for rewards and evaluation, not for a policy to look at     |
    | `dice`         | float, Dice of f(t) and G                                                    |
    | `case`         | str, the patient                                                             |
    | `slice`        | int, the slice's number within the case                                      |
    | `index`        | int, the image's position in the data set                                    |
    | `step`         | int, t                                                                       |
    | `horizon`      | int, steps of this episode: it ends when `step` gets there                   |

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
            a `SegmentationDataset` (used whole unless `split` is given; `size`, `fit` and `keep_empty` do
            not apply).
        data: the folder of the data set, or several; default: the variable `PIXELSEG_DATA`. The phantom
            set needs none.
        split: `"train"` (default of a named data set), `"val"`, `"test"` or `"all"`; 70/10/20 % of the
            patients.
        size: side length, (H, W), or None for the native size where all images share it.
        horizon: steps of an episode, t_max.
        transition: see Description.
        observation: see Observation Space.
        reward: see Reward.
        render_mode: None, `"rgb_array"` or `"human"`.
        start: f(0) of `"additive"`: float32 maps (N, H, W), one per image of the data set, or a function that
            makes them of images float32 (B, C, H, W), such as a network's; default: 1 everywhere.
        **dataset_options: further options of `pixelseg_env.datasets.load_dataset` (`fit`, `split_by`,
            `split_seed`, `fractions`, `keep_empty`) and of the data set's loader (such as
            `channels="flair"` of `brain`).

    Raises:
        OptionError: an option's name or value is not known; the message names the nearest valid one.
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
        size: int | tuple[int, int] | None = 64,
        horizon: int = 10,
        transition: str = "absorbing",
        observation: str = "masked",
        reward: str | RewardFunction = "squared_error",
        render_mode: str | None = None,
        start: Start = None,
        **dataset_options: Any,
    ) -> None:
        check_option_names(dataset, dataset_options, PixelSegEnv.__init__)
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        self.task = make_task(
            dataset, data, split, size, horizon, transition, observation, reward, start, **dataset_options
        )
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0.0, 1.0, self.task.observation_shape, np.float32)
        self.action_space = self.task.action_space
        announce(self.action_space)
        self._step_count = -1  # -1: not reset yet
        self._episode_horizon = self.task.horizon
        self._viewer: Viewer | None = None

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self.task.dataset

    @property
    def horizon(self) -> int:
        """Steps of an episode, unless `reset(options={"horizon": h})` says otherwise."""
        return self.task.horizon

    @property
    def transition(self) -> str:
        """`"absorbing"`, `"restorable"` or `"additive"`."""
        return self.task.transition

    @property
    def observation(self) -> str:
        """`"masked"` or `"stacked"`."""
        return self.task.observation

    @property
    def reward(self) -> Reward:
        """The reward, to be called with `(previous, current, target)` and, where it `needs` one, a `RewardContext`."""
        return self.task.reward

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """How Gymnasium made this environment; its reward is text, where it has one, so that `to_json` can write it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = written_spec(spec, self.task.reward)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode; see the class for `options`.

        Raises:
            OptionError: an option is not known, or out of range.
        """
        super().reset(seed=seed)
        chosen = check_reset_options(options)
        # Drawn even when the caller names the image, so that the generator's state does not depend on it.
        drawn = int(self.np_random.integers(len(self.dataset)))
        index = self.dataset.check_index(chosen.get("index", drawn))
        horizon = check_horizon(chosen.get("horizon", self.task.horizon))
        self._index, self._episode_horizon = index, horizon
        images, targets = self.dataset.batch([self._index])
        self._image, self._target = images[0], targets[0]
        self._segmentation = self.task.first_maps(np.array([index]))[0]
        self._previous: NDArray[Any] | None = None
        self._step_count = 0
        if self.render_mode == "human":
            self.render()
        return self._observe(), self._info(np.zeros(self.task.map_shape, np.float32))

    def step(self, action: NDArray[np.int8]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Applies one joint action.

        Args:
            action: (H, W) of 0 (zero) and 1 (keep), integers or booleans.

        Returns:
            Observation, mean reward, terminated, truncated (always False), info.

        Raises:
            ActionError: the action has the wrong shape, type or value.
            gymnasium.error.ResetNeeded: the episode has ended, or `reset` was never called.
        """
        if self._step_count < 0:
            raise gym.error.ResetNeeded("step() before reset(): call reset() first")
        if self._step_count >= self._episode_horizon:
            raise gym.error.ResetNeeded(
                f"step() after the end: the episode ended at step {self._episode_horizon}; call reset()"
            )
        chosen = check_action(action, self.task.map_shape, self.task.choices)
        self._previous = self._segmentation
        step, horizon = self._step_count + 1, self._episode_horizon
        self._segmentation, reward_map = self.task.advance(
            self._previous, chosen, self._target, self._image, step, horizon
        )
        self._step_count = step
        if self.render_mode == "human":
            self.render()
        reward = float(mean(reward_map, reward_map.ndim))
        terminated = self._step_count >= self._episode_horizon
        return self._observe(), reward, terminated, False, self._info(reward_map)

    def _observe(self) -> Array:
        return self.task.observe(self._image, self._segmentation)

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
            "case": self.dataset.cases[self._index],
            "slice": int(self.dataset.slices[self._index]),
            "index": self._index,
            "step": self._step_count,
            "horizon": self._episode_horizon,
        }

    def _scores(self, segmentation: Array) -> dict[str, Any]:
        dice = map_dice(segmentation, self._target)
        return {"dice": float(dice)} if dice.ndim == 0 else {"dice": float(dice.mean(-1)), "label_dice": dice}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Draws image, map (pixels changed by the last step in red) and contours.

        Returns:
            uint8 (H', W', 3) for `render_mode="rgb_array"`, None for `"human"` (a window) or no mode.
        """
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
        """Closes the window, if there is one."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None
