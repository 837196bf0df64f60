"""The notebooks of `docs/notebooks/`: executes them, and writes them with their outputs (`make notebooks`).

python -m tests.helpers.notebooks [NAME ...]     a few minutes in all, at full size
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
QUICK = "PIXELSEG_QUICK"  # the variable by which a notebook shortens itself
LANGUAGE = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(path: Path, folder: Path, quick: bool) -> Any:
    """A notebook with the outputs that it has when all its cells are executed in a folder, in a new kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message shows it.
    """
    notebook = nbformat.read(path, as_version=4)
    shown = {name: value for name, value in os.environ.items() if name not in (QUICK, "MPLBACKEND")}
    with tempfile.TemporaryDirectory() as sockets:  # a short path: they are files, not ports, so nobody else connects
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(notebook, km=manager, timeout=900)
        client.execute(env=shown | ({QUICK: "1"} if quick else {}), cwd=str(folder))
    return notebook


def tidied(notebook: Any) -> Any:
    """The notebook without what differs from one machine or execution to the next, but for the outputs themselves."""
    notebook.metadata = {"kernelspec": LANGUAGE, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        kept = ("tags", "cellView", "jupyter")
        cell.metadata = {name: cell.metadata[name] for name in kept if name in cell.metadata}
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        for output in cell.outputs:
            output.get("metadata", {}).clear()
            output.get("data", {}).pop("text/plain", None) if "image/png" in output.get("data", {}) else None
            if "execution_count" in output:
                output.execution_count = None
        cell.outputs = _joined(cell.outputs)
    return notebook


def lighter(notebook: Any) -> Any:
    """The notebook with its pictures in at most 128 colours, which nobody sees, and a third of the bytes."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
            file = io.BytesIO()
            picture.quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
            output.data["image/png"] = base64.b64encode(file.getvalue()).decode()
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Texts that follow one another as one, however they were cut into messages."""
    found: list[Any] = []
    for output in outputs:
        last = found[-1] if found else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            found.append(output)
    return found


def main(names: list[str]) -> None:
    """Executes the named notebooks, or all, and writes them."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = lighter(tidied(executed(path, Path(folder), quick=False)))
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
