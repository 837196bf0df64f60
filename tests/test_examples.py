"""Every example runs as it stands, in a folder of its own, and prints scores."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.helpers.fresh import run_script

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
if importlib.util.find_spec("ray") is None:  # RLlib has an environment of its own: make test-rllib
    EXAMPLES = [path for path in EXAMPLES if path.stem != "rllib_ppo"]
# Whoever lacks these libraries is told so by the example; docs/third-party.md has what they reach.
LIBRARIES = {
    "benchmarl_ippo": "benchmarl",  # in an environment of its own: make test-benchmarl
    "sb3_contrib_agents": "sb3_contrib",
    "skrl_ppo": "skrl",
    "tianshou_ppo": "tianshou",
}
SHORT = {  # that those which train also learn is tested elsewhere (tests/env/views), or seen in the README's picture
    "idea": ["--updates", "2"],
    "sb3_agents": ["--rounds", "1"],
    "sb3_contrib_agents": ["--rounds", "1"],
    "torchrl_reinforce": ["--batches", "2"],
}


def test_there_are_examples() -> None:
    assert {"random_agent.py", "own_agent.py", "reward_design.py", "idea.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    library = LIBRARIES.get(path.stem)
    missing = library is not None and importlib.util.find_spec(library) is None
    done = run_script(path, *SHORT.get(path.stem, ()), folder=tmp_path)
    if missing:
        assert done.returncode == 1
        assert "pip install" in done.stderr
        pytest.skip(f"{library} is not installed; the example says so")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"[+-]?0\.\d{3}", done.stdout)) >= 5, done.stdout
