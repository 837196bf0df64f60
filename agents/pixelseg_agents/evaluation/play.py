"""Runs a predictor over every image of a data set, once, and scores each step.

Everything goes through the public API of the vector environment, so any object with Stable-Baselines3's
`predict` is evaluated on equal terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation.deciding import Decisions, Predictor
from pixelseg_agents.evaluation.judging import Judge, JudgeAt
from pixelseg_agents.evaluation.results import CURVES, EvaluationResult, by_label_result
from pixelseg_agents.team import ALONE, Team, shares
from pixelseg_env import (
    METRICS,
    OptionError,
    PixelSegEnv,
    PixelSegVectorEnv,
    SegmentationDataset,
    check_horizon,
    to_numpy,
)
from pixelseg_env.metrics import named_metric

NEEDED = ("dataset", "num_envs", "horizon")  # of an environment of somebody else's


def evaluate(
    predictor: Predictor,
    env: Any,
    horizon: int | None = None,
    deterministic: bool = True,
    keep_maps: bool = True,
    judge_at: JudgeAt = "native",
    team: Team = ALONE,
    by_step: Sequence[str] = (),
) -> EvaluationResult:
    """Scores every image of the environment's data set, once, in order.

    Args:
        predictor: what decides, see `play`.
        env: a `PixelSegVectorEnv` of any number of images, or a `PixelSegEnv`, each in any of Gymnasium's wrappers: the
            predictor sees what the wrappers hand out. It is left at the end of the last batch's episodes: reset it
            before any further use.
        horizon: steps of an episode; the environment's own by default.
        deterministic: whether the predictor takes its most probable action.
        keep_maps: whether the result holds the maps of all steps (H W / 8 bytes per image and step).
        judge_at: where the scores are taken. "native": maps are brought to each file's own pixels, as `predict` does,
            and judged by the file's own mask, so that scores can be compared whatever size was decided at. "size": by
            the mask at that size. Where the data set has no files of other sizes, both are the same.
        team: the processes that share the work: each plays on its share of the images, and has all scores in the end.
        by_step: metrics that are taken after every step, besides Dice and BIoU, such as `("HD95",)`.

    Returns:
        The scores, in the order of the data set.

    Raises:
        OptionError: the environment is another one, its episode did not end at the horizon, or `judge_at` or a metric
            is not known.
    """
    watched = {name: named_metric(name, "by_step") for name in (*CURVES, *by_step)}
    inner = _inner(env)
    dataset = inner.dataset
    judge = Judge(dataset, judge_at)
    steps = check_horizon(inner.horizon if horizon is None else horizon)
    count, (height, width), labels = len(dataset), dataset.image_shape[1:], dataset.labels
    curves = {name: np.zeros((labels, count, steps)) for name in watched}
    returns = np.zeros((labels, count))
    final = {name: np.zeros((labels, count)) for name in METRICS}
    packed = np.zeros((labels, count, steps, -(-height * width // 8)), np.uint8) if keep_maps else None

    def by_label(maps: Any) -> NDArray[Any]:
        """(B, [L,] H, W) of the wanted images as (L, images, H, W)."""
        array = to_numpy(maps)[: len(wanted)]
        return np.moveaxis(array.reshape(len(wanted), labels, height, width), 1, 0)

    own = shares(count, team)
    for wanted, step, reward, info in play(predictor, env, steps, deterministic, own):
        segmentation = np.ascontiguousarray(by_label(info["segmentation"]))
        last = step == steps - 1
        found = judge.scores(wanted, segmentation, METRICS | watched if last else watched)
        for name in watched:
            curves[name][:, wanted, step] = found[name]
        if labels == 1:
            returns[0, wanted] += to_numpy(reward)[: len(wanted)].reshape(len(wanted), -1).mean(axis=1)
        else:  # the scalar is the mean over labels
            returns[:, wanted] += by_label(info["reward_map"]).mean(axis=(-2, -1), dtype=np.float64)
        if packed is not None:
            packed[:, wanted, step] = np.packbits(segmentation.reshape(labels, len(wanted), -1), axis=-1)
        if last:
            for name in METRICS:
                final[name][:, wanted] = found[name]

    final, curves = ({name: team.total_array(one) for name, one in found.items()} for found in (final, curves))
    returns, packed = team.total_array(returns), None if packed is None else team.total_array(packed)
    return by_label_result(dataset, final, curves, returns, judge_at, judge.sizes, packed)


def play(
    predictor: Predictor, env: Any, steps: int, deterministic: bool = True, images: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], int, Any, dict[str, Any]]]:
    """Plays one episode on every image of the environment's data set, in order, a batch at a time.

    Args:
        predictor: what decides; it is told of new episodes by `state=None` and `episode_start`.
        env: as in `evaluate`, of B images.
        steps: of an episode.
        deterministic: whether the predictor takes its most probable action. One that says of itself that it `repeats`
            what it decided, when it sees the same again, is then asked about an image only after a step that changed
            what it sees of it; see `Decisions`.
        images: which, int64 (N,); None: all.

    Yields:
        After every step: which images the batch holds, int64 (N,), with N = B but for the last batch, which is filled
        up by repeating its last image; the step's number, from 0; its rewards (B,); and its infos, with arrays of B.
        Whoever uses them takes the first N.

    Raises:
        OptionError: the environment is another one, or its episodes did not end at that step.
    """
    inner = _inner(env)
    # That of the outermost wrapper: one of them may have another shape for the same actions.
    space = env.action_space if isinstance(env, gym.Env) else getattr(env, "single_action_space", None)
    if isinstance(env, gym.Env):
        env = _BatchOfOne(env)
    batch, alone = int(env.num_envs), isinstance(inner, PixelSegEnv)
    images = np.arange(len(inner.dataset)) if images is None else images
    shape = getattr(space, "shape", None)
    transition, maps = getattr(inner, "transition", None), inner.dataset.map_shape
    for start in range(0, len(images), batch):
        wanted = images[start : start + batch]
        index = np.concatenate([wanted, np.full(batch - len(wanted), wanted[-1])])
        observation, _ = env.reset(options={"index": int(index[0]) if alone else index, "horizon": steps})
        decide = Decisions(predictor, batch, len(wanted), maps, deterministic, transition)
        for step in range(steps):
            actions = decide(observation)
            observation, reward, terminated, _, info = env.step(
                actions if shape is None else actions.reshape(batch, *shape)
            )
            info = info.get("final_info", info)  # autoreset within the step: the ended episode's own info
            if bool(terminated.all()) != (step == steps - 1):
                raise OptionError(
                    f"evaluate: expected every episode to end at step {steps}, not at step {step + 1}: "
                    f"{np.count_nonzero(to_numpy(terminated))} of {batch} ended there"
                )
            yield wanted, step, reward, info


def segment(
    agent: Any,
    images: NDArray[Any],
    horizon: int,
    batch: int = 8,
    start: Any = None,
    progress: Callable[[float], object] = lambda _: None,
) -> NDArray[np.uint8]:
    """Plays one episode per image, from the agent's first maps, with its most probable actions.

    Args:
        agent: has `predict`, `transition` and `observation`, and with several labels `label_names`.
        images: (N, C, H, W), uint8 or float32 in [0, 1].
        horizon: steps of an episode.
        batch: images at once.
        start: what makes the first maps, see `PixelSegEnv`.
        progress: told after every step how many images that is, a step being 1 / horizon of each; N in all.

    Returns:
        f(horizon), uint8 (N, H, W), or (N, L, H, W) with L > 1 labels.
    """
    count, _, height, width = images.shape
    names = tuple(getattr(agent, "label_names", ("object",)))
    labels = (len(names),) if len(names) > 1 else ()
    # The truth: nobody knows it, and no agent sees it.
    unknown = np.zeros((count, *labels, height, width), np.uint8)
    dataset = SegmentationDataset("prediction", images, unknown, ("",) * count, np.arange(count))
    env = PixelSegVectorEnv(
        num_envs=min(batch, count),
        dataset=dataset,
        split="all",
        horizon=horizon,
        transition=agent.transition,
        observation=agent.observation,
        observe_time=sees_time(agent),
        start=start,
    )
    masks = np.empty_like(unknown)
    for wanted, step, _, info in play(agent, env, horizon):
        progress(len(wanted) / horizon)
        if step == horizon - 1:
            masks[wanted] = info["segmentation"][: len(wanted)]
    return masks


def sees_time(predictor: Any) -> bool:
    """Whether a predictor was made for observations with a plane of time; somebody else's may not say."""
    return bool(getattr(getattr(predictor, "task", None), "observe_time", False))


def _inner(env: Any) -> Any:
    """The environment in its wrappers: what knows data set and horizon.

    Raises:
        OptionError: it is none of ours, or several of them that Gymnasium steps one by one.
    """
    base = getattr(env, "unwrapped", env)
    if isinstance(base, PixelSegEnv | PixelSegVectorEnv) or all(hasattr(base, name) for name in NEEDED):
        return base
    several: Any = getattr(base, "envs", ())  # Gymnasium's SyncVectorEnv
    if len(several) == 1 and isinstance(several[0].unwrapped, PixelSegEnv):
        return several[0].unwrapped
    raise OptionError(
        f"evaluate: expected a PixelSegVectorEnv or a PixelSegEnv, wrapped or not, got {type(base).__name__}"
        f"{f' of {len(several)}' if several else ''}; make one with "
        'gym.make_vec("PixelSegEnv-v0", num_envs=8, ...), which chooses its images by itself'
    )


class _BatchOfOne:
    """A single environment as a batch of one image."""

    num_envs = 1

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env

    def reset(self, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(options=options)
        return np.asarray(observation)[None], _batched(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(actions[0])
        return (
            np.asarray(observation)[None],
            np.asarray(reward)[None],
            np.array([terminated]),
            np.array([truncated]),
            _batched(info),
        )


def _batched(info: dict[str, Any]) -> dict[str, Any]:
    return {key: np.asarray(info[key])[None] for key in ("reward_map", "segmentation", "target")}
