"""Who can act in the lab: strategies that show what a reward pays for, and trained agents with their thoughts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_agents.evaluation.play import sees_time
from pixelseg_agents.lab.episode import Field, Map, Rules, play
from pixelseg_agents.references import Otsu, Random
from pixelseg_env import OptionError, SegmentationDataset

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


class Actor:
    """A trained agent under a name.

    Args:
        title: for people to read.
        agent: a `PixelAgent`, or what has its `predict`, `observation` and `transition`.

    Raises:
        OptionError: the agent has more than two actions, or decides about several labels.
    """

    def __init__(self, title: str, agent: Any) -> None:
        if getattr(agent, "transition", "") == "additive":
            raise OptionError(f"{title}: its actions add to probabilities, and the lab has zero and keep; leave it out")
        if len(getattr(agent, "label_names", ("object",))) > 1:
            raise OptionError(f"{title}: it segments several labels, and the lab shows one; leave it out")
        self.title, self.agent = title, agent

    def seen_by(self, rules: Rules) -> Rules:
        """The same rules, with the observation that the agent was trained on."""
        return replace(rules, observation=self.agent.observation, observe_time=sees_time(self.agent))

    def check(self, dataset: SegmentationDataset) -> None:
        """Raises OptionError where the agent was trained on images with another number of channels."""
        channels = int(getattr(self.agent, "image_channels", dataset.image_shape[0]))
        if channels != dataset.image_shape[0]:
            raise OptionError(
                f"{self.title} was trained on images of {channels} channel(s), and this one has "
                f"{dataset.image_shape[0]}; choose another image, or another agent"
            )

    def act(self, observation: Field, sampled: bool = False) -> Map:
        """Its actions, uint8 (H, W): the likeliest ones, or drawn from its policy."""
        actions, _ = self.agent.predict(observation[None], deterministic=not sampled)
        return np.asarray(actions[0], np.uint8).reshape(observation.shape[-2:])

    def thoughts(self, image: Field, segmentation: Map, observation: Field) -> Thoughts:
        """What it makes of a state."""
        agent, batch = self.agent, observation[None]
        keep = agent.keep_probability(batch)[0] if hasattr(agent, "keep_probability") else None
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
    """The next joint action of a strategy or an agent, uint8 (H, W).

    Args:
        who: a key of `STRATEGIES`, or an agent.
        dataset: of one label.
        index: which image.
        rules: of the game.
        actions: what has been done so far.
        sampled: whether an agent draws from its policy.

    Raises:
        OptionError: the strategy is not known, or the agent does not fit the image.
    """
    if isinstance(who, Actor):
        who.check(dataset)
        return who.act(play(dataset, index, who.seen_by(rules), actions).observations[-1], sampled)
    episode = play(dataset, index, rules, actions)
    shape = episode.target.shape
    match who:
        case "flip":
            return np.asarray(1 - episode.maps[-1], np.uint8)
        case "truth":
            return episode.target.copy()
        case "keep" | "zero":
            return np.full(shape, who == KEEP, np.uint8)
        case "otsu":  # of the whole image
            return np.asarray(Otsu().predict(episode.image[None])[0][0], np.uint8)
        case "random":
            drawn, _ = Random(seed=len(actions) + 1000 * index).predict(episode.image[None])
            return np.asarray(drawn[0], np.uint8)
    raise OptionError(f"{who!r} is no strategy; expected one of {', '.join(STRATEGIES)}")
