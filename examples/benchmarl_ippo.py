"""BenchMARL's IPPO: every pixel of 16x16 phantoms is an agent of one team. Needs what `make test-benchmarl` installs.

.venv-benchmarl/bin/python examples/benchmarl_ippo.py       a minute; a number behind it: how many rounds of 16 images
"""

# mypy: ignore-errors
import sys
from dataclasses import replace
from tempfile import mkdtemp

from benchmarl.algorithms import IppoConfig
from benchmarl.environments.vmas.common import VmasClass
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from torchrl.envs import ExplorationType, set_exploration_type

from pixelseg_env.views import PixelSegTorchRLEnv


class Pixels(VmasClass):  # a task like VMAS's, batched too: all the glue there is
    def max_steps(self, env):
        return env.horizon

    def get_env_fun(self, num_envs, continuous_actions, seed, device):
        return lambda: PixelSegTorchRLEnv(num_envs, device=device, **self.config)


if __name__ == "__main__":
    task = {"view": 7, "size": 16, "horizon": 1}
    plain = {"loggers": [], "evaluation": False, "save_folder": mkdtemp(), "prefer_continuous_actions": False}
    length = {"max_n_frames": 16 * (int(sys.argv[1]) if sys.argv[1:] else 30), "on_policy_n_minibatch_iters": 4}
    few = {"on_policy_n_envs_per_worker": 8, "on_policy_collected_frames_per_batch": 16, "on_policy_minibatch_size": 4}
    config = replace(ExperimentConfig.get_from_yaml(), lr=1e-3, gamma=0.95, **plain, **length, **few)
    model = replace(MlpConfig.get_from_yaml(), num_cells=[64, 64], num_feature_dims=3)
    pixels = Pixels("PHANTOMS", task | {"reward": "balanced(6)"})
    experiment = Experiment(pixels, IppoConfig.get_from_yaml(), model, 0, config, critic_model_config=model)
    experiment.run()
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        test = PixelSegTorchRLEnv(80, split="test", order="sequential", **task).rollout(1, experiment.policy)
    print(f"mean Dice of 80 test images: {test['next', 'dice'].mean():.3f}, keep everything {test['dice'].mean():.3f}")
