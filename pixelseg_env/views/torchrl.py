"""TorchRL view: a batched `EnvBase` that keeps images, maps and rewards as tensors on one device.

Needs the extra `torchrl` (`pip install "pixelseg-env[torchrl]"`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray
from torch import Tensor

from pixelseg_env.datasets import SegmentationDataset
from pixelseg_env.draws import Horizon, check_horizon
from pixelseg_env.errors import OptionError, check_choice
from pixelseg_env.task import REWARD_OUTPUTS
from pixelseg_env.vector_env import PixelSegVectorEnv
from pixelseg_env.views.windows import agent_names, check_view, tensor_windows, window_channels

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
    from torchrl.envs import EnvBase
except ImportError as missing:  # pragma: no cover
    raise DependencyNotInstalled(
        'pixelseg_env.views.torchrl needs TorchRL: pip install "pixelseg-env[torchrl]"'
    ) from missing

GROUP = "pixels"
ON_DEVICE = ("reward_map", "segmentation", "target", "dice")


class PixelSegTorchRLEnv(EnvBase):  # type: ignore[misc]
    """`PixelSegVectorEnv` as a TorchRL environment of batch size [B].

    ```python
    env = PixelSegTorchRLEnv(8, dataset="phantom", size=32, device="cpu")
    rollout = env.rollout(10, policy)
    ```

    Keys: `observation` float32 (B, C', H, W), `action` int8 (B, [L,] H, W) of 0 = zero and 1 = keep (with
    "additive" 0 to 7, and `probability` float32 like it), `reward` float32 (B, 1), the mean of `reward_map` float32
    (B, [L,] H, W); `segmentation` and `target` uint8 (B, [L,] H, W), `dice` float64 (B, 1) (and `label_dice` (B, L)
    with labels), `step_count`, `horizon`, `slice` and `index` (the image's place in the data set, and so in
    `dataset.cases`) int64 (B, 1), `done` and `terminated` bool (B, 1). The horizon terminates an episode, and nothing
    truncates it.

    With `reward_output="map"` every pixel is an agent of the group `pixels`, as TorchRL's multi-agent losses have it:
    `("pixels", "reward")` float32 (B, N, 1) takes the place of `reward`, N = [L] H W in the order of
    `map.reshape(-1)`, and `("pixels", "done")` and `("pixels", "terminated")` repeat the image's for each of them. With
    `view` they also see and act by themselves: `("pixels", "observation")` float32 (B, N, C', view, view), the windows
    of `PixelVectorEnv`, and `("pixels", "action")` int64 (B, N) in the place of `action`. `group_map` names them.

    `render` has TorchRL's `PixelRenderTransform` draw frames, with `render_mode="rgb_array"`.

    Images that have ended start anew when TorchRL resets them (the `_reset` mask); the others go on. `reset` takes
    `index` and `horizon` as keyword arguments, for those images, as `PixelSegVectorEnv` does in its options.

    Args:
        num_images: B.
        device: where the tensors live, "cpu", "cuda", ...
        view: side of the pixels' windows, odd; None: the images are the agents.
        reward_output: `"mean"`, or `"map"` for a reward of every pixel, which `view` implies.
        **options: of `PixelSegVectorEnv`, except `num_envs`, `autoreset_mode`, `backend` and `actions`.

    Raises:
        OptionError: an option's name or value is not known.
        DataError: the data cannot be used; the message names the file.
    """

    def __init__(
        self,
        num_images: int = 1,
        *,
        device: str | torch.device = "cpu",
        view: int | None = None,
        reward_output: str = "mean",
        **options: Any,
    ) -> None:
        self._view = None if view is None else check_view(view)
        self._grouped = check_choice("reward_output", reward_output, REWARD_OUTPUTS) == "map" or view is not None
        for name in ("num_envs", "autoreset_mode", "backend", "actions"):
            if name in options:
                raise OptionError(f"PixelSegTorchRLEnv: {name}={options[name]!r} cannot be chosen here; leave it out")
        self._env = PixelSegVectorEnv(
            num_images, autoreset_mode="Disabled", backend="torch", device=str(device), **options
        )
        choices = self._env.task.choices
        super().__init__(device=torch.device(device), batch_size=[num_images])
        maps = (num_images, *self._env.task.map_shape)
        observation = (num_images, *self._env.task.observation_shape)
        where: dict[str, Any] = {"device": self.device}
        self.observation_spec = Composite(
            observation=Bounded(0.0, 1.0, observation, dtype=torch.float32, **where),
            reward_map=Unbounded(maps, dtype=torch.float32, **where),
            segmentation=Bounded(0, 1, maps, dtype=torch.uint8, **where),
            target=Bounded(0, 1, maps, dtype=torch.uint8, **where),
            dice=Bounded(0.0, 1.0, (num_images, 1), dtype=torch.float64, **where),
            step_count=Unbounded((num_images, 1), dtype=torch.int64, **where),
            slice=Unbounded((num_images, 1), dtype=torch.int64, **where),
            horizon=Unbounded((num_images, 1), dtype=torch.int64, **where),
            index=Bounded(0, max(1, len(self._env.dataset) - 1), (num_images, 1), dtype=torch.int64, **where),
            shape=(num_images,),
            **where,
        )
        if self._env.dataset.labels > 1:
            of_labels = (num_images, self._env.dataset.labels)
            self.observation_spec["label_dice"] = Bounded(0.0, 1.0, of_labels, dtype=torch.float64, **where)
        if self._env.task.graded:
            self.observation_spec["probability"] = Bounded(0.0, 1.0, maps, dtype=torch.float32, **where)
            self.action_spec = Categorical(choices, shape=maps, dtype=torch.int8, **where)
        else:
            self.action_spec = Binary(n=maps[-1], shape=maps, dtype=torch.int8, **where)
        self.reward_spec = Unbounded((num_images, 1), dtype=torch.float32, **where)
        self.done_spec = self._flags(num_images)
        if self._grouped:
            self._specify_pixels(choices, (num_images, math.prod(maps[1:])))
        self._seeds: int | None = None

    def _flags(self, *shape: int) -> Composite:
        flags = {name: Binary(1, (*shape, 1), self.device, torch.bool) for name in ("done", "terminated")}
        return Composite(**flags, shape=shape, device=self.device)

    def _specify_pixels(self, choices: int, shape: tuple[int, int]) -> None:
        """The specs of the group of pixels, of shape (B, N)."""

        def group(**specs: Any) -> Composite:
            pixels = {GROUP: Composite(**specs, shape=shape, device=self.device)}
            return Composite(**pixels, shape=shape[:1], device=self.device)

        self.reward_spec = group(reward=Unbounded((*shape, 1), self.device, torch.float32))
        flags = self._flags(shape[0])
        flags[GROUP] = self._flags(*shape)
        self.done_spec = flags
        if self._view is not None:
            channels = window_channels(self._env.task.observation_shape[0], self.dataset.labels)
            windows = (*shape, channels, self._view, self._view)
            seen = group(observation=Bounded(0.0, 1.0, windows, self.device, torch.float32))
            self.observation_spec.update(seen)
            self.action_spec = group(action=Categorical(choices, shape, self.device, torch.int64))

    @property
    def dataset(self) -> SegmentationDataset:
        """The images and masks that episodes are drawn from."""
        return self._env.dataset

    @property
    def group_map(self) -> dict[str, list[str]]:
        """The pixels' names, as PettingZoo's view has them, by group; none where the images are the agents."""
        return {GROUP: list(agent_names(self._env.task.map_shape))} if self._view is not None else {}

    @property
    def horizon(self) -> Horizon:
        """Steps of an episode, as `PixelSegVectorEnv.horizon`."""
        return self._env.horizon

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        unknown = sorted(set(kwargs) - {"index", "horizon"})
        if unknown:
            raise OptionError(f"reset: {', '.join(unknown)} is not known; expected index or horizon")
        options: dict[str, Any] = {name: kwargs[name] for name in ("index", "horizon") if kwargs.get(name) is not None}
        if "horizon" in options and np.ndim(options["horizon"]) == 0:
            check_horizon(options["horizon"])
        if tensordict is not None and "_reset" in tensordict.keys():  # noqa: SIM118 (a TensorDict iterates its batch)
            mask = tensordict["_reset"].reshape(self.batch_size[0]).cpu().numpy()
            if not mask.any():
                return tensordict.exclude("_reset")
            options["reset_mask"] = mask
        seed, self._seeds = self._seeds, None
        observation, infos = self._env.reset(seed=seed, options=options or None)
        return self._packed(observation, infos)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        if self._view is None:
            action = tensordict["action"]
        else:
            action = tensordict[GROUP, "action"].reshape(-1, *self._env.task.map_shape).to(torch.int8)
        observation, rewards, terminated, _, infos = self._env.step(action)
        packed = self._packed(observation, infos)
        packed["terminated"] = packed["done"] = terminated[:, None]
        if self._grouped:
            each = infos["reward_map"].reshape(self.batch_size[0], -1, 1)
            packed[GROUP, "reward"] = each.to(torch.float32)
            packed[GROUP, "terminated"] = packed[GROUP, "done"] = terminated[:, None, None].expand(each.shape).clone()
        else:
            packed["reward"] = rewards.to(torch.float32)[:, None]
        return packed

    def _set_seed(self, seed: int | None) -> None:
        """Image i of the next reset is seeded with `seed + i`."""
        self._seeds = seed

    def _packed(self, observation: Tensor, infos: dict[str, Any]) -> TensorDict:
        batch = self.batch_size[0]
        values: dict[str, Tensor] = {"observation": observation, **{key: infos[key] for key in ON_DEVICE}}
        values["dice"] = values["dice"][:, None]
        values |= {key: infos[key] for key in ("label_dice", "probability") if key in infos}
        for name, key in (("step_count", "step"), ("index", "index"), ("slice", "slice"), ("horizon", "horizon")):
            values[name] = torch.as_tensor(infos[key], device=self.device)[:, None]
        packed = TensorDict(values, batch_size=[batch], device=self.device)
        if self._grouped:
            agents = (batch, math.prod(self._env.task.map_shape))
            pixels = {} if self._view is None else {"observation": self._windows(observation)}
            packed[GROUP] = TensorDict(pixels, batch_size=agents, device=self.device)
        return packed

    def _windows(self, observation: Tensor) -> Tensor:
        assert self._view is not None
        around = tensor_windows(observation, self._view, self.dataset.labels)
        return around.reshape(self.batch_size[0], -1, *around.shape[-3:])

    def render(self, mode: str = "rgb_array") -> NDArray[np.uint8]:
        """One frame per image, uint8 (B, H', W', 3), for `PixelRenderTransform`.

        Raises:
            OptionError: the environment was made without `render_mode="rgb_array"`.
        """
        frames = self._env.render() if mode == "rgb_array" else None
        if frames is None:
            raise OptionError(
                f"render(mode={mode!r}) of an environment with render_mode={self._env.render_mode!r}: expected "
                '"rgb_array" for both; make it with PixelSegTorchRLEnv(..., render_mode="rgb_array")'
            )
        return np.stack(frames)

    def close(self, **kwargs: Any) -> None:
        """Closes the environment and gives its memory back."""
        self._env.close()
        super().close(**kwargs)
