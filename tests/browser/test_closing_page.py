"""A board that was drawn and closed leaves nothing in the page: no listener, no element, no memory."""

import pytest

from browser import synthetic
from gptviz.views.board import payload_json
from gptviz.widgets import STATIC

pytestmark = pytest.mark.browser

# A stand-in of anywidget's model, whose listeners are counted, and one board drawn and closed again.
MODEL = """async ([url, times, text]) => {
  const { default: widget } = await import(url);
  window.heard = window.heard ?? new Set();
  for (let i = 0; i < times; i++) {
    const state = { _payload: JSON.parse(text), _picture: '', step: 3000, layer: 1, head: 0, query: null, key: null };
    const model = { get: name => state[name], set: (name, value) => { state[name] = value; },
                    save_changes() {}, send() {},
                    on: (event, call) => window.heard.add(call), off: (event, call) => window.heard.delete(call) };
    const el = document.body.appendChild(document.createElement('div')), close = widget.render({ model, el });
    while (!el.querySelector('.gv-board[data-drawn]')) await new Promise(requestAnimationFrame);
    close();
    el.remove();
  }
  return window.heard.size;
}"""


def held(session):
    """What the page holds after two collections: nodes, listeners, bytes."""
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {name: found[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")}


def test_a_hundred_boards_leave_nothing_in_the_page(open_page, tmp_path):
    style = (STATIC / "board.css").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(f"<!doctype html><style>{style}</style><body>", encoding="utf-8")
    page = open_page((tmp_path / "page.html").as_uri())
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    text = payload_json(synthetic.board(8, 2, 2)._payload)
    module = page.evaluate("text => URL.createObjectURL(new Blob([text], {type: 'text/javascript'}))",
                           (STATIC / "board.js").read_text(encoding="utf-8"))

    def cycle(times):
        heard = page.evaluate(MODEL, [module, times, text])
        page.evaluate("() => new Promise(done => setTimeout(done, 4500))")  # after the 4 s of the last board's greeting
        return heard

    cycle(10)  # what is made once
    before = held(session)
    assert cycle(100) == 0
    after = held(session)
    assert after["Nodes"] - before["Nodes"] < 50
    assert after["JSEventListeners"] - before["JSEventListeners"] < 10
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 2e6  # a board holds 300 kB
    assert page.locator(".gv-board").count() == 0
