"""RLlib's new API stack takes real training steps; run by `make test-rllib` in an environment of its own."""

from __future__ import annotations

import pytest

ray = pytest.importorskip("ray", reason="RLlib pins an older Gymnasium: run `make test-rllib`")


def test_ppo_learns() -> None:
    from benchmarks.third_party import rllib_ppo

    before, after = rllib_ppo.main(iterations=12)
    assert after > before + 0.05


def test_a_space_per_pixel() -> None:
    from benchmarks.third_party import rllib_ppo

    env = rllib_ppo.make_env()
    observation, _ = env.reset(seed=0)
    assert observation.shape == (256,)
    *_, info = env.step(env.action_space.sample())
    assert info["segmentation"].shape == (16, 16)
