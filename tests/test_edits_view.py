"""Edits made on a board: what it shows is what the printed lines compute."""

import copy
import json

import numpy as np
import pytest
import torch

import gptviz as gv
from gptviz.analysis.predictions import divergence
from gptviz.dashboards import explore
from gptviz.interventions.edit import Edit
from gptviz.tokenizers import CharTokenizer
from gptviz.views.attention import head_pattern
from gptviz.views.edits import Pass, edits_view

TEXT = "the cat sat on"


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer(TEXT)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return gv.GPT(gv.GPTConfig(block_size=16, vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=8)).eval()


@pytest.fixture
def board(model, tokenizer):
    return explore(gv.record(model, TEXT, tokenizer), model, tokenizer)


def act(board, **value):
    return board._said(board._act, {"name": "edit", "value": value})


def view(board, kind):
    return next(one for one in board.views if one.kind == kind)


def test_a_muted_head_is_shown_beside_the_original(board, model, tokenizer):
    assert "other_loss" not in view(board, "edits").arrays
    assert act(board, do="mute", layer=0, head=1)["acted"] == "edit"
    with gv.intervene(model, gv.ablate_head(0, 1)):
        edited = gv.record(model, TEXT, tokenizer)
    original = gv.record(model, TEXT, tokenizer)
    shown = view(board, "edits")
    np.testing.assert_allclose(shown.arrays["loss"], original["loss"], atol=1e-5)
    np.testing.assert_allclose(shown.arrays["other_loss"], edited["loss"], atol=1e-5)
    cells = view(board, "attention").arrays["other_pattern"]
    np.testing.assert_allclose(cells, edited["pattern"].numpy()[..., *np.tril_indices(len(TEXT))], atol=1e-6)
    np.testing.assert_allclose(head_pattern(view(board, "attention"), 1, 0), original["pattern"][1, 0], atol=1e-6)
    assert shown.content["edits"] == [{"words": "gv.ablate_head(0, 1)", "layer": 0, "head": 1}]


def test_muting_again_lets_the_head_speak(board):
    act(board, do="mute", layer=0, head=1)
    act(board, do="mute", layer=0, head=1)
    assert "other_loss" not in view(board, "edits").arrays
    assert "other_pattern" not in view(board, "attention").arrays


@pytest.mark.parametrize("edits", [
    [dict(do="mute", layer=1, head=0), dict(do="scale", layer=0, head=0, factor=2.5)],
    [dict(do="row", layer=0, head=1, query=2, row=[0.2, 0.6, 0.2])],
    [dict(do="patch", layer=1, head=1, query=3, text="sat on the")],
    [dict(do="steer", layer=1, query=5, text="cat", strength=3)],
    [dict(do="scale", layer=0, head=0, factor=0.5), dict(do="patch", layer=0, head=1, query=13, text="on")],
])
def test_the_printed_lines_do_the_same(board, model, tokenizer, edits):
    for one in edits:
        assert "error" not in act(board, **one)
    shown, names = view(board, "edits"), {"gv": gv, "model": model, "tokenizer": tokenizer}
    exec(shown.content["python"], names)  # noqa: S102 (the lines that a reader would copy)
    np.testing.assert_allclose(shown.arrays["other_loss"], names["edited"]["loss"], atol=1e-5)
    made = [Edit.from_json(one) for one in json.loads(shown.content["json"])]
    with gv.intervene(model, *made):
        again = gv.record(model, TEXT, tokenizer)
    np.testing.assert_allclose(shown.arrays["other_loss"], again["loss"], atol=1e-5)
    assert not np.allclose(shown.arrays["other_loss"][1:], shown.arrays["loss"][1:], atol=1e-5)


def test_an_edit_that_does_not_fit_leaves_the_board_as_it_was(board):
    act(board, do="mute", layer=0, head=1)
    before = board.views
    for wrong, said in ((dict(do="mute", layer=9, head=0), "There is no layer 9"),
                        (dict(do="row", layer=0, head=0, query=2, row=[0, 0, 0]), "not all 0"),
                        (dict(do="patch", layer=0, head=0, query=2, text=""), "it is empty. Write one"),
                        (dict(do="paint"), "An edit must be one of mute, scale, row, patch, steer or clear")):
        assert said in act(board, **wrong)["error"]
        assert board.views is before


def test_edits_stay_for_another_text_and_are_cleared(board, model, tokenizer):
    act(board, do="scale", layer=0, head=1, factor=0)
    answer = board._said(board._frame, {"step": None, "text": "sat on"})
    with gv.intervene(model, gv.scale_head(0, 1, 0)):
        edited = gv.record(model, "sat on", tokenizer)
    np.testing.assert_allclose(view(board, "edits").arrays["other_loss"], edited["loss"], atol=1e-5)
    assert "error" not in answer
    act(board, do="clear")
    assert view(board, "edits").content["edits"] == []
    board._said(board._frame, {"step": None, "text": TEXT})  # a frame from before the edits were cleared is not kept
    assert "other_loss" not in view(board, "edits").arrays


def test_an_edit_is_of_the_text_that_the_board_shows_again(board, model, tokenizer):
    board._said(board._frame, {"step": None, "text": "sat on"})
    board._said(board._frame, {"step": None, "text": TEXT})  # kept by the board, which does not ask for it again
    act(board, do="mute", layer=0, head=1)
    with gv.intervene(model, gv.ablate_head(0, 1)):
        edited = gv.record(model, TEXT, tokenizer)
    assert board.text == TEXT
    np.testing.assert_allclose(view(board, "edits").arrays["other_loss"], edited["loss"], atol=1e-5)


def test_edits_change_the_ids_of_the_trace_also_where_its_text_would_be_encoded_otherwise(model, tokenizer):
    class Doubled(CharTokenizer):
        def encode(self, text):
            return super().encode(text)[::-1]

    board = explore(gv.record(model, tokenizer.encode(TEXT), tokenizer), model, Doubled(TEXT))
    act(board, do="mute", layer=0, head=1)
    with gv.intervene(model, gv.ablate_head(0, 1)):
        edited = gv.record(model, TEXT, tokenizer)
    np.testing.assert_allclose(view(board, "edits").arrays["other_loss"], edited["loss"], atol=1e-5)


def test_a_model_that_is_not_the_one_of_the_trace_is_not_compared_with_it(model, tokenizer):
    with gv.intervene(model, gv.steer(1, torch.randn(8), 1)):
        trace = gv.record(model, TEXT, tokenizer)
    for edited, learned in ((trace, model), (gv.record(model, TEXT, tokenizer), copy.deepcopy(model))):
        board = explore(edited, learned, tokenizer)
        if learned is not model:
            torch.nn.init.normal_(learned.transformer.h[1].mlp.c_fc.weight)
        assert "its logits now differ" in act(board, do="mute", layer=0, head=1)["error"]
        assert "other_loss" not in view(board, "edits").arrays


def test_large_traces_of_texts_shown_before_are_let_go_and_made_again(board, model, tokenizer, monkeypatch):
    for text in ("sat on", "the cat"):
        board._said(board._frame, {"step": None, "text": text})
    assert len(board._frames) == 3
    monkeypatch.setattr("gptviz.dashboards.edits.KEPT_BYTES", 1)
    board._said(board._frame, {"step": None, "text": "on"})
    assert [text for _, text in board._frames] == ["on"]
    asked = {"kind": "querykey", "step": None, "text": "sat on", "at": {"layer": 1, "head": 0}}
    found = board._said(board._detail, asked)
    expected = gv.record(model, "sat on", tokenizer)["q", 1][0].detach().numpy()
    assert found["detail"]["arrays"]["q"]["data"] == expected.astype("<f4").tobytes()


def test_each_other_text_has_its_own_name(board):
    act(board, do="patch", layer=0, head=0, query=3, text="sat")
    act(board, do="patch", layer=0, head=1, query=3, text="the")
    act(board, do="patch", layer=0, head=0, query=3, text="cat")
    python = view(board, "edits").content["python"]
    assert [line.split(",")[1] for line in python.splitlines() if line.startswith("other_")] == [" 'the'", " 'cat'"]
    names = [line.split(" = ")[0] for line in python.splitlines() if line.startswith("other_")]
    assert len(set(names)) == 2


def test_an_edit_of_a_position_that_a_shorter_text_lacks_says_so(board):
    act(board, do="row", layer=0, head=0, query=9, row=[0] * 9 + [1])
    assert "9" in board._said(board._frame, {"step": None, "text": "sat"})["error"]


def test_divergence_is_that_of_torch():
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    log_p, log_q = a.log_softmax(-1), b.log_softmax(-1)
    expected = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)
    np.testing.assert_allclose(divergence(a.numpy(), b.numpy()), expected, rtol=1e-4)


def test_a_pass_of_another_text_is_refused():
    said = Pass(np.zeros(2), np.zeros((2, 1), int), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="must be of the 3 tokens shown; it is of 2"):
        edits_view(said, ["a", "b", "c"], ["x"])


def test_two_traces_are_compared_until_something_is_edited(model, tokenizer):
    trace, other = (gv.record(model, text, tokenizer) for text in (TEXT, TEXT[::-1]))
    board = explore(trace, model, tokenizer, other=other)
    rows, columns = np.tril_indices(len(TEXT))
    shown = view(board, "attention")
    np.testing.assert_allclose(shown.arrays["other_pattern"], other["pattern"].numpy()[..., rows, columns])
    assert shown.labels["compared"] == (f"‘{''.join(trace.tokens)}’", f"‘{''.join(other.tokens)}’")
    change = np.abs(other["pattern"].numpy() - trace["pattern"].numpy())
    at = tuple(board.selection[name] for name in ("layer", "head", "query", "key"))
    assert change[at] == change.max() > 0
    assert shown.content == {"options": {"head": {"compare": "difference"}}}
    same = explore(trace, other=trace)
    assert same.layer is same.key is None
    assert view(same, "attention").content["unchanged"]
    act(board, do="mute", layer=0, head=1)
    assert view(board, "attention").labels["compared"] == ("original", "edited")
    assert view(explore(trace, other=trace), "attention").labels["compared"] == ("this", "the other")
    named = explore(trace, other=other, compared=("clean", "backwards"))
    assert view(named, "attention").labels["compared"] == ("clean", "backwards")
    for wrong in (("clean",), "ab", ("clean", 3), 3):
        with pytest.raises(ValueError, match=r"such as \('clean', 'ablated'\); it is .* two names"):
            explore(trace, other=other, compared=wrong)
    with pytest.raises(ValueError, match=r"without other=.*Pass both traces"):
        explore(trace, compared=("clean", "ablated"))
    with pytest.raises(ValueError, match="as many layers, heads and tokens"):
        explore(trace, other=gv.record(model, "the", tokenizer))
    with pytest.raises(ValueError, match="and no pattern"):
        explore(trace, other=gv.record(model, TEXT, tokenizer, names=["logits"]))
