"""How an agent trains: updates, schedules, the gate that every gradient passes, and what is said of them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger, configure
from torch import Tensor, nn

from pixelseg_agents.learning.asynchronous import share_of_threads, train_asynchronously
from pixelseg_agents.learning.distributed import SharedGenerator
from pixelseg_agents.learning.episodes import Episodes, epoch_draw
from pixelseg_agents.learning.errors import TrainingError
from pixelseg_agents.learning.looking import WHOLE, Look, WholeImage, check_spread, make_look
from pixelseg_agents.learning.notes import Notes
from pixelseg_agents.learning.precision import PLAIN, Mode, Passes, fastest_mode
from pixelseg_agents.learning.room import kept_bytes, kept_text, told_apart
from pixelseg_agents.learning.schedule import TrainingSchedule, falling_weight
from pixelseg_agents.learning.task import AgentTask, attribute, dataset_length
from pixelseg_agents.team import Team
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


@contextlib.contextmanager
def _threads_of_a_worker(workers: int) -> Iterator[None]:
    """As many threads as each of them will compute with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(share_of_threads(max(1, workers)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Learner:
    """The part of a `PixelAgent` that trains it; what it is and what it decides are there."""

    name: ClassVar[str]
    config: Any
    env: VectorEnv[Any, Any, Any] | None
    seed: int
    device: torch.device
    task: AgentTask
    parts: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    logger: Logger | None
    mode: Mode | None
    team: Team
    speaks: bool = True  # of several workers that train asynchronously, the first one warns for all
    apply_gradients: Callable[[], None]
    updates: int
    total_updates: int
    passes: int
    episodes: int
    _parameters: list[nn.Parameter]
    _passes: Passes
    _notes: Notes
    _unseen: list[Tensor]  # loss, gradient's norm and `_unsound` of steps that were not looked at yet
    _unsound: Tensor | float = 0.0  # 0 while the networks' outputs since the last step are finite, else NaN
    _index: NDArray[np.int64] | None  # the images that are learnt from
    _file: Path | None  # that it was read from
    _bytes: tuple[tuple[int, ...], int] | None = None  # what a pass of a batch of this shape keeps

    @property
    def network(self) -> Any:
        """The network that decides, an `nn.Module`."""
        return self.parts["network"]

    @property
    def title(self) -> str:
        """Its name, for people to read."""
        return self.name

    @property
    def labels(self) -> int:
        """L, the number of labels."""
        return self.task.labels

    @property
    def look(self) -> Look:
        """How it looks at an observation."""
        return make_look(getattr(self.config, "look", WHOLE))  # a third party's configuration need not have one

    @property
    def inputs(self) -> int:
        """Channels that its networks see, of an observation's."""
        return self.look.inputs(self.task.channels)

    @property
    def _buffers(self) -> list[Tensor]:
        return [buffer for part in self.parts.values() for buffer in part.buffers()]

    @property
    def _told(self) -> str:
        """Its title for messages, with the file that it was read from."""
        return self.title if self._file is None else f"{self._file}: {self.title}"

    def _make_parts(self) -> dict[str, nn.Module]:
        """The agent's modules by name, `"network"` first."""
        raise NotImplementedError

    def _update(self, horizon: int, weight: Any) -> int:
        """Plays one batch of episodes and learns from it.

        Args:
            horizon: t_max of these episodes.
            weight: factor on object pixels' rewards; float64 (L,) with L > 1 labels.

        Returns:
            How many images went through a network, counted as in `passes_per_update`.
        """
        raise NotImplementedError

    def passes_per_update(self, horizon: int) -> float:
        """How often one update passes a batch of images through a network, with episodes of `horizon` steps.

        Looks are counted, each as one; one of several windows takes more, see `Look.passes`.
        """
        raise NotImplementedError

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
            callback: called after every update with the agent, with workers after the last of those that were done
                meanwhile; returning False stops the training.
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

        def updated(count: int, passes: int, now: bool) -> bool:
            """Logs after update number `count`; returns whether to go on, if the agent is now as it was then."""
            assert self.logger is not None
            if count % log_interval == 0 or count == total_updates:
                self.logger.record("time/updates", count)
                self.logger.record("time/passes", passes)
                elapsed = max(1e-9, time.perf_counter() - started)
                self.logger.record("time/updates_per_second", (count - first) / elapsed)
                self.logger.dump(count)
            return not now or callback is None or callback(self) is not False

        self.settle_mode()
        workers = getattr(self.config, "workers", 0)
        if workers and self.updates < total_updates:
            train_asynchronously(self, workers, total_updates, updated)
        else:
            pace = self.pace(total_updates)
            while self.updates < total_updates:
                self.one_update(pace)
                if not updated(self.updates, self.passes, True):
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
        if not self.network.training:  # a callback may have predicted
            self.network.train()
        horizon = pace.schedule.horizon(self.updates)
        progress = pace.schedule.progress(self.updates)
        weight = falling_weight(progress, pace.start_weight, self.config.final_foreground_weight)
        rate = self._learning_rate(progress, self.updates * self.team.size * self.env.num_envs / pace.images_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        try:
            with told_apart(self.no_room):
                found = self._update(horizon, weight)
        except TrainingError:
            raise
        except PixelSegError as error:  # of a reward of somebody's own, say
            raise type(error)(f"update {self.updates + 1}: {error} (on {self._learnt_from()})") from error
        (passes,) = self.team.sums(found * self.look.passes)
        self._log_notes()
        self.passes += passes
        if self.team.size > 1:  # running means, which each process has of its own images
            self.team.copy_from_first(self._buffers)
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
        passes = self._passes if self.network.training else PLAIN
        found = self._looked(lambda seen: passes(module, seen, method), observation)
        outputs = [one for one in (found if isinstance(found, (list, tuple)) else (found,)) if isinstance(one, Tensor)]
        if self.network.training:  # where `_descend` looks, for a loss may hide it: of an action that is never taken
            for one in outputs:
                self._unsound = self._unsound + 0 * one.detach().sum()
            return found
        for one in outputs:
            if not torch.isfinite(one).all():
                raise PixelSegError(
                    f"{self._told}: its network gives numbers that are not finite (NaN or infinite), by which nothing "
                    "can be decided. Look at the network if it is your own, or train again with a smaller learning rate"
                )
        return found

    def _looked(self, network: Callable[[Tensor], Any], observation: Tensor) -> Any:
        """What a function of batches, such as a network, makes of what the agent looks at."""
        look = self.look
        if isinstance(look, WholeImage):
            return network(observation)
        found = look(network, observation, self.task.kept(observation))
        check_spread(look, found, observation)
        return found

    def _pass_bytes(self, shape: tuple[int, ...]) -> int:
        """What one pass of a batch keeps for its gradient, in float32: the bytes are counted, nothing is computed.

        Args:
            shape: of the observations, (B, C, H, W).
        """
        if self._bytes is None or self._bytes[0] != shape:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                network = self._make_parts()["network"].train()
                one = kept_bytes(lambda: self._looked(network, torch.zeros(1, *shape[1:])))
            weights = sum(parameter.nbytes for parameter in network.parameters())
            self._bytes = shape, max(0, one - weights) * shape[0]
        return self._bytes[1]

    def no_room(self) -> str:
        """What to change where memory was too short for an update."""
        assert self.env is not None
        batch, *rest = self.env.observation_space.shape or ()
        replayed = getattr(self.config, "replay_batch", 0)
        shape = (max(batch, replayed), *rest)
        sizes = "size, batch, replay_batch or width" if replayed else "size, batch or width"
        what = f"a pass of observations {shape}, width {getattr(self.config, 'width', 1):g},"
        return kept_text(what, self._pass_bytes(shape), sizes)

    def settle_mode(self) -> Mode:
        """Settles in what mode the passes of training are computed, which `precision="auto"` has to measure."""
        assert self.env is not None
        if self.mode is None:
            config = self.config
            self.mode = Mode(config.precision == "bf16", config.channels_last, config.compile)
            if config.precision == "auto":
                batch, _, *size = self.env.observation_space.shape or ()
                shape = (batch * self.look.passes, self.inputs, *self.look.shape((size[0], size[1])))
                example = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
                with _threads_of_a_worker(getattr(config, "workers", 0)):
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
        seen = self.team.total(torch.stack([value, value.new_zeros(()) + self._unsound]))  # all see the same, and stop
        self._unseen.append(torch.cat([seen, norm[None]]))
        self._unsound = 0.0
        if self.device.type == "cpu":
            self._check_gradients("No gradient of this batch was applied. Try")
        self.apply_gradients()
        return norm

    def _check_gradients(self, advice: str) -> None:
        """Looks at losses, outputs and gradients since the last time; on a GPU, which is waited for, once an update.

        Raises:
            TrainingError: one is not finite.
        """
        unseen, self._unseen = self._unseen, []
        for loss, outputs, norm in torch.stack(unseen).tolist() if unseen else ():
            found = {"gradient": norm, "loss": loss, "network's output": outputs}
            what = next((name for name, value in found.items() if not math.isfinite(value)), None)
            if what:
                raise TrainingError(
                    f"update {self.updates + 1}: the {what} is not finite (loss {loss:g}), on {self._learnt_from()}. "
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
            # A third party's configuration need not have them.
            missing=getattr(self.config, "missing_sequences", 0.0),
            stand_in=getattr(self.config, "missing_stand_in", None),
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
