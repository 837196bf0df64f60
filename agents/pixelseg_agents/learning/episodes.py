"""A batch of episodes, played in tensors: what every learner needs of an environment while it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_agents.learning.augmentation import Augmentation
from pixelseg_agents.learning.device import moved
from pixelseg_agents.learning.task import AgentTask, dataset_length
from pixelseg_env import OptionError

INFO_KEYS = ("reward_map", "segmentation", "target", "dice")


class Episodes:
    """One batch of episodes of a vector environment, from `reset` to the terminal step.

    With augmentation, everything that is handed out is turned the way the policy sees it, and actions are
    turned back on their way to the environment.

    Args:
        env: the vector environment.
        horizon: t_max, handed to `reset`.
        seed: of the environment's draw.
        augmentation: where its draws come from (on the CPU); None: without it.
        missing: see `Augmentation`.
        stand_in: see `Augmentation`.
        device: of the tensors.
        task: what observations hold and what actions do.
        index: which image each episode shows, int64 (B,); None: as the environment draws them.

    Attributes:
        observation: what the policy sees now, float32 (B, C, H, W).
        playing: 1 where a pixel's action still counts, float32 (B, [L,] H, W).
        foreground: the target, float32 (B, [L,] H, W): for weights of rewards alone.
        info: the environment's last info.
        steps: steps done.
        ended: which episodes the last step ended, bool (B,), on the host.
        reward: mean scalar reward of all steps so far, added up; a float64 tensor.

    Raises:
        OptionError: `info` lacks a key, or episodes of the batch end apart in an environment that does not
            reset within the step.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        horizon: int,
        *,
        seed: int,
        augmentation: torch.Generator | None,
        device: torch.device,
        task: AgentTask,
        index: NDArray[np.int64] | None = None,
        missing: float = 0.0,
        stand_in: int | None = None,
    ) -> None:
        self._env, self._device, self._absorbing = env, device, task.transition == "absorbing"
        options = {"horizon": horizon} | ({} if index is None else {"index": index})
        raw, self.info = env.reset(seed=seed, options=options)
        lacks = [key for key in INFO_KEYS if key not in self.info]
        if lacks:
            raise OptionError(f"the environment's info lacks {', '.join(lacks)}; see PixelSegVectorEnv for them")
        self._on_device = isinstance(raw, Tensor)  # the backend is torch: hand actions over as they are
        self._turn: Augmentation | None = None
        if augmentation is not None:
            self._turn = Augmentation(
                raw.shape[0],
                task.image_channels,
                square=raw.shape[-1] == raw.shape[-2],
                generator=augmentation,
                device=device,
                copies=task.copies,
                missing=missing,
                stand_in=stand_in,
            )
        self.foreground = self._maps(tensor(self.info["target"], device).float())
        self.reward = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = 0
        self.ended = np.zeros(len(raw), np.bool_)
        self._see(raw)

    def step(self, keep: Tensor) -> Tensor:
        """Plays one joint action.

        Args:
            keep: the action the way the policy sees it, bool or integers (B, [L,] H, W).

        Returns:
            The reward map of this step, float32 (B, [L,] H, W).
        """
        chosen = self._turn.restore(keep) if self._turn else keep
        action = chosen if self._on_device else chosen.cpu().numpy().astype(np.int8)
        raw, reward, terminated, _, self.info = self._env.step(action)
        self.steps += 1
        self.reward = self.reward + tensor(reward, self._device).mean()
        self.ended = _ended(terminated, self.info)
        reward_map = self._maps(tensor(self.of_this_step("reward_map"), self._device))
        if self.ended.any() and not self.ended.all() and "final_info" not in self.info:
            raise OptionError(
                "expected the episodes of a batch to end together, or an environment that resets within the step "
                f'(autoreset_mode="SameStep"); terminated was {self.ended.tolist()}'
            )
        if not self.over:
            self._see(raw)
        return reward_map

    @property
    def over(self) -> bool:
        """Whether all episodes ended with the last step."""
        return bool(self.ended.all())

    @property
    def dice(self) -> Tensor:
        """The mean Dice after the last step."""
        return tensor(self.of_this_step("dice"), self._device).mean()

    def of_this_step(self, key: str) -> Any:
        """What `info` says of the step just done.

        With autoreset within the step, `info` speaks of the new episode, and `final_info` of the one that ended.
        """
        if "final_info" not in self.info:
            return self.info[key]
        values, final = self.info[key], self.info["final_info"][key]
        ended = np.flatnonzero(self.info["_final_info"])
        if isinstance(values, Tensor):
            where = moved(ended, values.device)
            return values.index_put((where,), final[where])
        values = np.array(values)
        values[ended] = np.asarray(final)[ended]
        return values

    def going_on(self, like: Tensor) -> Tensor:
        """1 where the last step did not end the episode, float32 (B, 1, ...), to multiply maps by."""
        return moved(~self.ended, self._device).float().view(-1, *(1,) * (like.ndim - 1))

    def _see(self, raw: Any) -> None:
        seen = tensor(raw, self._device)
        self.observation = self._turn.observation(seen) if self._turn else seen
        # With the absorbing transition a zeroed pixel has left the game. Its action changes nothing, so its
        # policy gradient would be noise, and its entropy bonus would teach "undecided" for every black pixel,
        # those of a fresh image's background included.
        kept = tensor(self.info["segmentation"], self._device).float()
        self.playing = self._maps(kept) if self._absorbing else torch.ones_like(kept)

    def _maps(self, maps: Tensor) -> Tensor:
        return self._turn.maps(maps) if self._turn else maps


def epoch_draw(env: VectorEnv[Any, Any, Any], first: int, seed: int) -> NDArray[np.int64] | None:
    """The images of the next batch, where the environment's `order` is one of epochs.

    An agent seeds the environment anew for every update, which would begin a new epoch each time. So the epochs are
    counted here, as a function of the episodes so far: a training that was saved and resumed goes on with them.

    Args:
        env: the vector environment, of B images at once.
        first: episodes that were begun before.
        seed: of the agent.

    Returns:
        int64 (B,); None with `order="random"`, and for environments that have no order.
    """
    order = getattr(env.unwrapped, "order", "random")  # of the batch: single environments in one share no epoch
    if order not in ("shuffled", "sequential"):
        return None
    count = dataset_length(env)
    epochs, places = np.divmod(np.arange(first, first + env.num_envs), count)
    if order == "sequential":
        return places.astype(np.int64)
    turns = {e: np.random.default_rng([seed, e]).permutation(count) for e in np.unique(epochs).tolist()}
    return np.array([turns[e][k] for e, k in zip(epochs.tolist(), places.tolist(), strict=True)], np.int64)


def weight_maps(foreground: Tensor, weight: Any, later_background_weight: float) -> tuple[Tensor, Tensor]:
    """The factors on the rewards of the first step and of the later ones, float32 (B, [L,] H, W).

    Where zero is final, every later step is one more chance to lose a pixel for good, and a look at a carved
    image of a patient never seen is a noisy one; so a later step earns less by zeroing background.

    Args:
        foreground: the target, float32 (B, [L,] H, W).
        weight: factor on object pixels, a number or one per label.
        later_background_weight: factor on background pixels from the second step on.
    """
    if np.ndim(weight):
        weight = moved(np.array(weight, np.float32), foreground.device).reshape(-1, 1, 1)
    first = 1 + (weight - 1) * foreground
    return first, first * (foreground + (1 - foreground) * later_background_weight)


def tensor(array: Any, device: torch.device) -> Tensor:
    """An array as a tensor of its own on a device."""
    if isinstance(array, Tensor):
        return moved(array, device)
    return moved(np.array(array), device)  # a copy: infos may be read-only


def _ended(terminated: Any, info: dict[str, Any]) -> NDArray[np.bool_]:
    """Which episodes a step has ended, bool (B,), without waiting for a device."""
    if "_final_info" in info:
        return np.asarray(info["_final_info"])
    if isinstance(terminated, Tensor) and "horizon" in info:  # tensors on a device; the host counts steps anyway
        return np.asarray(info["step"] >= info["horizon"])
    return np.asarray(terminated.cpu() if isinstance(terminated, Tensor) else terminated)
