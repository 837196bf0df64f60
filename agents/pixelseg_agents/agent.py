"""What all pixel agents share: setup on an environment, the training loop, prediction and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger, configure
from torch import Tensor, nn

from pixelseg_agents.checkpoint import Checkpoint, CheckpointError, checkpoint_path, load_checkpoint, save_checkpoint
from pixelseg_agents.config import AgentConfig
from pixelseg_agents.files import reason
from pixelseg_agents.learning.asynchronous import train_asynchronously
from pixelseg_agents.learning.device import resolve_device
from pixelseg_agents.learning.distributed import SharedGenerator
from pixelseg_agents.learning.episodes import Episodes, epoch_draw, tensor
from pixelseg_agents.learning.errors import TrainingError
from pixelseg_agents.learning.notes import Notes
from pixelseg_agents.learning.precision import PLAIN, Mode, Passes, fastest_mode
from pixelseg_agents.learning.room import out_of_memory
from pixelseg_agents.learning.schedule import TrainingSchedule, falling_weight
from pixelseg_agents.learning.task import AgentTask, attribute, dataset_length
from pixelseg_agents.networks import known_already, network_class
from pixelseg_agents.state import check_shapes, restore, settings_of, task_of, tensors_of
from pixelseg_agents.team import ALONE, Team
from pixelseg_env import OptionError, PixelSegError

SHOWN = 16  # images that a message lists
ASIDE = "_"  # notes whose name begins so are not for the log
EPOCHS_PER_DECAY, DECAY = 25, 0.9  # the published learning-rate schedule


Callback = Callable[[Any], bool | None]


@dataclass(frozen=True)
class Pace:
    """What changes while a training goes on.

    Attributes:
        schedule: of horizons.
        start_weight: factor on object pixels' rewards at the start, one, or float64 (L,).
        images_per_epoch: of the training set.
    """

    schedule: TrainingSchedule
    start_weight: Any
    images_per_epoch: int


class PixelAgent:
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
        self._unseen: list[Tensor] = []  # loss and gradient's norm of steps that were not looked at yet
        self.mode: Mode | None = None
        self._passes = PLAIN
        self._index: NDArray[np.int64] | None = None  # the images that are learnt from
        self._predict_generator = torch.Generator(self.device).manual_seed(seed)

    @property
    def network(self) -> Any:
        """The network that decides, an `nn.Module`."""
        return self.parts["network"]

    @property
    def _buffers(self) -> list[Tensor]:
        return [buffer for part in self.parts.values() for buffer in part.buffers()]

    @property
    def title(self) -> str:
        """Its name, with that of the network it was given, for people to read."""
        network = getattr(self.config, "network", None)
        return self.name if network is None else f"{self.name}, on {network_class(network).label}"

    @property
    def _told(self) -> str:
        """Its title for messages, with the file that it was read from."""
        return self.title if self._file is None else f"{self._file}: {self.title}"

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

    @property
    def labels(self) -> int:
        """L, the number of labels."""
        return self.task.labels

    def _make_parts(self) -> dict[str, nn.Module]:
        """The agent's modules by name, `"network"` first."""
        raise NotImplementedError

    def _update(self, horizon: int, weight: Any) -> int:
        """Plays one batch of episodes and learns from it.

        Args:
            horizon: t_max of these episodes.
            weight: factor on object pixels' rewards; float64 (L,) with L > 1 labels.

        Returns:
            How many images went through a network.
        """
        raise NotImplementedError

    def passes_per_update(self, horizon: int) -> float:
        """How often one update passes a batch of images through a network, with episodes of `horizon` steps."""
        raise NotImplementedError

    def _keep(self, observation: Tensor, deterministic: bool) -> Tensor:
        """The decision on a batch (B, [L,] H, W): True where a pixel is kept, or the number of its action."""
        raise NotImplementedError

    # ---------------------------------------------------------------- training

    def learn(
        self,
        total_updates: int,
        *,
        callback: Callback | None = None,
        log_interval: int = 10,
        logger: Logger | None = None,
        team: Team | None = None,
    ) -> Self:
        """Trains until `total_updates` updates have been done in all.

        One update is one batch of episodes, and the gradient steps that belong to it. A second call (or one after
        `load`) goes on from where the first stopped.

        Args:
            total_updates: updates in all; schedules stretch over them.
            callback: called after every update with the agent; returning False stops the training.
            log_interval: updates whose means make one line of the log.
            logger: a Stable-Baselines3 logger; default: none.
            team: joined first, see `join`.

        Returns:
            The agent itself.
        """
        if self.env is None:
            raise OptionError(f"learn: the agent has no environment; load it with {self.name}.load(path, env=...)")
        for name, value in (("total_updates", total_updates), ("log_interval", log_interval)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise OptionError(f"{name}={value!r}: expected a whole number of at least 1")
        if team is not None:
            self.join(team)
        self.logger = logger or configure(None, [])
        self.total_updates = total_updates
        started, first = time.perf_counter(), self.updates

        def updated(count: int) -> bool:
            """Logs after update number `count`; returns whether to go on."""
            assert self.logger is not None
            if count % log_interval == 0 or count == total_updates:
                self.logger.record("time/updates", count)
                self.logger.record("time/passes", self.passes)
                elapsed = max(1e-9, time.perf_counter() - started)
                self.logger.record("time/updates_per_second", (count - first) / elapsed)
                self.logger.dump(count)
            return callback is None or callback(self) is not False

        self.settle_mode()
        workers = getattr(self.config, "workers", 0)
        if workers and self.updates < total_updates:
            train_asynchronously(self, workers, total_updates, updated)
        else:
            pace = self.pace(total_updates)
            while self.updates < total_updates:
                self.one_update(pace)
                if not updated(self.updates):
                    break
        self.network.eval()
        return self

    def join(self, team: Team) -> None:
        """Makes it the agent of one of several processes that train together, with the first one's parameters.

        Each has an environment and a batch of its own, and calls `learn` (and `save` in a callback) as all others do.

        Args:
            team: `Team.current()`, once `torch.distributed.init_process_group` was called in each.

        Raises:
            OptionError: it has workers, too.
        """
        workers = getattr(self.config, "workers", 0)
        if team.size > 1 and workers:
            raise OptionError(f"workers={workers}: not together with {team.size} processes; leave out one of them")
        self.team = team
        if team.size > 1 and self.device.type == "cuda":  # on CPUs torch has no such thing
            for name, part in self.parts.items():
                self.parts[name] = nn.SyncBatchNorm.convert_sync_batchnorm(part)  # type: ignore[no-untyped-call]
        team.copy_from_first([*(parameter.detach() for parameter in self._parameters), *self._buffers])

    def pace(self, total_updates: int) -> Pace:
        """The plan of a training of `total_updates` updates."""
        assert self.env is not None
        starts = self.start_weight()
        start: Any = starts[0] if self.labels == 1 else np.array(starts)
        return Pace(self.config.schedule(total_updates), start, dataset_length(self.env))

    def one_update(self, pace: Pace) -> None:
        """Does update number `updates`, and counts it."""
        assert self.env is not None
        assert self.logger is not None
        self.network.train()  # a callback may have predicted
        horizon = pace.schedule.horizon(self.updates)
        progress = pace.schedule.progress(self.updates)
        weight = falling_weight(progress, pace.start_weight, self.config.final_foreground_weight)
        rate = self._learning_rate(progress, self.updates * self.team.size * self.env.num_envs / pace.images_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        (passes,) = self.team.sums(self._update(horizon, weight))
        self._log_notes()
        self.passes += passes
        self.team.copy_from_first(self._buffers)  # running means, which each process has of its own images
        self.updates += 1
        self.episodes += self.env.num_envs * self.team.size
        self.logger.record_mean("train/foreground_weight", float(np.mean(weight)))
        self.logger.record_mean("train/learning_rate", rate)

    def start_weight(self) -> list[float]:
        """The factor on object pixels' rewards that training starts with, of each label."""
        given, dataset = self.config.foreground_weight, attribute(self.env, "dataset", None)
        if given not in (None, "ratio"):
            return [float(given)] * self.labels
        if self.labels == 1:
            ratios = [float(getattr(dataset, "class_ratio", 1.0))]
        else:
            ratios = list(getattr(dataset, "class_ratios", (1.0,) * self.labels))
        # Without any foreground there is nothing to weight.
        return [max(ratio if math.isfinite(ratio) else 1.0, self.config.final_foreground_weight) for ratio in ratios]

    def _learning_rate(self, progress: float, epoch: float) -> float:
        if self.config.learning_rate_schedule == "linear":
            return float(self.config.learning_rate * (1 - progress))
        if self.config.learning_rate_schedule == "epochs":
            return float(self.config.learning_rate * DECAY ** (epoch // EPOCHS_PER_DECAY))
        return float(self.config.learning_rate)

    def _draws(self) -> tuple[int, int]:
        """Seeds of the environment and of torch for this update.

        They are a function of seed and update number, so a resumed run goes on exactly.
        """
        first, second = np.random.SeedSequence([self.seed, self.updates]).generate_state(2)
        return int(first) // 2, int(second)  # halved: image i is seeded with seed + i, which must stay in range

    def _forward(self, observation: Tensor, part: str = "network", method: str | None = None) -> Any:
        """What a network makes of a batch of observations: every pass of every agent goes through here.

        Args:
            observation: float32 (B, C, H, W).
            part: which of the agent's modules.
            method: one of the module's in place of `forward`.
        """
        module = self.parts[part]
        if self.network.training:  # where `_descend` looks
            return self._passes(module, observation, method)
        found = PLAIN(module, observation, method)
        for one in found if isinstance(found, (list, tuple)) else (found,):
            if isinstance(one, Tensor) and not torch.isfinite(one).all():
                raise PixelSegError(
                    f"{self._told}: its network gives numbers that are not finite (NaN or infinite), by which nothing "
                    "can be decided. Look at the network if it is your own, or train again with a smaller learning rate"
                )
        return found

    def settle_mode(self) -> Mode:
        """Settles in what mode the passes of training are computed, which `precision="auto"` has to measure."""
        assert self.env is not None
        if self.mode is None:
            config = self.config
            self.mode = Mode(config.precision == "bf16", config.channels_last, config.compile)
            if config.precision == "auto":
                shape = self.env.observation_space.shape or ()
                example = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
                fastest = self.team.told(fastest_mode(self.network, example))
                self.mode = replace(fastest, compiled=config.compile)
        self._passes = Passes(self.mode)
        for part in self.parts.values():
            self._passes.prepare(part)
        return self.mode

    def _descend(self, loss: Tensor | Iterable[Tensor]) -> Tensor:
        """The gate that every gradient passes: one step; returns the gradient's norm before clipping.

        Args:
            loss: a scalar, or its parts, each of which is made, and forgotten, when its turn comes.
        """
        for parameter in self._parameters:
            parameter.grad = None
        value = torch.zeros((), device=self.device)
        for part in [loss] if isinstance(loss, Tensor) else loss:
            part.backward()  # type: ignore[no-untyped-call]
            value = value + part.detach()
        self.team.add_gradients(self._parameters)
        limit = self.config.max_gradient_norm or float("inf")
        norm: Tensor = nn.utils.clip_grad_norm_(self._parameters, limit)
        self._unseen.append(torch.stack([value, norm]))
        if self.device.type == "cpu":
            self._check_gradients("No gradient of this batch was applied. Try")
        self.apply_gradients()
        return norm

    def _check_gradients(self, advice: str) -> None:
        """Looks at the gradients since the last time; on a GPU, which would have to be waited for, once an update.

        Raises:
            TrainingError: one is not finite.
        """
        unseen, self._unseen = self._unseen, []
        for loss, norm in torch.stack(unseen).tolist() if unseen else ():
            if not math.isfinite(norm):
                raise TrainingError(
                    f"update {self.updates + 1}: the gradient is not finite (loss {loss:g}), on {self._learnt_from()}. "
                    f"{advice} a smaller learning rate, or look at the rewards and at these images"
                )

    def _learnt_from(self) -> str:
        """The images of the batch that is learnt from, for messages."""
        dataset = attribute(self.env, "dataset", None)
        if dataset is None or self._index is None:
            return "images that the environment does not tell"
        names = [f"{dataset.cases[k]} (slice {dataset.slices[k]})" for k in np.unique(self._index).tolist()]
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    def _apply_gradients(self) -> None:
        self.optimizer.step()

    def _play(self, horizon: int, augmentation: bool | None = None) -> tuple[Episodes, torch.Generator]:
        """Begins a batch of episodes; returns it, and a generator for the actions' draws."""
        assert self.env is not None
        env_seed, torch_seed = self._draws()
        place = self.team.rank * self.env.num_envs  # of this process's first image in the batch of all
        augmentation = self.config.augmentation if augmentation is None else augmentation
        episodes = Episodes(
            self.env,
            horizon,
            seed=env_seed + place,  # image i is seeded with this + i
            augmentation=self._generator(torch_seed) if augmentation else None,
            device=self.device,
            task=self.task,
            index=epoch_draw(self.env, self.episodes + place, self.seed),
        )
        self._index = np.array(episodes.info["index"]) if "index" in episodes.info else None
        return episodes, self._generator(torch_seed, self.device)

    def _record_episodes(self, episodes: Episodes, horizon: int) -> None:
        """Logs what a finished batch of episodes earned."""
        assert self.logger is not None
        self.logger.record_mean("train/horizon", horizon)
        self._notes.add("train/reward", episodes.reward / self.team.size)
        self._notes.add("train/dice", episodes.dice / self.team.size)

    def _note_losses(self, losses: dict[str, Tensor], norm: Tensor | float, stage: str = "train") -> None:
        """Notes scalars, of which each process has found its part of a sum, and the gradient's norm."""
        for name, value in losses.items():
            self._notes.add(f"{stage}/{name}", value)
        self._notes.add(f"{stage}/gradient_norm", torch.as_tensor(norm, device=self.device) / self.team.size)

    def _log_notes(self) -> None:
        assert self.logger is not None
        self._check_gradients("This agent's parameters are lost: go on with a checkpoint. Try")
        found = self._notes.read(self.team)
        for name, value in found:
            if not name.startswith(ASIDE):
                self.logger.record_mean(name, value)
        self._look_back({name: value for name, value in found if name.startswith(ASIDE)})

    def _look_back(self, asides: dict[str, float]) -> None:
        """Called after an update with the notes that the log does not show."""

    def _generator(self, seed: int, device: torch.device | str = "cpu") -> torch.Generator:
        """Draws for this update's batch, of which this process has its own rows."""
        return SharedGenerator(self.team, torch.device(device)).manual_seed(seed)

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
            elif not known_already(found := getattr(config, "network", None)):
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
