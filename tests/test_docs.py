"""What the pages of `docs/` show is true: programs run and print what they say, commands and files are there.

Without MkDocs: that every link and anchor leads somewhere is told by `make docs`, which fails where one does not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from pixelseg_agents.cli import COMMANDS, main
from pixelseg_agents.networks import registered_networks
from pixelseg_agents.registry import registered_agents
from pixelseg_env.datasets import registered_datasets
from pixelseg_env.rewards.built_in import CATALOGUE
from tests.helpers.fresh import run_script

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT / "docs")): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)(?P<facts>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
LEARN = re.compile(r"\blearn\([\d_]+")
MARK = "<block {}>"


class Block(NamedTuple):
    """A block of a page: its language, the file that it is, and what it prints, where the page says so."""

    language: str
    text: str
    file: str | None
    prints: str | None


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order; one of `text` is what the program before it prints."""
    found: list[Block] = []
    for fence in FENCE.finditer(page):
        text = re.sub(f"^{fence['indent']}", "", fence["text"], flags=re.M)
        if fence["language"] == "text":
            assert [one.language for one in found[-1:]] in (["python"], ["file"]), f"printed by no program: {text}"
            found[-1] = found[-1]._replace(prints=text)
        else:
            if text.startswith("--8<--"):  # a file of the repository: an example, which tests/test_examples.py runs
                found.append(Block("file", text, None, None))
                continue
            title = re.search(r'title="([\w.]+)"', fence["facts"])
            found.append(Block(fence["language"], text, title[1] if title else None, None))
    return found


PROGRAMS = {name: [one for one in blocks(page) if one.language == "python"] for name, page in PAGES.items()}
LINES = [
    (name, line)
    for name, page in PAGES.items()
    for one in blocks(page)
    if one.language in ("sh", "bash")
    for line in one.text.replace("\\\n", " ").splitlines()
]


def test_blocks_are_of_known_kinds() -> None:
    known = {"python", "sh", "bash", "text", "bibtex", "yaml"}
    assert {fence["language"] for page in PAGES.values() for fence in FENCE.finditer(page)} <= known
    assert all(page.count("```") == 2 * len(FENCE.findall(page)) for page in PAGES.values())


@pytest.mark.parametrize("name", [name for name, programs in PROGRAMS.items() if programs])
def test_the_programs_of_a_page_run_one_after_the_other(name: str, tmp_path: Path) -> None:
    """Each goes on where the one before it ended; trainings are cut to two updates."""
    if name == "deployment.md":
        pytest.skip("an excerpt of examples/onnx_inference.py, which tests/test_examples.py runs")
    whole = []
    for number, block in enumerate(PROGRAMS[name]):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        whole += [f"print({MARK.format(number)!r})", LEARN.sub("learn(2", block.text)]
    script = tmp_path / "page.py"
    script.write_text("\n".join(whole))
    done = run_script(script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = re.split(r"<block \d+>\n", done.stdout)[1:]
    assert len(printed) == len(PROGRAMS[name])
    for block, text in zip(PROGRAMS[name], printed, strict=True):
        assert block.prints in (None, text)


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, ...], str]:
    return {}


@pytest.mark.parametrize(("name", "line"), LINES, ids=[f"{name}: {line}"[:70] for name, line in LINES])
def test_commands_are_there(
    name: str, line: str, helps: dict[tuple[str, ...], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line, comments=True)
    if words[:1] == ["pixelseg"] and len(words) > 1:
        assert words[1] in COMMANDS, f"{name}: {line}"
        agent = words[words.index("--agent") : words.index("--agent") + 2] if "--agent" in words else []
        agent = [] if ":" in "".join(agent) else agent
        parts = words[2:3] if words[1] == "rewards" else []  # which has commands of its own
        asked = (words[1], *parts, *agent, "--help")
        if asked not in helps:
            with pytest.raises(SystemExit, match="0"):
                main(asked)
            helps[asked] = capsys.readouterr().out
        flags = [word for word in words if re.match(r"--?[a-z]", word)]
        assert [flag for flag in flags if not re.search(rf"(?<!\S){flag}\b", helps[asked])] == [], f"{name}: {line}"
    elif words[:1] == ["make"]:
        targets = [word for word in words[1:] if "=" not in word]
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{re.escape(target)}:", makefile, re.M) for target in targets), line
    elif words[:1] == ["python"] and words[1] != "-m":
        assert (ROOT / words[1]).is_file(), f"{name}: {line}"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("rewards.md", CATALOGUE),
        ("agents/index.md", registered_agents()),
        ("agents/supervised.md", registered_networks()),
        ("data.md", registered_datasets()),
        ("reference/cli.md", [f"pixelseg {command}" for command in COMMANDS]),
    ],
)
def test_a_page_names_all_that_there_is(page: str, names: Iterable[str]) -> None:
    missing = [name for name in names if not re.search(rf"`\"?{re.escape(name)}(?!\w)", PAGES[page])]
    assert missing == [], f"docs/{page} does not name them"


def test_every_page_is_in_the_navigation() -> None:
    """MkDocs says so as well, but not in the tests."""
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    assert [page for page in PAGES if page not in navigation] == []
