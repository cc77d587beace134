"""Two passes beside each other, rows that travelled as bytes, and lines out of the window: on the exported page."""

import subprocess
import sys

import numpy as np
import pytest
from test_readme import README, python_blocks

from browser import synthetic
from browser.test_words import KEEP
from gptviz.dashboards import explore
from gptviz.export import export_html
from gptviz.interventions import ablate_head, intervene
from gptviz.loading import load
from gptviz.trace import record
from gptviz.views import attention_view
from gptviz.widgets import Board

pytestmark = pytest.mark.browser
WRITTEN = "all => all.map(one => window.written.get(one) ?? [])"
LONG = 2000  # tokens: a head of so many travels as bytes


@pytest.fixture
def words_of(open_page, reader, tmp_path):
    """Export a board and open it: the reader, and the words on the canvases of a panel."""

    def opened(board, **how):
        page = open_page(export_html(board, tmp_path / "page.html").as_uri(), **how)
        page.add_init_script(KEEP)
        page.reload()
        shown = reader(page)

        def words(panel):
            shown.settle()
            canvases = shown.stage(panel).locator("canvas")
            return [word["text"] for one in canvases.evaluate_all(WRITTEN) for word in one]

        return shown, words

    return opened


def test_a_comparison_names_both_and_whose_numbers_each_panel_shows(words_of):
    model, tokenizer = load("sorter")
    one, two = (record(model, text, tokenizer) for text in ("CBABBCAB", "ABABBCAB"))
    board, words = words_of(explore(one, model, tokenizer, other=two))
    minus = "‘ABABBCAB’ \u2212 ‘CBABBCAB’"
    assert board.page.locator(".gv-compared").inner_text() == \
        f"comparing ‘CBABBCAB’ and ‘ABABBCAB’ · difference: {minus}"
    board.page.locator(".gv-panel-head [data-name=compare]").select_option("difference")
    board.settle()
    assert f"difference: {minus}" in board.title("head")
    most = float((two["pattern"] - one["pattern"]).abs().max())
    assert words("head").count("C/A") == 2, "the axes name both texts where they differ"
    assert f"±{most:.2f}" in board.title("heads")
    assert f"+{most:.2f}" in words("head")  # the end of the colour scale
    for panel in ("text", "reads", "lines", "lens", "writes"):
        assert "of ‘CBABBCAB’" in board.title(panel), panel
    board.page.locator(".gv-panel-head [data-name=compare]").select_option("other")
    board.settle()
    assert "pattern of ‘ABABBCAB’" in board.title("head")
    named = words("head")
    assert (named.count("A"), named.count("C/A")) == (6, 0), "three tokens on either axis"


def test_the_page_of_the_readme_opens_on_what_the_ablation_changed(open_page, reader, tmp_path):
    script = "\n".join(python_blocks(README))
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    board = reader(open_page((tmp_path / "sorter.html").as_uri()))
    minus = "ablated L0H1 \u2212 clean"
    assert board.page.locator(".gv-compared").inner_text() == f"comparing clean and ablated L0H1 · difference: {minus}"
    assert f"difference: {minus}" in board.title("head")
    assert board.page.locator(".gv-panel-head [data-name=compare]").input_value() == "difference"
    model, tokenizer = load("sorter")
    with intervene(model, ablate_head(0, 1)):
        ablated = record(model, "CBABBCABBBC", tokenizer)["pattern"]
    clean = record(model, "CBABBCABBBC", tokenizer)["pattern"]
    layer, head, query, key = (int(at) for at in (ablated - clean).abs().eq((ablated - clean).abs().max()).nonzero()[0])
    assert board.title("head").startswith(f"L{layer}H{head}")
    before, after = (float(one[layer, head, query, key]) for one in (clean, ablated))
    assert abs(after - before) > 0.2, "the example must show an effect that one sees"
    assert f"goes from {100 * before:.0f} % to {100 * after:.0f} %" in board.says("head")


def test_a_difference_of_nothing_says_so(words_of):
    model, tokenizer = load("sorter")
    trace = record(model, "CBABBCAB", tokenizer)
    with intervene(model, ablate_head(2, 0)):  # of the last layer: no head reads what it wrote
        board, _ = words_of(explore(trace, model, tokenizer, other=record(model, "CBABBCAB", tokenizer)))
    assert "no weight of any head differs; what they write may: compare the logits" in board.title("heads")


def test_the_looked_at_row_of_a_long_text_sums_to_1(words_of):
    scores = np.random.default_rng(0).normal(0, 0.05, (1, 1, LONG, LONG)).astype(np.float32)
    weights = np.exp(scores) * np.tri(LONG, dtype=np.float32)
    pattern = weights / weights.sum(-1, keepdims=True)
    bytes_alone = np.rint(255 * np.sqrt(pattern[0, 0, -1]))
    assert np.square(bytes_alone / 255).sum() > 1.02  # what the page once said
    _, words = words_of(Board([attention_view(pattern, synthetic.story(LONG))], query=LONG - 1))
    shown = words("reads")
    assert shown[shown.index("sum (each √p rounded to 1/255)") + 1] == "1.0000"
    assert "row sum 1.000" in words("head")


def test_lines_to_keys_outside_the_window_are_drawn_and_the_panel_takes_the_width_that_is_left(words_of):
    tokens = synthetic.story(300)
    pattern = synthetic.pattern(12, 12, tokens)
    sink = int(pattern[0, :, -1, 0].argmax())
    shown = Board([attention_view(pattern, tokens)], layer=0, head=sink, query=299, key=298)
    board, words = words_of(shown, width=1600)
    assert "Lines to keys outside the window: 32." in board.says("lines")
    written = words("lines")
    at = written.index("no other earlier key")
    assert written[at - 2 : at] == ["When", "0"]
    assert board.stage("lines").bounding_box()["width"] > 1500
