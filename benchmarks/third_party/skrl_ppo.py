"""skrl's PPO, every pixel an agent, on 16x16 phantoms beside Otsu.

python benchmarks/third_party/skrl_ppo.py
"""

# mypy: ignore-errors
import sys
import time
from functools import partial

import torch

from pixelseg_agents.evaluation import evaluate, table
from pixelseg_agents.references import Otsu
from pixelseg_env import PixelSegVectorEnv, balanced
from pixelseg_env.views import PixelPolicy, PixelVectorEnv

try:
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.trainers.torch import SequentialTrainer
    from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model
except ImportError:
    sys.exit("This example needs skrl: pip install skrl")


@torch.no_grad()
def likeliest(policy, cells):
    """What skrl's policy does in windows, which is all the glue there is."""
    return policy.compute({"observations": torch.as_tensor(cells).flatten(1)}, role="policy")[0].argmax(1)


def main(rounds: int = 30) -> dict[str, float]:
    torch.manual_seed(0)
    env = wrap_env(PixelVectorEnv(8, view=7, size=16, horizon=1, reward=balanced(6.0)))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    layers = [{"name": "net", "input": "OBSERVATIONS", "layers": ["flatten", 64, 64], "activations": "relu"}]
    policy = categorical_model(**spaces, network=layers, output="ACTIONS")
    models = {"policy": policy, "value": deterministic_model(**spaces, network=layers, output="ONE")}
    cfg = PPO_CFG(rollouts=2, learning_epochs=4, mini_batches=8, discount_factor=0.95)
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    memory = RandomMemory(memory_size=2, num_envs=env.num_envs, device="cpu")
    agent = PPO(models=models, memory=memory, cfg=cfg, **spaces)
    began = time.perf_counter()
    SequentialTrainer(
        cfg={"timesteps": 2 * rounds, "headless": True, "disable_progressbar": True}, env=env, agents=agent
    ).train()
    print(f"trained for {time.perf_counter() - began:.0f} s")
    test = PixelSegVectorEnv(8, split="test", size=16, horizon=1)
    trained = PixelPolicy(partial(likeliest, policy), view=7)
    results = {"skrl PPO": evaluate(trained, test), "Otsu": evaluate(Otsu(), test)}
    print(table(results))
    return {name: float(result.metrics["DICE"].mean()) for name, result in results.items()}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
