"""Modules that have moved: an import of the old name still works, with a warning that tells the new one."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "pixelseg_env.flat_actions": "pixelseg_env.views.flat_actions",
    "pixelseg_env.pettingzoo_view": "pixelseg_env.views.pettingzoo",
    "pixelseg_env.sb3": "pixelseg_env.views.sb3",
    "pixelseg_env.torchrl_env": "pixelseg_env.views.torchrl",
    "pixelseg_env.windows": "pixelseg_env.views.windows",
}


class MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of `MOVED` by their old names; the last to be asked, so that it costs others nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for an old name; None for any other."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Lets the module hand on what the one in the new place has."""
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} has moved to {new}; import from there", FutureWarning, stacklevel=2)
        place = importlib.import_module(new)
        module.__dict__.update({name: value for name, value in vars(place).items() if not name.startswith("__")})


def install() -> None:
    """Makes old names work, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
