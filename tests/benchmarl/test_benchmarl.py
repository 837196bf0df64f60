"""BenchMARL trains on the pixels; run by `make test-benchmarl` in an environment of its own."""

from __future__ import annotations

import pytest

pytest.importorskip("benchmarl", reason="BenchMARL pins an older TorchRL: run `make test-benchmarl`")


def test_a_team_of_pixels_learns() -> None:
    from examples import benchmarl_ippo

    few, more = (benchmarl_ippo.main(rounds)["BenchMARL IPPO"] for rounds in (1, 10))
    assert more > few + 0.1


def test_every_pixel_is_an_agent() -> None:
    from examples.benchmarl_ippo import Pixels

    task = Pixels("PHANTOMS", {"size": 16, "horizon": 2, "count": 20})
    env = task.get_env_fun(3, False, 0, "cpu")()
    assert task.max_steps(env) == 2
    assert {group: len(names) for group, names in task.group_map(env).items()} == {"pixels": 256}
    assert task.action_spec(env)["pixels", "action"].shape == (256,)
    assert task.observation_spec(env)["pixels", "observation"].shape == (256, 1, 7, 7)
