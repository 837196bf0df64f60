"""PixelRL for segmentation (Furuta et al. 2019, as the publication's ablation has it): refining a coarse map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.learning.distributions import Categorical
from pixelseg_agents.pa3c import PA3C
from pixelseg_env.dynamics import AMOUNTS


@dataclass(frozen=True)
class PixelRLConfig(PA3CConfig):
    """Hyperparameters of PixelRL: PA3C's, with PixelRL's own defaults.

    Its smallest amount, 0.1, moves Eq. 12 by a hundredth of what PA3C's decisions do. So its entropy coefficient has to
    be small against 0.01, or standing still costs more than it saves; and what ten small steps add up to takes long
    episodes to learn: the first horizon gets 30 % of the steps instead of 60 % (measured: benchmarks/LOG.md).
    """

    agent: ClassVar[str] = "PixelRL"
    default_horizons: ClassVar[tuple[int, ...]] = (1, 3, 10)
    first_share: ClassVar[float] = 0.3

    entropy_coefficient: float | None = 0.001


class PixelRL(PA3C):
    """PA3C's network and learning on the transition `"additive"`: eight amounts to add to a map of probabilities.

    ```python
    unet = Supervised(gym.make_vec("PixelSegEnv-v0", num_envs=8)).learn(1000)
    env = gym.make_vec(
        "PixelSegEnv-v0", num_envs=8, transition="additive", observation="stacked", start=unet.probability
    )
    agent = PixelRL(env).learn(1000)
    ```

    Rewards are the environment's: `reward="squared_error"` (Eq. 12) or `"cross_entropy"`.
    """

    name = "PixelRL"
    family = "refinement"
    config_class = PixelRLConfig
    transitions = ("additive",)
    several_labels = False
    policy = Categorical(len(AMOUNTS))
