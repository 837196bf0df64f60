"""How agents look at observations: windows, what networks are shown of them, and what is made of what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pixelseg_agents import AC, DQN, PA3C, Closer, Look, PA3CConfig, PixelRL, Supervised
from pixelseg_agents.evaluation.figures import step_figure
from pixelseg_agents.learning.boxes import mostly
from pixelseg_agents.learning.looking import WholeImage, make_look
from pixelseg_agents.learning.resampling import cut_out, spread_back
from pixelseg_agents.learning.task import AgentTask
from pixelseg_env import OptionError, PixelSegVectorEnv, SegmentationDataset
from tests.helpers.env import small_set

SIZES = [(64, 64), (80, 50), (33, 97)]


def blob(height: int, width: int, top: int, left: int, side: int) -> Tensor:
    """A map (1, H, W) that keeps a square."""
    kept = torch.zeros(1, height, width, dtype=torch.bool)
    kept[:, top : top + side, left : left + side] = True
    return kept


def turned(maps: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of the square, of (..., H, W)."""
    maps = maps.rot90(turn % 4, (-2, -1))
    return maps.flip(-1) if turn >= 4 else maps


# ---------------------------------------------------------------- windows


@settings(max_examples=40)
@given(
    size=st.sampled_from(SIZES),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    side=st.integers(1, 30),
    turn=st.integers(0, 7),
)
def test_a_window_holds_the_object_lies_in_the_image_and_turns_with_it(
    size: tuple[int, int], place: tuple[float, float], side: int, turn: int
) -> None:
    height, width = size
    kept = blob(height, width, int(place[0] * (height - side)), int(place[1] * (width - side)), side)
    look = Closer(side=16, smallest=12, border=1)
    ((window,),) = look.squares(kept)
    rows, columns = torch.where(kept[0])
    for axis, (found, length) in enumerate(((rows, height), (columns, width))):
        first, end = float(window[axis]), float(window[axis] + window[2])
        assert first <= float(found.min()), "not all of the object"
        assert end >= float(found.max()) + 1
        if float(window[2]) <= length:
            assert -1e-3 <= first <= end <= length + 1e-3
    assert 12 <= float(window[2]) <= max(size)
    image = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(side))
    seen = cut_out(image, look.squares(kept)[:, 0], 16)
    again = turned(image, turn)
    assert torch.allclose(cut_out(again, look.squares(turned(kept, turn))[:, 0], 16), turned(seen, turn), atol=1e-4)


def test_pixels_that_stand_alone_do_not_widen_a_window() -> None:
    draws = torch.Generator().manual_seed(0)
    kept = blob(128, 128, 40, 50, 20)
    noisy = kept | (torch.rand(kept.shape, generator=draws) < 0.1)
    look = Closer(smallest=20)
    clean, spoilt = look.squares(kept)[0, 0], look.squares(noisy)[0, 0]
    assert float((clean - spoilt).abs().max()) < 5
    alone = blob(128, 128, 7, 9, 1)
    assert look.squares(alone)[0, 0].tolist() == [0, 0, 20], "an object of one pixel is one all the same"


def test_first_looks_and_empty_maps_show_the_whole_image() -> None:
    for height, width in SIZES:
        longest = max(height, width)
        for kept in (torch.ones(2, height, width, dtype=torch.bool), torch.zeros(2, height, width, dtype=torch.bool)):
            for window in Closer(windows=2).squares(kept).flatten(0, 1):
                assert window.tolist() == [(height - longest) / 2, (width - longest) / 2, longest]


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    reach=st.sampled_from([1, 2, 4, 11, 2000]),  # that of the last needs larger numbers
    seed=st.integers(0, 999),
    turn=st.integers(0, 7),
)
def test_a_pixel_counts_where_most_around_it_is_kept(size: tuple[int, int], reach: int, seed: int, turn: int) -> None:
    """As a mean of every neighbourhood for itself tells; a tie is no majority, however the image lies."""
    kept = torch.rand(2, *size, generator=torch.Generator().manual_seed(seed)) < 0.5
    rows, columns = ([slice(max(0, i - reach), i + reach + 1) for i in range(length)] for length in size)
    around = [[kept[:, row, column].flatten(1).double().mean(1) > 0.5 for column in columns] for row in rows]
    found = mostly(kept, reach)
    assert torch.equal(found, torch.stack([torch.stack(line, -1) for line in around], 1))
    assert torch.equal(mostly(turned(kept, turn), reach), turned(found, turn))


def test_windows_need_no_values_to_be_planned() -> None:
    """Where only shapes are known (`FakeTensorMode`), a look that asked for a value would fail; so it never waits."""
    with FakeTensorMode():
        kept = torch.ones(2, 90, 70, dtype=torch.bool)
        assert Closer().squares(kept).shape == (2, 1, 3)
        assert Closer()(lambda seen: seen[:, 0], torch.rand(2, 3, 90, 70), kept).shape == (2, 90, 70)


# ---------------------------------------------------------------- resampling


@settings(max_examples=40)
@given(
    size=st.sampled_from(SIZES),
    top=st.floats(0, 4),
    left=st.floats(0, 4),
    side=st.floats(4, 29),
    seen=st.integers(8, 40),
    value=st.floats(-5, 5),
)
def test_constant_maps_stay_constant(
    size: tuple[int, int], top: float, left: float, side: float, seen: int, value: float
) -> None:
    windows = torch.tensor([[top, left, side]])
    images = torch.full((1, 3, *size), value)
    assert torch.allclose(cut_out(images, windows, seen), torch.tensor(value), atol=1e-4)
    found = torch.full((1, 2, seen, seen), value)
    assert torch.allclose(spread_back(found, windows, size), torch.tensor(value), atol=1e-4)


@settings(max_examples=40)
@given(top=st.integers(0, 60), left=st.integers(0, 30), seed=st.integers(0, 99))
def test_cutting_out_what_was_spread_back_is_the_identity(top: int, left: int, seed: int) -> None:
    """At the image's own resolution; and what is spread back lies where it was cut out."""
    windows = torch.tensor([[float(top), float(left), 20.0]])
    found = torch.rand(1, 4, 20, 20, generator=torch.Generator().manual_seed(seed))
    spread = spread_back(found, windows, (80, 50))
    assert torch.allclose(cut_out(spread, windows, 20), found, atol=1e-5)
    assert torch.allclose(spread[..., top : top + 20, left : left + 20], found, atol=1e-5)
    if top:  # beyond the window, its edge
        assert torch.allclose(spread[..., 0, left : left + 20], found[..., 0, :], atol=1e-5)


def test_shrinking_is_that_of_torch() -> None:
    """The whole image: `interpolate` with anti-aliasing is an implementation of somebody else's."""
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    windows = torch.tensor([[0.0, 0.0, 96.0]]).repeat(2, 1)
    for side in (32, 96, 120):
        theirs = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        assert torch.allclose(cut_out(images, windows, side), theirs, atol=1e-5)
        back = torch.nn.functional.interpolate(theirs, (96, 96), mode="bilinear", antialias=True)
        assert torch.allclose(spread_back(theirs, windows, (96, 96)), back, atol=1e-5)


@pytest.mark.parametrize("size", [(256, 256), (320, 320), (240, 155), (512, 512)])
def test_images_of_the_sizes_that_data_sets_have_are_decided_pixel_by_pixel(size: tuple[int, int]) -> None:
    """Whole, at a border, small and empty, in one batch; what is white stays white, and every pixel gets its own."""
    height, width = size
    border, small = blob(height, width, height - 90, width - 70, 60), blob(height, width, 20, 30, 9)
    kept = torch.cat([torch.ones(1, height, width, dtype=torch.bool), border, small, torch.zeros_like(small)])
    look, images = Closer(), torch.rand(4, 1, height, width, generator=torch.Generator().manual_seed(4))
    images[:, :, :, : width // 2] *= 0.5  # darker at the left
    windows = look.squares(kept)[:, 0]
    assert windows[0, 2] == windows[3, 2] == max(size)
    assert windows[2, 2] < windows[1, 2] < min(size)

    def network(seen: Tensor) -> Tensor:
        assert seen.shape[-2:] == (64, 64)
        return seen[:, 0]

    found = look(network, images.requires_grad_(), kept)
    assert found.shape == (4, *size)
    assert torch.isfinite(found).all()
    dark, bright = found.detach()[0, :, : width // 2 - 8].mean(), found.detach()[0, :, width // 2 + 8 :].mean()
    assert float(dark) == pytest.approx(0.25, abs=0.03)
    assert float(bright) == pytest.approx(0.5, abs=0.03)
    inside = slice(24, 26), slice(34, 36)  # of the small object
    (gradient,) = torch.autograd.grad(found[2][inside].sum(), images)
    assert float(gradient[2].sum()) == pytest.approx(4, rel=1e-3), "a mean of its own pixels"
    assert not gradient[[0, 1, 3]].any()
    assert float(gradient[2, 0, 15:35, 25:45].abs().sum() / gradient[2].abs().sum()) > 0.9


def test_windows_of_a_batch_do_not_depend_on_each_other_and_gradients_flow() -> None:
    images = torch.rand(3, 2, 70, 90, generator=torch.Generator().manual_seed(2), requires_grad=True)
    kept = torch.cat([blob(70, 90, 0, 0, 12), blob(70, 90, 30, 60, 25), torch.zeros(1, 70, 90, dtype=torch.bool)])
    look = Closer(side=24, smallest=16)

    def network(seen: Tensor) -> tuple[Tensor, list[Tensor]]:
        assert seen.shape[1:] == (3, 24, 24)
        return seen[:, :2] * 2, [seen[:, 0]]

    (logits, (value,)) = look(network, images, kept)
    assert logits.shape == (3, 2, 70, 90)
    assert value.shape == (3, 70, 90)
    for i in range(3):
        assert torch.allclose(look(network, images[i : i + 1], kept[i : i + 1])[0], logits[i : i + 1], atol=1e-5)
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


# ---------------------------------------------------------------- what the map is, from observations alone


def pictures(labels: int, height: int = 12, width: int = 9) -> SegmentationDataset:
    """`small_set`, its second label being the first one's map turned around."""
    data = small_set(height=height, width=width)
    if labels == 1:
        return data
    masks = np.stack([data.masks, data.masks[:, ::-1, ::-1]], axis=1)
    return SegmentationDataset("small", data.images, masks, data.cases, data.slices, label_names=("one", "two"))


def kept_by(observation: str, transition: str, **options: Any) -> tuple[Tensor, Tensor]:
    """What an observation tells of the map after a step, and the map itself."""
    data = pictures(options.pop("labels", 1))
    env = PixelSegVectorEnv(3, data, split="all", observation=observation, transition=transition, **options)
    env.reset(seed=0)
    env.action_space.seed(1)
    seen, *_, info = env.step(env.action_space.sample())
    maps = torch.as_tensor(np.asarray(info["segmentation"], np.float32))
    return AgentTask.of(env, "test").kept(torch.as_tensor(seen)), maps.flatten(1, -3).amax(
        1
    ) if maps.ndim == 4 else maps


@pytest.mark.parametrize("observe_time", [False, True])
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("observation", ["masked", "stacked"])
@pytest.mark.parametrize("transition", ["absorbing", "restorable"])
def test_an_observation_tells_the_map(observation: str, transition: str, labels: int, observe_time: bool) -> None:
    kept, maps = kept_by(observation, transition, labels=labels, observe_time=observe_time, horizon=3)
    there = maps > 0
    if observation == "stacked":
        assert torch.equal(kept, there)
    else:  # pixels that are black in the image look removed
        assert not (kept & ~there).any()
        assert kept.float().mean() > 0.9 * there.float().mean()


def test_an_observation_tells_a_graded_map() -> None:
    kept, maps = kept_by("stacked", "additive", horizon=8)
    assert torch.equal(kept, maps >= 0.5)


# ---------------------------------------------------------------- agents


def closer_env(**options: Any) -> PixelSegVectorEnv:
    """Two phantoms in a shape that is no window's."""
    rules = {"observation": "stacked", "observe_time": True, "horizon": 2} | options
    return PixelSegVectorEnv(2, pictures(1, 40, 56), split="all", **rules)


@pytest.mark.parametrize("agent", [PA3C, AC, DQN, PixelRL, Supervised])
def test_every_agent_looks_closer(agent: Any, tmp_path: Any) -> None:
    """Trains, decides every pixel at any size, does so again from a file; its network has never seen but windows."""
    rules = {"transition": "additive"} if agent is PixelRL else {}
    env = closer_env(**rules)
    extra = {"learning_starts": 2} if agent is DQN else {}
    look = "closer(side=16, smallest=12, border=1)"
    made = agent(env, look=look, width=0.05, horizons=(1, 2), seed=3, device="cpu", **extra)
    shapes: set[tuple[int, ...]] = set()
    made.network.register_forward_pre_hook(lambda module, args: shapes.add(tuple(args[0].shape[2:])))
    before = [parameter.clone() for parameter in made.network.parameters()]
    made.learn(2)
    assert any(not torch.equal(a, b) for a, b in zip(before, made.network.parameters(), strict=True))
    assert shapes == {(16, 16)}
    observation = np.concatenate([np.asarray(env.reset(seed=1)[0])] * 2, axis=2)  # 80x56
    actions, _ = made.predict(observation)
    assert actions.shape == (2, 80, 56)
    loaded = agent.load(made.save(tmp_path / "agent"))
    assert loaded.look == made.look == Closer(side=16, smallest=12, border=1)
    assert np.array_equal(loaded.predict(observation)[0], actions)


@dataclass(frozen=True)
class Half(Look):
    """Somebody else's look: every second pixel."""

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Half of it."""
        return size[0] // 2, size[1] // 2

    def __call__(self, network: Any, observation: Tensor, kept: Tensor) -> Any:
        """What a network says of every second pixel."""
        found = network(observation[..., ::2, ::2])  # logits and values where it learns, logits where it decides

        def twice(one: Tensor) -> Tensor:
            return one.repeat_interleave(2, -1).repeat_interleave(2, -2)

        return twice(found) if isinstance(found, Tensor) else tuple(map(twice, found))


def weights(env: Any, **options: Any) -> tuple[float | None, float | None, float | None]:
    config = PA3C(env, **{"width": 0.05, "device": "cpu", "horizons": (1, 2)} | options).config
    return config.gamma, config.final_foreground_weight, config.later_background_weight


@pytest.mark.parametrize("text", [" whole", "whole()", "whole ( )"])
def test_a_look_that_is_spelt_otherwise_is_the_same(text: str) -> None:
    env = closer_env()
    assert PA3C(env, look=text, width=0.05, device="cpu", horizons=(1, 2)).config.look == "whole"
    assert weights(env, look=text) == weights(env)
    assert Supervised(env, look=text, width=0.05, device="cpu").config.look == "whole"
    with pytest.raises(OptionError, match=r"look='closer\(side=32\)\(\)': expected the form"):
        PA3C(env, look="closer(side=32)()", width=0.05, device="cpu")


def test_a_first_look_that_others_follow_is_careful() -> None:
    """An object's pixel costs 3 at the first look, half of it at the next; background pays 1, and 0.95 a look later."""
    env, usual = closer_env(), (0.95, 1, 1)
    assert weights(env) == (0.95, 1, 0.25)
    gamma, final, later = weights(env, look="closer")
    assert gamma is not None
    assert (final, later, gamma * later) == (3, 2, pytest.approx(0.95))
    assert weights(env, look="closer", foreground_weight="ratio") == (gamma, 3, 2)
    for asked in ({"foreground_weight": 1.0}, {"horizons": (1,)}, {"horizons": (1, 2, 3)}):
        assert weights(env, look="closer", **asked) == usual, "nothing to be careful about, or for two looks alone"
    assert weights(env, look="closer", gamma=0.0) == (0, 1, 1), "they go together"
    assert weights(env, look="closer", final_foreground_weight=2.0) == (0.95, 2, 1)
    assert weights(env, look="closer", later_background_weight=0.5) == (0.95, 1, 0.5)
    assert weights(closer_env(transition="restorable"), look="closer") == usual, "what is gone may come back"
    assert weights(closer_env(reward="dice_gain"), look="closer") == usual, "weights belong to Eq. 12"
    config = Supervised(env, look="closer", width=0.05, device="cpu").config
    assert config.final_foreground_weight == 1
    left = {"foreground_weight": None, "final_foreground_weight": None}
    config = Supervised(env, look="closer", width=0.05, device="cpu", **left).config
    assert config.final_foreground_weight == 1, "it looks once, whatever the horizons of others"
    later_run = PA3CConfig(look="closer", horizons=(1, 2)).for_task("absorbing", "stacked")
    assert later_run.for_task("absorbing", "stacked") == later_run, "a checkpoint keeps them"


class Forgets(Half):
    """Half of it, and not spread back."""

    def __call__(self, network: Any, observation: Tensor, kept: Tensor) -> Any:
        """What a network says of every second pixel."""
        return network(observation[..., ::2, ::2])


class Loses(Half):
    """An image too few."""

    def __call__(self, network: Any, observation: Tensor, kept: Tensor) -> Any:
        """All of it."""
        return tuple(one[1:] for one in network(observation))


class Silent(Half):
    """Nothing at all."""

    def __call__(self, network: Any, observation: Tensor, kept: Tensor) -> Any:
        """Without `return`."""
        network(observation)


class Naming(Half):
    """All of it, by name."""

    def __call__(self, network: Any, observation: Tensor, kept: Tensor) -> Any:
        """A dictionary, which nobody asked for."""
        return dict(enumerate(network(observation)))


@pytest.mark.parametrize(("name", "gave"), [("Silent", "NoneType"), ("Naming", "dict")])
def test_a_look_that_gives_something_else_is_told_by_its_name(name: str, gave: str) -> None:
    with pytest.raises(OptionError, match=f"look {name}: gave {gave}; expected what the network gives, a tensor"):
        PA3C(closer_env(), look=f"{__name__}:{name}", width=0.05, horizons=(1, 2), device="cpu").learn(1)


@pytest.mark.parametrize(("name", "gave"), [("Forgets", r"\(1, 20, 28\)"), ("Loses", r"\(0, 40, 56\)")])
def test_a_look_that_forgets_to_spread_back_is_told_by_its_name(name: str, gave: str) -> None:
    said = rf"look {name}: gave a tensor {gave} .* \(1, \d, 40, 56\); expected \(1, \.\.\., 40, 56\)"
    with pytest.raises(OptionError, match=said):
        PA3C(closer_env(), look=f"{__name__}:{name}", width=0.05, horizons=(1, 2), device="cpu").learn(1)


def test_looks_by_name() -> None:
    assert make_look("whole") == WholeImage()
    assert make_look("closer(side=32, context=True)") == Closer(side=32, context=True)
    env = closer_env()
    agent = PA3C(env, look=f"{__name__}:Half", width=0.05, horizons=(1, 2), device="cpu").learn(1)
    assert agent.predict(np.asarray(env.reset(seed=0)[0]))[0].shape == (2, 40, 56)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("closr", "closer"),
        ("closer(side=4)", "8 to 4096"),
        ("closer(side=2000000)", "8 to 4096"),
        ("closer(side=np.inf)", "expected the form"),
        ("closer(sde=32)", "'sde'; closer takes side, margin, border, smallest, context, windows"),
        ("whole(side=3)", "whole takes no values"),
        ("closer(32)", "expected the form"),
        ("closer(side=", "expected a name"),
        ("closer(side=,)", "expected the form"),
        ("closer(margin=0.5)", "1 to 1,000,000,000"),
        (f"closer(border={10**400})", "0 to 1,000,000,000"),
        ("closer(smallest=1e39)", "1 to 1,000,000,000"),
        ("closer(side=32, side=16)", "expected the form"),
        ("closer(**{'side': 32})", "expected the form"),
        ("pixelseg_agents:Look", "defines __call__"),
        ("closer(windows=0)", "1 to 16"),
        ("closer(windows=True)", "1 to 16"),
        ("no.such.module:look", "cannot be imported"),
        ("builtins:dict", "expected a Look"),
        ("os:path", "expected a Look"),
        ("", "expected"),
    ],
)
def test_wrong_looks_are_explained(text: str, message: str) -> None:
    with pytest.raises(OptionError, match="look") as caught:
        PA3C(closer_env(), look=text, width=0.05)
    assert message in str(caught.value)


def test_windows_may_be_as_large_as_is_allowed() -> None:
    PA3C(closer_env(), look="closer(side=16, smallest=1e9, border=1e9, margin=1e9)", width=0.05).learn(1)


def test_pictures_show_what_was_looked_at(tmp_path: Any) -> None:
    env = closer_env()
    agent = PA3C(env, look="closer(side=16, smallest=12, border=1)", width=0.05, horizons=(1, 2), device="cpu")
    images, targets = env.dataset.batch([0, 1])
    maps = np.ones((2, 2, 40, 56), np.uint8)
    maps[1, 0] = 0
    maps[1, 0, 8:22, 30:40] = 1
    first, later = (agent.windows(images, before) for before in (np.ones_like(targets), maps[:, 0]))
    assert first is not None
    assert later is not None
    assert (first[..., 2] == 56).all()
    assert later[0, 0, 2] == 56
    ((row, column, side),) = later[1]
    assert row <= 8 < 22 <= row + side
    assert column <= 30 < 40 <= column + side
    step_figure(images, targets, maps, tmp_path / "a.png", windows=np.stack([first, later], axis=1))
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert (abs(pixels - (240, 228, 66)).max(-1) < 10).sum() > 500, "yellow frames"
    assert PA3C(env, width=0.05, device="cpu").windows(images, targets) is None


def test_what_counts_is_told_by_the_smallest_window() -> None:
    """A neighbourhood is a sixth of it wide, here 5: of a piece more than half of that, and of a gap all of it."""
    look = Closer(smallest=24, border=0, windows=2)
    object_alone = blob(90, 90, 10, 10, 12)
    one = look.squares(object_alone)[0, 0, 2]
    for side, counts in ((3, False), (4, True)):
        both = object_alone | blob(90, 90, 70, 70, side)
        assert (Closer(smallest=24, border=0).squares(both)[0, 0, 2] > one) == counts
    for gap, parted in ((4, False), (5, True)):
        first, second = look.squares(object_alone | blob(90, 90, 10, 22 + gap, 12))[0]
        assert torch.equal(first, second) != parted


def test_what_a_network_is_shown() -> None:
    """The window, the whole image where it stays in view, and how large the window is, of the longer side."""
    images = torch.rand(1, 2, 64, 90, generator=torch.Generator().manual_seed(4))
    kept, seen = blob(64, 90, 20, 30, 10), []
    look = Closer(side=16, margin=1.5, border=3, smallest=12, context=True)
    ((window,),) = look.squares(kept)
    assert window.tolist() == [25 - 10.5, 35 - 10.5, 10 * 1.5 + 2 * 3]
    look(lambda one: seen.append(one) or one, images, kept)
    (shown,) = seen
    assert shown.shape[1] == look.inputs(2) == 5
    assert torch.equal(shown[:, :2], cut_out(images, window[None], 16))
    assert torch.equal(shown[:, 2:4], cut_out(images, torch.tensor([[-13.0, 0.0, 90.0]]), 16))
    assert torch.allclose(shown[:, 4], torch.tensor(21 / 90))
