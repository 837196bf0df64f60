"""The notebooks of `docs/notebooks/` run, at reduced size, and are fit to be read and opened elsewhere."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")

from IPython.core.inputtransformer2 import TransformerManager  # noqa: E402

from tests.helpers.notebooks import FOLDER, QUICK, executed, tidied  # noqa: E402

ROOT = Path(__file__).parents[1]
PATHS = sorted(FOLDER.glob("*.ipynb"))
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
COLAB = "https://colab.research.google.com/github/pixelseg/pixelseg/blob/main/docs/notebooks/{}.ipynb"
HERE = re.compile(r"https://github\.com/pixelseg/pixelseg/(?:blob|tree)/main/([^)#\s]+)")
LARGEST = 300_000  # bytes of a notebook with its outputs
TRACES = re.compile(r"/(?:home|Users|tmp|work|root|content)/|site-packages|Warning: |Traceback|\x1b\[")

by_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def code(name: str) -> list[Any]:
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


def cell_of(name: str, cell_id: str) -> Any:
    (found,) = (cell for cell in NOTEBOOKS[name].cells if cell.id == cell_id)
    return found


def test_there_are_five_and_the_page_lists_them() -> None:
    page = (FOLDER / "index.md").read_text()
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert len(NOTEBOOKS) == 5
    for name in NOTEBOOKS:
        assert f"({name}.ipynb)" in page
        assert COLAB.format(name) in page
        assert f"notebooks/{name}.ipynb" in navigation


@by_notebook
def test_it_runs_at_reduced_size(name: str, tmp_path: Path) -> None:
    """Its own asserts tell whether a lesson still holds."""
    found = executed(FOLDER / f"{name}.ipynb", tmp_path, quick=True)
    printed = [output for cell in found.cells for output in cell.get("outputs", [])]
    assert [output.text for output in printed if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in printed)


@by_notebook
def test_what_is_committed_has_outputs_and_no_traces_of_a_machine(name: str) -> None:
    notebook, text = NOTEBOOKS[name], (FOLDER / f"{name}.ipynb").read_text()
    assert len(text) < LARGEST
    assert notebook == tidied(nbformat.reads(text, as_version=4)), "written by hand? make notebooks"
    texts, pictures = [], []
    for output in (output for cell in code(name) for output in cell.outputs):
        assert output.output_type in ("stream", "display_data", "execute_result")
        texts.append(output.get("text", "") + json.dumps(dict(output.get("data", {}) | {"image/png": ""})))
        pictures += [output.data["image/png"]] if "image/png" in output.get("data", {}) else []
    assert len(pictures) >= 2
    assert [text for text in texts if TRACES.search(text)] == []
    assert all(output.get("name") != "stderr" for cell in code(name) for output in cell.outputs)
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


@by_notebook
def test_it_teaches_and_lets_try(name: str) -> None:
    cells = NOTEBOOKS[name].cells
    first = cells[0].source
    assert first.startswith("# ")
    assert COLAB.format(name) in first
    assert "**At the end you know**" in first
    assert sum(QUICK in cell.source for cell in code(name)) == 1
    exercises = [k for k, cell in enumerate(cells) if cell.source.startswith("### Exercise ")]
    assert 2 <= len(exercises) <= 4
    for number, k in enumerate(exercises, 1):
        assert cells[k].source.startswith(f"### Exercise {number}\n")
        if "<summary>Solution</summary>" in cells[k].source:
            continue
        answer, solution = cells[k + 1 : k + 3]
        assert answer.source == "# Your answer"
        assert solution.source.startswith(f"# @title Solution of exercise {number}\n")
        assert "assert " in solution.source
        assert solution.metadata.tags == ["solution"]
        assert solution.metadata.jupyter.source_hidden


@by_notebook
def test_its_links_lead_somewhere(name: str) -> None:
    text = "\n".join(cell.source for cell in NOTEBOOKS[name].cells)
    assert [path for path in HERE.findall(text) if not (ROOT / path).exists()] == []
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == [], "on Colab a relative link leads nowhere"


@by_notebook
@pytest.mark.parametrize(
    ("missing_for", "asked"),
    [
        (0, []),
        (1, ["--quiet --find-links . pixelseg-env pixelseg-agents"]),
        (2, ["--quiet --find-links . pixelseg-env pixelseg-agents", "#subdirectory=agents"]),
    ],
    ids=["is there", "from wheels or the index", "from the repository"],
)
def test_the_first_cell_installs_what_is_missing(
    name: str, missing_for: int, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = code(name)[0]
    assert first.source == cell_of(sorted(NOTEBOOKS)[0], "install").source
    assert first.outputs == []
    calls: list[str] = []
    names: dict[str, Any] = {}

    class Shell:
        def run_line_magic(self, magic: str, line: str) -> None:
            assert magic == "pip"
            calls.append(line.format(**names))  # as IPython does

    answers = iter([None] * missing_for + [object()] * 2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: next(answers))
    names["get_ipython"] = Shell
    exec(TransformerManager().transform_cell(first.source), names)
    assert len(calls) == len(asked)
    assert all(part in call for part, call in zip(asked, calls, strict=True))
