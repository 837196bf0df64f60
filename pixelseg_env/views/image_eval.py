"""Evaluation by image for Stable-Baselines3's `learn`: Dice of every image, where `EvalCallback` sees a few pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, EventCallback

from pixelseg_env.arrays import to_numpy
from pixelseg_env.draws import check_horizon
from pixelseg_env.errors import OptionError
from pixelseg_env.metrics import dice
from pixelseg_env.vector_env import PixelSegVectorEnv
from pixelseg_env.views.pixel_policy import PixelPolicy
from pixelseg_env.views.sb3 import PixelVecEnv


class ImageEvalCallback(EventCallback):
    """Scores every image of a data set during `learn`, and keeps the best model.

    ```python
    test = PixelSegVectorEnv(8, "phantom", split="val", size=32, horizon=1)
    model.learn(100_000, callback=ImageEvalCallback(test, view=9, eval_freq=50, best_model_save_path="best"))
    ```

    Logged: `eval/mean_dice`, the mean over the images (and labels) of Dice after the last step, as
    `pixelseg_agents.evaluation.evaluate` has it, and `eval/best_dice`. The last and the best are in `last_dice` and
    `best_dice`, all of them in `history`, pairs of time steps and Dice.

    Args:
        eval_env: a `PixelSegVectorEnv`, or a `PixelVecEnv`, wrapped or not. Not the one that is trained on.
        view: side of the model's windows; that of `eval_env` if it is a `PixelVecEnv`, that trained on otherwise.
        eval_freq: calls of `step` between evaluations. A step of `PixelVecEnv` counts as `num_envs` time steps.
        best_model_save_path: folder for `best_model.zip`, and `vecnormalize.pkl` where the model has a `VecNormalize`.
        deterministic: whether the likeliest action is taken.
        callback_on_new_best: called when a model is the best so far.
        callback_after_eval: called after every evaluation.
        verbose: 1 prints every evaluation.

    Raises:
        OptionError: an option has another type or value than said here; at `learn`, `eval_env` is trained on.
    """

    def __init__(
        self,
        eval_env: Any,
        view: int | None = None,
        eval_freq: int = 100,
        best_model_save_path: str | Path | None = None,
        deterministic: bool = True,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_eval: BaseCallback | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(callback_after_eval, verbose)
        base = getattr(eval_env, "unwrapped", eval_env)
        if isinstance(base, PixelVecEnv):
            view, base = view or base.view, base.env
        if not isinstance(base, PixelSegVectorEnv):
            raise OptionError(
                f"eval_env: expected a PixelSegVectorEnv or a PixelVecEnv, got {type(base).__name__}; "
                'make one with gym.make_vec("PixelSegEnv-v0", num_envs=8, ...)'
            )
        if isinstance(eval_freq, bool) or not isinstance(eval_freq, int) or eval_freq < 1:
            raise OptionError(f"eval_freq={eval_freq!r}: expected a whole number of steps, at least 1")
        check_horizon(base.horizon)
        self.eval_env, self.view, self.eval_freq, self.deterministic = base, view, eval_freq, deterministic
        self.folder = None if best_model_save_path is None else Path(best_model_save_path)
        self.callback_on_new_best = callback_on_new_best
        if callback_on_new_best is not None:
            callback_on_new_best.parent = self
        self.last_dice, self.best_dice = float("nan"), -1.0
        self.history: list[tuple[int, float]] = []

    def _init_callback(self) -> None:
        super()._init_callback()
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)
        trained = getattr(self.training_env, "unwrapped", None)
        if self.eval_env in (trained, getattr(trained, "env", None)):  # an evaluation would end the episodes in between
            raise OptionError(
                "eval_env: expected another environment than the one that is trained on; make one of its own, for "
                'example PixelSegVectorEnv(8, ..., split="val")'
            )
        if self.view is None:
            self.view = int(self.training_env.get_attr("view")[0])

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq:
            return True
        assert self.view is not None
        policy = PixelPolicy(self.model, self.view, self.eval_env.dataset.labels)
        self.last_dice = float(image_dice(policy, self.eval_env, self.deterministic).mean())
        self.history.append((self.num_timesteps, self.last_dice))
        better = self.last_dice > self.best_dice
        self.best_dice = max(self.best_dice, self.last_dice)
        self.logger.record("eval/mean_dice", self.last_dice)
        self.logger.record("eval/best_dice", self.best_dice)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        if self.verbose:
            print(f"{self.num_timesteps} time steps: Dice {self.last_dice:.3f}, best {self.best_dice:.3f}")
        go_on = True
        if better:
            self._save()
            go_on = self.callback_on_new_best is None or self.callback_on_new_best.on_step()
        return go_on and self._on_event()

    def _save(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.save(self.folder / "best_model")
        normalize = self.model.get_vec_normalize_env()
        if normalize is not None:
            normalize.save(str(self.folder / "vecnormalize.pkl"))


def image_dice(predictor: Any, env: PixelSegVectorEnv, deterministic: bool = True) -> NDArray[np.float64]:
    """Dice after the last step of one episode on every image of the environment's data set.

    Args:
        predictor: with SB3's `predict` on observations (B, C', H, W).
        env: any batch of images; it is left at the end of its last episodes.
        deterministic: whether the likeliest action is taken.

    Returns:
        float64 (N,), or (N, L) with labels.
    """
    shape: tuple[int, ...] = env.single_action_space.shape or ()
    count, batch, steps = len(env.dataset), env.num_envs, check_horizon(env.horizon)
    scores = []
    for start in range(0, count, batch):
        index = np.minimum(np.arange(start, start + batch), count - 1)  # the last batch repeats its last image
        observation, info = env.reset(options={"index": index, "horizon": steps})
        state, fresh = None, np.ones(batch, np.bool_)
        for _ in range(steps):
            actions, state = predictor.predict(to_numpy(observation), state, fresh, deterministic)
            observation, _, _, _, info = env.step(actions.reshape((batch, *shape)))
            fresh = np.zeros(batch, np.bool_)
        info = info.get("final_info", info)
        scores.append(dice(to_numpy(info["segmentation"]), to_numpy(info["target"]))[: count - start])
    return np.concatenate(scores)
