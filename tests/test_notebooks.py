"""The notebooks, run in a kernel as a reader runs them, and kept as a reader should find them."""

import json
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from gptviz.runs import open_run

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
FIRST_LOOK = NOTEBOOKS / "00_first_look.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def away(monkeypatch, tmp_path) -> Path:
    """A folder to run in, with no settings of this user."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook after all its cells ran in a kernel; a cell that fails raises."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=1800, startup_timeout=300, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def lines(cell: dict) -> int:
    return sum(bool(line.strip()) for line in cell["source"])


def test_first_look_shows_three_boards_with_pictures_and_keeps_what_it_shows(away):
    notebook = executed(FIRST_LOOK, away)
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum(WIDGET in data for data in shown) == 3
    assert sum("image/png" in data for data in shown) == 3  # what a reader without the kernel sees
    assert (away / "first_look.png").read_bytes().startswith(b"\x89PNG")
    assert "</html>" in (away / "first_look.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    for cell in code_cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_first_look_is_short():
    assert len(json.loads(FIRST_LOOK.read_text(encoding="utf-8"))["cells"]) <= 8
    assert statistics.median(map(lines, code_cells(FIRST_LOOK))) <= 3


def test_what_first_look_says_of_the_sorter_is_so():
    sorter = open_run("sorter")
    first, last = (sorter.snapshot(step) for step in (sorter.steps[0], sorter.steps[-1]))
    assert "".join(last.tokens) == "CBABBCABBBC"
    pattern = last.attention()
    assert pattern[0, 1, 5, 2] > 0.5  # L0H1 at the only A
    assert pattern[0, 1, 9, [0, 5]].sum() > 0.5  # and at the two C
    assert pattern[2, 1, 5, [3, 4]].sum() > 0.9  # L2H1 at two B
    assert first.loss[6:].mean() == pytest.approx(np.log(3), abs=0.1)
    assert last.loss[6:].max() < 0.01
    assert (last.loss[1:6] > 7).sum() >= 4
