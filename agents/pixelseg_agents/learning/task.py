"""What an agent has to know about its environment, and where it asks for it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_env import OptionError
from pixelseg_env.dynamics import THRESHOLD, image_channels

Draw = Callable[[NDArray[np.int64]], tuple[Any, Any]]


@dataclass(frozen=True)
class AgentTask:
    """The task that an agent was made for.

    Attributes:
        channels: of an observation.
        transition: what an action does, see `PixelSegEnv`.
        observation: what an agent sees, see `PixelSegEnv`.
        label_names: what is segmented, a name per label.
        observe_time: whether the last channel shows the steps left.
    """

    channels: int
    transition: str = "absorbing"
    observation: str = "masked"
    label_names: tuple[str, ...] = ("object",)
    observe_time: bool = False

    @property
    def labels(self) -> int:
        """L, the number of labels."""
        return len(self.label_names)

    @property
    def image_channels(self) -> int:
        """C of an image."""
        return image_channels(self.channels, self.observation, self.labels, self.observe_time)

    @property
    def copies(self) -> int:
        """How often the image comes in an observation: once under the map of each label, or once beside the maps."""
        return 1 if self.observation == "stacked" else self.labels

    def kept(self, observation: Tensor) -> Tensor:
        """Where the map that an observation shows keeps something, bool (B, H, W); of several labels: any of them.

        When masked, pixels whose image is 0 in every channel look like removed ones.
        """
        image = self.image_channels * self.copies
        if self.observation != "stacked":
            return (observation[:, :image] != 0).any(1)
        return (observation[:, image : image + self.labels] >= THRESHOLD).any(1)

    @classmethod
    def of(cls, env: Any, agent: str) -> Self:
        """Reads the task off a vector environment.

        Args:
            env: the environment.
            agent: who asks, for messages.

        Raises:
            OptionError: `env` is not a vector environment, or its observations are no images.
        """
        if not isinstance(env, VectorEnv):
            raise OptionError(
                f'{agent}: expected a vector environment, such as gym.make_vec("PixelSegEnv-v0", num_envs=8), '
                f"got {type(env).__name__}"
            )
        shape = env.single_observation_space.shape
        if shape is None or len(shape) != 3:
            raise OptionError(f"{agent}: expected observations of shape (C, H, W), got {shape}")
        form = attribute(env, "actions", "map")
        if form != "map":
            raise OptionError(
                f"{agent}: decides over maps, so expected an environment with actions='map', got {form!r}"
            )
        actions = env.single_action_space.shape or ()
        names: tuple[str, ...] = ("object",)
        if len(actions) == 3:  # (L, H, W): one policy and value per label
            names = tuple(getattr(attribute(env, "dataset", None), "label_names", map(str, range(actions[0]))))
        return cls(
            int(shape[0]),
            str(attribute(env, "transition", "absorbing")),
            str(attribute(env, "observation", "masked")),
            names,
            bool(attribute(env, "observe_time", False)),
        )

    def check_fits(self, env: Any, path: Any) -> None:
        """Refuses an environment that an agent of this task cannot go on in.

        Args:
            env: the environment.
            path: the agent's checkpoint, for messages.

        Raises:
            OptionError: labels, channels, transition, observation or the view of time differ.
        """
        found = AgentTask.of(env, str(path))
        if found.labels != self.labels:
            raise OptionError(
                f"{path}: the agent was trained on {self.labels} label(s), the environment has {found.labels}; "
                "use the same dataset and labels"
            )
        time_differs = attribute(env, "observe_time", None) is not None and found.observe_time != self.observe_time
        if found.channels != self.channels and not time_differs:
            raise OptionError(
                f"{path}: the agent was trained on {self.channels} channels, the environment's observations "
                f"have shape {env.single_observation_space.shape}; use the same dataset, channels and observation"
            )
        for name in ("transition", "observation", "observe_time"):
            trained, given = getattr(self, name), getattr(found, name)
            if attribute(env, name, None) is not None and given != trained:
                raise OptionError(
                    f"{path}: the agent was trained with {name}={trained!r}, the environment has {given!r}; "
                    f"make it with {name}={trained!r}"
                )


def attribute(env: Any, name: str, default: Any) -> Any:
    """A public attribute of a vector environment, or of the first environment that it holds."""
    base = env.unwrapped
    if hasattr(base, name):
        return getattr(base, name)
    if hasattr(base, "envs"):  # get_attr would call what can be called, such as a reward
        base = base.envs[0]
        return base.get_wrapper_attr(name) if base.has_wrapper_attr(name) else default
    try:
        return base.get_attr(name)[0]
    except AttributeError:
        return default


def draw_of(env: Any, info: Mapping[str, Any], agent: str) -> Draw:
    """What gives images and targets by their numbers, for agents that keep numbers instead of pixels.

    Args:
        env: a vector environment.
        info: what it tells about the images at hand.
        agent: who asks, for messages.

    Raises:
        OptionError: it has no data set, or does not tell which of its images are at hand.
    """
    dataset = attribute(env, "dataset", None)
    if dataset is None or "index" not in info:
        raise OptionError(
            f'{agent}: expected an environment with `dataset` and `info["index"]`, as PixelSegVectorEnv has: the '
            "replay stores an image's number, not its pixels"
        )
    draw: Draw = attribute(env, "draw", dataset.batch)
    return draw


def fingerprint(dataset: Any) -> int:
    """A number that changes with a data set's images and masks: two that have the same are taken for one."""
    found = zlib.crc32(repr((len(dataset), dataset.image_shape)).encode())
    for array in (dataset.masks, dataset.images[:1], dataset.images[-1:]):
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found


def dataset_length(env: VectorEnv[Any, Any, Any]) -> int:
    """Images of the environment's data set; where it has none that is known, those of one batch."""
    dataset = attribute(env, "dataset", None)
    return len(dataset) if dataset is not None else env.num_envs
