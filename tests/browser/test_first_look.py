"""The first notebook in a real JupyterLab: all its boards are drawn, and nothing leaves the machine."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "notebooks" / "00_first_look.ipynb"
BOARDS = 3
# Different colours of each canvas that lies under others; a blank one has one at most.
COLOURS = """() => [...document.querySelectorAll('.gv-board .gv-stage')].map(stage => {
  const canvas = stage.querySelector('canvas');
  const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size;
})"""


def test_first_look_draws_its_boards(lab, open_page, reader):
    shutil.copy(NOTEBOOK, lab.folder)
    page = open_page(f"{lab.url}/doc/tree/{NOTEBOOK.name}?token={lab.token}", offline=False)
    lab.run_all(page)
    page.wait_for_function(f"document.querySelectorAll('.gv-board[data-drawn]').length === {BOARDS}", timeout=60_000)
    reader(page, ".jp-OutputArea").settle()
    colours = page.evaluate(COLOURS)
    assert len(colours) >= 5 * BOARDS
    assert min(colours) > 1
    assert (lab.folder / "first_look.html").is_file()
    assert (lab.folder / "first_look.png").is_file()
