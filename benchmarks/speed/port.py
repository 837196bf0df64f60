"""PA3C beside the way in which public ports of PixelRL train: pixel-agent steps and operations per CPU second.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.port --out benchmarks/records/speed/port.json

Ports of PixelRL (Furuta et al. 2019) share a network and a loop, both written anew here: four dilated convolutions of
64 channels, a policy with a convolutional GRU and a value, 0.482 M parameters; images, actions and rewards in NumPy, a
pass and a draw for every step, one gradient an episode. What the ports' own environments cost (filters of OpenCV) is
left out, and their task is ours: zero or keep. Beside it stand PA3C on that very network, and PA3C on its own.
All are timed in turn within one process, in CPU seconds; ratios are medians. A pixel-agent step is one decision of one
pixel in training, the gradient's share included.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.records import write_record
from benchmarks.speed.modes import make
from pixelseg_agents import PA3C
from pixelseg_agents.provenance import provenance

CHANNELS = 64
PORT = "the ports' way"


@dataclasses.dataclass
class Port:
    """What to measure."""

    sizes: tuple[int, ...] = (64, 128)
    """Sides of the images in pixels."""
    widths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Widths of PA3C's own network."""
    batch: int = 2
    """Images of an update."""
    t_max: int = 5
    """Steps of an episode."""
    rounds: int = 7
    """How often each is timed, after once that is not counted."""
    bf16: bool = False
    """PA3C in bfloat16 too, on processors that have instructions for it."""
    out: Path = Path("port.json")
    """The record."""


def convolution(dilation: int) -> nn.Conv2d:
    """One of the network's layers."""
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation)


class PortNetwork(nn.Module):
    """The fully convolutional network of PixelRL, with a logit and a value for every pixel.

    Args:
        channels: C of an observation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, CHANNELS, 3, padding=1)
        self.trunk = nn.ModuleList([convolution(dilation) for dilation in (2, 3, 4)])
        self.policy = nn.ModuleList([convolution(dilation) for dilation in (3, 2)])
        self.value = nn.ModuleList([convolution(dilation) for dilation in (3, 2)])
        self.of_input = nn.ModuleList([convolution(1) for _ in range(3)])
        self.of_state = nn.ModuleList([convolution(1) for _ in range(3)])
        self.logit, self.worth = (nn.Conv2d(CHANNELS, 1, 3, padding=1) for _ in range(2))

    def recurrent(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and values, (B, H, W), and the next state, (B, 64, H, W)."""
        shared = F.relu(self.first(observation))
        for layer in self.trunk:
            shared = F.relu(layer(shared))
        policy, value = shared, shared
        for one, other in zip(self.policy, self.value, strict=True):
            policy, value = F.relu(one(policy)), F.relu(other(value))
        update = torch.sigmoid(self.of_input[0](policy) + self.of_state[0](state))
        reset = torch.sigmoid(self.of_input[1](policy) + self.of_state[1](state))
        candidate = torch.tanh(self.of_input[2](policy) + self.of_state[2](reset * state))
        state = (1 - update) * state + update * candidate
        return self.logit(state)[:, 0], self.worth(value)[:, 0], state

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values of one step from an empty state, which costs what any other step does."""
        empty = observation.new_zeros(len(observation), CHANNELS, *observation.shape[-2:])
        logits, values, _ = self.recurrent(observation, empty)
        return logits, values


class OnPortNetwork(PA3C):
    """PA3C on the ports' network."""

    def _make_parts(self) -> dict[str, nn.Module]:
        return {"network": PortNetwork(self.inputs)}


def ports_way(batch: int, size: int, t_max: int) -> Callable[[], None]:
    """An update as the ports do it."""
    rng = np.random.default_rng(0)
    network = PortNetwork(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def update() -> None:
        image = rng.random((batch, 1, size, size), dtype=np.float32)
        target = (rng.random((batch, size, size)) < 0.1).astype(np.float32)
        current = np.ones_like(target)
        state = torch.zeros(batch, CHANNELS, size, size)
        logs, values, entropies, rewards = [], [], [], []
        for _ in range(t_max):
            logits, value, state = network.recurrent(torch.from_numpy(image * current[:, None]), state)
            policy = torch.distributions.Bernoulli(logits=logits)  # type: ignore[no-untyped-call]
            action = policy.sample()  # type: ignore[no-untyped-call]
            logs.append(policy.log_prob(action))  # type: ignore[no-untyped-call]
            entropies.append(policy.entropy())  # type: ignore[no-untyped-call]
            values.append(value)
            previous, current = current, action.numpy()  # restorable, so that no step is cheaper than another
            rewards.append(torch.from_numpy((previous - target) ** 2 - (current - target) ** 2))
        loss, gain = torch.zeros(()), torch.zeros(batch, size, size)
        for k in reversed(range(t_max)):
            gain = rewards[k] + 0.95 * gain
            advantage = gain - values[k]
            loss = loss - (logs[k] * advantage.detach()).mean() - 0.01 * entropies[k].mean()
            loss = loss + 0.5 * (advantage**2).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return update


def ours(kind: type[PA3C], batch: int, size: int, t_max: int, **options: Any) -> Callable[[], None]:
    """An update of PA3C."""
    agent = make(kind, batch, size, transition="restorable", horizons=(t_max,), recompute=False, **options)

    def update() -> None:
        agent.learn(agent.updates + 1)

    return update


def measured(options: Port, size: int) -> list[dict[str, Any]]:
    """A row for each learner."""
    shape = options.batch, size, options.t_max
    learners = {PORT: ports_way(*shape)}
    for precision in ("fp32", "bf16")[: 1 + options.bf16]:
        said = "" if precision == "fp32" else f", {precision}"
        learners[f"PA3C, the ports' network{said}"] = ours(OnPortNetwork, *shape, precision=precision)
        for width in options.widths:
            learners[f"PA3C, width {width:g}{said}"] = ours(PA3C, *shape, width=width, precision=precision)
    flops = {}
    for name, update in learners.items():
        with FlopCounterMode(display=False) as counter:
            update()
        flops[name] = counter.get_total_flops()
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(options.rounds):
        for name, update in learners.items():
            started = time.process_time()
            update()
            seconds[name].append(time.process_time() - started)
    steps = options.batch * size**2 * options.t_max
    return [
        {
            "learner": name,
            "size": size,
            "gflop_per_update": flops[name] / 1e9,
            "cpu_seconds": statistics.median(seconds[name]),
            "steps_per_cpu_second": steps / statistics.median(seconds[name]),
            "gflop_per_cpu_second": flops[name] / 1e9 / statistics.median(seconds[name]),
            "times_the_port": statistics.median(a / b for a, b in zip(seconds[PORT], seconds[name], strict=True)),
        }
        for name in learners
    ]


def main() -> None:
    """Measures and writes the record."""
    options = tyro.cli(Port, description=__doc__)
    rows = []
    for size in options.sizes:
        for row in measured(options, size):
            rows.append(row)
            print(row, flush=True)
    parameters = sum(parameter.numel() for parameter in PortNetwork(1).parameters())
    record = {"rows": rows, "parameters_of_the_ports_network": parameters, "threads": torch.get_num_threads()}
    write_record(options.out, record | {"options": dataclasses.asdict(options) | {"out": ""}} | provenance())


if __name__ == "__main__":
    main()
