"""TorchRL's PPO on the pixels of 16x16 phantoms: its collector, actor, critic and ClipPPOLoss, a reward for each pixel.

Needs `pip install "pixelseg-env[torchrl]"`.

python examples/torchrl_ppo.py       a minute; a number behind it: how many batches of 16 images
"""

import sys

import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss

from pixelseg_env.views import PixelSegTorchRLEnv

torch.manual_seed(0)
batches = int(sys.argv[1]) if sys.argv[1:] else 100
task = {"view": 7, "size": 16, "horizon": 1}  # a pixel sees 7x7 pixels, and decides once
env = PixelSegTorchRLEnv(16, reward="balanced(6)", **task)
SEEN, LOGITS, ACTION, VALUE = (("pixels", key) for key in ("observation", "logits", "action", "state_value"))
network, judge = (nn.Sequential(nn.Flatten(-3), MLP(49, outputs, num_cells=[64, 64])) for outputs in (2, 1))
choice = {"distribution_class": torch.distributions.Categorical, "return_log_prob": True}
actor = ProbabilisticActor(TensorDictModule(network, [SEEN], [LOGITS]), [LOGITS], [ACTION], **choice)
loss = ClipPPOLoss(actor, ValueOperator(judge, [SEEN], [VALUE]), entropy_coeff=0.01)
of_pixels = {key: ("pixels", key) for key in ("reward", "done", "terminated")}
loss.set_keys(action=ACTION, value=VALUE, sample_log_prob=("pixels", "action_log_prob"), **of_pixels)
optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
for batch in Collector(env, actor, frames_per_batch=16, total_frames=16 * batches):
    loss.value_estimator(batch)  # advantages
    for _ in range(4):
        optimizer.zero_grad()
        sum(part for name, part in loss(batch).items() if name.startswith("loss_")).backward()
        optimizer.step()
with set_exploration_type(ExplorationType.DETERMINISTIC):
    test = PixelSegTorchRLEnv(80, split="test", order="sequential", **task).rollout(1, actor)
print(f"mean Dice of 80 test images: {test['next', 'dice'].mean():.3f}, keep everything {test['dice'].mean():.3f}")
