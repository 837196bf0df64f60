"""PA3C: pixel-level advantage actor-critic (Algorithm 1 of the publication), batched.

The publication's asynchronous workers, one environment each, become the images of one vector
environment: one update rolls out a batch of episodes of t_max steps and takes one gradient step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger, configure
from torch import Tensor, nn

from pixelseg_agents.augmentation import Augmentation
from pixelseg_agents.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from pixelseg_agents.config import PA3CConfig
from pixelseg_agents.networks import PA3CNetwork
from pixelseg_agents.returns import RewardMapConvolution, discounted_returns
from pixelseg_agents.schedule import TrainingSchedule, falling_weight
from pixelseg_env import OptionError, PixelSegError

Callback = Callable[["PA3C"], bool | None]
INFO_KEYS = ("reward_map", "segmentation", "target", "dice")
EPOCHS_PER_DECAY, DECAY = 25, 0.9  # the published learning-rate schedule


class TrainingError(PixelSegError):
    """A training that cannot go on."""


class PA3C:
    """Pixel-level A3C on a PixelSeg vector environment.

    ```python
    env = gym.make_vec("PixelSegEnv-v0", num_envs=8, dataset="phantom")
    agent = PA3C(env, width=0.25).learn(2000)
    actions, _ = agent.predict(observation)
    ```

    The environment is used through its public interface alone: spaces, `reset(seed, options={"horizon"})`,
    `step`, and the keys `reward_map`, `segmentation`, `target` and `dice` of `info`. The target weights rewards during
    training and is never shown to the network.

    Args:
        env: a vector environment; its number of images is the batch size.
        config: hyperparameters; default `PA3CConfig()`.
        seed: of parameters, images, actions and augmentation. A training is reproducible on the CPU, and
            one that was saved and resumed gives the same result as one that was not interrupted.
        device: "auto" (CUDA where available), "cpu", "cuda", ...
        **changes: single hyperparameters, `PA3C(env, width=0.5)`.

    Raises:
        OptionError: a hyperparameter is not known or not valid, or `env` is not a vector environment.
    """

    name = "PA3C"

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        config: PA3CConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **changes: Any,
    ) -> None:
        if not isinstance(env, VectorEnv):
            raise OptionError(
                f'PA3C: expected a vector environment, such as gym.make_vec("PixelSegEnv-v0", num_envs=8), '
                f"got {type(env).__name__}"
            )
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
            raise OptionError(f"seed={seed!r}: expected a whole number from 0 to 2**63 - 1")
        shape = env.single_observation_space.shape
        if shape is None or len(shape) != 3:
            raise OptionError(f"PA3C: expected observations of shape (C, H, W), got {shape}")
        actions = env.single_action_space.shape or ()
        names: tuple[str, ...] = ("object",)
        if len(actions) == 3:  # (L, H, W): one policy and value per label
            names = tuple(getattr(_attribute(env, "dataset", None), "label_names", map(str, range(actions[0]))))
        transition = str(_attribute(env, "transition", "absorbing"))
        observation = str(_attribute(env, "observation", "masked"))
        self._build(
            (config or PA3CConfig()).replace(**changes), seed, device, int(shape[0]), transition, observation, names
        )
        self.env: VectorEnv[Any, Any, Any] | None = env

    def _build(
        self,
        config: PA3CConfig,
        seed: int,
        device: str | torch.device,
        channels: int,
        transition: str,
        observation: str,
        label_names: tuple[str, ...] = ("object",),
    ) -> None:
        self.config = config = config.for_task(transition, observation)
        self.seed = seed
        self.device = resolve_device(device)
        self.channels, self.transition, self.observation = channels, transition, observation
        self.label_names = label_names
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PA3CNetwork(
                channels,
                config.width,
                sam=config.sam,
                dilation=config.dilation,
                norm=config.norm,
                head_stride=config.head_stride,
                labels=len(label_names),
                start_bias=config.start_bias or 0.0,
            )
        self.network = network.to(self.device)
        self.convolution: nn.Module | None = None
        if config.reward_map_convolution:
            self.convolution = RewardMapConvolution(config.reward_map_convolution).to(self.device)
        self._parameters = [*self.network.parameters(), *(self.convolution.parameters() if self.convolution else ())]
        self.optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate)
        self.updates = 0
        self.total_updates = 0
        self.passes = 0
        self.logger: Logger | None = None
        self._predict_generator = torch.Generator(self.device).manual_seed(seed)

    # ---------------------------------------------------------------- training

    def learn(
        self,
        total_updates: int,
        *,
        callback: Callback | None = None,
        log_interval: int = 10,
        logger: Logger | None = None,
    ) -> PA3C:
        """Trains until `total_updates` updates have been done in all.

        One update is one batch of episodes of t_max steps, t_max passes of the batch through the network,
        and one gradient step. A second call (or one after `load`) goes on from where the first stopped.

        Args:
            total_updates: updates in all; schedules stretch over them.
            callback: called after every update with the agent; returning False stops the training.
            log_interval: updates whose means make one line of the log.
            logger: a Stable-Baselines3 logger; default: none.

        Returns:
            The agent itself.
        """
        if self.env is None:
            raise OptionError("learn: the agent has no environment; load it with PA3C.load(path, env=...)")
        for name, value in (("total_updates", total_updates), ("log_interval", log_interval)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise OptionError(f"{name}={value!r}: expected a whole number of at least 1")
        self.logger = logger or configure(None, [])
        self.total_updates = total_updates
        schedule = TrainingSchedule(total_updates, self.config.horizons, self.config.shares)
        start_weight = self._start_weight()
        images_per_epoch = _dataset_length(self.env)
        self.network.train()
        started, first = time.perf_counter(), self.updates
        final = self.config.final_foreground_weight
        while self.updates < total_updates:
            horizon = schedule.horizon(self.updates)
            progress = schedule.progress(self.updates)
            weight = falling_weight(progress, start_weight, final)
            epoch = self.updates * self.env.num_envs / images_per_epoch
            rate = self._learning_rate(progress, epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.passes += self._update(horizon, weight) * self.env.num_envs
            self.updates += 1
            self.logger.record_mean("train/foreground_weight", float(np.mean(weight)))
            self.logger.record_mean("train/learning_rate", rate)
            if self.updates % log_interval == 0 or self.updates == total_updates:
                self.logger.record("time/updates", self.updates)
                self.logger.record("time/passes", self.passes)
                elapsed = max(1e-9, time.perf_counter() - started)
                self.logger.record("time/updates_per_second", (self.updates - first) / elapsed)
                self.logger.dump(self.updates)
            if callback is not None and callback(self) is False:
                break
        self.network.eval()
        return self

    @property
    def labels(self) -> int:
        """L, the number of labels."""
        return len(self.label_names)

    def _start_weight(self) -> Any:
        """The foreground weight at the start: a number, or float64 (L,) with L > 1 labels."""
        given, dataset = self.config.foreground_weight, _attribute(self.env, "dataset", None)
        if self.labels == 1:
            ratios = [float(getattr(dataset, "class_ratio", 1.0))]
        else:
            ratios = list(getattr(dataset, "class_ratios", (1.0,) * self.labels))
        # Without any foreground there is nothing to weight.
        ratios = [ratio if math.isfinite(ratio) else 1.0 for ratio in ratios]
        starts = [max(ratio, self.config.final_foreground_weight) if given is None else given for ratio in ratios]
        return starts[0] if self.labels == 1 else np.array(starts)

    def _learning_rate(self, progress: float, epoch: float) -> float:
        if self.config.learning_rate_schedule == "linear":
            return self.config.learning_rate * (1 - progress)
        if self.config.learning_rate_schedule == "epochs":
            return float(self.config.learning_rate * DECAY ** (epoch // EPOCHS_PER_DECAY))
        return self.config.learning_rate

    def _update(self, horizon: int, weight: Any) -> int:
        """Algorithm 1: rolls out one batch of episodes and takes one gradient step.

        Returns:
            How often the batch went through the network: `horizon`, or less where the episodes were shorter.
        """
        assert self.env is not None
        assert self.logger is not None
        env_seed, torch_seed = self._draws()
        sampling = torch.Generator(self.device).manual_seed(torch_seed)
        observation, info = self.env.reset(seed=env_seed, options={"horizon": horizon})
        missing = [key for key in INFO_KEYS if key not in info]
        if missing:
            raise OptionError(
                f"PA3C: the environment's info lacks {', '.join(missing)}; see PixelSegVectorEnv for them"
            )
        turn = self._augmentation(observation.shape, torch_seed)
        target = self._tensor(info["target"]).float()
        foreground = turn.maps(target) if turn else target
        weights = self._weight_maps(foreground, weight)

        logits, values, actions, alive, ended = [], [], [], [], []
        rewards: list[Tensor] = []
        on_device = isinstance(observation, Tensor)  # the environment's backend is torch: hand actions over as they are
        raw_reward = torch.zeros((), dtype=torch.float64, device=self.device)
        for _ in range(horizon):
            seen = self._tensor(observation)
            playing = self._playing(info["segmentation"])
            step_logits, step_values = self.network(turn.observation(seen) if turn else seen)
            with torch.no_grad():
                keep = torch.rand(step_logits.shape, generator=sampling, device=self.device) < step_logits.sigmoid()
            chosen = turn.restore(keep) if turn else keep
            observation, reward, terminated, _, info = self.env.step(
                chosen if on_device else chosen.cpu().numpy().astype(np.int8)
            )
            reward_map = self._tensor(_of_this_step(info, "reward_map"))
            logits.append(step_logits)
            values.append(step_values)
            actions.append(keep.float())
            alive.append(turn.maps(playing) if turn else playing)
            rewards.append((turn.maps(reward_map) if turn else reward_map) * weights[min(len(rewards), 1)])
            raw_reward += self._tensor(reward).mean()
            ended.append(over := _ended(terminated, info))
            if over.all():
                break
            if over.any() and "final_info" not in info:
                raise OptionError(
                    "PA3C: expected the episodes of a batch to end together, or an environment that resets within "
                    f'the step (autoreset_mode="SameStep"); terminated was {over.tolist()}'
                )
        with torch.no_grad():
            if over.all():
                bootstrap = torch.zeros_like(rewards[-1])
            else:  # an environment that did not take the horizon option: n-step return
                seen = self._tensor(observation)
                bootstrap = self.network(turn.observation(seen) if turn else seen)[1]
        returns = torch.stack(discounted_returns(rewards, ended, bootstrap, self.config.gamma, self.convolution))
        losses = self._losses(
            torch.stack(logits), torch.stack(values), torch.stack(actions), returns, torch.stack(alive)
        )
        norm = self._descend(losses["loss"])
        for name, value in losses.items():
            self.logger.record_mean(f"train/{name}", float(value.detach()))
        self.logger.record_mean("train/gradient_norm", norm)
        self.logger.record_mean("train/horizon", horizon)
        self.logger.record_mean("train/reward", float(raw_reward))
        self.logger.record_mean("train/dice", float(self._tensor(_of_this_step(info, "dice")).mean()))
        return len(rewards)

    def _weight_maps(self, foreground: Tensor, weight: Any) -> tuple[Tensor, Tensor]:
        """The factors on the rewards of the first step and of the later ones, float32 (B, H, W).

        Where zero is final, every later step is one more chance to lose a pixel for good, and a look at a carved
        image of a patient never seen is a noisy one; so a later step earns less by zeroing background.
        """
        if self.labels > 1:
            weight = torch.as_tensor(weight, dtype=torch.float32, device=self.device).reshape(-1, 1, 1)
        first = 1 + (weight - 1) * foreground
        assert self.config.later_background_weight is not None  # spelt out in _build
        return first, first * (foreground + (1 - foreground) * self.config.later_background_weight)

    def _draws(self) -> tuple[int, int]:
        """Seeds of the environment and of torch for this update.

        They are a function of seed and update number, so a resumed run goes on exactly.
        """
        first, second = np.random.SeedSequence([self.seed, self.updates]).generate_state(2)
        return int(first) // 2, int(second)  # halved: image i is seeded with seed + i, which must stay in range

    def _losses(
        self, logits: Tensor, values: Tensor, actions: Tensor, returns: Tensor, alive: Tensor
    ) -> dict[str, Tensor]:
        """Policy, value and entropy terms, means over steps, images and pixels; all (T, B, H, W)."""
        share = alive / alive.sum().clamp_min(1)
        advantage = (returns - values).detach()
        log_probability = -F.binary_cross_entropy_with_logits(logits, actions, reduction="none")
        policy_loss = -(log_probability * advantage * share).sum()
        value_loss = F.mse_loss(values, returns)
        probability = logits.sigmoid()
        entropy = (F.binary_cross_entropy_with_logits(logits, probability, reduction="none") * share).sum()
        loss = policy_loss + self.config.value_coefficient * value_loss - self.config.entropy_coefficient * entropy
        return {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "advantage": advantage.abs().mean(),
            "keep": actions.mean(),
        }

    def _playing(self, segmentation: Any) -> Tensor:
        """1 where a pixel's action counts, float32 (B, H, W).

        With the absorbing transition a zeroed pixel has left the game. Its action changes nothing, so its
        policy gradient would be noise, and its entropy bonus would teach "undecided" for every black pixel,
        those of a fresh image's background included.
        """
        playing = self._tensor(segmentation).float()
        return playing if self.transition == "absorbing" else torch.ones_like(playing)

    def _descend(self, loss: Tensor) -> float:
        """One gradient step; returns the norm of the gradient before clipping."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        limit = self.config.max_gradient_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self._parameters, limit)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"update {self.updates + 1}: the gradient is not finite (loss {float(loss.detach()):g}); parameters "
                "are as after the update before. Try a smaller learning rate, or look at the rewards"
            )
        self.optimizer.step()
        return float(norm)

    def _augmentation(self, shape: tuple[int, ...], seed: int) -> Augmentation | None:
        if not self.config.augmentation:
            return None
        stacked = self.observation == "stacked"
        return Augmentation(
            shape[0],
            self.channels - self.labels * stacked,
            square=shape[-1] == shape[-2],
            generator=torch.Generator().manual_seed(seed),
            device=self.device,
            copies=1 if stacked else self.labels,
        )

    def _tensor(self, array: Any) -> Tensor:
        if isinstance(array, Tensor):
            return array.to(self.device)
        return torch.from_numpy(np.array(array)).to(self.device)  # a copy: infos may be read-only

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
        logits, _ = self.network(self._tensor(array if array.ndim == 4 else array[None]))
        if deterministic:
            keep = logits > 0
        else:
            draw = torch.rand(logits.shape, generator=self._predict_generator, device=self.device)
            keep = draw < logits.sigmoid()
        actions = keep.to(torch.int8) if as_tensor else keep.cpu().numpy().astype(np.int8)
        return (actions if array.ndim == 4 else actions[0]), state

    # ---------------------------------------------------------------- files

    def save(self, path: str | Path) -> Path:
        """Writes parameters, optimizer and settings to one safetensors file (suffix added when missing).

        Returns:
            The path that was written.
        """
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.convolution is not None:
            tensors |= {f"convolution.{name}": value for name, value in self.convolution.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        settings = {
            "config": self.config.to_dict(),
            "seed": self.seed,
            "channels": self.channels,
            "transition": self.transition,
            "observation": self.observation,
            "label_names": list(self.label_names),
            "updates": self.updates,
            "total_updates": self.total_updates,
            "passes": self.passes,
        }
        return save_checkpoint(path, Checkpoint(self.name, settings, tensors))

    @classmethod
    def load(
        cls, path: str | Path, env: VectorEnv[Any, Any, Any] | None = None, device: str | torch.device = "auto"
    ) -> PA3C:
        """Reads an agent that `save` wrote.

        Args:
            path: the checkpoint.
            env: to go on training; not needed to predict.
            device: where to put it.

        Raises:
            CheckpointError: the file is missing, damaged, or of another kind.
            OptionError: `env` does not fit the agent, or `device` is not there.
        """
        checkpoint = load_checkpoint(path)
        if checkpoint.algorithm != cls.name:
            raise CheckpointError(f"{path}: a checkpoint of {checkpoint.algorithm}, expected {cls.name}")
        agent = cls.__new__(cls)
        device = resolve_device(device)
        try:
            settings = dict(checkpoint.settings)
            agent._build(
                PA3CConfig.from_dict(settings["config"]),
                settings["seed"],
                device,
                settings["channels"],
                settings["transition"],
                settings["observation"],
                tuple(settings.get("label_names", ("object",))),
            )
            agent._restore(checkpoint.tensors)
            agent.updates, agent.total_updates = int(settings["updates"]), int(settings["total_updates"])
            agent.passes = int(settings["passes"])
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path}: the checkpoint does not fit this version of PA3C ({error})") from error
        agent.env = env
        if env is not None:
            if not isinstance(env, VectorEnv):
                raise OptionError(f"PA3C.load: expected a vector environment, got {type(env).__name__}")
            found_labels = _label_count(env)
            if found_labels != agent.labels:
                raise OptionError(
                    f"{path}: the agent was trained on {agent.labels} label(s), the environment has {found_labels}; "
                    "use the same dataset and labels"
                )
            shape = env.single_observation_space.shape
            if shape is None or len(shape) != 3 or shape[0] != agent.channels:
                raise OptionError(
                    f"{path}: the agent was trained on {agent.channels} channels, the environment's observations "
                    f"have shape {shape}; use the same dataset, channels and observation"
                )
            for name in ("transition", "observation"):
                trained, found = getattr(agent, name), _attribute(env, name, getattr(agent, name))
                if found != trained:
                    raise OptionError(
                        f"{path}: the agent was trained with {name}={trained!r}, the environment has {found!r}; "
                        f"make it with {name}={trained!r}"
                    )
        return agent

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name, value in tensors.items():
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinite numbers")
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "convolution": {}, "optimizer": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        self.network.load_state_dict(parts["network"])
        if self.convolution is not None:
            self.convolution.load_state_dict(parts["convolution"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = value
        for index, values in moments.items():
            shape = self._parameters[index].shape
            if any(value.ndim and value.shape != shape for value in values.values()):
                raise ValueError(f"the optimizer's state of parameter {index} has another shape than the parameter")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def resolve_device(device: str | torch.device) -> torch.device:
    """Returns the device that a name stands for; "auto" is CUDA where there is one.

    Raises:
        OptionError: CUDA is asked for and not available, or the name is not known.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise OptionError(f'device={device!r}: expected "auto", "cpu", "cuda" or "cuda:N"') from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f'device={device!r}: no CUDA device is available; use "cpu" or "auto"')
    return chosen


def _ended(terminated: Any, info: dict[str, Any]) -> NDArray[np.bool_]:
    """Which episodes a step has ended, bool (B,), without waiting for a device."""
    if "_final_info" in info:
        return np.asarray(info["_final_info"])
    if isinstance(terminated, Tensor) and "horizon" in info:  # tensors on a device; the host counts steps anyway
        return np.asarray(info["step"] >= info["horizon"])
    return np.asarray(terminated.cpu() if isinstance(terminated, Tensor) else terminated)


def _of_this_step(info: dict[str, Any], key: str) -> Any:
    """What `info` says of the step just done.

    With autoreset within the step, `info` speaks of the new episode, and `final_info` of the one that ended.
    """
    if "final_info" not in info:
        return info[key]
    values, final = info[key], info["final_info"][key]
    ended = np.flatnonzero(info["_final_info"])
    if isinstance(values, Tensor):
        where = torch.from_numpy(ended).to(values.device)
        return values.index_put((where,), final[where])
    values = np.array(values)
    values[ended] = np.asarray(final)[ended]
    return values


def _attribute(env: Any, name: str, default: Any) -> Any:
    """A public attribute of a vector environment, or of the first environment that it holds."""
    base = env.unwrapped
    if hasattr(base, name):
        return getattr(base, name)
    try:
        return base.get_attr(name)[0]
    except AttributeError:
        return default


def _label_count(env: VectorEnv[Any, Any, Any]) -> int:
    shape = env.single_action_space.shape or ()
    return int(shape[0]) if len(shape) == 3 else 1


def _dataset_length(env: VectorEnv[Any, Any, Any]) -> int:
    dataset = _attribute(env, "dataset", None)
    return len(dataset) if dataset is not None else env.num_envs
