"""Tianshou's PPO, every pixel an agent, on 16x16 phantoms beside Otsu.

python examples/tianshou_ppo.py
"""

# mypy: ignore-errors
import sys
import time

import numpy as np
import torch

from pixelseg_agents.evaluation import evaluate, table
from pixelseg_agents.references import Otsu
from pixelseg_env import PixelSegVectorEnv, balanced
from pixelseg_env.views import PixelPolicy, PixelVectorEnv

try:
    from tianshou.algorithm import PPO
    from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.trainer import OnPolicyTrainerParams
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
except ImportError:
    sys.exit("This example needs Tianshou: pip install tianshou")


class Pixels(PixelVectorEnv):
    """Tianshou steps all and then resets those that ended; they have begun anew already: the glue."""

    is_async, __len__ = False, lambda self: self.num_envs

    def step(self, action, id=None):  # noqa: D102
        self.last, *rest, _ = super().step(action)
        return self.last, *rest, np.array([{}] * len(self))

    def reset(self, env_id=None, **options):  # noqa: D102
        self.last = super().reset()[0] if env_id is None else self.last
        which = slice(None) if env_id is None else env_id
        return self.last[which], np.array([{}] * len(self))[which]


class Trained:
    """Tianshou's actor with Stable-Baselines3's `predict`."""

    def __init__(self, actor):
        self.actor = actor

    @torch.no_grad()
    def predict(self, cells, state=None, episode_start=None, deterministic=True):  # noqa: D102
        return self.actor(cells)[0].argmax(1).numpy(), state


def main(rounds: int = 30) -> dict[str, float]:
    torch.manual_seed(0)
    env = Pixels(8, view=7, size=16, horizon=1, reward=balanced(6.0))
    seen, space = env.single_observation_space.shape, env.single_action_space
    env.action_space = [space] * len(env)
    actor = DiscreteActor(preprocess_net=Net(state_shape=seen, hidden_sizes=[64, 64]), action_shape=2)
    critic = DiscreteCritic(preprocess_net=Net(state_shape=seen, hidden_sizes=[64, 64]))
    policy = DiscreteActorPolicy(actor=actor, action_space=space, dist_fn=_categorical)
    ppo = PPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-3), gamma=0.95, max_batchsize=4096)
    collector = Collector(ppo, env, VectorReplayBuffer(len(env), len(env)))
    began = time.perf_counter()
    ppo.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=rounds * len(env),
            batch_size=512,
            collection_step_num_env_steps=len(env),
            update_step_num_repetitions=4,
            verbose=False,
            show_progress=False,
        )
    )
    print(f"trained for {time.perf_counter() - began:.0f} s")
    test = PixelSegVectorEnv(8, split="test", size=16, horizon=1)
    results = {"Tianshou PPO": evaluate(PixelPolicy(Trained(actor), view=7), test), "Otsu": evaluate(Otsu(), test)}
    print(table(results))
    return {name: float(result.metrics["DICE"].mean()) for name, result in results.items()}


def _categorical(probabilities):
    return torch.distributions.Categorical(probs=probabilities)


if __name__ == "__main__":
    main()
