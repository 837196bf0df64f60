"""A policy of one pixel as a predictor of whole maps; needs no library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError
from pixelseg_env.views.windows import check_view, label_windows

Floats = NDArray[np.float32]


class PixelPolicy:
    """A model of `PixelVecEnv` as a predictor of whole maps, for `pixelseg_agents.evaluation.evaluate`.

    A recurrent model's state is handed on from step to step, that of every pixel. Frames that the model had stacked
    (`VecFrameStack(..., channels_order="first")`) are stacked likewise; a model that was loaded without its environment
    does not know of them: give `frames`.

    Args:
        model: anything with SB3's `predict` on windows (N, C', view, view), or a function from such windows to
            actions (N,), of any other library's policy.
        view: side of the windows that it was trained on.
        labels: L of the environment.
        normalize: the `VecNormalize` that the model was trained under, or any function of windows that returns
            windows. By default the model is asked for its own (one that was loaded without its environment has none:
            give it here); False means none.
        frames: how many windows the model was shown at once; None: as its environment says.

    Raises:
        OptionError: `view` is not an odd number, or `normalize` is no function.
    """

    def __init__(
        self, model: Any, view: int, labels: int = 1, normalize: Any = None, frames: int | None = None
    ) -> None:
        self.model: Any = model if hasattr(model, "predict") or not callable(model) else _Chooses(model)
        self.view, self.labels = check_view(view), labels
        if normalize is None:
            normalize = getattr(self.model, "get_vec_normalize_env", lambda: None)()
        self.frames = _frames_of(self.model) if frames is None else frames
        self._shape = getattr(getattr(normalize, "observation_space", None), "shape", None)
        self._normalize = getattr(normalize, "normalize_obs", normalize) or None
        if self._normalize is not None and not callable(self._normalize):
            raise OptionError(f"normalize={normalize!r}: expected a VecNormalize, a function of windows, or False")

    def predict(
        self, observation: Floats, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.int8], Any]:
        """Decides over every pixel.

        Args:
            observation: float32 (B, C', H, W).
            state: what the last call returned; None at the start.
            episode_start: bool (B,), which images begin an episode.
            deterministic: whether the likeliest action is taken.

        Returns:
            Actions int8 (B, [L,] H, W), and the state for the next call.

        Raises:
            OptionError: the model sees windows of another shape.
        """
        batch, _, height, width = observation.shape
        around = np.stack(label_windows(np.asarray(observation), self.view, self.labels), axis=1)
        cells = np.ascontiguousarray(around.reshape(-1, *around.shape[-3:]))
        starts = None if episode_start is None else np.repeat(np.asarray(episode_start, np.bool_), len(cells) // batch)
        frames, inner = (None, None) if state is None else state
        seen, frames = self._stacked(cells, frames, starts)
        actions, inner = self.model.predict(seen, state=inner, episode_start=starts, deterministic=deterministic)
        maps = np.asarray(actions, np.int8).reshape(batch, self.labels, height, width)
        following = None if frames is None and inner is None else (frames, inner)
        return (maps if self.labels > 1 else maps[:, 0]), following

    def _stacked(self, cells: Floats, frames: Any, starts: Any) -> tuple[Floats, Any]:
        """What the model sees of windows: normalized, and with its earlier ones if it was trained on stacks."""
        wanted = getattr(getattr(self.model, "observation_space", None), "shape", cells.shape[1:])
        own = cells.shape[1:]
        if self._normalize is not None and self._shape in (None, own):  # VecNormalize below VecFrameStack, or alone
            cells = self._normalize(cells)
        if wanted == own:
            return cells, None
        if wanted != (self.frames * own[0], *own[1:]):
            raise OptionError(
                f"PixelPolicy: the model was trained on windows of shape {wanted}, these have {own}"
                f"{f' in {self.frames} frames' if self.frames > 1 else ''}; expected the same view, observation and "
                'observe_time. Frames that were stacked with VecFrameStack(..., channels_order="first") are known from '
                "the model's environment; to a model that was loaded without it give frames="
            )
        before = np.zeros((len(cells), *wanted), np.float32) if frames is None else frames
        if starts is not None:
            before = np.where(starts[:, None, None, None], np.float32(0), before)
        stack = np.concatenate([before[:, own[0] :], cells], axis=1)
        seen = self._normalize(stack) if self._normalize is not None and self._shape == wanted else stack
        return seen, stack


def _frames_of(model: Any) -> int:
    """How many frames a model's environment stacks."""
    env = getattr(model, "get_env", lambda: None)()
    while env is not None:
        if (stacked := getattr(env, "stacked_obs", None)) is not None:
            return int(stacked.n_stack)
        env = vars(env).get("venv")
    return 1


class _Chooses:
    """A function of windows as a model."""

    def __init__(self, choose: Callable[[Floats], Any]) -> None:
        self._choose = choose

    def predict(self, cells: Floats, state: Any = None, **_: Any) -> tuple[Any, Any]:
        return self._choose(cells), state
