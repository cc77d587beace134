"""Every word that a board writes on a canvas can be read: none stands on another, none is cut off at an edge."""

import numpy as np
import pytest

from browser import synthetic
from browser.test_hostile import recorded  # noqa: F401  (a fixture)
from gptviz.dashboards import explore, watch
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.runs import open_run
from gptviz.trace import record

pytestmark = pytest.mark.browser

# Keeps the words of each canvas with their boxes, in CSS pixels; a canvas that is cleared has none. Leaning names are
# left out: their boxes overlap where the names do not.
KEEP = """(() => {
  const own = CanvasRenderingContext2D.prototype, { fillText, clearRect } = own;
  window.written = new Map();
  own.clearRect = function (...box) { window.written.set(this.canvas, []); return clearRect.apply(this, box); };
  own.fillText = function (text, x, y) {
    const to = this.getTransform(), at = to.transformPoint({ x, y }), size = this.measureText(text);
    const left = at.x / devicePixelRatio, line = at.y / devicePixelRatio;
    if (text.trim() && Math.abs(to.b) < 1e-6) window.written.get(this.canvas)?.push({ text,
      left: left - size.actualBoundingBoxLeft, right: left + size.actualBoundingBoxRight,
      top: line - size.actualBoundingBoxAscent, bottom: line + size.actualBoundingBoxDescent });
    return fillText.apply(this, arguments);
  };
})()"""

# The words that reach over an edge of their panel's picture, and the pairs that share more than a pixel. The chosen
# token is written again in bold over itself, and is no pair.
UNREADABLE = """() => [...document.querySelectorAll('.gv-stage')].flatMap((stage) => {
  const canvases = [...stage.querySelectorAll('canvas')], panel = stage.closest('section')?.className ?? '';
  const { clientWidth: wide, clientHeight: tall } = canvases[0] ?? stage;
  const words = canvases.flatMap((one) => window.written.get(one) ?? []);
  const common = (a, b, low, high) => Math.min(a[high], b[high]) - Math.max(a[low], b[low]);
  const meet = (a, b) => a.text !== b.text && common(a, b, 'left', 'right') > 1 && common(a, b, 'top', 'bottom') > 1;
  const cut = (one) => one.left < -1 || one.top < -1 || one.right > wide + 1 || one.bottom > tall + 1;
  const met = (a, i) => words.slice(i + 1).filter((b) => meet(a, b)).map((b) => `${panel}: ${a.text} on ${b.text}`);
  return [...words.filter(cut).map((one) => `${panel}: ${one.text} is cut`), ...words.flatMap(met)];
})"""


# The page after its window got a width: the frame that lays it out, that in which the board draws, and one to be sure.
AT_REST = """async (width) => {
  const frame = () => new Promise(requestAnimationFrame);
  while (innerWidth !== width) await frame();
  for (let i = 0; i < 4; i++) await frame();
}"""
WIDER = "() => document.documentElement.scrollWidth > innerWidth ? ['the page is wider than its window'] : []"
WIDTHS = 512, 800, 1000, 1024, 1600


def small():
    model, tokenizer = load("sorter")
    return explore(record(model, "CBABBCAB", tokenizer), model, tokenizer)


def compared():
    model, tokenizer = load("sorter")
    return explore(record(model, "CBABBCAB", tokenizer), model, tokenizer, other=record(model, "ABABBCAB", tokenizer))


def not_finite():
    board = synthetic.board(12, 2, 2)
    heads = next(view for view in board.views if view.kind == "attention")
    heads.arrays["pattern"][0, 0, 20:] = np.nan
    return board


PAGES = {"small": small, "compared": compared, "watch": lambda: watch(open_run("sorter")), "not finite": not_finite,
         "story": lambda: synthetic.board(layer=1, head=0, query=11, key=2),
         "long": lambda: synthetic.board(300, 12, 12, steps=[3000], tokens=synthetic.story(300))}


@pytest.fixture(scope="module")
def page_of(recorded, tmp_path_factory):  # noqa: F811
    """The address of a page by name, made once for all its widths."""
    made = {}

    def address(name):
        if name not in made:
            board = explore(*recorded, title="hostile") if name == "hostile" else PAGES[name]()
            made[name] = export_html(board, tmp_path_factory.mktemp("words") / "page.html").as_uri()
        return made[name]

    return address


@pytest.mark.parametrize("name", [*PAGES, "hostile"])
def test_no_word_is_cut_or_stands_on_another(open_page, page_of, name):
    page = open_page("about:blank")
    page.add_init_script(KEEP)
    page.goto(page_of(name))
    page.wait_for_selector(".gv-board[data-drawn]")
    folded = ".gv-fold[aria-expanded=false]"
    page.evaluate(f"document.querySelectorAll('{folded}').forEach(one => one.hidden || one.click())")
    found = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(AT_REST, width)
        assert page.evaluate("[...window.written.values()].flat().length") > 100
        found[width] = page.evaluate(UNREADABLE) + page.evaluate(WIDER)
    assert not any(found.values()), found
