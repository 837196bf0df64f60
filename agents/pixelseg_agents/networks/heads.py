"""What an agent puts on a network of another's: heads on the decoder's last features."""

from __future__ import annotations

from torch import Tensor, nn

from pixelseg_agents.networks.base import SegmentationNetwork, features_of


def signed(features: int) -> nn.GroupNorm:
    """What stands between features and an agent's heads, so that no pixel is silent in all of them.

    Most decoders end with a ReLU. There a narrow network's features come to speak for the many background pixels first,
    rare foreground ends where all of them are 0, and its logit is the head's bias, which moves by one learning rate
    an update. (Our own networks have no ReLU there for that reason; see "All zero because no logit could rise" in
    benchmarks/LOG.md.) With the mean of all features taken off, 0 becomes a negative number, and every weight of the
    head moves the logits of silent pixels. (PA3C on a U-Net that ends with a ReLU, width 0.125, phantoms, Dice after
    150 updates: 0.788 with it, 0.452 without; where there is no ReLU it makes no difference, 0.832 and 0.823.)

    One group for all channels. With a group for each, every map of features would have mean 0 over the image, and the
    mean logit would hang on biases alone again.
    """
    return nn.GroupNorm(1, features)


class ActorCriticHeads(nn.Module):
    """Policy and value of every pixel on the features of any network: a 1x1 convolution for each.

    Args:
        network: its own heads are not used, so make it with `labels=0`.
        labels: L; with L > 1 every pixel has a policy and a value for each label.
        actions: 1 for a Bernoulli policy, K for a categorical one (of one label).
        start_bias: added to the keep logit before training.
    """

    def __init__(
        self, network: SegmentationNetwork, *, labels: int = 1, actions: int = 1, start_bias: float = 0.0
    ) -> None:
        super().__init__()
        self.network, self.labels, self.actions = network, labels, actions
        self.signed = signed(network.features)
        self.policy = nn.Conv2d(network.features, labels * actions, 1)
        self.value = nn.Conv2d(network.features, labels, 1)
        for layer, bias in ((self.policy, start_bias), (self.value, 0.0)):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Maps an observation to logits and values.

        Args:
            observation: float32 (B, C, H, W).

        Returns:
            Keep logits and values, both float32 (B, H, W), or (B, L, H, W) with L > 1 labels; the logits of K actions
            are (B, K, H, W).
        """
        features = self.signed(features_of(self.network, observation))
        logits, values = self.policy(features), self.value(features)
        return self._shaped(logits), values if self.labels > 1 else values[:, 0]

    def decide(self, observation: Tensor) -> Tensor:
        """The logits alone: as `forward`'s first, to the bit."""
        logits: Tensor = self.policy(self.signed(features_of(self.network, observation)))
        return self._shaped(logits)

    def _shaped(self, logits: Tensor) -> Tensor:
        return logits if max(self.labels, self.actions) > 1 else logits[:, 0]


class QHeads(nn.Module):
    """Q-values of both actions for every pixel on the features of any network.

    Args:
        network: its own heads are not used, so make it with `labels=0`.
        dueling: Q = V + A - mean(A), see `QNetwork`.
        labels: L; with L > 1 every pixel has Q-values for each label.
    """

    def __init__(self, network: SegmentationNetwork, *, dueling: bool = False, labels: int = 1) -> None:
        super().__init__()
        self.network, self.labels, self.dueling = network, labels, dueling
        self.signed = signed(network.features)
        self.actions = nn.Conv2d(network.features, 2 * labels, 1)
        self.value = nn.Conv2d(network.features, labels, 1) if dueling else None

    def forward(self, observation: Tensor) -> Tensor:
        """Maps float32 (B, C, H, W) to Q-values (B, 2, H, W), zero's and keep's; (B, 2, L, H, W) with labels."""
        features = self.signed(features_of(self.network, observation))
        return q_values(self.actions(features), None if self.value is None else self.value(features), self.labels)


def q_values(actions: Tensor, value: Tensor | None, labels: int) -> Tensor:
    """Q of what the layers give.

    Args:
        actions: Q-values, or with `value` advantages, (B, 2L, H, W).
        value: of the states, (B, L, H, W); None: not dueling.
        labels: L.

    Returns:
        (B, 2, H, W), zero's and keep's; (B, 2, L, H, W) with L > 1 labels.
    """
    q: Tensor = actions.unflatten(1, (2, labels))  # type: ignore[no-untyped-call]
    if value is not None:
        q = value[:, None] + q - q.mean(dim=1, keepdim=True)
    return q if labels > 1 else q[:, :, 0]
