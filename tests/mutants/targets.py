"""Which files are mutated, and which tests judge them."""

from __future__ import annotations

from dataclasses import dataclass

TIMED = ("faster_than", "is_quick", "takes_no_longer")  # tests of speed: a busy machine fails them, not a mutant


@dataclass(frozen=True)
class Target:
    """Files and what judges them.

    Attributes:
        paths: of the files, below the repository.
        tests: test files, folders and tests; of these, the tests that call the mutated function.
        functions: the qualified names of the functions that are mutated; none: all of the file.
    """

    paths: tuple[str, ...]
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}.py" for name in names)


LEARNING = "agents/pixelseg_agents/learning"
NETWORKS = "agents/pixelseg_agents/networks"
LOSSES_OF_ACTOR_CRITICS = (  # the others train
    "each_loss_reaches_its_own_head_and_the_trunk",
    "losses_are_those_of_algorithm_1",
    "a_good_surprise_makes_the_action_likelier",
    "a_pixel_that_has_left_the_game_teaches_nothing",
    "terms_of_parts_add_up_to_those_of_the_batch",
)
REWARDS_OF_PROBABILITIES = ("a_trajectory_by_the_definition", "rewards_add_up_to_what_the_episode_changed")
TARGETS = (
    Target((f"{LEARNING}/returns.py",), ("tests/agents/learning/test_returns.py",)),
    Target((f"{LEARNING}/replay.py",), ("tests/agents/learning/test_replay.py",)),
    Target(
        (f"{LEARNING}/losses.py",),
        ("tests/agents/learning/test_losses.py",),
    ),
    Target((f"{LEARNING}/policy_gradient.py",), ("tests/agents/learning/test_policy_gradient.py",)),
    Target(
        ("agents/pixelseg_agents/actor_critic.py",),
        tuple(f"tests/agents/test_pa3c.py::test_{name}" for name in LOSSES_OF_ACTOR_CRITICS),
        ("ActorCritic._losses",),
    ),
    Target(
        ("agents/pixelseg_agents/dqn.py",),
        _in("tests/agents", "test_baselines"),
        ("DQN._learn", "DQN._next_value", "DQN._explored"),
    ),
    Target(
        ("pixelseg_env/dynamics.py",),
        _in("tests/env", "test_dynamics", "test_additive", "test_labels", "test_time", "test_torch_backend"),
    ),
    Target(
        _in(
            "pixelseg_env/rewards",
            "audit",
            "loopholes",
            "table",
            "trials",
            "base",
            "check",
            "context",
            "expression",
            "guard",
            "registry",
        ),
        ("tests/env/rewards", "tests/env/test_actions_and_rewards.py"),
    ),
    Target(
        _in("pixelseg_env/rewards", "built_in", "catalogue", "distances", "facts", "hackable", "potentials"),
        (
            "tests/env/rewards",
            "tests/env/test_actions_and_rewards.py",
            *(f"tests/env/test_additive.py::test_{name}" for name in REWARDS_OF_PROBABILITIES),
        ),
    ),
    Target(("pixelseg_env/metrics.py",), ("tests/env/test_metrics.py", "tests/env/test_volume_metrics.py")),
    Target(
        _in(NETWORKS, "blocks", "heads", "pa3c", "unet"),
        _in("tests/agents/networks", "test_base", "test_pa3c", "test_networks", "test_hand_written"),
    ),
    Target(
        _in(NETWORKS, "base", "registry", "fcn", "attention_unet", "resunetpp", "unet3p", "unetpp")
        + _in(NETWORKS, "transunet", "swin_unet", "nnunet"),
        _in("tests/agents/networks", "test_base", "test_starts", "test_hand_written", "test_registry")
        + _in("tests/agents/networks", "test_from_libraries"),
    ),
    Target(_in(NETWORKS, "masker"), ("tests/agents/networks/test_base.py", "tests/agents/test_amp_drl.py")),
)
