"""The lens, the next token, the tree and the text's colours: against the model, torch and numpy."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import make_golden
from torch.nn import functional as F

from gptviz.analysis import logit_lens
from gptviz.analysis.predictions import predictions
from gptviz.dashboards import explore, trace_views
from gptviz.dashboards import lens as lens_room
from gptviz.dashboards.next import actions_of
from gptviz.figures import figure, picture
from gptviz.generation import Sampling, generate
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import record
from gptviz.views import View, summary, tokens_view
from gptviz.views.board import payload_json
from gptviz.views.lens import BLOCK, lens_at, lens_view
from gptviz.views.next import GROUPS, KEPT, grouped, next_view

TEXT = "the cat sat on the mat. "
GOLDEN = Path(__file__).parent / "golden" / "predictions.json"


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer(TEXT)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = GPTConfig(block_size=160, vocab_size=tokenizer.vocab_size + 2, n_layer=2, n_head=2, n_embd=8)
    return GPT(config).eval()


@pytest.fixture(scope="module")
def trace(model, tokenizer):
    return record(model, TEXT, tokenizer)


def views(trace, model, tokenizer):
    return dict(zip(("text", "next", "lens"), trace_views(trace, tokenizer, model=model,
                                                           views=["text", "next", "lens"]), strict=True))


def test_golden_payload_is_what_python_writes():
    written = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert json.loads(payload_json(make_golden.golden_predictions())) == written


def test_predictions_are_those_of_torch(trace):
    logits, ids = trace["logits"].detach(), trace.ids
    said = predictions(logits.numpy(), ids.numpy(), 4)
    p = logits.double().softmax(-1)
    np.testing.assert_allclose(said.top_probs, p.topk(4).values, atol=1e-9)
    np.testing.assert_array_equal(said.top_ids, (-logits).argsort(dim=-1, stable=True)[:, :4])
    np.testing.assert_allclose(said.entropy, torch.special.entr(p).sum(-1), atol=1e-9)
    losses = F.cross_entropy(logits[:-1].double(), ids[1:], reduction="none")
    np.testing.assert_allclose(said.loss[1:], losses, atol=1e-9)
    assert said.rank[0] == 0
    assert np.isnan(said.loss[0])


def test_of_equal_logits_the_smaller_id_comes_first():
    said = predictions(np.array([[1.0, 2.0, 2.0, 2.0, 0.0]], np.float32), np.array([0]), 2)
    assert said.top_ids.tolist() == [[1, 2]]


def test_a_token_has_no_rank_among_logits_that_are_no_numbers():
    said = predictions(np.array([[np.nan, 1.0], [0.0, 1.0], [0.0, 1.0]], np.float32), np.array([0, 1, 0]), 2)
    assert said.rank.tolist() == [0, 0, 2]
    assert np.isnan(said.loss[:2]).all()


def test_entropy_of_the_text_is_that_before_the_token_was_read(trace, model, tokenizer):
    text = views(trace, model, tokenizer)["text"]
    entropy = torch.special.entr(trace["logits"].softmax(-1)).sum(-1)
    assert np.isnan(text.arrays["entropy"][0])
    np.testing.assert_allclose(text.arrays["entropy"][1:], entropy[:-1], atol=1e-5)


def test_the_lens_of_the_board_is_the_lens_of_the_analysis(trace, model, tokenizer):
    view, lens = views(trace, model, tokenizer)["lens"], logit_lens(trace, model, keep_logits=True)
    np.testing.assert_allclose(view.arrays["top_probs"], lens.top_probs, atol=1e-6)
    np.testing.assert_array_equal(view.arrays["true_rank"], lens.true_rank)
    words = np.array(view.labels["word"])[view.arrays["top_words"]]
    named = [*map(tokenizer.visible, range(tokenizer.vocab_size)), "[11]", "[12]"]  # the vocabulary is padded
    assert words[-1, 3, 0] == named[lens.top_ids[-1, 3, 0]]
    followed = lens.top_ids[0, 5, 0]  # the token that the embedding alone says after position 5
    ranks = [1 + int((lens.logits[point, 5] > lens.logits[point, 5, followed]).sum()) for point in range(3)]
    assert view.arrays["rank_of_top"][0, :, 5].tolist() == ranks
    assert view.arrays["rank_of_top"][2, 2].max() == 1
    assert view.checks[0].passed


def test_a_long_lens_comes_in_blocks_with_the_numbers_of_the_whole(model, tokenizer, monkeypatch):
    trace = record(model, TEXT * 6, tokenizer)
    view = lens_room.lens_part(trace, model, tokenizer)
    assert (view.nbytes, view.detail_axes) == (4, ("rows",))
    assert len(view.detail_places[0]) == -(-len(trace) // BLOCK)
    lens = logit_lens(trace, model)
    for position in (0, 70, len(trace) - 1):
        block = lens_at(view, position)
        column = position - block.arrays["first"][0]
        np.testing.assert_allclose(block.arrays["entropy"][:, column], lens.entropy[:, position], atol=1e-5)
    monkeypatch.setattr(lens_room, "QUICK", 0)
    assert "block" in lens_room.lens_part(record(model, "the", tokenizer), model, tokenizer).arrays


def test_a_lens_computed_later_refuses_a_model_that_moved_on(tokenizer, monkeypatch):
    monkeypatch.setattr(lens_room, "QUICK", 0)
    model = GPT(GPTConfig(block_size=8, vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=8)).eval()
    view = lens_room.lens_part(record(model, "the", tokenizer), model, tokenizer)
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(2)
    with pytest.raises(ValueError, match="with the same weights"):
        lens_at(view, 0)


def test_the_logits_of_a_position_are_sorted_and_whole(trace, model, tokenizer):
    detail = views(trace, model, tokenizer)["next"].detail_of(query=4)
    logits = trace["logits"][4].detach()
    np.testing.assert_array_equal(detail.arrays["logits"], logits.sort(descending=True).values)
    place, follows = int(detail.arrays["truth"][0]), int(trace.ids[5])
    assert detail.arrays["logits"][place] == logits[follows]
    assert detail.labels["word"][0] == tokenizer.visible(int(logits.argmax()))
    last = views(trace, model, tokenizer)["next"].detail_of(query=len(trace) - 1)
    assert last.arrays["truth"].tolist() == [-1]


def test_a_large_vocabulary_travels_in_few_bytes_and_keeps_its_sum():
    logits = np.random.default_rng(0).normal(0, 3, (1, 50_257)).astype(np.float32)
    view = next_view(np.array([7]), ["a"], top_ids=np.array([[0]]), top_probs=np.array([[0.5]]), words=["b"],
                     word_ids=[3], logits_of=lambda at: logits[at], name_of=str)
    sent = view.detail_of(query=0).arrays
    assert sum(array.nbytes for array in sent.values()) < 20_000
    assert (len(sent["logits"]), len(sent["groups"]), int(sent["sizes"].sum())) == (KEPT, GROUPS, 50_257 - KEPT)
    for temperature, error in ((1.0, 1e-5), (0.5, 1e-3), (1.5, 1e-3)):
        whole = np.exp(logits.astype(np.float64) / temperature).sum()
        parts = np.exp(sent["logits"] / temperature, dtype=np.float64).sum()
        parts += (sent["sizes"] * np.exp(sent["groups"] / temperature, dtype=np.float64)).sum()
        assert parts / whole == pytest.approx(1, abs=error)
    assert grouped(np.full(3, -np.inf))[0].tolist() == [-np.inf] * 3


def test_next_refuses_arrays_of_another_text():
    with pytest.raises(ValueError, match="one row for each of the 2 tokens"):
        next_view(np.array([7]), ["a", "b"], top_ids=np.array([[0]]), top_probs=np.array([[0.5]]), words=["b"],
                  word_ids=[3], logits_of=lambda at: np.zeros(3), name_of=str)


def test_lens_refuses_arrays_of_another_text():
    one = np.ones((2, 3), np.float32)
    cells = dict(top_ids=np.zeros((2, 3, 1), int), top_probs=one[..., None], entropy=one, kl_to_final=one,
                 true_rank=np.ones((2, 3), int), true_prob=one, words=["b"], n_vocab=5)
    with pytest.raises(ValueError, match="A lens of 3 positions from 0 on does not fit a text of 2 tokens"):
        lens_view(["embed", "L0"], ["a", "b"], **cells)
    with pytest.raises(ValueError, match="must have 1 points and 3 positions"):
        lens_view(["L0"], ["a", "b", "c"], **cells)


def test_the_tree_follows_the_greedy_path_of_generate(model, tokenizer):
    ids = tokenizer.encode(TEXT[:5])
    steps = actions_of(model, tokenizer)["continue"]({"ids": ids, "at": "here"})["options"]["tree"]["here"]
    assert [step[0]["id"] for step in steps] == generate(model, ids, 4, temperature=0)[len(ids):]
    logits = model(torch.tensor([ids]))[0][0, -1]
    np.testing.assert_allclose([one["p"] for one in steps[0]], logits.softmax(-1).topk(5).values.detach(), atol=1e-6)
    long = actions_of(model, tokenizer)["continue"]({"ids": ids * 50, "at": "x", "steps": 99})
    assert len(long["options"]["tree"]["x"]) == 12


def test_the_board_continues_and_gives_a_path_as_text(model, tokenizer, trace):
    board = explore(trace, model, tokenizer)
    said = board._said(board._act, {"name": "use_text", "value": {"ids": tokenizer.encode("the cat")}})
    assert said["text"] == "the cat"
    assert "at least one token id" in board._said(board._act, {"name": "continue", "value": {"ids": []}})["error"]
    assert "from 0 to 12" in board._said(board._act, {"name": "continue", "value": {"ids": [99]}})["error"]
    assert not explore(trace, model).actions


def test_arrays_of_the_readers_own_have_their_own_range():
    loss = np.array([np.nan, 1.0, 2.0])
    view = tokens_view(loss, ["a", "b", "c"], arrays={"tilt": np.array([-1, 0, 3]), "n": np.array([2, 2, 2]),
                                                      "none": np.full(3, np.nan)})
    assert view.labels["value"] == ("tilt", "n", "none")
    assert [view.range[f"value_{i}"] for i in range(3)] == [(-3.0, 3.0), (2.0, 3.0), (0.0, 1.0)]
    with pytest.raises(ValueError, match="tilt must have one row for each of the 3 tokens; it has 2"):
        tokens_view(loss, ["a", "b", "c"], arrays={"tilt": np.zeros(2)})


@pytest.mark.parametrize("kind", ["lens", "next"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_show_the_words_and_the_truth(trace, model, tokenizer, kind, theme):
    view = views(trace, model, tokenizer)[kind]
    axes = figure(view, theme=theme, query=3).axes[0]
    written = [text.get_text() for text in (*axes.texts, *axes.get_yticklabels())]
    best = view.labels["word"][view.arrays["top_words"][(-1, 3, 0) if kind == "lens" else (3, 0)]]
    assert any(best in one for one in written)
    assert picture(view, theme=theme).startswith(b"\x89PNG")


def test_a_lens_figure_of_a_long_text_shows_the_positions_up_to_the_one_asked_for(model, tokenizer):
    view = lens_room.lens_part(record(model, TEXT * 6, tokenizer), model, tokenizer)
    assert "positions 112 to 143" in figure(view).axes[0].get_title(loc="left")
    assert "positions 0 to 31" in figure(view, query=5).axes[0].get_title(loc="left")


def test_summaries_say_what_the_views_hold(trace, model, tokenizer):
    shown = views(trace, model, tokenizer)
    text, lens, after = (summary(shown[name], query=4) for name in ("text", "lens", "next"))
    loss = shown["text"].arrays["loss"]
    assert f"mean loss {np.nanmean(loss):.4f} nats, the largest {np.nanmax(loss):.4f}" in text
    best = tokenizer.visible if trace["logits"][4].argmax() < tokenizer.vocab_size else "[{}]".format
    answer = best(int(trace["logits"][4].argmax()))
    assert f"the model's answer ‘{answer}’" in lens
    assert f"expects ‘{answer}’ with probability {float(trace['logits'][4].softmax(-1).max()):.4f}" in after
    assert lens.splitlines()[-1].split()[-1] == str(shown["lens"].arrays["true_rank"][-1, 4])
    with pytest.raises(ValueError, match=r"There is a summary of .*, not of a view of kind 'nothing'"):
        summary(View("nothing", "", "", {}, {}))
    with pytest.raises(ValueError, match="query must be 0 to 23"):
        summary(shown["lens"], query=24)


def test_top_p_of_the_browser_keeps_as_many_tokens_as_sampling():
    """The rule that js/sampling.ts repeats: tokens while those before them have less than p together."""
    logits = torch.tensor([[3.0, 1.0, 0.0, -2.0]])
    kept = [int(Sampling(top_p=p).filtered(logits).isfinite().sum()) for p in (0.5, 0.9)]
    assert kept == [1, 2]
    assert int(Sampling(top_k=2).filtered(torch.tensor([[1.0, 0.0, 0.0, -1.0]])).isfinite().sum()) == 3
