"""The logit lens, the next token and its tree, the text's colours: on an exported page, and with a kernel."""

import numpy as np
import pytest
import torch

from gptviz.dashboards import explore
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.trace import record
from gptviz.views import attention_view, tokens_view

pytestmark = pytest.mark.browser
TEXT = "CBABBC"


@pytest.fixture(scope="module")
def sorted_text():
    model, tokenizer = load("sorter")
    return record(model, TEXT + "ABB", tokenizer), model, tokenizer


@pytest.fixture(scope="module")
def page_of(sorted_text, tmp_path_factory):
    board = explore(*sorted_text, views=["heads", "text", "next", "lens"])
    return export_html(board, tmp_path_factory.mktemp("lens") / "lens.html").as_uri()


@pytest.fixture
def board(open_page, reader, page_of):
    return reader(open_page(page_of))


def probabilities(sorted_text, query, temperature=1.0):
    trace, _, tokenizer = sorted_text
    p = (trace["logits"][query] / temperature).softmax(-1).detach()
    return {tokenizer.visible(i): float(p[i]) for i in range(len(p))}


def test_a_hovered_cell_says_its_tokens_and_every_view_follows(board):
    board.point_at("lens", "At ‘B’ (4), after L1:", near=(0.2, 0.3))
    assert "position 4" in board.title("next")
    assert "Position 4" in board.says("text")
    assert "the truth ‘C’ has rank" in board.says("lens")


def test_the_last_row_of_the_lens_is_the_models_answer(board, sorted_text):
    board.press("lens", "End")
    board.press("lens", "ArrowLeft")
    best, p = max(probabilities(sorted_text, 7).items(), key=lambda pair: pair[1])
    assert f"after L2: ‘{best}’ {p:.4f}" in board.says("lens")


def test_a_click_pins_a_token_and_follows_its_rank(board):
    board.point_at("lens", "At ‘C’ (0), before the first layer", near=(0.05, 0.15))
    board.click()
    words = board.says("lens")
    assert "pinned at 0, has rank 1 at embed" in words
    before = board.picture("lens")
    board.point_at("lens", "At ‘B’ (8)", near=(0.42, 0.3))
    assert "pinned at 0" in board.says("lens")
    board.page.get_by_role("button", name="Unpin").click()
    board.settle()
    assert "pinned" not in board.says("lens")
    assert board.picture("lens") != before


def test_keys_walk_through_layers_and_positions(board):
    board.press("lens", "Home")
    assert "At ‘C’ (0), after L2" in board.says("lens")
    board.press("lens", "ArrowUp")
    board.press("lens", "ArrowRight")
    assert "At ‘B’ (1), after L1" in board.says("lens")
    board.press("lens", "Enter")
    assert "pinned at 1" in board.says("lens")


def test_the_lens_is_coloured_by_what_is_chosen(board):
    drawn = set()
    for name in ("top_probs", "entropy", "kl"):
        board.page.get_by_label("colour, lens").select_option(name)
        board.settle()
        drawn.add(board.picture("lens"))
    assert len(drawn) == 3


def test_temperature_is_exact(board, sorted_text):
    board.press("text", "Home")
    slider = board.page.get_by_label("temperature, next")
    slider.focus()
    for _ in range(10):
        board.page.keyboard.press("ArrowLeft")
    board.settle()
    for word, p in probabilities(sorted_text, 0, 0.5).items():
        assert f"‘{word}’ {p:.3f}" in board.says("next")
    assert "Temperature 0.5" in board.says("next")
    board.page.get_by_role("button", name="The model's own").click()
    board.settle()
    for word, p in probabilities(sorted_text, 0).items():
        assert f"‘{word}’ {p:.3f}" in board.says("next")


def test_top_k_excludes_all_others(board):
    slider = board.page.get_by_label("top-k, next")
    slider.focus()
    board.page.keyboard.press("ArrowRight")
    board.settle()
    assert board.says("next").count(" out") == 2
    assert "drawn from 1 of 3 tokens" in board.says("next")


def test_a_page_says_why_its_tree_does_not_grow(board):
    assert "no kernel here to continue it" in board.says("tree")
    assert "Step 1: ‘" in board.says("tree")


def test_the_text_takes_other_colours(board, sorted_text):
    drawn = {board.picture("text")}
    for name in ("p", "rank", "entropy"):
        board.page.get_by_label("colour, text").select_option(name)
        board.settle()
        drawn.add(board.picture("text"))
    assert len(drawn) == 4
    board.press("text", "End")
    before = sorted_text[0]["logits"][7].softmax(-1)
    entropy = float(torch.special.entr(before).sum())
    assert f"entropy before it was read {entropy:.4f}" in board.says("text")


def test_arrays_of_the_readers_own_colour_the_text(open_page, reader, tmp_path):
    even = np.tril(np.ones((1, 1, 3, 3))) / np.arange(1, 4)[:, None]
    text = tokens_view(np.array([np.nan, 1.0, 2.0]), ["a", "b", "c"], arrays={"tilt": np.array([-1.5, 0, 2.25])})
    page = export_html([attention_view(even, ["a", "b", "c"]), text], tmp_path / "own.html")
    board = reader(open_page(page.as_uri()))
    board.page.get_by_label("colour, text").select_option("tilt")
    board.press("text", "Home")
    assert "tilt −1.5000" in board.says("text")


@pytest.mark.parametrize("width", [360, 1000, 1600])
def test_nothing_is_wider_than_the_page(open_page, reader, page_of, width):
    page = open_page(page_of, width=width)
    board = reader(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    board.press("lens", "Home")
    assert "At ‘C’ (0)" in board.says("lens")


def test_a_tree_grows_through_the_kernel_and_gives_its_text(open_page, reader, lab):
    source = ('import gptviz as gv; model, tokenizer = gv.load("sorter"); board = gv.explore('
              'gv.record(model, "CBABBCABB", tokenizer), model, tokenizer, views=["heads", "text", "next"]); '
              'board.query = 5; board')
    page = open_page(lab.write("tree.ipynb", source), offline=False)
    lab.run_all(page)
    board = reader(page)
    board.point_at("tree", "Step 1: ‘", near=(0.1, 0.3))
    board.press("tree", "Enter")
    page.wait_for_function("() => /p of these \\d+ tokens/.test(document.querySelector('.gv-panel-tree .gv-stage')"
                           ".getAttribute('aria-label'))")
    assert "Continuations of ‘C’: ‘A’" in board.says("tree")
    page.get_by_role("button", name="Use this text").click()
    page.wait_for_function("() => document.querySelector('.gv-text').value.startsWith('CBABBCA')")
