"""Who can act in the lab: strategies that show what a reward pays for, and trained agents with their thoughts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation.play import sees_time
from pixelseg_agents.lab.episode import Episode, Field, Map, Rules, play
from pixelseg_agents.references import Otsu, Random
from pixelseg_env import OptionError, SegmentationDataset
from pixelseg_env.dynamics import GRADED

FLIP, TRUTH, KEEP, ZERO, OTSU, RANDOM = "flip", "truth", "keep", "zero", "otsu", "random"
STRATEGIES = {
    FLIP: "Flip every pixel, at every step",
    TRUTH: "Keep exactly the object (knows the truth)",
    KEEP: "Keep everything",
    ZERO: "Zero everything",
    OTSU: "Threshold the brightness (Otsu)",
    RANDOM: "Toss a coin for every pixel",
}


@dataclass(frozen=True)
class Thoughts:
    """What an agent makes of a state, as far as it tells.

    Attributes:
        keep: the probability with which it keeps a pixel, float32 (H, W).
        entropy: of its policy, in bits, float32 (H, W).
        value: what it expects to earn from here on, float32 (H, W).
        seen: what its network is shown, float32 (C, h, w); several windows beside each other.
        windows: the squares of the image that these are, (K, 3): first row, first column, side; None: all of it.
    """

    keep: Field | None = None
    entropy: Field | None = None
    value: Field | None = None
    seen: Field | None = None
    windows: NDArray[np.float32] | None = None

    def of_label(self, label: int, labels: int) -> Thoughts:
        """What concerns one of several labels alone."""
        if labels == 1:
            return self
        fields = {name: getattr(self, name) for name in ("keep", "entropy", "value")}
        return replace(self, **{k: v[label] if v is not None and v.ndim == 3 else v for k, v in fields.items()})


class Actor:
    """A trained agent under a name.

    Args:
        title: for people to read.
        agent: a `PixelAgent`, or what has its `predict`, `observation` and `transition`.
    """

    def __init__(self, title: str, agent: Any) -> None:
        self.title, self.agent = title, agent
        self.graded = getattr(agent, "transition", "") in GRADED

    def seen_by(self, rules: Rules) -> Rules:
        """The same rules, with the observation that the agent was trained on."""
        return replace(rules, observation=self.agent.observation, observe_time=sees_time(self.agent))

    def check(self, dataset: SegmentationDataset, rules: Rules) -> None:
        """Raises OptionError where the agent was trained for images, labels or a transition that do not fit."""
        if self.graded and not rules.graded:
            raise OptionError(
                f"{self.title} adds amounts to probabilities; choose the transition "
                f"{' or '.join(GRADED)}, not {rules.transition}"
            )
        labels = len(getattr(self.agent, "label_names", ("object",)))
        if labels != dataset.labels:
            raise OptionError(
                f"{self.title} was trained for {labels} label(s), and this data set has {dataset.labels}; choose "
                "another data set, or another agent"
            )
        channels = int(getattr(self.agent, "image_channels", dataset.image_shape[0]))
        if channels != dataset.image_shape[0]:
            raise OptionError(
                f"{self.title} was trained on images of {channels} channel(s), and this one has "
                f"{dataset.image_shape[0]}; choose another image, or another agent"
            )

    def act(self, observation: Field, shape: tuple[int, ...], rules: Rules, sampled: bool = False) -> Map:
        """Its actions, uint8 of that shape, ([L,] H, W): the likeliest ones, or drawn from its policy."""
        actions, _ = self.agent.predict(observation[None], deterministic=not sampled)
        found = np.asarray(actions[0], np.uint8).reshape(shape)
        return found if self.graded else rules.carried(found)

    def thoughts(self, image: Field, segmentation: Map, observation: Field) -> Thoughts:
        """What it makes of a state."""
        agent, batch = self.agent, observation[None]
        tells = hasattr(agent, "keep_probability") and not self.graded
        keep = agent.keep_probability(batch)[0] if tells else None
        value = agent.state_value(batch)[0] if hasattr(agent, "state_value") else None
        seen = np.concatenate(agent.seen(batch)[0], axis=-1) if hasattr(agent, "seen") else None
        windows = agent.windows(image[None], segmentation[None]) if hasattr(agent, "windows") else None
        return Thoughts(
            keep, None if keep is None else entropy(keep), value, seen, None if windows is None else windows[0]
        )


def entropy(keep: Field) -> Field:
    """The entropy of a choice between two, in bits: 1 for a tossed coin, 0 where it is certain."""
    p = np.clip(keep.astype(np.float64), 1e-12, 1 - 1e-12)
    return (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).astype(np.float32)


def decide(
    who: str | Actor,
    dataset: SegmentationDataset,
    index: int,
    rules: Rules,
    actions: Sequence[NDArray[Any]],
    sampled: bool = False,
) -> Map:
    """The next joint action of a strategy or an agent, uint8 ([L,] H, W).

    Args:
        who: a key of `STRATEGIES`, or an agent.
        dataset: where it is from.
        index: which image.
        rules: of the game.
        actions: what has been done so far.
        sampled: whether an agent draws from its policy.

    Raises:
        OptionError: the strategy is not known, or the agent does not fit the image.
    """
    if isinstance(who, Actor):
        who.check(dataset, rules)
        episode = play(dataset, index, who.seen_by(rules), actions)
        return who.act(episode.observations[-1], episode.target.shape, rules, sampled)
    episode = play(dataset, index, rules, actions)
    return rules.carried(_by_strategy(who, episode, seed=len(actions) + 1000 * index))


def _by_strategy(who: str, episode: Episode, seed: int) -> NDArray[Any]:
    """What a strategy keeps at the end of an episode, 0 or 1, ([L,] H, W)."""
    shape = episode.target.shape
    images = np.broadcast_to(episode.image, (int(np.prod(shape[:-2])), *episode.image.shape))  # one for each label
    match who:
        case "flip":
            return np.asarray(1 - episode.maps[-1])
        case "truth":
            return episode.target.copy()
        case "keep" | "zero":
            return np.full(shape, who == KEEP, np.uint8)
        case "otsu":  # of the whole image
            return np.asarray(Otsu().predict(images)[0]).reshape(shape)
        case "random":
            return np.asarray(Random(seed=seed).predict(images)[0]).reshape(shape)
    raise OptionError(f"{who!r} is no strategy; expected one of {', '.join(STRATEGIES)}")
