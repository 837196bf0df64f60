"""PPO in the manner of CleanRL, all of it in this file: a convolutional network decides for whole images at once.

python examples/cleanrl_ppo.py       half a minute; a number behind it: how many updates
"""

import sys

import torch
from torch import nn
from torch.distributions import Bernoulli

from pixelseg_env import PixelSegVectorEnv

torch.manual_seed(0)
layers = [(nn.Conv2d(c, 24, 3, padding=d, dilation=d), nn.ReLU()) for c, d in ((1, 1), (24, 2), (24, 4))]
net = nn.Sequential(*(one for layer in layers for one in layer), nn.Conv2d(24, 2, 1))  # a logit and a value a pixel
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
env = PixelSegVectorEnv(16, size=32, horizon=1, reward="balanced(6)", autoreset_mode="SameStep", backend="torch")
seen, _ = env.reset(seed=0)
for _ in range(int(sys.argv[1]) if sys.argv[1:] else 150):
    with torch.no_grad():
        logits, values = net(seen).unbind(1)
        actions = torch.bernoulli(logits.sigmoid())
        before = Bernoulli(logits=logits).log_prob(actions)
    after, _, _, _, infos = env.step(actions.to(torch.int8))
    for _ in range(4):
        logits, found = net(seen).unbind(1)
        policy = Bernoulli(logits=logits)
        ratio, advantage = (policy.log_prob(actions) - before).exp(), infos["reward_map"] - values
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        loss = -gain.mean() + 0.5 * (infos["reward_map"] - found).square().mean() - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen = after

test = PixelSegVectorEnv(80, split="test", size=32, horizon=1, order="sequential", backend="torch")
seen, start = test.reset()
_, _, _, _, end = test.step((net(seen)[:, 0] > 0).to(torch.int8))
print(f"mean Dice of 80 test images: {end['dice'].mean():.3f}, keep everything {start['dice'].mean():.3f}")
