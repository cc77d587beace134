"""Lines, writes, query and key, and the split of a score on the exported page: a real mouse, real keys."""

import re

import pytest

from gptviz.dashboards import explore
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.trace import record

pytestmark = pytest.mark.browser
MINUS = "\u2212"


def number(words, after):
    """The number that stands after some words."""
    return float(re.search(re.escape(after) + rf"\s*([+{MINUS}]?\d+\.\d+)", words)[1].replace(MINUS, "-").lstrip("+"))


@pytest.fixture(scope="module")
def sorter():
    model, tokenizer = load("sorter")
    return record(model, "CBABBCAB", tokenizer), model, tokenizer


@pytest.fixture(scope="module")
def page(sorter, tmp_path_factory):
    board = explore(*sorter, views=["heads", "text", "writes", "querykey", "decomposition", "circuits"])
    board.layer, board.head, board.query, board.key = 1, 2, 5, 3
    return export_html(board, tmp_path_factory.mktemp("page") / "sorter.html").as_uri()


@pytest.fixture
def board(open_page, reader, page):
    return reader(open_page(page, scheme="dark"))  # as much as in the light one, in which test_page.py reads


def panel(board, name):
    return board.page.locator(f".gv-panel-{name}")


def unfold(board, name):
    panel(board, name).locator(".gv-fold").click()
    board.settle()


def away(board):
    board.page.mouse.move(2, 2)
    board.settle()


def test_writes_add_up_to_the_models_logit(board, sorter):
    trace = sorter[0]
    assert "Residual writes\nto the logit of ‘A’ at 5" in board.title("writes")
    truth = float(trace["logits"][5, trace.ids[6]])
    assert number(board.says("writes"), "logit of ‘A’:") == pytest.approx(truth, abs=6e-5)
    panel(board, "writes").locator("select").nth(0).select_option("0")
    panel(board, "writes").locator("select").nth(1).select_option("1")
    board.settle()
    first, second = trace["logits"][5].topk(2).values
    words = board.says("writes")
    assert number(words, f"{words.split(':')[0].split(', ')[1]}:") == pytest.approx(float(first - second), abs=6e-5)
    assert "to the lead of" in board.title("writes")


def test_a_row_of_the_writes_says_its_numbers_and_locks_its_head(board, sorter):
    trace = sorter[0]
    board.point_at("writes", "from L1 mlp_out: length", near=(0.1, 0.3))
    assert number(board.says("writes"), "length") == pytest.approx(float(trace["mlp_out", 1][5].norm()), abs=6e-5)
    panel(board, "writes").locator("select").nth(2).select_option("parts")
    panel(board, "writes").locator("input[type=checkbox]").check()
    before = board.picture("writes")
    board.point_at("writes", "from L2H0: length", near=(0.1, 0.5))
    assert board.title("head").startswith("L2H0\npattern · click")
    board.click()
    away(board)
    assert board.title("head").startswith("L2H0\npattern · locked")
    assert board.picture("writes") != before
    board.press("writes", "ArrowDown")
    assert "from L2H1: length" in board.says("writes")
    board.press("writes", "ArrowLeft")
    assert board.says("writes").startswith("Position 4,")


def test_a_hovered_token_moves_the_writes(board):
    board.point_at("text", "Position 2:", near=(0.2, 0.1))
    assert board.says("writes").startswith("Position 2,")


def test_lines_follow_the_mouse_and_stay_when_pinned(board, sorter):
    pattern = sorter[0]["pattern"]
    assert board.says("lines").startswith("All lines; from query 5")
    board.point_at("lines", "Lines from query 3,", near=(0.05, 0.5))
    shown = board.picture("lines")
    key = int(pattern[1, 2, 3].argmax())
    assert f"weight on key {key}," in board.says("lines")
    assert number(board.says("lines"), "A L1H2") == pytest.approx(float(pattern[1, 2, 3, key]), abs=6e-4)
    board.click()
    away(board)
    assert board.says("lines").startswith("Lines from query 3,")
    there = board.point_at("lines", "Lines to key 1,", near=(0.95, 0.32))
    assert number(board.says("lines"), "A L1H2") == pytest.approx(float(pattern[1, 2, 1:, 1].mean()), abs=6e-4)
    assert board.picture("lines") != shown
    board.click()
    away(board)
    assert board.says("lines").startswith("Lines to key 1,")
    board.page.mouse.move(*there)
    board.settle()
    board.click()  # once more: no pin
    away(board)
    assert board.says("lines").startswith("All lines;")


def test_lines_of_several_heads(board, sorter):
    pattern = sorter[0]["pattern"]
    panel(board, "lines").locator("select").select_option("layer")
    board.settle()
    words = board.says("lines")
    for letter, head in zip("ABC", range(3), strict=True):
        assert number(words, f"{letter} L1H{head}") == pytest.approx(float(pattern[1, head, 5, 3]), abs=6e-4)
    for head in ("L1H0", "L1H1"):
        board.stage("lines").focus()
        while not board.title("head").startswith(head):
            board.press("lines", "ArrowLeft")
        board.press("lines", "p")
    panel(board, "lines").locator("select").select_option("pinned")
    board.settle()
    assert re.search(r"A L1H0 \S+, B L1H1 \S+\.$", board.says("lines"))
    assert "L1H2" not in board.says("lines")
    panel(board, "lines").get_by_role("button", name="Unpin all").click()
    board.settle()
    assert board.says("lines") == "No head is pinned."


def test_keys_walk_and_pin_lines(board):
    board.press("lines", "ArrowUp")
    assert board.says("lines").startswith("All lines; from query 4")
    board.press("lines", "Enter")
    assert board.says("lines").startswith("Lines from query 4")
    board.press("lines", "ArrowUp")
    assert board.says("lines").startswith("Lines from query 3")
    board.press("lines", "Enter")
    assert board.says("lines").startswith("All lines; from query 3")


def test_query_and_key_give_the_score(board, sorter):
    trace = sorter[0]
    unfold(board, "querykey")
    words = board.says("querykey")
    assert number(words, "= score") == pytest.approx(float(trace["scores", 1][2, 5, 3]), abs=6e-5)
    assert number(words, "softmax over 6 keys:") == pytest.approx(float(trace["pattern", 1][2, 5, 3]), abs=6e-5)
    board.press("querykey", "ArrowUp")
    assert number(board.says("querykey"), "= score") == pytest.approx(float(trace["scores", 1][2, 5, 2]), abs=6e-5)
    board.press("querykey", "ArrowRight")
    product = float(trace["q", 1][2, 5, 0] * trace["k", 1][2, 2, 0])
    assert number(board.says("querykey").split("dimension 0")[1], "=") == pytest.approx(product, abs=6e-5)
    board.point_at("querykey", "dimension 3:", near=(0.25, 0.4))
    assert "from position 5" in board.title("reads")


def test_a_score_is_split_into_a_table_that_adds_up(board, sorter):
    trace = sorter[0]
    unfold(board, "decomposition")
    words, score = board.says("decomposition"), float(trace["scores", 1][2, 5, 3])
    assert number(words, "adds up to") == pytest.approx(score, abs=6e-5)
    assert number(words, "score is") == pytest.approx(score, abs=6e-5)
    board.point_at("decomposition", "embed × pos_embed adds", near=(0.3, 0.3))
    board.press("decomposition", "Home")
    assert "embed × embed adds" in board.says("decomposition")
    board.point_at("head", "on ‘B’", near=(0.2, 0.2))
    assert "the table adds up to" in board.says("decomposition")


def test_circuits_and_the_split_score_say_one_number(board):
    for name in ("decomposition", "circuits"):
        unfold(board, name)
    for look in ((), ("heads", "{")):  # layer 1, layer 0
        if look:
            board.press(*look)
        board.press("decomposition", "Home")
        split = number(board.says("decomposition"), "embed × embed adds")
        words = board.says("circuits")
        assert number(words, "positions 5 and 3:") == split
        assert 0.3 < number(words, "adds") / split < 3  # at the typical scale: of the same size


@pytest.mark.parametrize("width", [600, 1000, 1600])
def test_nothing_is_wider_than_the_page(open_page, reader, page, width):
    board = reader(open_page(page, width=width))
    for name in ("querykey", "decomposition", "circuits"):
        unfold(board, name)
    for name in ("lines", "writes", "querykey", "decomposition", "circuits"):
        box = board.stage(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1
    assert board.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_shows_the_detail_of_the_place_that_is_looked_at(board, sorter):
    trace = sorter[0]
    unfold(board, "decomposition")
    board.press("heads", "}")  # layer 2 has more components, layer 0 fewer
    for layer in (2, 0):
        assert board.title("head").startswith(f"L{layer}H2")
        height = board.stage("decomposition").bounding_box()["height"]
        score = float(trace["scores", layer][2, 5, 3])
        assert number(board.says("decomposition"), "adds up to") == pytest.approx(score, abs=6e-5)
        board.press("heads", "}")
    assert height < 280
