"""Other notebooks than JupyterLab: a board is drawn, a click reaches the kernel, the theme is followed."""

import json
import sys

import pytest

from browser.servers import free_port, served

pytestmark = pytest.mark.browser

CELL = """
import json, pathlib
from browser import synthetic
board = synthetic.board(8, 4, 4, layer=1, head=0)
log = pathlib.Path("traits.json").absolute()
def note(change):
    half = log.with_suffix(".tmp")
    half.write_text(json.dumps(board.selection))
    half.rename(log)  # who reads it finds it whole
board.observe(note, ["layer", "head"])
board
"""
DARK = "document.querySelector('.gv-board').classList.contains('gv-dark')"


def locks_a_head(board, folder):
    """Click a head: Python has it."""
    board.point_at("heads", "Head L2H3", near=(0.7, 0.6))
    board.click()
    path = folder / "traits.json"

    def seen():
        found = json.loads(path.read_text()) if path.exists() else {}
        return found.get("layer"), found.get("head")

    board.until(lambda: seen() == (2, 3), lambda: f"the kernel has {seen()}")


def test_notebook_7(notebook, open_page, reader):
    page = open_page(notebook.write("board.ipynb", CELL), offline=False, but=["reading 'schema'"])  # without any cell
    notebook.run_all(page)
    board = reader(page, ".jp-OutputArea")
    locks_a_head(board, notebook.folder)
    light = board.picture("heads")
    assert not page.evaluate(DARK)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function(DARK)
    board.settle()
    assert board.picture("heads") != light


MARIMO = """
import marimo
app = marimo.App()

@app.cell
def _():
{cell}
    return
"""


@pytest.fixture(scope="module")
def marimo(tmp_path_factory):
    """A marimo app that shows the board, as people see it who are sent its address."""
    pytest.importorskip("marimo", reason="needs marimo")
    folder, port = tmp_path_factory.mktemp("marimo"), free_port()
    (folder / "app.py").write_text(MARIMO.format(cell="\n".join("    " + line for line in CELL.splitlines())))
    homes = {name: str(folder / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    config = folder / "XDG_CONFIG_HOME" / "marimo" / "marimo.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[display]\ntheme = "system"\n')
    command = [sys.executable, "-m", "marimo", "--quiet", "--yes", "run", "app.py", "--headless", "--no-token",
               "--host=127.0.0.1", f"--port={port}"]
    with served(command, f"http://127.0.0.1:{port}/health", folder, homes, folder / "server.log"):
        yield f"http://127.0.0.1:{port}", folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marimo(marimo, open_page, reader, scheme):
    url, folder = marimo
    page = open_page(url, offline=False, scheme=scheme, but=["registering service worker"])  # which we block
    board = reader(page)
    shown = page.locator(".gv-board")  # in a shadow tree
    board.until(lambda: shown.evaluate("el => el.classList.contains('gv-dark')") == (scheme == "dark"))
    (folder / "traits.json").unlink(missing_ok=True)
    locks_a_head(board, folder)
