"""Tokens that would run as a script, turn text round or burst a cell, in every view of a board and in the stepper."""

import pytest
import torch

from gptviz.dashboards import explore, step_through
from gptviz.export import export_html
from gptviz.model import GPT, GPTConfig
from gptviz.trace import record

pytestmark = pytest.mark.browser
WORDS = ['<img src=x onerror="document.title=\'caught\'">', '</script><script>document.title="caught"</script>',
         "\u202eabc\u202c", "x" * 10_000, "e\u0301\u0323\u0302", "\\xf0\\x9f", "", "שלום", "👨‍👩‍👧", "a", "b", "∅"]


TEXT = "0123456789ab0"


class HostileTokenizer:
    """One hexadecimal digit for each token, which looks as it likes."""

    vocab_size = len(WORDS)

    def encode(self, text):
        return [int(digit, 16) for digit in text]

    def decode(self, ids):
        return "".join(format(one, "x") for one in ids)

    def visible(self, token):
        return WORDS[token]


def hostile_model():
    torch.manual_seed(0)
    return GPT(GPTConfig(block_size=16, vocab_size=len(WORDS), n_layer=2, n_head=2, n_embd=16)), HostileTokenizer()


@pytest.fixture(scope="module")
def recorded():
    model, tokenizer = hostile_model()
    return record(model, TEXT, tokenizer), model, tokenizer


@pytest.mark.parametrize("make", [explore, step_through])
@pytest.mark.parametrize("width", [640, 1400])
def test_hostile_tokens_are_shown_and_nothing_else(open_page, recorded, tmp_path, capsys, make, width):
    page = open_page(export_html(make(*recorded, title=WORDS[0]), tmp_path / "page.html").as_uri(), width=width)
    page.wait_for_selector(".gv-board[data-drawn]")
    folded = ".gv-fold[aria-expanded=false]"
    page.evaluate(f"document.querySelectorAll('{folded}').forEach(one => one.hidden || one.click())")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.title() == WORDS[0]
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert WORDS[0] in page.locator(".gv-facts").inner_text()


def test_a_token_without_text_is_seen_and_told_from_a_real_sign(open_page, reader, recorded, tmp_path, capsys):
    empty, real = TEXT.index("6"), TEXT.index("b")
    board = reader(open_page(export_html(explore(*recorded), tmp_path / "page.html").as_uri()))
    board.point_at("text", "Position 6:")
    assert "‘∅’ (empty text)" in board.says("text")
    page = open_page(export_html(step_through(*recorded), tmp_path / "step.html").as_uri())
    chips = page.locator(".gv-chip")
    assert (chips.nth(empty).inner_text(), chips.nth(empty).get_attribute("title")) == ("∅", "empty text")
    assert (chips.nth(real).inner_text(), chips.nth(real).get_attribute("title")) == (r"\u{2205}", "")
