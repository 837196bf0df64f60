"""Both distributions, built, installed outside the checkout and used there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import pixelseg_agents
import pixelseg_env
from tests.packaging.distributions import (
    FOLDERS,
    ROOT,
    build_sdist,
    build_wheel,
    copy_of_the_checkout,
    make_environment,
    run,
    unpack,
)

VERSION = pixelseg_env.__version__
SMOKE = ROOT / "tests" / "packaging" / "smoke.py"


@dataclass(frozen=True)
class Built:
    """A distribution's unpacked source distribution, and the wheel that was built from it."""

    source: Path
    wheel: Path

    @property
    def files(self) -> set[str]:
        """The names in the wheel."""
        return set(zipfile.ZipFile(self.wheel).namelist())

    @property
    def metadata(self) -> Message:
        """The core metadata."""
        wheel = zipfile.ZipFile(self.wheel)
        (name,) = (name for name in self.files if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Both, as `python -m build` makes them: the wheel from the source distribution, not from the checkout."""
    folder = tmp_path_factory.mktemp("built")
    checkout = copy_of_the_checkout(folder / "checkout")
    made = {}
    for name, where in FOLDERS.items():
        source = unpack(build_sdist(checkout / where.relative_to(ROOT), folder), folder)
        made[name] = Built(source, build_wheel(source, folder))
    return made


@pytest.mark.parametrize("name", FOLDERS)
def test_wheel_holds_every_module_and_nothing_else(built: dict[str, Built], name: str) -> None:
    package = FOLDERS[name] / name.replace("-", "_")
    expected = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {file for file in built[name].files if ".dist-info/" not in file} == expected
    assert f"{package.name}/py.typed" in expected


@pytest.mark.parametrize("name", FOLDERS)
def test_core_metadata_are_complete(built: dict[str, Built], name: str) -> None:
    metadata = built[name].metadata
    assert metadata["Name"] == name
    assert metadata["Version"] == VERSION
    assert metadata["Author"] == "The PixelSeg developers"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert len(metadata["Summary"]) > 40
    assert len(metadata["Keywords"].split(",")) >= 5
    assert len(metadata.get_all("Classifier", [])) >= 10
    assert {url.split(",")[0] for url in metadata.get_all("Project-URL", [])} >= {"Repository", "Issues", "Changelog"}
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert any(file.endswith("/licenses/LICENSE") for file in built[name].files)


@pytest.mark.parametrize("name", FOLDERS)
def test_pictures_and_links_of_the_index_page_are_absolute(built: dict[str, Built], name: str) -> None:
    page = built[name].metadata.get_payload()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", page)
    assert pictures
    assert links
    (address,) = {
        tomllib.loads((f / "pyproject.toml").read_text())["project"]["urls"]["Repository"] for f in FOLDERS.values()
    }
    raw = address.replace("https://github.com/", "https://raw.githubusercontent.com/")
    for picture in pictures:
        assert re.fullmatch(rf"{raw}/(v{VERSION}|HEAD)/(\S+\.(?:png|gif))", picture), picture
        assert (ROOT / picture.removeprefix(raw).split("/", 2)[2]).is_file(), picture
    for link in links:
        assert link.startswith(("https://", "#")), link
        if link.startswith(f"{address}/blob/"):
            assert (ROOT / link.split("/blob/")[1].split("/", 1)[1].split("#")[0]).exists(), link


def test_one_version_and_the_agents_require_exactly_it(built: dict[str, Built]) -> None:
    assert pixelseg_agents.__version__ == VERSION
    assert f"pixelseg-env=={VERSION}" in built["pixelseg-agents"].metadata.get_all("Requires-Dist", [])
    literal = re.compile(rf'version\w* *[=:] *"?{re.escape(VERSION)}"?', re.IGNORECASE)
    sources = [*ROOT.glob("*.toml"), *ROOT.glob("*.py"), *ROOT.glob("agents/*.*"), ROOT / "CITATION.cff"]
    sources += [*ROOT.glob("pixelseg_env/*.py"), *ROOT.glob("agents/pixelseg_agents/*.py")]
    assert [p.name for p in sources if p.is_file() and literal.search(p.read_text())] == ["__init__.py"]


def test_both_name_one_address_and_one_licence() -> None:
    urls = [tomllib.loads((folder / "pyproject.toml").read_text())["project"]["urls"] for folder in FOLDERS.values()]
    assert urls[0] == urls[1]
    assert f"repository-code: {urls[0]['Repository']}" in (ROOT / "CITATION.cff").read_text()
    assert (ROOT / "LICENSE").read_text() == (ROOT / "agents/LICENSE").read_text()


def test_agents_built_away_from_the_repository_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents/setup.py").write_text((ROOT / "agents/setup.py").read_text())
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=tmp_path / "agents", capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "PKG-INFO" in done.stderr


@pytest.mark.slow
def test_environment_alone_works_without_torch(built: dict[str, Built], tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv", [built["pixelseg-env"].wheel])
    (tmp_path / "empty").mkdir()
    assert run([python, SMOKE, "env"], tmp_path / "empty") == "env: sound\n"


@pytest.mark.slow
def test_both_train_evaluate_and_predict(built: dict[str, Built], tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv", [one.wheel for one in built.values()])
    (tmp_path / "empty").mkdir()
    assert run([python, SMOKE, "agents"], tmp_path / "empty") == "agents: sound\n"


@pytest.mark.slow
def test_tests_of_the_source_distribution_run(built: dict[str, Built], tmp_path: Path) -> None:
    """Without agents and torch: what can do without them is collected, and quick tests pass."""
    source = built["pixelseg-env"].source
    shipped = {str(path.relative_to(source)) for path in source.glob("tests/**/test_*.py")}
    assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "tests/env").rglob("test_*.py")}
    requires = built["pixelseg-env"].metadata.get_all("Requires-Dist", [])
    needs = [text for text in requires if "extra ==" not in text]
    python = make_environment(tmp_path / "venv", [], *needs, "pytest", "hypothesis", "scipy")
    pytest_there = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    collected = run([*pytest_there, "--collect-only", "tests"], source)
    assert "error" not in collected.splitlines()[-1]
    for name in ("test_env.py", "test_vector_env.py", "test_dynamics.py", "test_rewards.py", "test_cardiac.py"):
        assert f"/{name}::" in collected
    quick = ["tests/env/test_dynamics.py", "tests/env/datasets/test_phantom.py"]
    assert " passed" in run([*pytest_there, *quick], source)
