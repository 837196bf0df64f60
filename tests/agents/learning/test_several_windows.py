"""Several objects that lie apart: a box and a window for each of them, and which one decides a pixel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixelseg_agents import AC, DQN, PA3C, Closer, Supervised
from pixelseg_agents.evaluation import figures
from pixelseg_agents.evaluation.figures import pictures
from pixelseg_agents.evaluation.figures.episodes import _frame, episode_sheet
from pixelseg_agents.evaluation.watching import watch
from pixelseg_agents.learning.boxes import boxes_of, nearest
from pixelseg_env import PixelSegVectorEnv, SegmentationDataset
from tests.agents.learning.test_looking import turned

LEAST = 3
Box = tuple[int, int, int, int]


@st.composite
def maps(draw: st.DrawFn) -> Tensor:
    """A map (H, W) of up to five rectangles, which may touch; small, so that runs of the same length are common."""
    height, width = draw(st.integers(1, 26)), draw(st.integers(1, 26))
    kept = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(draw(st.integers(0, 5))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        kept[top : top + draw(st.integers(1, 4)), left : left + draw(st.integers(1, 4))] = True
    return kept


def by_hand(kept: np.ndarray[Any, Any], count: int) -> set[Box]:
    """`boxes_of` as one would do it with pencil and paper: lists of pixels, cut one by one."""
    parts = [frozenset(map(tuple, np.argwhere(kept).tolist()))] if kept.any() else []
    for _ in range(count - 1):
        cuts: dict[int, set[frozenset[frozenset[Any]]]] = {}
        for part in parts:
            for axis in (0, 1):
                lines = sorted({pixel[axis] for pixel in part})
                for before, after in itertools.pairwise(lines):
                    first = frozenset(pixel for pixel in part if pixel[axis] <= before)
                    cuts.setdefault(after - before - 1, set()).add(frozenset((first, part - first)))
        longest = max(cuts, default=0)
        if longest < LEAST or len(cuts[longest]) > 1:
            break
        (pair,) = cuts[longest]
        parts = [part for part in parts if part != frozenset().union(*pair)] + list(pair)
    return {
        (min(y for y, _ in part), max(y for y, _ in part) + 1, min(x for _, x in part), max(x for _, x in part) + 1)
        for part in parts
    }


def found(kept: Tensor, count: int) -> set[Box]:
    """The boxes of a map (H, W) that hold something, each once."""
    boxes = [tuple(map(int, box)) for box in boxes_of(kept[None], count, LEAST)[0].tolist() if box[1] > box[0]]
    assert len(boxes) == len(set(boxes))
    return set(boxes)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(kept=maps(), count=st.integers(1, 4), turn=st.integers(0, 7))
def test_boxes_are_those_found_by_hand_and_turn_with_the_map(kept: Tensor, count: int, turn: int) -> None:
    for one in (kept, turned(kept, turn)):
        assert found(one, count) == by_hand(one.numpy(), count)
    held = sum(int(kept[a:b, c:d].sum()) for a, b, c, d in found(kept, count))
    assert held == kept.sum(), "every pixel lies in one box"
    assert len(found(turned(kept, turn), count)) == len(found(kept, count))


def test_objects_as_far_apart_as_each_other_are_not_parted_by_chance() -> None:
    """One of two equal gaps would have to be chosen, and a mirrored map would get the other."""
    row = torch.zeros(5, 31, dtype=torch.bool)
    row[1:3, [0, 15, 30]] = True
    assert len(found(row, 2)) == len(found(row, 3)) == 1
    row[1:3, 29] = True
    assert len(found(row, 2)) == 2
    assert len(found(row, 3)) == 3
    corners = torch.zeros(12, 12, dtype=torch.bool)
    corners[0, 0] = corners[11, 11] = True  # the rows between them and the columns part the same
    assert len(found(corners, 2)) == 2
    corners[0, 11] = True
    assert len(found(corners, 2)) == 1


@settings(max_examples=25, deadline=None)
@given(kept=maps(), count=st.integers(1, 3))
def test_pixels_belong_to_the_nearest_box(kept: Tensor, count: int) -> None:
    height, width = kept.shape
    shares = nearest(boxes_of(kept[None], count, LEAST), (height, width))[0]
    torch.testing.assert_close(shares.sum(0), torch.ones(height, width))
    boxes = [box for box in boxes_of(kept[None], count, LEAST)[0].tolist() if box[1] > box[0]]
    for y in range(0, height, 3):
        for x in range(0, width, 3):
            away = [max(t - y, y - b + 1, 0) ** 2 + max(s - x, x - e + 1, 0) ** 2 for t, b, s, e in boxes]
            wanted = [float(one == min(away)) / away.count(min(away)) for one in away]
            np.testing.assert_allclose(shares[: len(boxes), y, x], wanted or 1 / count)


# ---------------------------------------------------------------- windows


def several(height: int = 70, width: int = 90) -> Tensor:
    """Maps of two far objects, of three, of one at the border, and of none, (4, H, W)."""
    kept = torch.zeros(4, height, width, dtype=torch.bool)
    kept[:2, 5:14, 6:18] = True
    kept[:2, 40:60, 50:80] = True
    kept[1, 50:59, 4:12] = True
    kept[2, :9, width - 12 :] = True
    return kept


def small(windows: int, **more: Any) -> Closer:
    return Closer(side=24, smallest=12, border=1, windows=windows, **more)


def of_brightness(seen: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A network that says at every pixel how bright all that it sees is, and how bright this pixel is."""
    mean = seen[:, :1].mean((2, 3), keepdim=True).expand(-1, 2, *seen.shape[2:])
    return mean, [seen[:, 0]]


def test_every_object_has_a_window_of_its_own() -> None:
    kept = several()
    one, two, three = (small(count).squares(kept) for count in (1, 2, 3))
    assert two.shape == (4, 2, 3)
    assert (two[0, :, 2] < one[0, 0, 2] / 2).all()
    assert torch.equal(two[2:], one[2:].expand(-1, 2, -1)), "of one object and of none, the same again"
    assert len({tuple(window) for window in three[1].tolist()}) == 3
    middles = two[0, :, :2] + two[0, :, 2:] / 2
    assert sorted(middles.tolist()) == [[9.5, 12.0], [50.0, 65.0]]


def test_a_window_decides_its_object_and_the_pixels_that_are_nearest() -> None:
    kept = several()
    images = torch.where(kept, 0.2, 0.0)[:, None].repeat(1, 2, 1, 1)
    images[:, :, :30, :40] *= 4  # the first object is brighter
    (said, (spread,)) = small(2)(of_brightness, images, kept)
    assert said.shape == (4, 2, 70, 90)
    for part in (said[0, 0, 5:14, 6:18], said[0, 0, 40:60, 50:80]):
        assert part.max() - part.min() < 1e-5
    assert said[0, 0, 9, 9] > 2 * said[0, 0, 50, 60]
    torch.testing.assert_close(
        said[0, 0, [0, 69], [0, 89]], said[0, 0, [9, 50], [9, 60]], msg="beyond all windows, too"
    )
    inside = kept[0].clone()
    inside[5], inside[40] = False, False  # edges are blurred
    assert (spread[0] - images[0, 0])[inside].abs().mean() < 0.02
    alone, _ = small(1)(of_brightness, images[2:], kept[2:])
    torch.testing.assert_close(said[2:], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("context", [False, True])
def test_a_turned_image_is_looked_at_alike(turn: int, context: bool) -> None:
    kept, draws = several(), torch.Generator().manual_seed(turn)
    images = torch.rand(4, 2, 70, 90, generator=draws)
    look = small(3, context=context)
    said, (spread,) = look(of_brightness, images, kept)
    again, (spread_again,) = look(of_brightness, turned(images, turn), turned(kept, turn))
    torch.testing.assert_close(again, turned(said, turn), rtol=0, atol=1e-4)
    torch.testing.assert_close(spread_again, turned(spread, turn), rtol=0, atol=1e-4)


def test_images_of_a_batch_do_not_depend_on_each_other_and_gradients_flow() -> None:
    kept = several()
    images = torch.rand(4, 2, 70, 90, generator=torch.Generator().manual_seed(2), requires_grad=True)
    look = small(3, context=True)
    said, (spread,) = look(of_brightness, images, kept)
    for k in range(4):
        alone, _ = look(of_brightness, images[k : k + 1], kept[k : k + 1])
        torch.testing.assert_close(alone, said[k : k + 1], rtol=0, atol=1e-5)
    spread.sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert all((images.grad[0, 0][part] != 0).any() for part in (np.s_[5:14, 6:18], np.s_[40:60, 50:80]))
    _, (constant,) = look(of_brightness, torch.full((3, 2, 70, 90), 0.3), kept[:3])
    torch.testing.assert_close(constant, torch.full((3, 70, 90), 0.3), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- agents


def two_objects(labels: int = 1) -> SegmentationDataset:
    """Images with an object in each of two corners; with two labels, one of each."""
    masks = np.zeros((2, 2, 40, 56), np.uint8)
    masks[:, 0, 3:11, 4:13] = masks[:, 1, 26:38, 40:52] = 1
    noise = np.random.default_rng(0).uniform(0.1, 0.4, (2, 1, 40, 56))
    images = (255 * (noise + 0.5 * masks.max(1, keepdims=True))).astype(np.uint8)
    names = ("object",) if labels == 1 else ("one", "two")
    return SegmentationDataset(
        "two", images, masks.max(1) if labels == 1 else masks, ("a", "b"), np.arange(2), label_names=names
    )


@pytest.mark.parametrize("agent", [PA3C, AC, DQN, Supervised])
@pytest.mark.parametrize("labels", [1, 2])
def test_passes_are_counted_as_they_are_made(agent: Any, labels: int) -> None:
    env = PixelSegVectorEnv(2, two_objects(labels), split="all", observation="stacked", horizon=2)
    extra = {"learning_starts": 2} if agent is DQN else {}
    look = "closer(side=16, smallest=8, border=1, windows=2)"
    made = agent(env, look=look, width=0.05, horizons=(1, 2), seed=3, device="cpu", **extra)
    rows: list[int] = []
    networks = [part for name, part in made.parts.items() if name in ("network", "target")]
    for network in networks:
        network.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    made.learn(4)
    assert set(rows) <= {4, 2 * getattr(made.config, "replay_batch", 2)}, "two windows of every image"
    assert made.passes == sum(rows)
    observation, _ = env.reset(seed=1)
    shape = (2, 40, 56) if labels == 1 else (2, 2, 40, 56)
    assert made.predict(observation)[0].shape == shape


def test_pictures_show_all_windows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_objects()
    env = PixelSegVectorEnv(2, data, split="all", observation="stacked", horizon=2)
    agent = PA3C(env, look="closer(side=16, smallest=8, border=1, windows=2)", width=0.05, device="cpu")
    images, targets = data.batch(np.arange(2))
    keeps = lambda observation, **_: (targets, None)  # noqa: E731
    monkeypatch.setattr(agent, "predict", keeps)
    episodes = watch(agent, env, [0, 1], 2)
    first, last = episodes[0].steps
    assert first.windows is not None
    assert last.windows is not None
    assert last.seen is not None
    assert np.array_equal(first.windows[0], first.windows[1])
    assert last.windows[:, 2].max() < 20
    assert last.seen.shape == (2, 1, 16, 16)
    assert not np.array_equal(last.seen[0], last.seen[1])
    frames: list[Any] = []
    inner = pictures.window_frame
    for module in (pictures, figures.episodes):
        monkeypatch.setattr(module, "window_frame", lambda *given: frames.append(given[0]) or inner(*given))
    episode_sheet(episodes[:1], tmp_path / "sheet.png")
    assert {tuple(one) for one in frames} == {tuple(one) for step in (first, last) for one in step.windows}  # type: ignore[union-attr]
    frames.clear()
    _frame({"": episodes[0]}, 1, 0.5, decided=False)  # of an animation, on their way
    np.testing.assert_allclose(frames, (first.windows + last.windows) / 2)
    maps_by_step = np.stack([targets, targets], axis=1)
    looked = np.stack([agent.windows(images, before) for before in (np.ones_like(targets), targets)], axis=1)  # type: ignore[misc]
    frames.clear()
    figures.step_figure(images, targets, maps_by_step, tmp_path / "steps.png", windows=looked)
    assert len({tuple(one) for one in frames}) == 3
