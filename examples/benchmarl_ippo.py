"""BenchMARL's IPPO, every pixel an agent of one team, on 16x16 phantoms beside Otsu.

python examples/benchmarl_ippo.py
"""

# mypy: ignore-errors
import sys
import tempfile
import time

import torch
from torchrl.envs import ExplorationType, set_exploration_type

from pixelseg_agents.evaluation import evaluate
from pixelseg_agents.references import Otsu
from pixelseg_env import PixelSegVectorEnv, balanced
from pixelseg_env.views import PixelSegTorchRLEnv

try:
    from benchmarl.algorithms import IppoConfig
    from benchmarl.environments.vmas.common import VmasClass
    from benchmarl.experiment import Experiment, ExperimentConfig
    from benchmarl.models.mlp import MlpConfig
except ImportError:
    sys.exit("This example needs BenchMARL: make test-benchmarl, or pip install benchmarl in an environment of its own")


class Pixels(VmasClass):
    """A task like VMAS's, batched too; its environment is PixelSeg's: all the glue there is."""

    def max_steps(self, env):  # noqa: D102
        return env.horizon

    def get_env_fun(self, num_envs, continuous_actions, seed, device):  # noqa: D102
        return lambda: PixelSegTorchRLEnv(num_envs, view=7, device=device, **self.config)


def main(rounds: int = 30) -> dict[str, float]:
    torch.manual_seed(0)
    config = ExperimentConfig.get_from_yaml()
    config.loggers, config.create_json, config.evaluation, config.render = [], False, False, False
    config.save_folder, config.prefer_continuous_actions = tempfile.mkdtemp(), False
    config.on_policy_n_envs_per_worker, config.on_policy_collected_frames_per_batch = 8, 16
    config.on_policy_minibatch_size, config.on_policy_n_minibatch_iters = 4, 4
    config.max_n_frames, config.lr, config.gamma = 16 * rounds, 1e-3, 0.95
    model = MlpConfig.get_from_yaml()
    model.num_cells, model.num_feature_dims = [64, 64], 3
    task = Pixels("PHANTOMS", {"size": 16, "horizon": 1, "reward": balanced(6.0)})
    experiment = Experiment(task, IppoConfig.get_from_yaml(), model, 0, config, critic_model_config=model)
    began = time.perf_counter()
    experiment.run()
    print(f"trained for {time.perf_counter() - began:.0f} s")
    test = PixelSegVectorEnv(8, split="test", size=16, horizon=1)
    images = len(test.dataset)
    every = PixelSegTorchRLEnv(images, split="test", size=16, horizon=1, view=7, order="sequential")
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        found = every.rollout(1, experiment.policy)["next", "dice"].mean()
    scores = {"BenchMARL IPPO": float(found), "Otsu": float(evaluate(Otsu(), test).metrics["DICE"].mean())}
    print(f"Dice on {images} held-out images:", *(f"{name} {dice:.3f}" for name, dice in scores.items()), sep="\n")
    return scores


if __name__ == "__main__":
    main()
