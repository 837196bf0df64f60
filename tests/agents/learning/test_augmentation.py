"""Turning what the policy sees, and turning its actions back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelseg_agents import DQN, PA3C, PA3CConfig
from pixelseg_agents.learning.augmentation import Augmentation
from pixelseg_env import OptionError, PixelSegVectorEnv
from tests.helpers.env import small_set


def drawn(shape: tuple[int, ...], channels: int, seed: int = 0, brightness: float = 0.2) -> Augmentation:
    return Augmentation(
        shape[0],
        channels,
        square=shape[-1] == shape[-2],
        generator=torch.Generator().manual_seed(seed),
        device=torch.device("cpu"),
        brightness=brightness,
    )


def symmetries(image: Tensor) -> list[Tensor]:
    """The eight turns of a square (H, W)."""
    turns = [torch.rot90(image, k) for k in range(4)]
    return turns + [turn.flip(-1) for turn in turns]


def test_restore_undoes_maps_and_all_symmetries_occur() -> None:
    maps = torch.randn(64, 6, 6)
    turn = drawn(maps.shape, 1)
    turned = turn.maps(maps)
    assert torch.equal(turn.restore(turned), maps)
    assert torch.equal(turn.maps(turn.restore(maps)), maps)
    seen = {next(k for k, s in enumerate(symmetries(maps[i])) if torch.equal(s, turned[i])) for i in range(64)}
    assert seen == set(range(8))
    assert torch.equal(turn.maps(turn.restore(maps) > 0), maps > 0), "booleans too"


def test_images_that_are_not_square_keep_their_shape() -> None:
    maps = torch.randn(64, 4, 7)
    turn = drawn(maps.shape, 1)
    turned = turn.maps(maps)
    assert turned.shape == maps.shape
    assert torch.equal(turn.restore(turned), maps)
    seen = set()
    for i in range(64):
        flips = (maps[i], maps[i].flip(0), maps[i].flip(1), maps[i].flip(0, 1))
        seen.add(next(k for k, s in enumerate(flips) if torch.equal(s, turned[i])))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("shape", [(32, 5, 5), (32, 4, 6)])
def test_observations_are_turned_like_maps(shape: tuple[int, ...]) -> None:
    turn = drawn(shape, 2, brightness=0)
    observation = torch.rand(shape[0], 2, *shape[1:])
    shown = turn.observation(observation)
    for channel in range(2):
        torch.testing.assert_close(shown[:, channel], turn.maps(observation[:, channel]))


def test_brightness_leaves_zeros_the_map_channel_and_the_order_of_pixels() -> None:
    maps = (torch.rand(32, 6, 6) < 0.5).float()
    image = torch.rand(32, 2, 6, 6) * 0.6 + 0.01
    turn = drawn(maps.shape, 2)
    shown = turn.observation(torch.cat([image * maps[:, None], maps[:, None]], dim=1))
    turned = turn.maps(maps)
    assert torch.equal(shown[:, 2], turned), "the stacked map is no image"
    assert torch.equal(shown[:, :2] > 0, (turned[:, None] > 0).expand(-1, 2, -1, -1)), "zeros, and only those"
    assert shown.min() >= 0
    assert shown.max() <= 1
    plain = turn.maps(image * maps[:, None])
    ratio = (shown[:, :2] / plain)[plain > 0.3]
    assert ratio.min() < 0.85
    assert ratio.max() > 1.15
    for i in range(32):
        for channel in range(2):
            order = plain[i, channel].flatten().argsort()
            assert (shown[i, channel].flatten()[order].diff() >= 0).all()


def test_one_draw_holds_for_a_whole_episode() -> None:
    image = torch.rand(8, 1, 6, 6)
    maps = (torch.rand(8, 6, 6) < 0.5).float()
    turn = drawn((8, 6, 6), 1)
    whole, carved = turn.observation(image), turn.observation(image * maps[:, None])
    assert torch.equal(carved, whole * turn.maps(maps)[:, None])


def test_the_generator_decides() -> None:
    image = torch.rand(8, 1, 6, 6)
    assert torch.equal(drawn((8, 6, 6), 1, 5).observation(image), drawn((8, 6, 6), 1, 5).observation(image))
    assert not torch.equal(drawn((8, 6, 6), 1, 5).observation(image), drawn((8, 6, 6), 1, 6).observation(image))


@pytest.mark.parametrize("copies", [1, 2])
def test_missing_sequences_show_another_one_of_the_same_image(copies: int) -> None:
    """Masked observations have the image once for each label, under its map; a stacked map behind it stays."""
    images = torch.rand(400, 3, 2, 2)
    seen = torch.cat([images] * copies + [torch.full((400, 1, 2, 2), 0.5)], dim=1)
    turn = Augmentation(
        400,
        3,
        square=True,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        copies=copies,
        brightness=0.0,
        missing=0.6,
    )
    turned = turn.observation(seen)
    back = turn.restore(turned)  # as maps are turned back
    assert (back[:, -1] == 0.5).all()
    shown = back[:, :-1].view(400, copies, 3, 2, 2)
    same = (shown[:, 0, :, None] - images[:, None]).abs().amax((-2, -1)) < 1e-6  # (image, shown channel, own channel)
    assert same.any(2).all(), "every channel is one of the same image"
    strangers = ~same[:, torch.arange(3), torch.arange(3)]
    replaced = strangers.any(1)
    assert 0.6 * 0.75 - 0.08 < replaced.float().mean() < 0.6 * 0.75 + 0.08  # two others, each at even odds
    stand_ins = [{int(k) for k in same[i].int().argmax(1)[strangers[i]]} for i in replaced.nonzero().flatten()]
    assert all(len(one) == 1 for one in stand_ins), "one channel stands in for all that are missing"
    assert set.union(*stand_ins) == {0, 1, 2}
    for copy in range(1, copies):
        assert torch.equal(shown[:, copy], shown[:, 0])


def test_without_missing_sequences_draws_are_as_they_were() -> None:
    images = torch.rand(8, 3, 4, 4)
    one, other = (drawn((8, 4, 4), 3).observation(images) for _ in range(2))
    assert torch.equal(one, other)
    assert drawn((8, 4, 4), 3)._sources is None


def test_missing_sequences_need_channels_that_can_stand_in() -> None:
    env = PixelSegVectorEnv(1, "phantom", size=16, count=4, labels=2)  # one channel, under the map of each label
    with pytest.raises(OptionError, match=r"missing_sequences=0\.3: images have one channel"):
        PA3C(env, width=0.05, device="cpu", missing_sequences=0.3)


def test_one_channel_stands_in_for_all_others_where_it_is_named() -> None:
    images = torch.rand(200, 3, 2, 2)
    draws = torch.Generator().manual_seed(0)
    turn = Augmentation(
        200, 3, square=True, generator=draws, device=torch.device("cpu"), brightness=0.0, missing=1.0, stand_in=1
    )
    shown = turn.restore(turn.observation(images))
    assert torch.equal(shown[:, 1], images[:, 1]), "it never goes itself"
    for channel in (0, 2):
        own, other = ((shown[:, channel] == images[:, k]).flatten(1).all(1) for k in (channel, 1))
        assert (own | other).all()
        assert 0.4 < other.float().mean() < 0.6
    env = PixelSegVectorEnv(4, small_set(channels=3), horizon=1)
    with pytest.raises(OptionError, match=r"missing_stand_in=3: expected a channel of the images, from 0 to 2"):
        PA3C(env, width=0.05, device="cpu", missing_sequences=0.3, missing_stand_in=3)
    with pytest.raises(OptionError, match=r"missing_stand_in=1 is not valid: .*missing_sequences above 0"):
        PA3CConfig(missing_stand_in=1)


@pytest.mark.parametrize("kind", [PA3C, DQN])
def test_agents_train_on_missing_sequences(kind: Any) -> None:
    """Where all images have some, a training is another one; nothing else is drawn differently."""
    found = []
    for missing, stand_in in ((0.0, None), (1.0, None), (1.0, 1)):
        env = PixelSegVectorEnv(4, small_set(channels=3), horizon=1)
        options = {"learning_starts": 4} if kind is DQN else {}
        agent = kind(
            env,
            missing_sequences=missing,
            missing_stand_in=stand_in,
            width=0.05,
            horizons=(1,),
            device="cpu",
            **options,
        ).learn(2)
        found.append(torch.cat([one.detach().flatten() for one in agent._parameters]))
    assert not any(torch.equal(*pair) for pair in itertools.combinations(found, 2))
