"""What all pixel agents share: setup on an environment, prediction and checkpoints; `learner` has how they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from torch import Tensor

from pixelseg_agents.checkpoint import Checkpoint, CheckpointError, checkpoint_path, load_checkpoint, save_checkpoint
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.files import reason
from pixelseg_agents.learner import Learner
from pixelseg_agents.learning.device import resolve_device
from pixelseg_agents.learning.episodes import tensor
from pixelseg_agents.learning.looking import WHOLE
from pixelseg_agents.learning.notes import Notes
from pixelseg_agents.learning.precision import PLAIN, Mode
from pixelseg_agents.learning.room import out_of_memory
from pixelseg_agents.learning.task import AgentTask, attribute
from pixelseg_agents.networks import known_already, network_class
from pixelseg_agents.state import check_shapes, restore, settings_of, task_of, tensors_of
from pixelseg_agents.team import ALONE
from pixelseg_env import OptionError
from pixelseg_env.dynamics import observe


class PixelAgent(Learner):
    """An agent that decides every pixel; a subclass says with what network, and how that learns.

    The environment is used through its public interface alone: spaces, `reset(seed, options={"horizon"})`, `step`,
    keys of `info`, and its attributes `transition`, `observation`, `dataset` and `reward` where it has them. The target
    weights rewards during training and is never shown to the network.

    A subclass has a `name`, a `config_class` and four methods:

    - `_make_parts()`: its modules, `"network"` first; parameters with `requires_grad` are trained.
    - `_update(horizon, weight)`: one batch of episodes and the gradient steps that belong to it.
    - `passes_per_update(horizon)`: what that costs, for budgets.
    - `_keep(observation, deterministic)`: the decision.

    Args:
        env: a vector environment; its number of images is the batch size.
        config: hyperparameters; default: those of the agent's `config_class`.
        seed: of parameters, images, actions and augmentation. A training is reproducible on the CPU, and
            one that was saved and resumed gives the same result as one that was not interrupted.
        device: "auto" (CUDA where available), "cpu", "cuda", ...
        **changes: single hyperparameters, `PA3C(env, width=0.5)`.

    Attributes:
        updates: updates done.
        passes: images that went through a network while learning, those looked at without a gradient too.
        episodes: episodes begun, each one visit to an image.
        team: the processes that train it together; alone by default.
        mode: in what mode the passes of training are computed; None: it has not been settled yet.
        apply_gradients: what an update does when its gradients are there: the optimizer's step, by default.

    Raises:
        OptionError: a hyperparameter is not known or not valid, or `env` is not a vector environment.
    """

    name: ClassVar[str]  # in messages, tables and checkpoints
    formerly: ClassVar[tuple[str, ...]] = ()  # names that older checkpoints have
    family: ClassVar[str] = "actor-critic"  # or "q-learning", "refinement", "supervised"
    supervised: ClassVar[bool] = False  # whether it learns from the target instead of rewards
    looks_once: ClassVar[bool] = False  # whether it decides at its first look and knows no later ones
    idle: ClassVar[tuple[str, ...]] = ()  # hyperparameters of its `config_class` that change nothing about it
    config_class: ClassVar[type[AgentConfig]]
    config: Any  # of type config_class
    transitions: ClassVar[tuple[str, ...]] = ("absorbing", "restorable")  # what its actions mean something for
    several_labels: ClassVar[bool] = True
    repeats: ClassVar[bool] = True  # decides the same when it sees the same again (and deterministically)

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        config: AgentConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **changes: Any,
    ) -> None:
        task = AgentTask.of(env, self.name)
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
            raise OptionError(f"seed={seed!r}: expected a whole number from 0 to 2**63 - 1")
        config = (config or self.config_class()).replace(**changes)
        if not self.supervised:
            config = config.for_reward(attribute(env, "reward_name", None))
        missing = getattr(config, "missing_sequences", 0.0)  # a third party's configuration need not have it
        if missing and task.image_channels < 2:
            raise OptionError(
                f"missing_sequences={missing:g}: images have one channel, which no other can stand in for"
            )
        stand_in = getattr(config, "missing_stand_in", None)
        if stand_in is not None and not 0 <= stand_in < task.image_channels:
            raise OptionError(
                f"missing_stand_in={stand_in}: expected a channel of the images, from 0 to {task.image_channels - 1}"
            )
        self._build(config, seed, device, task)
        self.env: VectorEnv[Any, Any, Any] | None = env

    def _build(self, config: AgentConfig, seed: int, device: str | torch.device, task: AgentTask) -> None:
        if task.transition not in self.transitions:
            wanted = " or ".join(map(repr, self.transitions))
            raise OptionError(f"{self.name}: expected an environment with transition={wanted}, got {task.transition!r}")
        if task.labels > 1 and not self.several_labels:
            raise OptionError(f"{self.name}: decides about one label, the environment has {task.labels}")
        network = getattr(config, "network", None)  # a third party's configuration need not have one
        if network is not None and "network" in self.idle:
            raise OptionError(f"network={network!r}: {self.name} has a network of its own and takes no other")
        look = getattr(config, "look", WHOLE)
        if look != WHOLE and "look" in self.idle:
            raise OptionError(f"look={look!r}: {self.name} looks at whole images alone")
        self.task = task
        self.config = config.for_task(task.transition, task.observation)
        self.seed = seed
        self.device = resolve_device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = self._make_parts()
        self.parts = {name: part.to(self.device) for name, part in parts.items()}
        self._parameters = [p for part in self.parts.values() for p in part.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self._parameters, lr=self.config.learning_rate)
        self.updates = 0
        self.total_updates = 0
        self.passes = 0
        self.episodes = 0
        self._file: Path | None = None  # that it was read from
        self.logger: Logger | None = None
        self.apply_gradients: Callable[[], None] = self._apply_gradients
        self.team = ALONE
        self._notes = Notes()
        self._unseen: list[Tensor] = []
        self.mode: Mode | None = None
        self._passes = PLAIN
        self._index: NDArray[np.int64] | None = None  # the images that are learnt from
        self._predict_generator = torch.Generator(self.device).manual_seed(seed)

    @property
    def title(self) -> str:
        """Its name, with that of the network it was given, for people to read."""
        network = getattr(self.config, "network", None)
        return self.name if network is None else f"{self.name}, on {network_class(network).label}"

    @property
    def channels(self) -> int:
        """Channels of an observation."""
        return self.task.channels

    @property
    def image_channels(self) -> int:
        """Channels of an image."""
        return self.task.image_channels

    @property
    def transition(self) -> str:
        """What an action does in the environment that it was made for."""
        return self.task.transition

    @property
    def observation(self) -> str:
        """What it sees of image and map."""
        return self.task.observation

    @property
    def label_names(self) -> tuple[str, ...]:
        """What it segments, a name per label."""
        return self.task.label_names

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        """The decision on a batch (B, [L,] H, W): True where a pixel is kept, or the number of its action."""
        raise NotImplementedError

    # ---------------------------------------------------------------- use

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, tuple[NDArray[Any], ...] | None]:
        """Chooses an action for every pixel (Stable-Baselines3's signature).

        Args:
            observation: float32 (C, H, W) or (B, C, H, W), any H and W; NumPy, or a tensor.
            state: not used; this agent has no memory.
            episode_start: not used.
            deterministic: the likelier action of every pixel, or one drawn from the policy.

        Returns:
            Actions, int8 (H, W) or (B, H, W), with L > 1 labels ([B,] L, H, W), 0 = zero and 1 = keep, of the
            observation's kind (a tensor on the agent's device); and the state as it came.

        Raises:
            OptionError: the observation has the wrong number of dimensions or channels.
        """
        as_tensor = isinstance(observation, Tensor)
        array: Any = observation if as_tensor else np.asarray(observation, dtype=np.float32)
        if array.ndim not in (3, 4) or array.shape[-3] != self.channels or 0 in array.shape:
            raise OptionError(
                f"predict: expected an observation of shape ({self.channels}, H, W) or (B, {self.channels}, H, W), "
                f"got {tuple(array.shape)}"
            )
        self.network.eval()
        batch = tensor(array if array.ndim == 4 else array[None], self.device)
        try:
            keep = self._keep(batch, deterministic)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise OptionError(
                f"predict: memory is too short for observations {tuple(batch.shape)}; choose a smaller size or batch"
            ) from error
        actions = keep.to(torch.int8) if as_tensor else keep.cpu().numpy().astype(np.int8)
        return (actions if array.ndim == 4 else actions[0]), state

    def windows(self, images: NDArray[np.float32], maps: NDArray[Any]) -> NDArray[np.float32] | None:
        """The K squares of each image that it looks at, when it sees them with these maps; for pictures.

        Args:
            images: float32 (N, C, H, W) in [0, 1].
            maps: f(t-1), (N, [L,] H, W).

        Returns:
            float32 (N, K, 3): row and column of a square's first edge, and its side, in pixels, the first one again
            where there are fewer; None: it sees all.
        """
        left = np.ones(len(images), np.int64) if self.task.observe_time else None
        observation = tensor(observe(images, maps, self.observation, left), self.device)
        found = self.look.squares(self.task.kept(observation))
        return None if found is None else found.cpu().numpy()

    @torch.no_grad()
    def seen(self, observation: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
        """The images as its network is shown them; for pictures.

        Args:
            observation: float32 (B, C, H, W).

        Returns:
            float32 (B, K, C', h, w) in [0, 1], with the channels of an image: of K windows where it looks closer,
            otherwise K is 1.
        """
        shown: list[Tensor] = []

        def network(batch: Tensor) -> Tensor:
            shown.append(batch)
            return batch

        self._looked(network, tensor(observation, self.device))
        found: NDArray[np.float32] = shown[0][:, : self.task.image_channels].cpu().numpy()
        return found.reshape(len(observation), -1, *found.shape[1:])

    # ---------------------------------------------------------------- files

    def memory(self) -> dict[str, Tensor]:
        """What a training that goes on needs besides parameters, moments and counts, such as a replay."""
        return {}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Takes up what `memory` gave; an older checkpoint has nothing.

        Raises:
            KeyError, ValueError: it is damaged.
        """

    def save(self, path: str | Path) -> Path:
        """Writes parameters, optimizer and settings to one safetensors file (suffix added when missing).

        Of several processes that train together the first one writes.

        Returns:
            The path that was written.
        """
        checkpoint = Checkpoint(self.name, settings_of(self), tensors_of(self))
        return save_checkpoint(path, checkpoint) if self.team.first else checkpoint_path(path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: VectorEnv[Any, Any, Any] | None = None,
        device: str | torch.device = "auto",
        network: str | None = None,
    ) -> Self:
        """Reads an agent that `save` wrote.

        Args:
            path: the checkpoint.
            env: to go on training; not needed to predict.
            device: where to put it.
            network: the network that it has, a registered name or `module:name`; by default that which the file names.
                A file alone is no reason to import anybody's code, so a `module:name` has to be given here unless its
                module is imported already.

        Returns:
            The agent.

        Raises:
            CheckpointError: the file is missing, damaged, or of another kind, or names a network whose module is not
                imported.
            OptionError: `env` does not fit the agent, `device` is not there, or `network` cannot be had.
        """
        checkpoint = load_checkpoint(path)
        if checkpoint.algorithm not in (cls.name, *cls.formerly):
            raise CheckpointError(f"{path}: a checkpoint of {checkpoint.algorithm}, expected {cls.name}")
        agent = cls.__new__(cls)
        device = resolve_device(device)
        try:
            settings = dict(checkpoint.settings)
            config = cls.config_class.from_dict(settings["config"])
            if network is not None:
                config = config.replace(network=network)
            if not known_already(look := getattr(config, "look", WHOLE)):
                raise CheckpointError(
                    f"{path}: looks at images with {look}, whose module is not imported here. If you trust it, import "
                    "it first, or put the run's config.json beside the file"
                )
            if network is None and not known_already(found := getattr(config, "network", None)):
                raise CheckpointError(
                    f"{path}: has the network {found}, whose module is not imported here. If you trust it, load with "
                    f"network={found!r}, import the module first, or put the run's config.json beside the file"
                )
            agent.task, agent.device = task_of(settings), device
            agent.config = config.for_task(agent.task.transition, agent.task.observation)
            check_shapes(agent, checkpoint.tensors)
            agent._build(config, settings["seed"], device, agent.task)
            restore(agent, checkpoint.tensors, settings)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, ArithmeticError) as error:
            message = f"{path}: the checkpoint does not fit this version of {cls.name} ({reason(error)})"
            raise CheckpointError(message) from error
        agent.env, agent._file = env, Path(path)
        if env is not None:
            agent.task.check_fits(env, path)
        return agent
