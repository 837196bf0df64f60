"""Tianshou's PPO, every pixel an agent, on 16x16 phantoms beside Otsu.

python benchmarks/third_party/tianshou_ppo.py
"""

# mypy: ignore-errors
import sys
import time

import torch

from pixelseg_agents.evaluation import evaluate, table
from pixelseg_agents.references import Otsu
from pixelseg_env import PixelSegVectorEnv, balanced
from pixelseg_env.views import PixelPolicy, PixelTianshouEnv

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


def main(rounds: int = 30) -> dict[str, float]:
    torch.manual_seed(0)
    env = PixelTianshouEnv(8, view=7, size=16, horizon=1, reward=balanced(6.0))
    seen, space = env.observation_space[0].shape, env.action_space[0]
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
    with torch.no_grad():
        decided = evaluate(PixelPolicy(lambda cells: actor(cells)[0].argmax(1), view=7), test)  # the glue
    results = {"Tianshou PPO": decided, "Otsu": evaluate(Otsu(), test)}
    print(table(results))
    return {name: float(result.metrics["DICE"].mean()) for name, result in results.items()}


def _categorical(probabilities):
    return torch.distributions.Categorical(probs=probabilities)


if __name__ == "__main__":
    main()
