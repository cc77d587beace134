"""The widget in a real JupyterLab: the kernel's traits and the picture move together."""

import json

import pytest

from browser import synthetic
from gptviz.export import export_html

pytestmark = pytest.mark.browser

MAKE = """
import json, pathlib
from browser import synthetic
board = synthetic.board(layer=1, head=0, picture={picture})
log = pathlib.Path("traits.json")
def note(change):
    half = log.with_suffix(".tmp")
    half.write_text(json.dumps(board.selection | {{"text": board.text}}))
    half.rename(log)  # who reads it finds it whole
board.observe(note)
board
"""

PICTURE = ("__import__('base64').b64decode('iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGNgYPiPFQ0"
           "tCQYGAPqMP8EBYF8WAAAAAElFTkSuQmCC')")


def traits(lab, board, **wanted):
    """Wait until the kernel has seen these values."""
    path = lab.folder / "traits.json"

    def seen():
        found = json.loads(path.read_text()) if path.exists() else {}
        return {name: found.get(name) for name in wanted}

    board.until(lambda: path.exists() and seen() == wanted, lambda: f"wanted {wanted}, the kernel has {seen()}")


def test_mouse_and_keys_change_traits_and_the_kernel_answers(lab, open_page, reader):
    page = open_page(lab.write("board.ipynb", MAKE.format(picture=None)), offline=False)
    lab.run_all(page)
    board = reader(page, ".jp-OutputArea")
    board.point_at("heads", "Head L2H3", near=(0.7, 0.6))
    board.click()
    traits(lab, board, layer=2, head=3)
    board.point_at("text", "Position 5:", near=(0.1, 0.25))
    board.click()
    traits(lab, board, query=5, key=None)
    before = board.picture("heads")
    board.slider().focus()
    page.keyboard.press("Home")
    traits(lab, board, step=0)
    board.until(lambda: board.picture("heads") != before)  # the frame comes from the kernel
    field = page.locator("input.gv-text")
    field.fill("<b>hi</b>")
    field.press("Enter")
    traits(lab, board, text="<b>hi</b>")
    page.wait_for_function("document.querySelector('.gv-count').textContent.startsWith('9 of 200')")
    field.fill("x" * 300)
    field.press("Enter")
    page.get_by_text("reads at most 200 (block_size)").wait_for()


def test_python_moves_the_picture_also_inside_boxes(lab, open_page, reader):
    cells = ["import ipywidgets as w\nfrom browser import synthetic\n"
             "board, other = synthetic.board(8, 2, 2), synthetic.board(8, 2, 2)\n"
             "w.jslink((board, 'head'), (other, 'head'))\nw.VBox([w.HBox([board]), other])",
             "board.layer, board.head, board.step = 1, 1, 16"]
    page = open_page(lab.write("boxes.ipynb", *cells), offline=False)
    lab.run_all(page)
    reader(page, ".jp-OutputArea")
    page.wait_for_function("() => { const t = [...document.querySelectorAll('.gv-panel-head .gv-title')]"
                           ".map(e => e.textContent);"
                           " return t.length === 2 && t[0] === 'L1H1' && t[1].endsWith('H1'); }")
    page.wait_for_function("document.querySelector('.gv-steps .gv-stage').getAttribute('aria-valuenow') === '16'")


def test_theme_of_the_notebook_is_followed_while_it_changes(lab, open_page, reader):
    page = open_page(lab.write("theme.ipynb", MAKE.format(picture=None)), offline=False)
    lab.run_all(page)
    board = reader(page, ".jp-OutputArea")
    light = board.picture("heads")
    dark = "document.querySelector('.gv-board').classList.contains('gv-dark')"
    assert not page.evaluate(dark)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function(dark)
    board.until(lambda: board.picture("heads") != light)
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    page.wait_for_function(f"!{dark}")
    board.until(lambda: board.picture("heads") == light)


def test_saved_picture_shows_only_without_the_widget(lab, open_page, reader):
    page = open_page(lab.write("saved.ipynb", MAKE.format(picture=PICTURE)), offline=False)
    lab.run_all(page)
    reader(page, ".jp-OutputArea")
    page.wait_for_function("document.querySelectorAll('.jp-RenderedImage img').length === 1")
    page.locator(".jp-RenderedImage img").wait_for(state="hidden")
    page.evaluate("() => document.querySelector('.gv-board').remove()")  # as in a notebook without its kernel
    page.locator(".jp-RenderedImage img").wait_for(state="visible")


@pytest.mark.parametrize("trusted", [True, False])
def test_a_notebook_reopened_without_its_kernel_shows_the_picture(lab, open_page, reader, trusted):
    name = f"reopened{trusted}.ipynb"
    page = open_page(lab.write(name, MAKE.format(picture=PICTURE)), offline=False)
    lab.run_all(page)
    reader(page, ".jp-OutputArea")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    notebook = json.loads((lab.folder / name).read_text())  # the command has ended, and the server writes whole files
    outputs = notebook["cells"][0]["outputs"]
    assert [sorted(one["data"])[0] for one in outputs] == ["application/vnd.jupyter.widget-view+json", "image/png"]
    page.context.close()
    if not trusted:  # another text, another signature
        notebook["cells"][0]["outputs"][0]["metadata"] = {"from": "elsewhere"}
    notebook["metadata"].pop("widgets", None)  # JupyterLab's default: no state of widgets
    copy = lab.folder / f"copy-{name}"
    copy.write_text(json.dumps(notebook))
    again = open_page(lab.address(copy.name), offline=False, but=["model not found", "Could not create a view"])
    again.locator(".jp-RenderedImage img").wait_for(state="visible")
    assert again.locator(".gv-board").count() == 0


def test_boards_share_a_selection_through_the_kernel(lab, open_page, reader):
    cells = ["import traitlets, ipywidgets as w\nfrom browser import synthetic\n"
             "a, b = synthetic.board(8, 2, 2), synthetic.board(8, 2, 2)\n"
             "for name in ('layer', 'head', 'query', 'key', 'step'): traitlets.link((a, name), (b, name))\n"
             "w.VBox([a, b])"]
    page = open_page(lab.write("shared.ipynb", *cells), offline=False)
    lab.run_all(page)
    first = reader(page, ".jp-OutputArea")
    first.point_at("heads", "Head L1H1", near=(0.7, 0.6))
    first.click()
    page.wait_for_function("() => { const t = [...document.querySelectorAll('.gv-panel-head .gv-title')]"
                           ".map(e => e.textContent); return t.length === 2 && t.every(one => one === 'L1H1'); }")


def test_widget_and_page_draw_the_same_picture(lab, open_page, reader, tmp_path):
    """Colours and fonts come from a style sheet that the notebook attaches late: the canvas has waited for it."""
    board = synthetic.board(8, 2, 2, layer=1, head=0)
    cell = "from browser import synthetic\nsynthetic.board(8, 2, 2, layer=1, head=0)"
    page = open_page(lab.write("same.ipynb", cell), offline=False)
    lab.run_all(page)
    notebook = reader(page, ".jp-OutputArea")
    notebook.settle()
    width = int(page.locator(".gv-board").bounding_box()["width"])
    alone = reader(open_page(export_html(board, tmp_path / "same.html").as_uri(), width=width))
    for panel in ("heads", "head", "text", "loss"):
        alone.until(lambda panel=panel: notebook.picture(panel) == alone.picture(panel), f"{panel} differs")
