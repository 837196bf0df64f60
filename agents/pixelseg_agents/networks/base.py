"""What every segmentation network shares: features for any agent's heads, and supervised heads of its own."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pixelseg_env import OptionError


class SegmentationNetwork(nn.Module):
    """A network that maps observations to features and, with heads of its own, to logits.

    Any agent can stand on it: it takes what `decode` returns, `features` channels at the resolution of the observation,
    and puts its own heads on them. The supervised agent uses the network's own heads (`outputs`).

    A subclass takes `(channels=3, width=1.0, *, norm="group", labels=1)`, sets `features` and `labels`, and has the two
    methods. With `labels=0` it has no heads, and no parameter that `decode` does not use.

    Group normalisation takes batch normalisation's place unless a subclass says otherwise: as many parameters, and the
    same function in training and in use, whatever the batch.

    Attributes:
        features: channels of what `decode` returns.
        labels: L of its own heads; 0: none.
    """

    label: ClassVar[str]  # its name in tables
    source: ClassVar[str]  # who proposed it, and whose code it is
    published: ClassVar[float | None] = None  # millions of parameters that the publication states
    multiple: ClassVar[int] = 1  # sides are padded to multiples of it
    smallest: ClassVar[int] = 1  # the smallest side of an image that it takes
    traces_any_size: ClassVar[bool] = True  # whether a graph that was traced at one size holds for others (export)
    output_weights: ClassVar[tuple[float, ...]] = (1.0,)  # of `outputs` in the loss: deep supervision has several

    features: int
    labels: int

    def decode(self, observation: Tensor) -> Tensor:
        """The decoder's last features, float32 (B, features, H, W), of an observation (B, C, H, W)."""
        raise NotImplementedError

    def outputs(self, observation: Tensor) -> list[Tensor]:
        """Logits (B, L, H, W) of every head that is trained, as many as `output_weights`; the first plays episodes."""
        raise NotImplementedError

    def forward(self, observation: Tensor) -> Tensor:
        """Maps float32 (B, C, H, W) to the logits of being object, (B, H, W), or (B, L, H, W) with L > 1 labels."""
        logits = self.outputs(observation)[0]
        return logits if self.labels > 1 else logits[:, 0]


def features_of(network: SegmentationNetwork, observation: Tensor) -> Tensor:
    """What `decode` returns, if it is as the contract says: a third party's need not be.

    Raises:
        OptionError: it has another shape.
    """
    features = network.decode(observation)
    check_shape(network, "decode", features, (len(observation), network.features, *observation.shape[-2:]))
    return features


def check_shape(network: nn.Module, method: str, found: Tensor, expected: tuple[int, ...]) -> None:
    """Refuses what a network's method returns in another shape.

    Raises:
        OptionError: the message names network, method and shapes.
    """
    if tuple(found.shape) != expected:
        kind = type(network)
        raise OptionError(
            f"network {kind.__module__}:{kind.__qualname__}: {method}() returned shape {tuple(found.shape)}, expected "
            f"{expected}: the height and width of the observation, and as many channels as `features` or `labels` say"
        )


def padded(observation: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Continues (B, C, H, W) at the right and the bottom with its edge values.

    Args:
        observation: what is to be padded.
        multiple: both sides become multiples of it.
        smallest: both sides become at least this long.
    """
    height, width = observation.shape[-2:]
    # What is missing to `smallest`, without a comparison: an exported graph has to hold for every size.
    down, right = ((smallest - side + abs(smallest - side)) // 2 for side in (height, width))
    down, right = down + -(height + down) % multiple, right + -(width + right) % multiple
    return F.pad(observation, (0, right, 0, down), mode="replicate") if down or right else observation
