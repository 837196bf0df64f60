"""Where a vector environment's arrays live: NumPy, or torch on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelseg_env.arrays import Array, placed
from pixelseg_env.errors import ActionError, OptionError, check_choice, shown
from pixelseg_env.task import Task, check_action, meaning

BACKENDS = ("numpy", "torch")


class NumpyBackend:
    """Arrays on the host; images are scaled to float32 when drawn."""

    name = "numpy"
    device = "cpu"

    def __init__(self, task: Task) -> None:
        self._task = task

    def draw(self, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """Images float32 (B, C, H, W) and targets uint8 (B, [L,] H, W) of B items, new arrays."""
        return self._task.dataset.batch(index)

    def host(self, array: NDArray[Any]) -> Array:
        """Hands over an array that was computed on the host."""
        return array

    def first_maps(self, index: NDArray[np.int64]) -> Array:
        """f(0) of B images, a new array (B, [L,] H, W)."""
        return self._task.first_maps(index)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """float32 zeros."""
        return np.zeros(shape, np.float32)

    def copy(self, array: Array) -> Array:
        """A copy."""
        return array.copy()

    def replaced(self, array: Array, mask: NDArray[np.bool_], values: Any) -> Array:
        """A copy of an array (B, ...) with `values` where the mask (B,) is True."""
        result = array.copy()
        result[mask] = values
        return result

    def action(self, action: Any, shape: tuple[int, ...]) -> Array:
        """Checks a joint action and folds it into maps; see `pixelseg_env.task.check_action`."""
        task = self._task
        return task.folded(check_action(action, shape, task.choices, task.actions != "map"))

    def check(self) -> None:
        """Raises what was found wrong since the last call, where finding it at once would cost a wait."""

    def close(self) -> None:
        """Gives the memory back."""


class TorchBackend:
    """Tensors on a device; the data set is there too, in its own type, so that a step moves nothing to the host.

    On CUDA the values of an action are not looked at at once, which would make every step wait for the device:
    a wrong one is reported by the next `reset`.

    Args:
        task: data and rules.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        OptionError: torch is not installed, or the device is not known or not available.
    """

    name = "torch"

    def __init__(self, task: Task, device: str) -> None:
        try:
            import torch
        except ImportError as error:
            raise OptionError('backend="torch": torch is not installed; pip install torch') from error
        try:
            self.device = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise OptionError(f'device={shown(device)}: expected "cpu", "cuda" or "cuda:N"') from error
        if self.device.type not in ("cpu", "cuda"):
            raise OptionError(f'device={shown(device)}: expected "cpu", "cuda" or "cuda:N"')
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise OptionError(f'device={shown(device)}: no CUDA device is available; use "cpu"')
        self._task = task
        self._images = torch.tensor(task.dataset.images, device=self.device)
        self._masks = torch.tensor(task.dataset.masks, device=self.device)
        self._start = None if task.start is None else torch.tensor(task.start, device=self.device)
        # A tensor, not a number: CUDA would multiply by the inverse of a number, which is not the same to the last bit.
        self._scale = torch.full((1,), 255.0, device=self.device)
        self._wrong = torch.zeros((), dtype=torch.bool, device=self.device)

    @property
    def _torch(self) -> Any:  # a module held as an attribute could not be pickled
        import torch

        return torch

    def draw(self, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """Images float32 (B, C, H, W) and targets uint8 (B, [L,] H, W) of B items, new tensors."""
        where = placed(self._torch.from_numpy(index), self.device)
        images = self._images[where]
        if images.dtype == self._torch.uint8:
            images = images.to(self._torch.float32) / self._scale
        return images, self._masks[where]

    def host(self, array: NDArray[Any]) -> Array:
        """Hands over an array that was computed on the host, as a tensor of its own."""
        return placed(self._torch.tensor(array), self.device)

    def first_maps(self, index: NDArray[np.int64]) -> Array:
        """f(0) of B images, a new tensor (B, [L,] H, W)."""
        if self._start is not None:
            return self._start[placed(self._torch.from_numpy(index), self.device)]
        kind = self._torch.float32 if self._task.graded else self._torch.uint8
        return self._torch.ones((len(index), *self._task.map_shape), dtype=kind, device=self.device)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """float32 zeros."""
        return self._torch.zeros(shape, dtype=self._torch.float32, device=self.device)

    def copy(self, array: Array) -> Array:
        """A copy."""
        return array.clone()

    def replaced(self, array: Array, mask: NDArray[np.bool_], values: Any) -> Array:
        """A copy of a tensor (B, ...) with `values` where the mask (B,), on the host, is True."""
        result = array.clone()
        result[placed(self._torch.from_numpy(np.flatnonzero(mask)), self.device)] = values
        return result

    def action(self, action: Any, shape: tuple[int, ...]) -> Array:
        """Checks a joint action, a tensor or what NumPy takes; returns maps, uint8 on the device.

        Raises:
            ActionError: wrong shape, type or value (on CUDA the value is reported by the next `check`).
        """
        torch, task = self._torch, self._task
        rules = task.choices, task.actions != "map"
        if not isinstance(action, torch.Tensor):
            return task.folded(placed(torch.from_numpy(np.array(check_action(action, shape, *rules))), self.device))
        if self.device.type == "cpu" and action.device.type == "cpu":
            return task.folded(torch.from_numpy(check_action(action.detach().numpy(), shape, *rules)))
        return task.folded(self._unseen(placed(action.detach(), self.device), shape, *rules))

    def _unseen(self, action: Any, shape: tuple[int, ...], choices: int, floats: bool) -> Array:
        """A tensor's uint8 values, which only `check` looks at."""
        torch = self._torch
        if tuple(action.shape) != shape:
            raise ActionError(f"action: expected shape {shape}, one decision a pixel, got {tuple(action.shape)}")
        if floats and action.dtype.is_floating_point:
            whole = action.to(torch.int16)
            self._wrong |= (whole != action).any()
            action = whole
        if action.dtype.is_floating_point or action.dtype.is_complex:
            raise ActionError(f"action: expected integers {meaning(choices)}, got type {action.dtype}")
        if action.dtype != torch.bool:
            self._wrong |= ((action < 0) | (action >= choices)).any()
        return action.view(torch.uint8) if action.element_size() == 1 else action.to(torch.uint8)

    def check(self) -> None:
        """Raises ActionError if an action since the last call held a value that is no choice."""
        if self.device.type != "cpu" and bool(self._wrong):
            self._wrong.zero_()
            raise ActionError(
                f"action: expected only {meaning(self._task.choices)}, but an action since the last reset() held "
                "another value"
            )

    def close(self) -> None:
        """Gives the memory back to the device."""
        del self._images, self._masks, self._start
        if self.device.type == "cuda":
            self._torch.cuda.empty_cache()


Backend = NumpyBackend | TorchBackend


def make_backend(name: str, device: str, task: Task) -> Backend:
    """Returns the backend of that name.

    Raises:
        OptionError: the name or the device is not known, or does not go with the other.
    """
    check_choice("backend", name, BACKENDS)
    if name == "torch":
        return TorchBackend(task, device)
    if str(device) != "cpu":
        raise OptionError(f'device={shown(device)} needs backend="torch"; with backend="numpy" arrays are on the CPU')
    return NumpyBackend(task)
