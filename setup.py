"""What `pyproject.toml` cannot say: the README for a package index, whose pictures and links must be absolute."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|#|mailto:)([^)\s]+)\)")


def absolute(readme: str, repository: str, version: str) -> str:
    """Points a README's relative links at the repository, and its pictures at the raw files, of one version's tag."""
    raw = repository.replace("https://github.com", "https://raw.githubusercontent.com")
    of_kind = {"!": f"{raw}/v{version}", "[": f"{repository}/blob/v{version}"}
    return LINK.sub(lambda link: f"{link[1]}{of_kind[link[1][0]]}/{link[2]})", readme)


def long_description() -> str:
    """The README for the index; the address is that of `pyproject.toml`, the version that of the package."""
    repository = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    package = (HERE / "pixelseg_env" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+?)"', package, re.MULTILINE)
    assert version, "pixelseg_env/__init__.py has no line __version__ = ..."
    return absolute((HERE / "README.md").read_text(encoding="utf-8"), repository, version[1])


if __name__ == "__main__":  # setuptools runs this file as a script
    setup(long_description=long_description(), long_description_content_type="text/markdown")
