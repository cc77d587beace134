"""Heads, circuits and embeddings on an exported page; edits in a real JupyterLab: a real mouse, real keys."""

import json

import numpy as np
import pytest
import torch

import gptviz as gv
from gptviz.dashboards import explore
from gptviz.export import export_html
from gptviz.tokenizers import CharTokenizer
from gptviz.views.attention import head_pattern

pytestmark = pytest.mark.browser
TEXT = "abcabcaab bca"
VIEWS = ["heads", "head_scores", "text", "edits", "circuits", "composition", "embeddings", "positions"]

MAKE = """
import json, pathlib, torch
import gptviz as gv
from gptviz.tokenizers import CharTokenizer
TEXT = "abcabcaab bca"
torch.manual_seed(0)
tokenizer = CharTokenizer(TEXT)
config = gv.GPTConfig(block_size=16, vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=8)
model = gv.GPT(config).eval()
board = gv.explore(gv.record(model, TEXT, tokenizer), model, tokenizer, views=["heads", "text", "edits"])
board.layer, board.head, board.query = 1, 0, 5
board
"""


@pytest.fixture(scope="module")
def shown():
    torch.manual_seed(0)
    tokenizer = CharTokenizer(TEXT)
    config = gv.GPTConfig(block_size=16, vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=8)
    model = gv.GPT(config).eval()
    board = explore(gv.record(model, TEXT, tokenizer), model, tokenizer, views=VIEWS)
    board.layer, board.head, board.query, board.key = 1, 0, 5, 2
    return board


@pytest.fixture
def board(open_page, reader, shown, tmp_path):
    return reader(open_page(export_html(shown, tmp_path / "page.html").as_uri()))


def view(shown, kind):
    return next(one for one in shown.views if one.kind == kind)


def choose(board, panel, name, value):
    control = board.page.locator(f".gv-panel-{panel} [data-name={name}]")
    control.select_option(value) if isinstance(value, str) else control.set_checked(value)
    board.settle()


def test_a_sorted_grid_begins_with_the_highest_score_and_keeps_names(board, shown):
    choose(board, "heads", "score", "previous_token")
    choose(board, "heads", "sort", True)
    scores = view(shown, "head_scores").detail_of()
    value = scores.arrays["value"][scores.labels["score"].index("previous_token")]
    layer, head = np.unravel_index(int(value.argmax()), value.shape)
    box = board.stage("heads").bounding_box()
    board.page.mouse.move(box["x"] + 30, box["y"] + 40)
    board.settle()
    assert f"Head L{layer}H{head}" in board.says("heads")
    assert f"previous token {value.max():.2f}" in board.says("heads")
    assert board.title("scores").startswith("Previous token score")


def test_a_filter_greys_heads_and_keys_sort(board):
    before = board.picture("heads")
    choose(board, "heads", "score", "entropy")
    choose(board, "heads", "keep", "0.75")
    greyed = board.picture("heads")
    assert greyed != before
    board.press("heads", "s")
    assert board.picture("heads") != greyed
    assert board.page.locator(".gv-panel-heads [data-name=sort]").is_checked()


def test_without_the_first_token_rows_are_shared_out_again(board, shown):
    row = head_pattern(view(shown, "attention"), 1, 0)[5].astype(float)
    assert f"puts {round(100 * row[2])} % of its attention on" in board.says("head")
    choose(board, "head", "sink", False)
    again = round(100 * row[2] / (1 - row[0]))
    assert f"puts {again} % of its attention beside the first token on" in board.says("head")
    assert "without the first token" in board.title("head")


def test_zoom_shows_fewer_tokens(board):
    before = board.picture("head")
    choose(board, "head", "window", "8")
    assert board.picture("head") != before
    board.press("head", "-")
    assert board.page.locator(".gv-panel-head [data-name=window]").input_value() != "8"


def test_a_page_says_why_nothing_can_be_edited(board):
    assert "needs a kernel" in board.says("edits")
    assert not board.page.locator(".gv-panel-edits .gv-controls").is_visible()


def test_circuits_unfold_and_say_the_cell_under_the_mouse(board, shown):
    assert not board.stage("circuits").is_visible()
    board.page.locator(".gv-panel-circuits .gv-fold").click()
    board.settle()
    board.point_at("circuits", "The query ‘a’ with the key ‘c’ adds", near=(0.33, 0.11))
    words = view(shown, "circuits").labels["word"]
    value = view(shown, "circuits").detail_of(layer=1, head=0).arrays["qk"][words.index("a"), words.index("c")]
    assert f"{abs(value):.4f}" in board.says("circuits")
    board.point_at("circuits", "Attending wholly to", near=(0.37, 0.52))


def test_embeddings_turn_search_and_name_the_nearest(board, shown):
    board.page.locator(".gv-panel-embeddings .gv-fold").click()
    board.settle()
    detail = view(shown, "embeddings").detail_of()
    search = board.page.locator(".gv-panel-embeddings [data-name=find]")
    search.fill("b")
    search.press("Enter")
    board.settle()
    words, at = detail.labels["tokens"], detail.labels["tokens"].index("b")
    nearest, cosine = detail.arrays["tokens_near"][at, 0], detail.arrays["tokens_cosine"][at, 0]
    assert f"Nearest to ‘b’ by cosine: ‘{words[nearest]}’ {cosine:.2f}".replace("-", "−") in board.says("embeddings")
    choose(board, "embeddings", "map", "3d")
    before, box = board.picture("embeddings"), board.stage("embeddings").bounding_box()
    board.page.mouse.move(box["x"] + 12, box["y"] + 12)
    board.page.mouse.down()
    board.page.mouse.move(box["x"] + 90, box["y"] + 40)
    board.page.mouse.up()
    board.settle()
    turned = board.picture("embeddings")
    assert turned != before
    board.press("embeddings", "ArrowRight")
    assert board.picture("embeddings") != turned


def test_keys_mute_a_head_in_the_kernel_and_a_dragged_row_is_set(lab, open_page, reader):
    seen = ("def note(*_):\n    edits = next(v for v in board.views if v.kind == 'edits').content\n"
            "    pathlib.Path('edits.tmp').write_text(json.dumps(dict(edits)))\n"
            "    pathlib.Path('edits.tmp').rename('edits.json')\nboard.on_msg(note)")
    page = open_page(lab.write("edits.ipynb", MAKE, seen), offline=False)
    lab.run_all(page)
    board = reader(page, ".jp-OutputArea")
    board.press("heads", "m")
    page.locator(".gv-panel-edits .gv-lines dd", has_text="gv.ablate_head(1, 0)").wait_for()
    assert "original" in page.locator(".gv-panel-head [data-name=compare]").inner_text()
    choose(board, "head", "compare", "difference")
    board.until(lambda: any(said in board.says("head") for said in ("goes from", "stays at", "is taken out")))
    board.press("edits", "m")
    page.locator(".gv-panel-edits .gv-lines dd", has_text="gv.ablate_head(1, 0)").wait_for(state="detached")
    stage = board.stage("edits")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    bottom = box["y"] + box["height"] - 68
    page.mouse.move(box["x"] + 44 + 10, bottom - 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 44 + 10, bottom - 80, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Set row").click()
    line = page.locator(".gv-panel-edits .gv-lines dd", has_text="gv.set_pattern(1, 0, 5, [")
    line.wait_for()
    page.get_by_role("button", name="Clear edits").wait_for()
    path = lab.folder / "edits.json"
    board.until(lambda: path.exists() and json.loads(path.read_text())["python"] == line.inner_text())
