"""Frames hold what they claim to show; the window works without a display where SDL is told so."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelseg_env.errors import OptionError
from pixelseg_env.rendering import (
    CHANGED,
    PANEL,
    SEGMENTATION,
    TARGET,
    Viewer,
    contour_panel,
    enlargement,
    map_panel,
    render_frame,
    to_rgb,
)


def has(panel: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((panel == colour).all(axis=-1).any())


def scene(height: int = 32, width: int = 32, channels: int = 1) -> dict[str, Any]:
    image = np.random.default_rng(0).random((channels, height, width), dtype=np.float32) * 0.5
    target, segmentation = np.zeros((2, height, width), np.uint8)
    target[height // 4 : height // 2, width // 4 : width // 2] = 1
    segmentation[height // 4 : height - 2, width // 4 : width - 2] = 1
    return {"image": image, "segmentation": segmentation, "target": target}


def test_frame_shows_contours_and_changes() -> None:
    given_scene = scene()
    previous = np.ones_like(given_scene["target"])
    frame = render_frame(**given_scene, previous=previous, step=3, horizon=10)
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.flags.c_contiguous
    for colour in (CHANGED, SEGMENTATION, TARGET):
        assert has(frame, colour)
    assert not has(render_frame(**given_scene), CHANGED)
    assert not has(render_frame(**given_scene, previous=given_scene["segmentation"]), CHANGED)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 5), st.booleans(), st.integers(0, 1))
def test_every_size_renders_to_one_even_size(height: int, width: int, channels: int, told: bool, value: int) -> None:
    if max(height, width) > 20 * min(height, width):
        return  # a frame of thousands of pixels tells nothing and takes seconds
    image = np.zeros((channels, height, width), np.float32)
    full = np.full((height, width), value, np.uint8)
    frame = render_frame(image, full, 1 - full, full if told else None, step=1 if told else None)
    plain = render_frame(image, 1 - full, full)
    assert frame.shape == plain.shape
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    assert min(frame.shape[0], frame.shape[1] // 3) >= PANEL


def test_small_images_are_enlarged_by_whole_factors() -> None:
    assert [enlargement(side, side) for side in (1, 32, 64, 191, 192, 512)] == [192, 6, 3, 2, 1, 1]
    assert enlargement(32, 500) == 6  # the shorter side decides


def test_map_panel_marks_exactly_the_changed_pixels() -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.random((2, 20, 30)) < 0.5).astype(np.uint8)
    panel = map_panel(after, before)
    np.testing.assert_array_equal((panel == CHANGED).all(axis=-1), before != after)
    np.testing.assert_array_equal((panel == 255).all(axis=-1), (after == 1) & (before == 1))


@pytest.mark.parametrize("factor", [1, 3, 8])
def test_contour_stays_within_the_object(factor: int) -> None:
    given_scene = scene()
    panel = contour_panel(given_scene["image"], given_scene["segmentation"], factor=factor)
    inside = given_scene["segmentation"].repeat(factor, axis=0).repeat(factor, axis=1)
    outline = (panel == SEGMENTATION).all(axis=-1)
    assert outline.any()
    assert not outline[inside == 0].any()


def test_contour_at_the_image_border_and_of_an_empty_map() -> None:
    image = np.zeros((1, 16, 16), np.float32)
    outline = (contour_panel(image, np.ones((16, 16), np.uint8)) == SEGMENTATION).all(axis=-1)
    assert outline[0].all()
    assert outline[:, -1].all()
    assert not outline[1:-1, 1:-1].any()
    assert not has(contour_panel(image, np.zeros((16, 16), np.uint8)), SEGMENTATION)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_to_rgb(channels: int) -> None:
    image = np.random.default_rng(0).random((channels, 5, 7), dtype=np.float32)
    rgb = to_rgb(image)
    assert rgb.shape == (5, 7, 3)
    assert rgb.dtype == np.uint8
    if channels == 3:
        np.testing.assert_allclose(rgb, np.moveaxis(image, 0, -1) * 255, atol=0.51)
    else:
        assert (rgb[..., :1] == rgb).all()
    assert to_rgb(np.full((1, 2, 2), 1.5, np.float32)).max() == 255  # clipped, not wrapped


def test_inputs_are_left_alone() -> None:
    given_scene = scene()
    copies = {name: array.copy() for name, array in given_scene.items()}
    for array in given_scene.values():
        array.flags.writeable = False
    render_frame(**given_scene, previous=given_scene["target"])
    for name, array in given_scene.items():
        np.testing.assert_array_equal(array, copies[name])


def test_viewer_shows_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    viewer = Viewer(frames_per_second=1000)
    viewer.close()
    viewer.show(frame)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown, frame)
    viewer.show(frame[:20])  # another size opens another window
    assert pygame.display.get_surface().get_size() == (60, 20)
    viewer.close()
    viewer.close()
    viewer.show(frame)  # and a closed one opens again
    viewer.close()


def test_viewer_without_a_display_says_what_to_do() -> None:
    """In a process of its own: SDL decides about displays once."""
    pytest.importorskip("pygame")
    code = (
        "import numpy as np\n"
        "from pixelseg_env.errors import OptionError\n"
        "from pixelseg_env.rendering import Viewer\n"
        "try:\n"
        "    Viewer().show(np.zeros((8, 8, 3), np.uint8))\n"
        "except OptionError as error:\n"
        "    print(error)\n"
    )
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 'render_mode="rgb_array"' in done.stdout


def test_viewer_with_an_unknown_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(OptionError, match="could not open a window"):
        Viewer().show(np.zeros((8, 8, 3), np.uint8))


def test_viewer_without_pygame(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pygame":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyNotInstalled, match=r"pixelseg-env\[human\]"):
        Viewer().show(np.zeros((8, 8, 3), np.uint8))


def test_importing_the_environment_does_not_import_pygame() -> None:
    code = "import sys, pixelseg_env; sys.exit('pygame' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
