"""The first notebook in a real JupyterLab: all its boards are drawn, and nothing leaves the machine."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "notebooks" / "00_first_look.ipynb"
BOARDS = 3
# The colours of each stage's richer canvas; a blank one has one.
COLOURS = """() => [...document.querySelectorAll('.gv-board .gv-stage:not([hidden])')].map(stage =>
  Math.max(...[...stage.querySelectorAll('canvas')].map(canvas => {
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(new Uint32Array(pixels.buffer)).size;
  })))"""


def test_first_look_draws_its_boards(lab, open_page, reader):
    shutil.copy(NOTEBOOK, lab.folder)
    page = open_page(f"{lab.url}/doc/tree/{NOTEBOOK.name}?token={lab.token}", offline=False)
    lab.run_all(page)
    page.wait_for_function(f"document.querySelectorAll('.gv-board[data-drawn]').length === {BOARDS}")
    board = reader(page, ".jp-OutputArea")
    board.settle()
    assert len(page.evaluate(COLOURS)) >= 5 * BOARDS
    board.until(lambda: min(page.evaluate(COLOURS)) > 20, lambda: f"a picture is blank: {page.evaluate(COLOURS)}")
    assert (lab.folder / "first_look.html").is_file()
    assert (lab.folder / "first_look.png").is_file()
