"""What was tried around the careful look does what its name says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study import careful
from benchmarks.study.careful import SURE, SureThird, WaitingLabels
from benchmarks.study.crossed import PA3COnUNet
from benchmarks.study.practice import MARGIN, PIXELS, WindowsFirst, boxes
from benchmarks.study.roles import NetworkPerLook, ScalesPerLook
from pixelseg_agents.learning.losses import cross_entropy
from pixelseg_env import PixelSegVectorEnv


@given(
    top=st.integers(0, 50),
    left=st.integers(0, 30),
    height=st.integers(1, 10),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_a_box_holds_the_object_and_no_more_than_its_margins(
    top: int, left: int, height: int, width: int, seed: int
) -> None:
    foreground = torch.zeros(2, 60, 40)
    foreground[0, top : top + height, left : left + width] = 1
    found = boxes(foreground, torch.Generator().manual_seed(seed))
    assert found.shape == foreground.shape
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    assert (found >= foreground).all()
    assert found[1, 15:45, 10:30].all(), "of an empty map, the middle half is left"
    rows, columns = found[0].any(1), found[0].any(0)
    assert found[0].sum() == rows.sum() * columns.sum(), "a box"
    assert rows.sum() <= height + 2 * (MARGIN * height + PIXELS)
    assert columns.sum() <= width + 2 * (MARGIN * width + PIXELS)


OPTIONS: dict[str, Any] = {
    "width": 0.125,
    "look": "closer(side=16)",
    "horizons": (1, 2),
    "horizon_shares": (0.4, 0.6),
    "later_background_weight": 2.0,
}


def env() -> PixelSegVectorEnv:
    return PixelSegVectorEnv(2, "phantom", size=32, observation="stacked", observe_time=True, count=4)


def test_every_other_batch_of_one_look_begins_at_the_second() -> None:
    agent = WindowsFirst(env(), **OPTIONS)
    looks: list[tuple[int, bool]] = []
    forward = agent._forward

    def looked(observation: torch.Tensor) -> torch.Tensor:
        whole = bool((observation[:, agent.task.image_channels] == 1).all())  # of the map
        looks.append((agent.updates, whole))
        return forward(observation)

    agent._forward = looked  # type: ignore[method-assign]
    agent.learn(10)
    first = sum(agent.config.schedule(10).horizon(update) == 1 for update in range(10))
    assert first > 2
    assert [whole for update, whole in looks if update < first] == [update % 2 == 0 for update in range(first)]
    assert len(looks) == first + 2 * (10 - first)
    assert agent.passes == 2 * len(looks)
    first_look, second = agent._reward_weights(torch.zeros(1, 2, 2), 3.0)
    assert not torch.equal(first_look, second)
    agent._begins_late = True
    (only,) = agent._reward_weights(torch.zeros(1, 2, 2), 3.0)
    assert torch.equal(only, second), "a batch that begins at the second look earns as the second look does"


def test_a_third_look_earns_little_by_what_is_not_surely_background() -> None:
    agent = SureThird(
        env(), width=0.125, look="closer(side=16)", final_foreground_weight=3.0, later_background_weight=2.0
    )
    foreground = torch.tensor([[[0.0, 1.0]]])
    assert [one.flatten().tolist() for one in agent._reward_weights(foreground, 3.0)] == [[1, 3], [2, 3], [2 * SURE, 3]]


def test_a_first_look_at_labels_waits_and_the_second_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = WaitingLabels(env(), **OPTIONS, foreground_weight=1.0, final_foreground_weight=1.0)
    factors: list[tuple[int, float]] = []

    def watched(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, *rest: Any) -> torch.Tensor:
        assert (weights[target == 0] == 1).all()
        factors.append((agent.updates, weights[target == 1].unique().item()))
        return cross_entropy(logits, target, weights, *rest)

    monkeypatch.setattr(careful, "cross_entropy", watched)
    agent.learn(8)
    looks = [agent.config.schedule(8).horizon(update) for update in range(8)]
    assert set(looks) == {1, 2}
    assert factors == [(update, factor) for update in range(8) for factor in (20.0, 1.5)[: looks[update]]]


def test_images_of_which_something_is_gone_have_a_network_of_their_own() -> None:
    agent = NetworkPerLook(env(), **OPTIONS)
    first, later = ([one.detach().clone() for one in agent.parts[name].parameters()] for name in ("network", "later"))
    assert any(not torch.equal(one, other) for one, other in zip(first, later, strict=True))
    copied: list[bool] = []
    rollout = agent._rollout

    def watched(*arguments: Any) -> Any:
        pairs = zip(agent.parts["network"].parameters(), agent.parts["later"].parameters(), strict=True)
        copied.append(all(torch.equal(one, other) for one, other in pairs))
        return rollout(*arguments)

    agent._rollout = watched  # type: ignore[method-assign]
    agent.learn(8)
    horizons = [agent.config.schedule(8).horizon(update) for update in range(8)]
    assert copied == [update == horizons.index(2) for update in range(8)], "when windows begin, and never again"
    observation = torch.rand(2, agent.task.channels, 32, 32)
    kept = slice(agent.task.image_channels, agent.task.image_channels + 1)
    observation[:, kept] = 1
    observation[1, kept, :9] = 0
    with torch.no_grad():
        agent.network.eval()
        alone = [agent._looked(agent.parts[name], observation) for name in ("network", "later")]
        for got, *own in zip(agent._forward(observation), *alone, strict=True):
            torch.testing.assert_close(got, torch.stack([own[0][0], own[1][1]]))


def test_scales_are_those_of_the_look() -> None:
    """Another second look moves no first one; they begin as those of one network, and both learn."""
    agent = ScalesPerLook(env(), **OPTIONS)
    plain = PA3COnUNet(env(), **OPTIONS)
    observation = torch.rand(2, agent.task.channels, 32, 32)
    kept = slice(agent.task.image_channels, agent.task.image_channels + 1)
    observation[:, kept] = 1
    observation[1, kept, :9] = 0

    def looked(one: PA3COnUNet, observation: torch.Tensor) -> torch.Tensor:
        one.network.eval()
        with torch.no_grad():
            found: torch.Tensor = one._forward(observation)[0]
        return found

    torch.testing.assert_close(looked(agent, observation), looked(plain, observation))
    own = {name: one for name, one in agent.network.named_parameters() if name.endswith((".scale", ".shift"))}
    assert len(own) > 20
    agent.learn(8)
    assert sum(bool(one.any()) for one in own.values()) > 0.9 * len(own)
    observation = observation.flip(0)  # in the other order, so that no role is left over
    before = looked(agent, observation)
    for one in own.values():
        one.data += 0.5
    after = looked(agent, observation)
    torch.testing.assert_close(after[1], before[1])
    assert (after[0] - before[0]).abs().max() > 0.01
