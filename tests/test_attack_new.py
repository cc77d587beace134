"""Boards under attack: messages of a page that is not ours, numbers that are not finite, the smallest models."""

import numpy as np
import pytest
import torch

import gptviz as gv
from gptviz.tokenizers import CharTokenizer

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
