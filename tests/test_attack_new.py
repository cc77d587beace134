"""Boards under attack: messages of a page that is not ours, numbers that are not finite, the smallest models."""

import numpy as np
import pytest
import torch

import gptviz as gv
from gptviz.tokenizers import CharTokenizer
from gptviz.views.board import board_payload, payload_json

NAN, INF, HUGE, LONG = float("nan"), float("inf"), 10**400, "A" * 100_000
JUNK = [None, True, -1, 1e308, HUGE, NAN, INF, "", "x", LONG, "\ud83d", [], [1], [[1, 2]], [None], {}, {"a": 1},
        {"ids": LONG}, {"ids": [HUGE]}, {"ids": [1], "steps": INF}, {"ids": [1], "steps": None},
        {"do": "mute"}, {"do": ["mute"]}, {"do": "mute", "layer": INF, "head": []},
        {"do": "scale", "layer": 0, "head": 0}, {"do": "scale", "layer": 0, "head": 0, "factor": HUGE},
        {"do": "row", "layer": 0, "head": 0, "query": 1, "row": "ab"},
        {"do": "row", "layer": 0, "head": 0, "query": 1, "row": [HUGE, 1]},
        {"do": "patch", "layer": 0, "head": 0, "query": 99, "text": "AB"},
        {"do": "patch", "layer": 0, "head": 0, "query": 1, "text": {"a": 1}},
        {"do": "steer", "layer": 0, "query": -99, "text": "AB"},
        {"do": "steer", "layer": 0, "query": 0, "text": "AB", "strength": []},
        {"tensor": "scores", "index": [INF]}, {"tensor": "scores", "index": "ab"},
        {"tensor": "logits", "index": [0, 0], "view": 0.0}, {"id": {"a": []}, "layer": 0}]


@pytest.fixture(scope="module")
def boards():
    model, tokenizer = gv.load("sorter")
    trace = gv.record(model, "CBABBC", tokenizer)
    return {"explore": gv.explore(trace, model, tokenizer), "trace": gv.explore(trace),
            "step": gv.step_through(trace, model, tokenizer), "watch": gv.watch("sorter"),
            "compare": gv.compare("sorter", "sorter")}


def ask(board, content):
    """What a board answers to a message, handled without the net that ipywidgets holds beneath."""
    sent = []
    board.send = lambda content, buffers=None: sent.append(content)
    board._received(board, content, [])
    return sent[-1] if sent else None


def state(board):
    """All that a message could change."""
    return board.text, board.selection, tuple(map(id, board.views)), board.steps


def hostile(board, junk):
    """The messages that carry junk in one of their fields."""
    text, step = board.text, board.step
    yield from (junk, {"ask": junk, "id": junk}, {"ask": "act", "name": junk})
    yield from ({"ask": "frame", "step": junk or [], "text": text}, {"ask": "frame", "step": step, "text": junk})
    yield {"ask": "detail", "kind": junk, "at": {}, "step": step, "text": text}
    for view in board.views:
        if view.detail_axes:
            yield {"ask": "detail", "kind": view.kind, "at": junk, "step": step, "text": text}
            yield {"ask": "detail", "kind": view.kind, "at": dict.fromkeys(view.detail_axes, junk), "step": step}
    yield from ({"ask": "act", "name": name, "value": junk} for name in board.actions if name != "follow")


@pytest.mark.parametrize("name", ["explore", "trace", "step", "watch", "compare"])
@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:40])
def test_a_hostile_message_gets_a_sentence_and_changes_nothing(boards, name, junk):
    board = boards[name]
    before = state(board)
    for content in hostile(board, junk):
        answer = ask(board, content)
        assert set(answer) == {"error", "id"} or "acted" in answer or "detail" in answer, content
        if "error" in answer and not answer["error"].startswith("Type-check error"):  # of the tests' import hook
            assert 25 < len(answer["error"]) < 400, answer["error"][:500]
            assert answer["error"].endswith("."), answer["error"]
        if "error" in answer:
            assert state(board) == before, content


def test_a_board_of_one_text_shows_no_other(boards):
    assert "shows one text; another, 'B'," in ask(boards["compare"], {"ask": "frame", "text": "B"})["error"]
    assert "step must be one of" in ask(boards["compare"], {"ask": "frame", "step": 7})["error"]
    assert "this board has no steps" in ask(boards["explore"], {"ask": "frame", "step": 7})["error"]


def model_of(**fields):
    """A small model of the letters A, B, C."""
    torch.manual_seed(0)
    shape = dict(block_size=8, vocab_size=3, n_layer=2, n_head=2, n_embd=8) | fields
    return gv.GPT(gv.GPTConfig(**shape)).eval(), CharTokenizer("ABC"[: shape["vocab_size"]])


def all_of(board):
    """Every array of a board and of one detail of each of its views, by view."""
    arrays = {view.kind: dict(view.arrays) for view in board.views}
    payload_json(board_payload(board.views))
    for view in board.views:
        if view.detail:
            at = {axis: places[-1] for axis, places in zip(view.detail_axes, view.detail_places, strict=True)}
            detail = view.detail_of(**at)
            payload_json(detail.payload())
            arrays[view.kind] |= detail.arrays
    return arrays


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight",
                                  "transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_fc.bias"])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_weight_that_is_not_finite_is_shown_in_every_view(name, value):
    model, tokenizer = model_of()
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[1] = value
    trace = gv.record(model, "ABCA", tokenizer)
    board = gv.explore(trace, model, tokenizer)
    shown = all_of(board)
    for kind, array in (("tokens", "loss"), ("lens", "entropy")):
        broken = not np.isfinite(trace["logits"].numpy()).all()
        assert np.isnan(shown[kind][array][..., -1:]).any() == broken, (kind, shown[kind][array])
    assert not all(check.passed for view in board.views for check in view.checks)
    gv.step_through(trace, model, tokenizer).payload()


@pytest.mark.parametrize(("text", "fields"), [
    ("A", {}), ("ABCABCAB", {}), ("ABBA", {"vocab_size": 2}), ("ABC", {"n_layer": 1, "n_head": 1}),
    ("ABC", {"n_head": 8}),
    ("A", {"block_size": 1}), ("ABC", {"n_head": 1, "n_embd": 1}), ("ABC", {"bias": False, "tie_weights": False}),
], ids=str)
def test_the_smallest_models_and_texts_are_shown(text, fields):
    model, tokenizer = model_of(**fields)
    trace = gv.record(model, text, tokenizer)
    for board in (gv.explore(trace, model, tokenizer, other=trace), gv.step_through(trace, model, tokenizer)):
        all_of(board)
        ask(board, {"ask": "act", "name": "edit", "value": {"do": "mute", "layer": 0, "head": 0}})
        assert all_of(board)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_types_are_shown(dtype):
    model, tokenizer = model_of()
    trace = gv.record(model.to(dtype), "ABC", tokenizer)
    for board in (gv.explore(trace, model, tokenizer), gv.step_through(trace, model, tokenizer)):
        assert all(check.passed for view in board.views for check in view.checks)
        all_of(board)


def test_a_recorder_takes_one_number_for_a_loss(tmp_path):
    model, tokenizer = gv.load("sorter")
    recorder = gv.Recorder(model, tokenizer, probes=["CAB"], out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"accuracy must be one number; 'high' was given at step 0\. Pass its mean"):
        recorder.step(0, loss=1.0, accuracy="high")
    recorder.step(0, loss=1.0)  # the refused one left nothing behind
    assert recorder.close()
