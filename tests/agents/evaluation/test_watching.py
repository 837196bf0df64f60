"""Episodes to look at: what is drawn is what the agent saw and did, and `pixelseg render` writes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pixelseg_agents import DQN, PA3C, Supervised
from pixelseg_agents.cli import main
from pixelseg_agents.cli.render import _fresh
from pixelseg_agents.cli.runs import open_run
from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.evaluation.figures import episodes as episodes_module
from pixelseg_agents.evaluation.figures.episodes import episode_animation, episode_sheet
from pixelseg_agents.evaluation.watching import images_with_objects, watch
from pixelseg_env import DataError, PixelSegVectorEnv
from tests.helpers.cli import train_tiny
from tests.helpers.figures import undrawn

LOOK = "closer(side=16, smallest=6, border=0)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("render") / "run"
    with undrawn():
        assert train_tiny(folder, "--look", LOOK, "--observe-time", updates=4) == 0
    return folder


@pytest.mark.parametrize(("labels", "observation"), [(1, "masked"), (2, "stacked")])
def test_what_is_watched_is_what_is_played(labels: int, observation: str) -> None:
    env = PixelSegVectorEnv(3, "phantom", size=16, count=12, labels=labels, observation=observation)
    agent = PA3C(env, look=LOOK, width=0.05, device="cpu", seed=1)
    with np.errstate(all="raise"):
        episodes = watch(agent, env, [4, 0, 7], 2)
    result = evaluate(agent, env, 2)
    for episode, image in zip(episodes, (4, 0, 7), strict=True):
        np.testing.assert_allclose(episode.image, env.dataset.batch(np.array([image]))[0][0])
        parts = result.labels.values() if labels > 1 else [result]
        maps = np.max([one.maps(image) for one in parts], axis=0)
        before = np.ones_like(maps[0])
        for step, after in zip(episode.steps, maps, strict=True):
            np.testing.assert_array_equal(step.before, before)
            np.testing.assert_array_equal(step.after, after)
            assert step.seen is not None
            assert step.seen.shape == (1, len(episode.image), 16, 16)
            assert step.windows is not None
            assert step.windows.shape == (1, 3)
            assert 6 <= step.windows[0, 2] <= 16
            assert step.probability is not None
            if labels == 1:
                np.testing.assert_array_equal(step.after, (step.probability > 0.5) & (before == 1))
            before = after


@pytest.mark.parametrize("rules", [{"transition": "restorable", "observation": "stacked"}, {"labels": 2}])
def test_probabilities_are_those_of_the_map_after_the_step(rules: dict[str, Any]) -> None:
    """Pixels may come back where they can be restored; of labels, one may have left and the other not."""
    env = PixelSegVectorEnv(4, "phantom", size=16, count=12, **rules)
    (agent, again) = (PA3C(env, width=0.05, device="cpu", start_bias=bias, seed=2) for bias in (-0.05, 0.05))
    agent.keep_probability, agent.predict = _alternating(agent, again)  # type: ignore[method-assign]
    returned = 0
    for episode in watch(agent, env, [0, 1, 2, 3], 3):
        for step in episode.steps:
            assert step.probability is not None
            np.testing.assert_array_equal(step.after, step.probability > 0.5)
            returned += int((step.after > step.before).sum())
    assert (returned > 0) == ("transition" in rules)


def _alternating(*agents: PA3C) -> tuple[Any, Any]:
    """`keep_probability` and `predict` of agents who take turns, so that maps change at every step."""
    turns = {"keep_probability": 0, "predict": 0}

    def call(name: str, observation: Any) -> Any:
        turns[name] += 1
        return getattr(type(agents[0]), name)(agents[turns[name] % len(agents)], observation)

    return (lambda seen: call("keep_probability", seen)), (lambda seen, **_: call("predict", seen))


def test_panels_have_frames_and_the_legend_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of ones is as white as the page; where three columns leave two rows to the legend, it covers no panel."""
    drawn: list[Figure] = []
    monkeypatch.setattr(episodes_module, "save_figure", lambda figure, path: drawn.append(figure))
    env = PixelSegVectorEnv(1, "phantom", size=16, count=12)
    episode_sheet(watch(DQN(env, width=0.05, device="cpu"), env, [2], 1), tmp_path / "a.png")
    (figure,) = drawn
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    assert len(figure.axes) == 3
    assert all(spine.get_visible() for axis in figure.axes for spine in axis.spines.values())
    top = figure.legends[0].get_window_extent().y1
    assert all(axis.get_window_extent().y0 >= top for axis in figure.axes)


def test_a_removed_pixel_that_may_come_back_is_drawn_with_its_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(episodes_module, "save_figure", lambda figure, path: drawn.append(figure))
    env = PixelSegVectorEnv(1, "phantom", size=16, count=12, transition="restorable")
    (episode,) = watch(PA3C(env, width=0.05, device="cpu", start_bias=0.0), env, [2], 2)
    episode_sheet([episode], tmp_path / "a.png")
    last = episode.steps[-1]
    assert last.probability is not None
    assert last.probability[last.before == 0].min() > 0
    panel = drawn[0].axes[-2]
    np.testing.assert_allclose(panel.images[0].get_array(), last.probability)
    (strip,) = panel.child_axes
    assert [tick.get_text() for tick in strip.get_xticklabels()] == ["0", "0.5", "1"]
    assert strip.images[0].get_cmap() == panel.images[0].get_cmap()
    assert strip.images[0].get_clim() == panel.images[0].get_clim() == (0, 1)
    FigureCanvasAgg(drawn[0]).draw()  # type: ignore[no-untyped-call]
    assert strip.get_tightbbox().y0 >= drawn[0].legends[0].get_window_extent().y1, "the legend leaves it free"


def test_agents_of_others_are_watched_too() -> None:
    class Other:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):  # type: ignore[no-untyped-def]
            return (observation[:, 0] > 0.5).astype(np.int8), state

    env = PixelSegVectorEnv(1, "phantom", size=16, count=12)
    for agent in (Other(), DQN(env, width=0.05, device="cpu")):
        (episode,) = watch(agent, env, [2], 1)
        assert episode.steps[0].probability is None
        assert (episode.steps[0].seen is None) == isinstance(agent, Other)


def test_a_supervised_network_says_how_sure_it_is() -> None:
    env = PixelSegVectorEnv(2, "phantom", size=16, count=12)
    agent = Supervised(env, width=0.05, device="cpu", seed=3)
    every = agent.probability(env.dataset.batch(np.array([2, 5]))[0])
    for episode, own in zip(watch(agent, env, [2, 5], 1), every, strict=True):
        assert episode.steps[0].probability is not None
        np.testing.assert_allclose(episode.steps[0].probability, own, atol=1e-6)
        np.testing.assert_array_equal(episode.steps[0].after, own > 0.5)


def test_images_are_spread_over_those_with_an_object() -> None:
    dataset = PixelSegVectorEnv(1, "phantom", size=16, count=20, split="all").dataset
    assert images_with_objects(dataset, 3) == [0, 10, 19]
    assert images_with_objects(dataset, 99) == list(range(20))


def test_the_command_writes_animations_and_sheets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(run), "--images", "2"]) == 0
    said = capsys.readouterr().out
    assert said.count("Dice") == 2
    with Image.open(run / "episode.gif") as gif:
        assert gif.n_frames >= 2 * 2 * 2  # images, steps, looks and decisions
        first = np.asarray(gif.convert("RGB"), int)
        gif.seek(1)
        assert np.abs(np.asarray(gif.convert("RGB"), int) - first).max() > 100
        height = gif.height
    kept = (run / "episode.gif").read_bytes()
    assert main(["render", str(run)]) == 2
    assert "exists" in capsys.readouterr().err
    assert (run / "episode.gif").read_bytes() == kept
    assert main(["render", str(run), "--images", "1", "--no-untrained", "--overwrite"]) == 0
    with Image.open(run / "episode.gif") as gif:
        assert gif.height < height
    assert main(["render", str(run), "--images", "1", "--out", str(run / "one.mp4")]) == 0
    video = cv2.VideoCapture(str(run / "one.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) / video.get(cv2.CAP_PROP_FPS) > 3
    video.release()
    assert main(["render", str(run), "--images", "1", "--out", str(run / "steps.png")]) == 0
    assert Image.open(run / "steps.png").height > 300


def test_the_untrained_agent_is_the_same_one_before_its_training() -> None:
    env = PixelSegVectorEnv(2, "phantom", size=16, count=12)
    agent = PA3C(env, look=LOOK, width=0.05, device="cpu", seed=5)
    before = [parameter.clone() for parameter in agent.network.parameters()]
    again = list(_fresh(agent.learn(1), env).network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(again, before, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(agent.network.parameters(), before, strict=True))


def test_the_checkpoint_and_the_split_that_were_asked_for_are_shown(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    words = ["render", str(copy), "--images", "1", "--horizon", "1", "--out"]
    assert main([*words, str(tmp_path / "val.png"), "--split", "val"]) == 0
    assert main([*words, str(tmp_path / "test.png")]) == 0
    val, test = (line for line in capsys.readouterr().out.splitlines() if "Dice" in line)
    assert val.split(",")[0] != test.split(",")[0], "other patients"
    last = open_run(copy).task.load("test")["test"].cases[-1]  # type: ignore[union-attr]
    assert main([*words, str(tmp_path / "last.png"), "--cases", last]) == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if "Dice" in line)
    assert shown.split(",")[0].split()[-1] == last != test.split(",")[0].split()[-1]
    (copy / "best.safetensors").write_bytes(b"damaged")
    assert main([*words, str(tmp_path / "best.png"), "--checkpoint", "best"]) == 2
    assert "best.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "picture.jpg"], r"picture.jpg: expected a file that ends in .gif, .mp4, .png, .svg, .pdf"),
        (["--images", "0"], "--images 0: expected 1 to 20"),
        (["--horizon", "0"], "horizon"),
        (["--cases", "nobody"], "--cases nobody: expected cases of --split test, which has"),
    ],
)
def test_wrong_words(run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(run), "--overwrite", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_checkpoint_alone_does_not_tell_its_images(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alone.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    assert main(["render", str(tmp_path / "alone.safetensors")]) == 2
    assert "expected a run's folder" in capsys.readouterr().err


def test_pictures_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one"):
        episode_animation({}, tmp_path / "a.gif")
    with pytest.raises(DataError, match="at least one"):
        episode_sheet([], tmp_path / "a.png")
