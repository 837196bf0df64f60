"""`pixelseg predict --probabilities`: how sure an agent is of each pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env import OptionError


class Watched:
    """An agent that plays as it does, and whose probabilities are collected.

    Attributes:
        maps: of each batch's episode, float32 (B, [L,] H, W).
    """

    repeats = False  # whatever the agent says: the steps are counted here, and each one has its probabilities

    def __init__(self, agent: Any, horizon: int) -> None:
        self.agent = agent
        self.horizon = horizon
        self.maps: list[NDArray[np.float32]] = []
        self._step = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def predict(self, observation: Any, **more: Any) -> Any:
        """Decides as the agent does."""
        keep = np.asarray(self.agent.keep_probability(observation), np.float32)
        first = self._step % self.horizon == 0
        self._step += 1
        if first:
            self.maps.append(keep)
        else:  # final zeros: to be object, a pixel must be kept at every step
            self.maps[-1] = self.maps[-1] * keep if self.agent.transition == "absorbing" else keep
        return self.agent.predict(observation, **more)


def probabilities(
    agent: Any, images: NDArray[Any], horizon: int, batch: int, play: Callable[[Any], Any]
) -> NDArray[np.float32]:
    """The probability of each pixel to be object.

    Of a supervised network, its own. Of an agent with a policy, what the policy gives along the episode that makes the
    mask: under the absorbing rule the product over the steps of the probability of keep, otherwise that of the last
    step. The product can lie below 0.5 in a pixel that every step keeps, and says less the more steps there are.

    Args:
        agent: whose they are.
        images: (N, C, H, W), uint8 or float32 in [0, 1].
        horizon: steps of an episode.
        batch: images at once.
        play: given an agent, has it play an episode on each image, in order.

    Returns:
        float32 (N, [L,] H, W).

    Raises:
        OptionError: the agent has no probabilities.
    """
    if hasattr(agent, "probability"):
        floats = images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images
        return np.concatenate([agent.probability(floats[k : k + batch]) for k in range(0, len(floats), batch)])
    if not hasattr(agent, "keep_probability") or agent.transition not in ("absorbing", "restorable"):
        raise OptionError(
            f"--probabilities: {agent.name} has none (it compares values, or changes a map); expected an agent with a "
            "policy of two actions, such as pa3c or ac, or a supervised one"
        )
    watched = Watched(agent, horizon)
    play(watched)
    return np.concatenate(watched.maps)[: len(images)]
