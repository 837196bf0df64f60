"""What `pyproject.toml` cannot say: the version is that of pixelseg-env, and exactly that one is required.

The two are released together. In the repository the version stands in `pixelseg_env/__init__.py` and nowhere else; a
source distribution, which has no `pixelseg_env` beside it, has it in its own PKG-INFO.
"""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
DEPENDENCIES = [
    "torch>=2.4",
    "stable-baselines3>=2.4",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "cloudpickle>=3.0",
    "filelock>=3.13",
    "pyyaml>=6.0",
    "safetensors>=0.4.3",
    "tqdm>=4.66",
    "tyro>=0.9",
]


def version() -> str:
    """The version of both distributions."""
    for path, line in (
        (HERE / "PKG-INFO", r"^Version: (.+)$"),
        (HERE.parent / "pixelseg_env" / "__init__.py", r'^__version__ = "(.+?)"'),
    ):
        if path.is_file() and (found := re.search(line, path.read_text(encoding="utf-8"), re.MULTILINE)):
            return found[1]
    raise SystemExit(
        f"{HERE}: no version found; expected PKG-INFO, as in a source distribution, or pixelseg_env/__init__.py beside "
        "this folder, as in the repository. Build from one of the two"
    )


if __name__ == "__main__":  # setuptools runs this file as a script
    setup(version=version(), install_requires=[f"pixelseg-env=={version()}", *DEPENDENCIES])
